//! Control groups: life cycle in cgroup2, limits wherever each controller is.
//!
//! Invariants: directories are as near to the engine's own path as the kernel allows, so that most
//! limits on the engine hold for its instances; each controller is looked for by itself, since a
//! host may have some in cgroup2 and others in v1; an instance stays where it was born, also when
//! its engine comes back somewhere else; everything is optional, and what is missing is said.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::InstanceId;

use crate::spec::Limits;

/// What limits need.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "pids", CPUSET];

/// Which processors; wanted so rarely that nobody is told of its absence before.
const CPUSET: &str = "cpuset";

/// Period of processor limits, in microseconds.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// The smallest processor quota that the kernel takes, in microseconds.
const CPU_QUOTA_MICROS_MIN: u64 = 1_000;

/// How often, and after which pause, a directory is tried that has processes on their way out.
pub(crate) const REMOVAL_TRIES: u32 = 400;
pub(crate) const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// Name of a directory in which something is only tried; no instance's, since those have a number.
pub(crate) const TRIAL: &str = "trial";

/// Where this engine's instances have their directories.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    /// Parent in cgroup2.
    unified: Option<PathBuf>,
    /// Whether each controller can be used in cgroup2.
    unified_controllers: Vec<&'static str>,
    /// Parents in v1, by controller.
    v1: BTreeMap<&'static str, PathBuf>,
    /// Directories of instances that were born below other parents: the engine before this one was
    /// started from another session.
    elsewhere: Mutex<BTreeMap<String, Folders>>,
    /// Held while directories come and go: the last instance takes the parents with it.
    changing: Mutex<()>,
}

/// Where an instance is: its directory in cgroup2, and those in v1 by controller.
#[derive(Clone, Debug, Default)]
struct Folders {
    unified: Option<PathBuf>,
    v1: BTreeMap<&'static str, PathBuf>,
}

/// One instance's directories.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstanceCgroup {
    pub(crate) unified: Option<PathBuf>,
    /// `cgroup.procs` files of v1 to join.
    pub(crate) join: Vec<PathBuf>,
    /// File with an `oom_kill` count.
    pub(crate) oom: Option<PathBuf>,
    /// Limits that could not be set, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// A hierarchy as `/proc/self/mountinfo` and `/proc/self/cgroup` describe it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) top: PathBuf,
    /// The directory of this process.
    pub(crate) own: PathBuf,
}

