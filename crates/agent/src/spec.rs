//! What to run: the agent's whole input for one instance.
//!
//! Not here: defaults from Compose. Whoever fills this in has resolved every name and path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base::InstanceId;
use serde::{Deserialize, Serialize};

/// One process to run, with everything it may see and use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Its name; unique among the instances of this agent.
    pub id: InstanceId,
    /// How often this instance was started before. Only recorded.
    pub attempt: u32,
    /// The program and its arguments; the program is looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts, as the instance sees it. Made in an overlay when missing.
    pub working_dir: PathBuf,
    /// Which files it sees.
    pub view: View,
    /// Folders and files put into that view.
    pub mounts: Vec<Mount>,
    /// Its host name; `None` keeps the machine's.
    pub hostname: Option<String>,
    /// What its `/etc/hosts` says besides `localhost`.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// Its own loopback address, where BPF can give it one.
    pub address: Option<Ipv4Addr>,
    /// What it may use.
    pub limits: Limits,
    /// `user`, `uid`, `user:group` or `uid:gid`; `None` keeps the engine's.
    pub user: Option<String>,
    /// What its processes may do.
    #[serde(default)]
    pub rights: Rights,
    /// What of the kernel's settings is its own.
    #[serde(default)]
    pub kernel: Kernel,
    /// How it looks up names that its hosts file lacks; `None` is as the machine does.
    #[serde(default)]
    pub resolver: Option<Resolver>,
    /// How to tell that it is healthy; `None` looks at `ports`.
    pub health: Option<HealthSpec>,
    /// Ports that it is expected to listen on. Without a health check the instance is healthy as
    /// soon as one of them accepts, or, with no port, once it has run for half a second.
    pub ports: Vec<u16>,
    /// It has no network but a loopback of its own.
    #[serde(default)]
    pub offline: bool,
    /// It reaches nothing but addresses of services, where it has an address of its own; elsewhere
    /// a warning says that it does.
    #[serde(default)]
    pub inside: bool,
    /// What is kept of its output.
    #[serde(default)]
    pub logging: Logging,
}

impl ProcessSpec {
    /// A command that sees the host's files and is limited by nothing.
    pub fn new(id: InstanceId, argv: Vec<String>) -> ProcessSpec {
        ProcessSpec {
            id,
            attempt: 0,
            argv,
            env: Vec::new(),
            working_dir: PathBuf::from("/"),
            view: View::Host,
            mounts: Vec::new(),
            hostname: None,
            hosts: Vec::new(),
            address: None,
            limits: Limits::default(),
            user: None,
            rights: Rights::default(),
            kernel: Kernel::default(),
            resolver: None,
            health: None,
            ports: Vec::new(),
            offline: false,
            inside: false,
            logging: Logging::default(),
        }
    }
}

/// What is kept of the output of an instance; what is `None` is as the agent has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Nothing.
    pub none: bool,
    /// A log file that reaches this size is put aside, in bytes.
    pub file_bytes: Option<u64>,
    /// How many files are kept, the one that is written to among them.
    pub files: Option<u32>,
}

/// What the processes of an instance may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rights {
    /// Groups beside the user's own, by name or number.
    pub group_add: Vec<String>,
    /// Capabilities beside the usual ones, such as `NET_ADMIN`; or `ALL`.
    pub cap_add: BTreeSet<String>,
    /// Usual capabilities that it does without; or `ALL`.
    pub cap_drop: BTreeSet<String>,
    /// Every capability and system call, and the machine's settings.
    pub privileged: bool,
    /// Whether programs may not gain rights by being run; `None` is that they may not.
    pub no_new_privileges: Option<bool>,
    /// Which system calls are let through.
    pub seccomp: Seccomp,
    /// Whether its files cannot be written to; mounts say for themselves.
    pub read_only: bool,
    /// Devices of the host that it sees.
    pub devices: Vec<Device>,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its path on the host, or that of a folder of them; absolute.
    pub source: PathBuf,
    /// Where the instance sees it; absolute.
    pub target: PathBuf,
    /// What may be done with it: some of `r`, `w` and `m`.
    pub permissions: String,
}

