//! For tests only: a disk that crashes, tears, fills up and fails, and the randomness to drive it.
//!
//! Not here: anything that a product uses; only dev-dependencies name this crate. Everything
//! follows from a seed: the same seed and the same calls give the same disk.

mod disk;
mod random;

pub use disk::CrashDisk;
pub use random::Random;
