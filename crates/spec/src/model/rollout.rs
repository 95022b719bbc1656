//! How a service is restarted, limited, updated and reached: the model's policy types.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens when a service ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Nothing.
    #[default]
    No,
    /// It is started again, whatever its exit code.
    Always,
    /// It is started again after a failure.
    OnFailure {
        /// How often at most; `None` is without end.
        max_retries: Option<u32>,
    },
    /// As `Always`, except that a stop by hand outlives a restart of the engine.
    UnlessStopped,
}

/// How a new release takes over from the old.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// How many instances at a time; 0 is all.
    pub parallelism: u32,
    /// Wait between two batches.
    #[serde(with = "crate::duration")]
    pub delay: Duration,
    /// What to do when the new release fails.
    pub failure_action: FailureAction,
    /// How long an instance is watched for failure after it is healthy.
    #[serde(with = "crate::duration")]
    pub monitor: Duration,
    /// Share of instances that may fail, 0 to 1.
    pub max_failure_ratio: f64,
    /// Which comes first.
    pub order: UpdateOrder,
}

impl Default for UpdateConfig {
    /// One at a time, new before old, back to the old on failure.
    fn default() -> UpdateConfig {
        UpdateConfig {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Rollback,
            monitor: Duration::from_secs(5),
            max_failure_ratio: 0.0,
            order: UpdateOrder::StartFirst,
        }
    }
}

/// What to do when a new release fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// Stop the update and leave things as they are.
    Pause,
    /// Go on.
    Continue,
    /// Return to the release before.
    Rollback,
}

/// Which comes first in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The new instance is healthy before the old one stops.
    StartFirst,
    /// The old instance stops before the new one starts.
    StopFirst,
}

/// What each instance may use at most, and what is set aside for it; `None` is not said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together.
    pub memory_and_swap: Option<Swap>,
    /// Memory that is set aside, in bytes.
    pub memory_reserved_bytes: Option<u64>,
    /// CPU, in cores.
    pub cpus: Option<f64>,
    /// CPU that is set aside, in cores.
    pub cpus_reserved: Option<f64>,
    /// Its weight when CPU is short; others have 1024.
    pub cpu_shares: Option<u32>,
    /// CPUs that may run it, such as `0-3,7`.
    pub cpuset: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// How much memory and swap together may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Swap {
    /// As much as the host has.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

/// How fast a service is started again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPace {
    /// Wait before each attempt; `None` backs off by itself.
    #[serde(with = "crate::duration::option")]
    pub delay: Option<Duration>,
    /// How long an attempt must last to be a success: such attempts, and those before them, are not
    /// counted towards the most attempts.
    #[serde(with = "crate::duration::option")]
    pub window: Option<Duration>,
    /// How often at most, whatever the exit code; `OnFailure` says it for itself.
    pub attempts: Option<u32>,
}

/// Which nodes may run a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// What must hold of a node.
    pub constraints: Vec<Constraint>,
    /// Labels over whose values instances are spread, such as `node.labels.zone`.
    pub spread: Vec<String>,
    /// How many instances one node may run.
    pub replicas_per_node_max: Option<u32>,
    /// The platform that a node must have, such as `linux/amd64`.
    pub platform: Option<String>,
}

/// What must hold of a node: `node.labels.disk == ssd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// What is looked at.
    pub key: String,
    /// It must be equal, or else differ.
    pub equal: bool,
    /// With what it is compared.
    pub value: String,
}

/// What is kept of a service's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Nothing is kept.
    pub none: bool,
    /// Size of one file, in bytes.
    pub file_bytes_max: Option<u64>,
    /// How many files are kept.
    pub files_max: Option<u32>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// Never.
    Never,
    /// When it is not there.
    Missing,
    /// It is built instead.
    Build,
    /// When the one that is there is older than so many seconds.
    OlderThan {
        /// Its age, in seconds.
        age_secs: u64,
    },
}

/// `x-mainspring` of a service: what Compose has no word for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Run the command on the host; `image:` is for Docker.
    pub native: bool,
    /// What the ports speak.
    pub protocol: Option<PortProtocols>,
    /// URL of a real engine that the name should lead to instead of a stand-in.
    pub engine: Option<String>,
    /// A command that is run once on the host before a release starts, in the project folder.
    pub prepare: Option<Vec<String>>,
    /// How requests are spread over instances.
    pub balance: Option<Balance>,
}

/// What a service's ports speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortProtocols {
    /// All of them the same.
    All(Protocol),
    /// By target port; others are detected.
    Each(BTreeMap<u16, Protocol>),
}

/// What the edge speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP: balanced by request.
    Http,
    /// Bytes: balanced by connection.
    Tcp,
}

/// How requests are spread over instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// To the instance with the fewest requests in flight.
    LeastRequests,
    /// In turn.
    RoundRobin,
}

/// An embedded part that stands in for a well-known image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// An event log, over Kafka's protocol.
    Events,
    /// A key-value store, over Redis' protocol.
    Kv,
    /// An object store, over S3's protocol.
    Blobs,
}
