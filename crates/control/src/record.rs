//! Records: declared truth, as the store keeps it.
//!
//! Not here: what was seen a moment ago (`Observation`) and what can be computed from both
//! (`view`). Every record is JSON under a path; a field that is added later has a default, so that
//! a newer engine reads an older store.
//!
//! [`UnixNanos`] is wall time and only shown; what decides is [`SteadyNanos`], which no setting of
//! the clock moves. Steady moments belong to one run of the machine, whose name stands beside the
//! records in the store; in the next run they are counted anew.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use base::{InstanceId, ServiceName, SteadyNanos, UnixNanos};
use serde::{Deserialize, Serialize};

/// The app that this engine runs. Key: `/apps/APP`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Its name.
    pub name: String,
    /// Folder that relative paths started from.
    pub project_dir: PathBuf,
    /// The files that it was read from, in order.
    pub files: Vec<PathBuf>,
    /// The app is going down: it is forgotten when the last service is gone.
    #[serde(default)]
    pub leaving: bool,
    /// When it was first brought up.
    pub created_at: UnixNanos,
}

/// What a person wants of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// That it runs.
    #[default]
    Run,
    /// That it stands still until started again, across restarts of the engine too.
    Stop,
    /// That it goes away: its records are deleted when the last instance is gone.
    Remove,
}

/// One service: what is wanted of it. Key: `/apps/APP/services/SERVICE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Its name.
    pub name: ServiceName,
    /// Where its name leads, from the low half of the pool; stays for the life of the service.
    pub address: Ipv4Addr,
    /// How many instances are wanted.
    pub desired_replicas: u32,
    /// What the file last said. What `spec::diff_in_place` names holds from here at once:
    /// update_config, depends_on, published ports, protocols. A scale by hand holds until the
    /// file's replicas change. What instances were started with is in their release.
    pub definition: spec::Service,
    /// What a person wants of it.
    pub intent: Intent,
    /// Waits for what it depends on before its first start.
    #[serde(default)]
    pub gated: bool,
    /// The release that serves; `None` before the first one was healthy.
    pub release: Option<u64>,
    /// The release on its way in.
    pub target: Option<u64>,
    /// How far `target` (or a restart, or a return to `release`) has come.
    pub rollout: Option<Rollout>,
    /// A newer release that did not make it while `release` went on serving.
    #[serde(default)]
    pub failed_release: Option<u64>,
    /// Raised to ask for fresh instances of the same release.
    #[serde(default)]
    pub restart_nonce: u64,
    /// Number of the newest release ever made.
    pub last_release: u64,
    /// When it was first brought up.
    pub created_at: UnixNanos,
}

impl ServiceRecord {
    /// The release that its instances should be of.
    pub fn goal(&self) -> Option<u64> {
        self.target.or(self.release)
    }
}

/// Why instances are being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutKind {
    /// A new release.
    Update,
    /// An earlier release, because a person asked.
    Rollback,
    /// The same release afresh.
    Restart,
    /// The serving release again, because the new one failed.
    Return,
}

/// A replacement of instances under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Why.
    pub kind: RolloutKind,
    /// When it began.
    pub started_at: UnixNanos,
    /// The first batch waits for what the service depends on.
    #[serde(default)]
    pub gated: bool,
    /// New instances that failed, each counted once.
    pub failures: u32,
    /// Set when it stands still after a failure, with the reason.
    pub paused: Option<String>,
}

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// On its way in.
    Arriving,
    /// Takes the traffic.
    Serving,
    /// Served once, or was overtaken by a newer one.
    Old,
    /// Did not make it.
    Failed,
}

/// One immutable version of a service. Key: `/apps/APP/releases/SERVICE/NUMBER`. Only `state`,
/// `why`, `served` and `pre_started` ever change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The service.
    pub service: ServiceName,
    /// Its number, from 1.
    pub number: u64,
    /// When it was made.
    pub created_at: UnixNanos,
    /// The resolved definition.
    pub definition: spec::Service,
    /// What the caller prepared for it (layer, command line, environment); opaque here. Equal
    /// values mean that the same thing would run.
    pub prepared: serde_json::Value,
    /// What changed against the release before, in a few words.
    pub change: String,
    /// Where it stands.
    pub state: ReleaseState,
    /// Why it failed; empty otherwise.
    #[serde(default)]
    pub why: String,
    /// It took traffic once, so it is something to go back to.
    #[serde(default)]
    pub served: bool,
    /// Its `pre_start` steps that run once, not for each instance, are done.
    #[serde(default)]
    pub pre_started: bool,
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waits: for its back-off, or for an earlier life of it to end.
    Pending,
    /// Handed to the agent, not healthy yet.
    Starting,
    /// Healthy. In a record: has been healthy in this attempt.
    Healthy,
    /// Was healthy and is not now. Never in a record: health that flaps is not written down.
    Unhealthy,
    /// Gets nothing new and finishes what it has, then is asked to stop.
    Draining,
    /// Ended as it should.
    Stopped,
    /// Ended badly and is not started again.
    Failed,
}

