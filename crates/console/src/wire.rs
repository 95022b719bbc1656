//! What travels over the HTTP API: the one set of types for server, command line and OpenAPI.
//!
//! Not here: how any of it is found out. Names carry their units; times are Unix nanoseconds,
//! rates are per second, shares are 0 to 1. `null` means unknown or not applicable, never zero.

use base::{InstanceId, Problem, ServiceName, UnixNanos};
use serde::{Deserialize, Serialize};

/// What the engine is and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the engine.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The app that it runs, `null` before the first `up`.
    pub app: Option<String>,
    /// The files that the app was read from.
    pub files: Vec<String>,
    /// The state folder.
    pub state_dir: String,
    /// Where the console listens, as `http://ADDR:PORT`, `null` when it is off.
    pub console: Option<String>,
    /// The pool of service addresses, as a CIDR.
    pub addresses: String,
    /// How instances are isolated.
    pub isolation: Isolation,
    /// When the engine started.
    pub started_at: UnixNanos,
    /// Everything is being stopped, and the engine ends when that is done.
    pub ending: bool,
    /// What keeps the engine from its work now, such as a full disk.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// The engine's resident memory.
    pub memory_bytes: u64,
    /// CPU time of the engine since it started.
    pub cpu_micros: u64,
    /// Counts every change of state; grows.
    pub revision: u64,
}

/// How instances are isolated on this node, and what is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// `full` (root), `user` (a user namespace) or `none`.
    pub mode: String,
    /// What is not in force and what would give it, one sentence each.
    pub missing: Vec<String>,
}

/// One word for how a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Waits for what it depends on.
    Waiting,
    /// Instances start and have not been healthy yet.
    Starting,
    /// As many healthy instances as wanted, on the wanted release.
    Healthy,
    /// A new release takes over.
    Updating,
    /// Serves, with fewer healthy instances than wanted.
    Degraded,
    /// Serves nothing: crashes, never healthy, or a release that did not make it.
    Failed,
    /// Ran to its end with exit code 0 and is not restarted.
    Completed,
    /// Stopped on purpose or scaled to zero.
    Stopped,
}

/// A service in one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// How it is.
    pub health: Health,
    /// Why it is so, one sentence; empty when healthy.
    pub why: String,
    /// What it runs: image, build folder or command.
    pub source: String,
    /// The image that an embedded part stands in for, if one does.
    #[serde(default)]
    pub stands_in_for: Option<String>,
    /// Where other services reach it: `127.64.0.3`.
    pub address: String,
    /// Ports at that address.
    pub ports: Vec<PortView>,
    /// Where the host reaches it: `http://127.0.0.1:8080`, or `tcp://…`.
    pub published: Vec<String>,
    /// Release that takes traffic, `null` before the first is healthy.
    pub release: Option<u64>,
    /// Release that is on its way in, when it is not `release`.
    pub next_release: Option<u64>,
    /// A newer release that did not make it while `release` serves on.
    #[serde(default)]
    pub failed_release: Option<u64>,
    /// Instances wanted.
    pub desired: u32,
    /// Of these, instances that no node may run.
    #[serde(default)]
    pub unplaced: u32,
    /// Instances healthy now.
    pub healthy: u32,
    /// Instances that exist, draining ones included.
    pub instances: Vec<InstanceView>,
    /// What could not be done as the file asks, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Traffic in the last ten seconds.
    pub traffic: Traffic,
    /// CPU in use, in cores.
    pub cpu_cores: f64,
    /// Memory in use.
    pub memory_bytes: u64,
    /// Restarts since its present release came.
    pub restarts: u32,
    /// Seconds since its last change of health.
    pub since: UnixNanos,
}

/// One port of a service address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// The port.
    pub port: u16,
    /// `http`, `tcp`, `detect` or `udp`.
    pub protocol: String,
}

