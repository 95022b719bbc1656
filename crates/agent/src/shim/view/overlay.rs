//! Layers over the host's root, writable in private.
//!
//! A machine refuses some of these, so they are tried from best to worst:
//! 1. one overlay: the layers and the host's root below, the upper layer on disk;
//! 2. an overlay on an overlay: the kernel refuses layers that lie inside another layer of the same
//!    file system, as the state folder's do inside the root, but not when that root is itself an
//!    overlay;
//! 3. the layers copied into the upper layer, which is in memory: where the root is an overlay
//!    already, as in a container, and cannot hold an upper layer.
//!
//! In a user namespace it is put together from parts instead.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use super::parts::Parts;
use super::root::{Outcome, make_folder};
use crate::isolation::Mode;
use crate::shim::failure;
use crate::spec::{Base, View};
use crate::wire::{ShimSpec, Step};

/// The kernel takes one page of options.
const OPTIONS_BYTES_MAX: usize = 4096;

/// The mark of a folder that hides what lies below it: root's, and anybody's.
const OPAQUE: &str = "trusted.overlay.opaque";
const OPAQUE_OF_USERS: &str = "user.overlay.opaque";

/// An upper layer and the folder that the kernel works in beside it.
pub(super) struct Upper {
    pub(super) upper: PathBuf,
    work: PathBuf,
}

impl Upper {
    pub(super) fn make(folder: &Path, name: &str) -> Result<Upper> {
        let upper = folder.join(name);
        let work = folder.join(format!("{name}-work"));
        make_folder(&upper)?;
        make_folder(&work)?;
        Ok(Upper { upper, work })
    }
}

/// Mounts the spec's view at `root` in the instance folder.
pub(super) fn mount(spec: &ShimSpec, warnings: &mut Vec<String>) -> Outcome<PathBuf> {
    let root = spec.folder.join("root");
    let why = |e: Errno| failure(Step::View, "an overlay of the host", e.into());
    let nothing = spec.folder.join("nothing");
    let (layers, lowest) = match &spec.process.view {
        View::Host => return Ok(root),
        View::Overlay { layers } | View::Image { layers, base: Base::Host } => {
            (layers, Path::new("/"))
        }
        View::Image { layers, base: Base::Empty } => {
            make_folder(&nothing).map_err(why)?;
            (layers, nothing.as_path())
        }
    };
    if spec.mode == Mode::User {
        let mounted = Parts::new(&spec.folder, &root).mount(layers, lowest);
        mounted.map_err(|e| failure(Step::View, "an overlay of the host", e))?;
        return Ok(root);
    }
    let disk = Upper::make(&spec.folder, "upper").map_err(why)?;
    let Err(first) = one(layers, lowest, &disk, &root) else { return Ok(root) };
    if !layers.is_empty() && two(layers, lowest, &spec.folder, &disk, &root).is_ok() {
        return Ok(root);
    }
    if spec.kept {
        return Err(why(first));
    }
    in_memory(layers, lowest, &spec.folder, &root).map_err(|e| {
        let what = format!("an overlay of the host (on disk: {first}; in memory: {e})");
        crate::wire::Failure { step: Step::View, what, errno: 0 }
    })?;
    warnings.push(format!("what it writes is kept in memory: overlay on disk: {first}"));
    Ok(root)
}

fn two(layers: &[PathBuf], lowest: &Path, folder: &Path, disk: &Upper, root: &Path) -> Result<()> {
    let base = folder.join("base");
    make_folder(&base)?;
    one(&[], lowest, &Upper::make(folder, "base-upper")?, &base)?;
    one(layers, &base, disk, root).inspect_err(|_| {
        let _stays = rustix::mount::unmount(&base, UnmountFlags::DETACH);
    })
}

