//! What of the kernel's settings is the instance's own: `/dev/shm`, parameters of its namespaces,
//! and whether its files may be written to.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::place::{make_read_only, mount_on, open_in};
use super::root::Outcome;
use crate::shim::failure;
use crate::spec::Kernel;
use crate::wire::Step;

/// Parameters that belong to the namespaces which an instance has of its own: messages, semaphores
/// and shared memory.
const OWN: [&str; 4] = ["kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."];

/// A `/dev/shm` of the size asked for. A private view has one already.
pub(super) fn shared_memory(kernel: &Kernel, root: BorrowedFd<'_>, private: bool) -> Outcome<()> {
    let path = Path::new("/dev/shm");
    let Some(size) = kernel.shm_size_bytes else { return Ok(()) };
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = open_in(root, path).and_then(|place| {
        // Where it is the host's it is covered, where it is private it becomes another.
        if private {
            rustix::mount::unmount(
                super::shown(place.as_fd()),
                rustix::mount::UnmountFlags::DETACH,
            )?;
        }
        mount_on(open_in(root, path)?.as_fd(), "tmpfs", flags, &format!("mode=1777,size={size}"))
    });
    mounted.map_err(|e| failure(Step::View, "/dev/shm", e.into()))
}

/// Sets the parameters that are the instance's own; the machine's are left alone, which is said.
pub(super) fn set_parameters(kernel: &Kernel, root: BorrowedFd<'_>, warnings: &mut Vec<String>) {
    for (name, value) in &kernel.sysctls {
        if !OWN.iter().any(|own| name.starts_with(own)) || name.contains("..") {
            let whose = if name.starts_with("net.") { "the network" } else { "it" };
            warnings.push(format!("{name} stays as it is: {whose} is the machine's"));
            continue;
        }
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        let set = open_in(root, &path).map_err(std::io::Error::from);
        if let Err(e) = set.and_then(|file| fs::write(super::shown(file.as_fd()), value)) {
            warnings.push(format!("{name} stays as it is: {e}"));
        }
    }
}

/// The folders in a root.
pub(super) fn folders_of(root: BorrowedFd<'_>) -> Vec<PathBuf> {
    let entries = fs::read_dir(super::shown(root)).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|folder| Path::new("/").join(folder.file_name())).collect()
}

/// Refuses writing to these folders; where that covers the host's `/dev/shm`, there is another.
pub(super) fn freeze_files(
    root: BorrowedFd<'_>,
    private: bool,
    folders: &[PathBuf],
    warnings: &mut Vec<String>,
) {
    for folder in folders {
        let frozen = open_in(root, folder).and_then(|place| make_read_only(place.as_fd()));
        if let Err(e) = frozen {
            warnings.push(format!("{} can be written to: {e}", folder.display()));
        }
    }
    if !private {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let _host_has_none = open_in(root, Path::new("/dev/shm"))
            .and_then(|place| mount_on(place.as_fd(), "tmpfs", flags, "mode=1777"));
    }
}
