//! Metric history in fixed memory: every second for six hours, coarser on disk for 400 days.
//!
//! Not here: when to sample (whoever owns the history calls [`History::sample`] once a second) and
//! what to count.
//!
//! | what | kept for | where |
//! |---|---|---|
//! | every second: value, or count, sum, p50, p99 and max | 6 h | memory |
//! | histograms of each second, 10 s, minute | 5 min, 2 h, 6 h | memory |
//! | 10 s, 1 min, 15 min: count, sum, min, max, histogram | 24 h, 14 d, 400 d | disk |
//!
//! What is in memory ends with the process; what is on disk is at most one step behind it, and is
//! not synced, because a chart is not worth a flush.
//!
//! Invariants: memory for points stays under its bound, and single seconds go before histograms; a
//! second that was not sampled is a gap, never a zero; a series past the bound is refused and
//! counted, and no known series is dropped while it is in the registry.

mod arena;
mod ask;
mod block;
mod bytes;
mod cell;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod record;
mod sparse;
mod tier;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::UnixNanos;
use base::metrics::Registry;

use record::{Recorder, TIERS};
use tier::Tier;

/// A window is this long at most, in seconds.
pub const WINDOW_SECONDS_MAX: u32 = 60;

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
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Series of the registry that are not remembered, because of the bound.
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

/// The history of a registry. One lock: a query waits for a sample and the other way round.
#[derive(Debug)]
pub struct History {
    recorder: Mutex<Recorder>,
}

impl History {
    /// Opens what an earlier process left and starts empty otherwise.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(config: HistoryConfig) -> Result<History, HistoryError> {
        let mut tiers = Vec::new();
        for (step, keep, name) in TIERS {
            let Some(dir) = &config.dir else { break };
            let path = dir.join(name);
            let tier = Tier::open(path.clone(), step, keep, config.tier_bytes_max);
            tiers.push(tier.map_err(|source| HistoryError::Io {
                action: "create",
                path,
                source,
            })?);
        }
        Ok(History { recorder: Mutex::new(Recorder::new(config, tiers)) })
    }

    /// Takes one sample of every series. Call it once a second; a late call leaves a gap, a second
    /// call in a second does nothing. Every 10 seconds it appends to files, without syncing them.
    pub fn sample(&self, now: UnixNanos, registry: &Registry) {
        self.lock().sample(u32::try_from(now.secs()).unwrap_or(u32::MAX), registry);
    }

    /// Writes what is still being added up. Call it before the process ends.
    pub fn flush(&self) {
        self.lock().flush();
    }

    /// Values over time. Reads files when it reaches back behind what is in memory.
    pub fn query(&self, query: &Query) -> Answer {
        self.lock().query(query)
    }

    /// Sums over the last seconds, ordered by group. From memory alone.
    pub fn window(&self, query: &WindowQuery) -> Vec<WindowRow> {
        self.lock().window(query)
    }

    /// How the history itself is doing.
    pub fn stats(&self) -> HistoryStats {
        let recorder = self.lock();
        HistoryStats {
            series: recorder.series.len() - 1,
            series_refused: recorder.refused,
            arena_bytes: recorder.bytes(),
            chunks_evicted: recorder.evicted,
            tier_errors: recorder.tier_errors,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recorder> {
        // Whatever panicked left points behind that read as points or as nothing.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
