//! Deleting trees: out of sight at once, gone later.
//!
//! A tree that goes is first renamed into the `trash` folder of the state, so that no crash leaves
//! half of it where it was and nobody waits for a large one. What lies there is deleted beside
//! everything else, and by the next engine when this one ends before.
//!
//! Not here: what may go.
//!
//! Invariants: a symlink is removed, never followed; another file system that is mounted inside a
//! tree is not entered, only one that was named itself; as many descriptors are open as
//! [`DEPTH_MAX`] at most, however deep a tree is; a stop is noticed at the next entry.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

/// How deep a tree is followed; what is deeper becomes a tree of its own.
const DEPTH_MAX: usize = 32;

/// How often a folder is read again in which something appeared meanwhile.
const PASSES_MAX: usize = 8;

/// The trees of one state folder that are to go.
#[derive(Debug)]
pub(crate) struct Trash {
    folder: PathBuf,
    next: AtomicU64,
    stopped: AtomicBool,
    /// What could not be renamed, such as a mount point.
    in_place: Mutex<Vec<PathBuf>>,
    /// Told when there is something to delete.
    filled: Notify,
    /// Held by who deletes.
    emptying: tokio::sync::Mutex<()>,
}

impl Trash {
    pub(crate) fn new(state: &Path) -> Trash {
        Trash {
            folder: state.join("trash"),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            in_place: Mutex::default(),
            filled: Notify::new(),
            emptying: tokio::sync::Mutex::default(),
        }
    }

    /// Takes a file or folder out of sight, to be deleted; it need not exist.
    pub(crate) fn take(&self, path: &Path) -> io::Result<()> {
        let taken = match self.rename_away(CWD, path) {
            // Mounted, or on another file system; or no room for its new name, which it makes.
            Err(Errno::BUSY | Errno::XDEV | Errno::NOSPC | Errno::DQUOT) => {
                let mut in_place = self.in_place.lock().unwrap_or_else(PoisonError::into_inner);
                in_place.push(path.to_owned());
                Ok(())
            }
            taken => taken,
        };
        self.filled.notify_one();
        Ok(taken?)
    }

    fn rename_away(&self, above: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result {
        match rustix::fs::mkdir(&self.folder, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            // With the state folder gone, so is everything in it.
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e),
        }
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let aside = self.folder.join(number.to_string());
            let flags = RenameFlags::NOREPLACE;
            let renamed = match rustix::fs::renameat_with(above, name, CWD, &aside, flags) {
                // Not every file system can refuse to replace; a folder with something in it is
                // never replaced.
                Err(Errno::INVAL) => rustix::fs::renameat(above, name, CWD, &aside),
                renamed => renamed,
            };
            match renamed {
                // Left by an earlier engine.
                Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(Errno::NOENT) => return Ok(()),
                renamed => return renamed,
            }
        }
    }

    /// Deletes whatever is taken for as long as this is polled.
    pub(crate) async fn keep_empty(self: Arc<Trash>) {
        loop {
            self.delete_all().await;
            self.filled.notified().await;
        }
    }

    /// Deletes what was taken so far; returns when it is gone, cannot go, or the end is near.
    pub(crate) async fn delete_all(self: &Arc<Trash>) {
        let _one_at_a_time = self.emptying.lock().await;
        let trash = self.clone();
        // What stays, for whatever reason, is tried again by the next engine.
        let _stays = tokio::task::spawn_blocking(move || trash.empty()).await;
    }

    /// Lets whoever deletes end at the next entry.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Deletes what was taken so far. Blocks for as long as that takes.
    fn empty(&self) -> Result {
        let named: Vec<_> =
            std::mem::take(&mut *self.in_place.lock().unwrap_or_else(PoisonError::into_inner));
        let mut result = Ok(());
        for path in named {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let emptied = rustix::fs::open(&path, flags, Mode::empty())
                .and_then(|folder| self.empty_folder(&folder, 0));
            let _mounted = rustix::fs::rmdir(&path);
            result = result.and(emptied);
        }
        loop {
            let before = self.next.load(Ordering::Relaxed);
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let emptied = match rustix::fs::open(&self.folder, flags, Mode::empty()) {
                Ok(folder) => self.empty_folder(&folder, 0),
                Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e),
            };
            // Again while something is put there, by the depths of a tree too.
            if emptied.is_err() || before == self.next.load(Ordering::Relaxed) {
                return result.and(emptied);
            }
        }
    }

    /// Deletes all that is in a folder and can go.
    fn empty_folder(&self, folder: &OwnedFd, depth: usize) -> Result {
        let mut result = Ok(());
        for entry in Dir::read_from(folder)? {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Errno::CANCELED);
            }
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                result = result.and(self.delete(folder.as_fd(), entry.file_name(), depth));
            }
        }
        result
    }

    fn delete(&self, above: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result {
        let unlink = || rustix::fs::unlinkat(above, name, AtFlags::empty());
        let unlinked = match unlink() {
            // A folder that its owner may not write to, as package caches have them.
            Err(Errno::ACCESS) => rustix::fs::fchmod(above, Mode::RWXU).and_then(|()| unlink()),
            unlinked => unlinked,
        };
        let refused = match unlinked {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(e @ (Errno::ISDIR | Errno::PERM)) => e,
            Err(e) => return Err(e),
        };
        if depth == DEPTH_MAX {
            return self.rename_away(above, name);
        }
        let folder = match open_folder(above, name) {
            // A folder without permission bits, as an overlay's work folder is.
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(above, name, Mode::RWXU, AtFlags::empty())?;
                open_folder(above, name)?
            }
            Err(Errno::NOTDIR) => return Err(refused),
            opened => opened?,
        };
        for _ in 0..PASSES_MAX {
            self.empty_folder(&folder, depth + 1)?;
            match rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY) => {}
                Err(Errno::NOENT) => return Ok(()),
                removed => return removed,
            }
        }
        Err(Errno::NOTEMPTY)
    }
}

