//! The files of each instance: `INSTANCE/current.log` and, set aside, `INSTANCE/UNIX_NANOS.log`.
//!
//! Invariants: other names are left alone; what vanishes while it is looked at is passed over.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base::InstanceId;

use super::{LogError, Pruned};

/// The file that an instance writes to.
pub(super) const CURRENT: &str = "current.log";

/// A file that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// Its number: when it was set aside, in nanoseconds.
    pub nanos: u64,
    pub ino: u64,
    pub bytes: u64,
    pub path: PathBuf,
}

/// Every instance that has a folder, with it, by name.
pub(super) fn instances(dir: &Path) -> Result<Vec<(InstanceId, PathBuf)>, LogError> {
    let failed = |source| LogError::Io { action: "read", path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((id, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The files of one instance that were set aside, oldest first.
pub(super) fn aside(folder: &Path) -> io::Result<Vec<Aside>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        let Some(nanos) = number else { continue };
        let Ok(stat) = entry.metadata() else { continue };
        let (ino, bytes, path) = (stat.ino(), stat.len(), entry.path());
        found.push(Aside { nanos, ino, bytes, path });
    }
    found.sort_by_key(|file| file.nanos);
    Ok(found)
}

/// The current file of an instance, and those that were set aside before it, oldest first.
pub(super) fn now(folder: &Path) -> io::Result<(Option<File>, Vec<Aside>)> {
    // Opened before the others are listed: when it is set aside in between, it is listed too, is
    // known by its inode, and ends the list.
    let current = open(&folder.join(CURRENT))?;
    let ino = current.as_ref().map(File::metadata).transpose()?.map(|stat| stat.ino());
    let mut older = aside(folder)?;
    if let Some(at) = older.iter().position(|file| Some(file.ino) == ino) {
        older.truncate(at);
    }
    Ok((current, older))
}

/// Opens a file for reading; `None` when there is none.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Deletes the oldest files that were set aside until `bytes_max` are kept.
pub(super) fn prune(dir: &Path, bytes_max: u64) -> Result<Pruned, LogError> {
    let mut pruned = Pruned::default();
    let mut old = Vec::new();
    for (_, folder) in instances(dir)? {
        let failed = |source| LogError::Io { action: "read", path: folder.clone(), source };
        let files = aside(&folder).map_err(failed)?;
        pruned.bytes_left += files.iter().map(|file| file.bytes).sum::<u64>();
        pruned.bytes_left += fs::metadata(folder.join(CURRENT)).map_or(0, |stat| stat.len());
        old.extend(files);
    }
    old.sort_by_key(|file| file.nanos);
    for file in old {
        if pruned.bytes_left <= bytes_max {
            break;
        }
        match fs::remove_file(&file.path) {
            Ok(()) => {
                pruned.files += 1;
                pruned.bytes += file.bytes;
            }
            Err(e) if gone(&e) => {}
            Err(source) => {
                return Err(LogError::Io { action: "delete", path: file.path, source });
            }
        }
        pruned.bytes_left = pruned.bytes_left.saturating_sub(file.bytes);
    }
    Ok(pruned)
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prunes_the_oldest_over_all_instances_and_never_the_current() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("web.1/current.log", 50),
            ("web.1/30.log", 10),
            ("web.1/10.log", 10),
            ("db.1/20.log", 10),
            ("db.1/notes.txt", 99),
            ("not an instance/5.log", 99),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![b'x'; bytes]).unwrap();
        }
        let pruned = prune(dir.path(), 65).unwrap();
        assert_eq!(pruned, Pruned { files: 2, bytes: 20, bytes_left: 60 });
        let there = |name: &str| dir.path().join(name).exists();
        assert!(there("web.1/30.log") && !there("web.1/10.log") && !there("db.1/20.log"));
        let pruned = prune(dir.path(), 0).unwrap();
        assert_eq!(pruned, Pruned { files: 1, bytes: 10, bytes_left: 50 });
        assert!(there("web.1/current.log") && there("db.1/notes.txt"));
        assert!(there("not an instance/5.log"));
    }
}
