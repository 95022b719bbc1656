//! One partition as a share group has it: which records are to be delivered, are out with a member
//! until a deadline, or are done with.
//!
//! Not here: records themselves, members, the journal and the clock: time comes in, and what must
//! be durable goes out as [`Saved`]. Whoever promises a change makes it on a copy, writes that, and
//! only then puts the copy in place.
//!
//! Invariants: runs cover what is between `start` and `end` without gap or overlap, and neighbours
//! differ; a record is out with one member at most; nothing is delivered more often than the terms
//! say; what is done is never delivered again; the first run is not done, so `start` is as far as
//! it can be. Live records are bounded, and so are runs: neighbours that are done are one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a group's settings say of its partitions.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a record is out with a member, in milliseconds.
    pub lock_ms: u64,
    /// How often a record is delivered at most.
    pub deliveries_max: u16,
    /// Most records that are out, or were and come again.
    pub live_max: u64,
}

/// What a member says of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with it.
    Accept,
    /// Somebody may try again.
    Release,
    /// Nobody should try again.
    Reject,
    /// More time is needed.
    Renew,
    /// There is no such record.
    Gap,
}

/// Why a verdict does not count. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// Some of the records are not out with the member: its time was over, or it never had them.
    #[error("some of the records are not out with this member")]
    NotOut,
    /// Not one verdict for all, nor one for each; or the last before the first.
    #[error("verdicts are one for all records of a range, or one for each")]
    Malformed,
}

/// Records next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Offset of the first.
    pub first: i64,
    /// Offset of the last.
    pub last: i64,
    /// How often they were delivered by now.
    pub count: u16,
}

/// A partition as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    start: i64,
    /// Last offset of each run, how often it was delivered, and whether it is done: records that
    /// are out with somebody come again after a restart, and their deliveries count.
    runs: Vec<(i64, u16, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Available,
    Out { member: Arc<str>, until_ms: u64 },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    last: i64,
    state: State,
    count: u16,
}

/// The partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    start: i64,
    /// One past the last offset that was looked at.
    end: i64,
    /// By first offset.
    runs: BTreeMap<i64, Run>,
}

impl Shared {
    /// A partition whose first record to deliver is at an offset.
    pub fn new(start: i64) -> Shared {
        Shared { start, end: start, runs: BTreeMap::new() }
    }

    /// A partition as it was kept; `None` if that has no sense.
    pub fn restored(saved: &Saved) -> Option<Shared> {
        let mut shared = Shared::new(saved.start);
        for (last, count, done) in &saved.runs {
            if *last < shared.end || *last == i64::MAX {
                return None;
            }
            let state = if *done { State::Done } else { State::Available };
            shared.runs.insert(shared.end, Run { last: *last, state, count: *count });
            shared.end = last + 1;
        }
        shared.settle();
        Some(shared)
    }

    /// What is to be kept of it.
    pub fn saved(&self) -> Saved {
        let one = |run: &Run| (run.last, run.count, run.state == State::Done);
        Saved { start: self.start, runs: self.runs.values().map(one).collect() }
    }

    /// The first offset that is not done.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// One past the last offset that was ever looked at.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// The first offset that may be delivered now.
    pub fn next(&self) -> i64 {
        let mut runs = self.runs.iter();
        let first = runs.find(|(_, run)| run.state == State::Available);
        first.map_or(self.end, |(first, _)| *first)
    }

    /// Records that are out, or were and come again.
    pub fn live(&self) -> u64 {
        let live = self.runs.iter().filter(|(_, run)| run.state != State::Done);
        live.map(|(first, run)| length(*first, run.last)).sum()
    }

    /// When the time of the first member is over, in milliseconds.
    pub fn first_deadline_ms(&self) -> Option<u64> {
        let deadline = |run: &Run| match run.state {
            State::Out { until_ms, .. } => Some(until_ms),
            State::Available | State::Done => None,
        };
        self.runs.values().filter_map(deadline).min()
    }

