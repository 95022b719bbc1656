//! A live tail: lines as they are written, over new instances and files set aside.
//!
//! Invariants: of what is written after the tail opened, no line is lost or given twice, however
//! often files are set aside in between, unless they are deleted first; a line counts when its
//! line end is there. What a slow reader does not take is dropped from the oldest on, and counted.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Clock, InstanceId, UnixNanos};
use tokio::sync::mpsc;

use super::entry::{Entry, Joiner, text_of};
use super::forward::Forward;
use super::source::Source;
use super::watch::{Changes, Waiter, Watch};
use super::{Line, LogError, LogFilter, Stream, files};

/// Lines that wait for a slow reader, beside those in the channel.
const WAITING_LINES_MAX: usize = 10_000;
/// Their text, in bytes.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Lines given at a time.
const BATCH_LINES_MAX: usize = 500;
/// Text given at a time, in bytes, unless one line is longer.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Batches in the channel.
const BATCHES_MAX: usize = 8;

/// The files of one instance, read as they grow.
#[derive(Debug)]
struct Followed {
    folder: PathBuf,
    held: Option<Forward>,
    /// Files that come after `held`, with their inodes.
    next: VecDeque<(File, u64)>,
    /// Files set aside up to this number are read, or in `held` or `next`.
    seen: u64,
    joiner: Joiner,
}

impl Followed {
    /// Follows what comes after now.
    fn from_end(folder: &Path) -> io::Result<Followed> {
        let mut followed = Followed::from_start(folder);
        let (current, aside) = files::now(folder)?;
        followed.held = current.map(Forward::from_end).transpose()?;
        followed.seen = aside.last().map_or(0, |file| file.nanos);
        Ok(followed)
    }

    /// Follows a folder that was not there when the tail opened.
    fn from_start(folder: &Path) -> Followed {
        let (folder, next, joiner) = (folder.to_owned(), VecDeque::new(), Joiner::default());
        Followed { folder, held: None, next, seen: 0, joiner }
    }

    /// Finds the files that come after those known. What cannot be read now may be later.
    fn look(&mut self) {
        let _again_at_the_next_change = self.try_look();
    }

    fn try_look(&mut self) -> io::Result<()> {
        let Some(current) = files::open(&self.folder.join(files::CURRENT))? else { return Ok(()) };
        let ino = current.metadata()?.ino();
        if self.knows(ino) {
            return Ok(());
        }
        // Listed after `current` was opened, so that whatever was before it has its number by now.
        for file in files::aside(&self.folder)? {
            if file.ino == ino {
                break;
            }
            if file.nanos > self.seen {
                self.seen = file.nanos;
                if !self.knows(file.ino)
                    && let Some(opened) = files::open(&file.path)?
                {
                    self.next.push_back((opened, file.ino));
                }
            }
        }
        self.next.push_back((current, ino));
        Ok(())
    }

    fn knows(&self, ino: u64) -> bool {
        self.held.as_ref().is_some_and(|held| held.ino == ino)
            || self.next.iter().any(|(_, each)| *each == ino)
    }

    /// Reads a piece and gives its lines; false when there is no more for now.
    fn read(&mut self, each: impl FnMut(&Entry<'_>, &[u8])) -> bool {
        self.try_read(each).unwrap_or(false)
    }

    fn try_read(&mut self, mut each: impl FnMut(&Entry<'_>, &[u8])) -> io::Result<bool> {
        let joiner = &mut self.joiner;
        let mut entry = |bytes: &[u8]| {
            if let Some(entry) = Entry::read(bytes)
                && let Some(text) = joiner.take(&entry)
            {
                each(&entry, &text);
            }
        };
        if let Some(held) = &mut self.held {
            if held.read(&mut entry)? {
                return Ok(true);
            }
            // Its end: nothing is written to it any more once there is a next one.
            if self.next.is_empty() {
                return Ok(false);
            }
            if let Some(torn) = self.held.take().and_then(Forward::finish) {
                entry(&torn);
            }
        }
        let next = self.next.pop_front();
        self.held = next.map(|(file, _)| Forward::from_start(file)).transpose()?;
        Ok(self.held.is_some())
    }
}

/// Lines that the reader has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    skipped: u64,
}

impl Waiting {
    fn take(&mut self, id: &InstanceId, entry: &Entry<'_>, text: &[u8], filter: &LogFilter) {
        let text = text_of(text);
        if filter.passes(entry.stream, &text) {
            let (at, instance, text) = (entry.at, id.clone(), text.into_owned());
            self.push(Line { at, instance, stream: entry.stream, text });
        }
    }

    fn push(&mut self, line: Line) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > WAITING_LINES_MAX || self.bytes > WAITING_BYTES_MAX {
            let Some(dropped) = self.lines.pop_front() else { break };
            self.bytes -= dropped.text.len();
            self.skipped += 1;
        }
    }

