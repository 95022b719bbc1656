//! The log itself: topics, their partitions, groups that read them and transactions that write
//! them.
//!
//! Not here: any protocol. Errors are this module's own; a front says them in its words.

pub mod batch;
mod codec;
mod compaction;
pub mod config;
pub mod groups;
pub mod journal;
pub mod log;
pub mod partition;
pub mod producers;
mod retention;
mod sync;
pub mod transactions;
pub mod waiters;
