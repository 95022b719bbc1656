//! The builder, what it is asked for, and what comes of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use agent::Agent;
use base::{Clock, Place, ServiceName, UnixNanos};
use spec::dockerfile::{Ignore, ImageRecipe, Plan};
use spec::model::{Build, NamedContext};

use crate::base_image::{self, BaseError, BaseImage, stand_in};
use crate::error::{BuildError, step as failed};
use crate::host::Host;
use crate::owner;
use crate::progress::Watch;
use crate::skeleton;
use crate::store::{self, Keep, Pruned, Store};
use crate::tree::{Entry, Hash, Node, Owners, Tree, TreeError, at};
use crate::view::View;
use crate::work::Work;

/// Longest Dockerfile that is read, in bytes.
const DOCKERFILE_BYTES_MAX: u64 = 1 << 20;

/// Builds images, one at a time.
pub struct Builder {
    pub(crate) agent: Agent,
    pub(crate) state: PathBuf,
    layers: PathBuf,
    /// Where steps run, and what `--mount=type=cache` keeps.
    pub(crate) builds: PathBuf,
    pub(crate) caches: PathBuf,
    pub(crate) host: Host,
    pub(crate) owners: Owners,
    /// The layer of the host's folders, once it was made, where everything belongs to one user.
    skeleton: Mutex<Option<PathBuf>>,
    one_at_a_time: Mutex<()>,
    pub(crate) filling: Mutex<()>,
}

/// What shall be built.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The service that it is for.
    pub service: &'a ServiceName,
    /// What the Compose file says of it.
    pub build: &'a Build,
    /// Every step is done again.
    pub no_cache: bool,
    /// What `--mount=type=secret` may ask for, by its name.
    pub secrets: BTreeMap<String, Secret>,
    /// Who runs the program, when that is not who the image says.
    pub user: Option<&'a str>,
}

/// A secret of a build; its content is in no layer and no key.
#[derive(Clone, Debug)]
pub enum Secret {
    /// A file of this machine.
    File(PathBuf),
    /// Its content.
    Text(String),
}

/// An image that was built.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its layers, first on top.
    pub layers: Vec<PathBuf>,
    /// What lies below them.
    pub base: agent::Base,
    /// What it says about its program.
    pub recipe: ImageRecipe,
    /// Home of who runs the program.
    pub home: String,
    /// What differs from what was asked for, for people.
    pub notes: Vec<String>,
    /// How many steps were carried out rather than found done.
    pub steps_done: usize,
}

/// A stage as far as it is built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) base: agent::Base,
    /// Covers everything that was done so far.
    pub(crate) key: String,
    pub(crate) alpine: bool,
}

impl Built {
    pub(crate) fn view(&self) -> View {
        let host = self.base == agent::Base::Host;
        View { layers: self.layers.clone(), host, without: None }
    }

    pub(crate) fn push(&mut self, layer: PathBuf) {
        let mut key = Hash::default();
        key.text(&self.key);
        key.text(&layer.file_name().unwrap_or_default().to_string_lossy());
        self.key = key.finish();
        self.layers.insert(0, layer);
    }
}

impl Builder {
    /// A builder that keeps layers in `state/layers` and runs steps with `agent`.
    pub fn new(agent: Agent, state: &Path) -> Builder {
        let owners = match agent.isolation().mode {
            agent::Mode::Full => Owners::Said,
            agent::Mode::User | agent::Mode::None => Owners::One,
        };
        Builder {
            agent,
            state: state.to_owned(),
            layers: state.join("layers"),
            builds: state.join("builds"),
            caches: state.join("caches"),
            host: Host::read(owners),
            owners,
            skeleton: Mutex::default(),
            one_at_a_time: Mutex::new(()),
            filling: Mutex::new(()),
        }
    }

    /// Whether steps can be run: they need a view of the files of their own.
    pub fn can_build(&self) -> bool {
        self.agent.isolation().own_files
    }

