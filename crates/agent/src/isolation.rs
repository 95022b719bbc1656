//! How far instances are kept apart on this machine.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::start;
use crate::trash::Trash;

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

impl Addressing {
    /// The edge may listen on UDP at service addresses. Where instances have addresses of their own
    /// the BPF programs move TCP alone: a UDP socket of an instance on any address is the host's,
    /// and could not be bound beside the edge's.
    pub fn takes_udp(self) -> bool {
        self == Addressing::Port
    }
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

/// What this machine allows, found by trying: who asks says little, since root may be one of a user
/// namespace or a container. `cgroup` is a directory to be born into, when there is one.
pub(crate) fn best(
    shim: &Path,
    state: (&Path, &Trash),
    cgroup: Option<&Path>,
) -> (Mode, Option<String>, Vec<String>) {
    let attempt = |mode| match start::try_out(shim, state, mode, cgroup) {
        Ok(()) => Ok(None),
        // An instance can do without its directory, not without its namespaces.
        Err(refused) if cgroup.is_some() => {
            start::try_out(shim, state, mode, None).map(|()| Some(refused))
        }
        Err(refused) => Err(refused),
    };
    let refused = match rustix::process::geteuid().is_root() {
        true => match attempt(Mode::Full) {
            Ok(no_cgroup) => return (Mode::Full, no_cgroup, Vec::new()),
            Err(refused) => format!("this root may not: {refused}"),
        },
        false => "not root".to_owned(),
    };
    match attempt(Mode::User) {
        Ok(no_cgroup) => (Mode::User, no_cgroup, vec![format!("files of their own: {refused}")]),
        Err(also) => {
            let why = format!("{refused}; nor with user namespaces: {also}");
            (Mode::None, None, vec![format!("files and processes of their own: {why}")])
        }
    }
}
