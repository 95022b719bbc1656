//! Output becomes lines in log files, in the format of Kubernetes' container runtimes:
//! `2026-11-22T04:26:18.123456789Z stdout F text`, with `P` for a part of a longer line.
//!
//! Invariants: a file holds whole entries only; writing never waits for a reader; when the disk
//! refuses, lines are dropped and counted, and the program goes on. An instance that keeps no
//! output is read all the same, or its program would wait for a reader.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use base::UnixNanos;
use rustix::fs::{Mode, OFlags};

use super::LogLimits;
use crate::exit::LAST_LINES;

/// A longer line is written in parts of this size, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 16 << 10;

/// A longer one is cut in the crash report, in bytes.
const LAST_LINE_BYTES_MAX: usize = 1 << 10;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// One stream's unfinished line.
pub(super) struct Lines {
    stream: Stream,
    open: Vec<u8>,
    /// Whether the open line has begun in earlier parts.
    continued: bool,
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Lines {
        Lines { stream, open: Vec::new(), continued: false }
    }

    /// Takes what was read and gives each finished line or part: `(text, whether it ends here)`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.open.len();
            let window = &bytes[..bytes.len().min(room)];
            match window.iter().position(|b| *b == b'\n') {
                Some(end) if self.open.is_empty() => {
                    each(&window[..end], true);
                    bytes = &bytes[end + 1..];
                    self.continued = false;
                }
                Some(end) => {
                    self.open.extend_from_slice(&window[..end]);
                    each(&self.open, true);
                    self.close();
                    bytes = &bytes[end + 1..];
                }
                None => {
                    self.open.extend_from_slice(window);
                    bytes = &bytes[window.len()..];
                    if self.open.len() == LINE_BYTES_MAX && bytes.first() != Some(&b'\n') {
                        // A line of exactly this length ends with the line break that may yet
                        // come, as an empty last part.
                        each(&self.open, false);
                        self.open.clear();
                        self.continued = true;
                    } else if self.open.len() == LINE_BYTES_MAX {
                        each(&self.open, true);
                        self.close();
                        bytes = &bytes[1..];
                    }
                }
            }
        }
    }

    /// The stream ended: what is open is a line.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&[u8], bool)) {
        if !self.open.is_empty() || self.continued {
            each(&self.open, true);
        }
        self.close();
    }

    fn close(&mut self) {
        self.open.clear();
        self.open.shrink_to(4 << 10);
        self.continued = false;
    }
}

/// The log files of one instance.
pub(super) struct Log {
    folder: OwnedFd,
    file: Option<OwnedFd>,
    size: u64,
    /// `None` keeps nothing.
    limits: Option<LogLimits>,
    dropped: u64,
    last: VecDeque<String>,
    batch: Vec<u8>,
}

const CURRENT: &str = "current.log";

impl Log {
    pub(super) fn open(folder: OwnedFd, limits: Option<LogLimits>) -> Log {
        let (last, batch) = (VecDeque::with_capacity(LAST_LINES), Vec::new());
        let mut log = Log { folder, file: None, size: 0, limits, dropped: 0, last, batch };
        if limits.is_some() {
            log.reopen();
        }
        log
    }