    /// Whether files of the host can be laid over the host's as they are now: see [`keep`].
    pub fn can_keep(&self) -> bool {
        self.agent.isolation().mode == agent::Mode::Full
    }

    /// Whether instances see folders where they are mounted: without a view of their own they do not.
    pub fn can_mount(&self) -> bool {
        self.agent.isolation().mode != agent::Mode::None
    }

    /// Builds an image, or finds it built. Blocks; another build is waited for.
    pub fn build(
        &self,
        order: &Order<'_>,
        clock: &dyn Clock,
        watch: &mut dyn Watch,
    ) -> Result<Image, BuildError> {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep();
        let bases = RefCell::new(BTreeMap::new());
        let plan = self.plan(order.build, &bases)?;
        let mut work = Work {
            builder: self,
            store: Store::open(&self.layers, self.owners)?,
            order,
            clock,
            watch,
            plan: &plan,
            bases: bases.into_inner(),
            ignore: ignore(order.build),
            built: BTreeMap::new(),
            notes: Vec::new(),
            number: 0,
            steps_done: 0,
        };
        for stage in &plan.stages {
            let built = work.stage(stage)?;
            work.built.insert(stage.number, built);
        }
        let (steps_done, notes) = (work.steps_done, work.notes);
        let Some((last, built)) = plan.stages.last().zip(work.built.into_values().next_back())
        else {
            return Err(BuildError::Dockerfile(Vec::new()));
        };
        let mut image = finished(built, last.recipe.clone(), order.user, notes);
        image.steps_done = steps_done;
        Ok(image)
    }

    /// What this machine has in place of an image, `None` when that is nothing in particular.
    pub fn image(
        &self,
        image: &str,
        place: &Place,
        user: Option<&str>,
    ) -> Result<Option<Image>, BuildError> {
        if spec::images::known(image).is_none() {
            return Ok(None);
        }
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let base = stand_in(image, &self.host).map_err(|e| base_failed(&e, place))?;
        let store = Store::open(&self.layers, self.owners)?;
        let built = self.begin(&base, &store)?;
        Ok(Some(finished(built, base.recipe, user, base.notes)))
    }

    /// Removes layers and caches that no release uses and that `keep` does not cover. A build under
    /// way is waited for.
    pub fn prune(&self, used: &[PathBuf], keep: Keep, now: UnixNanos) -> std::io::Result<Pruned> {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = Pruned::default();
        for (folder, used) in [(&self.layers, used), (&self.caches, &[])] {
            if !folder.is_dir() {
                continue;
            }
            for (path, bytes) in store::surplus(folder, used, keep, now)? {
                self.agent.discard(&path)?;
                removed.count += 1;
                removed.bytes += bytes;
            }
        }
        Ok(removed)
    }

    /// What a stage is when it begins.
    pub(crate) fn begin(&self, base: &BaseImage, store: &Store) -> Result<Built, TreeError> {
        let mut layers = Vec::new();
        if !base.tree.is_empty() {
            layers.push(store.put(&base.tree)?.0);
        }
        if base.lowest == agent::Base::Host && self.owners == Owners::One {
            let mut skeleton = self.skeleton.lock().unwrap_or_else(PoisonError::into_inner);
            let there = skeleton.take().filter(|layer| store.touch(layer));
            let layer = match there {
                Some(layer) => layer,
                None => store.put_as(&skeleton::tree()?, skeleton::MARK)?.0,
            };
            layers.push(skeleton.insert(layer).clone());
        }
        Ok(Built { layers, base: base.lowest, key: base.key.clone(), alpine: base.alpine })
    }

    /// The host's system, in which ADD runs its tools.
    pub(crate) fn system(&self, store: &Store) -> Result<Built, TreeError> {
        let base = base_image::unknown("", &self.host).map_err(|error| match error {
            BaseError::Tree(error) => error,
            missing => at(Path::new("/"))(std::io::Error::other(missing.to_string())),
        })?;
        self.begin(&base, store)
    }

