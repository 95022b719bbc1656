//! What must not be found in a history: lost, doubled and unordered messages, aborted ones that were
//! read, transactions that are there in part, offsets with two messages, readers that skip or go
//! back, and information that flows in a circle (G1c).
//!
//! Not here: circles of writes alone (G0). The protocol has no isolation of writes: batches of open
//! transactions lie between each other in every partition, and both end where they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Where a message is: partition and offset.
pub(crate) type Place = (i32, i64);

/// How something ended, as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
    /// The client was not told.
    Unknown,
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) partition: i32,
    /// No other message is this one.
    pub(crate) value: String,
    /// Where it was said to be.
    pub(crate) offset: Option<i64>,
    /// When it was sent and when that was acknowledged, counted over all clients.
    pub(crate) began: u64,
    pub(crate) ended: Option<u64>,
}

/// Messages that are there together; a message that is sent alone is one by itself.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// Whoever sent it.
    pub(crate) producer: u64,
    pub(crate) sent: Vec<Sent>,
    /// Values that were read while it was open.
    pub(crate) read: Vec<String>,
    pub(crate) outcome: Outcome,
}

/// What all clients did and saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) transactions: Vec<Transaction>,
    /// What readers got, in their order: from the beginning to the end, when all was written.
    pub(crate) readers: Vec<Vec<(Place, String)>>,
}

/// How much there is in a history.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) committed: usize,
    pub(crate) aborted: usize,
    pub(crate) read: usize,
}

impl History {
    pub(crate) fn told(&self) -> Told {
        let count = |outcome| self.transactions.iter().filter(|one| one.outcome == outcome).count();
        Told {
            committed: count(Outcome::Committed),
            aborted: count(Outcome::Aborted),
            read: self.transactions.iter().map(|one| one.read.len()).sum(),
        }
    }
}

/// Everything that is wrong with a history, in words.
pub(crate) fn problems(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    places(history, &mut found);
    order(history, &mut found);
    for (who, reader) in history.readers.iter().enumerate() {
        seen(history, who, reader, &mut found);
    }
    circles(history, &mut found);
    found
}

/// Every message has one place, and every place one message.
fn places(history: &History, found: &mut Vec<String>) {
    let mut at: BTreeMap<Place, BTreeSet<&str>> = BTreeMap::new();
    let mut of: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
    let sent = history.transactions.iter().flat_map(|one| &one.sent);
    let said = sent.filter_map(|one| Some(((one.partition, one.offset?), one.value.as_str())));
    let read = history.readers.iter().flatten().map(|(place, value)| (*place, value.as_str()));
    for (place, value) in said.chain(read) {
        at.entry(place).or_default().insert(value);
        of.entry(value).or_default().insert(place);
    }
    let two = at.iter().filter(|(_, values)| values.len() > 1);
    found.extend(two.map(|(place, values)| format!("{place:?} has {values:?}")));
    let two = of.iter().filter(|(_, places)| places.len() > 1);
    found.extend(two.map(|(value, places)| format!("{value} is doubled: {places:?}")));
}

/// What was acknowledged before something else was sent lies before it.
fn order(history: &History, found: &mut Vec<String>) {
    let mut by_partition: BTreeMap<i32, Vec<(u64, u64, i64, &str)>> = BTreeMap::new();
    for one in history.transactions.iter().flat_map(|one| &one.sent) {
        if let (Some(offset), Some(ended)) = (one.offset, one.ended) {
            let all = by_partition.entry(one.partition).or_default();
            all.push((one.began, ended, offset, &one.value));
        }
    }
    for all in by_partition.values_mut() {
        all.sort_unstable();
        let mut ended = all.clone();
        ended.sort_unstable_by_key(|one| one.1);
        // The highest offset of all that had ended by then.
        let (mut next, mut highest) = (0, None);
        for (began, _, offset, value) in all.iter() {
            while let Some(one) = ended.get(next).filter(|one| one.1 < *began) {
                highest = highest.max(Some((one.2, one.3)));
                next += 1;
            }
            if let Some((before, earlier)) = highest.filter(|(before, _)| before > offset) {
                found.push(format!("{value} at {offset} was sent after {earlier} at {before}"));
            }
        }
    }
}

/// A reader sees what was committed, all of it, in order, once, and nothing that was aborted.
fn seen(history: &History, who: usize, reader: &[(Place, String)], found: &mut Vec<String>) {
    let mut last: HashMap<i32, i64> = HashMap::new();
    for ((partition, offset), value) in reader {
        if let Some(before) = last.insert(*partition, *offset)
            && before >= *offset
        {
            found.push(format!("reader {who} goes back from {before} to {offset} for {value}"));
        }
    }
    let seen: HashSet<&str> = reader.iter().map(|(_, value)| value.as_str()).collect();
    for one in &history.transactions {
        let there = one.sent.iter().filter(|sent| seen.contains(sent.value.as_str())).count();
        let (all, what) = (one.sent.len(), one.sent.first().map_or("", |sent| &sent.value));
        match one.outcome {
            Outcome::Committed if there < all => found.push(format!(
                "reader {who}: {} of {all} messages are lost from {what} on, of {}",
                all - there,
                one.producer
            )),
            Outcome::Aborted if there > 0 => {
                found.push(format!("reader {who} sees {what}, which was aborted"));
            }
            Outcome::Unknown if there != 0 && there != all => {
                found.push(format!("reader {who} sees {there} of {all} messages from {what} on"));
            }
            _ => {}
        }
    }
    let known: HashSet<&str> = history
        .transactions
        .iter()
        .flat_map(|one| one.sent.iter().map(|sent| sent.value.as_str()))
        .collect();
    let strange = seen.iter().filter(|value| !known.contains(**value));
    found.extend(strange.map(|value| format!("reader {who} sees {value}, which nobody sent")));
}

