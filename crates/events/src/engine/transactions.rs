//! Transactions: batches in many partitions, and offsets of groups, that are there together or not
//! at all.
//!
//! Not here: what a partition knows of producers (`producers`). What a transaction wrote is known
//! here before the first batch of it is taken, and its end is **one group of the store**: markers
//! in every partition, the offsets, and the new state. So there is nothing between open and
//! ended, and nothing is left open for ever.
//!
//! Invariants: of one transactional name one producer and one epoch may write; a partition takes
//! transactional batches only from those who said that they would write to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::batch::marker;
use super::groups::offsets::{Committed, commit as commit_offset};
use super::journal::{Change, Key, Kind};
use super::log::Log;
use super::partition::Partition;
use super::sync::lock;

/// Numbers of producers that are taken from the journal at once.
const BLOCK: i64 = 1000;

/// Longest that a transaction may take, in milliseconds.
pub const TIMEOUT_MS_MAX: i64 = 900_000;

/// Highest epoch that a producer begins anything with.
const EPOCH_MAX: i16 = i16::MAX - 2;

/// Most names.
const NAMES_MAX: usize = 100_000;

/// Why a transaction does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The name has another producer, or none.
    #[error("the transactional name belongs to another producer")]
    Mapping,
    /// A newer instance uses the name.
    #[error("a newer instance uses this transactional name")]
    Fenced,
    /// What is asked for does not fit what was done before.
    #[error("the transaction is not in a state for that")]
    State,
    /// The time is out of bounds.
    #[error("a transaction takes from 1 to {TIMEOUT_MS_MAX} ms")]
    Timeout,
    /// There is no such topic or partition.
    #[error("there is no such partition")]
    Unknown,
    /// There are as many names as there may be.
    #[error("there are {NAMES_MAX} transactional names already")]
    Full,
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] volumes::AppendError),
}

/// Who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The producer's number.
    pub producer: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// What is known of a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transaction {
    /// The producer's number.
    pub producer: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Longest that one may take.
    pub timeout_ms: i64,
    /// When the open one began; `None` when none is open.
    pub since_ms: Option<i64>,
    /// What it writes to.
    pub partitions: BTreeSet<(String, i32)>,
    /// Offsets that it commits, by group.
    offsets: BTreeMap<String, Vec<(String, i32, Committed)>>,
    /// How the last one ended.
    committed: Option<bool>,
    /// Who ended it, if that raised the epoch: asked again, they get the same answer.
    #[serde(default)]
    ended_by: Option<Identity>,
}

impl Transaction {
    /// As the protocol calls it.
    pub fn state(&self) -> &'static str {
        match (self.since_ms, self.committed) {
            (Some(_), _) => "Ongoing",
            (None, None) => "Empty",
            (None, Some(true)) => "CompleteCommit",
            (None, Some(false)) => "CompleteAbort",
        }
    }
}

/// All transactions of a log.
pub struct Transactions {
    log: Arc<Log>,
    names: Mutex<HashMap<String, Arc<Name>>>,
    /// The next number and the end of the block it is from.
    block: tokio::sync::Mutex<(i64, i64)>,
}

struct Name {
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    now: Mutex<Option<Transaction>>,
}

impl Transactions {
    /// Transactions as the journal has them; those that are open may go on.
    pub fn open(log: &Arc<Log>) -> Arc<Transactions> {
        let mut names = HashMap::new();
        for (key, value) in log.journal.list(Kind::Transaction, &[]) {
            let Ok(transaction) = serde_json::from_slice::<Transaction>(&value) else { continue };
            for partition in partitions(log, &transaction) {
                partition.announce(transaction.producer);
            }
            let name = key.parts().first().copied().unwrap_or_default().to_owned();
            let now = Mutex::new(Some(transaction));
            names.insert(name, Arc::new(Name { changing: tokio::sync::Mutex::default(), now }));
        }
        let block = tokio::sync::Mutex::new((0, 0));
        Arc::new(Transactions { log: Arc::clone(log), names: Mutex::new(names), block })
    }

