//! One build under way: stages in order, step by step, each from what is known to a layer.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base::{Clock, Place};
use spec::dockerfile::{Action, Copy, Ignore, Origin, Plan, Run, RunMountKind, Stage, Start, Step};
use spec::model::NamedContext;

use crate::base_image::{BaseError, BaseImage, stand_in};
use crate::build::{Builder, Built, Order, base_failed};
use crate::copy::{self, Source};
use crate::error::{BuildError, step as failed};
use crate::mounts::{remove_stub, stubs};
use crate::owner;
use crate::progress::{Progress, Watch};
use crate::run::{self, SCRIPT, Site};
use crate::store::Store;
use crate::tree::{Entry, Hash, Tree, TreeError, at};
use crate::view::View;

/// Most layers of one image: the kernel takes a page of mount options.
const LAYERS_MAX: usize = 100;

/// One build under way.
pub(crate) struct Work<'a> {
    pub(crate) builder: &'a Builder,
    pub(crate) store: Store,
    pub(crate) order: &'a Order<'a>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) watch: &'a mut dyn Watch,
    pub(crate) plan: &'a Plan,
    pub(crate) bases: BTreeMap<String, Result<BaseImage, BaseError>>,
    pub(crate) ignore: Ignore,
    pub(crate) built: BTreeMap<usize, Built>,
    pub(crate) notes: Vec<String>,
    pub(crate) number: usize,
    pub(crate) steps_done: usize,
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Cached,
    Done,
}

impl Outcome {
    /// Of two parts of a step.
    pub(crate) fn or(self, other: Outcome) -> Outcome {
        if self == Outcome::Done { self } else { other }
    }
}