/// Nothing knows of what came of itself: of transactions, each that read from another comes later.
fn circles(history: &History, found: &mut Vec<String>) {
    let writer: HashMap<&str, usize> = history
        .transactions
        .iter()
        .enumerate()
        .flat_map(|(at, one)| one.sent.iter().map(move |sent| (sent.value.as_str(), at)))
        .collect();
    for (at, one) in history.transactions.iter().enumerate() {
        let read = one.read.iter().filter_map(|value| writer.get(value.as_str()));
        for from in read.copied().collect::<BTreeSet<_>>() {
            if history.transactions[from].outcome == Outcome::Aborted {
                found.push(format!("transaction {at} read from {from}, which was aborted"));
            }
        }
    }
    let reads = |at: usize| {
        let read = history.transactions[at].read.iter();
        read.filter_map(|value| writer.get(value.as_str()).copied()).collect::<BTreeSet<_>>()
    };
    // Takes away, again and again, what read from nothing that is left.
    let mut left: BTreeSet<usize> = (0..history.transactions.len()).collect();
    loop {
        let free = left.iter().filter(|at| reads(**at).is_disjoint(&left)).copied();
        let free: Vec<usize> = free.collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|at| {
            left.remove(at);
        });
    }
    if !left.is_empty() {
        found.push(format!("transactions {left:?} know of each other in a circle"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(partition: i32, value: &str, offset: i64, began: u64) -> Sent {
        let (value, offset, ended) = (value.to_owned(), Some(offset), Some(began + 1));
        Sent { partition, value, offset, began, ended }
    }

    fn transaction(outcome: Outcome, sent: Vec<Sent>, read: &[&str]) -> Transaction {
        let read = read.iter().map(|value| (*value).to_owned()).collect();
        Transaction { producer: 0, sent, read, outcome }
    }

    /// Two committed transactions, one that was aborted, and a reader of all.
    fn good() -> History {
        let first = vec![sent(0, "a", 0, 1), sent(1, "b", 0, 3)];
        let second = vec![sent(0, "c", 3, 9)];
        let third = vec![sent(0, "x", 2, 7)];
        History {
            transactions: vec![
                transaction(Outcome::Committed, first, &[]),
                transaction(Outcome::Committed, second, &["a"]),
                transaction(Outcome::Aborted, third, &[]),
            ],
            readers: vec![vec![
                ((0, 0), "a".to_owned()),
                ((1, 0), "b".to_owned()),
                ((0, 3), "c".to_owned()),
            ]],
        }
    }

    /// What is found when one thing is changed.
    fn found(change: impl FnOnce(&mut History)) -> String {
        let mut history = good();
        change(&mut history);
        problems(&history).join("; ")
    }

    #[test]
    fn every_kind_of_problem_is_found_and_no_other() {
        assert_eq!(found(|_| {}), "");
        assert!(found(|it| drop(it.readers[0].pop())).contains("lost"));
        let two = found(|it| it.readers[0].push(((0, 4), "a".to_owned())));
        assert!(two.contains("doubled"), "{two}");
        let aborted = found(|it| it.readers[0].insert(2, ((0, 2), "x".to_owned())));
        assert!(aborted.contains("aborted"), "{aborted}");
        assert!(found(|it| it.readers[0].swap(0, 2)).contains("goes back"));
        assert!(found(|it| it.readers[0][2].0.1 = 0).contains("has"));
        let strange = found(|it| it.readers[0].push(((0, 9), "z".to_owned())));
        assert!(strange.contains("nobody sent"), "{strange}");
        let part = found(|it| {
            it.transactions[0].outcome = Outcome::Unknown;
            it.readers[0].remove(1);
        });
        assert!(part.contains("1 of 2"), "{part}");
        let whole = found(|it| {
            it.transactions[0].outcome = Outcome::Unknown;
            it.transactions[1].read.clear();
            it.readers[0].drain(..2);
        });
        assert_eq!(whole, "", "not to be told is no problem");
        let unordered = found(|it| {
            it.transactions[1].sent[0].offset = Some(1);
            it.readers[0][2].0.1 = 1;
        });
        assert!(unordered.contains("sent after"), "{unordered}");
        let read = found(|it| it.transactions[1].read.push("x".to_owned()));
        assert!(read.contains("read from 2"), "{read}");
        let circle = found(|it| it.transactions[0].read.push("c".to_owned()));
        assert!(circle.contains("circle"), "{circle}");
    }
}
