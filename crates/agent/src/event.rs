//! What the agent reports.

use std::sync::Arc;

use base::{InstanceId, UnixNanos};

use crate::exit::Exit;
use crate::spec::ProcessSpec;

/// Something happened to an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceEvent {
    /// Which.
    pub id: InstanceId,
    /// Its `attempt`, so that news of an earlier run is not taken for news of this one.
    pub attempt: u32,
    /// When.
    pub at: UnixNanos,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It runs.
    Started {
        /// The program's process id on the host.
        pid: u32,
    },
    /// It became healthy.
    Healthy,
    /// It became unhealthy.
    Unhealthy {
        /// What the check said.
        detail: String,
    },
    /// It ended, or was found to have ended while nobody looked.
    Exited(Exit),
}

/// How far an instance is.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Being set up; the program does not run yet.
    Starting,
    /// The program runs.
    Running,
    /// It was told to end.
    Stopping,
    /// It ended.
    Exited(Exit),
}

/// What is known of an instance now.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// Which.
    pub id: InstanceId,
    /// What was asked for, less its `hosts`.
    pub spec: Arc<ProcessSpec>,
    /// The program's process id on the host, while it runs.
    pub pid: Option<u32>,
    /// How far it is.
    pub phase: Phase,
    /// `None` until the first verdict.
    pub healthy: Option<bool>,
    /// What the last failing check said.
    pub health_detail: Option<String>,
    /// When the program began.
    pub started_at: Option<UnixNanos>,
    /// Whether it was found running by this engine rather than started.
    pub adopted: bool,
    /// What could not be done as asked, one sentence each.
    pub warnings: Vec<String>,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since it started, in microseconds.
    pub cpu_micros: u64,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// Processes now, the shim included.
    pub processes: u32,
}
