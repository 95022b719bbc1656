//! The log over a disk that crashes, and the front over real connections: frames in, frames out.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod broker;
mod client;
mod compaction;
mod crash;
mod frames;
mod log;
mod members;
mod members_crash;
mod model;
mod shares;
mod shares_crash;
mod transactions;
mod versions;