    /// Ends and removes what an engine that died left of its steps.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.builds).into_iter().flatten().flatten() {
            let _next_time = self.agent.remove_step(&entry.path());
        }
    }

    fn plan(
        &self,
        build: &Build,
        bases: &RefCell<BTreeMap<String, Result<BaseImage, BaseError>>>,
    ) -> Result<Plan, BuildError> {
        let text = match &build.dockerfile_inline {
            Some(text) => text.clone(),
            None => read(&build.dockerfile).map_err(|cause| {
                let what = format!("cannot read `{}`", build.dockerfile.display());
                let next = "name it with `build.dockerfile`".to_owned();
                failed("dockerfile", what, &build.place, cause.to_string(), next)
            })?,
        };
        let (file, first_line) = match build.dockerfile_inline {
            Some(_) => (&build.place.file, build.place.line),
            None => (&build.dockerfile, 0),
        };
        let image = |name: &str| {
            let name = match build.contexts.get(name) {
                Some(NamedContext::Image(other)) => other,
                Some(NamedContext::Folder(_)) => return ImageRecipe::default(),
                None => name,
            };
            let mut bases = bases.borrow_mut();
            let base = bases.entry(name.to_owned()).or_insert_with(|| stand_in(name, &self.host));
            base.as_ref().map(|base| base.recipe.clone()).unwrap_or_default()
        };
        let parsed = spec::dockerfile::parse(&text, file, first_line);
        let target = build.target.as_deref();
        parsed
            .and_then(|parsed| spec::dockerfile::plan(&parsed, target, &build.args, &image))
            .map_err(BuildError::Dockerfile)
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, DOCKERFILE_BYTES_MAX), &mut text)?;
    Ok(text)
}

/// `.dockerignore`; one that is named after the Dockerfile comes first.
fn ignore(build: &Build) -> Ignore {
    let mut own = build.dockerfile.clone().into_os_string();
    own.push(".dockerignore");
    let text = fs::read_to_string(own);
    let text = text.or_else(|_| fs::read_to_string(build.context.join(".dockerignore")));
    Ignore::parse(&text.unwrap_or_default())
}

fn finished(
    built: Built,
    mut recipe: ImageRecipe,
    user: Option<&str>,
    notes: Vec<String>,
) -> Image {
    let home = owner::home(user.or(recipe.user.as_deref()), &built.view());
    let Built { layers, base, .. } = built;
    if recipe.workdir.as_os_str().is_empty() {
        recipe.workdir = PathBuf::from("/");
    }
    Image { layers, base, recipe, home, notes, steps_done: 0 }
}

pub(crate) fn base_failed(error: &BaseError, place: &Place) -> BuildError {
    match error {
        BaseError::Missing { package, .. } => {
            let next = format!("install it: {package}");
            let cause = "images are not fetched: a program of this machine takes the place of the \
                 image's"
                .to_owned();
            failed("toolchain-missing", error.to_string(), place, cause, next)
        }
        BaseError::Tree(error) => {
            let next = "make room in the state folder, or give another with --state".to_owned();
            failed(
                "build-files",
                "the build cannot keep files".to_owned(),
                place,
                error.to_string(),
                next,
            )
        }
    }
}

/// Keeps files of the host as they are now, in a layer at their own paths.
///
/// # Errors
/// What could not be read or written.
pub fn keep(files: &[PathBuf], layers: &Path) -> Result<PathBuf, BuildError> {
    let host = View::host();
    let mut tree = Tree::default();
    for path in files {
        use std::os::unix::fs::MetadataExt;
        let found = host.find(path, true).map_err(at(path))?;
        let Some(found) = found.filter(|found| !found.is_folder()) else { continue };
        let (own, mode) = (found.metadata.uid(), found.metadata.mode() & 0o7777);
        let entry = Entry {
            node: Node::File { from: found.place().to_owned() },
            mode,
            owner: Some((own, found.metadata.gid())),
        };
        tree.add(&found.path, entry, &host)?;
    }
    Ok(Store::open(layers, Owners::Said)?.put(&tree)?.0)
}
