//! A context, a builder, and what it said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::{Agent, AgentConfig};
use base::{Place, Problem, ServiceName, SystemClock};
use builder::{Builder, Image, Order, Progress, Secret, Watch};
use spec::model::Build;

/// Everything that one test needs.
pub(crate) struct Bench {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) builder: Builder,
    pub(crate) build: Build,
    pub(crate) no_cache: bool,
    pub(crate) secrets: BTreeMap<String, Secret>,
    service: ServiceName,
    /// The agent's tasks live in it.
    _runtime: tokio::runtime::Runtime,
}

/// What was said, and when it is enough.
#[derive(Default)]
pub(crate) struct Said {
    /// `1/2 RUN x`, `cached`, `done`, `| output`, `note`.
    pub(crate) lines: Vec<String>,
    /// Nobody wants the build any more once this was said.
    pub(crate) until: Option<&'static str>,
}

impl Watch for Said {
    fn told(&mut self, progress: &Progress<'_>) {
        self.lines.push(match progress {
            Progress::Step { number, total, text, .. } => format!("{number}/{total} {text}"),
            Progress::Cached => "cached".to_owned(),
            Progress::Done { .. } => "done".to_owned(),
            Progress::Output(line) => format!("| {line}"),
            Progress::Note(note) => (*note).to_owned(),
        });
    }

    fn is_unwanted(&self) -> bool {
        self.until.is_some_and(|until| self.lines.iter().any(|line| line == until))
    }
}

impl Said {
    /// Lines of output.
    pub(crate) fn output(&self) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix("| ")).collect()
    }

    /// `+` for each step that was done, `-` for each that was found.
    pub(crate) fn work(&self) -> String {
        let mark = |line: &String| match line.as_str() {
            "done" => Some('+'),
            "cached" => Some('-'),
            _ => None,
        };
        self.lines.iter().filter_map(mark).collect()
    }
}

impl Bench {
    pub(crate) fn new(dockerfile: &str) -> Bench {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Bench::open(folder, dockerfile)
    }

    /// With the state of an earlier one.
    pub(crate) fn open(folder: Arc<tempfile::TempDir>, dockerfile: &str) -> Bench {
        let bench = Bench::in_folder(folder.path(), folder.clone(), dockerfile);
        fs::create_dir_all(bench.context()).unwrap();
        bench
    }

    pub(crate) fn in_folder(
        path: &Path,
        folder: Arc<tempfile::TempDir>,
        dockerfile: &str,
    ) -> Bench {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let state = path.join("state");
        let pool = "127.64.0.0/16".parse().unwrap();
        let config = AgentConfig::new(state.clone(), pool, Arc::new(SystemClock));
        let (agent, _) = runtime.block_on(async { Agent::open(config) }).unwrap();
        let context = path.join("context");
        let build = Build {
            dockerfile: context.join("Dockerfile"),
            context,
            dockerfile_inline: Some(dockerfile.to_owned()),
            target: None,
            args: BTreeMap::new(),
            contexts: BTreeMap::new(),
            secrets: Vec::new(),
            ssh: BTreeMap::new(),
            no_cache: false,
            place: Place { file: "compose.yaml".into(), line: 0, column: 1 },
        };
        let builder = Builder::new(agent, &state);
        assert!(builder.can_build());
        let service = "web".parse().unwrap();
        let (no_cache, secrets) = (false, BTreeMap::new());
        Bench { folder, builder, build, no_cache, secrets, service, _runtime: runtime }
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.build.context.clone()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Writes a file of the context.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn dockerfile(&mut self, text: &str) {
        self.build.dockerfile_inline = Some(text.to_owned());
    }

    pub(crate) fn try_build(&self, said: &mut Said) -> Result<Image, Problem> {
        let order = Order {
            service: &self.service,
            build: &self.build,
            no_cache: self.no_cache,
            secrets: self.secrets.clone(),
            user: None,
        };
        self.builder.build(&order, &SystemClock, said).map_err(builder::BuildError::problem)
    }

    #[track_caller]
    pub(crate) fn build(&self) -> (Image, Said) {
        let mut said = Said::default();
        match self.try_build(&mut said) {
            Ok(image) => (image, said),
            Err(problem) => panic!("{problem}\n{:#?}", said.lines),
        }
    }

    /// What a command prints in the image.
    #[track_caller]
    pub(crate) fn prints(&mut self, dockerfile: &str, command: &str) -> Vec<String> {
        self.dockerfile(&format!("{dockerfile}\nRUN {command}\n"));
        let (_, said) = self.build();
        said.output().into_iter().map(str::to_owned).collect()
    }

    /// Names of everything that counts as a layer.
    pub(crate) fn layers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state().join("layers")).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The text of a file in the topmost layer that has it.
pub(crate) fn read(image: &Image, path: &str) -> Option<String> {
    image.layers.iter().find_map(|layer| fs::read_to_string(layer.join(path)).ok())
}
