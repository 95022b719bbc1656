//! Room on the disk of the state folder: looked at now and then, and told when it runs out and when
//! it is back. And whether records can be written, which decides what can be relied on.
//!
//! Not here: making any. Invariant: what is said is what was seen at the last look.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::units::show_bytes;
use base::{Problem, UnixNanos};
use control::{Level, Note};

/// With less than this there is hardly any, in bytes.
const LOW_BYTES: u64 = 16 << 20;
/// With this there is enough again, in bytes.
const ENOUGH_BYTES: u64 = 2 * LOW_BYTES;

/// What was seen.
pub(super) struct Room {
    dir: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Bytes that are left, while they are few.
    left: Option<u64>,
    /// Whether people were told so.
    told: bool,
    /// Since when records cannot be written, and why.
    unwritten: Option<(UnixNanos, String)>,
}

impl Room {
    /// The room that the state folder has.
    pub(super) fn new(dir: &Path) -> Room {
        Room { dir: dir.to_owned(), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks; what is to be told until [`Room::was_told`].
    pub(super) fn look(&self) -> Option<Note> {
        let left = left(&self.dir)?;
        let mut seen = self.seen();
        let enough = if seen.left.is_some() { ENOUGH_BYTES } else { LOW_BYTES };
        seen.left = (left < enough).then_some(left);
        match (seen.left, seen.told) {
            (Some(left), false) => Some(Note {
                level: Level::Error,
                kind: "disk-full".to_owned(),
                message: format!("{}; {CONSEQUENCE}", shortage(left, &self.dir)),
            }),
            (None, true) => Some(Note {
                level: Level::Info,
                kind: "disk-has-room".to_owned(),
                message: format!(
                    "the disk of the state folder has room again: {}",
                    show_bytes(left)
                ),
            }),
            _ => None,
        }
    }

    /// People were told what [`Room::look`] said.
    pub(super) fn was_told(&self) {
        let mut seen = self.seen();
        seen.told = seen.left.is_some();
    }

    /// Whether records can be written: `None`, or why not. True when that is new.
    pub(super) fn records(&self, refused: Option<String>, now: UnixNanos) -> bool {
        let mut seen = self.seen();
        let before = seen.unwritten.take();
        let since = before.as_ref().map_or(now, |(since, _)| *since);
        let is_new = before.is_some() != refused.is_some();
        seen.unwritten = refused.map(|why| (since, why));
        is_new
    }

    /// What keeps the engine from its work now.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let seen = self.seen();
        let full = seen.left.map(|left| {
            Problem::new("disk-full", shortage(left, &self.dir))
                .with_cause(CONSEQUENCE)
                .with_next("delete what is not needed there; what waits goes on by itself")
        });
        let unwritten = seen.unwritten.as_ref().map(|(since, why)| {
            let since = jiff::Timestamp::from_nanosecond(i128::from(since.0));
            let since = since.map_or_else(|_| String::new(), |at| format!(" since {at:.0}"));
            let what = format!("the engine cannot write its records{since}: it changes nothing");
            Problem::new("state-folder", format!("{what}, and what it shows may be out of date"))
                .with_cause(why.clone())
                .with_next("make room on the disk of the state folder; it tries every second")
        });
        full.into_iter().chain(unwritten).collect()
    }
}

const CONSEQUENCE: &str =
    "without room output of services and metric history are lost, and starts and builds fail";

fn shortage(left: u64, dir: &Path) -> String {
    let left = if left < 1 << 20 {
        "is full".to_owned()
    } else {
        format!("has {} left", show_bytes(left))
    };
    format!("the disk of the state folder {left} ({})", dir.display())
}

/// Bytes that may still be written; none where no more files can be made.
fn left(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    let files_left = disk.f_files == 0 || disk.f_favail > 0;
    Some(if files_left { disk.f_bavail.saturating_mul(disk.f_frsize) } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_the_problems_knows_since_when_and_why() {
        let room = Room::new(Path::new("/"));
        assert!(room.problems().is_empty());
        let at = UnixNanos(1_700_000_000_000_000_000);
        assert!(room.records(Some("it is full".to_owned()), at));
        assert!(!room.records(Some("it is full".to_owned()), UnixNanos(u64::MAX)));
        let problem = &room.problems()[0];
        assert!(problem.message.contains("since 2023-11-14T22:13:20Z"), "{problem}");
        assert_eq!(problem.cause.as_deref(), Some("it is full"));
        assert!(room.records(None, at));
        assert!(room.problems().is_empty());
    }
}