type Result = rustix::io::Result<()>;

fn open_folder(above: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let here = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(above, name, flags, Mode::empty(), here)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn tree(path: &Path) {
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/file"), "x").unwrap();
        fs::write(path.join("file"), "x").unwrap();
        fs::create_dir(path.join("closed")).unwrap();
        fs::write(path.join("closed/file"), "x").unwrap();
        fs::set_permissions(path.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    }

    fn left(state: &Path) -> usize {
        fs::read_dir(state.join("trash")).map_or(0, Iterator::count)
    }

    #[test]
    fn a_tree_is_out_of_sight_at_once_and_gone_later() {
        let state = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("stays"), "x").unwrap();
        let victim = state.path().join("victim");
        let trash = Trash::new(state.path());
        for _ in 0..2 {
            tree(&victim);
            symlink(outside.path(), victim.join("a/out")).unwrap();
            trash.take(&victim).unwrap();
            assert!(!victim.exists());
        }
        trash.take(&victim).unwrap();
        assert_eq!(left(state.path()), 2);
        trash.empty().unwrap();
        assert_eq!(left(state.path()), 0);
        assert!(outside.path().join("stays").exists());
        let mode = fs::metadata(state.path().join("trash")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_one_leaves_the_next_deletes() {
        let state = tempfile::tempdir().unwrap();
        let victim = state.path().join("victim");
        let first = Trash::new(state.path());
        tree(&victim);
        first.take(&victim).unwrap();
        first.stop();
        assert_eq!(first.empty(), Err(Errno::CANCELED));
        assert_eq!(left(state.path()), 1);
        let second = Trash::new(state.path());
        tree(&victim);
        second.take(&victim).unwrap();
        assert_eq!(left(state.path()), 2);
        second.empty().unwrap();
        assert_eq!(left(state.path()), 0);
    }

    #[test]
    fn no_depth_is_too_deep() {
        let state = tempfile::tempdir().unwrap();
        let victim = state.path().join("victim");
        fs::create_dir(&victim).unwrap();
        // Several times as deep as descriptors are open.
        let mut at: OwnedFd = fs::File::open(&victim).unwrap().into();
        for _ in 0..300 {
            rustix::fs::mkdirat(&at, "dd", Mode::RWXU).unwrap();
            at = open_folder(at.as_fd(), c"dd").unwrap();
        }
        let trash = Trash::new(state.path());
        trash.take(&victim).unwrap();
        trash.empty().unwrap();
        assert_eq!(left(state.path()), 0);
    }

    #[test]
    fn a_state_folder_that_is_gone_is_no_error() {
        let state = tempfile::tempdir().unwrap();
        let trash = Trash::new(&state.path().join("gone"));
        trash.take(&state.path().join("gone/victim")).unwrap();
        trash.empty().unwrap();
    }
}