impl Work<'_> {
    pub(crate) fn stage(&mut self, stage: &Stage) -> Result<Built, BuildError> {
        let mut built = match &stage.start {
            Start::Stage(number) => match self.built.get(number) {
                Some(below) => below.clone(),
                None => return Err(BuildError::Dockerfile(Vec::new())),
            },
            Start::Image(image) => match self.order.build.contexts.get(image) {
                None => self.base(image, &stage.place)?,
                Some(NamedContext::Image(other)) => self.base(other, &stage.place)?,
                Some(NamedContext::Folder(folder)) => {
                    let what = format!("no stage can begin with the context `{image}`");
                    let cause = format!("{} is a folder and no image", folder.display());
                    let next = "begin with an image, and copy from the context".to_owned();
                    return Err(failed("build-context", what, &stage.place, cause, next));
                }
            },
        };
        let total = self.plan.stages.iter().map(|stage| stage.steps.len()).sum();
        for step in &stage.steps {
            if self.watch.is_unwanted() {
                return Err(BuildError::Cancelled);
            }
            self.number += 1;
            let (number, text, place) = (self.number, step.text.as_str(), &step.place);
            self.watch.told(&Progress::Step { number, total, text, place });
            let start = self.clock.monotonic();
            let outcome = match &step.action {
                Action::Folder(folder) => self.folder(folder, &mut built)?,
                Action::Copy(copy) if copy.unpack || copy.is_fetching() => {
                    self.add(copy, step, &mut built)?
                }
                Action::Copy(copy) => self.copy(copy, step, &mut built)?,
                Action::Run(run) => self.run(run, step, total, &mut built)?,
            };
            match outcome {
                Outcome::Cached => self.watch.told(&Progress::Cached),
                Outcome::Done => {
                    self.steps_done += 1;
                    let took = self.clock.monotonic().saturating_sub(start);
                    self.watch.told(&Progress::Done { took });
                }
            }
            if built.layers.len() > LAYERS_MAX {
                let what = format!("the image has more than {LAYERS_MAX} layers");
                let cause = "every COPY and RUN makes one".to_owned();
                let next = "join some RUN steps with `&&`".to_owned();
                return Err(failed("build-layers", what, &step.place, cause, next));
            }
        }
        Ok(built)
    }

    fn base(&mut self, image: &str, place: &Place) -> Result<Built, BuildError> {
        let host = &self.builder.host;
        let known = self.bases.entry(image.to_owned()).or_insert_with(|| stand_in(image, host));
        match known {
            Ok(base) => {
                for note in &base.notes {
                    if !self.notes.contains(note) {
                        self.watch.told(&Progress::Note(note));
                        self.notes.push(note.clone());
                    }
                }
                Ok(self.builder.begin(base, &self.store)?)
            }
            Err(error) => Err(base_failed(error, place)),
        }
    }

    /// What files come from.
    pub(crate) fn source(
        &mut self,
        origin: &Origin,
        place: &Place,
    ) -> Result<Source<'static>, BuildError> {
        static NOTHING: std::sync::OnceLock<Ignore> = std::sync::OnceLock::new();
        let ignore = NOTHING.get_or_init(Ignore::default);
        let mut keeps_owner = *origin != Origin::Context;
        let (view, name) = match origin {
            Origin::Context => {
                let context = &self.order.build.context;
                (View::context(context, &self.builder.state), context.display().to_string())
            }
            Origin::Stage(number) => {
                let stage = self.plan.stage(*number).and_then(|stage| stage.name.clone());
                let name = stage.unwrap_or_else(|| number.to_string());
                let built = self.built.get(number);
                (built.map(Built::view).unwrap_or_default(), format!("stage `{name}`"))
            }
            Origin::Image(image) => match self.order.build.contexts.get(image) {
                None => (self.base(image, place)?.view(), format!("image `{image}`")),
                Some(NamedContext::Image(other)) => {
                    (self.base(other, place)?.view(), format!("image `{other}`"))
                }
                Some(NamedContext::Folder(folder)) => {
                    keeps_owner = false;
                    if !folder.is_dir() {
                        let what = format!("the context `{image}` is not there");
                        let cause = format!("{} is no folder", folder.display());
                        let next = "mend `build.additional_contexts`".to_owned();
                        return Err(failed("build-context", what, place, cause, next));
                    }
                    let view = View::context(folder, &self.builder.state);
                    (view, format!("the context `{image}`"))
                }
            },
        };
        Ok(Source { view, ignore, keeps_owner, name })
    }

    fn folder(&mut self, folder: &Path, built: &mut Built) -> Result<Outcome, BuildError> {
        let view = built.view();
        let path = view.resolve(folder).map_err(at(folder))?;
        if view.find(&path, true).map_err(at(&path))?.is_some_and(|found| found.is_folder()) {
            return Ok(Outcome::Cached);
        }
        let mut tree = Tree::default();
        tree.add(&path, Entry::folder(0o755, (0, 0)), &view)?;
        self.layer(&tree, built)
    }

    pub(crate) fn layer(&mut self, tree: &Tree, built: &mut Built) -> Result<Outcome, BuildError> {
        if tree.is_empty() {
            return Ok(Outcome::Cached);
        }
        let (layer, is_new) = self.store.put(tree)?;
        built.push(layer);
        Ok(if is_new { Outcome::Done } else { Outcome::Cached })
    }

    fn copy(&mut self, copy: &Copy, step: &Step, built: &mut Built) -> Result<Outcome, BuildError> {
        let tree = self.plan_copy(copy, step, &built.view())?;
        self.layer(&tree, built)
    }

    pub(crate) fn plan_copy(
        &mut self,
        copy: &Copy,
        step: &Step,
        below: &View,
    ) -> Result<Tree, BuildError> {
        let mut source = self.source(&copy.from, &step.place)?;
        let ignore = self.ignore.clone();
        if copy.from == Origin::Context {
            source = Source { ignore: &ignore, ..source };
        }
        copy::plan(copy, &source, below).map_err(|e| self.copy_failed(step, &e.to_string()))
    }

    pub(crate) fn copy_failed(&self, step: &Step, cause: &str) -> BuildError {
        let what = format!("cannot carry out `{}`", short(&step.text));
        let next = "check the step's paths and .dockerignore".to_owned();
        failed("copy-failed", what, &step.place, cause.to_owned(), next)
    }

    fn run(
        &mut self,
        run: &Run,
        step: &Step,
        total: usize,
        built: &mut Built,
    ) -> Result<Outcome, BuildError> {
        let mut key = Hash::default();
        key.text(&built.key);
        for words in [&run.argv, &run.script.iter().cloned().collect()] {
            key.field(&words.len().to_le_bytes());
            words.iter().for_each(|word| key.text(word));
        }
        let sources = run::sources();
        for (name, value) in sources.iter().chain(&run.env) {
            key.text(name);
            key.text(value);
        }
        key.text(&run.workdir.to_string_lossy());
        key.text(run.user.as_deref().unwrap_or_default());
        key.field(&[u8::from(run.offline)]);
        let mut trees = Vec::new();
        for mount in &run.mounts {
            key.text(&format!("{:?} {}", mount.kind, mount.target.display()));
            if mount.kind == RunMountKind::Bind {
                let (tree, is_file) = self.bind(mount, step)?;
                key.text(&tree.fingerprint()?);
                key.field(&[u8::from(mount.read_only), u8::from(is_file)]);
                trees.push((tree, is_file));
            }
        }
        let key = key.finish();
        if self.found(&key, built) {
            return Ok(Outcome::Cached);
        }
        let (folder, beside) = self.places(&key);
        let done = self.run_in(run, step, total, built, (&folder, &beside), trees);
        let kept = done.and_then(|changes| {
            built.push(self.keep_changes(&changes, &key)?);
            Ok(Outcome::Done)
        });
        self.leave([folder, beside]);
        kept
    }

    /// Takes the layer that was made for this key before, when it may.
    pub(crate) fn found(&self, key: &str, built: &mut Built) -> bool {
        let layer = if self.order.no_cache { None } else { self.store.newest(key) };
        let found = layer.is_some();
        layer.into_iter().for_each(|layer| built.push(layer));
        found
    }

    /// Where a step runs, and a folder of its own beside that.
    pub(crate) fn places(&self, key: &str) -> (PathBuf, PathBuf) {
        let builds = &self.builder.builds;
        (builds.join(key), builds.join(format!("{key}-mounts")))
    }

    /// Removes what a step leaves.
    pub(crate) fn leave(&self, folders: [PathBuf; 2]) {
        for folder in folders {
            let _next_time = self.builder.agent.remove_step(&folder);
        }
    }

    /// Makes what a step changed its layer. One that was made anew on purpose gets another name when
    /// that is taken: instances may run on the layer that has it.
    pub(crate) fn keep_changes(&self, changes: &Path, key: &str) -> Result<PathBuf, TreeError> {
        let mut name = key.to_owned();
        for again in 1.. {
            if self.store.get(&name).is_none() {
                break;
            }
            name = format!("{key}-{again}");
        }
        self.store.adopt(changes, &name)
    }

    fn run_in(
        &mut self,
        run: &Run,
        step: &Step,
        total: usize,
        built: &Built,
        (folder, beside): (&Path, &Path),
        trees: Vec<(Tree, bool)>,
    ) -> Result<PathBuf, BuildError> {
        let (mut mounts, secrets) = self.mounts(run, step, beside, trees)?;
        let mut run = run.clone();
        if let Some(script) = &run.script {
            let file = beside.join("script");
            fs::write(&file, script).map_err(at(&file))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).map_err(at(&file))?;
            mounts.push(run::script_mount(&file));
            run.argv = vec![SCRIPT.to_owned()];
        }
        let view = built.view();
        let stubs = stubs(&mounts, &view);
        let site = Site {
            agent: &self.builder.agent,
            folder: folder.to_owned(),
            layers: built.layers.clone(),
            base: built.base,
            mounts,
            secrets,
            home: owner::home(run.user.as_deref(), &view),
            service: self.order.service.clone(),
        };
        let what = || {
            format!(
                "step {} of {total} of `{}` failed: {}",
                self.number,
                self.order.service,
                short(&step.text)
            )
        };
        let end = run::run(&run, site, self.watch).map_err(|error| {
            let next = "check the program and the user that the step names".to_owned();
            failed("build-step", what(), &step.place, error.to_string(), next)
        })?;
        if end.cancelled {
            return Err(BuildError::Cancelled);
        }
        if !end.exit.success() {
            let next = run::hint(&end.exit, built.alpine, self.store.owners, &step.text);
            let next = next.unwrap_or_else(|| "mend the step, then `ms build` again".to_owned());
            return Err(failed("build-step", what(), &step.place, said(&end.exit), next));
        }
        for stub in stubs {
            remove_stub(&end.changes.join(stub.strip_prefix("/").unwrap_or(&stub)));
        }
        Ok(end.changes)
    }
}

fn said(exit: &agent::Exit) -> String {
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "nobody saw how it ended".to_owned(),
    };
    match exit.last_lines.as_slice() {
        [] => format!("{how}; it said nothing"),
        lines => {
            // What a line was drawn over with is what it says in the end.
            let last =
                |line: &String| line.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
            format!("{how}; it said:\n{}", lines.iter().map(last).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// An instruction for a message.
pub(crate) fn short(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
