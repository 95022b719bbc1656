//! The store: declared truth, durable, versioned, watched.
//!
//! Keys are paths of text, values are bytes. Every commit that changes something raises the
//! revision by one; an entry remembers the revisions that made it and last changed it. The
//! embedded store and etcd are told apart by nobody: both pass the suite in
//! `tests/it/conformance.rs`.
//!
//! Calls block until the disk (or the network) has answered. A commit that was answered is
//! durable.

use std::time::Duration;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// Longest value, in bytes. (etcd refuses requests over 1.5 MiB.)
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Most operations in one transaction.
pub const OPS_MAX: usize = 8192;

/// A store.
pub trait Store: Send + Sync {
    /// The entry at a key.
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Every entry whose key begins with `prefix`, by key, as of one revision.
    fn range(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// If every comparison holds, does all operations; else nothing. Durable when it returns.
    fn commit(&self, txn: &Txn) -> Result<Committed, StoreError>;

    /// Every change under `prefix` from `from_revision` on, in order and without gaps. To follow
    /// a listing, watch from its revision + 1.
    fn watch(&self, prefix: &str, from_revision: u64) -> Result<Box<dyn Watch>, StoreError>;

    /// A lease that lives for `ttl` after each sign of life of its owner.
    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// A sign of life.
    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease and deletes what it holds.
    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}

/// A position in the history of a store.
pub trait Watch: Send {
    /// The next changes, oldest first; empty when there are none yet. Changes of one revision
    /// come together.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the history was cut past this position: list again and
    /// watch from there.
    fn poll(&mut self) -> Result<Vec<Change>, StoreError>;

    /// Moves to the newest revision with every commit: what to wait on between two polls.
    fn revisions(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Names a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that made it.
    pub created: u64,
    /// The revision that last changed it.
    pub modified: u64,
    /// It goes when this lease ends.
    pub lease: Option<LeaseId>,
}

/// Entries as of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision at that moment.
    pub revision: u64,
    /// The entries, by key.
    pub entries: Vec<Entry>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision that made it.
    pub revision: u64,
    /// The key.
    pub key: String,
    /// The entry that it holds now; `None` when it was deleted.
    pub entry: Option<Entry>,
}

/// What has to hold, and what to do then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Keys with the revision that last changed them; 0 says that there is no such key.
    pub compares: Vec<(String, u64)>,
    /// What to do, each key at most once.
    pub ops: Vec<Op>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set a key.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The lease that it ends with.
        lease: Option<LeaseId>,
    },
    /// Delete a key; no matter if it is not there.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    /// The key that it is about.
    pub fn key(&self) -> &str {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Requires that `key` was last changed by `revision`; 0: that it is not there.
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>, revision: u64) -> Txn {
        self.compares.push((key.into(), revision));
        self
    }

    /// Sets a key.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Txn {
        self.ops.push(Op::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// Sets a key that ends with a lease.
    #[must_use]
    pub fn put_leased(
        mut self,
        key: impl Into<String>,
        value: impl Into<Vec<u8>>,
        lease: LeaseId,
    ) -> Txn {
        self.ops.push(Op::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Txn {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Is it one that a store takes?
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        let refuse = |key: &str, rule| Err(StoreError::Refused { key: key.to_owned(), rule });
        if self.ops.len() > OPS_MAX || self.compares.len() > OPS_MAX {
            return refuse("", "a transaction has at most 8192 operations and comparisons");
        }
        let keys = self.compares.iter().map(|(key, _)| key.as_str());
        for key in keys.chain(self.ops.iter().map(Op::key)) {
            if !key.starts_with('/') || key.len() > KEY_BYTES_MAX {
                return refuse(key, "a key begins with `/` and has at most 512 bytes");
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for op in &self.ops {
            if !seen.insert(op.key()) {
                return refuse(op.key(), "a transaction names a key once");
            }
            if matches!(op, Op::Put { value, .. } if value.len() > VALUE_BYTES_MAX) {
                return refuse(op.key(), "a value has at most 1 MiB");
            }
        }
        Ok(())
    }
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Everything was done. A transaction that changes nothing keeps the revision.
    Done {
        /// The store's revision after it.
        revision: u64,
    },
    /// Nothing was done: this key differs from what was expected.
    Conflict {
        /// The key.
        key: String,
        /// What is there; `None` when nothing is.
        found: Option<Entry>,
    },
}

/// Why a store could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody has the file open.
    #[error("{path} is in use by another engine; stop it, or use another folder with --state")]
    InUse {
        /// The file.
        path: std::path::PathBuf,
    },
    /// The file is of a format that this version does not read.
    #[error("{path} has format {found}, this version reads {wanted}")]
    Format {
        /// The file.
        path: std::path::PathBuf,
        /// What it has.
        found: u64,
        /// What this version reads.
        wanted: u64,
    },
    /// The file, or the disk below it, failed.
    #[error("the state file {path} failed: {cause}")]
    Disk {
        /// The file.
        path: std::path::PathBuf,
        /// What it said.
        cause: String,
    },
    /// The file holds other bytes than were written to it.
    #[error("the state file {path} is damaged: {cause}")]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// What was noticed.
        cause: String,
    },
    /// Something in the file does not read back as it was written.
    #[error("{what} in the state file does not read back: {cause}")]
    Corrupt {
        /// What.
        what: String,
        /// How.
        cause: String,
    },
    /// The transaction is not one that a store takes.
    #[error("`{key}`: {rule}")]
    Refused {
        /// The key that breaks the rule.
        key: String,
        /// The rule.
        rule: &'static str,
    },
    /// The history from `from` on is not kept any more.
    #[error("changes from revision {from} on were cut; history starts after {compacted}")]
    Compacted {
        /// The revision that was asked for.
        from: u64,
        /// The newest revision that was cut.
        compacted: u64,
    },
    /// The lease has ended.
    #[error("lease {} has ended", .0.0)]
    LeaseGone(LeaseId),
}
