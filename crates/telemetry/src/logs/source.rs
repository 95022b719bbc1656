//! The lines of one instance from the newest to the oldest, over all its files.
//!
//! Invariants: one file is open at a time; a file that is set aside while it is read is read once;
//! the parts of a line are joined over files. A line of one stream whose beginning lies more than
//! [`LOOK_BACK_ENTRIES`] entries of the other stream before its end is given without it, so that
//! nothing waits without a bound.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base::{InstanceId, UnixNanos};

use super::backward::Backward;
use super::entry::{Entry, LINE_BYTES_MAX, text_of};
use super::files::{self, Aside};
use super::{Line, LogFilter, Stream};

/// How many entries a line waits for its earlier parts.
const LOOK_BACK_ENTRIES: usize = 1024;

/// A line whose earlier parts may still come.
#[derive(Debug)]
struct Open {
    at: UnixNanos,
    stream: Stream,
    /// Its parts, the last one first.
    parts: VecDeque<Vec<u8>>,
    bytes: usize,
    whole: bool,
}

/// Reads backwards through the files of one instance.
#[derive(Debug)]
pub(super) struct Source {
    pub instance: InstanceId,
    file: Option<Backward>,
    /// Older files, the newest last.
    older: Vec<PathBuf>,
    since: UnixNanos,
    until: UnixNanos,
    open: VecDeque<Open>,
    /// Entries read that are older than the span.
    beyond: usize,
    /// Nothing older is of interest.
    over: bool,
}

impl Source {
    pub(super) fn new(
        instance: InstanceId,
        folder: &Path,
        filter: &LogFilter,
    ) -> io::Result<Source> {
        let (current, older) = files::now(folder)?;
        let current = match current {
            Some(file) => {
                let length = file.metadata()?.len();
                Some((file, length))
            }
            None => None,
        };
        Source::from(instance, current, older, filter)
    }

    /// Reads the beginning of `current`, of the length given, and then `older`.
    pub(super) fn from(
        instance: InstanceId,
        current: Option<(File, u64)>,
        older: Vec<Aside>,
        filter: &LogFilter,
    ) -> io::Result<Source> {
        let since = filter.since.unwrap_or_default();
        let until = filter.until.unwrap_or(UnixNanos(u64::MAX));
        let older = older.into_iter().map(|file| file.path).collect();
        let (file, open) = (None, VecDeque::new());
        let mut source =
            Source { instance, file, older, since, until, open, beyond: 0, over: false };
        let entered = match current {
            Some((file, length)) => source.enter(file, length, false)?,
            None => false,
        };
        if !entered {
            source.enter_older()?;
        }
        Ok(source)
    }

    /// The next older line in the span of time.
    pub(super) fn previous(&mut self) -> io::Result<Option<Line>> {
        loop {
            let waits = self.open.len() < LOOK_BACK_ENTRIES && !self.over;
            if let Some(line) = self.open.pop_front_if(|line| line.whole || !waits) {
                if let Some(line) = self.finish(line) {
                    return Ok(Some(line));
                }
            } else if self.over {
                return Ok(None);
            } else {
                self.step()?;
            }
        }
    }

    /// Reads one entry.
    fn step(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            self.over = true;
            return Ok(());
        };
        let Some(range) = file.previous()? else { return self.enter_older() };
        let Some(entry) = Entry::read(file.at(range)) else { return Ok(()) };
        // An entry of the same stream tells whether the line after it has begun.
        let after = self.open.iter_mut().rfind(|line| line.stream == entry.stream && !line.whole);
        match after {
            Some(line) if entry.part => {
                // What is cut off a line that is too long is its end, so the oldest parts count.
                line.parts.push_back(entry.text.to_vec());
                line.bytes += entry.text.len();
                let surplus = |last: &mut Vec<u8>| line.bytes - last.len() >= LINE_BYTES_MAX;
                if let Some(last) = line.parts.pop_front_if(surplus) {
                    line.bytes -= last.len();
                }
            }
            after => {
                if let Some(line) = after {
                    line.whole = true;
                }
                if entry.at < self.since {
                    // Goes on only for the beginnings of lines that ended in the span.
                    self.beyond += 1;
                    let waits = self.open.iter().any(|line| !line.whole);
                    self.over = !waits || self.beyond > LOOK_BACK_ENTRIES;
                    return Ok(());
                }
                let (at, stream) = (entry.at, entry.stream);
                let (parts, bytes) = ([entry.text.to_vec()].into(), entry.text.len());
                self.open.push_back(Open { at, stream, parts, bytes, whole: false });
            }
        }
        Ok(())
    }

    fn finish(&self, line: Open) -> Option<Line> {
        if line.at > self.until || line.at < self.since {
            return None;
        }
        let bytes: Vec<u8> = line.parts.into_iter().rev().flatten().collect();
        let text = text_of(&bytes).into_owned();
        Some(Line { at: line.at, instance: self.instance.clone(), stream: line.stream, text })
    }

    /// Goes on with the newest of the older files that is not too new.
    fn enter_older(&mut self) -> io::Result<()> {
        self.file = None;
        while let Some(path) = self.older.pop() {
            if let Some(file) = files::open(&path)? {
                let length = file.metadata()?.len();
                if self.enter(file, length, true)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads `file` next, unless all of it is too new.
    fn enter(&mut self, file: File, length: u64, torn: bool) -> io::Result<bool> {
        if first_time(&file)?.is_some_and(|first| first > self.until) {
            return Ok(false);
        }
        self.file = Some(Backward::new(file, length, torn)?);
        Ok(true)
    }
}

/// The time of the first entry of a file, if it begins with one.
fn first_time(file: &File) -> io::Result<Option<UnixNanos>> {
    let mut head = [0; 64];
    let length = file.read_at(&mut head, 0)?;
    Ok(Entry::read(&head[..length]).map(|entry| entry.at))
}
