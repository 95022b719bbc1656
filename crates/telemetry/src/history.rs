//! Metric history in fixed memory: every second for six hours, coarser on disk for 400 days.

use std::path::PathBuf;

use base::UnixNanos;
use base::metrics::Registry;

/// How much history to keep, and where.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// Memory for points, in bytes; taken only as it fills.
    pub arena_bytes_max: usize,
    /// How many series are remembered; more are counted as refused.
    pub series_max: usize,
    /// Folder of the coarser tiers, which is made; nothing outlives the process when `None`.
    pub dir: Option<PathBuf>,
    /// Disk for each of the three tiers, in bytes.
    pub tier_bytes_max: u64,
}

impl Default for HistoryConfig {
    fn default() -> HistoryConfig {
        HistoryConfig {
            arena_bytes_max: 128 << 20,
            series_max: 20_000,
            dir: None,
            tier_bytes_max: 256 << 20,
        }
    }
}

/// What a line of a query shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Show {
    /// Increase a second: of a counter, or of a histogram's count.
    Rate,
    /// Mean value of a gauge over each step; of a histogram, its mean value.
    Mean,
    /// Largest value in each step: of a gauge, of a counter's rate, of a histogram's values.
    Max,
    /// A quantile in 0..=1 of a histogram, in its own unit (microseconds or bytes).
    Quantile(f64),
}

/// Which numbers, over which time.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The family's name.
    pub family: String,
    /// Labels that a series must have, with one of these values each.
    pub labels: Vec<(String, Vec<String>)>,
    /// Labels whose values make a line of their own; all series are one line when empty.
    pub group_by: Vec<String>,
    /// What to show.
    pub show: Show,
    /// First moment, rounded down to a step.
    pub since: UnixNanos,
    /// Moment after the last, rounded up to a step.
    pub until: UnixNanos,
    /// Seconds between points; rounded up to what is kept for that long.
    pub step_seconds: u32,
}

/// Aligned values.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Start of the first step.
    pub start: UnixNanos,
    /// Seconds between points, as used.
    pub step_seconds: u32,
    /// Lines, ordered by their group; none when no series matched.
    pub lines: Vec<Line>,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Values of the labels in `group_by`, in its order; empty text where a series has none.
    pub group: Vec<String>,
    /// One value a step, `None` where nothing is known.
    pub values: Vec<Option<f64>>,
}

/// What to add up over the last seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowQuery {
    /// The family's name.
    pub family: String,
    /// Labels that a series must have, with one of these values each.
    pub labels: Vec<(String, Vec<String>)>,
    /// Labels whose values make a row of their own.
    pub group_by: Vec<String>,
    /// How many seconds back from the newest sample: 1 to 60.
    pub seconds: u32,
    /// Quantiles in 0..=1 to work out of a histogram.
    pub quantiles: Vec<f64>,
}

/// What a group did in the window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRow {
    /// Values of the labels in `group_by`, in its order.
    pub group: Vec<String>,
    /// Increase of a counter or of a histogram's count; newest value of a gauge, summed.
    pub total: f64,
    /// `total` a second, over the seconds that were sampled. Not meant for gauges.
    pub per_second: f64,
    /// Sum of what a histogram recorded.
    pub sum: f64,
    /// The quantiles asked for, in their order and the histogram's unit; `None` without values.
    pub quantiles: Vec<Option<u64>>,
}

/// How the history itself is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryStats {
    /// Series remembered.
    pub series: usize,
    /// Series turned away at the bound.
    pub series_refused: u64,
    /// Memory that points take, in bytes.
    pub arena_bytes: usize,
    /// Blocks of memory given up before their age, because the arena was full.
    pub chunks_evicted: u64,
    /// Rows of a tier that could not be written to disk.
    pub tier_errors: u64,
}

/// Why the history could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A folder or file of the tiers.
    #[error("cannot {action} {}: {source}; metric history is kept in memory only", path.display())]
    Io {
        /// What was tried: `create`, `read`, `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The history of a registry.
#[derive(Debug)]
pub struct History {}

impl History {
    /// Opens what an earlier process left and starts empty otherwise.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(config: HistoryConfig) -> Result<History, HistoryError> {
        let _ = config;
        Ok(History {})
    }

    /// Takes one sample of every series. Call it once a second; a late call leaves a gap.
    pub fn sample(&self, now: UnixNanos, registry: &Registry) {
        let _ = (now, registry);
    }

    /// Writes what is still being added up. Call it before the process ends.
    pub fn flush(&self) {}

    /// Values over time.
    pub fn query(&self, query: &Query) -> Answer {
        let step_seconds = query.step_seconds.max(1);
        Answer { start: query.since, step_seconds, lines: Vec::new() }
    }

    /// Sums over the last seconds.
    pub fn window(&self, query: &WindowQuery) -> Vec<WindowRow> {
        let _ = query;
        Vec::new()
    }

    /// How the history itself is doing.
    pub fn stats(&self) -> HistoryStats {
        HistoryStats::default()
    }
}
