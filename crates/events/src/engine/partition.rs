//! One partition: where offsets are given out.
//!
//! Not here: topics and their settings; bytes on disk (`volumes`). Offsets are sequences of the
//! partition's owner, a batch is one record of it.
//!
//! Invariants: offsets are given out and appended under one lock, so the order of both is the
//! same; nothing is shown that is not durable; what is known of producers is what the log would
//! tell, so after a failed append it is forgotten and read again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use volumes::{Owner, ReadError, Receipt, Record, RecordHead, Reservation, Volumes};

use super::batch::{Batch, Head, stored_time, time_of};
use super::producers::{Aborted, Producers, Sequence, SequenceError};
use super::sync::lock;
use super::waiters::{Waiter, Waiters};

/// Kinds of records.
pub(crate) const DATA: u16 = 0;
pub(crate) const COMMIT: u16 = 1;
pub(crate) const ABORT: u16 = 2;

/// Heads that are read at once.
const HEADS: usize = 4096;

/// Why something was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The producer's numbers do not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] volumes::AppendError),
    /// What is known of producers cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// What producers did is not known yet: call [`Partition::learn`] and append again.
    #[error("what producers did is not known yet")]
    Unlearned,
}

/// One partition.
pub struct Partition {
    /// Its number in its topic.
    pub index: i32,
    owner: Owner,
    store: Volumes,
    state: Mutex<State>,
    /// One past the last durable offset.
    end: AtomicU64,
    /// Everything below is deleted.
    start: AtomicU64,
    waiters: Waiters,
}

#[derive(Default)]
struct State {
    next: u64,
    /// `None` until somebody needs to know.
    producers: Option<Box<Producers>>,
    /// Producers that said they would write here in a transaction that is open.
    announced: HashSet<i64>,
    /// Transactions whose marker may not be durable yet: where it is, and where they began.
    ending: Vec<(i64, i64)>,
    /// Counts markers that came while nothing was known of producers: whoever reads may miss them.
    unseen_markers: u64,
    /// Counts failed appends: what was known before one may be wrong.
    life: u64,
    deleted: bool,
}

/// A batch on its way to the disk.
#[must_use = "it is durable once it was waited for"]
pub struct Appending {
    partition: Arc<Partition>,
    receipt: Option<Receipt>,
    life: u64,
    /// Offset of its first record.
    pub base_offset: i64,
    end: u64,
}

impl Partition {
    /// The partition of an owner as the store has it.
    pub(crate) fn open(index: i32, owner: Owner, store: &Volumes) -> Arc<Partition> {
        let bounds = store.bounds(owner).unwrap_or_default();
        Arc::new(Partition {
            index,
            owner,
            store: store.clone(),
            state: Mutex::new(State { next: bounds.end, ..State::default() }),
            end: AtomicU64::new(bounds.end),
            start: AtomicU64::new(bounds.start),
            waiters: Waiters::default(),
        })
    }

    /// Whose records they are in the store.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The lowest offset that can be read.
    pub fn start_offset(&self) -> i64 {
        signed(self.start.load(Ordering::Acquire))
    }

    /// One past the last offset that can be read: the high watermark.
    pub fn end_offset(&self) -> i64 {
        signed(self.end.load(Ordering::Acquire))
    }

    /// Bytes that it takes on disk.
    pub fn bytes(&self) -> u64 {
        self.store.bounds(self.owner).unwrap_or_default().bytes
    }

    /// Wakes `waiter` at the next change.
    pub fn wait(&self, waiter: &Arc<Waiter>) {
        self.waiters.put(waiter);
    }

    /// Records up to `end` are durable.
    pub(crate) fn committed(&self, end: u64) {
        self.end.fetch_max(end, Ordering::AcqRel);
        self.waiters.wake();
    }

    /// Nothing is taken or shown any more.
    pub(crate) fn delete(&self) {
        lock(&self.state).deleted = true;
        self.waiters.wake();
    }

    /// Whether it was deleted.
    pub fn is_deleted(&self) -> bool {
        lock(&self.state).deleted
    }