impl Cgroups {
    /// Finds what can be written, makes the parents, and says what is missing.
    pub(crate) fn open(name: &str) -> (Cgroups, Vec<String>) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut found = Cgroups::default();
        let mut missing = Vec::new();
        match find(&mounts, &own, None, name) {
            Some(hierarchy) => match found.open_unified(&hierarchy, name) {
                Ok(()) => {}
                Err(e) => {
                    missing.push(format!("cgroup2 directories: {}: {e}", hierarchy.own.display()))
                }
            },
            None => missing.push("cgroup2 directories: not mounted".to_owned()),
        }
        for controller in CONTROLLERS {
            if found.unified_controllers.contains(&controller) {
                continue;
            }
            let why = match find(&mounts, &own, Some(controller), name) {
                Some(hierarchy) => {
                    let parent = hierarchy.own.join(name);
                    match make(&parent) {
                        Ok(()) => {
                            found.v1.insert(controller, parent);
                            continue;
                        }
                        Err(e) => format!("{}: {e}", parent.display()),
                    }
                }
                None => "no such controller here".to_owned(),
            };
            if controller != CPUSET {
                missing.push(format!("{controller} limits: {why}"));
            }
        }
        (found, missing)
    }

    /// Finds the nearest directory, from our own up, whose children may have the most controllers:
    /// one that has processes gives its children none.
    fn open_unified(&mut self, hierarchy: &Hierarchy, name: &str) -> io::Result<()> {
        let mut refused = None;
        let mut best: Option<(PathBuf, Vec<&'static str>)> = None;
        let up = hierarchy.own.ancestors().take_while(|folder| folder.starts_with(&hierarchy.top));
        for folder in up {
            let parent = folder.join(name);
            if let Err(e) = make(&parent) {
                refused.get_or_insert(e);
                continue;
            }
            let usable = controllers_below(folder, &parent, folder == hierarchy.own);
            let more = best.as_ref().is_none_or(|(_, best)| usable.len() > best.len());
            // Where v1 has them all, no directory further up has more.
            let enough = usable.len() == CONTROLLERS.len() || !offers_any(&hierarchy.top);
            // Ours without instances; with them it stays.
            let unused = if more { best.replace((parent, usable)) } else { Some((parent, usable)) };
            if let Some((unused, _)) = unused {
                let _in_use = fs::remove_dir(unused);
            }
            if enough {
                break;
            }
        }
        let Some((parent, usable)) = best else {
            return Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()));
        };
        self.unified = Some(parent);
        self.unified_controllers = usable;
        Ok(())
    }

    /// Learns where an instance is that was born under another engine, by the first of its
    /// processes; `mounts` is `/proc/self/mountinfo`.
    pub(crate) fn adopt(&self, name: &str, pid: u32, mounts: &str) {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let find = |controller| {
            let found = locate(mounts, &cgroups, controller)?.own;
            // Not one that it shares with others: it was made without a directory then.
            found.ends_with(name).then_some(found)
        };
        let v1 = CONTROLLERS.into_iter().filter_map(|c| Some((c, find(Some(c))?))).collect();
        let folders = Folders { unified: find(None), v1 };
        let here = self.unified.as_ref().map(|parent| parent.join(name));
        if folders.unified.is_some() && folders.unified != here {
            let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
            elsewhere.insert(name.to_owned(), folders);
        }
    }

    /// The directories of an instance, there or not.
    fn folders(&self, name: &str) -> Folders {
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folders) = elsewhere.get(name) {
            return folders.clone();
        }
        let v1 = self.v1.iter().map(|(controller, parent)| (*controller, parent.join(name)));
        Folders { unified: self.unified.as_ref().map(|parent| parent.join(name)), v1: v1.collect() }
    }

    /// A cgroup2 directory to try things with; to be removed.
    pub(crate) fn make_trial(&self) -> Option<PathBuf> {
        let path = self.unified(TRIAL)?;
        make(&path).is_ok().then_some(path)
    }

    /// Does without cgroup2.
    pub(crate) fn leave_unified(&mut self) {
        self.close();
        self.unified = None;
        self.unified_controllers.clear();
    }

    /// The cgroup2 directory of an instance.
    pub(crate) fn unified(&self, name: &str) -> Option<PathBuf> {
        self.folders(name).unified
    }

    /// Makes an instance's directories with its limits.
    pub(crate) fn create(&self, id: &InstanceId, limits: &Limits) -> InstanceCgroup {
        let name = id.to_string();
        self.remove(&name);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // The last instance before this one has taken them with it.
        if let Some(parent) = &self.unified {
            let _said_below = make(parent);
        }
        if let Some(parent) = &self.unified
            && !self.unified_controllers.is_empty()
        {
            let _said_below = enable(parent, &self.unified_controllers);
        }
        let mut made = InstanceCgroup::default();
        if let Some(path) = self.unified(&name) {
            match make(&path) {
                Ok(()) => made.unified = Some(path),
                Err(e) => made.warnings.push(format!("no cgroup: {}: {e}", path.display())),
            }
        }
        self.limit_memory(limits, &name, &mut made);
        if let Some(cpus) = limits.cpus {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "clamped to what the kernel takes; `as` saturates"
            )]
            let quota = (cpus.clamp(0.0, 1e5) * CPU_PERIOD_MICROS as f64) as u64;
            let quota = quota.max(CPU_QUOTA_MICROS_MIN);
            let v2 = [("cpu.max", format!("{quota} {CPU_PERIOD_MICROS}"))];
            let v1 = [
                ("cpu.cfs_period_us", CPU_PERIOD_MICROS.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ];
            self.limit("cpu", &name, &v2, &v1, &mut made);
        }
        if let Some(shares) = limits.cpu_shares {
            // Between the least and the most of each, as everybody converts them.
            let shares = u64::from(shares.clamp(2, 262_144));
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            let v2 = [("cpu.weight", weight.to_string())];
            self.limit("cpu", &name, &v2, &[("cpu.shares", shares.to_string())], &mut made);
        }
        if let Some(cpuset) = &limits.cpuset {
            let file = [("cpuset.cpus", cpuset.clone())];
            self.limit(CPUSET, &name, &file, &file, &mut made);
        }
        if let Some(pids) = limits.pids {
            // The shim counts too.
            let max = pids.saturating_add(1).to_string();
            let file = [("pids.max", max)];
            self.limit("pids", &name, &file, &file, &mut made);
        }
        made
    }

    fn limit_memory(&self, limits: &Limits, name: &str, made: &mut InstanceCgroup) {
        let both = limits.memory_and_swap_bytes;
        if let Some(bytes) = limits.memory_bytes {
            let swap = both.map_or(0, |both| both.saturating_sub(bytes));
            let v2 = [("memory.max", bytes.to_string()), ("memory.swap.max", most(swap, "max"))];
            let v1 = [
                ("memory.limit_in_bytes", bytes.to_string()),
                ("memory.memsw.limit_in_bytes", most(both.unwrap_or(bytes).max(bytes), "-1")),
            ];
            self.limit("memory", name, &v2, &v1, made);
        }
        if let Some(bytes) = limits.memory_reserved_bytes {
            let bytes = bytes.to_string();
            let v1 = [("memory.soft_limit_in_bytes", bytes.clone())];
            self.limit("memory", name, &[("memory.low", bytes)], &v1, made);
        }
    }

    /// Sets one controller's files, the first of which must succeed.
    fn limit(
        &self,
        controller: &'static str,
        name: &str,
        v2: &[(&str, String)],
        v1: &[(&str, String)],
        made: &mut InstanceCgroup,
    ) {
        let (folder, files) = match (&made.unified, self.v1.get(controller)) {
            (Some(path), _) if self.unified_controllers.contains(&controller) => {
                if controller == "memory" {
                    made.oom = Some(path.join("memory.events"));
                }
                (path.clone(), v2)
            }
            (_, Some(parent)) => {
                let folder = parent.join(name);
                if let Err(e) = make(parent).and_then(|()| make(&folder)) {
                    made.warnings.push(format!("{controller} limit not set: {e}"));
                    return;
                }
                if controller == CPUSET {
                    let _said_below = inherit_cpuset(parent).and_then(|()| inherit_cpuset(&folder));
                }
                let join = folder.join("cgroup.procs");
                if !made.join.contains(&join) {
                    made.join.push(join);
                }
                if controller == "memory" {
                    made.oom = Some(folder.join("memory.oom_control"));
                }
                (folder, v1)
            }
            _ => {
                made.warnings.push(format!("{controller} limit not set: no such controller here"));
                return;
            }
        };
        for (at, (file, value)) in files.iter().enumerate() {
            // Only swap comes second, and not every kernel accounts for it.
            let set = fs::write(folder.join(file), value);
            if let Err(e) = set
                && !(controller == "memory" && at == 1)
            {
                made.warnings.push(format!("{controller} limit not set: {file}: {e}"));
            }
        }
    }

    /// Kills everything in an instance's cgroup; false when there is no way to.
    pub(crate) fn kill(&self, name: &str) -> bool {
        let path = self.unified(name).map(|path| path.join("cgroup.kill"));
        path.is_some_and(|path| fs::write(path, "1").is_ok())
    }

    /// Removes an instance's directories, and the parents with the last of them. False when one
    /// stays since there are processes in it: a process that was killed takes a moment to go.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all_gone = true;
        let folders = self.folders(name);
        for folder in folders.unified.iter().chain(folders.v1.values()) {
            let removed = fs::remove_dir(folder);
            all_gone &= !removed.is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy);
        }
        if all_gone {
            let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = elsewhere.remove(name) {
                for parent in left.unified.iter().chain(left.v1.values()).filter_map(|f| f.parent())
                {
                    let _in_use = fs::remove_dir(parent);
                }
            }
        }
        self.close();
        all_gone
    }

    /// Removes the parents, unless there are instances in them.
    pub(crate) fn close(&self) {
        for parent in self.unified.iter().chain(self.v1.values()) {
            let _in_use = fs::remove_dir(parent);
        }
    }

    /// Names of instances that have a directory.
    pub(crate) fn names(&self) -> Vec<String> {
        let parents = self.unified.iter().chain(self.v1.values());
        let entries = parents.filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<_> =
            folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Processes of an instance.
    pub(crate) fn processes(&self, name: &str) -> Option<Vec<u32>> {
        let text = fs::read_to_string(self.unified(name)?.join("cgroup.procs")).ok()?;
        Some(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Processor time of an instance, in microseconds.
    pub(crate) fn cpu_micros(&self, name: &str) -> Option<u64> {
        // In cgroup2 it is counted whether or not the controller is there.
        let text = fs::read_to_string(self.unified(name)?.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
    }

    /// Memory of an instance, in bytes, where it is counted; without what the kernel only keeps
    /// until somebody wants the room.
    pub(crate) fn memory_bytes(&self, name: &str) -> Option<u64> {
        let Folders { unified, mut v1 } = self.folders(name);
        let v1 = v1.remove("memory");
        let read = |folder: PathBuf, usage: &str, cache: &str| {
            let usage: u64 = fs::read_to_string(folder.join(usage)).ok()?.trim().parse().ok()?;
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let cache = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse().ok());
            Some(usage.saturating_sub(cache.unwrap_or(0)))
        };
        unified
            .and_then(|folder| read(folder, "memory.current", "inactive_file "))
            .or_else(|| read(v1?, "memory.usage_in_bytes", "total_inactive_file "))
    }
}

/// A number of bytes, or the kernel's word for no limit.
fn most(bytes: u64, unlimited: &str) -> String {
    // What is left of everything when a part is taken is still everything.
    if bytes > u64::MAX / 2 { unlimited.to_owned() } else { bytes.to_string() }
}

/// Gives a cpuset of v1 what the one above has: no process may join an empty one.
fn inherit_cpuset(folder: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = folder.join(file);
        if fs::read_to_string(&own)?.trim().is_empty() {
            let above = folder.parent().unwrap_or(folder).join(file);
            fs::write(own, fs::read_to_string(above)?.trim())?;
        }
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            // A directory that cannot be written to is of no use.
            rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(io::Error::from)
        }
        made => made,
    }
}

