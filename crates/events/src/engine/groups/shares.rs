//! Share groups with journal, records and clock: what a member is given, and what it says of it.
//!
//! Not here: which records of a partition are whose (`share`), dead letters themselves (`letters`),
//! members (`rosters`), sessions (`kafka`).
//!
//! A change is made in memory and then written with all that were made since the last write: one
//! write is under way at a time, for all groups together, so a thousand verdicts cost one flush.
//!
//! Invariants: a verdict that was acknowledged holds after a crash; where a group begins in a
//! partition is durable before it is given anything of it; whoever waits for a change that could not
//! be written is told, and the partition is again as it was written. Deliveries are written with
//! the next verdict only: after a crash the last ones may not count.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};

use super::letters::Letter;
use super::rules::{Begin, Rules};
use super::share::{Delivery, Saved, Shared, Verdict, VerdictError};
use crate::engine::batch::{Batch, Head};
use crate::engine::journal::{Change, Key, Kind};
use crate::engine::log::{Log, Topic, learn};
use crate::engine::partition::Partition;
use crate::engine::producers::Aborted;
use crate::engine::sync::lock;
use crate::engine::waiters::{Waiter, Waiters};

/// What is read at once.
const STEP_BYTES: u64 = 1 << 20;

/// Why something is not done to a partition of a group.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ShareError {
    /// There is no such partition.
    #[error("there is no such partition")]
    Unknown,
    /// What was kept of it has no sense.
    #[error("what was kept of the partition cannot be read")]
    Unreadable,
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] volumes::AppendError),
    /// The store does not give it.
    #[error(transparent)]
    Read(#[from] volumes::ReadError),
}

/// A partition of a topic as a group has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The group.
    pub group: String,
    /// The topic's id.
    pub topic: u128,
    /// The partition's number.
    pub index: i32,
}

impl Place {
    fn key(&self) -> Key {
        let (topic, index) = (topic_part(self.topic), self.index.to_string());
        Key::new(Kind::Share, &[&self.group, &topic, &index])
    }

    fn of_key(key: &Key) -> Option<Place> {
        let parts = key.parts();
        let [group, topic, index] = parts[..] else { return None };
        let topic = u128::from_str_radix(topic, 16).ok()?;
        Some(Place { group: group.to_owned(), topic, index: index.parse().ok()? })
    }
}

/// A topic's id as a part of keys.
pub(crate) fn topic_part(topic: u128) -> String {
    format!("{topic:032x}")
}

/// Where a group is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The first offset that is not done with.
    pub start: i64,
    /// Records that are not done with.
    pub lag: i64,
}

/// What a member asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Most records.
    pub records: u64,
    /// Most bytes of batches, but for the first.
    pub bytes: u64,
}

/// What a member gets.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Whole batches that hold the records, among others.
    pub batches: Bytes,
    /// The records that it has to itself from now on, in their order.
    pub acquired: Vec<Delivery>,
}

/// A change that may not be durable yet.
#[must_use = "it is durable once it was waited for"]
pub struct Promise {
    held: Arc<Held>,
    number: u64,
    life: u64,
}

/// One partition of one group.
pub struct Held {
    place: Place,
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    now: Mutex<Now>,
    waiters: Waiters,
}

struct Now {
    shared: Shared,
    /// Counts how often it went back to what was written.
    life: u64,
    /// Are written before the state that has their records done.
    letters: Vec<Letter>,
    /// Nothing of it is written any more.
    is_gone: bool,
}

/// All share groups.
pub struct Shares {
    log: Arc<Log>,
    all: Mutex<HashMap<Place, Arc<Held>>>,
    opening: tokio::sync::Mutex<()>,
    /// Held by whoever writes.
    writing: tokio::sync::Mutex<()>,
    changes: Mutex<Changes>,
}

/// Changes are numbered.
#[derive(Default)]
struct Changes {
    made: u64,
    /// All up to this one are written, or were taken back.
    settled: u64,
    /// What is to be written, with the last change of each.
    dirty: BTreeMap<Place, (u64, Arc<Held>)>,
}

impl Held {
    /// Wakes `waiter` when there may be something to deliver, but for new records.
    pub fn wait(&self, waiter: &Arc<Waiter>) {
        self.waiters.put(waiter);
    }