    /// Reads what producers did, if that is not known. Blocks while the disk reads: before
    /// batches that are numbered, and before somebody asks what is stable.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn learn(&self) -> Result<(), ReadError> {
        loop {
            let (life, markers, until) = {
                let state = lock(&self.state);
                if state.producers.is_some() {
                    return Ok(());
                }
                (state.life, state.unseen_markers, state.next)
            };
            // What is on its way now may be numbered; what comes until this is done is not, and
            // when a marker comes it is begun again.
            while self.end.load(Ordering::Acquire) < until && lock(&self.state).life == life {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let mut producers = Producers::default();
            let mut next = self.start.load(Ordering::Acquire);
            loop {
                let heads = self.store.heads(self.owner, next, HEADS)?;
                let Some(last) = heads.last() else { break };
                next = last.end();
                for record in &heads {
                    remember(&mut producers, record);
                }
            }
            let mut state = lock(&self.state);
            if state.life == life && state.unseen_markers == markers {
                if state.producers.is_none() {
                    state.producers = Some(Box::new(producers));
                }
                return Ok(());
            }
        }
    }

    /// Whether [`Partition::learn`] has something to do.
    pub fn must_learn(&self) -> bool {
        lock(&self.state).producers.is_none()
    }

    /// Gives a batch its offsets and sends it to the disk. `append_time_ms` replaces the times of
    /// its records. A batch that is there already is not written again.
    ///
    /// # Errors
    /// When it is not taken: then nothing changed.
    pub(crate) fn append(
        self: &Arc<Self>,
        space: Reservation,
        mut batch: Batch,
        append_time_ms: Option<i64>,
    ) -> Result<Appending, AppendError> {
        let mut state = lock(&self.state);
        if state.deleted {
            return Err(AppendError::Deleted);
        }
        if batch.head.producer_id >= 0 {
            let producers = state.producers.as_ref().ok_or(AppendError::Unlearned)?;
            let producer = batch.head.producer_id;
            let checked = producers.check(&batch.head);
            // That somebody took over is worth more to know than that there is no transaction.
            if let Err(fenced @ SequenceError::Fenced { .. }) = checked {
                return Err(fenced.into());
            }
            if batch.head.is_transactional() && !state.announced.contains(&producer) {
                return Err(SequenceError::Transaction(producer).into());
            }
            if let Sequence::Again { base_offset, end_offset } = checked? {
                let (life, end) = (state.life, unsigned(end_offset));
                let partition = Arc::clone(self);
                return Ok(Appending { partition, receipt: None, life, base_offset, end });
            }
        }
        let base = state.next;
        batch.placed(signed(base), append_time_ms);
        let record = record_of(&batch, DATA);
        let end = record.end();
        let group = volumes::Batch::new().put(self.owner, record);
        let receipt = match self.store.append(space, group) {
            Ok(receipt) => receipt,
            Err(error) => {
                if matches!(error, volumes::AppendError::Fenced(_)) {
                    self.put_right(&mut state);
                }
                return Err(error.into());
            }
        };
        state.next = end;
        if let Some(producers) = &mut state.producers {
            producers.add(&batch.head);
        }
        let (life, partition) = (state.life, Arc::clone(self));
        Ok(Appending { partition, receipt: Some(receipt), life, base_offset: signed(base), end })
    }

    /// Bytes to reserve for a batch.
    pub(crate) fn cost(&self, batch: &Batch) -> usize {
        volumes::Batch::new().put(self.owner, record_of(batch, DATA)).cost()
    }

    /// Goes on from what is durable after an append failed.
    fn put_right(&self, state: &mut State) {
        state.next = self.store.resume(self.owner);
        state.producers = None;
        state.ending.clear();
        state.life += 1;
    }

    /// A producer will write here in its transaction, until that ends.
    pub(crate) fn announce(&self, producer: i64) {
        lock(&self.state).announced.insert(producer);
    }

