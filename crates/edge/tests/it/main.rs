//! The edge end to end: real sockets, scripted instances.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod balance;
mod bodies;
mod counts;
mod detect;
mod drain;
mod faults;
mod forward;
mod framing;
mod life;
mod rig;
mod udp;