/// Which system calls are let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Those that programs need, not those that manage a machine.
    #[default]
    Usual,
    /// All.
    Unconfined,
    /// What this file, a profile of Docker's form, says.
    Profile(PathBuf),
}

/// What of the kernel's settings is an instance's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kernel {
    /// Parameters of its namespaces, such as `kernel.msgmax`.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of each process, soft and hard, by names such as `nofile`; `None` is no limit.
    pub ulimits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// Size of `/dev/shm`, in bytes.
    pub shm_size_bytes: Option<u64>,
    /// How willingly it is killed when memory runs out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// What is asked when a name is looked up. What is empty is as the machine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// Who is asked before the servers, which take over when it does not answer.
    pub first: Option<IpAddr>,
    /// Servers.
    pub servers: Vec<IpAddr>,
    /// Domains that are tried behind a short name.
    pub search: Vec<String>,
    /// Options, such as `ndots:2`.
    pub options: Vec<String>,
}

/// Which files an instance sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// The host's own files; what it writes is real.
    #[default]
    Host,
    /// The host's files under these layers, first on top; what it writes is private and goes with
    /// the instance.
    Overlay {
        /// Folders laid over the root, first on top.
        layers: Vec<PathBuf>,
    },
    /// An image's files: layers over a base, with the image's own `/tmp` and `/run`; what it
    /// writes is private and goes with the instance.
    Image {
        /// The image's layers, first on top.
        layers: Vec<PathBuf>,
        /// What lies below them.
        base: Base,
    },
}

/// What lies below an image's layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// The host's own files.
    #[default]
    Host,
    /// Nothing.
    Empty,
}

/// A folder or file put into the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is put there.
    pub source: MountSource,
    /// Where, as the instance sees it; absolute.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A folder or file of the host; made as a folder when missing.
    Path(PathBuf),
    /// What is at a path inside a folder of the host, which is made when missing; links lead
    /// nowhere else.
    Within(PathBuf, PathBuf),
    /// Memory, empty at first.
    Tmpfs {
        /// Most bytes it holds; `None` is the kernel's default, half of memory.
        size_bytes: Option<u64>,
        /// Permission bits; `None` is 1777.
        mode: Option<u32>,
        /// User and group that own it; `None` is root.
        #[serde(default)]
        owner: (Option<u32>, Option<u32>),
        /// Whether programs in it are not run.
        #[serde(default)]
        no_exec: bool,
    },
}

/// What an instance may use; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together, in bytes; `u64::MAX` is as much as there is. Without it a limit
    /// of memory is one of both.
    pub memory_and_swap_bytes: Option<u64>,
    /// Memory that is taken from others first, in bytes.
    pub memory_reserved_bytes: Option<u64>,
    /// Processors, such as 0.5.
    pub cpus: Option<f64>,
    /// Its weight when processors are short; others have 1024.
    pub cpu_shares: Option<u32>,
    /// Processors that may run it, such as `0-3,7`.
    pub cpuset: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// When an instance counts as healthy: Compose's `healthcheck`, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// What is tried.
    pub test: HealthTest,
    /// Time between tries once it has been healthy or `start_period` is over.
    pub interval: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures in this time after the start do not count.
    pub start_period: Duration,
    /// Time between tries during `start_period`.
    pub start_interval: Duration,
}

/// What a health check tries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthTest {
    /// Runs this inside the instance; exit code 0 is healthy.
    Exec(Vec<String>),
    /// Runs this with `/bin/sh -c` inside the instance; exit code 0 is healthy.
    Shell(String),
    /// Connects to each of these; healthy when all accept.
    Tcp(Vec<SocketAddr>),
}
