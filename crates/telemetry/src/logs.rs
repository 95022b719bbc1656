//! Logs of instances: search backwards, live tail, retention.
//!
//! Not here: writing them. Each instance's shim appends entries (`logs/entry.rs`) to
//! `INSTANCE/current.log` and renames that to `INSTANCE/UNIX_NANOS.log` when it is full.
//!
//! Invariants: files are only read, and deleted by [`LogStore::prune`] alone; what is no entry is
//! passed over; memory is bounded whatever the files hold: by [`PAGE_BYTES_MAX`] for a search, and
//! by what a tail keeps for a slow reader. Lines of one instance are taken to be in order of time.

mod backward;
mod entry;
mod files;
mod filter;
mod follow;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod level;
mod search;
mod source;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base::{Clock, InstanceId, UnixNanos};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use filter::{FieldMatch, LogFilter, Match, MatchError};
pub use level::Level;

use watch::Watch;

/// A search returns this many lines at most, whatever its limit.
pub const PAGE_LINES_MAX: usize = 10_000;
/// A search returns this much text at most, in bytes; older lines are then `more`.
pub const PAGE_BYTES_MAX: usize = 32 << 20;
/// This many live tails may be open at a time.
pub const TAILS_MAX: usize = 64;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Not output: a note of the engine in a live tail, such as `412 lines skipped`.
    Engine,
}

impl Stream {
    /// `stdout`, `stderr` or `engine`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Engine => "engine",
        }
    }
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was written.
    pub at: UnixNanos,
    /// Who wrote it.
    pub instance: InstanceId,
    /// Where.
    pub stream: Stream,
    /// The text without its line end; bytes that are not UTF-8 are replaced; 1 MiB at most.
    pub text: String,
}

/// Lines that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub lines: Vec<Line>,
    /// Older ones match too, and the limit cut them off.
    pub more: bool,
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files deleted.
    pub files: u64,
    /// Bytes that they held.
    pub bytes: u64,
    /// Bytes of logs left.
    pub bytes_left: u64,
}

/// Why logs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A folder or file.
    #[error("cannot {action} the logs in {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody waits for the answer any more.
    #[error("the search was cancelled")]
    Cancelled,
    /// As many live tails as there may be.
    #[error("{0} live tails are open, which is the most; close one and try again")]
    TooManyTails(usize),
    /// A live tail needs a Tokio runtime with I/O and time, and there is none here.
    #[error("a live tail was asked for outside of the runtime")]
    NoRuntime,
}

/// The logs of every instance, in one folder. Cheap to clone; live tails end with the last clone.
#[derive(Clone)]
pub struct LogStore {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    tails: Arc<Mutex<JoinSet<()>>>,
}

impl LogStore {
    /// The logs in `dir`, which is made. `clock` dates the notes in live tails.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<LogStore, LogError> {
        let dir = dir.into();
        let failed = |source| LogError::Io { action: "create", path: dir.clone(), source };
        std::fs::create_dir_all(&dir).map_err(failed)?;
        Ok(LogStore { dir, clock, tails: Arc::default() })
    }

    /// The newest lines that pass. Runs on a blocking thread; dropping the future ends it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn search(&self, filter: LogFilter) -> Result<Page, LogError> {
        let dir = self.dir.clone();
        blocking(move |cancelled| search::search(&dir, &filter, cancelled)).await
    }

    /// Lines that pass, as they are written from now on; `limit` and times do not count.
    ///
    /// Lines come in the order in which they are found: in order for each instance, and nearly so
    /// over several. A reader that is too slow gets a line of [`Stream::Engine`] that says how
    /// many lines were skipped. The tail ends when the receiver is dropped.
    ///
    /// # Errors
    /// When the folder cannot be read, too many tails are open, or there is no runtime.
    pub fn follow(&self, filter: LogFilter) -> Result<mpsc::Receiver<Vec<Line>>, LogError> {
        let (tail, lines) = follow::Tail::open(&self.dir, filter, Watch::new(&self.dir))?;
        self.run(tail)?;
        Ok(lines)
    }

    /// What [`LogStore::search`] finds, and then every line written since, as
    /// [`LogStore::follow`] gives them: nothing between the two is lost or given twice.
    ///
    /// # Errors
    /// As both.
    pub async fn search_and_follow(
        &self,
        filter: LogFilter,
    ) -> Result<(Page, mpsc::Receiver<Vec<Line>>), LogError> {
        let watch = Watch::new(&self.dir);
        let (tail, lines) = follow::Tail::open(&self.dir, filter.clone(), watch)?;
        let before = tail.before()?;
        self.run(tail)?;
        let page = blocking(move |cancelled| search::merge(before, &filter, cancelled)).await?;
        Ok((page, lines))
    }

    fn run(&self, tail: follow::Tail) -> Result<(), LogError> {
        let runtime = Handle::try_current().map_err(|_| LogError::NoRuntime)?;
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        while tails.try_join_next().is_some() {}
        if tails.len() >= TAILS_MAX {
            return Err(LogError::TooManyTails(TAILS_MAX));
        }
        tails.spawn_on(tail.run(self.clock.clone()), &runtime);
        Ok(())
    }

    /// Deletes the oldest files that were set aside, over all instances, until `total_bytes_max`
    /// are kept. Blocks on the disk.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file cannot be deleted.
    pub fn prune(&self, total_bytes_max: u64) -> Result<Pruned, LogError> {
        files::prune(&self.dir, total_bytes_max)
    }
}

/// Runs a search on a blocking thread; it is told to stop when the future is dropped.
async fn blocking(
    search: impl FnOnce(&AtomicBool) -> Result<Page, LogError> + Send + 'static,
) -> Result<Page, LogError> {
    struct Cancel(Arc<AtomicBool>);
    impl Drop for Cancel {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let cancel = Cancel(Arc::default());
    let cancelled = cancel.0.clone();
    let task = tokio::task::spawn_blocking(move || search(&cancelled));
    // A panic in there is contained by the runtime, and the search then has no answer.
    task.await.unwrap_or(Err(LogError::Cancelled))
}
