//! Places inside a root: found, made and mounted on without ever leaving it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode as Bits, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use rustix::mount::MountFlags;
use rustix::path::Arg;

use super::shown;

/// Opens `path` as a process whose root is `root` would see it.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Bits::empty(), within)
}

/// Opens `path`, made as an empty folder or file when it is missing, with the folders above it.
pub(super) fn provide(root: BorrowedFd<'_>, path: &Path, folder: bool) -> Result<OwnedFd> {
    match open_in(root, path) {
        Err(Errno::NOENT) => {}
        found => return found,
    }
    let mut at = PathBuf::from("/");
    let mut above = open_in(root, &at)?;
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        match name {
            Component::Normal(name) => {
                let next = at.join(name);
                let place = match open_in(root, &next) {
                    Err(Errno::NOENT) => {
                        let last = names.peek().is_none();
                        make(above.as_fd(), name, folder || !last)?;
                        open_in(root, &next)?
                    }
                    found => found?,
                };
                (at, above) = (next, place);
            }
            Component::ParentDir => return Err(Errno::INVAL),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(above)
}

/// Makes an empty folder or file.
pub(super) fn make(above: BorrowedFd<'_>, name: impl Arg, folder: bool) -> Result<()> {
    if folder {
        rustix::fs::mkdirat(above, name, Bits::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(above, name, flags, Bits::from_raw_mode(0o644)).map(drop)
    }
}

pub(super) fn is_folder(fd: BorrowedFd<'_>) -> Result<bool> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    Ok(rustix::fs::FileType::from_raw_mode(mode).is_dir())
}

/// Shows `source`, with what is mounted below it, at `target`.
pub(super) fn bind(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::mount_bind_recursive(shown(source), shown(target))
}

/// Mounts a file system without a source.
pub(super) fn mount_on(
    target: BorrowedFd<'_>,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<()> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(kind, shown(target), kind, flags, Some(options.as_c_str()))
}

/// Refuses writing to the mount at `place`, and to those below it.
pub(super) fn make_read_only(place: BorrowedFd<'_>) -> Result<()> {
    crate::sys::mount_read_only(place, true)
}

/// Covers a file or folder of a read-only kind with itself, read-only.
pub(super) fn freeze(path: &str) -> Result<()> {
    rustix::mount::mount_bind_recursive(path, path)?;
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Bits::empty())?;
    make_read_only(place.as_fd())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_symlink_cannot_lead_out_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run")).unwrap();
        fs::create_dir_all(root.path().join("var")).unwrap();
        symlink("/run", root.path().join("var/run")).unwrap();
        symlink("/", root.path().join("out")).unwrap();
        let fd = fs::File::open(root.path()).unwrap();
        drop(provide(fd.as_fd(), Path::new("/var/run/a/b"), true).unwrap());
        assert!(root.path().join("run/a/b").is_dir());
        drop(provide(fd.as_fd(), Path::new("/out/etc/some-file"), false).unwrap());
        assert!(root.path().join("etc/some-file").is_file());
        assert!(!Path::new("/etc/some-file").exists());
        assert_eq!(provide(fd.as_fd(), Path::new("/x/../y"), true).err(), Some(Errno::INVAL));
    }
}
