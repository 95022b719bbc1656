//! What was measured and what was written: metric history, Prometheus text, logs of instances.
//!
//! Not here: counting (that is `base::metrics`), writing the logs of instances (their shims do),
//! and drawing. Nothing here reads a clock or sleeps on its own account, except that a live tail
//! without inotify looks again on a timer.
//!
//! Vocabulary: a [`History`] remembers a `base::metrics::Registry` over time, in fixed memory;
//! [`prometheus::write`] prints one as it is now; a [`LogStore`] finds and follows [`logs::Line`]s
//! by a [`LogFilter`], which people write in the grammar of [`query`]; [`process`] measures the
//! engine itself.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod history;
pub mod logs;
pub mod process;
pub mod prometheus;
pub mod query;
pub mod when;

pub use history::{History, HistoryConfig};
pub use logs::{LogFilter, LogStore};
