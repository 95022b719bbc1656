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

#[cfg(test)]
mod tests {
    use super::*;
    use base::ManualClock;
    use std::collections::BTreeMap;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::time::Duration;
    use tokio::task::JoinSet;

    struct Writer {
        folder: PathBuf,
        set_aside: u64,
    }

    impl Writer {
        fn new(dir: &Path, instance: &str) -> Writer {
            let folder = dir.join(instance);
            fs::create_dir_all(&folder).unwrap();
            Writer { folder, set_aside: 0 }
        }

        fn raw(&self, bytes: &str) {
            let path = self.folder.join("current.log");
            let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(bytes.as_bytes()).unwrap();
        }

        fn line(&self, text: impl std::fmt::Display) {
            self.raw(&format!("2026-11-22T04:26:18Z stdout F {text}\n"));
        }

        fn rotate(&mut self) {
            self.set_aside += 1;
            let aside = self.folder.join(format!("{}.log", self.set_aside));
            fs::rename(self.folder.join("current.log"), aside).unwrap();
        }
    }

    fn start(dir: &Path, filter: LogFilter, watch: Watch) -> (JoinSet<()>, Lines) {
        let (tail, lines) = Tail::open(dir, filter, watch).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(tail.run(Arc::new(ManualClock::default())));
        (tasks, Lines { lines, batch: VecDeque::new() })
    }

    struct Lines {
        lines: mpsc::Receiver<Vec<Line>>,
        batch: VecDeque<Line>,
    }

    impl Lines {
        async fn next(&mut self) -> Line {
            while self.batch.is_empty() {
                let batch = tokio::time::timeout(Duration::from_secs(60), self.lines.recv()).await;
                self.batch.extend(batch.expect("a line in time").expect("an open tail"));
            }
            self.batch.pop_front().unwrap()
        }

        async fn text(&mut self) -> String {
            self.next().await.text
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rotations_under_a_writer_lose_and_double_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        Writer::new(&path, "web.1").line("before");
        let (_tasks, mut lines) = start(&path, LogFilter::default(), Watch::new(&path));
        // One of the folders is there already, two are new to the tail.
        let threads: Vec<_> = ["web.1", "web.2", "db.1"]
            .into_iter()
            .map(|instance| {
                let mut writer = Writer::new(&path, instance);
                std::thread::spawn(move || {
                    for number in 0..2000 {
                        writer.line(format_args!("{number} {}", "x".repeat(number % 300)));
                        if number % 37 == 36 {
                            writer.rotate();
                        }
                    }
                    writer.line("end");
                })
            })
            .collect();
        let mut next: BTreeMap<String, usize> = BTreeMap::new();
        let mut ended = 0;
        while ended < 3 {
            let line = lines.next().await;
            assert_ne!(line.stream, Stream::Engine, "nothing was skipped: {}", line.text);
            let next = next.entry(line.instance.to_string()).or_default();
            if line.text == "end" {
                assert_eq!(*next, 2000, "{}", line.instance);
                ended += 1;
            } else {
                let number: usize = line.text.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(number, *next, "{}", line.instance);
                *next += 1;
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[tokio::test]
    async fn a_torn_line_waits_and_parts_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path(), "web.1");
        writer.line("old");
        writer.raw("2026-11-22T04:26:18Z stdout F to");
        let (_tasks, mut lines) = start(dir.path(), LogFilter::default(), Watch::new(dir.path()));
        writer.raw("rn\n");
        assert_eq!(lines.text().await, "torn");
        writer.raw("2026-11-22T04:26:18Z stdout P one \nrubbish\n");
        writer.raw("2026-11-22T04:26:18Z stderr F between\n");
        assert_eq!(lines.text().await, "between");
        writer.rotate();
        writer.raw("2026-11-22T04:26:18Z stdout F line\n");
        assert_eq!(lines.text().await, "one line");
    }

    #[tokio::test]
    async fn filters_and_sees_new_folders_without_inotify_too() {
        for watch in [Watch::new, |_: &Path| Watch::polling()] {
            let dir = tempfile::tempdir().unwrap();
            let filter = LogFilter {
                sources: vec!["web".into()],
                must: vec![crate::logs::Match::text("keep").unwrap()],
                ..LogFilter::default()
            };
            let (tasks, mut lines) = start(dir.path(), filter, watch(dir.path()));
            Writer::new(dir.path(), "db.1").line("keep not");
            let mut web = Writer::new(dir.path(), "web.7");
            web.line("drop");
            web.line("keep one");
            web.rotate();
            web.line("keep two");
            assert_eq!(lines.text().await, "keep one");
            assert_eq!(lines.text().await, "keep two");
            fs::remove_dir_all(dir.path().join("web.7")).unwrap();
            Writer::new(dir.path(), "web.8").line("keep three");
            assert_eq!(lines.text().await, "keep three");
            drop(lines);
            tasks.join_all().await;
        }
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told() {
        let mut waiting = Waiting::default();
        for number in 0..WAITING_LINES_MAX + 3 {
            let (at, instance) = (UnixNanos(1), "web.1".parse().unwrap());
            let text = number.to_string();
            waiting.push(Line { at, instance, stream: Stream::Stdout, text });
        }
        let batch = waiting.batch(UnixNanos(9));
        assert_eq!((batch[0].stream, batch[0].at), (Stream::Engine, UnixNanos(9)));
        assert_eq!(batch[0].text, "3 lines skipped");
        assert_eq!(batch[1].text, "3");
        assert_eq!(batch.len(), BATCH_LINES_MAX);
        let mut given = batch.len() - 1;
        while !waiting.lines.is_empty() {
            let batch = waiting.batch(UnixNanos(9));
            assert!(batch.iter().all(|line| line.stream == Stream::Stdout));
            given += batch.len();
        }
        assert_eq!((given, waiting.bytes), (WAITING_LINES_MAX, 0));
    }

    #[tokio::test]
    async fn a_search_and_its_tail_meet_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::LogStore::open(dir.path(), Arc::new(ManualClock::default())).unwrap();
        let mut writer = Writer::new(dir.path(), "web.1");
        writer.line("one");
        writer.rotate();
        writer.line("two");
        writer.raw("2026-11-22T04:26:18Z stdout F thr");
        let (page, lines) = store.search_and_follow(LogFilter::default()).await.unwrap();
        let found: Vec<_> = page.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(found, ["one", "two"]);
        writer.raw("ee\n");
        writer.rotate();
        writer.line("four");
        let mut lines = Lines { lines, batch: VecDeque::new() };
        assert_eq!(lines.text().await, "three");
        assert_eq!(lines.text().await, "four");
    }
}
