//! What `/proc` says about processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// `f_type` of a file system of processes, which Linux has since 6.9.
const PIDFS: rustix::fs::FsWord = 0x5049_4446;

/// Parent and start time of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    /// `Z` is a zombie.
    pub(crate) state: u8,
    /// Clock ticks since boot.
    pub(crate) start: u64,
    pub(crate) cpu_ticks: u64,
    pub(crate) resident_pages: u64,
}

/// What `/proc/PID/stat` says; `None` when the process is gone.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, parentheses and spaces included.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.bytes().next()?;
    let parent = fields.next()?.parse().ok()?;
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let (user, system) = (number(9)?, number(0)?);
    let start = number(6)?;
    let resident_pages = number(1)?;
    Some(Stat { parent, state, start, cpu_ticks: user + system, resident_pages })
}

/// This boot's id: a pid means nothing after another.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Whether `/proc` counts processes as this one does: after `unshare -pf` it is still the one of
/// the namespace outside, where a pid from here is somebody else's.
fn is_ours() -> bool {
    let own = fs::read_link("/proc/self").ok();
    own.is_some_and(|own| own.as_os_str() == std::process::id().to_string().as_str())
}

/// What tells this process from all others of its pid in this boot: when it began, in clock ticks
/// since boot, or where `/proc` cannot say that its number in the kernel's own file system of
/// processes.
pub(crate) fn mark(pid: u32) -> Option<u64> {
    if is_ours() {
        return Some(stat(pid)?.start);
    }
    let pidfd = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    let in_pidfs = rustix::fs::fstatfs(&pidfd).ok()?.f_type == PIDFS;
    in_pidfs.then_some(rustix::fs::fstat(&pidfd).ok()?.st_ino)
}

/// Whether this process is the one with that mark, and has not ended.
pub(crate) fn is_alive(pid: u32, its_mark: u64) -> bool {
    let has_ended = is_ours() && stat(pid).is_none_or(|stat| matches!(stat.state, b'Z' | b'X'));
    !has_ended && mark(pid) == Some(its_mark)
}

/// Every process that `/proc` shows, by pid; none when those are not pids of here.
pub(crate) fn all() -> BTreeMap<u32, Stat> {
    if !is_ours() {
        return BTreeMap::new();
    }
    let Ok(folder) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// `root` and everything below it among `all`.
pub(crate) fn tree(all: &BTreeMap<u32, Stat>, root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (pid, stat) in all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut found = BTreeSet::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        if all.contains_key(&pid) && found.insert(pid) {
            let key = i32::try_from(pid).unwrap_or(-1);
            next.extend(children.get(&key).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 1 0 9876 1000 33 \
                    18446744073709551615 1 1";
        assert_eq!(
            parse_stat(line),
            Some(Stat { parent: 7, state: b'S', start: 9876, cpu_ticks: 33, resident_pages: 33 })
        );
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn finds_itself() {
        let me = std::process::id();
        let its_mark = mark(me).unwrap();
        assert!(is_alive(me, its_mark) && !is_alive(me, its_mark + 1));
        assert!(tree(&all(), me).contains(&me));
        assert!(!boot_id().is_empty());
    }
}
