//! Volumes: large append-only files that hold the records of many owners, and one committer that
//! makes whatever waits durable with one flush.
//!
//! Not here: what records mean. This crate knows no topic, key or bucket; the log, the key-value
//! store and the object store are its users, each with owners of its own class.
//!
//! Vocabulary: an [`Owner`] orders its [`Record`]s by sequence; a [`Batch`] is durable whole or
//! not at all; a *group* is the batches of one flush; a *run* is what one owner has in one group;
//! a *volume* is a file of groups; *settling* writes what is still wanted of old volumes again,
//! sorted by owner, so that it is read in one go and its volumes can be used anew.
//!
//! A writer reserves space ([`Volumes::reserve`], where it is slowed down), gives out sequences,
//! appends ([`Volumes::append`], which orders and never blocks) and awaits the [`Receipt`]. A
//! reader asks by owner and sequence ([`Volumes::read`]); records keep theirs wherever they move.
//!
//! Invariants: what a receipt confirmed is there after a crash at any instruction, in its owner's
//! order; what was never confirmed is there whole, with all before it, or not at all; no byte is
//! given out that does not match its checksum; what was durable and is bad is told, and neither
//! served nor cut.

mod batch;
mod buffer;
mod catalog;
mod checksum;
pub mod codec;
mod commit;
mod disk;
mod error;
pub mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod get;
mod group;
mod index;
mod inspect;
mod queue;
mod real;
mod recover;
mod scan;
mod scrub;
mod seal;
mod settle;
mod store;
mod sync;
mod tail;
mod workers;

pub use batch::{BATCH_BYTES_MAX, Batch, META_BYTES_MAX, Owner, Record};
pub use checksum::crc32c;
pub use disk::{Disk, DiskFile, WriteFailed};
pub use error::{AppendError, OpenError, ReadError};
pub use get::{RecordHead, Span};
pub use index::Bounds;
pub use inspect::{Report, VolumeReport, inspect};
pub use queue::{Receipt, Reservation};
pub use real::RealDisk;
pub use settle::{Judge, Verdict};
pub use store::{Damage, Listener, Options, Recovered, Stats, Volumes};
pub use workers::Workers;