    /// The partition of the log.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// The topic that it is of.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// How often it went back to what was written: nobody has anything then.
    pub fn setbacks(&self) -> u64 {
        lock(&self.now).life
    }

    /// Where the group is.
    pub fn progress(&self) -> Progress {
        progress(&lock(&self.now).shared, self.partition.end_offset())
    }
}

impl Now {
    fn bury(&mut self, dead: Vec<Delivery>, why: &'static str, rules: &Rules) {
        let Some(to) = &rules.letters_to else { return };
        let letter = |records| Letter { records, why, to: to.clone() };
        self.letters.extend(dead.into_iter().map(letter));
    }
}

fn progress(shared: &Shared, log_end: i64) -> Progress {
    let ahead = log_end.saturating_sub(shared.end()).max(0);
    let lag = ahead.saturating_add(i64::try_from(shared.live()).unwrap_or(i64::MAX));
    Progress { start: shared.start(), lag }
}

fn change(place: &Place, shared: &Shared) -> Change {
    let saved = serde_json::to_vec(&shared.saved()).unwrap_or_default();
    (place.key(), Some(Bytes::from(saved)))
}

impl Shares {
    pub(super) fn new(log: &Arc<Log>) -> Shares {
        Shares {
            log: Arc::clone(log),
            all: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            changes: Mutex::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.log.clock.steady().0 / 1_000_000
    }

    fn read(&self, place: &Place) -> Result<Option<Shared>, ShareError> {
        let Some(value) = self.log.journal.get(&place.key()) else { return Ok(None) };
        let saved: Saved = serde_json::from_slice(&value).map_err(|_| ShareError::Unreadable)?;
        Shared::restored(&saved).map(Some).ok_or(ShareError::Unreadable)
    }

    /// A partition of a group; the group begins in it if it did not have it yet.
    ///
    /// # Errors
    /// When it is not there, or where it begins cannot be written.
    pub async fn open(
        &self,
        group: &str,
        topic: &Arc<Topic>,
        index: i32,
        rules: &Rules,
    ) -> Result<Arc<Held>, ShareError> {
        let place = Place { group: group.to_owned(), topic: topic.id, index };
        let found = || lock(&self.all).get(&place).cloned();
        if let Some(held) = found() {
            return Ok(held);
        }
        let _one = self.opening.lock().await;
        if let Some(held) = found() {
            return Ok(held);
        }
        let partition = topic.partition(index).ok_or(ShareError::Unknown)?;
        let shared = match self.read(&place)? {
            Some(shared) => shared,
            None => {
                let shared = Shared::new(self.begin(&partition, rules.begin).await?);
                self.log.journal.change(vec![change(&place, &shared)]).await?;
                shared
            }
        };
        let now = Now { shared, life: 0, letters: Vec::new(), is_gone: false };
        let held = Arc::new(Held {
            place: place.clone(),
            topic: Arc::clone(topic),
            partition,
            now: Mutex::new(now),
            waiters: Waiters::default(),
        });
        lock(&self.all).insert(place, Arc::clone(&held));
        Ok(held)
    }

    async fn begin(&self, partition: &Arc<Partition>, begin: Begin) -> Result<i64, ShareError> {
        match begin {
            Begin::Earliest => Ok(partition.start_offset()),
            Begin::Latest => Ok(partition.end_offset()),
            Begin::Since(ms) => {
                let ms = i64::try_from(ms).unwrap_or(i64::MAX);
                let (time, end) = (self.log.now_ms().saturating_sub(ms), partition.end_offset());
                let partition = Arc::clone(partition);
                let find = move || partition.find_time(time);
                let found = tokio::task::spawn_blocking(find).await.unwrap_or(Ok(None))?;
                Ok(found.map_or(end, |(offset, _)| offset))
            }
        }
    }

    /// Gives a member records that nobody else has. Nothing when there is none now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn take(
        &self,
        held: &Arc<Held>,
        member: &Arc<str>,
        wanted: Wanted,
        rules: &Rules,
    ) -> Result<Taken, ShareError> {
        let (mut room, mut bytes) = (wanted.records, wanted.bytes);
        let mut given: Vec<Delivery> = Vec::new();
        let mut batches: Vec<Bytes> = Vec::new();
        if rules.committed_only {
            learn(&held.partition).await?;
        }
        // Only ever further on: what somebody gives back meanwhile is for the next time.
        let mut read_to = i64::MIN;
        while room > 0 && (bytes > 0 || batches.is_empty()) {
            let Some(next) = self.next(held, rules).filter(|next| *next >= read_to) else { break };
            let end = held.partition.end_offset();
            let below = match rules.committed_only {
                true => held.partition.stable_offset().unwrap_or(next).min(end),
                false => end,
            };
            if next >= below {
                break;
            }
            let pieces = read(&held.partition, next, bytes.min(STEP_BYTES), below).await?;
            let aborted = match rules.committed_only {
                // Not known again just now: the member asks once more.
                true => match held.partition.aborted(next, below) {
                    Some(aborted) => aborted,
                    None => break,
                },
                false => Vec::new(),
            };
            let found: Vec<Batch> = pieces.iter().flat_map(Batch::each).collect();
            let mut now = lock(&held.now);
            let at = self.now_ms();
            let mut from = next;
            let before = (now.shared.next(), given.len());
            for part in parts(&found, &aborted) {
                let (first, last) = part.offsets;
                if part.is_data {
                    let own = now.shared.deliver(member, (first, last), room, &rules.terms, at);
                    room -= own.iter().map(count).sum::<u64>();
                    given.extend(own);
                } else {
                    now.shared.skip(from.min(first), last);
                }
                from = last + 1;
            }
            if before == (now.shared.next(), given.len()) {
                break;
            }
            drop(now);
            for batch in found {
                read_to = batch.head.end_offset();
                bytes = bytes.saturating_sub(batch.bytes.len() as u64);
                batches.push(batch.bytes);
            }
        }
        let given = joined(given);
        Ok(Taken { batches: of_records(batches, &given), acquired: given })
    }

