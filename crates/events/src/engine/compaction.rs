//! Compaction: of the records of a key the newest stays.
//!
//! Not here: bytes on disk. A plan says which records of one partition are wanted; they go when the
//! store settles the volumes that they lie in, and asks ([`volumes::Judge`]). A plan is made from what
//! is there at that time, and nothing of it is kept, so that a crash at any instruction leaves
//! records that are not wanted any more, never fewer than are.
//!
//! Invariants: offsets and their order stay. What is not stable, and what is younger than
//! `min.compaction.lag.ms`, is not looked at. The newest batch of the partition and of each of its
//! producers stay whole, since offsets and sequences go on behind them. A deletion goes
//! `delete.retention.ms` after it was first seen here, and a marker likewise, when nothing is left that
//! either speaks of.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use sha2::{Digest, Sha256};
use volumes::{Owner, ReadError, Record as Stored, Verdict, Volumes};

use super::batch::{Batch, Head, Record, time_of};
use super::config::TopicConfig;
use super::log::{Log, learn};
use super::partition::{DATA, Partition};
use super::producers::Aborted;
use super::sync::{lock, read, write};

/// Keys that one plan knows: about 50 MB. What lies behind them is for the next one.
const KEYS_MAX: usize = 1_000_000;

/// A partition is not looked at sooner for deletions that stayed, in milliseconds.
const AGAIN_MS_MIN: i64 = 1000;

/// Bytes that are read at once.
const READ_BYTES: u64 = 1 << 20;

/// What is wanted of one partition.
struct Plan {
    owner: Owner,
    /// Batches from here on stay as they are.
    upto: u64,
    keys: HashMap<[u8; 16], Newest>,
    /// Whether keys are known from the partition's beginning on.
    from_start: bool,
    aborted: Vec<Aborted>,
    /// Batches that stay whole, by their first offset.
    whole: HashSet<u64>,
    /// Markers of transactions of which nothing is left, by their offset.
    empty: HashSet<u64>,
    now_ms: i64,
    delete_after_ms: i64,
    /// Whether a deletion or a marker stayed that may go later.
    later: AtomicBool,
}

#[derive(Clone, Copy)]
struct Newest {
    offset: u64,
    /// Whether there is no other record of the key.
    alone: bool,
}

/// How far a partition was compacted.
#[derive(Clone, Copy, Default)]
struct Done {
    /// Bytes that were left.
    bytes: u64,
    /// One past the last offset.
    upto: u64,
    /// Where the next plan's keys begin: behind those that one plan could know, or at the start.
    from: u64,
    /// When deletions that stayed may go.
    again_ms: Option<i64>,
}

/// Who decides what is wanted, and how far that went.
#[derive(Default)]
pub(crate) struct Compaction {
    plan: RwLock<Option<Plan>>,
    done: Mutex<HashMap<Owner, Done>>,
}

impl Compaction {
    /// A partition is no more.
    pub(crate) fn forget(&self, owner: Owner) {
        lock(&self.done).remove(&owner);
    }
}

impl volumes::Judge for Compaction {
    fn judge(&self, owner: Owner, record: &Stored) -> Verdict {
        match &*read(&self.plan) {
            Some(plan) if plan.owner == owner && record.end() <= plan.upto => plan.judge(record),
            _ => Verdict::Keep,
        }
    }
}

impl Plan {
    fn judge(&self, stored: &Stored) -> Verdict {
        let batch = Batch::kept(stored.payload.clone());
        let Some(batch) = batch.filter(|_| !self.whole.contains(&stored.sequence)) else {
            return Verdict::Keep;
        };
        let may_go = batch.head.horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        if stored.tag != DATA {
            return match self.empty.contains(&stored.sequence) {
                false => Verdict::Keep,
                true if may_go => Verdict::Drop,
                true if self.is_later() && batch.head.horizon_ms().is_some() => Verdict::Keep,
                true => self.rewritten(stored, &batch, None, true),
            };
        }
        if is_aborted(&self.aborted, &batch.head) {
            return Verdict::Drop;
        }
        let Ok(records) = batch.records() else { return Verdict::Keep };
        let (mut wanted, mut deletions) = (Vec::new(), false);
        for record in records {
            // What cannot be read is kept as it is.
            let Ok(record) = record else { return Verdict::Keep };
            let offset =
                stored.sequence.saturating_add(u64::from(record.offset_delta.unsigned_abs()));
            let newest = record.key.as_deref().and_then(|key| self.keys.get(&hash(key)));
            if newest.is_some_and(|newest| newest.offset > offset) {
                continue;
            }
            if record.value.is_none() && record.key.is_some() {
                let alone = newest.is_some_and(|newest| newest.alone) && self.from_start;
                if alone && may_go {
                    continue;
                }
                deletions = self.is_later();
            }
            wanted.push(record);
        }
        let must_say_when = deletions && batch.head.horizon_ms().is_none();
        match wanted.len() {
            0 => Verdict::Drop,
            all if all == batch.head.records.unsigned_abs() as usize && !must_say_when => {
                Verdict::Keep
            }
            _ => self.rewritten(stored, &batch, Some(wanted), must_say_when),
        }
    }

