//! A Dockerfile as what it makes: the stages that are needed, the steps of each, and what the
//! image says about its program.
//!
//! Not here: building. Steps are listed with everything that they use; nothing is run or copied.
//!
//! Entry points: [`parse`], then [`plan`] for whoever builds or [`final_stage`] for what the image
//! says; [`run_command`] and its neighbours combine that with what the Compose file says.
//! [`Ignore`] reads `.dockerignore`.

mod copy;
mod ignore;
mod lines;
mod making;
mod repository;
mod run;
mod running;
mod stage;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::Place;
use serde::{Deserialize, Serialize};

pub use copy::{Copy, InlineFile, Origin};
pub use ignore::Ignore;
pub use lines::{Dockerfile, parse};
pub use repository::Repository;
pub use run::{environment, run_command, working_dir};
pub use running::{Run, RunMount, RunMountKind};
pub use stage::{Plan, Stage, Start, final_stage, plan};

use crate::Finding;
use crate::model::{Healthcheck, PortKind};

/// What PATH is where an image does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says about the program that it is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRecipe {
    /// The image that the stage, through stages that it builds on, begins with.
    pub base: String,
    /// Where the program starts; absolute, `/` when nothing is said.
    pub workdir: PathBuf,
    /// ENV, in force at the end of the stage.
    pub env: BTreeMap<String, String>,
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
    /// SHELL; `/bin/sh -c` when empty.
    pub shell: Vec<String>,
    /// What cannot be carried out or is worth knowing: warnings and notes.
    pub findings: Vec<Finding>,
}

/// One thing to do while a stage is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands.
    pub place: Place,
    /// The instruction, on one line.
    pub text: String,
    /// What to do.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// RUN.
    Run(Run),
    /// COPY and ADD.
    Copy(Copy),
    /// WORKDIR: the folder is made when it is missing.
    Folder(PathBuf),
}
