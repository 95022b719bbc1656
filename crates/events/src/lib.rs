//! The event log: topics of partitions, kept in `volumes`, and the Kafka protocol in front of
//! them.
//!
//! Not here: what other parts store, and who may be connected to (`net`).

pub mod client;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod kafka;
mod part;
pub mod security;

pub use part::{Config, GROUP_DELAY, Part, StartError};