/// Requests, their success and latency over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests (or TCP sessions) a second.
    pub requests_per_second: f64,
    /// Share that succeeded, `null` without requests.
    pub success: Option<f64>,
    /// Median latency.
    pub p50_ms: Option<f64>,
    /// 99th percentile of latency.
    pub p99_ms: Option<f64>,
    /// Bytes from callers, a second.
    pub received_bytes_per_second: f64,
    /// Bytes to callers, a second.
    pub sent_bytes_per_second: f64,
    /// TCP sessions and upgraded connections (WebSocket) that are open now.
    #[serde(default)]
    pub sessions_open: u64,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Its name.
    pub id: InstanceId,
    /// `pending`, `starting`, `healthy`, `unhealthy`, `draining`, `stopped` or `failed`.
    pub state: String,
    /// Why, one sentence; empty when healthy.
    pub why: String,
    /// The release that it is a copy of.
    pub release: u64,
    /// Process id on this host of the program, `null` when it does not run.
    pub pid: Option<u32>,
    /// Its own address.
    pub address: String,
    /// How often it was restarted.
    pub restarts: u32,
    /// When the program was started.
    pub started_at: Option<UnixNanos>,
    /// CPU in use, in cores.
    pub cpu_cores: f64,
    /// Memory in use.
    pub memory_bytes: u64,
    /// Requests or connections under way.
    pub inflight: u32,
    /// Traffic in the last ten seconds.
    pub traffic: Traffic,
}

/// A service with everything a page of its own shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDetail {
    /// The row.
    pub service: ServiceView,
    /// Its releases, newest first.
    pub releases: Vec<ReleaseView>,
    /// Its last events, newest first.
    pub events: Vec<EventView>,
    /// Its definition as it runs: the resolved Compose service, secrets masked.
    pub definition: serde_json::Value,
    /// `RUN` steps of its Dockerfile that were not run, as written.
    pub skipped_steps: Vec<String>,
}

/// Why a service is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The service.
    pub service: ServiceView,
    /// What it depends on, near or far, that is not as it should be; the nearest first.
    pub causes: Vec<Cause>,
    /// What happened to it, oldest first: decisions, exits, failed checks.
    pub history: Vec<EventView>,
}

/// A service that may be the reason why another is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its name.
    pub service: ServiceName,
    /// How it is.
    pub health: Health,
    /// Why it is so, one sentence.
    pub why: String,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its number.
    pub number: u64,
    /// `serving`, `arriving`, `leaving`, `failed` or `old`.
    pub state: String,
    /// When it was made.
    pub created_at: UnixNanos,
    /// What it runs.
    pub source: String,
    /// What changed against the release before, in a few words.
    pub change: String,
}

/// Who calls whom, over the last ten seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallView {
    /// Calling service, `null` for clients outside the app.
    pub caller: Option<ServiceName>,
    /// Called service.
    pub service: ServiceName,
    /// The traffic between them.
    pub traffic: Traffic,
}

/// The overview: what the first page shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The engine.
    pub status: Status,
    /// Every service, by name.
    pub services: Vec<ServiceView>,
    /// Every call that was seen.
    pub calls: Vec<CallView>,
}

/// Something that the engine decided or saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number; grows by one.
    pub seq: u64,
    /// When.
    pub at: UnixNanos,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The service that it is about.
    pub service: Option<ServiceName>,
    /// The instance that it is about.
    pub instance: Option<InstanceId>,
    /// Short name of its kind in kebab case: `instance-exited`, `release-serving`.
    pub kind: String,
    /// One sentence; a crash carries its last lines below it.
    pub message: String,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the line was complete.
    pub at: UnixNanos,
    /// The instance that wrote it.
    pub instance: InstanceId,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The text, without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// One line of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildLine {
    /// Its number; grows.
    pub seq: u64,
    /// The service whose image is built.
    pub service: ServiceName,
    /// `step`, `cached`, `done`, `output` or `note`.
    pub kind: String,
    /// What is said: a step with its number, how long it took, a line of its output.
    pub text: String,
}

/// Which lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Services or instances (`web` or `web.2`), all when empty.
    pub services: Vec<String>,
    /// A substring, or a regular expression between slashes.
    pub grep: Option<String>,
    /// Not before this moment.
    pub since: Option<UnixNanos>,
    /// Not after this moment.
    pub until: Option<UnixNanos>,
    /// The newest this many lines, 1,000 when absent, 10,000 at most.
    pub limit: Option<usize>,
    /// After the newest this many, which are left out: with `until`, the page before another.
    pub skip: Option<usize>,
}