    /// The first offset that may be delivered; `None` while there may be none.
    fn next(&self, held: &Arc<Held>, rules: &Rules) -> Option<i64> {
        let mut now = lock(&held.now);
        if now.is_gone {
            return None;
        }
        let mut dead = now.shared.expire(&rules.terms, self.now_ms());
        // After a restart, a write that failed, or when the terms changed.
        dead.extend(now.shared.exhausted(&rules.terms));
        if !dead.is_empty() {
            now.bury(dead, TOO_OFTEN, rules);
            let _later = self.changed(held, &now);
        }
        now.shared.log_starts(held.partition.start_offset());
        let next = now.shared.next();
        let is_full = next == now.shared.end() && now.shared.live() >= rules.terms.live_max;
        (!is_full).then_some(next)
    }

    /// What a member says of records: all of it counts, or nothing.
    ///
    /// # Errors
    /// When it is not for the member to say.
    pub fn judge(
        &self,
        held: &Arc<Held>,
        member: &str,
        verdicts: &[((i64, i64), Vec<Verdict>)],
        rules: &Rules,
    ) -> Result<Promise, VerdictError> {
        let at = self.now_ms();
        let mut now = lock(&held.now);
        if now.is_gone {
            return Err(VerdictError::NotOut);
        }
        let mut next = now.shared.clone();
        let mut letters = Vec::new();
        for (range, verdicts) in verdicts {
            let rejects = verdicts.contains(&Verdict::Reject);
            let why = if rejects { REJECTED } else { TOO_OFTEN };
            let dead = next.judge(member, *range, verdicts, &rules.terms, at)?;
            letters.push((dead, why));
        }
        now.shared = next;
        for (dead, why) in letters {
            now.bury(dead, why, rules);
        }
        let promise = self.changed(held, &now);
        drop(now);
        held.waiters.wake();
        Ok(promise)
    }

    /// A member is gone: others get what it had.
    pub fn gone(&self, place: &Place, member: &str, rules: &Rules) {
        let Some(held) = lock(&self.all).get(place).cloned() else { return };
        let mut now = lock(&held.now);
        let before = now.shared.clone();
        let dead = now.shared.gone(member, &rules.terms);
        if before == now.shared {
            return;
        }
        now.bury(dead, TOO_OFTEN, rules);
        let _later = self.changed(&held, &now);
        drop(now);
        held.waiters.wake();
    }

    fn changed(&self, held: &Arc<Held>, now: &Now) -> Promise {
        let mut changes = lock(&self.changes);
        changes.made += 1;
        let number = changes.made;
        changes.dirty.insert(held.place.clone(), (number, Arc::clone(held)));
        Promise { held: Arc::clone(held), number, life: now.life }
    }

