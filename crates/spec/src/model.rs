//! The typed model: what a Compose file means after everything in it is resolved.
//!
//! Not here: how it was written. Paths are absolute, variables are filled in, short forms are
//! spelled out. It is stored as JSON in a release and sent over HTTP, so every type reads back
//! what it writes. Places stay, so that later findings can point into the file; they take part in
//! `==`, so compare definitions with `diff`, which ignores them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::{Place, ServiceName};
use serde::{Deserialize, Serialize};

mod files;
mod hooks;
mod network;
mod rights;
mod rollout;

pub use files::{FileDef, FileSource, Grant};
pub use hooks::{Hook, Hooks};
pub use network::{DEFAULT_NETWORK, Dns, ExtraHost, NetworkDef, NetworkMode, Networking};
pub use rights::{Device, Kernel, Rights, Seccomp, Ulimit};
pub use rollout::{
    Balance, Constraint, Extension, FailureAction, Limits, Logging, Part, Placement, PortProtocols,
    Protocol, PullPolicy, Restart, RestartPace, Swap, UpdateConfig, UpdateOrder,
};

/// One Compose file's services under one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Name of the app: lower case letters, digits, `-` and `_`.
    pub name: String,
    /// The folder that relative paths start from; absolute.
    pub project_dir: PathBuf,
    /// The files that it was read from, in order.
    pub files: Vec<PathBuf>,
    /// The services that are active: those without a profile and those that a profile, or the
    /// command line, switched on.
    pub services: BTreeMap<ServiceName, Service>,
    /// Named volumes, by their name in the file.
    pub volumes: BTreeMap<String, VolumeDef>,
    /// Networks, by their name in the file. The default one is not among them unless it is said.
    #[serde(default)]
    pub networks: BTreeMap<String, NetworkDef>,
    /// Secrets, by their name in the file.
    #[serde(default)]
    pub secrets: BTreeMap<String, FileDef>,
    /// Configs, by their name in the file.
    #[serde(default)]
    pub configs: BTreeMap<String, FileDef>,
}

impl App {
    /// These services and all that they depend on; every service when none is named. Names that
    /// are no services are left out.
    pub fn with_dependencies(&self, services: &[ServiceName]) -> BTreeSet<ServiceName> {
        if services.is_empty() {
            return self.services.keys().cloned().collect();
        }
        let mut found = BTreeSet::new();
        let mut open = services.to_vec();
        while let Some(name) = open.pop() {
            if let Some(service) = self.services.get(&name)
                && found.insert(name)
            {
                open.extend(service.depends_on.iter().map(|d| d.service.clone()));
            }
        }
        found
    }
}

/// One service, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The image that the file names. Beside `native: true` it is for Docker's eyes only.
    pub image: Option<String>,
    /// How to build it, when the file says so.
    pub build: Option<Build>,
    /// Replaces the image's CMD. `None` keeps it; an empty list clears it.
    pub command: Option<Vec<String>>,
    /// Replaces the image's ENTRYPOINT, and with it its CMD. An empty list clears both.
    pub entrypoint: Option<Vec<String>>,
    /// Its environment, `env_file` included.
    pub environment: BTreeMap<String, String>,
    /// Where it starts. Inside a built image this is a path of the image; natively a relative one
    /// has been made absolute from the project folder.
    pub working_dir: Option<PathBuf>,
    /// User, or `user:group`, by name or number.
    pub user: Option<String>,
    /// Host name that it sees.
    pub hostname: Option<String>,
    /// Ports that the host publishes.
    pub ports: Vec<Port>,
    /// Ports that only other services reach; what the Dockerfile exposes is among them.
    pub expose: Vec<(u16, PortKind)>,
    /// What is mounted, ordered as written.
    pub volumes: Vec<Mount>,
    /// What must be there before it.
    pub depends_on: Vec<Dependency>,
    /// How to tell that it is healthy; the Dockerfile's, when the file has none.
    pub healthcheck: Option<Healthcheck>,
    /// What happens when it ends.
    pub restart: Restart,
    /// Signal that asks it to stop, such as `SIGINT`, the Dockerfile's when the file has none;
    /// `None` is SIGTERM.
    pub stop_signal: Option<String>,
    /// How long it may take to stop before it is killed.
    #[serde(with = "crate::duration")]
    pub stop_grace_period: Duration,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How many instances are wanted.
    pub replicas: u32,
    /// How a new release takes over.
    pub update: UpdateConfig,
    /// How a rollback goes; `None` is as an update.
    #[serde(default)]
    pub rollback: Option<UpdateConfig>,
    /// How fast it is started again.
    #[serde(default)]
    pub restart_pace: RestartPace,
    /// One instance on every node, instead of `replicas`.
    #[serde(default)]
    pub global: bool,
    /// Which nodes may run it.
    #[serde(default)]
    pub placement: Placement,
    /// What it may use at most, and what is set aside for it.
    pub limits: Limits,
    /// What its processes may do.
    #[serde(default)]
    pub rights: Rights,
    /// What of the kernel's own settings is its own.
    #[serde(default)]
    pub kernel: Kernel,
    /// How it is found and what it finds.
    #[serde(default)]
    pub networking: Networking,
    /// Secrets that it gets.
    #[serde(default)]
    pub secrets: Vec<Grant>,
    /// Configs that it gets.
    #[serde(default)]
    pub configs: Vec<Grant>,
    /// What runs beside its command.
    #[serde(default)]
    pub hooks: Hooks,
    /// What is kept of its output.
    #[serde(default)]
    pub logging: Logging,
    /// When its image is pulled.
    #[serde(default)]
    pub pull_policy: Option<PullPolicy>,
    /// Remarks for other programs.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The file asks for an init process. There always is one; this is what was said.
    pub init: bool,
    /// Profiles that it belongs to; empty means always.
    pub profiles: BTreeSet<String>,
    /// `x-mainspring`.
    pub extension: Extension,
    /// The part that stands in for its image.
    pub stand_in: Option<Part>,
    /// Where it is defined.
    pub place: Place,
}