    fn name(&self, name: &str) -> Option<Arc<Name>> {
        lock(&self.names).get(name).cloned()
    }

    /// A number for a producer, never given out before.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn new_producer(&self) -> Result<i64, TransactionError> {
        let mut block = self.block.lock().await;
        if block.0 == block.1 {
            let key = Key::new(Kind::Fact, &["producers"]);
            let next = self.log.journal.get(&key);
            let next = next.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok());
            let first: i64 = next.unwrap_or(0);
            let after = Bytes::from((first + BLOCK).to_string());
            self.log.journal.change(vec![(key, Some(after))]).await?;
            *block = (first, first + BLOCK);
        }
        block.0 += 1;
        Ok(block.0 - 1)
    }

    /// A producer takes a name: whoever had it may not write any more, and what it left open is
    /// aborted. `before` is who the producer says that it was.
    ///
    /// # Errors
    /// When it may not.
    pub async fn begin_name(
        &self,
        name: &str,
        timeout_ms: i64,
        before: Option<Identity>,
    ) -> Result<Identity, TransactionError> {
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err(TransactionError::Timeout);
        }
        let held = {
            let mut names = lock(&self.names);
            if names.len() >= NAMES_MAX && !names.contains_key(name) {
                return Err(TransactionError::Full);
            }
            let new = || Name { changing: tokio::sync::Mutex::default(), now: Mutex::default() };
            Arc::clone(names.entry(name.to_owned()).or_insert_with(|| Arc::new(new())))
        };
        let _one = held.changing.lock().await;
        let known = lock(&held.now).clone();
        let mut next = match known {
            None => Transaction {
                producer: self.new_producer().await?,
                epoch: -1,
                timeout_ms,
                since_ms: None,
                partitions: BTreeSet::new(),
                offsets: BTreeMap::new(),
                committed: None,
                ended_by: None,
            },
            Some(known) => {
                if let Some(before) = before {
                    if before.producer != known.producer {
                        return Err(TransactionError::Mapping);
                    }
                    if before.epoch != known.epoch {
                        return Err(TransactionError::Fenced);
                    }
                }
                known
            }
        };
        if next.since_ms.is_some() {
            next = self.end_now(name, &held, next, false, true).await?;
        }
        // The last epoch is left for the one who aborts what this one leaves open.
        if next.epoch >= EPOCH_MAX {
            next.producer = self.new_producer().await?;
            next.epoch = -1;
        }
        next.epoch += 1;
        next.timeout_ms = timeout_ms;
        (next.committed, next.ended_by) = (None, None);
        self.log.journal.change(vec![change(name, &next)]).await?;
        let identity = Identity { producer: next.producer, epoch: next.epoch };
        *lock(&held.now) = Some(next);
        Ok(identity)
    }

    fn check(&self, held: &Name, identity: Identity) -> Result<Transaction, TransactionError> {
        let now = lock(&held.now).clone().ok_or(TransactionError::Mapping)?;
        if now.producer != identity.producer {
            return Err(TransactionError::Mapping);
        }
        if now.epoch != identity.epoch {
            return Err(TransactionError::Fenced);
        }
        Ok(now)
    }

    /// A transaction will write to partitions; the first such call opens it.
    ///
    /// # Errors
    /// When it may not.
    pub async fn add_partitions(
        &self,
        name: &str,
        identity: Identity,
        wanted: Vec<(String, i32)>,
    ) -> Result<(), TransactionError> {
        let held = self.name(name).ok_or(TransactionError::Mapping)?;
        let _one = held.changing.lock().await;
        let mut next = self.check(&held, identity)?;
        let is_there = |(topic, index): &(String, i32)| {
            self.log.topic(topic).is_some_and(|topic| topic.partition(*index).is_some())
        };
        if !wanted.iter().all(is_there) {
            return Err(TransactionError::Unknown);
        }
        if wanted.iter().all(|one| next.partitions.contains(one)) && next.since_ms.is_some() {
            return Ok(());
        }
        next.partitions.extend(wanted);
        next.since_ms = next.since_ms.or(Some(self.log.now_ms()));
        next.committed = None;
        self.log.journal.change(vec![change(name, &next)]).await?;
        for partition in partitions(&self.log, &next) {
            partition.announce(next.producer);
        }
        *lock(&held.now) = Some(next);
        Ok(())
    }

    /// Offsets of a group that are committed if the transaction is.
    ///
    /// # Errors
    /// When it may not.
    pub async fn add_offsets(
        &self,
        name: &str,
        identity: Identity,
        group: &str,
        offsets: Vec<(String, i32, Committed)>,
    ) -> Result<(), TransactionError> {
        let held = self.name(name).ok_or(TransactionError::Mapping)?;
        let _one = held.changing.lock().await;
        let mut next = self.check(&held, identity)?;
        let all = next.offsets.entry(group.to_owned()).or_default();
        for (topic, partition, committed) in offsets {
            all.retain(|(had, index, _)| (had, *index) != (&topic, partition));
            all.push((topic, partition, committed));
        }
        next.since_ms = next.since_ms.or(Some(self.log.now_ms()));
        next.committed = None;
        self.log.journal.change(vec![change(name, &next)]).await?;
        *lock(&held.now) = Some(next);
        Ok(())
    }

    /// Ends a transaction.
    ///
    /// # Errors
    /// When it may not, or cannot: then it is open as before.
    pub async fn end(
        &self,
        name: &str,
        identity: Identity,
        commit: bool,
    ) -> Result<(), TransactionError> {
        let held = self.name(name).ok_or(TransactionError::Mapping)?;
        let _one = held.changing.lock().await;
        let now = self.check(&held, identity)?;
        match (now.since_ms, now.committed) {
            // It was asked before, and the answer was lost.
            (None, Some(before)) if before == commit => Ok(()),
            (None, _) => Err(TransactionError::State),
            (Some(_), _) => self.end_now(name, &held, now, commit, false).await.map(|_| ()),
        }
    }

    /// Ends a transaction, and raises the epoch of its producer, so that nothing that is late can
    /// become part of the next one (KIP-890). Returns who the producer is from now on.
    ///
    /// # Errors
    /// When it may not, or cannot: then it is open as before.
    pub async fn end_and_go_on(
        &self,
        name: &str,
        identity: Identity,
        commit: bool,
    ) -> Result<Identity, TransactionError> {
        let held = self.name(name).ok_or(TransactionError::Mapping)?;
        let _one = held.changing.lock().await;
        let now = lock(&held.now).clone().ok_or(TransactionError::Mapping)?;
        let known = Identity { producer: now.producer, epoch: now.epoch };
        // It was asked before, and the answer was lost.
        if now.since_ms.is_none() && now.ended_by == Some(identity) && now.committed == Some(commit)
        {
            return Ok(known);
        }
        let now = self.check(&held, identity)?;
        if now.since_ms.is_none() && commit {
            return Err(TransactionError::State);
        }
        let mut next = self.end_now(name, &held, now, commit, true).await?;
        if next.epoch > EPOCH_MAX {
            next.producer = self.new_producer().await?;
            next.epoch = 0;
            self.log.journal.change(vec![change(name, &next)]).await?;
            *lock(&held.now) = Some(next.clone());
        }
        Ok(Identity { producer: next.producer, epoch: next.epoch })
    }

    /// Writes the end: one group. `fence` raises the epoch, so that whoever wrote may not go on.
    async fn end_now(
        &self,
        name: &str,
        held: &Name,
        mut next: Transaction,
        commit: bool,
        fence: bool,
    ) -> Result<Transaction, TransactionError> {
        let all = partitions(&self.log, &next);
        let before = Identity { producer: next.producer, epoch: next.epoch };
        next.ended_by = fence.then_some(before);
        if fence {
            next.epoch = next.epoch.saturating_add(1);
        }
        let end = marker(self.log.now_ms(), next.producer, next.epoch, commit);
        let offsets = std::mem::take(&mut next.offsets);
        next.partitions.clear();
        next.since_ms = None;
        next.committed = Some(commit);
        let mut changes: Vec<Change> = vec![change(name, &next)];
        if commit {
            for (group, offsets) in &offsets {
                let each = offsets.iter();
                changes.extend(each.map(|(topic, index, committed)| {
                    commit_offset(group, topic, *index, committed)
                }));
            }
        }
        let cost: usize = all.iter().map(|partition| partition.cost(&end)).sum();
        let space = self.log.store.reserve(cost + self.log.journal.cost(&changes)).await?;
        let taken = {
            let mut group = volumes::Batch::new();
            // In the order of their owners, as everybody who locks several does.
            let markings: Vec<_> = all
                .iter()
                .filter_map(|partition| {
                    let marking = partition.mark(&mut group, end.clone(), commit)?;
                    Some((Arc::clone(partition), marking))
                })
                .collect();
            match self.log.journal.write(space, group, changes) {
                Ok(writing) => {
                    let lives = markings
                        .into_iter()
                        .map(|(partition, marking)| (partition, marking.taken()));
                    Ok((writing, lives.collect::<Vec<_>>()))
                }
                Err(error) => {
                    for (_, marking) in markings {
                        marking.refused();
                    }
                    Err(error)
                }
            }
        };
        let (writing, lives) = taken?;
        if let Err(error) = self.log.journal.written(writing).await {
            for (partition, life) in lives {
                partition.failed(life);
            }
            for partition in &all {
                partition.announce(next.producer);
            }
            return Err(error.into());
        }
        *lock(&held.now) = Some(next.clone());
        Ok(next)
    }

    /// Aborts what takes longer than it may. Call it now and then.
    pub async fn tick(&self) {
        let names: Vec<(String, Arc<Name>)> =
            lock(&self.names).iter().map(|(name, held)| (name.clone(), Arc::clone(held))).collect();
        let now_ms = self.log.now_ms();
        let is_late = |held: &Name| {
            let now = lock(&held.now);
            let since = now.as_ref().and_then(|now| Some((now.since_ms?, now.timeout_ms)));
            since.is_some_and(|(since, timeout)| now_ms.saturating_sub(since) > timeout)
        };
        for (name, held) in names {
            if !is_late(&held) {
                continue;
            }
            let _one = held.changing.lock().await;
            let Some(now) = lock(&held.now).clone().filter(|_| is_late(&held)) else { continue };
            // What cannot be written now is tried again the next time.
            let _ = self.end_now(&name, &held, now, false, true).await;
        }
    }

    /// What is known of a name.
    pub fn describe(&self, name: &str) -> Option<Transaction> {
        self.name(name).and_then(|held| lock(&held.now).clone())
    }

    /// Every name.
    pub fn list(&self) -> BTreeMap<String, Transaction> {
        let names = lock(&self.names);
        let all =
            names.iter().filter_map(|(name, held)| Some((name.clone(), lock(&held.now).clone()?)));
        all.collect()
    }

    /// Whether a group has offsets in a transaction that is open.
    pub fn has_open_offsets(&self, group: &str, topic: &str, partition: i32) -> bool {
        let names = lock(&self.names);
        names.values().any(|held| {
            lock(&held.now).as_ref().is_some_and(|now| {
                now.offsets.get(group).is_some_and(|all| {
                    all.iter().any(|(had, index, _)| had == topic && *index == partition)
                })
            })
        })
    }
}

/// The partitions that a transaction writes to, in the order of their owners.
fn partitions(log: &Log, transaction: &Transaction) -> Vec<Arc<Partition>> {
    let each = transaction.partitions.iter();
    let found = each.filter_map(|(topic, index)| log.topic(topic)?.partition(*index));
    let mut all: Vec<Arc<Partition>> = found.collect();
    all.sort_by_key(|partition| partition.owner());
    all
}

fn change(name: &str, transaction: &Transaction) -> Change {
    let value = serde_json::to_vec(transaction).unwrap_or_default();
    (Key::new(Kind::Transaction, &[name]), Some(Bytes::from(value)))
}