fn in_memory(layers: &[PathBuf], lowest: &Path, folder: &Path, root: &Path) -> io::Result<()> {
    let memory = folder.join("memory");
    make_folder(&memory)?;
    rustix::mount::mount("tmpfs", &memory, "tmpfs", MountFlags::empty(), Some(c"mode=0755"))?;
    let upper = Upper::make(&memory, "upper")?;
    for layer in layers.iter().rev() {
        copy(layer, &upper.upper)?;
    }
    Ok(one(&[], lowest, &upper, root)?)
}

fn one(layers: &[PathBuf], below: &Path, at: &Upper, root: &Path) -> Result<()> {
    let all: Vec<_> = layers.iter().cloned().chain([below.to_owned()]).collect();
    overlay(&all, at, root, false)
}

/// Mounts these folders, first on top, below an upper layer. `users` is for a user namespace, where
/// the kernel keeps its marks as anybody may.
pub(super) fn overlay(lower: &[PathBuf], at: &Upper, root: &Path, users: bool) -> Result<()> {
    // The kernel takes one page of options, which is few layers when each is a whole path: they
    // are named from the folder that all but the last lie in.
    let (first, others) = (lower.first(), &lower[..lower.len().saturating_sub(1)]);
    let has_others = |above: &&Path| others.iter().all(|layer| layer.starts_with(above));
    let folder = first.and_then(|first| first.ancestors().skip(1).find(has_others));
    let mut options = Vec::new();
    for layer in lower {
        options.extend_from_slice(if options.is_empty() { b"lowerdir=" } else { b":" });
        let inner = folder.and_then(|folder| layer.strip_prefix(folder).ok());
        escape(inner.filter(|inner| !inner.as_os_str().is_empty()).unwrap_or(layer), &mut options);
    }
    options.extend_from_slice(b",upperdir=");
    escape(&at.upper, &mut options);
    options.extend_from_slice(b",workdir=");
    escape(&at.work, &mut options);
    if users {
        options.extend_from_slice(b",userxattr");
    }
    if options.len() >= OPTIONS_BYTES_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    // Whoever may make devices may not use those that lie among files.
    let flags = MountFlags::NODEV;
    if let Some(folder) = folder {
        rustix::process::chdir(folder)?;
    }
    let mounted = rustix::mount::mount("overlay", root, "overlay", flags, Some(options.as_c_str()));
    rustix::process::chdir("/")?;
    mounted
}

/// `:` separates layers and `,` options.
pub(super) fn escape(path: &Path, to: &mut Vec<u8>) {
    for byte in path.as_os_str().as_bytes() {
        if b":,\\".contains(byte) {
            to.push(b'\\');
        }
        to.push(*byte);
    }
}

/// Copies what is in a layer, which is trusted to be finite: it was copied once before. What it
/// hides of the layers that were copied already goes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (metadata, to) = (entry.metadata()?, to.join(entry.file_name()));
        let opaque = metadata.is_dir() && is_opaque(&entry.path());
        if (opaque || !metadata.is_dir()) && to.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            fs::remove_dir_all(&to)?;
        } else if !metadata.is_dir() && to.symlink_metadata().is_ok() {
            fs::remove_file(&to)?;
        }
        if metadata.is_dir() {
            make_folder(&to)?;
            if opaque {
                rustix::fs::setxattr(&to, OPAQUE, b"y", rustix::fs::XattrFlags::empty())?;
            }
            copy(&entry.path(), &to)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(entry.path())?, &to)?;
        } else if metadata.file_type().is_char_device() {
            let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
            rustix::fs::mknodat(rustix::fs::CWD, &to, kind, mode, metadata.rdev())?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
        lchown(&to, Some(metadata.uid()), Some(metadata.gid()))?;
        if !metadata.is_symlink() {
            fs::set_permissions(&to, fs::Permissions::from_mode(metadata.mode()))?;
        }
    }
    Ok(())
}

pub(super) fn is_opaque(folder: &Path) -> bool {
    [OPAQUE, OPAQUE_OF_USERS].iter().any(|mark| {
        let mut value = [0u8; 8];
        rustix::fs::getxattr(folder, *mark, &mut value).is_ok_and(|length| value[..length] == *b"y")
    })
}
