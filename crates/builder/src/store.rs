//! Where layers are kept: folders named after what is in them, or after what made them.
//!
//! Invariants: a layer is complete when it has its name, also after a crash of the machine; it never
//! changes after; one that a release uses is never removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base::UnixNanos;
use rustix::fs::{Timespec, Timestamps};

use crate::tree::{Owners, Tree, TreeError, at};

/// Layers.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    layers: PathBuf,
    pub(crate) owners: Owners,
}

impl Store {
    pub(crate) fn open(layers: &Path, owners: Owners) -> Result<Store, TreeError> {
        fs::create_dir_all(layers).map_err(at(layers))?;
        Ok(Store { layers: layers.to_owned(), owners })
    }

    /// Gives a file or folder to somebody, root when nobody is said.
    pub(crate) fn give(
        &self,
        path: &Path,
        user: Option<u32>,
        group: Option<u32>,
    ) -> Result<(), TreeError> {
        match self.owners {
            Owners::One => Ok(()),
            Owners::Said => {
                let (user, group) = (user.or(Some(0)), group.or(Some(0)));
                std::os::unix::fs::chown(path, user, group).map_err(at(path))
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.layers.join(name)
    }

    /// A layer that is there; it counts as used now.
    pub(crate) fn get(&self, name: &str) -> Option<PathBuf> {
        let path = self.path(name);
        let folder = fs::File::open(&path).ok()?;
        touch(&folder);
        Some(path)
    }

    /// Whether a layer is still there; it counts as used now.
    pub(crate) fn touch(&self, layer: &Path) -> bool {
        layer.file_name().is_some_and(|name| self.get(&name.to_string_lossy()).is_some())
    }

    /// The layer of a step, the newest when it was made anew.
    pub(crate) fn newest(&self, key: &str) -> Option<PathBuf> {
        let again = |name: &str| match name.strip_prefix(key)? {
            "" => Some(0),
            rest => rest.strip_prefix('-')?.parse::<u32>().ok(),
        };
        let names = fs::read_dir(&self.layers).ok()?.flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let newest = names.filter_map(|name| Some((again(&name)?, name))).max()?;
        self.get(&newest.1)
    }

    /// The layer that holds a tree; whether it is new.
    pub(crate) fn put(&self, tree: &Tree) -> Result<(PathBuf, bool), TreeError> {
        self.put_as(tree, "")
    }

    /// The same; `mark` ends its name.
    pub(crate) fn put_as(&self, tree: &Tree, mark: &str) -> Result<(PathBuf, bool), TreeError> {
        let mut name = tree.fingerprint()?;
        if self.owners == Owners::One {
            // The same files are another layer when all of them belong to one.
            name.push_str("-one");
        }
        name.push_str(mark);
        if let Some(path) = self.get(&name) {
            return Ok((path, false));
        }
        let aside = self.layers.join(format!(".{name}.{}.new", std::process::id()));
        let _left_over = fs::remove_dir_all(&aside);
        let written = tree.write(&aside, self.owners).and_then(|()| self.adopt(&aside, &name));
        if written.is_err() {
            let _rest = fs::remove_dir_all(&aside);
        }
        written.map(|path| (path, true))
    }

    /// Makes a folder of the same file system a layer. What it holds is on disk before it has the
    /// name.
    pub(crate) fn adopt(&self, folder: &Path, name: &str) -> Result<PathBuf, TreeError> {
        let path = self.path(name);
        let store = fs::File::open(&self.layers).map_err(at(&self.layers))?;
        rustix::fs::syncfs(&store).map_err(|e| at(&self.layers)(e.into()))?;
        match fs::rename(folder, &path) {
            // Somebody else was faster with the same.
            Err(_) if path.is_dir() => {
                let _rest = fs::remove_dir_all(folder);
            }
            renamed => renamed.map_err(at(&path))?,
        }
        Ok(path)
    }
}

/// Notes that something is used now.
pub(crate) fn touch(folder: &fs::File) {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    // What cannot be noted goes early, and is made again.
    let _noted = rustix::fs::futimens(folder, &times);
}

/// What is kept beside what releases use.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Layers that nobody used for longer go.
    pub age: Duration,
    /// When all layers together take more bytes, those go that were not used for longest.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { age: Duration::from_secs(14 * 24 * 3600), bytes: 20 << 30 }
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers and caches.
    pub count: usize,
    /// What they took on disk.
    pub bytes: u64,
}

/// A layer that was used so recently may belong to a release that is only being made.
const FRESH: Duration = Duration::from_secs(600);

/// The layers of `store` that may go, with their size: those that are not among `used` and that `keep` does not
/// cover, and what a crash left half made. Nothing may be built meanwhile.
pub(crate) fn surplus(
    store: &Path,
    used: &[PathBuf],
    keep: Keep,
    now: UnixNanos,
) -> io::Result<Vec<(PathBuf, u64)>> {
    let (mut total, mut others, mut surplus) = (0u64, Vec::new(), Vec::new());
    let now = Duration::from_nanos(now.0);
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let bytes = size(&path);
        if name.as_encoded_bytes().starts_with(b".") {
            surplus.push((path, bytes));
            continue;
        }
        total += bytes;
        // By name: the store may be known under several paths.
        if !used.iter().any(|used| used.file_name() == Some(&name)) {
            let modified = entry.metadata()?.modified()?;
            let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            others.push((since, bytes, path));
        }
    }
    others.sort();
    for (used_at, bytes, path) in others {
        let age = now.saturating_sub(used_at);
        if age > keep.age || (total > keep.bytes && age > FRESH) {
            surplus.push((path, bytes));
            total -= bytes;
        }
    }
    Ok(surplus)
}

/// Bytes on disk of a folder with everything in it.
fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    let mut next = vec![folder.to_owned()];
    while let Some(folder) = next.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                next.push(entry.path());
            }
        }
    }
    bytes
}