impl Service {
    /// A service of this name about which nothing is said.
    pub fn new(name: ServiceName, place: Place) -> Service {
        Service {
            name,
            image: None,
            build: None,
            command: None,
            entrypoint: None,
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            ports: Vec::new(),
            expose: Vec::new(),
            volumes: Vec::new(),
            depends_on: Vec::new(),
            healthcheck: None,
            restart: Restart::No,
            stop_signal: None,
            stop_grace_period: Duration::from_secs(10),
            labels: BTreeMap::new(),
            replicas: 1,
            update: UpdateConfig::default(),
            rollback: None,
            restart_pace: RestartPace::default(),
            global: false,
            placement: Placement::default(),
            limits: Limits::default(),
            rights: Rights::default(),
            kernel: Kernel::default(),
            networking: Networking::default(),
            secrets: Vec::new(),
            configs: Vec::new(),
            hooks: Hooks::default(),
            logging: Logging::default(),
            pull_policy: None,
            annotations: BTreeMap::new(),
            init: false,
            profiles: BTreeSet::new(),
            extension: Extension::default(),
            stand_in: None,
            place,
        }
    }

    /// It runs from its Dockerfile; otherwise its command runs on the host as it is.
    pub fn uses_build(&self) -> bool {
        self.build.is_some() && !self.extension.native
    }

    /// What the file says that `port` speaks; `None` leaves it to be detected.
    pub fn protocol(&self, port: u16) -> Option<Protocol> {
        let said = match &self.extension.protocol {
            Some(PortProtocols::All(protocol)) => Some(*protocol),
            Some(PortProtocols::Each(by_port)) => by_port.get(&port).copied(),
            None => None,
        };
        said.or_else(|| {
            let mut ports = self.ports.iter().filter(|p| p.target == port);
            ports.find_map(Port::protocol_hint)
        })
    }

    /// Every TCP port that others may call: published and exposed, without repeats.
    pub fn tcp_ports(&self) -> BTreeSet<u16> {
        self.ports_of(PortKind::Tcp)
    }

    /// Every UDP port that others may send to.
    pub fn udp_ports(&self) -> BTreeSet<u16> {
        self.ports_of(PortKind::Udp)
    }

    fn ports_of(&self, wanted: PortKind) -> BTreeSet<u16> {
        let published = self.ports.iter().map(|p| (p.target, p.protocol));
        let all = published.chain(self.expose.iter().copied());
        all.filter(|(_, kind)| *kind == wanted).map(|(port, _)| port).collect()
    }
}

/// How to build a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The folder that COPY reads from; absolute.
    pub context: PathBuf,
    /// The Dockerfile; absolute. Not read when `dockerfile_inline` is there.
    pub dockerfile: PathBuf,
    /// The Dockerfile's text, when it stands in the Compose file.
    pub dockerfile_inline: Option<String>,
    /// The stage that is wanted; `None` is the last.
    pub target: Option<String>,
    /// Values of ARG.
    pub args: BTreeMap<String, String>,
    /// Further contexts, by the name that FROM and `--from` know them by.
    #[serde(default)]
    pub contexts: BTreeMap<String, NamedContext>,
    /// What `RUN --mount=type=secret` may ask for, by the last name of its target.
    #[serde(default)]
    pub secrets: Vec<Grant>,
    /// Sockets of agents for keys that `RUN --mount=type=ssh` may ask for, by name.
    #[serde(default)]
    pub ssh: BTreeMap<String, PathBuf>,
    /// Steps that were done before are done again.
    #[serde(default)]
    pub no_cache: bool,
    /// Where `build` stands.
    pub place: Place,
}