    /// Waits until a change is durable.
    ///
    /// # Errors
    /// When it is not, and will not be.
    pub async fn kept(&self, promise: Promise) -> Result<(), ShareError> {
        while lock(&self.changes).settled < promise.number {
            let turn = self.writing.lock().await;
            if lock(&self.changes).settled < promise.number {
                self.write().await;
            }
            drop(turn);
        }
        match lock(&promise.held.now).life == promise.life {
            true => Ok(()),
            false => {
                let why = "what the member said was not written; it counts as not said".into();
                Err(ShareError::Store(volumes::AppendError::Failed(why)))
            }
        }
    }

    /// Writes all that changed. One at a time.
    async fn write(&self) {
        let (through, dirty) = {
            let changes = lock(&self.changes);
            (changes.made, changes.dirty.clone())
        };
        let mut kept: Vec<Change> = Vec::with_capacity(dirty.len());
        let mut letters = Vec::new();
        for (_, held) in dirty.values() {
            let now = lock(&held.now);
            if !now.is_gone && !held.partition.is_deleted() {
                kept.push(change(&held.place, &now.shared));
                letters.push((Arc::clone(held), now.letters.clone()));
            }
        }
        let mut done = Ok(());
        for (held, letters) in &letters {
            if done.is_ok() && !letters.is_empty() {
                let (group, partition) = (&held.place.group, &held.partition);
                done = super::letters::write(&self.log, group, &held.topic, partition, letters)
                    .await
                    .map_err(drop);
            }
        }
        if done.is_ok() {
            done = self.log.journal.change(kept).await.map_err(drop);
        }
        for (held, letters) in &letters {
            let mut now = lock(&held.now);
            match done {
                Ok(()) => drop(now.letters.drain(..letters.len())),
                Err(()) => {
                    now.life += 1;
                    now.letters.clear();
                    // What cannot be read either is as it was in memory.
                    if let Ok(Some(shared)) = self.read(&held.place) {
                        now.shared = shared;
                    }
                }
            }
        }
        let mut changes = lock(&self.changes);
        changes.settled = through;
        changes.dirty.retain(|_, (number, _)| *number > through);
    }

    /// Takes back what is out for too long, and writes what nobody waits for. `rules` says what
    /// holds for a group. Call it every [`super::TICK`].
    pub async fn tick(&self, rules: &(dyn Fn(&str) -> Rules + Sync)) {
        let at = self.now_ms();
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        for held in all {
            if held.partition.is_deleted() {
                lock(&self.all).remove(&held.place);
                continue;
            }
            let mut now = lock(&held.now);
            if now.shared.first_deadline_ms().is_none_or(|first| first > at) {
                continue;
            }
            let rules = rules(&held.place.group);
            let dead = now.shared.expire(&rules.terms, at);
            now.bury(dead, TOO_OFTEN, &rules);
            let _later = self.changed(&held, &now);
            drop(now);
            held.waiters.wake();
        }
        if lock(&self.changes).dirty.is_empty() {
            return;
        }
        let _turn = self.writing.lock().await;
        self.write().await;
    }

    /// Where a group is, by topic and partition.
    pub fn progress(&self, group: &str) -> BTreeMap<(u128, i32), Progress> {
        let kept = self.log.journal.list(Kind::Share, &[group]);
        let places = kept.iter().filter_map(|(key, _)| Place::of_key(key));
        let each = places.filter_map(|place| {
            let held = lock(&self.all).get(&place).cloned();
            let progress = match held {
                Some(held) => held.progress(),
                None => {
                    let topic = self.log.topic_by_id(place.topic)?;
                    let partition = topic.partition(place.index)?;
                    progress(&self.read(&place).ok()??, partition.end_offset())
                }
            };
            Some(((place.topic, place.index), progress))
        });
        each.collect()
    }