/// Gives the children of a cgroup2 directory these controllers.
fn enable(folder: &Path, controllers: &[&str]) -> io::Result<()> {
    let each: Vec<_> = controllers.iter().map(|c| format!("+{c}")).collect();
    fs::write(folder.join("cgroup.subtree_control"), each.join(" "))
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The directory of this process in the hierarchy of a v1 controller, or in cgroup2.
pub(crate) fn find(
    mounts: &str,
    own: &str,
    controller: Option<&str>,
    name: &str,
) -> Option<Hierarchy> {
    let mut found = locate(mounts, own, controller)?;
    // Started again from inside a directory of ours, such as by its supervisor.
    let ours = found.own.ancestors().find(|folder| folder.ends_with(name));
    if let Some(outer) = ours.and_then(Path::parent) {
        found.own = outer.to_path_buf();
    }
    Some(found)
}

/// The directory that `/proc/PID/cgroup`, which reads `cgroups`, says for a v1 controller or cgroup2.
fn locate(mounts: &str, cgroups: &str, controller: Option<&str>) -> Option<Hierarchy> {
    let (root, top) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let matches = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        matches.then_some((root, point))
    })?;
    let path = cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, names) = (fields.next()?, fields.next()?);
        let matches = match controller {
            None => number == "0" && names.is_empty(),
            Some(controller) => names.split(',').any(|name| name == controller),
        };
        matches.then(|| fields.next())?
    })?;
    let path = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    let top = PathBuf::from(top);
    Some(Hierarchy { own: top.join(path.trim_start_matches('/')), top })
}