impl Phase {
    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Starting => "starting",
            Phase::Healthy => "healthy",
            Phase::Unhealthy => "unhealthy",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
            Phase::Failed => "failed",
        }
    }

    /// A process of it may run.
    pub fn is_live(self) -> bool {
        !matches!(self, Phase::Pending | Phase::Stopped | Phase::Failed)
    }
}

/// What follows when a draining instance has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is removed.
    Remove,
    /// It is started again in its slot.
    Restart,
}

/// How an instance ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// When.
    pub at: UnixNanos,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed it at its memory limit.
    #[serde(default)]
    pub out_of_memory: bool,
    /// It never ran: why it could not be started.
    #[serde(default)]
    pub start_error: Option<String>,
    /// It was running once and is not there any more; nobody saw how it ended.
    #[serde(default)]
    pub lost: bool,
    /// Programs that it left running, which ended with it.
    #[serde(default)]
    pub left: Vec<String>,
    /// Its last lines of output.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

impl Exit {
    /// It ended by itself with code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
            && self.signal.is_none()
            && !self.out_of_memory
            && self.start_error.is_none()
            && !self.lost
    }
}

/// One instance. Key: `/apps/APP/instances/INSTANCE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its name.
    pub id: InstanceId,
    /// The release that it is a copy of.
    pub release: u64,
    /// How often this slot was started for this record, from 1. An observation of another attempt
    /// is about an earlier life.
    pub attempt: u32,
    /// The service's `restart_nonce` when it was made.
    #[serde(default)]
    pub nonce: u64,
    /// Its own address, from the high half of the pool; kept until the agent has let go of it.
    pub address: Ipv4Addr,
    /// The port that it was told to listen on, where addresses cannot keep replicas apart.
    #[serde(default)]
    pub port_env: Option<u16>,
    /// Where it stands.
    pub phase: Phase,
    /// Why, one sentence; empty when there is nothing to say.
    #[serde(default)]
    pub why: String,
    /// When the record was made.
    pub created_at: UnixNanos,
    /// When this attempt was handed to the agent.
    #[serde(default)]
    pub launched_at: Option<SteadyNanos>,
    /// When the agent first had this attempt running.
    #[serde(default)]
    pub started_at: Option<UnixNanos>,
    /// The `post_start` steps of this attempt are done.
    #[serde(default)]
    pub post_started: bool,
    /// When this attempt was first healthy.
    #[serde(default)]
    pub healthy_at: Option<SteadyNanos>,
    /// Restarts since the record was made.
    #[serde(default)]
    pub restarts: u32,
    /// Restarts that count towards the most that `restart` allows: all of them, or those since an
    /// attempt that lasted for its `window`.
    #[serde(default)]
    pub counted: u32,
    /// Failures in a row, for the back-off.
    #[serde(default)]
    pub failures: u32,
    /// It counts as a failure of the rollout that made it.
    #[serde(default)]
    pub failed_rollout: bool,
    /// Not started again before.
    #[serde(default)]
    pub backoff_until: Option<SteadyNanos>,
    /// How its last attempt ended.
    #[serde(default)]
    pub last_exit: Option<Exit>,
    /// Set when it leaves: what follows.
    #[serde(default)]
    pub then: Option<Then>,
    /// While draining: asked to stop at the latest then, even with requests under way.
    #[serde(default)]
    pub drain_until: Option<SteadyNanos>,
    /// When it was asked to stop.
    #[serde(default)]
    pub stop_at: Option<SteadyNanos>,
}

impl InstanceRecord {
    /// The service that it is a copy of.
    pub fn service(&self) -> &ServiceName {
        self.id.service()
    }

    /// It is on its way out for good.
    pub fn is_leaving(&self) -> bool {
        self.then == Some(Then::Remove)
    }

    /// It ended by itself with success and is not started again.
    pub fn is_completed(&self) -> bool {
        self.phase == Phase::Stopped && self.last_exit.as_ref().is_some_and(Exit::is_success)
    }
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warn,
    /// Something does not work.
    Error,
}

/// Something that the engine decided or saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number; grows by one. 0 until the journal has numbered it.
    #[serde(default)]
    pub seq: u64,
    /// When.
    pub at: UnixNanos,
    /// How much it matters.
    pub level: Level,
    /// Short name in kebab case: `instance-exited`, `release-serving`.
    pub kind: String,
    /// The service that it is about.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// The instance that it is about.
    #[serde(default)]
    pub instance: Option<InstanceId>,
    /// One sentence; a crash carries its last lines below it.
    pub message: String,
}
