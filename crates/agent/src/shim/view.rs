//! What the instance sees: files, devices, processes, names.
//!
//! Invariants: every target is resolved inside the new root, so that no symlink leads a mount out
//! of it; sources are opened before anything is covered; the state folder is hidden last among the
//! engine's own mounts and before the spec's, which may show parts of it.

mod cover;
mod devices;
mod kernel;
mod names;
mod overlay;
pub(crate) mod parts;
mod place;
pub(crate) mod root;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode as Bits, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags as Propagation, UnmountFlags};

use self::place::{open_in, provide};
use super::{failure, path_of};
use crate::isolation::Mode;
use crate::spec::{Base, Mount, MountSource, View};
use crate::wire::{Failure, ShimSpec, Step};

/// Changes this process's view to the instance's.
pub(super) fn enter(spec: &ShimSpec, warnings: &mut Vec<String>) -> Result<(), Failure> {
    match spec.mode {
        Mode::None => {
            not_shown(spec, warnings);
            return Ok(());
        }
        Mode::User => map_self(spec)?,
        Mode::Full => {
            // Inside the cgroup by now, so that the instance's own cgroup reads as the root.
            if let Err(e) = unshare_cgroup() {
                warnings.push(format!("cgroup paths of the host are visible: {e}"));
            }
        }
    }
    let view = |what: &str| {
        let what = what.to_owned();
        move |e: rustix::io::Errno| failure(Step::View, &what, e.into())
    };
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC)
        .map_err(view("making mounts private"))?;
    let sources = open_sources(&spec.process.mounts)?;
    let given = &spec.process.rights.devices;
    let nodes = devices::open(given)?;
    let hosts = open_path(&spec.folder.join("hosts"))?;
    let hostname = open_path(&spec.folder.join("hostname"))?;

    let private = spec.has_own_files();
    let is_image = private && matches!(spec.process.view, View::Image { .. });
    let new_root = if private {
        Some(overlay::mount(spec, warnings)?)
    } else if spec.process.mounts.iter().any(|mount| !mount.target.exists())
        || devices::needs_place(given)
    {
        Some(root::patchwork(spec)?)
    } else {
        None
    };
    let root_path = new_root.as_deref().unwrap_or(Path::new("/"));
    let root = open_path(root_path)?;
    let root = root.as_fd();

    let mut own_folders = vec![PathBuf::from("/tmp"), PathBuf::from("/run")];
    if private {
        // In a user namespace each disk is a part of the view already.
        let is_empty = matches!(spec.process.view, View::Image { base: Base::Empty, .. });
        if !is_empty && spec.mode == Mode::Full {
            root::disks(&spec.state, root, is_image, warnings);
        }
        let project = match is_image {
            true => None,
            false => covered(root, &spec.process.working_dir),
        };
        root::devices(root, !is_image, warnings)?;
        if let Some((path, folder)) = project {
            bind(folder.as_fd(), root, &path, true)?;
            own_folders.push(path);
        }
    }
    if !private && spec.mode == Mode::User {
        // Where that is refused something of the machine's is mounted there already, and cannot be
        // replaced either.
        let _refused = names::own_folder(spec, root);
    }
    // After the host's disks, of which some may lie in `/etc` (in a container all of its files do).
    names::own(spec, root, private, (&hosts, &hostname), warnings)?;
    kernel::shared_memory(&spec.process.kernel, root, private)?;
    names::own_resolver(spec, root, private, warnings);
    if let Err(e) = root::fresh_proc(root) {
        warnings.push(format!("processes of the host are visible in /proc: {e}"));
    }
    if spec.mode == Mode::Full
        && (!spec.join.is_empty() || spec.oom.is_some())
        && let Err(e) = root::own_cgroups(root)
    {
        // Runtimes that size themselves by their limits will not find them.
        warnings.push(format!("its limits are not visible in /sys/fs/cgroup: {e}"));
    }
    kernel::set_parameters(&spec.process.kernel, root, warnings);
    hide(&spec.state, root)?;
    if spec.process.rights.read_only {
        let below = match (private, &new_root) {
            (true, _) => own_folders,
            (false, Some(_)) => kernel::folders_of(root),
            (false, None) => vec![PathBuf::from("/")],
        };
        kernel::freeze_files(root, private, &below, warnings);
    }
    devices::put(given, &nodes, root, private)?;
    for (mount, source) in spec.process.mounts.iter().zip(&sources) {
        put(mount, source.as_ref(), root)?;
    }
    if private {
        let _there = provide(root, &spec.process.working_dir, true)
            .map_err(|e| failure(Step::WorkingDir, &text(&spec.process.working_dir), e.into()))?;
    }
    if spec.process.rights.read_only && new_root.is_some() {
        // Last, since places for mounts had to be made.
        crate::sys::mount_read_only(root, false).map_err(view("making / read-only"))?;
    }
    if new_root.is_some() {
        rustix::process::fchdir(open_in(root, Path::new("/")).map_err(view("the new root"))?)
            .map_err(view("the new root"))?;
        rustix::process::pivot_root(".", ".").map_err(view("pivot_root"))?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(view("leaving the old root"))?;
        rustix::process::chdir("/").map_err(view("the new root"))?;
    }
    if spec.mode != Mode::None && !spec.process.rights.privileged {
        root::guard_proc();
    }
    Ok(())
}

