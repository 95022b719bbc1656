//! A scope of systemd's for the engine: a cgroup of its own, in which it may set limits.
//!
//! Where cgroups are of the second version alone, a cgroup that has processes, such as that of a
//! login, gives none of its controllers to children; and the others belong to systemd, which asks
//! that it be asked. Not here: what is done with the cgroup, which the agent finds out by trying.
//!
//! Invariant: an engine in a scope lives at least as long as one that is in none: as an ordinary
//! user only where processes outlive the login.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How to run a program in a scope of its own, or `None` where that would be of no use.
pub(crate) fn command(program: &Path, state: &Path) -> Option<Command> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    if !Path::new("/run/systemd/system").is_dir() || !unified(&mounts) {
        return None;
    }
    let mut command = Command::new(in_path("systemd-run", &std::env::var_os("PATH")?)?);
    if !rustix::process::geteuid().is_root() {
        let name = std::env::var_os("USER")?;
        if !Path::new("/var/lib/systemd/linger").join(name).exists() {
            return None;
        }
        command.arg("--user");
    }
    command
        .args(["--scope", "--quiet", "--collect", "--property=Delegate=yes"])
        .arg(format!("--description=ms engine of {}", state.display()))
        .arg("--")
        .arg(program);
    Some(command)
}

/// Whether this, the log of a program that has ended, says that there is no scope to be had, and the
/// program never ran.
pub(crate) fn refused(log: &str) -> bool {
    log.starts_with("Failed to ")
}

/// Whether the controllers are in cgroup2, by a text like `/proc/self/mountinfo`.
fn unified(mounts: &str) -> bool {
    let kinds = || mounts.lines().filter_map(|line| line.split_once(" - ")?.1.split(' ').next());
    kinds().any(|kind| kind == "cgroup2") && !kinds().any(|kind| kind == "cgroup")
}

fn in_path(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_the_second_version_is_alone() {
        let second = "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let first = "30 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        assert!(unified(second));
        assert!(!unified(first));
        assert!(!unified(&format!("{second}\n{first}")));
        assert!(!unified(""));
    }
}
