//! How far instances are kept apart on this machine.

use std::path::Path;

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

/// What this machine allows; `shim` is the executable that tries it.
pub(crate) fn best(shim: &Path) -> (Mode, Vec<String>) {
    let is_root = rustix::process::geteuid().is_root();
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    if is_root && can_unshare(shim, own) {
        return (Mode::Full, Vec::new());
    }
    let why = if is_root { "root lacks CAP_SYS_ADMIN here" } else { "not root" };
    if can_unshare(shim, libc::CLONE_NEWUSER | own) {
        return (Mode::User, vec![format!("files of their own: {why}")]);
    }
    let why = format!("files and processes of their own: {why}, and user namespaces are refused");
    (Mode::None, vec![why])
}

/// Tries it in a process of its own, since the trial changes who tries.
fn can_unshare(shim: &Path, flags: i32) -> bool {
    let mut trial = std::process::Command::new(shim);
    crate::shim::trial(&mut trial, flags);
    trial.status().is_ok_and(|status| status.success())
}
