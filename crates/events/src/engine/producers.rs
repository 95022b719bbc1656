//! Producers of one partition: numbered batches are taken once and in order, and what a
//! transaction wrote is known until it ends.
//!
//! Not here: who may use a producer's number (`transactions`). Pure: all it knows comes from the
//! heads of batches, in the order of their offsets, so it can be built again from those that are
//! kept.
//!
//! Invariants: of every producer the newest [`REMEMBERED`] batches are known; open transactions
//! are ordered by where they began, so the first of them bounds what readers of committed data
//! see.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::batch::{Head, sequence_plus};

/// Batches of each producer that are told from new ones when they come again.
pub const REMEMBERED: usize = 5;

/// Why a batch is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// An older life of the producer, or of its transactions.
    #[error(
        "producer {producer} has epoch {current} by now, not {epoch}: another instance of it took over"
    )]
    Fenced {
        /// Who.
        producer: i64,
        /// Its epoch in the batch.
        epoch: i16,
        /// The newest.
        current: i16,
    },
    /// A batch before it is missing.
    #[error("producer {producer} sent sequence {sequence} where {expected} comes next")]
    OutOfOrder {
        /// Who.
        producer: i64,
        /// What came.
        sequence: i32,
        /// What should have.
        expected: i32,
    },
    /// Sent before, so long ago that its offset is not known any more.
    #[error(
        "producer {producer} sent sequence {sequence} before, and its offset is not known any more"
    )]
    Duplicate {
        /// Who.
        producer: i64,
        /// What came.
        sequence: i32,
    },
    /// A transactional batch of a producer that has no transaction, or the other way round.
    #[error("producer {0} writes outside a transaction what belongs into one, or the other way")]
    Transaction(i64),
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// It comes next.
    New,
    /// It is there already.
    Again {
        /// Its first offset.
        base_offset: i64,
        /// One past its last.
        end_offset: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    first: i32,
    last: i32,
    base_offset: i64,
    end_offset: i64,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its newest epoch.
    pub epoch: i16,
    sent: VecDeque<Sent>,
    /// Where its open transaction began.
    pub transaction_from: Option<i64>,
    /// Highest time of what it wrote last, in milliseconds.
    pub time_ms: i64,
}

impl Producer {
    /// Sequence of its last record, -1 when it is not known.
    pub fn last_sequence(&self) -> i32 {
        self.sent.back().map_or(-1, |sent| sent.last)
    }
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Whose.
    pub producer: i64,
    /// Where it began.
    pub first: i64,
    /// Where its marker is.
    pub marker: i64,
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    producers: HashMap<i64, Producer>,
    /// Open transactions: where they began, and whose they are.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    aborted: VecDeque<Aborted>,
}

impl Producers {
    /// Whether a batch comes next.
    ///
    /// # Errors
    /// When it may not be written.
    pub fn check(&self, head: &Head) -> Result<Sequence, SequenceError> {
        let (producer, epoch, sequence) =
            (head.producer_id, head.producer_epoch, head.base_sequence);
        let Some(known) = self.producers.get(&producer).filter(|_| producer >= 0) else {
            return Ok(Sequence::New);
        };
        if epoch < known.epoch {
            return Err(SequenceError::Fenced { producer, epoch, current: known.epoch });
        }
        if !head.is_transactional() && known.transaction_from.is_some() {
            return Err(SequenceError::Transaction(producer));
        }
        if epoch > known.epoch {
            // A new life counts from the start.
            let expected = 0;
            let fits = sequence == expected;
            return if fits {
                Ok(Sequence::New)
            } else {
                Err(SequenceError::OutOfOrder { producer, sequence, expected })
            };
        }
        let last = head.last_sequence();
        let same = known.sent.iter().find(|sent| sent.first == sequence && sent.last == last);
        if let Some(Sent { base_offset, end_offset, .. }) = same.copied() {
            return Ok(Sequence::Again { base_offset, end_offset });
        }
        let Some(newest) = known.sent.back() else { return Ok(Sequence::New) };
        let expected = sequence_plus(newest.last, 1);
        if sequence == expected {
            return Ok(Sequence::New);
        }
        let oldest = known.sent.front().map_or(0, |sent| sent.first);
        if sequence < oldest && known.sent.len() == REMEMBERED {
            return Err(SequenceError::Duplicate { producer, sequence });
        }
        Err(SequenceError::OutOfOrder { producer, sequence, expected })
    }

    /// Remembers a batch that is in the partition, or is on its way there.
    pub fn add(&mut self, head: &Head) {
        if head.producer_id < 0 {
            return;
        }
        let known = self.producers.entry(head.producer_id).or_insert_with(|| Producer {
            epoch: head.producer_epoch,
            sent: VecDeque::new(),
            transaction_from: None,
            time_ms: head.time_ms_max,
        });
        known.time_ms = known.time_ms.max(head.time_ms_max);
        if head.producer_epoch != known.epoch {
            known.epoch = head.producer_epoch;
            known.sent.clear();
        }
        if head.has_sequence() {
            if known.sent.len() == REMEMBERED {
                known.sent.pop_front();
            }
            known.sent.push_back(Sent {
                first: head.base_sequence,
                last: head.last_sequence(),
                base_offset: head.base_offset,
                end_offset: head.end_offset(),
            });
        }
        if head.is_transactional() && known.transaction_from.is_none() {
            known.transaction_from = Some(head.base_offset);
            self.open.insert(head.base_offset, head.producer_id);
        }
    }