/// What a name stands for in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedContext {
    /// A folder of the host; absolute.
    Folder(PathBuf),
    /// Another image.
    Image(String),
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One published port; ranges are spelled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address to listen on; `None` means what the engine's default is.
    pub host_ip: Option<IpAddr>,
    /// The host's port; `None` means any free one.
    pub published: Option<u16>,
    /// The port that the service listens on.
    pub target: u16,
    /// Transport.
    pub protocol: PortKind,
    /// What is spoken, as the file says: `http`, `h2c`, …
    pub app_protocol: Option<String>,
    /// Name of the port, as the file says.
    pub name: Option<String>,
    /// Where it stands.
    pub place: Place,
}

impl Port {
    /// What `app_protocol`, or else the port's name, says that is spoken: the name is a protocol or
    /// begins with one and a dash, as in `http-admin`.
    pub fn protocol_hint(&self) -> Option<Protocol> {
        let named = |text: &str| {
            let first = text.split('-').next().unwrap_or_default().to_ascii_lowercase();
            match first.as_str() {
                "http" | "http1" | "http2" | "h2c" | "ws" | "grpc" => Some(Protocol::Http),
                "tcp" | "tls" | "https" | "redis" | "kafka" | "mysql" | "postgres"
                | "postgresql" | "mongo" | "mongodb" | "amqp" => Some(Protocol::Tcp),
                _ => None,
            }
        };
        let said = self.app_protocol.as_deref().and_then(named);
        said.or_else(|| self.name.as_deref().and_then(named))
    }
}

/// Something mounted into a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where the service sees it; absolute.
    pub target: PathBuf,
    /// The service may only read it.
    pub read_only: bool,
    /// A new volume stays empty: what the image has there is not put into it.
    #[serde(default)]
    pub no_copy: bool,
    /// Where it stands.
    pub place: Place,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A file or folder of the host.
    Bind {
        /// Its path; absolute.
        source: PathBuf,
        /// Make a folder when there is nothing.
        create_host_path: bool,
    },
    /// A volume of the app, a key of [`App::volumes`].
    Named {
        /// Its name in the file.
        name: String,
        /// What of it is mounted, which must be there; `None` is all of it.
        #[serde(default)]
        subpath: Option<PathBuf>,
    },
    /// A volume of the instance's own.
    Anonymous,
    /// Memory.
    Tmpfs {
        /// Most that it may hold, in bytes.
        size_bytes: Option<u64>,
        /// Permission bits of its root.
        mode: Option<u32>,
        /// Who owns its root, by number.
        #[serde(default)]
        owner: Owner,
        /// What is not to be done with files in it.
        #[serde(default)]
        without: Without,
    },
}

/// Who owns a folder, by number; `None` is root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Its user.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
}

/// What is not to be done with files of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Without {
    /// Run them.
    pub exec: bool,
    /// Gain their owner's rights by running them.
    pub suid: bool,
    /// Use them as devices.
    pub dev: bool,
}

/// A named volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDef {
    /// Its name outside the file: `app_key` unless the file says another.
    pub name: String,
    /// It is made by somebody else and must be there already.
    pub external: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is defined.
    pub place: Place,
}

/// What a service waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The service waited for.
    pub service: ServiceName,
    /// What must be true of it.
    pub condition: Condition,
    /// It must be there; else its absence is only a warning.
    pub required: bool,
    /// Restart with it when it is restarted by hand.
    pub restart: bool,
    /// Where it stands.
    pub place: Place,
}

/// What must be true of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It runs.
    ServiceStarted,
    /// Its health check passes.
    ServiceHealthy,
    /// It ended with exit code 0.
    ServiceCompletedSuccessfully,
}

/// How to tell that a service is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// What to run.
    pub test: Test,
    /// Time between two checks.
    #[serde(with = "crate::duration")]
    pub interval: Duration,
    /// How long one check may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Time after the start in which failures do not count.
    #[serde(with = "crate::duration")]
    pub start_period: Duration,
    /// Time between two checks in the start period.
    #[serde(with = "crate::duration")]
    pub start_interval: Duration,
}

impl Default for Healthcheck {
    /// Compose's defaults, and no test.
    fn default() -> Healthcheck {
        Healthcheck {
            test: Test::None,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
        }
    }
}

/// What a health check runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// Nothing: the check is off, and so is the Dockerfile's.
    None,
}
