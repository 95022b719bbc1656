//! The files by which an instance finds names: its own `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Invariant: what is mounted on a file of the host is gone, everywhere, once the host puts another
//! file in its place, as VPN clients and `sed -i` do. So files are mounted on those of an overlay,
//! which nobody replaces.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::MountFlags;

use super::overlay::escape;
use super::place::open_in;
use super::root::make_folder;
use super::{bind, open_path};
use crate::shim::failure;
use crate::spec::{Base, View};
use crate::wire::{Failure, ShimSpec, Step};

/// Where the host's own files are shown, an `/etc` that shows them too but is nobody's else. Both
/// files are there, and no links: what those lead to could be replaced as well.
pub(super) fn own_folder(spec: &ShimSpec, root: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let folder = spec.folder.join("etc");
    make_folder(&folder)?;
    fs::write(folder.join("hosts"), "").map_err(|_| rustix::io::Errno::IO)?;
    let resolver = fs::read("/etc/resolv.conf").unwrap_or_default();
    fs::write(folder.join("resolv.conf"), resolver).map_err(|_| rustix::io::Errno::IO)?;
    let mut options = Vec::from(b"lowerdir=");
    escape(&folder, &mut options);
    options.extend_from_slice(b":/etc,userxattr");
    let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    let place = open_in(root, Path::new("/etc"))?;
    let place = super::shown(place.as_fd());
    rustix::mount::mount("overlay", place, "overlay", MountFlags::NODEV, Some(options.as_c_str()))
}

/// Its hosts file, its host name, and the machine's resolver where there are no files of its own.
pub(super) fn own(
    spec: &ShimSpec,
    root: BorrowedFd<'_>,
    private: bool,
    (hosts, hostname): (&OwnedFd, &OwnedFd),
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    if matches!(spec.process.view, View::Image { base: Base::Empty, .. }) && private {
        // Opened before anything is covered; a host without one has no names beyond its own.
        if let Ok(resolver) = open_path(Path::new("/etc/resolv.conf")) {
            bind(resolver.as_fd(), root, Path::new("/etc/resolv.conf"), true)?;
        }
    }
    bind(hosts.as_fd(), root, Path::new("/etc/hosts"), private).or_else(|e| {
        warnings.push(format!("names of services do not resolve: /etc/hosts: {e}"));
        Ok::<(), Failure>(())
    })?;
    if spec.process.hostname.is_some() {
        if private {
            // The name itself is what counts; a read-only disk may have no place for the file.
            let _no_place = bind(hostname.as_fd(), root, Path::new("/etc/hostname"), true);
        }
        let name = spec.process.hostname.as_deref().unwrap_or_default();
        rustix::system::sethostname(name.as_bytes())
            .map_err(|e| failure(Step::View, "setting the host name", e.into()))?;
    }
    Ok(())
}

/// Its own configuration of the resolver, when it has one.
pub(super) fn own_resolver(
    spec: &ShimSpec,
    root: BorrowedFd<'_>,
    private: bool,
    warnings: &mut Vec<String>,
) {
    if spec.process.resolver.is_some()
        && let Err(e) = open_path(&spec.folder.join("resolv.conf"))
            .and_then(|file| bind(file.as_fd(), root, Path::new("/etc/resolv.conf"), private))
    {
        warnings.push(format!("names are looked up as the machine does: {e}"));
    }
}
