//! The entries of a layer: gathered first, then hashed, then written.
//!
//! Invariants: a layer's folder that is named after a hash is complete when it has that name, and
//! never changes after; the hash covers everything in it but times.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Timespec, Timestamps};
use sha2::{Digest, Sha256};

use crate::view::{Found, OPAQUE, OPAQUE_OF_USERS, View};

/// Most entries of one layer.
const ENTRIES_MAX: usize = 500_000;

/// Why files could not be gathered or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Too many files.
    #[error("there are more than {0} files: exclude some in .dockerignore")]
    TooMany(usize),
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    move |cause| TreeError::Io { path: path.to_owned(), cause }
}

/// To whom the files of layers belong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owners {
    /// To whoever is said.
    #[default]
    Said,
    /// To this process's user, the only one that there is in a user namespace.
    One,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A folder; one that is opaque hides what lies below it.
    Folder { opaque: bool },
    /// A copy of a file.
    File { from: PathBuf },
    /// A file with this text.
    Text(String),
    /// A symbolic link.
    Link(PathBuf),
    /// Hides what lies below.
    Hidden,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) node: Node,
    pub(crate) mode: u32,
    /// User and group; those of this process when nothing is said.
    pub(crate) owner: Option<(u32, u32)>,
}

impl Entry {
    pub(crate) fn folder(mode: u32, owner: (u32, u32)) -> Entry {
        Entry { node: Node::Folder { opaque: false }, mode, owner: Some(owner) }
    }
}

/// Entries by their path, relative to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an entry at an absolute path, with the folders above it as `below` has them.
    pub(crate) fn add(&mut self, path: &Path, entry: Entry, below: &View) -> Result<(), TreeError> {
        let path = path.strip_prefix("/").unwrap_or(path);
        if self.0.len() >= ENTRIES_MAX {
            return Err(TreeError::TooMany(ENTRIES_MAX));
        }
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        for above in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            if matches!(self.0.get(above), Some(Entry { node: Node::Folder { .. }, .. })) {
                break;
            }
            let found = below.find(above, true).map_err(at(above))?;
            let folder = found.filter(Found::is_folder).map_or_else(
                || Entry::folder(0o755, (0, 0)),
                |found| {
                    let owner = (found.metadata.uid(), found.metadata.gid());
                    Entry::folder(found.metadata.mode() & 0o7777, owner)
                },
            );
            self.0.insert(above.to_owned(), folder);
        }
        self.0.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Whether an absolute path has an entry.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether what lies below is not seen at an absolute path.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        let path = path.strip_prefix("/").unwrap_or(path);
        let opaque = |above: &Path| {
            matches!(self.0.get(above), Some(Entry { node: Node::Folder { opaque: true }, .. }))
        };
        path.ancestors().skip(1).any(opaque)
    }

    /// The text that is written at an absolute path.
    pub(crate) fn text(&self, path: &Path) -> Option<&str> {
        match &self.0.get(path.strip_prefix("/").unwrap_or(path))?.node {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A hash over paths, kinds, permissions, owners and contents.
    pub(crate) fn fingerprint(&self) -> Result<String, TreeError> {
        let mut whole = Hash::default();
        for (path, entry) in &self.0 {
            whole.field(path.as_os_str().as_bytes());
            let (kind, content) = match &entry.node {
                Node::Folder { opaque: false } => ("folder", Vec::new()),
                Node::Folder { opaque: true } => ("opaque", Vec::new()),
                Node::File { from } => ("file", hash_file(from).map_err(at(from))?),
                Node::Text(text) => ("file", Sha256::digest(text).to_vec()),
                Node::Link(to) => ("link", to.as_os_str().as_bytes().to_vec()),
                Node::Hidden => ("hidden", Vec::new()),
            };
            whole.field(kind.as_bytes());
            whole.field(&entry.mode.to_le_bytes());
            let (user, group) = entry.owner.unwrap_or((u32::MAX, u32::MAX));
            whole.field(&user.to_le_bytes());
            whole.field(&group.to_le_bytes());
            whole.field(&content);
        }
        Ok(whole.finish())
    }

    /// Writes everything into `root`, which is made.
    pub(crate) fn write(&self, root: &Path, owners: Owners) -> Result<(), TreeError> {
        fs::create_dir(root).map_err(at(root))?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).map_err(at(root))?;
        for (path, entry) in &self.0 {
            let to = root.join(path);
            write(entry, &to, owners).map_err(at(&to))?;
        }
        // Folders are open to us until everything is in them.
        for (path, entry) in self.0.iter().rev() {
            if let Node::Folder { .. } = entry.node {
                let path = root.join(path);
                let bits = fs::Permissions::from_mode(entry.mode);
                fs::set_permissions(&path, bits).map_err(at(&path))?;
            }
        }
        Ok(())
    }
}

fn write(entry: &Entry, to: &Path, owners: Owners) -> io::Result<()> {
    let bits = || fs::Permissions::from_mode(entry.mode);
    let own = || match entry.owner {
        Some((user, group)) if owners == Owners::Said => lchown(to, Some(user), Some(group)),
        _ => Ok(()),
    };
    match &entry.node {
        Node::Folder { opaque } => {
            fs::create_dir(to)?;
            if *opaque {
                let mark = if owners == Owners::Said { OPAQUE } else { OPAQUE_OF_USERS };
                rustix::fs::setxattr(to, mark, b"y", rustix::fs::XattrFlags::empty())?;
            }
            own()
        }
        Node::File { from } => {
            // Shares blocks where the file system can.
            fs::copy(from, to)?;
            own()?;
            // After the owner, whose change clears some of them.
            fs::set_permissions(to, bits())?;
            let of = fs::metadata(from)?;
            let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let modified = Timespec { tv_sec: of.mtime(), tv_nsec: of.mtime_nsec() };
            let times = Timestamps { last_access: now, last_modification: modified };
            // By name: its own permissions may keep even its owner from opening it.
            Ok(rustix::fs::utimensat(rustix::fs::CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        Node::Text(text) => {
            fs::write(to, text)?;
            own()?;
            fs::set_permissions(to, bits())
        }
        Node::Link(target) => {
            symlink(target, to)?;
            own()
        }
        Node::Hidden => {
            let kind = rustix::fs::FileType::CharacterDevice;
            let none = rustix::fs::Mode::empty();
            Ok(rustix::fs::mknodat(rustix::fs::CWD, to, kind, none, 0)?)
        }
    }
}

/// A hash over fields.
#[derive(Default)]
pub(crate) struct Hash(Sha256);

impl Hash {
    /// With its length, so that no two lists of fields look alike.
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.field(text.as_bytes());
    }

    /// 128 bits are plenty against chance, and short enough for mount options.
    pub(crate) fn finish(self) -> String {
        self.0.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn hash_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().to_vec()),
            length => hash.update(&buffer[..length]),
        }
    }
}