    /// Adds the marker that ends a transaction to a group of several partitions. Nobody else
    /// appends until what is returned is dropped: ask partitions in the order of their owners.
    pub(crate) fn mark(
        &self,
        group: &mut volumes::Batch,
        mut marker: Batch,
        commit: bool,
    ) -> Option<Marking<'_>> {
        let state = lock(&self.state);
        if state.deleted {
            return None;
        }
        marker.placed(signed(state.next), None);
        group.push(self.owner, record_of(&marker, if commit { COMMIT } else { ABORT }));
        Some(Marking { partition: self, state, head: marker.head, commit })
    }

    /// Whole batches from the one that holds `from` on: at least one if there is any, and more up
    /// to `bytes`; of those that are stable if `stable`. Blocks while the disk reads.
    ///
    /// # Errors
    /// When `from` was deleted, or cannot be read.
    pub fn read(&self, from: i64, bytes: u64, below: i64) -> Result<Vec<Bytes>, ReadError> {
        Ok(cut(self.store.read(self.owner, unsigned(from), bytes)?, bytes, below))
    }

    /// As [`Partition::read`] if all is in memory; `None` if the disk has to be asked.
    pub fn read_in_memory(
        &self,
        from: i64,
        bytes: u64,
        below: i64,
    ) -> Option<Result<Vec<Bytes>, ReadError>> {
        let found = self.store.read_in_memory(self.owner, unsigned(from), bytes)?;
        Some(found.map(|spans| cut(spans, bytes, below)))
    }

    /// One past the last offset that readers of committed data see: the last stable offset. None
    /// while it is not known what producers did ([`Partition::learn`]). An end of a transaction that
    /// a crash could still undo is none.
    pub fn stable_offset(&self) -> Option<i64> {
        let state = lock(&self.state);
        let end = self.end_offset();
        let open = state.producers.as_ref()?.first_open();
        let ending = state.ending.iter().filter(|(marker, _)| *marker >= end);
        Some(ending.map(|(_, first)| *first).chain(open).fold(end, i64::min))
    }

    /// Aborted transactions between two offsets. None while it is not known what producers did.
    pub fn aborted(&self, from: i64, to: i64) -> Option<Vec<Aborted>> {
        let state = lock(&self.state);
        state.producers.as_ref().map(|known| known.aborted_between(from, to))
    }

    /// Forgets aborted transactions by the offsets of their markers.
    pub(crate) fn forget_aborted(&self, is_gone: impl Fn(u64) -> bool) {
        if let Some(producers) = &mut lock(&self.state).producers {
            producers.forget_aborted(|marker| is_gone(unsigned(marker)));
        }
    }

    /// Highest time of the first batch that holds or follows an offset, in milliseconds. Blocks
    /// while the disk reads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn time_at(&self, offset: u64) -> Result<Option<i64>, ReadError> {
        let from = offset.max(self.start.load(Ordering::Acquire));
        Ok(self.store.heads(self.owner, from, 1)?.first().map(|head| time_of(head.time)))
    }

    /// Looks at what is known of producers.
    pub fn with_producers<T>(&self, look: impl FnOnce(&Producers) -> T) -> Option<T> {
        lock(&self.state).producers.as_ref().map(|producers| look(producers))
    }

    /// The first record with at least that time: its offset and time. Blocks while the disk reads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find_time(&self, time_ms: i64) -> Result<Option<(i64, i64)>, ReadError> {
        let Some(mut next) = self.store.find_time(self.owner, stored_time(time_ms)) else {
            return Ok(None);
        };
        loop {
            let heads = self.store.heads(self.owner, next, HEADS)?;
            let Some(last) = heads.last() else { return Ok(None) };
            next = last.end();
            for head in heads.iter().filter(|head| time_of(head.time) >= time_ms) {
                if let Some(found) = self.time_in(head, time_ms)? {
                    return Ok(Some(found));
                }
            }
        }
    }

    /// The first record of a batch with at least that time, of those that are not deleted.
    fn time_in(&self, head: &RecordHead, time_ms: i64) -> Result<Option<(i64, i64)>, ReadError> {
        let start = self.start.load(Ordering::Acquire);
        let spans = self.store.read(self.owner, head.sequence.max(start), 1)?;
        let first = spans.first().and_then(|span| span.records.first());
        let batch = first.and_then(|record| Batch::kept(record.payload.clone()));
        let Some(batch) = batch else { return Ok(None) };
        let (base, start) = (batch.head.base_offset, signed(start));
        let whole = Some((base.max(start), batch.head.time_ms_max));
        if batch.head.gives_one_time() {
            return Ok(whole);
        }
        let Ok(records) = batch.records() else { return Ok(whole) };
        for record in records {
            let Ok(record) = record else { return Ok(whole) };
            let offset = base + i64::from(record.offset_delta);
            let time = batch.head.base_time_ms + record.time_delta_ms;
            if time >= time_ms && offset >= start {
                return Ok(Some((offset, time)));
            }
        }
        Ok(None)
    }

    /// The highest time, and the offset of the first record that has it. Blocks while the disk
    /// reads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn highest_time(&self) -> Result<Option<(i64, i64)>, ReadError> {
        let mut highest: Option<RecordHead> = None;
        let mut next = self.start.load(Ordering::Acquire);
        loop {
            let heads = self.store.heads(self.owner, next, HEADS)?;
            let Some(last) = heads.last() else { break };
            next = last.end();
            for record in heads {
                if highest.as_ref().is_none_or(|highest| record.time > highest.time) {
                    highest = Some(record);
                }
            }
        }
        let Some(head) = highest else { return Ok(None) };
        // Where the record that has it is deleted and others of its batch are not, the first of them.
        let start = self.start.load(Ordering::Acquire);
        let whole = (signed(head.sequence.max(start)), time_of(head.time));
        Ok(Some(self.time_in(&head, time_of(head.time))?.unwrap_or(whole)))
    }

    /// Whether its first records may all be of before a time: a quick look without the disk.
    pub(crate) fn is_older_than(&self, time_ms: i64) -> bool {
        let newer = self.store.find_time(self.owner, stored_time(time_ms));
        newer.is_none_or(|first| first > self.start.load(Ordering::Acquire))
    }

    /// The first offset that is to be kept when all batches older than a time go, and those that
    /// are too much. `None` if that is where it begins. Blocks while the disk reads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn start_for(
        &self,
        before_ms: Option<i64>,
        bytes_max: Option<u64>,
    ) -> Result<Option<i64>, ReadError> {
        let begin = self.start.load(Ordering::Acquire);
        let mut excess = bytes_max.map_or(0, |most| self.bytes().saturating_sub(most));
        let (mut keep_from, mut next) = (begin, begin);
        loop {
            let heads = self.store.heads(self.owner, next, HEADS)?;
            let Some(last) = heads.last() else { break };
            next = last.end();
            for head in heads {
                let too_old = before_ms.is_some_and(|before| time_of(head.time) < before);
                if !too_old && excess == 0 {
                    return Ok((keep_from > begin).then(|| signed(keep_from)));
                }
                excess = excess.saturating_sub(u64::from(head.payload_bytes).max(1));
                keep_from = head.end();
            }
        }
        Ok((keep_from > begin).then(|| signed(keep_from)))
    }

    /// Deletes what lies below an offset; durable when the receipt says so.
    pub(crate) fn trim(&self, space: Reservation, below: i64) -> Result<Receipt, AppendError> {
        let group = volumes::Batch::new().trim(self.owner, unsigned(below));
        Ok(self.store.append(space, group)?)
    }

    /// What lies below an offset is deleted.
    pub(crate) fn trimmed(&self, below: i64) {
        self.start.fetch_max(unsigned(below), Ordering::AcqRel);
        if let Some(producers) = &mut lock(&self.state).producers {
            producers.trim(below);
        }
    }

    /// Forgets producers that wrote nothing for long.
    pub(crate) fn expire_producers(&self, before_ms: i64) {
        if let Some(producers) = &mut lock(&self.state).producers {
            producers.expire(before_ms);
        }
    }
}