    /// Remembers a marker.
    pub fn end(&mut self, head: &Head, commit: bool) {
        let producer = head.producer_id;
        let Some(known) = self.producers.get_mut(&producer) else {
            let mut known = Producer {
                epoch: head.producer_epoch,
                sent: VecDeque::new(),
                transaction_from: None,
                time_ms: head.time_ms_max,
            };
            known.time_ms = head.time_ms_max;
            self.producers.insert(producer, known);
            return;
        };
        if head.producer_epoch > known.epoch {
            known.epoch = head.producer_epoch;
            known.sent.clear();
        }
        known.time_ms = known.time_ms.max(head.time_ms_max);
        let Some(first) = known.transaction_from.take() else { return };
        self.open.remove(&first);
        if !commit {
            self.aborted.push_back(Aborted { producer, first, marker: head.base_offset });
        }
    }

    /// Where the oldest open transaction began.
    pub fn first_open(&self) -> Option<i64> {
        self.open.keys().next().copied()
    }

    /// Aborted transactions with records from `from` up to `to`.
    pub fn aborted_between(&self, from: i64, to: i64) -> Vec<Aborted> {
        let skip = self.aborted.partition_point(|aborted| aborted.marker < from);
        self.aborted.range(skip..).filter(|aborted| aborted.first < to).copied().collect()
    }

    /// Forgets aborted transactions by their markers.
    pub fn forget_aborted(&mut self, is_gone: impl Fn(i64) -> bool) {
        self.aborted.retain(|aborted| !is_gone(aborted.marker));
    }

    /// Forgets what lies below the start of the partition.
    pub fn trim(&mut self, start: i64) {
        while self.aborted.front().is_some_and(|aborted| aborted.marker < start) {
            self.aborted.pop_front();
        }
    }

    /// Forgets producers without a transaction that wrote nothing since a time, in milliseconds.
    pub fn expire(&mut self, before_ms: i64) {
        self.producers
            .retain(|_, known| known.transaction_from.is_some() || known.time_ms >= before_ms);
    }

    /// Producers by number.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// One producer.
    pub fn get(&self, id: i64) -> Option<&Producer> {
        self.producers.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::{Builder, marker};

    fn head(producer: i64, epoch: i16, sequence: i32, records: i32, offset: i64) -> Head {
        let mut built = Builder::new(1).producer(producer, epoch, sequence);
        for _ in 0..records {
            built = built.record(1, None, None, &[]);
        }
        Head { base_offset: offset, ..built.build().head }
    }

    #[test]
    fn batches_are_taken_once_and_in_order() {
        let mut producers = Producers::default();
        let mut offset = 0;
        for n in 0..8 {
            let next = head(1, 0, n * 2, 2, offset);
            assert_eq!(producers.check(&next), Ok(Sequence::New));
            producers.add(&next);
            offset += 2;
        }
        let again = head(1, 0, 14, 2, 0);
        let there = Sequence::Again { base_offset: 14, end_offset: 16 };
        assert_eq!(producers.check(&again), Ok(there));
        let gap = head(1, 0, 18, 2, 0);
        let error = SequenceError::OutOfOrder { producer: 1, sequence: 18, expected: 16 };
        assert_eq!(producers.check(&gap), Err(error));
        let long_ago = SequenceError::Duplicate { producer: 1, sequence: 0 };
        assert_eq!(producers.check(&head(1, 0, 0, 2, 0)), Err(long_ago));
    }

    #[test]
    fn a_newer_epoch_fences_and_counts_from_zero() {
        let mut producers = Producers::default();
        producers.add(&head(1, 3, 0, 1, 0));
        let fenced = SequenceError::Fenced { producer: 1, epoch: 2, current: 3 };
        assert_eq!(producers.check(&head(1, 2, 1, 1, 1)), Err(fenced));
        assert!(producers.check(&head(1, 4, 5, 1, 1)).is_err());
        assert_eq!(producers.check(&head(1, 4, 0, 1, 1)), Ok(Sequence::New));
    }

    #[test]
    fn transactions_bound_what_is_stable() {
        let mut producers = Producers::default();
        let transactional = |id, offset| {
            let built = Builder::new(1).producer(id, 0, 0).transactional();
            Head { base_offset: offset, ..built.record(1, None, None, &[]).build().head }
        };
        let end =
            |id, offset, commit| Head { base_offset: offset, ..marker(2, id, 0, commit).head };
        producers.add(&transactional(1, 0));
        producers.add(&transactional(2, 1));
        assert_eq!(producers.first_open(), Some(0));
        producers.end(&end(1, 2, false), false);
        assert_eq!(producers.first_open(), Some(1));
        producers.end(&end(2, 3, true), true);
        assert_eq!(producers.first_open(), None);
        let aborted = Aborted { producer: 1, first: 0, marker: 2 };
        assert_eq!(producers.aborted_between(0, 10), [aborted]);
        assert_eq!(producers.aborted_between(3, 10), []);
        producers.trim(3);
        assert_eq!(producers.aborted_between(0, 10), []);
    }
}
