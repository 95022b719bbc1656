//! The journal: the last 10,000 events, numbered, written in batches.
//!
//! The newest thousand are in memory; older ones are read from the store when asked for. Events
//! go along with the next commit of records, or by themselves when they have waited for a while.
//!
//! Beside it, in memory, the newest events of each service: one that is quiet has its history
//! however much the others have to say. It is made again from the journal.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base::{ServiceName, SteadyNanos};

use crate::keys;
use crate::record::EventRecord;
use crate::store::{Op, Store, StoreError};

/// Events kept, give or take the batch that is cut next.
const KEPT: usize = 10_000;

/// Events kept in memory.
const IN_MEMORY: usize = 1000;

/// Events kept of each service, for its history.
const OF_SERVICE: usize = 50;

/// Events that make a write of their own.
const BATCH: usize = 64;

/// How long an event may wait for a commit to go along with.
const WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Journal {
    newest: VecDeque<EventRecord>,
    /// Batches in the store: first number → how many.
    batches: BTreeMap<u64, usize>,
    /// Events at the end of `newest` that are not in the store yet.
    waiting: usize,
    /// When the oldest of those was added.
    since: SteadyNanos,
    last_seq: u64,
    of_service: BTreeMap<ServiceName, VecDeque<EventRecord>>,
}

impl Journal {
    pub(crate) fn load(store: &dyn Store) -> Result<Journal, StoreError> {
        let mut journal = Journal::default();
        for entry in store.range(keys::EVENTS)?.entries {
            let events: Vec<EventRecord> = keys::read(&entry)?;
            let (Some(first), Some(last)) = (events.first(), events.last()) else { continue };
            journal.batches.insert(first.seq, events.len());
            journal.last_seq = last.seq;
            journal.remember(&events);
            journal.newest.extend(events);
            journal.trim();
        }
        Ok(journal)
    }

    /// The number of an event that comes after `pending` others that are not added yet.
    pub(crate) fn next_seq(&self, pending: usize) -> u64 {
        self.last_seq + 1 + pending as u64
    }

    /// Adds numbered events.
    pub(crate) fn add(&mut self, events: Vec<EventRecord>, now: SteadyNanos) {
        if self.waiting == 0 {
            self.since = now;
        }
        self.last_seq += events.len() as u64;
        self.waiting += events.len();
        self.newest.extend(events);
    }

    /// Puts events that are there to stay into the histories of their services; one that is about
    /// the whole app is in all of them.
    pub(crate) fn remember(&mut self, events: &[EventRecord]) {
        let keep = |history: &mut VecDeque<EventRecord>, event: &EventRecord| {
            if history.len() == OF_SERVICE {
                history.pop_front();
            }
            history.push_back(event.clone());
        };
        for event in events {
            match &event.service {
                Some(name) => keep(self.of_service.entry(name.clone()).or_default(), event),
                None => self.of_service.values_mut().for_each(|history| keep(history, event)),
            }
        }
    }

    /// Forgets the histories of services that are not there any more.
    pub(crate) fn forget_all_but(&mut self, there: impl Fn(&ServiceName) -> bool) {
        self.of_service.retain(|name, _| there(name));
    }

    /// The newest events of a service, oldest first.
    pub(crate) fn history(&self, service: &ServiceName) -> Vec<EventRecord> {
        self.of_service.get(service).into_iter().flatten().cloned().collect()
    }

    /// Takes back the events that were added last: their step did not happen.
    pub(crate) fn take_back(&mut self, events: &[EventRecord]) {
        self.last_seq -= events.len() as u64;
        self.waiting -= events.len();
        self.newest.truncate(self.newest.len() - events.len());
    }

    /// Should what waits be written even if nothing else is?
    pub(crate) fn is_due(&self, now: SteadyNanos) -> bool {
        self.waiting >= BATCH || (self.waiting > 0 && now.since(self.since) >= WAIT)
    }

    /// The operations that write what waits, and cut what is over the bound.
    pub(crate) fn flush_ops(&self) -> Result<Vec<Op>, StoreError> {
        let from = self.newest.len() - self.waiting;
        let events: Vec<_> = self.newest.iter().skip(from).collect();
        let Some(first) = events.first() else { return Ok(Vec::new()) };
        let value = keys::json(&events)?;
        let mut ops = vec![Op::Put { key: key(first.seq), value, lease: None }];
        ops.extend(self.over().map(|seq| Op::Delete { key: key(seq) }));
        Ok(ops)
    }

    /// The same after a commit that failed and may be in the store: what it wrote is written over, or
    /// deleted when its events did not happen.
    pub(crate) fn mend_ops(&self) -> Result<Vec<Op>, StoreError> {
        let ops = self.flush_ops()?;
        let phantom = || vec![Op::Delete { key: key(self.last_seq + 1) }];
        Ok(if ops.is_empty() { phantom() } else { ops })
    }

