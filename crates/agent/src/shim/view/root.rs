//! What is put into a new root: the host's folders and mounts, devices, `/proc`, `/tmp`.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode as Bits};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, UnmountFlags};

use super::place::{bind, freeze, make_read_only, mount_on, open_in, provide};
use super::text;
use crate::shim::failure;
use crate::wire::{Failure, ShimSpec, Step};

/// Most mounts of the host that an overlay shows.
const HOST_MOUNTS_MAX: usize = 64;

const PLAIN: MountFlags = MountFlags::empty();

pub(super) type Outcome<T> = std::result::Result<T, Failure>;

/// The host's own folders, real, in a root where missing targets can be made.
pub(super) fn patchwork(spec: &ShimSpec) -> Outcome<PathBuf> {
    let root = spec.folder.join("root");
    let why = |what: &Path| {
        let what = text(what);
        move |e: Errno| failure(Step::View, &what, e.into())
    };
    rustix::mount::mount("tmpfs", &root, "tmpfs", PLAIN, Some(c"mode=0755")).map_err(why(&root))?;
    let entries = fs::read_dir("/").map_err(|e| failure(Step::View, "/", e))?;
    for entry in entries.flatten() {
        let (host, here) = (entry.path(), root.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_symlink() {
            let to = fs::read_link(&host).map_err(|e| failure(Step::View, &text(&host), e))?;
            rustix::fs::symlink(to, &here).map_err(why(&here))?;
        } else if kind.is_dir() {
            make_folder(&here).map_err(why(&here))?;
            rustix::mount::mount_bind_recursive(&host, &here).map_err(why(&host))?;
        }
    }
    Ok(root)
}

pub(super) fn make_folder(path: &Path) -> Result<()> {
    match rustix::fs::mkdir(path, Bits::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Shows the host's other disks in an overlay, read-only.
///
/// An image covers folders of the host on purpose; what was mounted in them is not missed.
pub(super) fn disks(
    state: &Path,
    root: BorrowedFd<'_>,
    is_image: bool,
    warnings: &mut Vec<String>,
) {
    for mount in host_mounts(state) {
        if !(is_image && open_in(root, &mount).is_err()) {
            show_host(&mount, root, warnings);
        }
    }
}

/// Mount points of the host that hold files of people, in the order of mounting.
fn host_mounts(state: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = text.lines().filter_map(disk_mount).collect();
    found.retain(|point| !point.starts_with(state) && point != Path::new("/"));
    found.truncate(HOST_MOUNTS_MAX);
    found
}

/// The mount point in a line of mountinfo, when a disk is behind it.
pub(crate) fn disk_mount(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let point = unescape(before.split(' ').nth(4)?);
    let kind = after.split(' ').next()?;
    let disk = matches!(
        kind,
        "ext2"
            | "ext3"
            | "ext4"
            | "xfs"
            | "btrfs"
            | "f2fs"
            | "zfs"
            | "bcachefs"
            | "vfat"
            | "exfat"
            | "ntfs3"
            | "nfs"
            | "nfs4"
            | "cifs"
            | "9p"
            | "virtiofs"
            | "squashfs"
            | "erofs"
            | "fuseblk"
    );
    let covered = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    let covered = covered.iter().any(|folder| Path::new(&point).starts_with(folder));
    (disk && !covered).then(|| PathBuf::from(point))
}

/// mountinfo writes space, tab, line break and backslash as `\ooo`.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        match after.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(code) => {
                plain.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn show_host(point: &Path, root: BorrowedFd<'_>, warnings: &mut Vec<String>) {
    let show = || -> Result<()> {
        let source = rustix::fs::open(
            point,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            Bits::empty(),
        )?;
        let target = open_in(root, point)?;
        rustix::mount::mount_bind(super::shown(source.as_fd()), super::shown(target.as_fd()))?;
        make_read_only(open_in(root, point)?.as_fd())
    };
    if let Err(e) = show() {
        warnings.push(format!("{} is not visible: {e}", point.display()));
    }
}

/// `/dev`, `/sys` and, when `scratch`, `/tmp` and `/run` of its own.
pub(super) fn devices(
    root: BorrowedFd<'_>,
    scratch: bool,
    warnings: &mut Vec<String>,
) -> Outcome<()> {
    let why = |what: &'static str| move |e: Errno| failure(Step::View, what, e.into());
    let at = |path: &str| provide(root, Path::new(path), true);
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    let resolver = resolver_file();
    let mount = |path: &'static str, kind: &str, flags: MountFlags, options: &str| {
        at(path).and_then(|place| mount_on(place.as_fd(), kind, flags, options)).map_err(why(path))
    };
    // The host's nodes are bound where making some is refused, so they are opened first.
    let nodes = ["null", "zero", "full", "random", "urandom", "tty"];
    let hosts: Vec<_> = nodes.map(|n| super::open_path(&Path::new("/dev").join(n))).into();
    mount("/dev", "tmpfs", MountFlags::NOSUID, "mode=0755,size=64k")?;
    for (name, host) in nodes.into_iter().zip(hosts) {
        let path = Path::new("/dev").join(name);
        let dev = at("/dev").map_err(why("/dev"))?;
        if make_node(dev.as_fd(), name).is_err() {
            let host = host?;
            provide(root, &path, false)
                .and_then(|place| bind(host.as_fd(), place.as_fd()))
                .map_err(why("/dev"))?;
        }
    }
    for (to, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        let dev = at("/dev").map_err(why("/dev"))?;
        rustix::fs::symlinkat(to, dev, name).map_err(why("/dev"))?;
    }
    let terminals = "newinstance,ptmxmode=0666,mode=0620";
    if let Err(e) = mount("/dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, terminals)
    {
        warnings.push(format!("no terminals: {e}"));
    }
    mount("/dev/shm", "tmpfs", safe, "mode=1777")?;
    if let Err(e) = mount("/dev/mqueue", "mqueue", safe | MountFlags::NOEXEC, "") {
        warnings.push(format!("no message queues: {e}"));
    }
    if let Err(e) = mount("/sys", "sysfs", safe | MountFlags::RDONLY | MountFlags::NOEXEC, "") {
        let sys = super::open_path(Path::new("/sys"))?;
        let bound = at("/sys").and_then(|place| bind(sys.as_fd(), place.as_fd()));
        if bound.and_then(|()| make_read_only(open_in(root, Path::new("/sys"))?.as_fd())).is_err() {
            warnings.push(format!("no /sys: {e}"));
        }
    }
    if scratch {
        mount("/tmp", "tmpfs", safe, "mode=1777")?;
        mount("/run", "tmpfs", safe, "mode=0755")?;
    }
    if let Some((path, content)) = resolver {
        let place = provide(root, &path, false).map_err(why("/etc/resolv.conf"))?;
        fs::write(super::shown(place.as_fd()), content)
            .map_err(|e| failure(Step::View, "/etc/resolv.conf", e))?;
    }
    Ok(())
}

/// The host's resolver configuration, when it lies in the folder that is about to be covered.
fn resolver_file() -> Option<(PathBuf, Vec<u8>)> {
    let path = fs::canonicalize("/etc/resolv.conf").ok()?;
    let content = path.starts_with("/run").then(|| fs::read(&path).ok())??;
    Some((path, content))
}

fn make_node(dev: BorrowedFd<'_>, name: &str) -> Result<()> {
    let (major, minor) = match name {
        "null" => (1, 3),
        "zero" => (1, 5),
        "full" => (1, 7),
        "random" => (1, 8),
        "urandom" => (1, 9),
        _ => (5, 0),
    };
    let bits = Bits::from_raw_mode(0o666);
    let number = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(dev, name, FileType::CharacterDevice, bits, number)?;
    // Again, past the umask.
    rustix::fs::chmodat(dev, name, bits, rustix::fs::AtFlags::empty())
}

/// `/proc` that shows this PID namespace alone.
pub(super) fn fresh_proc(root: BorrowedFd<'_>) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let place = provide(root, Path::new("/proc"), true)?;
    mount_on(place.as_fd(), "proc", flags, "")
}

/// `/sys/fs/cgroup` as its cgroup namespace sees it, read-only: runtimes such as Java size
/// themselves by the limits that they find there.
pub(super) fn own_cgroups(root: BorrowedFd<'_>) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let place = || open_in(root, Path::new("/sys/fs/cgroup"));
    // The host's mounts go, not only out of sight: runtimes read the list of mounts and would take
    // the first. In a fresh /sys there are none.
    for _ in 0..16 {
        let Ok(here) = place() else { break };
        if rustix::mount::unmount(super::shown(here.as_fd()), UnmountFlags::DETACH).is_err() {
            break;
        }
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let v1 = v1_hierarchies(&own);
    if v1.is_empty() {
        return mount_on(place()?.as_fd(), "cgroup2", flags | MountFlags::RDONLY, "");
    }
    mount_on(place()?.as_fd(), "tmpfs", flags, "mode=0755,size=64k")?;
    for controllers in v1 {
        let target = Path::new("/sys/fs/cgroup").join(controllers);
        let target = provide(root, &target, true)?;
        mount_on(target.as_fd(), "cgroup", flags | MountFlags::RDONLY, controllers)?;
    }
    let unified = provide(root, Path::new("/sys/fs/cgroup/unified"), true)?;
    mount_on(unified.as_fd(), "cgroup2", flags | MountFlags::RDONLY, "")
}

/// The controllers of each v1 hierarchy that says something about limits. A runtime wants all of
/// them or believes none, and together they are mounted as they are on the host.
pub(crate) fn v1_hierarchies(own: &str) -> Vec<&str> {
    let wanted = ["cpu", "cpuacct", "cpuset", "memory", "pids"];
    let names = own.lines().filter_map(|line| line.split(':').nth(1));
    names.filter(|names| names.split(',').any(|name| wanted.contains(&name))).collect()
}

/// Keeps root in an instance from the machine's settings and secrets. What is missing needs no
/// guard.
pub(super) fn guard_proc() {
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"] {
        let _missing = freeze(path);
    }
    for path in [
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/timer_list",
        "/proc/timer_stats",
    ] {
        let _missing = rustix::mount::mount_bind("/dev/null", path);
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for path in [
        "/proc/acpi",
        "/proc/asound",
        "/proc/scsi",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ] {
        let _missing = rustix::mount::mount("tmpfs", path, "tmpfs", flags, Some(c"size=4k"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_mounted_as_on_the_host() {
        let own = "9:name=systemd:/\n4:memory:/a\n3:cpu,cpuacct:/\n2:freezer:/\n0::/";
        assert_eq!(v1_hierarchies(own), ["memory", "cpu,cpuacct"]);
        assert!(v1_hierarchies("0::/a").is_empty());
    }

    #[test]
    fn only_disks_outside_private_folders_are_shown() {
        let disk =
            |point: &str| format!("1 2 8:1 / {point} rw,relatime shared:1 - ext4 /dev/sda1 rw");
        assert_eq!(disk_mount(&disk("/home")), Some("/home".into()));
        assert_eq!(disk_mount(&disk("/my\\040disk")), Some("/my disk".into()));
        assert_eq!(disk_mount(&disk("/tmp/x")), None);
        assert_eq!(disk_mount("1 2 0:5 / /home rw - tmpfs tmpfs rw"), None);
        assert_eq!(disk_mount("nonsense"), None);
    }
}
