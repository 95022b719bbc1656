//! A durable map from keys to values: what the log knows beside records.
//!
//! Not here: what keys and values mean. One owner of the store has a record for each change: the
//! key is its meta, the value its payload, nothing for a removal. All of it is in memory.
//!
//! When what is stored is far more than what is live, every live key is written again and then
//! everything before that is given up: no snapshot, and no removal that has to be kept.
//!
//! Invariants: a change that was waited for is there after a crash; the changes of one call are
//! there together, with the records that were given along, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use volumes::{Batch, Owner, ReadError, Receipt, Record, Reservation, Volumes};

use super::sync::lock;

/// What is stored beyond this and twice what is live is written again.
const SLACK_BYTES: u64 = 4 << 20;

/// Keys that are written again at once.
const STEP: usize = 500;

const PUT: u16 = 0;
const REMOVE: u16 = 1;

/// What a key is of; the first byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Single facts: the cluster's name, counters.
    Fact = 1,
    /// Topics, by name.
    Topic = 2,
    /// Committed offsets, by group, topic and partition.
    Offset = 3,
    /// Groups.
    Group = 4,
    /// Transactional producers.
    Transaction = 5,
    /// Share groups.
    Share = 6,
    /// Access rules.
    Acl = 7,
    /// Credentials.
    Credential = 8,
    /// Quotas.
    Quota = 9,
    /// Settings of the whole log.
    Setting = 10,
    /// Members that the server gives partitions to, by group and id.
    Member = 11,
}

/// A key: a kind and parts, ordered by them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// A key of parts.
    pub fn new(kind: Kind, parts: &[&str]) -> Key {
        let mut bytes = BytesMut::new();
        bytes.put_u8(kind as u8);
        for part in parts {
            bytes.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            bytes.put_slice(part.as_bytes());
        }
        Key(bytes.freeze())
    }

    /// Its parts; those that are no text are left out.
    pub fn parts(&self) -> Vec<&str> {
        let mut parts = Vec::new();
        let mut rest = self.0.get(1..).unwrap_or_default();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((part, after)) = after.split_at_checked(length) else { break };
            parts.extend(std::str::from_utf8(part).ok());
            rest = after;
        }
        parts
    }
}

/// One change; `None` removes.
pub type Change = (Key, Option<Bytes>);

/// The map.
pub struct Journal {
    store: Volumes,
    owner: Owner,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// With the sequence of each key's record.
    live: BTreeMap<Key, (Bytes, u64)>,
    live_bytes: u64,
    life: u64,
}

/// Changes on their way to the disk.
#[must_use = "they are durable once they were waited for"]
pub struct Writing {
    receipt: Receipt,
    life: u64,
}

impl Journal {
    /// Reads the map.
    ///
    /// # Errors
    /// When it cannot be read whole.
    pub fn open(store: &Volumes, owner: Owner) -> Result<Arc<Journal>, ReadError> {
        let state = Mutex::default();
        let journal = Journal { store: store.clone(), owner, state };
        let loaded = journal.load()?;
        *lock(&journal.state) = loaded;
        Ok(Arc::new(journal))
    }

    fn load(&self) -> Result<State, ReadError> {
        let bounds = self.store.bounds(self.owner).unwrap_or_default();
        let mut state = State { next: bounds.end, ..State::default() };
        let mut next = bounds.start;
        loop {
            let spans = self.store.read(self.owner, next, 4 << 20)?;
            let Some(last) = spans.last().and_then(|span| span.records.last()) else { break };
            next = last.end();
            for record in spans.iter().flat_map(|span| &span.records) {
                // Copies: a slice would keep all that was read with it.
                let key = Key(Bytes::copy_from_slice(&record.meta));
                let value = Bytes::copy_from_slice(&record.payload);
                state.set(key, (record.tag == PUT).then_some(value), record.sequence);
            }
        }
        Ok(state)
    }

    /// One past the last change, durable or not.
    pub fn end(&self) -> u64 {
        lock(&self.state).next
    }

    /// A value.
    pub fn get(&self, key: &Key) -> Option<Bytes> {
        lock(&self.state).live.get(key).map(|(value, _)| value.clone())
    }

