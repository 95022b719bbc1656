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

/// What each instance may use at most; `None` is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// CPU, in cores.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
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