/// What children of `parent` may have of the controllers, after its own parent `folder` was asked
/// to pass them on. Where that is refused since `folder` is our own and nobody else is in it, we
/// move into a leaf of it.
fn controllers_below(folder: &Path, parent: &Path, own: bool) -> Vec<&'static str> {
    let available = words(&folder.join("cgroup.controllers"));
    let wanted = CONTROLLERS.into_iter().filter(|c| available.iter().any(|a| a == c));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return wanted;
    }
    if enable(folder, &wanted).is_err() && own && move_aside(folder, parent).is_ok() {
        let _said_below = enable(folder, &wanted);
    }
    let _said_below = enable(parent, &wanted);
    let usable = words(&parent.join("cgroup.subtree_control"));
    wanted.into_iter().filter(|c| usable.iter().any(|u| u == c)).collect()
}

/// Whether cgroup2, mounted there, has any of the controllers that limits need.
fn offers_any(top: &Path) -> bool {
    words(&top.join("cgroup.controllers")).iter().any(|word| CONTROLLERS.contains(&word.as_str()))
}

/// Moves this process and the one that started it into a leaf, when nobody else is in the way.
fn move_aside(folder: &Path, parent: &Path) -> io::Result<()> {
    let us = [
        Some(std::process::id()),
        rustix::process::getppid().map(|pid| {
            #[expect(clippy::cast_sign_loss, reason = "process ids are positive")]
            let pid = pid.as_raw_nonzero().get() as u32;
            pid
        }),
    ];
    let there: Vec<u32> =
        words(&folder.join("cgroup.procs")).iter().flat_map(|w| w.parse()).collect();
    if !there.iter().all(|pid| us.contains(&Some(*pid))) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let leaf = parent.join("engine");
    make(&leaf)?;
    there.iter().try_for_each(|pid| fs::write(leaf.join("cgroup.procs"), pid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 /a /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    const OWN: &str = "5:memory:/x/y\n3:cpu,cpuacct:/\n0::/a/b";

    #[test]
    fn each_controller_is_found_where_it_is() {
        let own = |controller| find(MOUNTS, OWN, controller, "ms-1").map(|h| h.own);
        assert_eq!(own(Some("memory")), Some("/sys/fs/cgroup/memory/x/y".into()));
        assert_eq!(own(Some("cpu")), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(own(Some("pids")), None);
        assert_eq!(own(None), Some("/sys/fs/cgroup/unified/b".into()));
    }

    #[test]
    fn an_instance_is_where_its_process_says() {
        let cgroups = "5:memory:/x/y/ms-1/web.1\n0::/a/run-7.scope/ms-1/web.1";
        let at = |controller| locate(MOUNTS, cgroups, controller).map(|h| h.own);
        assert_eq!(at(Some("memory")), Some("/sys/fs/cgroup/memory/x/y/ms-1/web.1".into()));
        assert_eq!(at(None), Some("/sys/fs/cgroup/unified/run-7.scope/ms-1/web.1".into()));
        assert_eq!(at(Some("cpuset")), None);
    }

    #[test]
    fn a_second_start_does_not_nest() {
        let own = "0::/a/b/ms-1/engine";
        let found = find(MOUNTS, own, None, "ms-1").map(|h| h.own);
        assert_eq!(found, Some("/sys/fs/cgroup/unified/b".into()));
    }
}
