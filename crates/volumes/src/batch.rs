//! What is appended: records of many owners, all or none.
//!
//! Not here: where they go. Vocabulary: an *owner* is whoever orders its records by a sequence of
//! its own: a partition by its offsets, a range of keys by its commands, a bucket by its versions.

use std::fmt;

use bytes::Bytes;

use crate::checksum::crc32c;
use crate::error::AppendError;
use crate::format::{entry, run_head};

/// Most that a batch may cost: payloads, metas and 80 bytes for every operation.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// Longest meta, in bytes.
pub const META_BYTES_MAX: usize = u16::MAX as usize;

/// What one operation costs beside its bytes, at most.
pub(crate) const OPERATION_BYTES: usize = entry::BYTES + run_head::BYTES + 8;

/// Who owns records: a class in the top byte, which says what part of the engine it belongs to,
/// and 56 bits of that part's choice. A number is never given to another owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(u64);

impl Owner {
    /// An owner; `None` when the number takes more than 56 bits.
    pub fn new(class: u8, number: u64) -> Option<Owner> {
        (number >> 56 == 0).then_some(Owner(u64::from(class) << 56 | number))
    }

    /// As it is on disk.
    pub fn from_bits(bits: u64) -> Owner {
        Owner(bits)
    }

    /// As it is on disk.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The part of the engine.
    pub fn class(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// That part's number.
    pub fn number(self) -> u64 {
        self.0 & (u64::MAX >> 8)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.class(), self.number())
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its place in the owner's order. Gaps are allowed, going back is not.
    pub sequence: u64,
    /// How many sequences it covers, at least 1: the records of a Kafka batch, say.
    pub span: u32,
    /// The owner's time; nothing here reads it, but a run knows the highest.
    pub time: u64,
    /// What kind of record it is to its owner.
    pub tag: u16,
    /// What is kept beside the payload, so that an index can be built without reading it. At most
    /// [`META_BYTES_MAX`].
    pub meta: Bytes,
    /// The record itself.
    pub payload: Bytes,
}

impl Record {
    /// One past the last sequence that it covers.
    pub fn end(&self) -> u64 {
        self.sequence.saturating_add(self.span.into())
    }
}

/// Operations that become durable together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) operations: Vec<(Owner, Operation)>,
    cost: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// With the plain CRC-32C of the payload: taken once, by the caller's thread.
    Put(Record, u32),
    Trim(u64),
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a record of `owner`.
    #[must_use]
    pub fn put(mut self, owner: Owner, record: Record) -> Batch {
        self.push(owner, record);
        self
    }

    /// Adds a record of `owner`.
    pub fn push(&mut self, owner: Owner, record: Record) {
        self.cost += OPERATION_BYTES + record.meta.len() + record.payload.len();
        let sum = crc32c(&record.payload);
        self.operations.push((owner, Operation::Put(record, sum)));
    }

    /// Gives up everything of `owner` below `start`; `u64::MAX` gives up the owner for good.
    #[must_use]
    pub fn trim(mut self, owner: Owner, start: u64) -> Batch {
        self.cost += OPERATION_BYTES;
        self.operations.push((owner, Operation::Trim(start)));
        self
    }

    /// What it takes of the space for waiting batches, in bytes: what to reserve.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether it only gives up: then it is taken also when the disk is full.
    pub fn only_trims(&self) -> bool {
        self.operations.iter().all(|(_, operation)| matches!(operation, Operation::Trim(_)))
    }

    /// Whose operations they are, some more than once.
    pub(crate) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.operations.iter().map(|(owner, _)| *owner)
    }

    /// How far every operation reaches.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (Owner, u64)> {
        self.operations.iter().map(|(owner, operation)| match operation {
            Operation::Put(record, _) => (*owner, record.end()),
            Operation::Trim(start) => (*owner, *start),
        })
    }

    pub(crate) fn check(&self) -> Result<(), AppendError> {
        if self.cost > BATCH_BYTES_MAX {
            let (bytes, most) = (self.cost, BATCH_BYTES_MAX);
            return Err(AppendError::TooLarge { what: "batch", bytes, most });
        }
        for (_, operation) in &self.operations {
            let Operation::Put(record, _) = operation else { continue };
            if record.meta.len() > META_BYTES_MAX {
                let (bytes, most) = (record.meta.len(), META_BYTES_MAX);
                return Err(AppendError::TooLarge { what: "meta", bytes, most });
            }
        }
        Ok(())
    }
}