    fn reopen(&mut self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o640);
        self.file = rustix::fs::openat(&self.folder, CURRENT, flags, mode).ok();
        let stat = self.file.as_ref().and_then(|file| rustix::fs::fstat(file).ok());
        self.size = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    }

    /// Writes what was read from a stream, or its end when `bytes` is `None`.
    pub(super) fn take(&mut self, lines: &mut Lines, bytes: Option<&[u8]>, now: UnixNanos) {
        let Some(limits) = self.limits else { return };
        let head = Head::new(now, lines.stream);
        let (batch, last) = (&mut self.batch, &mut self.last);
        let mut count = 0u64;
        let continued = lines.continued;
        let mut first = true;
        let each = |text: &[u8], ends: bool| {
            head.write(batch, ends);
            batch.extend_from_slice(text);
            batch.push(b'\n');
            count += 1;
            // The rest of a long line says less than its beginning.
            if !(first && continued) {
                remember(last, text);
            }
            first = false;
        };
        match bytes {
            Some(bytes) => lines.feed(bytes, each),
            None => lines.finish(each),
        }
        if count > 0 {
            self.flush(count, limits, now);
        }
    }

    fn flush(&mut self, count: u64, limits: LogLimits, now: UnixNanos) {
        if self.size >= limits.file_bytes {
            self.rotate(limits, now);
        }
        if self.file.is_none() {
            self.reopen();
        }
        if self.dropped > 0 {
            // Said before the first lines that fit again.
            let mut note = Vec::new();
            Head::new(now, Stream::Stderr).write(&mut note, true);
            let dropped = self.dropped;
            note.extend_from_slice(
                format!(
                    "[ms: {dropped} lines lost: the log could not be \
                written]\n"
                )
                .as_bytes(),
            );
            note.append(&mut self.batch);
            self.batch = note;
        }
        match self.append() {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += count,
        }
        self.batch.clear();
        self.batch.shrink_to(64 << 10);
    }

    /// Appends the batch whole or not at all.
    fn append(&mut self) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut rest = self.batch.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(file, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    let _torn = rustix::fs::ftruncate(file, self.size);
                    return Err(e.into());
                }
            }
        }
        self.size += self.batch.len() as u64;
        Ok(())
    }

    /// Sets the file aside under a number above all others, also after somebody set the clock back:
    /// the numbers are the order of what was written.
    fn rotate(&mut self, limits: LogLimits, now: UnixNanos) {
        let newest = self.aside().last().copied();
        let number = newest.map_or(now.0, |newest| now.0.max(newest.saturating_add(1)));
        let aside = format!("{number}.log");
        if rustix::fs::renameat(&self.folder, CURRENT, &self.folder, &aside).is_ok() {
            self.file = None;
            self.reopen();
            self.prune(limits);
        }
    }

    /// The numbers of the files that were set aside, oldest first.
    fn aside(&self) -> Vec<u64> {
        let Ok(entries) = rustix::fs::Dir::read_from(self.folder.as_fd()) else {
            return Vec::new();
        };
        let number = |entry: rustix::fs::DirEntry| {
            entry.file_name().to_str().ok()?.strip_suffix(".log")?.parse::<u64>().ok()
        };
        let mut aside: Vec<u64> = entries.filter_map(|e| number(e.ok()?)).collect();
        aside.sort_unstable();
        aside
    }

    fn prune(&self, limits: LogLimits) {
        let aside = self.aside();
        let surplus = aside.len().saturating_sub(limits.files_kept as usize);
        for old in &aside[..surplus] {
            let name = format!("{old}.log");
            let _kept = rustix::fs::unlinkat(&self.folder, name, rustix::fs::AtFlags::empty());
        }
    }

    /// The last lines, oldest first.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}

fn remember(last: &mut VecDeque<String>, text: &[u8]) {
    if last.len() == LAST_LINES {
        last.pop_front();
    }
    let cut = &text[..text.len().min(LAST_LINE_BYTES_MAX)];
    last.push_back(String::from_utf8_lossy(cut).trim_end_matches('\r').to_owned());
}

/// What stands before the text of each line that was read at one moment.
struct Head {
    text: String,
}

impl Head {
    fn new(now: UnixNanos, stream: Stream) -> Head {
        Head { text: format!("{} {}", rfc3339(now), stream.name()) }
    }

    fn write(&self, to: &mut Vec<u8>, ends: bool) {
        to.extend_from_slice(self.text.as_bytes());
        to.extend_from_slice(if ends { b" F " } else { b" P " });
    }
}

