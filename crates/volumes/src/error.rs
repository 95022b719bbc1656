//! What can go wrong, by operation.

use std::sync::Arc;

use crate::batch::Owner;

/// Why a batch is not durable. None of it is there, and after an error that says so in its text
/// nothing of the owners in it is taken before they are resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk is full.
    #[error(
        "cannot write to the store: {0}; free or add disk space, or delete records, which works \
         on a full disk too"
    )]
    Full(Arc<str>),
    /// The disk fails, or the store was closed to writers after it did.
    #[error("cannot write to the store: {0}; look for disk errors in the kernel's log")]
    Failed(Arc<str>),
    /// An append of this owner failed before; what comes after it is not taken until the owner
    /// knows and calls [`crate::Volumes::resume`].
    #[error("an earlier append of owner {0} failed, and it did not resume since")]
    Fenced(Owner),
    /// A record does not come after what its owner appended before.
    #[error("owner {owner} appends sequence {sequence} after {end} was reached")]
    OutOfOrder {
        /// Whose.
        owner: Owner,
        /// The record's.
        sequence: u64,
        /// Lowest that would have been taken.
        end: u64,
    },
    /// A bound is exceeded.
    #[error("a {what} of {bytes} bytes is too large, {most} at most")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

/// Why records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They were given up.
    #[error("owner {owner} begins at {start}")]
    Trimmed {
        /// Whose.
        owner: Owner,
        /// The lowest sequence that can be asked for.
        start: u64,
    },
    /// What is on disk is not what was written. It is never served.
    #[error(
        "records of owner {owner} from {sequence} on are damaged: {what} of volume {volume} at \
         {at} {why}; restore them from a copy, or trim past them"
    )]
    Damaged {
        /// Whose.
        owner: Owner,
        /// First sequence that is not served.
        sequence: u64,
        /// What was read.
        what: &'static str,
        /// The volume.
        volume: u32,
        /// The position in it.
        at: u32,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// The disk does not give them back.
    #[error("cannot read volume {volume} at {at}: {why}")]
    Failed {
        /// The volume.
        volume: u32,
        /// The position in it.
        at: u32,
        /// What the system said.
        why: Arc<str>,
    },
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk does not do what it is asked.
    #[error("cannot {what} `{name}` of the store: {why}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// On which file.
        name: String,
        /// What the system said.
        why: std::io::Error,
    },
    /// Neither copy of the manifest can be read though there are volumes.
    #[error(
        "both manifests of the store are unreadable ({0}); restore `manifest-a` or `manifest-b` \
         from a copy, or move the folder away to begin with an empty store"
    )]
    Manifest(String),
    /// A newer program wrote it.
    #[error("`{name}` {why}; use the newer program")]
    Newer {
        /// Which file.
        name: String,
        /// Which version.
        why: crate::format::Bad,
    },
}