/// Lines that were found, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// There are older ones that the limit cut off.
    pub more: bool,
}

/// A chart's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// Moment of the first point.
    pub start: UnixNanos,
    /// Seconds between points.
    pub step_seconds: u32,
    /// Its lines.
    pub lines: Vec<ChartLine>,
}

/// One line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChartLine {
    /// What it is: `requests`, `errors`, `p50_ms`, `p99_ms`, `cpu_cores`, `memory_bytes`.
    pub name: String,
    /// Values, `null` where nothing is known.
    pub values: Vec<Option<f64>>,
}

/// Which chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChartQuery {
    /// The service, all services when absent.
    pub service: Option<ServiceName>,
    /// `traffic`, `latency`, `cpu` or `memory`.
    pub chart: String,
    /// How many seconds back from now, 900 when absent.
    pub seconds: Option<u32>,
}

/// What to do. Every change that a person asks for is one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Command {
    /// Make the app what this resolved model says.
    Up {
        /// The resolved model, as `ms config --json` prints it.
        app: serde_json::Value,
        /// Only these services and what they depend on; all when empty.
        services: Vec<String>,
        /// Start a new release of each even if nothing changed.
        recreate: bool,
    },
    /// Build the images of these services, and start nothing.
    Build {
        /// The resolved model, as `ms config --json` prints it.
        app: serde_json::Value,
        /// Only these services; all when empty.
        services: Vec<String>,
        /// Do every step again, also those that were done before.
        no_cache: bool,
    },
    /// Remove what builds left and no release uses.
    Prune {
        /// Only what nothing used for so long; all when missing.
        unused_for_seconds: Option<u64>,
        /// Only as much as is above so many bytes; all when missing.
        keep_bytes: Option<u64>,
    },
    /// Stop every service and forget the app.
    Down {
        /// Delete named volumes too.
        volumes: bool,
        /// End the engine afterwards.
        exit: bool,
    },
    /// Stop these services, all when empty; they stay stopped until started.
    Stop {
        /// Their names.
        services: Vec<String>,
    },
    /// Start stopped services again, all when empty.
    Start {
        /// Their names.
        services: Vec<String>,
    },
    /// Replace every instance of these services by a fresh one, without losing requests.
    Restart {
        /// Their names, all when empty.
        services: Vec<String>,
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
        /// Which release, the one before the present when absent.
        release: Option<u64>,
    },
    /// End the engine; services run on when `keep_services`.
    Shutdown {
        /// Leave the services running for the next engine to adopt.
        keep_services: bool,
    },
}

/// What came of a command that was accepted. The change itself goes on in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// State revision that carries it.
    pub revision: u64,
    /// Services that change.
    pub changed: Vec<ServiceName>,
    /// Things worth knowing that do not stop it.
    pub warnings: Vec<Problem>,
    /// What was removed of builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
}

/// What was removed of builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Layers and caches.
    pub count: usize,
    /// What they took on disk.
    pub bytes: u64,
}

/// One message of the live stream: what a topic shows now, or what came since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveMessage {
    /// The topic as it was asked for: `overview`, `service:NAME`, `events` or `logs:QUERY`.
    pub topic: String,
    /// What it carries.
    #[serde(flatten)]
    pub body: LiveBody,
}

/// What a live message carries, by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "data")]
pub enum LiveBody {
    /// The overview as it is now.
    Overview(Box<Overview>),
    /// The service as it is now, `null` when there is none of that name.
    Service(Option<Box<ServiceDetail>>),
    /// Events since the last message.
    Events(LiveEvents),
    /// Log lines since the last message.
    Logs(LiveLogs),
}

/// Events of a live stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveEvents {
    /// These replace what was seen before: the first message, or another engine's events.
    pub fresh: bool,
    /// The events, oldest first.
    pub events: Vec<EventView>,
}

/// Log lines of a live stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveLogs {
    /// These are the newest lines so far, up to now; later messages carry what follows them.
    pub fresh: bool,
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// Lines that came too fast for a browser and were left out before these.
    pub skipped: u64,
}