    /// Gives a member records of those from `first` to `last`, which are in the log, but no more
    /// than `records`. What lies between the end and `first` is not in the log, and done.
    pub fn deliver(
        &mut self,
        member: &Arc<str>,
        (first, last): (i64, i64),
        records: u64,
        terms: &Terms,
        now_ms: u64,
    ) -> Vec<Delivery> {
        let mut given = Vec::new();
        let mut left = records;
        let until_ms = now_ms.saturating_add(terms.lock_ms);
        for (from, to) in self.available(first, last) {
            if left == 0 {
                break;
            }
            let to = to.min(plus(from, left));
            left -= length(from, to);
            let out = State::Out { member: Arc::clone(member), until_ms };
            let count = self.set(from, to, out, 1);
            given.push(Delivery { first: from, last: to, count });
        }
        let room = terms.live_max.saturating_sub(self.live()).min(left);
        let from = first.max(self.end);
        if room > 0 && from <= last {
            self.skip(self.end, from - 1);
            let to = last.min(plus(from, room));
            let state = State::Out { member: Arc::clone(member), until_ms };
            self.runs.insert(from, Run { last: to, state, count: 1 });
            self.end = to + 1;
            given.push(Delivery { first: from, last: to, count: 1 });
        }
        self.settle();
        given
    }

    /// There is nothing to deliver between two offsets: markers, what was aborted, gaps. What is
    /// out stays out.
    pub fn skip(&mut self, first: i64, last: i64) {
        for (from, to) in self.available(first, last) {
            self.set(from, to, State::Done, 0);
        }
        if first <= self.end && last >= self.end {
            self.runs.insert(self.end, Run { last, state: State::Done, count: 0 });
            self.end = last + 1;
        }
        self.settle();
    }

    /// What a member says of the records from `first` to `last`: one verdict for all, or one for
    /// each. Returns those that nobody gets again though nobody accepted them.
    ///
    /// # Errors
    /// When it is not for the member to say; nothing changed then.
    pub fn judge(
        &mut self,
        member: &str,
        (first, last): (i64, i64),
        verdicts: &[Verdict],
        terms: &Terms,
        now_ms: u64,
    ) -> Result<Vec<Delivery>, VerdictError> {
        if first > last || first < 0 {
            return Err(VerdictError::Malformed);
        }
        let each = verdicts.len() as u64 == length(first, last);
        if verdicts.len() != 1 && !each {
            return Err(VerdictError::Malformed);
        }
        if !self.is_out(member, first, last, now_ms) {
            return Err(VerdictError::NotOut);
        }
        let mut dead = Vec::new();
        let mut from = first;
        for same in verdicts.chunk_by(|a, b| a == b) {
            let Some(verdict) = same.first() else { continue };
            let to = if each { plus(from, same.len() as u64) } else { last };
            self.decide(from, to, *verdict, terms, now_ms, &mut dead);
            from = to + 1;
        }
        self.settle();
        Ok(dead)
    }

    /// Takes back what is out for too long. Returns those that nobody gets again.
    pub fn expire(&mut self, terms: &Terms, now_ms: u64) -> Vec<Delivery> {
        self.take_back(terms, |_, until_ms| until_ms <= now_ms)
    }

    /// Takes back what is out with a member that is gone. Returns those that nobody gets again.
    pub fn gone(&mut self, member: &str, terms: &Terms) -> Vec<Delivery> {
        self.take_back(terms, |has, _| has == member)
    }

    /// The log begins at an offset: nothing below is there any more, and verdicts on it are void.
    pub fn log_starts(&mut self, offset: i64) {
        if offset <= self.start {
            return;
        }
        self.split(offset);
        self.runs = self.runs.split_off(&offset);
        self.start = offset;
        self.end = self.end.max(offset);
        self.settle();
    }

    /// After a restart, or when the terms changed: records that are available but were delivered as
    /// often as the terms allow are done. Returns them.
    pub fn exhausted(&mut self, terms: &Terms) -> Vec<Delivery> {
        let mut dead = Vec::new();
        for (first, run) in &mut self.runs {
            if run.state == State::Available && run.count >= terms.deliveries_max {
                run.state = State::Done;
                dead.push(Delivery { first: *first, last: run.last, count: run.count });
            }
        }
        self.settle();
        dead
    }