/// What is not seen where it was asked for, since instances share the host's files.
fn not_shown(spec: &ShimSpec, warnings: &mut Vec<String>) {
    for mount in &spec.process.mounts {
        warnings.push(format!(
            "{} is not mounted: instances share the host's files here",
            mount.target.display()
        ));
    }
    let devices = &spec.process.rights.devices;
    for device in devices.iter().filter(|device| device.source != device.target) {
        warnings.push(format!(
            "{} is not there: instances share the host's files here",
            device.target.display()
        ));
    }
}

/// Keeps this user's own number inside the user namespace; among files of an image it is root.
fn map_self(spec: &ShimSpec) -> Result<(), Failure> {
    let (uid, gid) = if spec.is_anybody() { (0, 0) } else { (spec.uid, spec.gid) };
    let write = |file: &str, text: String| {
        std::fs::write(file, text).map_err(|e| failure(Step::Setup, file, e))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {} 1", spec.uid))?;
    write("/proc/self/gid_map", format!("{gid} {} 1", spec.gid))
}

fn unshare_cgroup() -> rustix::io::Result<()> {
    crate::sys::unshare(libc::CLONE_NEWCGROUP)
}

fn open_sources(mounts: &[Mount]) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let open = |mount: &Mount| match &mount.source {
        MountSource::Tmpfs { .. } => Ok(None),
        MountSource::Path(path) => {
            if !path.exists() {
                std::fs::create_dir_all(path).map_err(|e| failure(Step::Mount, &text(path), e))?;
            }
            open_path(path).map(Some).map_err(|e| Failure { step: Step::Mount, ..e })
        }
        MountSource::Within(folder, path) => {
            std::fs::create_dir_all(folder).map_err(|e| failure(Step::Mount, &text(folder), e))?;
            let root = open_path(folder)?;
            let inside = open_in(root.as_fd(), path);
            let named = text(&folder.join(path));
            inside.map(Some).map_err(|e| failure(Step::Mount, &named, e.into()))
        }
    };
    mounts.iter().map(open).collect()
}

fn open_path(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Bits::empty())
        .map_err(|e| failure(Step::View, &text(path), e.into()))
}

/// Shows `source` at `target`; makes the target when `make`.
fn bind(
    source: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    target: &Path,
    make: bool,
) -> Result<(), Failure> {
    let why = |e: rustix::io::Errno| failure(Step::View, &text(target), e.into());
    let is_folder = place::is_folder(source).map_err(why)?;
    let place = if make { provide(root, target, is_folder) } else { open_in(root, target) };
    place::bind(source, place.map_err(why)?.as_fd()).map_err(why)
}

/// Carries out one mount of the spec.
fn put(mount: &Mount, source: Option<&OwnedFd>, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let why = |e: rustix::io::Errno| failure(Step::Mount, &text(&mount.target), e.into());
    let is_folder = match source {
        Some(source) => place::is_folder(source.as_fd()).map_err(why)?,
        None => true,
    };
    let target = cover::provide_anyway(root, &mount.target, is_folder).map_err(why)?;
    match (&mount.source, source) {
        (MountSource::Tmpfs { size_bytes, mode, owner, no_exec }, _) => {
            let mut options = format!("mode={:o}", mode.unwrap_or(0o1777));
            let more = [
                ("size", *size_bytes),
                ("uid", owner.0.map(u64::from)),
                ("gid", owner.1.map(u64::from)),
            ];
            for (name, value) in more {
                options.extend(value.map(|value| format!(",{name}={value}")));
            }
            let no_exec = if *no_exec { MountFlags::NOEXEC } else { MountFlags::empty() };
            let flags = MountFlags::NOSUID | MountFlags::NODEV | no_exec;
            let read_only = if mount.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
            place::mount_on(target.as_fd(), "tmpfs", flags | read_only, &options).map_err(why)
        }
        (MountSource::Path(_) | MountSource::Within(..), Some(source)) => {
            place::bind(source.as_fd(), target.as_fd()).map_err(why)?;
            if mount.read_only {
                let shown = open_in(root, &mount.target).map_err(why)?;
                place::make_read_only(shown.as_fd()).map_err(why)?;
            }
            Ok(())
        }
        (MountSource::Path(_) | MountSource::Within(..), None) => Ok(()),
    }
}

/// Covers the engine's state, where it would be visible.
fn hide(state: &Path, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let Ok(place) = open_in(root, state) else { return Ok(()) };
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    place::mount_on(place.as_fd(), "tmpfs", flags, "mode=0555,size=4k")
        .map_err(|e| failure(Step::View, &text(state), e.into()))
}

/// The instance's own project, when it lies in a folder of the host that its own `/tmp` or `/run`
/// is about to cover: the folder just below, still open. It is the private view's where that has
/// it, and the host's where `/tmp` is a file system of its own.
fn covered(root: BorrowedFd<'_>, working_dir: &Path) -> Option<(PathBuf, OwnedFd)> {
    let cover = ["/tmp", "/run"].into_iter().find(|cover| working_dir.starts_with(cover))?;
    let below = working_dir.strip_prefix(cover).ok()?.components().next()?;
    let path = Path::new(cover).join(below);
    let folder = open_in(root, &path).ok().or_else(|| open_path(&path).ok())?;
    place::is_folder(folder.as_fd()).ok()?.then_some((path, folder))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A path in this process's `/proc` to what a descriptor shows.
fn shown(fd: BorrowedFd<'_>) -> std::path::PathBuf {
    path_of(fd)
}
