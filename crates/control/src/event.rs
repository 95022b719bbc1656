//! What `step` is told: commands of people, observations of agent and edge, and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use base::{InstanceId, ServiceName, UnixNanos};

use crate::record::{Exit, Level};

/// Something to react to.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A person asked for something. Refused commands (see `check`) change nothing.
    Command(Command),
    /// What agent and edge report now: always the whole picture, never a difference.
    Observed(Observation),
    /// Time has passed; see `Action::WakeAt`.
    Tick,
    /// Something that decides nothing and is to be told.
    Noted(Note),
}

/// Something about the engine as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How bad it is.
    pub level: Level,
    /// Stable short name, such as `disk-full`.
    pub kind: String,
    /// A sentence.
    pub message: String,
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Make the app what this model says.
    Up {
        /// The resolved model.
        app: Box<spec::App>,
        /// Only these and what they depend on; all when empty, and then services that the model
        /// lacks go away.
        services: Vec<ServiceName>,
        /// A new release of each even if nothing changed.
        recreate: bool,
        /// What was prepared for each service; see `Release::prepared`. A missing one is `null`.
        prepared: BTreeMap<ServiceName, serde_json::Value>,
    },
    /// Stop everything and forget the app.
    Down,
    /// Stop these, all when empty, until they are started again.
    Stop {
        /// Their names.
        services: Vec<ServiceName>,
    },
    /// Start these again, all when empty: stopped ones, and instances that ended.
    Start {
        /// Their names.
        services: Vec<ServiceName>,
    },
    /// Replace every instance of these, all when empty, by a fresh one of the same release.
    Restart {
        /// Their names.
        services: Vec<ServiceName>,
    },
    /// Run this many instances.
    Scale {
        /// The service.
        service: ServiceName,
        /// How many.
        replicas: u32,
    },
    /// Go back to an earlier release.
    Rollback {
        /// The service.
        service: ServiceName,
        /// Which; the newest one before the present that served when absent.
        release: Option<u64>,
    },
}

/// The world as agent and edge see it at one moment.
///
/// It lists every instance that the agent knows, those included whose start or stop is under way
/// and those that have ended and were not removed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// By name.
    pub instances: BTreeMap<InstanceId, Reported>,
    /// What the edge has applied.
    pub edge: EdgeReport,
    /// Releases whose `pre_start` steps that run once were seen to be done.
    pub pre_started: BTreeSet<(ServiceName, u64)>,
}

/// What the agent says of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The attempt that was started, from the record that was given to the agent.
    pub attempt: u32,
    /// Its state.
    pub state: ReportedState,
    /// Last words of its health check; empty when there are none.
    pub detail: String,
    /// When its program was started.
    pub started_at: Option<UnixNanos>,
    /// The address that it holds.
    pub address: Option<Ipv4Addr>,
    /// The port that it was told to use.
    pub port_env: Option<u16>,
    /// How its `post_start` steps went; `None` while they have not run, or as far as nobody knows.
    pub post_start: Option<Result<(), String>>,
    /// What could not be done as the file asks, one sentence each; known once it runs.
    pub warnings: Vec<String>,
}

/// The agent's word for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedState {
    /// Its start is under way, its `pre_start` steps among it.
    Launching,
    /// Runs; its health is not known yet.
    Running,
    /// Runs and is healthy.
    Healthy,
    /// Runs and its health check fails.
    Unhealthy,
    /// Has ended, or could not be started.
    Exited(Exit),
}

/// What the edge says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeReport {
    /// Every thread of the edge follows the plan of this version or a later one.
    pub applied_version: u64,
    /// Requests that are not answered yet; an absent instance has none. Sessions (WebSocket, TCP)
    /// are not among them: they end in the program's own grace period.
    pub inflight: BTreeMap<InstanceId, u32>,
}