    /// What `flush_ops` said is in the store now.
    pub(crate) fn flushed(&mut self) {
        let over: Vec<_> = self.over().collect();
        let first = self.newest.len() - self.waiting;
        if let Some(event) = self.newest.get(first) {
            self.batches.insert(event.seq, self.waiting);
        }
        self.batches.retain(|seq, _| !over.contains(seq));
        self.waiting = 0;
        self.trim();
    }

    /// Batches that are not needed to have as many events as are kept.
    fn over(&self) -> impl Iterator<Item = u64> + '_ {
        let mut total = self.batches.values().sum::<usize>() + self.waiting;
        self.batches.iter().map_while(move |(seq, count)| {
            total -= count;
            (total >= KEPT).then_some(*seq)
        })
    }

    fn trim(&mut self) {
        let surplus = self.newest.len().saturating_sub(IN_MEMORY.max(self.waiting));
        self.newest.drain(..surplus);
    }

    /// Events after `after`, oldest first; the newest when it is 0.
    pub(crate) fn read(
        &self,
        store: &dyn Store,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let after = match after {
            0 => self.last_seq.saturating_sub(limit as u64),
            after => after,
        };
        let in_memory = self.newest.front().map_or(self.last_seq + 1, |event| event.seq);
        let mut events = Vec::new();
        if after + 1 < in_memory {
            // The batch that holds `after + 1` may begin before it.
            let start = self.batches.range(..=after + 1).next_back();
            let start = start.map_or(0, |(first, _)| *first);
            for (first, _) in self.batches.range(start..in_memory) {
                if events.len() >= limit {
                    break;
                }
                if let Some(entry) = store.get(&key(*first))? {
                    let batch: Vec<EventRecord> = keys::read(&entry)?;
                    events.extend(batch.into_iter().filter(|e| e.seq > after && e.seq < in_memory));
                }
            }
        }
        events.extend(self.newest.iter().filter(|event| event.seq > after).cloned());
        events.truncate(limit);
        Ok(events)
    }
}

fn key(first: u64) -> String {
    format!("{}{first:020}", keys::EVENTS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::{ManualClock, UnixNanos};

    use super::*;
    use crate::embedded::Embedded;
    use crate::record::Level;
    use crate::store::Txn;

    fn event(seq: u64) -> EventRecord {
        EventRecord {
            seq,
            at: UnixNanos(seq),
            level: Level::Info,
            kind: "k".into(),
            service: None,
            instance: None,
            message: String::new(),
        }
    }

    #[test]
    fn a_quiet_service_keeps_its_history_beside_a_noisy_one() {
        let of = |name: &str, seq| EventRecord { service: name.parse().ok(), ..event(seq) };
        let mut journal = Journal::default();
        journal.remember(&[of("quiet", 1)]);
        for seq in 2..20_000 {
            journal.remember(&[of("noisy", seq)]);
        }
        journal.remember(&[event(20_000)]);
        let seqs = |name: &str| -> Vec<u64> {
            journal.history(&name.parse().unwrap()).iter().map(|e| e.seq).collect()
        };
        assert_eq!(seqs("quiet"), [1, 20_000]);
        assert_eq!(seqs("noisy"), (20_001 - OF_SERVICE as u64..=20_000).collect::<Vec<_>>());
        journal.forget_all_but(|name| name.as_str() == "quiet");
        assert!(journal.history(&"noisy".parse().unwrap()).is_empty());
    }

    #[test]
    fn keeps_the_last_ones_and_reads_them_from_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let store = Embedded::open(&dir.path().join("s"), clock).unwrap();
        let mut journal = Journal::default();
        let total = (KEPT + 3000) as u64;
        for first in (1..=total).step_by(500) {
            journal.add((first..first + 500).map(event).collect(), SteadyNanos(0));
            let ops = journal.flush_ops().unwrap();
            store.commit(&Txn { compares: Vec::new(), ops }).unwrap();
            journal.flushed();
        }
        journal.add(vec![event(total + 1)], SteadyNanos(0));
        for journal in [&journal, &{
            let mut again = Journal::load(&store).unwrap();
            again.add(vec![event(total + 1)], SteadyNanos(0));
            again
        }] {
            let seqs = |after, limit| -> Vec<u64> {
                journal.read(&store, after, limit).unwrap().iter().map(|e| e.seq).collect()
            };
            assert_eq!(seqs(0, 3), [total - 1, total, total + 1]);
            assert_eq!(seqs(5000, 3), [5001, 5002, 5003]);
            assert_eq!(seqs(1, 1), [total - KEPT as u64 + 1]);
            let all = seqs(1, usize::MAX);
            assert_eq!(all.len(), KEPT + 1);
            assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            assert_eq!(journal.newest.len(), IN_MEMORY + 1);
        }
    }
}