    fn is_later(&self) -> bool {
        self.later.store(true, Ordering::Relaxed);
        true
    }

    fn rewritten(
        &self,
        stored: &Stored,
        batch: &Batch,
        wanted: Option<Vec<Record>>,
        say_when: bool,
    ) -> Verdict {
        let all = || {
            self.is_later();
            batch.records().ok()?.collect::<Result<Vec<_>, _>>().ok()
        };
        let Some(wanted) = wanted.or_else(all) else { return Verdict::Keep };
        let horizon = say_when.then(|| self.now_ms.saturating_add(self.delete_after_ms));
        let batch = batch.with_records(&wanted, horizon);
        Verdict::Replace(Stored {
            meta: batch.head.to_meta(),
            payload: batch.bytes,
            ..stored.clone()
        })
    }
}

fn is_aborted(aborted: &[Aborted], head: &Head) -> bool {
    head.is_transactional()
        && aborted.iter().any(|aborted| {
            aborted.producer == head.producer_id
                && (aborted.first..aborted.marker).contains(&head.base_offset)
        })
}

/// Keys of clients decide what is deleted, so that none may be taken for another.
fn hash(key: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(key)[..16]);
    short
}

/// What a plan needs to know beside the records.
struct Terms {
    from: u64,
    /// One past the last offset that may be looked at.
    below: u64,
    /// Batches with a record of this time or later are too young.
    young_ms: i64,
    now_ms: i64,
    delete_after_ms: i64,
}

/// Reads what is there and says what is wanted of it. Blocks while the disk reads.
fn plan(store: &Volumes, partition: &Partition, terms: &Terms) -> Result<Option<Plan>, ReadError> {
    let Some(aborted) = partition.aborted(0, i64::MAX) else { return Ok(None) };
    let start = u64::try_from(partition.start_offset()).unwrap_or(0);
    let mut plan = Plan {
        owner: partition.owner(),
        upto: terms.from.max(start),
        keys: HashMap::new(),
        from_start: terms.from <= start,
        aborted,
        whole: HashSet::new(),
        empty: HashSet::new(),
        now_ms: terms.now_ms,
        delete_after_ms: terms.delete_after_ms,
        later: AtomicBool::new(false),
    };
    // Of each producer: its newest batch with records, its newest of any kind, and whether anything
    // lies between its last marker and there.
    let mut newest: HashMap<i64, (Option<u64>, u64, bool)> = HashMap::new();
    let end = u64::try_from(partition.end_offset()).unwrap_or(0);
    // Producers and their markers are known from the beginning; keys only from where they are asked for.
    let mut next = start;
    'all: loop {
        let spans = store.read(plan.owner, next, READ_BYTES)?;
        if spans.is_empty() {
            break;
        }
        for stored in spans.iter().flat_map(|span| &span.records) {
            let Some(batch) = Batch::kept(stored.payload.clone()) else { continue };
            let too_young = time_of(stored.time) >= terms.young_ms;
            if stored.end() > terms.below || too_young || plan.keys.len() >= KEYS_MAX {
                break 'all;
            }
            next = stored.end();
            plan.upto = plan.upto.max(next);
            if next == end {
                plan.whole.insert(stored.sequence);
            }
            let known = newest.entry(batch.head.producer_id).or_default();
            known.1 = stored.sequence;
            if stored.tag != DATA {
                if !std::mem::take(&mut known.2) {
                    plan.empty.insert(stored.sequence);
                }
                continue;
            }
            known.0 = Some(stored.sequence);
            known.2 |= batch.head.is_transactional();
            if stored.end() > terms.from && !is_aborted(&plan.aborted, &batch.head) {
                plan.learn(stored.sequence, &batch);
            }
        }
    }
    newest.remove(&super::batch::NO_PRODUCER);
    let known = partition.with_producers(|known| {
        newest.retain(|producer, _| known.get(*producer).is_some());
    });
    if known.is_none() {
        // An append failed just now, and it is not known who must stay.
        return Ok(None);
    }
    let stay = newest.into_values().flat_map(|(data, any, _)| data.into_iter().chain([any]));
    plan.whole.extend(stay);
    Ok(Some(plan))
}

