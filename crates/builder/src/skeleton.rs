//! The host's own folders again, as the user's: a layer for images whose files all belong to one.
//!
//! In a user namespace the host's files belong to nobody that is there. They can be read and hidden,
//! but nothing can be put beside them while their folder is nobody's, and none can be changed. So
//! this layer has the folders of the system, and copies of the small files that programs change
//! in place: settings, and what Debian's package tools keep.
//!
//! Not here: people's folders, which no image has.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::base_image::SYSTEM;
use crate::tree::{Entry, Node, Tree, TreeError, at};
use crate::view::View;

/// How the names of such layers end.
pub(crate) const MARK: &str = "-host";

/// Whether a layer is such.
pub(crate) fn is(layer: &Path) -> bool {
    layer.file_name().is_some_and(|name| name.to_string_lossy().ends_with(MARK))
}

/// Folders without files of a system.
const NONE_OF_IT: [&str; 4] = ["boot", "dev", "proc", "sys"];

/// Folders whose files are changed in place, and whether those in folders below them are too.
const CHANGED: [(&str, bool); 7] = [
    ("/etc", true),
    ("/var/cache/debconf", false),
    ("/var/lib/apt", false),
    ("/var/lib/apt/lists", false),
    ("/var/cache/apt/archives", false),
    ("/var/lib/dpkg", false),
    ("/var/lib/dpkg/triggers", false),
];

/// Where a file is begun anew.
const LOGS: &str = "/var/log";

/// A larger file is data, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How deep folders are looked through; and how deep they are taken over where a part of the system,
/// such as `/usr/lib/python3`, has more than so many. A layer of all folders of an SDK would cost
/// more than it gives: steps add beside what the machine has, and seldom change the inside of it.
const DEPTH_MAX: usize = 32;
const DEPTH_OF_LARGE: usize = 4;
const FOLDERS_OF_SMALL: usize = 400;

/// The depth of what is a part: `/usr` has 1.
const PART: usize = 3;

/// Gathers the layer.
pub(crate) fn tree() -> Result<Tree, TreeError> {
    let mut tree = Tree::default();
    for name in SYSTEM.iter().filter(|name| !NONE_OF_IT.contains(name)) {
        let path = Path::new("/").join(name);
        // Such as `/lib -> usr/lib`.
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        if !is_folder {
            continue;
        }
        let mut folders = Vec::new();
        find(&path, 1, &mut folders);
        for (folder, _) in &folders {
            add(folder, &mut tree)?;
        }
    }
    Ok(tree)
}

/// Adds a folder and those in it, outer ones first, with how deep they are.
fn find(path: &Path, depth: usize, found: &mut Vec<(PathBuf, usize)>) {
    let first = found.len();
    found.push((path.to_owned(), depth));
    if depth < DEPTH_MAX {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                find(&entry.path(), depth + 1, found);
            }
        }
    }
    if depth == PART && found.len() - first > FOLDERS_OF_SMALL {
        let part = found.split_off(first);
        found.extend(part.into_iter().filter(|(_, depth)| *depth <= DEPTH_OF_LARGE));
    }
}

/// Adds a folder, and the files in it that are changed in place.
fn add(path: &Path, tree: &mut Tree) -> Result<(), TreeError> {
    let nothing = View::default();
    let metadata = match fs::symlink_metadata(path) {
        // Gone since it was listed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(at(path))?,
    };
    let mode = metadata.permissions().mode() & 0o7777 | 0o700;
    let (may_look, owner) = (Access::READ_OK | Access::EXEC_OK, Some((0, 0)));
    // What is closed to this user would stay so as a part of what is shown; here it is empty.
    let opaque = rustix::fs::access(path, may_look).is_err();
    tree.add(path, Entry { node: Node::Folder { opaque }, mode, owner }, &nothing)?;
    let is_changed = path.starts_with(LOGS)
        || CHANGED.iter().any(|(folder, below)| {
            path == Path::new(folder) || (*below && path.starts_with(folder))
        });
    if is_changed {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                file(&entry.path(), tree, &nothing)?;
            }
        }
    }
    Ok(())
}

fn file(path: &Path, tree: &mut Tree, nothing: &View) -> Result<(), TreeError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let is_log = path.starts_with(LOGS);
    if metadata.size() > FILE_BYTES_MAX && !is_log {
        return Ok(());
    }
    // Read now: it may be gone when the layer is written.
    let text = match fs::read(path) {
        Ok(bytes) if !is_log => match String::from_utf8(bytes) {
            Ok(text) => text,
            // Nobody changes a part of what is no text.
            Err(_) => return Ok(()),
        },
        // A lock is empty, and what is secret is not for images.
        _ => String::new(),
    };
    let node = Node::Text(text);
    let mode = metadata.permissions().mode() & 0o7777;
    tree.add(path, Entry { node, mode, owner: Some((0, 0)) }, nothing)
}
