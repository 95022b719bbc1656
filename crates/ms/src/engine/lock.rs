//! One engine per state folder: a lock that dies with its holder, and the pid for people.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use base::Problem;
use rustix::fs::{FlockOperation, flock};

/// Held for as long as the engine runs.
pub(crate) struct StateLock {
    _file: File,
}

/// Makes the state folder and locks it.
///
/// `engine.pid` is the lock file too: it is written after the lock is had, never removed, and
/// tells the truth only while somebody holds the lock.
pub(crate) fn lock(state: &Path) -> Result<StateLock, Problem> {
    let path = state.join("engine.pid");
    let refuse = |what: &str, error: std::io::Error| {
        let next = match error.kind() {
            std::io::ErrorKind::StorageFull => "make room on its disk, then try again",
            _ => "give a folder that you may write to with --state",
        };
        Problem::new("state-folder", format!("cannot {what} `{}`", path.display()))
            .with_cause(error.to_string())
            .with_next(next)
    };
    std::fs::create_dir_all(state).map_err(|e| refuse("make the folder of", e))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|e| refuse("open", e))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let pid = std::fs::read_to_string(&path).unwrap_or_default();
        Problem::new("engine-runs", format!("an engine runs in `{}` already", state.display()))
            .with_cause(format!("process {} holds its lock", pid.trim()))
            .with_next("use it, or give another folder with --state")
    })?;
    let pid = format!("{}\n", std::process::id());
    // Over what is there: a file that was emptied may find no room on a full disk.
    file.write_all_at(pid.as_bytes(), 0)
        .and_then(|()| file.set_len(pid.len() as u64))
        .map_err(|e| refuse("write", e))?;
    Ok(StateLock { _file: file })
}

/// The state folder as it was when the engine opened it.
pub(super) struct Folder {
    records: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Folder {
    /// Remembers which file the records are in.
    pub(super) fn new(records: PathBuf) -> Folder {
        let identity = Folder::identity(&records);
        Folder { records, identity }
    }

    /// Whether the records are still where they were. Once they are not, nothing that the engine
    /// writes is kept.
    pub(super) fn is_there(&self) -> bool {
        Folder::identity(&self.records) == self.identity
    }

    fn identity(path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
    }
}

/// Whether an engine holds a state folder now.
pub(crate) fn is_locked(state: &Path) -> bool {
    let file = File::open(state.join("engine.pid"));
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_engine_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let problem = lock(dir.path()).err().unwrap();
        assert_eq!(problem.code, "engine-runs");
        assert!(problem.cause.unwrap().contains(&std::process::id().to_string()));
        assert!(is_locked(dir.path()));
        drop(first);
        assert!(!is_locked(dir.path()));
        assert!(lock(dir.path()).is_ok());
    }
}