    /// Moves a group without members to offsets, or out of partitions: as if it had just begun at
    /// the one, and never in the other.
    ///
    /// # Errors
    /// When that cannot be written; then nothing changed.
    pub async fn place(
        &self,
        group: &str,
        moves: &[(u128, i32, Option<i64>)],
    ) -> Result<(), volumes::AppendError> {
        let _opening = self.opening.lock().await;
        let _turn = self.writing.lock().await;
        let places = moves.iter().map(|(topic, index, to)| {
            (Place { group: group.to_owned(), topic: *topic, index: *index }, *to)
        });
        let places: Vec<_> = places.collect();
        let kept = places.iter().map(|(place, to)| match to {
            Some(to) => change(place, &Shared::new(*to)),
            None => (place.key(), None),
        });
        self.log.journal.change(kept.collect()).await?;
        self.let_go(|place| places.iter().any(|(one, _)| one == place));
        Ok(())
    }

    /// What forgets a group, to be written with what else forgets it; nothing else is written of it
    /// until the guard is dropped. [`Shares::forgotten`] follows.
    pub(super) async fn forgetting(
        &self,
        group: &str,
    ) -> (Vec<Change>, tokio::sync::MutexGuard<'_, ()>) {
        let turn = self.writing.lock().await;
        let kept = self.log.journal.list(Kind::Share, &[group]);
        (kept.into_iter().map(|(key, _)| (key, None)).collect(), turn)
    }

    /// The group is forgotten.
    pub(super) fn forgotten(&self, group: &str) {
        self.let_go(|place| place.group == group);
    }

    /// What is known of these in memory does not hold any more.
    fn let_go(&self, is_one: impl Fn(&Place) -> bool) {
        lock(&self.all).retain(|place, held| {
            let goes = is_one(place);
            if goes {
                lock(&held.now).is_gone = true;
                held.waiters.wake();
            }
            !goes
        });
    }
}

/// Why a record is a dead letter.
const TOO_OFTEN: &str = "it was delivered as often as the group's settings allow";
const REJECTED: &str = "a member rejected it";

async fn read(
    partition: &Arc<Partition>,
    from: i64,
    bytes: u64,
    below: i64,
) -> Result<Vec<Bytes>, ShareError> {
    if let Some(read) = partition.read_in_memory(from, bytes, below) {
        return Ok(read?);
    }
    let partition = Arc::clone(partition);
    let read = move || partition.read(from, bytes, below);
    Ok(tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Ok(Vec::new()))?)
}

/// Batches without a gap that are all to be delivered, or all not.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    offsets: (i64, i64),
    is_data: bool,
}

fn parts(batches: &[Batch], aborted: &[Aborted]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for batch in batches {
        let head = &batch.head;
        let is_data = !head.is_control() && !is_aborted(head, aborted);
        let (first, last) = (head.base_offset, head.end_offset() - 1);
        match parts.last_mut() {
            Some(part) if part.is_data == is_data && part.offsets.1 + 1 == first => {
                part.offsets.1 = last;
            }
            _ => parts.push(Part { offsets: (first, last), is_data }),
        }
    }
    parts
}

fn is_aborted(head: &Head, aborted: &[Aborted]) -> bool {
    let covers = |one: &Aborted| {
        one.producer == head.producer_id && (one.first..=one.marker).contains(&head.base_offset)
    };
    head.is_transactional() && aborted.iter().any(covers)
}

fn count(of: &Delivery) -> u64 {
    u64::try_from(of.last - of.first + 1).unwrap_or(0)
}

/// Neighbours that were delivered equally often as one.
fn joined(mut all: Vec<Delivery>) -> Vec<Delivery> {
    all.sort_by_key(|one| one.first);
    let mut joined: Vec<Delivery> = Vec::with_capacity(all.len());
    for one in all {
        match joined.last_mut() {
            Some(last) if last.last + 1 == one.first && last.count == one.count => {
                last.last = one.last;
            }
            _ => joined.push(one),
        }
    }
    joined
}

/// The batches that hold some of the records, one after the other.
fn of_records(batches: Vec<Bytes>, given: &[Delivery]) -> Bytes {
    let holds = |bytes: &Bytes| {
        let Some(batch) = Batch::kept(bytes.clone()) else { return false };
        let (first, end) = (batch.head.base_offset, batch.head.end_offset());
        given.iter().any(|one| one.first < end && one.last >= first)
    };
    let mut own: Vec<Bytes> = batches.into_iter().filter(holds).collect();
    if own.len() <= 1 {
        return own.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(own.iter().map(Bytes::len).sum());
    own.iter().for_each(|batch| whole.extend_from_slice(batch));
    whole.freeze()
}
