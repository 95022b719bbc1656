//! The log over a disk that crashes, and the front over real connections.

mod crash;
