//! Layers over the host's root, writable in private.
//!
//! A machine refuses some of these, so they are tried from best to worst:
//! 1. one overlay: the layers and the host's root below, the upper layer on disk;
//! 2. an overlay on an overlay: the kernel refuses layers that lie inside another layer of the same
//!    file system, as the state folder's do inside the root, but not when that root is itself an
//!    overlay;
//! 3. the layers copied into the upper layer, which is in memory: where the root is an overlay
//!    already, as in a container, and cannot hold an upper layer.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use super::root::{Outcome, make_folder};
use crate::shim::failure;
use crate::spec::View;
use crate::wire::{ShimSpec, Step};

/// An upper layer and the folder that the kernel works in beside it.
struct Upper {
    upper: PathBuf,
    work: PathBuf,
}

impl Upper {
    fn make(folder: &Path, name: &str) -> Result<Upper> {
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
    let View::Overlay { layers } = &spec.process.view else { return Ok(root) };
    let host = Path::new("/");
    let why = |e: Errno| failure(Step::View, "an overlay of the host", e.into());
    let disk = Upper::make(&spec.folder, "upper").map_err(why)?;
    let Err(first) = one(layers, host, &disk, &root) else { return Ok(root) };
    if !layers.is_empty() && two(layers, &spec.folder, &disk, &root).is_ok() {
        return Ok(root);
    }
    in_memory(layers, &spec.folder, &root).map_err(|e| {
        let what = format!("an overlay of the host (on disk: {first}; in memory: {e})");
        crate::wire::Failure { step: Step::View, what, errno: 0 }
    })?;
    warnings.push(format!("what it writes is kept in memory: overlay on disk: {first}"));
    Ok(root)
}

fn two(layers: &[PathBuf], folder: &Path, disk: &Upper, root: &Path) -> Result<()> {
    let base = folder.join("base");
    make_folder(&base)?;
    one(&[], Path::new("/"), &Upper::make(folder, "base-upper")?, &base)?;
    one(layers, &base, disk, root).inspect_err(|_| {
        let _stays = rustix::mount::unmount(&base, UnmountFlags::DETACH);
    })
}

fn in_memory(layers: &[PathBuf], folder: &Path, root: &Path) -> io::Result<()> {
    let memory = folder.join("memory");
    make_folder(&memory)?;
    rustix::mount::mount("tmpfs", &memory, "tmpfs", MountFlags::empty(), Some(c"mode=0755"))?;
    let upper = Upper::make(&memory, "upper")?;
    for layer in layers.iter().rev() {
        copy(layer, &upper.upper)?;
    }
    Ok(one(&[], Path::new("/"), &upper, root)?)
}

fn one(layers: &[PathBuf], below: &Path, at: &Upper, root: &Path) -> Result<()> {
    let mut options = Vec::from(b"lowerdir=".as_slice());
    for layer in layers {
        escape(layer, &mut options);
        options.push(b':');
    }
    escape(below, &mut options);
    options.extend_from_slice(b",upperdir=");
    escape(&at.upper, &mut options);
    options.extend_from_slice(b",workdir=");
    escape(&at.work, &mut options);
    // The kernel takes one page of options.
    if options.len() >= 4096 {
        return Err(Errno::NAMETOOLONG);
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::empty();
    rustix::mount::mount("overlay", root, "overlay", flags, Some(options.as_c_str()))
}

/// `:` separates layers and `,` options.
fn escape(path: &Path, to: &mut Vec<u8>) {
    for byte in path.as_os_str().as_bytes() {
        if b":,\\".contains(byte) {
            to.push(b'\\');
        }
        to.push(*byte);
    }
}

/// Copies what is in a layer, which is trusted to be finite: it was copied once before.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (metadata, to) = (entry.metadata()?, to.join(entry.file_name()));
        if metadata.is_dir() {
            make_folder(&to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(metadata.mode()))?;
            copy(&entry.path(), &to)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(entry.path())?, &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_add_layers_or_options() {
        let mut options = Vec::new();
        escape(Path::new("/a:b,c\\d"), &mut options);
        assert_eq!(options, b"/a\\:b\\,c\\\\d");
    }

    #[test]
    fn a_copied_layer_is_the_layer() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/c"), "c").unwrap();
        symlink("nowhere", from.join("link")).unwrap();
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("a/b/c")).unwrap(), b"c");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
        assert_eq!(to.join("a").metadata().unwrap().mode() & 0o777, 0o700);
    }
}