    fn take_back(&mut self, terms: &Terms, is_due: impl Fn(&str, u64) -> bool) -> Vec<Delivery> {
        let due = |run: &Run| match &run.state {
            State::Out { member, until_ms } => is_due(member, *until_ms),
            State::Available | State::Done => false,
        };
        let due: Vec<_> = self.runs.iter().filter(|(_, run)| due(run)).collect();
        let due: Vec<_> = due.into_iter().map(|(first, run)| (*first, run.last)).collect();
        let mut dead = Vec::new();
        for (first, last) in due {
            self.decide(first, last, Verdict::Release, terms, 0, &mut dead);
        }
        self.settle();
        dead
    }

    /// Of records that are all out.
    fn decide(
        &mut self,
        first: i64,
        last: i64,
        verdict: Verdict,
        terms: &Terms,
        now_ms: u64,
        dead: &mut Vec<Delivery>,
    ) {
        self.split(first);
        self.split(last + 1);
        for (first, run) in self.runs.range_mut(first..=last) {
            let again = verdict == Verdict::Release && run.count < terms.deliveries_max;
            match verdict {
                Verdict::Renew => {
                    if let State::Out { until_ms, .. } = &mut run.state {
                        *until_ms = now_ms.saturating_add(terms.lock_ms);
                    }
                    continue;
                }
                Verdict::Release if again => run.state = State::Available,
                Verdict::Accept | Verdict::Gap => run.state = State::Done,
                Verdict::Release | Verdict::Reject => {
                    run.state = State::Done;
                    dead.push(Delivery { first: *first, last: run.last, count: run.count });
                }
            }
        }
    }

    fn is_out(&self, member: &str, first: i64, last: i64, now_ms: u64) -> bool {
        let mut next = first;
        let begin = self.runs.range(..=first).next_back().map_or(first, |(begin, _)| *begin);
        for (from, run) in self.runs.range(begin..=last) {
            let State::Out { member: has, until_ms } = &run.state else { return false };
            if **has != *member || *until_ms <= now_ms || *from > next || run.last < next {
                return false;
            }
            next = run.last + 1;
        }
        next > last
    }

    /// What may be delivered between two offsets.
    fn available(&self, first: i64, last: i64) -> Vec<(i64, i64)> {
        let runs = self.runs.iter().filter(|(_, run)| run.state == State::Available);
        let cut = runs.map(|(from, run)| ((*from).max(first), run.last.min(last)));
        cut.filter(|(from, to)| from <= to).collect()
    }

    /// Sets records of one run; returns how often they were delivered now.
    fn set(&mut self, first: i64, last: i64, state: State, deliveries: u16) -> u16 {
        self.split(first);
        self.split(last + 1);
        let Some(run) = self.runs.get_mut(&first) else { return 0 };
        run.state = state;
        run.count = run.count.saturating_add(deliveries);
        run.count
    }

    /// Makes a run begin at an offset, if one holds it.
    fn split(&mut self, at: i64) {
        let Some((_, run)) = self.runs.range_mut(..at).next_back() else { return };
        if run.last >= at {
            let rest = run.clone();
            run.last = at - 1;
            self.runs.insert(at, rest);
        }
    }

    /// Joins neighbours that are alike, and moves the start over what is done.
    fn settle(&mut self) {
        let mut settled: BTreeMap<i64, Run> = BTreeMap::new();
        for (first, mut run) in std::mem::take(&mut self.runs) {
            if run.state == State::Done {
                // How often it was delivered matters to nobody any more.
                run.count = 0;
                if settled.is_empty() {
                    continue;
                }
            }
            match settled.last_entry() {
                Some(mut before)
                    if before.get().state == run.state && before.get().count == run.count =>
                {
                    before.get_mut().last = run.last;
                }
                _ => {
                    settled.insert(first, run);
                }
            }
        }
        self.start = settled.first_key_value().map_or(self.end, |(first, _)| *first);
        self.runs = settled;
    }
}

fn length(first: i64, last: i64) -> u64 {
    u64::try_from(last.saturating_sub(first)).unwrap_or(0).saturating_add(1)
}

/// The last of so many records, at least one, from an offset on.
fn plus(first: i64, records: u64) -> i64 {
    first.saturating_add(i64::try_from(records.saturating_sub(1)).unwrap_or(i64::MAX))
}
