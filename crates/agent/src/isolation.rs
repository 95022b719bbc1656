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
    /// Not root, with user namespaces: own namespaces, and an image's files with one user.
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
    /// Whether an instance of an image can see that image's files.
    pub own_files: bool,
    /// How they come by their addresses.
    pub addressing: Addressing,
    /// What could not be had, one sentence each, with the reason.
    pub missing: Vec<String>,
}

/// What was found by trying.
pub(crate) struct Found {
    pub(crate) mode: Mode,
    pub(crate) own_files: bool,
    /// Why an instance cannot be born into its directory.
    pub(crate) no_directory: Option<String>,
    pub(crate) missing: Vec<String>,
}

/// What this machine allows, found by trying: who asks says little, since root may be one of a user
/// namespace or a container. `cgroup` is a directory to be born into, when there is one; `asked` is
/// the one way that is tried.
pub(crate) fn best(
    shim: &Path,
    state: (&Path, &Trash),
    cgroup: Option<&Path>,
    asked: Option<Mode>,
) -> Found {
    let attempt = |mode, image| match start::try_out(shim, state, (mode, image), cgroup) {
        Ok(()) => Ok(None),
        // An instance can do without its directory, not without its namespaces.
        Err(refused) if cgroup.is_some() => {
            start::try_out(shim, state, (mode, image), None).map(|()| Some(refused))
        }
        Err(refused) => Err(refused),
    };
    let plain = |missing| Found { mode: Mode::None, own_files: false, no_directory: None, missing };
    let refused = match (asked, rustix::process::geteuid().is_root()) {
        (Some(Mode::Full), _) => {
            let (mode, own_files) = (Mode::Full, true);
            return Found { mode, own_files, no_directory: None, missing: Vec::new() };
        }
        (Some(Mode::None), _) => return plain(Vec::new()),
        (None, true) => match attempt(Mode::Full, false) {
            Ok(no_directory) => {
                let (mode, own_files) = (Mode::Full, true);
                return Found { mode, own_files, no_directory, missing: Vec::new() };
            }
            Err(refused) => format!("this root may not: {refused}"),
        },
        _ => "not root".to_owned(),
    };
    let also = match attempt(Mode::User, true) {
        Ok(no_directory) => {
            let (mode, own_files) = (Mode::User, true);
            let missing = vec![format!("users of their own: {refused}")];
            return Found { mode, own_files, no_directory, missing };
        }
        Err(also) => also,
    };
    match attempt(Mode::User, false) {
        Ok(no_directory) => {
            let (mode, own_files) = (Mode::User, false);
            let missing = vec![format!("files of their own: {refused}; nor as a user: {also}")];
            Found { mode, own_files, no_directory, missing }
        }
        Err(also) => {
            let why = format!("{refused}; nor with user namespaces: {also}");
            plain(vec![format!("files and processes of their own: {why}")])
        }
    }
}
