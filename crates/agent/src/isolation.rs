//! How far instances are kept apart on this machine.

use serde::{Deserialize, Serialize};

/// How instances are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Root: own view of the files, own namespaces, limits.
    Full,
    /// Not root, with user namespaces: own namespaces over the host's files.
    User,
    /// Plain processes.
    None,
}

/// How instances come by their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addressing {
    /// BPF gives each its own loopback address: every replica may listen on the same port.
    Own,
    /// All share the host's ports: each is told its own port.
    Port,
}

/// What was chosen, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// How instances are kept apart.
    pub mode: Mode,
    /// How they come by their addresses.
    pub addressing: Addressing,
    /// What could not be had, one sentence each, with the reason.
    pub missing: Vec<String>,
}

/// What this machine allows.
pub(crate) fn best() -> (Mode, Vec<String>) {
    if rustix::process::geteuid().is_root() && can_unshare(libc::CLONE_NEWNS | libc::CLONE_NEWPID) {
        return (Mode::Full, Vec::new());
    }
    let user = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    if can_unshare(user) {
        return (Mode::User, vec!["own addresses and limits: not root".to_owned()]);
    }
    let why = "instances share the host's files and processes: not root, and user namespaces are \
               refused here";
    (Mode::None, vec![why.to_owned()])
}

/// Tries it in a process of its own, since the trial changes who tries.
fn can_unshare(flags: i32) -> bool {
    let mut trial = std::process::Command::new("/proc/self/exe");
    crate::shim::trial(&mut trial, flags);
    trial.status().is_ok_and(|status| status.success())
}