/// A marker that is being sent to the disk; nobody else appends meanwhile.
pub(crate) struct Marking<'a> {
    partition: &'a Partition,
    state: MutexGuard<'a, State>,
    head: Head,
    commit: bool,
}

impl Marking<'_> {
    /// The markers' group was taken: offsets go on behind it. Returns the partition's life, to be
    /// given back if the group fails.
    pub(crate) fn taken(mut self) -> u64 {
        let end = self.partition.end_offset();
        let state = &mut *self.state;
        state.next = unsigned(self.head.end_offset());
        state.ending.retain(|(marker, _)| *marker >= end);
        match &mut state.producers {
            Some(producers) => {
                let began = producers.get(self.head.producer_id).and_then(|p| p.transaction_from);
                state.ending.extend(began.map(|began| (self.head.base_offset, began)));
                producers.end(&self.head, self.commit);
            }
            None => state.unseen_markers += 1,
        }
        state.announced.remove(&self.head.producer_id);
        state.life
    }

    /// It was not.
    pub(crate) fn refused(mut self) {
        self.partition.put_right(&mut self.state);
    }
}

impl Partition {
    /// A group that was taken in that life failed.
    pub(crate) fn failed(&self, life: u64) {
        let mut state = lock(&self.state);
        if state.life == life {
            self.put_right(&mut state);
        }
    }
}