impl Plan {
    fn learn(&mut self, sequence: u64, batch: &Batch) {
        let Ok(records) = batch.records() else { return };
        for record in records.map_while(Result::ok) {
            let Some(key) = &record.key else { continue };
            let offset = sequence.saturating_add(u64::from(record.offset_delta.unsigned_abs()));
            let newest = Newest { offset, alone: true };
            self.keys
                .entry(hash(key))
                .and_modify(|known| *known = Newest { alone: false, ..newest })
                .or_insert(newest);
        }
    }
}

impl Log {
    /// Compacts one partition that is due. Returns whether there was one.
    pub async fn compact(&self) -> bool {
        for topic in self.topics() {
            let config = topic.config();
            if !config.is_compacted() {
                continue;
            }
            for partition in &*topic.partitions() {
                if self.is_due(partition, &config).await
                    && self.compact_one(partition, &config).await
                {
                    return true;
                }
            }
        }
        false
    }

    /// Whether enough of a partition was not compacted, or something may go by now.
    async fn is_due(&self, partition: &Arc<Partition>, config: &TopicConfig) -> bool {
        let (end, bytes) = self.store.sealed(partition.owner());
        let done = lock(&self.compaction.done).get(&partition.owner()).copied().unwrap_or_default();
        let now = self.now_ms();
        if bytes == 0 {
            return false;
        }
        if done.again_ms.is_some_and(|again| again <= now) {
            return true;
        }
        let dirty = bytes.saturating_sub(done.bytes);
        if dirty == 0 || end <= done.upto {
            return false;
        }
        let ratio: f64 = config.get("min.cleanable.dirty.ratio").trim().parse().unwrap_or(0.5);
        let share = dirty.saturating_mul(10_000) / bytes;
        if f64::from(u32::try_from(share).unwrap_or(u32::MAX)) >= ratio * 10_000.0 {
            return true;
        }
        let Some(before) = now.checked_sub(config.number("max.compaction.lag.ms")) else {
            return false;
        };
        if before <= 0 {
            return false;
        }
        let partition = Arc::clone(partition);
        let first = move || {
            partition.time_at(done.upto).is_ok_and(|time| time.is_some_and(|time| time <= before))
        };
        tokio::task::spawn_blocking(first).await.unwrap_or(false)
    }

    async fn compact_one(&self, partition: &Arc<Partition>, config: &TopicConfig) -> bool {
        if learn(partition).await.is_err() {
            return false;
        }
        let owner = partition.owner();
        let done = lock(&self.compaction.done).get(&owner).copied().unwrap_or_default();
        let now_ms = self.now_ms();
        let (sealed, _) = self.store.sealed(owner);
        let Some(stable) = partition.stable_offset() else { return false };
        let stable = u64::try_from(stable).unwrap_or(0);
        let terms = Terms {
            from: done.from,
            below: sealed.min(stable),
            young_ms: match config.number("min.compaction.lag.ms") {
                lag if lag > 0 => now_ms.saturating_sub(lag).saturating_add(1),
                _ => i64::MAX,
            },
            now_ms,
            delete_after_ms: config.number("delete.retention.ms").max(0),
        };
        let (store, partition) = (self.store.clone(), Arc::clone(partition));
        let compaction = Arc::clone(&self.compaction);
        let work = move || {
            let Ok(Some(plan)) = plan(&store, &partition, &terms) else { return false };
            let (upto, full) = (plan.upto, plan.keys.len() >= KEYS_MAX);
            // Readers are told of aborted transactions until they met the marker: one that may go
            // has nothing before it any more, and must not be waited for.
            partition.forget_aborted(|marker| plan.empty.contains(&marker));
            *write(&compaction.plan) = Some(plan);
            let settled = upto > 0 && store.settle_owner(owner, upto);
            let later = write(&compaction.plan).take().is_some_and(|plan| plan.later.into_inner());
            if settled {
                let (_, bytes) = store.sealed(owner);
                let wait = terms.delete_after_ms.max(AGAIN_MS_MIN);
                let again_ms = later.then(|| terms.now_ms.saturating_add(wait));
                let from = if full { upto } else { 0 };
                lock(&compaction.done).insert(owner, Done { bytes, upto, from, again_ms });
            }
            settled
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(false)
    }
}
