//! The log over a disk that crashes, and the front over real connections.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod crash;