    /// Every key of a kind that begins with some parts.
    pub fn list(&self, kind: Kind, parts: &[&str]) -> Vec<(Key, Bytes)> {
        let from = Key::new(kind, parts);
        let state = lock(&self.state);
        let all =
            state.live.range(from.clone()..).take_while(|(key, _)| key.0.starts_with(&from.0));
        all.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    /// Counts failed writes: who built on what was not durable looks again when it grows.
    pub fn life(&self) -> u64 {
        lock(&self.state).life
    }

    /// What changes cost: to be reserved.
    pub fn cost(&self, changes: &[Change]) -> usize {
        let mut group = Batch::new();
        for (key, value) in changes {
            group.push(self.owner, record(key, value.as_ref(), 0));
        }
        group.cost()
    }

    /// Sends changes to the disk in one group with what is in it already. They are in the map at
    /// once, and durable when [`Journal::written`] says so.
    ///
    /// # Errors
    /// When the store does not take them; then nothing changed.
    pub fn write(
        &self,
        space: Reservation,
        mut group: Batch,
        changes: Vec<Change>,
    ) -> Result<Writing, volumes::AppendError> {
        let mut state = lock(&self.state);
        for (sequence, (key, value)) in (state.next..).zip(&changes) {
            group.push(self.owner, record(key, value.as_ref(), sequence));
        }
        let receipt = self.store.append(space, group)?;
        for (key, value) in changes {
            let sequence = state.next;
            state.set(key, value, sequence);
            state.next += 1;
        }
        Ok(Writing { receipt, life: state.life })
    }

    /// Waits until changes are durable. After a failure the map is what is durable.
    ///
    /// # Errors
    /// When they are not.
    pub async fn written(self: &Arc<Self>, writing: Writing) -> Result<(), volumes::AppendError> {
        let Err(error) = writing.receipt.await else { return Ok(()) };
        self.put_right(writing.life).await;
        Err(error)
    }

    /// Makes changes and waits until they are durable.
    ///
    /// # Errors
    /// When they are not; then nothing changed.
    pub async fn change(
        self: &Arc<Self>,
        changes: Vec<Change>,
    ) -> Result<(), volumes::AppendError> {
        if changes.is_empty() {
            return Ok(());
        }
        let space = self.store.reserve(self.cost(&changes)).await?;
        let life = self.life();
        match self.write(space, Batch::new(), changes) {
            Ok(writing) => self.written(writing).await,
            Err(error) => {
                self.put_right(life).await;
                Err(error)
            }
        }
    }

    async fn put_right(self: &Arc<Self>, life: u64) {
        let journal = Arc::clone(self);
        let put_right = move || {
            let mut state = lock(&journal.state);
            if state.life != life {
                return;
            }
            let next = journal.store.resume(journal.owner);
            // What cannot be read now is as it was in memory: better too new than gone.
            if let Ok(loaded) = journal.load() {
                *state = loaded;
            }
            state.next = next;
            state.life = life + 1;
        };
        let _ = tokio::task::spawn_blocking(put_right).await;
    }

    /// Writes live keys again if what is stored is much more. Call it now and then.
    ///
    /// # Errors
    /// When the store takes nothing.
    pub async fn tidy(self: &Arc<Self>) -> Result<(), volumes::AppendError> {
        let stored = self.store.bounds(self.owner).unwrap_or_default().bytes;
        let (live, until, keys) = {
            let state = lock(&self.state);
            (state.live_bytes, state.next, state.live.keys().cloned().collect::<Vec<_>>())
        };
        if stored < live * 2 + SLACK_BYTES {
            return Ok(());
        }
        for keys in keys.chunks(STEP) {
            let space = self.store.reserve(volumes::BATCH_BYTES_MAX / 4).await?;
            let writing = {
                let mut state = lock(&self.state);
                let mut group = Batch::new();
                let (mut next, mut moved) = (state.next, Vec::new());
                for key in keys {
                    let old = state.live.get(key).filter(|(_, sequence)| *sequence < until);
                    let Some((value, _)) = old else { continue };
                    let one = record(key, Some(value), next);
                    if group.cost() + one.payload.len() + one.meta.len()
                        > volumes::BATCH_BYTES_MAX / 8
                    {
                        // More than fits: the next time.
                        return Ok(());
                    }
                    group.push(self.owner, one);
                    moved.push(key.clone());
                    next += 1;
                }
                if moved.is_empty() {
                    continue;
                }
                let receipt = self.store.append(space, group)?;
                for (key, sequence) in moved.iter().zip(state.next..) {
                    if let Some(entry) = state.live.get_mut(key) {
                        entry.1 = sequence;
                    }
                }
                state.next = next;
                Writing { receipt, life: state.life }
            };
            self.written(writing).await?;
        }
        let group = Batch::new().trim(self.owner, until);
        let space = self.store.reserve(group.cost()).await?;
        self.store.append(space, group)?.await
    }
}

impl State {
    fn set(&mut self, key: Key, value: Option<Bytes>, sequence: u64) {
        let bytes = |key: &Key, value: &Bytes| (key.0.len() + value.len() + 80) as u64;
        let before = match value {
            Some(value) => {
                self.live_bytes += bytes(&key, &value);
                self.live.insert(key.clone(), (value, sequence))
            }
            None => self.live.remove(&key),
        };
        if let Some((value, _)) = before {
            self.live_bytes -= bytes(&key, &value);
        }
    }
}

fn record(key: &Key, value: Option<&Bytes>, sequence: u64) -> Record {
    Record {
        sequence,
        span: 1,
        time: 0,
        tag: if value.is_some() { PUT } else { REMOVE },
        meta: key.0.clone(),
        payload: value.cloned().unwrap_or_default(),
    }
}
