//! How the engine ends, and the wish for it, which outlives an engine that dies on the way.
//!
//! Invariant: the file is there from before control is told to stop everything until either all of
//! it is gone or somebody asks for an app again; unless the disk is full, which stopping may change.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What is to be done once nothing of the app runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WhenDown {
    /// The engine ends as well.
    pub(super) exit: bool,
    /// The data in named volumes goes.
    pub(super) volumes: bool,
}

impl WhenDown {
    /// The wish that an earlier engine left unfulfilled.
    pub(super) fn read(state_dir: &Path) -> Option<WhenDown> {
        serde_json::from_slice(&std::fs::read(path(state_dir)).ok()?).ok()
    }

    /// Keeps the wish.
    pub(super) fn keep(self, state_dir: &Path) -> io::Result<()> {
        std::fs::write(path(state_dir), serde_json::to_vec(&self)?)
    }

    /// Forgets it. A file that cannot be removed is as good as gone once it says nothing.
    pub(super) fn forget(state_dir: &Path) {
        let path = path(state_dir);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            let _ = std::fs::write(&path, "");
        }
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("ending")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_kept_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(WhenDown::read(dir.path()), None);
        let wish = WhenDown { exit: true, volumes: true };
        wish.keep(dir.path()).unwrap();
        assert_eq!(WhenDown::read(dir.path()), Some(wish));
        WhenDown::forget(dir.path());
        WhenDown::forget(dir.path());
        assert_eq!(WhenDown::read(dir.path()), None);
    }
}