impl Appending {
    /// Waits until the batch is durable.
    ///
    /// # Errors
    /// When it is not, and will not be.
    pub async fn durable(self) -> Result<(), AppendError> {
        let partition = self.partition;
        match self.receipt {
            Some(receipt) => {
                let done = receipt.await;
                if done.is_err() {
                    partition.failed(self.life);
                }
                Ok(done?)
            }
            // It came before, and the first one may still be on its way.
            None => loop {
                let waiter = Waiter::new();
                partition.wait(&waiter);
                if partition.end.load(Ordering::Acquire) >= self.end {
                    return Ok(());
                }
                if lock(&partition.state).life != self.life {
                    let why = "the batch before this one failed; send it again".into();
                    return Err(AppendError::Store(volumes::AppendError::Failed(why)));
                }
                // A failure wakes nobody: look again now and then.
                let pause = std::time::Duration::from_millis(100);
                let _ = tokio::time::timeout(pause, waiter.woken()).await;
            },
        }
    }
}

fn remember(producers: &mut Producers, record: &RecordHead) {
    let Some(head) = Head::of_record(record) else { return };
    match record.tag {
        COMMIT => producers.end(&head, true),
        ABORT => producers.end(&head, false),
        _ => producers.add(&head),
    }
}

fn record_of(batch: &Batch, tag: u16) -> Record {
    Record {
        sequence: unsigned(batch.head.base_offset),
        span: batch.head.last_offset_delta.unsigned_abs() + 1,
        time: stored_time(batch.head.time_ms_max),
        tag,
        meta: batch.head.to_meta(),
        payload: batch.bytes.clone(),
    }
}

/// Leaves out batches from `below` on, and those that would be more than `bytes`, but for the first.
/// The store reads until it has enough; clients mean no more than enough.
fn cut(spans: Vec<volumes::Span>, bytes: u64, below: i64) -> Vec<Bytes> {
    let (below, mut room) = (unsigned(below), usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut pieces = Vec::with_capacity(spans.len());
    for span in spans {
        let mut length = 0;
        let mut is_whole = true;
        for record in &span.records {
            let own = record.payload.len();
            let is_first = pieces.is_empty() && length == 0;
            if record.end() > below || (own > room && !is_first) {
                is_whole = false;
                break;
            }
            length += own;
            room = room.saturating_sub(own);
        }
        if length > 0 {
            pieces.push(span.payload.slice(..length));
        }
        if !is_whole {
            break;
        }
    }
    pieces
}

/// Offsets are never negative, and never as high as that.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}
