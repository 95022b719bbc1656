//! A Dockerfile's last stage, as far as it can be run without building an image.
//!
//! Not here: building. RUN steps are listed, not run; base images are named, not fetched.
//!
//! Entry points: [`parse`], then [`final_stage`], then [`run_command`] and its neighbours combine
//! the outcome with what the Compose file says. [`Ignore`] reads `.dockerignore`.

mod copy;
mod ignore;
mod lines;
mod making;
mod run;
mod stage;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::Place;
use serde::{Deserialize, Serialize};

pub use ignore::Ignore;
pub use lines::{Dockerfile, parse};
pub use run::{environment, run_command, working_dir};
pub use stage::final_stage;

use crate::Finding;
use crate::model::{Healthcheck, PortKind};

/// What the last stage says about the program that it is made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecipe {
    /// The image that the stage, through stages that it builds on, begins with.
    pub base: String,
    /// Where the program starts; absolute, `/` when nothing is said.
    pub workdir: PathBuf,
    /// ENV, in force at the end of the stage.
    pub env: BTreeMap<String, String>,
    /// COPY and ADD, in order. Those with `from` cannot be carried out.
    pub copies: Vec<Copy>,
    /// ENTRYPOINT; the shell form is spelled out as `/bin/sh -c …`.
    pub entrypoint: Option<Vec<String>>,
    /// CMD, likewise.
    pub cmd: Option<Vec<String>>,
    /// EXPOSE.
    pub expose: Vec<(u16, PortKind)>,
    /// USER.
    pub user: Option<String>,
    /// STOPSIGNAL, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// HEALTHCHECK; a test of `None` switches one off.
    pub healthcheck: Option<Healthcheck>,
    /// VOLUME; absolute.
    pub volumes: Vec<PathBuf>,
    /// LABEL.
    pub labels: BTreeMap<String, String>,
    /// RUN steps of the stage and of those that it builds on; they were not run.
    pub skipped_runs: Vec<SkippedStep>,
    /// What cannot be carried out or is worth knowing: warnings and notes.
    pub findings: Vec<Finding>,
}

/// One COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Paths and patterns in the context, as written.
    pub sources: Vec<String>,
    /// Files whose text stands in the Dockerfile.
    pub inline: Vec<InlineFile>,
    /// Where to; absolute.
    pub dest: PathBuf,
    /// `dest` is a folder to copy into: it was written with a slash at its end, or there are
    /// several sources.
    pub dest_is_dir: bool,
    /// A stage or image to copy from instead of the context.
    pub from: Option<String>,
    /// `USER[:GROUP]` to own it.
    pub chown: Option<String>,
    /// Permissions, as written.
    pub chmod: Option<String>,
    /// ADD, which unpacks archives.
    pub unpack: bool,
    /// Where it stands.
    pub place: Place,
}

/// A file whose text stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A RUN that was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedStep {
    /// Its line, from 1.
    pub line: u32,
    /// Its text, on one line.
    pub text: String,
}
