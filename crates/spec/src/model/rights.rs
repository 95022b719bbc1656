//! What a service is allowed to do, and what the kernel shows it: the model's isolation types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the processes of a service may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rights {
    /// Groups that they are in beside the user's own, by name or number.
    pub group_add: Vec<String>,
    /// Capabilities given beyond the engine's set: `NET_ADMIN`, without `CAP_`; or `ALL`.
    pub cap_add: BTreeSet<String>,
    /// Capabilities taken from the engine's set, in the same form.
    pub cap_drop: BTreeSet<String>,
    /// Every capability and device.
    pub privileged: bool,
    /// No program may gain rights by being run; `None` is the engine's own choice.
    pub no_new_privileges: Option<bool>,
    /// Which system calls are let through; `None` is the engine's own choice.
    pub seccomp: Option<Seccomp>,
    /// Its root file system cannot be written to; mounts say for themselves.
    pub read_only: bool,
    /// Devices of the host that it sees.
    pub devices: Vec<Device>,
}

/// Which system calls are let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// All of them.
    Unconfined,
    /// What this profile of Docker's form says; absolute.
    Profile(PathBuf),
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its path on the host; absolute.
    pub source: PathBuf,
    /// Where the service sees it; absolute.
    pub target: PathBuf,
    /// What may be done with it: some of `r`, `w` and `m`.
    pub permissions: String,
}

/// What of the kernel's own settings is the service's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kernel {
    /// Parameters of its namespaces, such as `kernel.msgmax`.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of each process by their names, such as `nofile`.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Size of `/dev/shm`, in bytes.
    pub shm_size_bytes: Option<u64>,
    /// How willingly it is killed when memory runs out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// A limit of each process; `None` is without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What holds until the process raises it.
    pub soft: Option<u64>,
    /// How far it may raise it.
    pub hard: Option<u64>,
}
