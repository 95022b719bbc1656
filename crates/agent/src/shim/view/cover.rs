//! Room for a mount's target in a folder of the host that may not be changed.
//!
//! The folder is covered by one in memory that shows the same, each entry mounted at its place, and
//! can have more. The program may not write to the cover, as it may not to the folder.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode as Bits, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::MountFlags;

use super::place::{bind, make, mount_on, open_in, provide};

/// Most entries of a folder that is covered: each costs a mount.
const ENTRIES_MAX: usize = 1024;

/// As `provide`, where need be in a cover.
pub(super) fn provide_anyway(root: BorrowedFd<'_>, path: &Path, folder: bool) -> Result<OwnedFd> {
    match provide(root, path, folder) {
        Err(refused @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
            cover(root, path).map_err(|_| refused)?;
            provide(root, path, folder)
        }
        provided => provided,
    }
}

/// Covers the deepest folder above `path` that can be reached.
fn cover(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let reached = |above: &Path| Some((above.to_owned(), open_in(root, above).ok()?));
    let (above, below) = path.ancestors().skip(1).find_map(reached).ok_or(Errno::NOENT)?;
    if above == Path::new("/") {
        return Err(Errno::BUSY);
    }
    let entries = entries(below.as_fd())?;
    // This process may write to it all the same.
    mount_on(below.as_fd(), "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=0555,size=64k")?;
    let cover = open_in(root, &above)?;
    for name in entries {
        show(&name, below.as_fd(), cover.as_fd())?;
    }
    Ok(())
}

/// What is in a folder; nothing when nobody here could open any of it.
fn entries(folder: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>> {
    if open_in(folder, Path::new("/")).err() == Some(Errno::ACCESS) {
        return Ok(Vec::new());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listing = Dir::new(rustix::fs::openat(folder, ".", flags, Bits::empty())?)?;
    let mut names = Vec::new();
    for entry in listing {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
        if names.len() > ENTRIES_MAX {
            return Err(Errno::TOOBIG);
        }
    }
    Ok(names)
}

fn show(name: &std::ffi::CStr, below: BorrowedFd<'_>, cover: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = match rustix::fs::openat(below, name, flags, Bits::empty()) {
        // Gone since it was listed.
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode);
    if kind.is_symlink() {
        let to = rustix::fs::readlinkat(below, name, Vec::new())?;
        return rustix::fs::symlinkat(to, cover, name);
    }
    make(cover, name, kind.is_dir())?;
    let place = rustix::fs::openat(cover, name, flags, Bits::empty())?;
    bind(source.as_fd(), place.as_fd())
}