    fn batch(&mut self, now: UnixNanos) -> Vec<Line> {
        let mut batch = Vec::new();
        if let (1.., Some(first)) = (self.skipped, self.lines.front()) {
            let s = if self.skipped == 1 { "" } else { "s" };
            let text = format!("{} line{s} skipped", self.skipped);
            let (at, instance) = (now, first.instance.clone());
            batch.push(Line { at, instance, stream: Stream::Engine, text });
            self.skipped = 0;
        }
        let mut bytes = 0;
        while batch.len() < BATCH_LINES_MAX && bytes < BATCH_BYTES_MAX {
            let Some(line) = self.lines.pop_front() else { break };
            bytes += line.text.len();
            batch.push(line);
        }
        self.bytes -= bytes;
        batch
    }
}

/// A tail that is not running yet; where it begins is settled.
pub(super) struct Tail {
    dir: PathBuf,
    filter: LogFilter,
    watch: Watch,
    followed: BTreeMap<InstanceId, Followed>,
    out: mpsc::Sender<Vec<Line>>,
}

impl Tail {
    pub(super) fn open(
        dir: &Path,
        filter: LogFilter,
        watch: Watch,
    ) -> Result<(Tail, mpsc::Receiver<Vec<Line>>), LogError> {
        let (out, lines) = mpsc::channel(BATCHES_MAX);
        let (dir, followed) = (dir.to_owned(), BTreeMap::new());
        let mut tail = Tail { dir, filter, watch, followed, out };
        for (id, folder) in files::instances(&tail.dir)? {
            if tail.filter.wants(&id) {
                tail.watch.add(&id, &folder);
                let failed = |source| LogError::Io { action: "read", path: folder.clone(), source };
                let followed = Followed::from_end(&folder).map_err(failed)?;
                tail.followed.insert(id, followed);
            }
        }
        Ok((tail, lines))
    }

    /// What is before the tail, to be searched.
    pub(super) fn before(&self) -> Result<Vec<(Source, PathBuf)>, LogError> {
        let mut sources = Vec::new();
        for (id, followed) in &self.followed {
            let folder = &followed.folder;
            let failed = |source| LogError::Io { action: "read", path: folder.clone(), source };
            let mark = followed.held.as_ref().map(Forward::mark).transpose().map_err(failed)?;
            let mut older = files::aside(folder).map_err(failed)?;
            older.retain(|file| file.nanos <= followed.seen);
            let source = Source::from(id.clone(), mark, older, &self.filter).map_err(failed)?;
            sources.push((source, folder.clone()));
        }
        Ok(sources)
    }

    /// Gives lines until the receiver is dropped.
    pub(super) async fn run(self, clock: Arc<dyn Clock>) {
        enum Now {
            Changed(Changes),
            Read,
            Over,
        }
        let Tail { dir, filter, watch, mut followed, out } = self;
        let mut watch = watch.start();
        let mut waiting = Waiting::default();
        // Written between opening and now.
        let mut unread: VecDeque<InstanceId> = followed.keys().cloned().collect();
        followed.values_mut().for_each(Followed::look);
        loop {
            let now = tokio::select! {
                () = out.closed() => Now::Over,
                permit = out.reserve(), if !waiting.lines.is_empty() => match permit {
                    Ok(permit) => {
                        permit.send(waiting.batch(clock.now()));
                        continue;
                    }
                    Err(_) => Now::Over,
                },
                changes = watch.wait() => Now::Changed(changes),
                () = tokio::task::yield_now(), if !unread.is_empty() => Now::Read,
            };
            match now {
                Now::Over => return,
                Now::Changed(changes) => {
                    let mut changed = changes.instances;
                    if changes.everywhere {
                        rescan(&dir, &filter, &mut watch, &mut followed);
                        changed.extend(followed.keys().cloned());
                    }
                    for id in changed {
                        if let Some(each) = followed.get_mut(&id) {
                            each.look();
                            if !unread.contains(&id) {
                                unread.push_back(id);
                            }
                        }
                    }
                }
                Now::Read => {
                    let Some(id) = unread.pop_front() else { continue };
                    let Some(each) = followed.get_mut(&id) else { continue };
                    if each.read(|entry, text| waiting.take(&id, entry, text, &filter)) {
                        unread.push_back(id);
                    }
                }
            }
        }
    }
}

/// Finds folders that came and forgets those that are gone.
fn rescan(
    dir: &Path,
    filter: &LogFilter,
    watch: &mut Waiter,
    followed: &mut BTreeMap<InstanceId, Followed>,
) {
    let Ok(there) = files::instances(dir) else { return };
    followed.retain(|id, _| there.iter().any(|(each, _)| each == id));
    for (id, folder) in there {
        if filter.wants(&id) {
            // Again for a folder that is known: it may have been deleted and made anew.
            watch.add(&id, &folder);
            followed.entry(id).or_insert_with(|| Followed::from_start(&folder));
        }
    }
}