/// UTC with nanoseconds.
fn rfc3339(at: UnixNanos) -> String {
    let (secs, nanos) = (at.secs(), at.0 % 1_000_000_000);
    let (days, of_day) = (secs / 86_400, secs % 86_400);
    // Days since 0000-03-01, so that a leap day ends its year; 400 years have 146 097 days.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn open(folder: &Path, limits: LogLimits) -> Log {
        Log::open(fs::File::open(folder).unwrap().into(), Some(limits))
    }

    #[test]
    fn what_is_not_to_be_kept_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(fs::File::open(folder.path()).unwrap().into(), None);
        let mut lines = Lines::new(Stream::Stdout);
        log.take(&mut lines, Some(b"a\nb"), UnixNanos(1));
        log.take(&mut lines, None, UnixNanos(2));
        assert!(log.last_lines().is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_asked_for_counts_the_file_that_is_written_to() {
        let own = LogLimits { file_bytes: 8, files_kept: 4 };
        let with = |none, file_bytes, files| own.with(&crate::Logging { none, file_bytes, files });
        assert_eq!(with(false, None, None), Some(own));
        assert_eq!(with(false, Some(5), Some(1)), Some(LogLimits { file_bytes: 5, files_kept: 0 }));
        assert_eq!(with(false, None, Some(3)), Some(LogLimits { file_bytes: 8, files_kept: 2 }));
        assert_eq!(with(true, Some(5), Some(1)), None);
    }

    #[test]
    fn time_reads_as_the_calendar_says() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_709_164_800_000_000_001, "2024-02-29T00:00:00.000000001Z"),
            (1_795_321_578_123_456_789, "2026-11-22T04:26:18.123456789Z"),
            (4_107_542_399_000_000_000, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(UnixNanos(nanos)), text);
        }
    }

    proptest! {
        /// However the bytes arrive, the parts put together are the lines of the text.
        #[test]
        fn lines_do_not_depend_on_how_bytes_arrive(
            lengths in prop::collection::vec(0usize..40_000, 0..6),
            step in 1usize..20_000,
            ends_with_break: bool,
        ) {
            let texts: Vec<_> = lengths.iter().map(|n| "x".repeat(*n)).collect();
            let mut all = texts.join("\n");
            if ends_with_break {
                all.push('\n');
            }
            let mut lines = Lines::new(Stream::Stdout);
            let (mut seen, mut open) = (Vec::new(), String::new());
            let mut each = |part: &[u8], ends: bool| {
                assert!(part.len() <= LINE_BYTES_MAX);
                open.push_str(std::str::from_utf8(part).unwrap());
                if ends {
                    seen.push(std::mem::take(&mut open));
                }
            };
            for chunk in all.as_bytes().chunks(step) {
                lines.feed(chunk, &mut each);
            }
            lines.finish(&mut each);
            let mut expected: Vec<_> = all.split('\n').map(str::to_owned).collect();
            if expected.last().is_some_and(String::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn writes_entries_and_puts_full_files_aside() {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { file_bytes: 100, files_kept: 2 };
        let mut log = open(folder.path(), limits);
        let mut lines = Lines::new(Stream::Stderr);
        for n in 0..40u64 {
            log.take(&mut lines, Some(format!("line {n}\n").as_bytes()), UnixNanos(n));
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        let current = fs::read_to_string(folder.path().join(CURRENT)).unwrap();
        assert!(current.ends_with("1970-01-01T00:00:00.000000039Z stderr F line 39\n"));
        let last = log.last_lines();
        assert_eq!((last.len(), last[19].as_str()), (20, "line 39"));
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_the_order_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { file_bytes: 10, files_kept: 3 };
        let mut log = open(folder.path(), limits);
        let mut lines = Lines::new(Stream::Stdout);
        for (n, at) in [900, 901, 100, 101, 100, 1000].into_iter().enumerate() {
            log.take(&mut lines, Some(format!("line {n}\n").as_bytes()), UnixNanos(at));
        }
        let aside = log.aside();
        let text = |number: &u64| {
            let text = fs::read_to_string(folder.path().join(format!("{number}.log"))).unwrap();
            text.trim_end().rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(aside.iter().map(text).collect::<Vec<_>>(), ["2", "3", "4"], "{aside:?}");
    }

    #[test]
    fn a_line_without_an_end_is_kept_when_the_stream_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), LogLimits::default());
        let mut lines = Lines::new(Stream::Stdout);
        log.take(&mut lines, Some(b"half"), UnixNanos(1));
        assert!(log.last_lines().is_empty());
        log.take(&mut lines, None, UnixNanos(2));
        log.take(&mut lines, None, UnixNanos(3));
        assert_eq!(log.last_lines(), ["half"]);
    }

    #[test]
    fn a_disk_that_refuses_costs_lines_and_says_how_many() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), LogLimits::default());
        let mut lines = Lines::new(Stream::Stdout);
        log.file = Some(fs::File::open("/dev/null").unwrap().into()); // Not open for writing.
        log.take(&mut lines, Some(b"a\nb\n"), UnixNanos(1));
        log.reopen();
        log.take(&mut lines, Some(b"c\n"), UnixNanos(2));
        let text = fs::read_to_string(folder.path().join(CURRENT)).unwrap();
        assert!(text.contains("2 lines lost") && text.ends_with("stdout F c\n"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
