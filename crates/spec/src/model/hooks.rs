//! Commands beside a service's own: before its start, after it, and before its stop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What runs beside the service's own command, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Steps that must succeed before it starts.
    pub pre_start: Vec<Hook>,
    /// What runs inside it once it runs.
    pub post_start: Vec<Hook>,
    /// What runs inside it before it is asked to stop.
    pub pre_stop: Vec<Hook>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// User it runs as; `None` is the service's.
    pub user: Option<String>,
    /// With every capability.
    pub privileged: bool,
    /// Where it starts; `None` is the service's.
    pub working_dir: Option<PathBuf>,
    /// What is added to the service's environment.
    pub environment: BTreeMap<String, String>,
    /// Image that a step before the start runs in; `None` is the service's.
    pub image: Option<String>,
    /// A step before the start: for each instance instead of once for the service.
    pub per_replica: bool,
}
