//! What a store must be: a list of what each owner appended, and what is known of each batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, UnixNanos};
use bytes::Bytes;
use testkit::{CrashDisk, Random};
use volumes::{AppendError, Batch, Options, Owner, Receipt, Record, Volumes};

/// Volumes of a few groups, so that everything happens often.
pub(crate) fn small() -> Options {
    Options {
        volume_bytes: 96 << 10,
        group_bytes: 16 << 10,
        queue_bytes: 32 << 20,
        tail_bytes: 24 << 10,
        directory_bytes: 4 << 10,
        settle_volumes: 2,
        settle_bytes_per_second: 0,
        scrub_every: Duration::from_secs(60),
        reserve_bytes: 0,
    }
}

pub(crate) fn open(disk: &CrashDisk) -> Result<Volumes, volumes::OpenError> {
    open_at(disk, &Arc::new(ManualClock::new(UnixNanos(1_000_000_000))))
}

pub(crate) fn open_at(
    disk: &CrashDisk,
    clock: &Arc<ManualClock>,
) -> Result<Volumes, volumes::OpenError> {
    Volumes::open(Arc::new(disk.clone()), Arc::clone(clock) as _, small())
}

pub(crate) fn owner(number: u64) -> Owner {
    Owner::new(1, number).expect("a small number fits")
}

/// Appends without waiting for space: tests drive the writing themselves.
pub(crate) fn append(store: &Volumes, batch: Batch) -> Result<Receipt, AppendError> {
    let space = store.try_reserve(batch.cost())?.expect("little waits in tests");
    store.append(space, batch)
}

/// Every record of an owner, read in pieces.
pub(crate) fn all(store: &Volumes, owner: Owner) -> Vec<Record> {
    let bounds = store.bounds(owner).unwrap_or_default();
    let (mut from, mut found) = (bounds.start, Vec::new());
    loop {
        let spans = store.read(owner, from, 3000).expect("what was acknowledged is readable");
        let records: Vec<Record> = spans.into_iter().flat_map(|span| span.records).collect();
        let Some(last) = records.last() else { return found };
        from = last.end();
        found.extend(records);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The receipt confirmed it.
    Durable,
    /// Nobody knows, and it may be either.
    Unknown,
    /// The receipt denied it; it may be there until something else is confirmed.
    Denied,
    /// It is not there.
    Gone,
}

struct Sent {
    records: Vec<(Owner, Record)>,
    trims: Vec<(Owner, u64)>,
    fate: Fate,
    receipt: Option<Receipt>,
}

/// What was appended since the beginning.
#[derive(Default)]
pub(crate) struct Model {
    sent: Vec<Sent>,
    next: BTreeMap<Owner, u64>,
    /// Starts that were confirmed before the last opening.
    starts: BTreeMap<Owner, u64>,
}

impl Model {
    /// Appends a random batch.
    pub(crate) fn append(&mut self, store: &Volumes, random: &mut Random, owners: u64) {
        let mut batch = Batch::new();
        let (mut records, mut trims) = (Vec::new(), Vec::new());
        let mut next = self.next.clone();
        for _ in 0..=random.below(4) {
            let owner = owner(random.below(owners));
            let end = next.entry(owner).or_default();
            if random.chance(1, 30) {
                let start = random.below(*end + 1);
                batch = batch.trim(owner, start);
                trims.push((owner, start));
                continue;
            }
            let sequence = *end + random.below(3);
            let span = u32::try_from(1 + random.below(5)).expect("below 6");
            let length =
                [0, 10, 100, 1000, 5000][usize::try_from(random.below(5)).expect("below 5")];
            let record = Record {
                sequence,
                span,
                time: sequence * 10,
                tag: u16::try_from(random.below(9)).expect("below 9"),
                meta: noise(random, 20),
                payload: noise(random, length),
            };
            *end = record.end();
            batch.push(owner, record.clone());
            records.push((owner, record));
        }
        match append(store, batch) {
            Ok(receipt) => {
                self.next = next;
                let receipt = Some(receipt);
                self.sent.push(Sent { records, trims, fate: Fate::Unknown, receipt });
            }
            Err(AppendError::Fenced(owner)) => {
                let end = store.resume(owner);
                self.next.insert(owner, end);
            }
            Err(error) => panic!("not taken: {error}"),
        }
    }

    /// Notes what receipts say.
    pub(crate) fn look(&mut self) {
        for sent in &mut self.sent {
            let Some(receipt) = &mut sent.receipt else { continue };
            let Some(done) = receipt.now() else { continue };
            sent.receipt = None;
            sent.fate = if done.is_ok() { Fate::Durable } else { Fate::Denied };
        }
    }

    /// Batches that were confirmed.
    pub(crate) fn durable(&self) -> usize {
        self.sent.iter().filter(|sent| sent.fate == Fate::Durable).count()
    }

    /// Compares a store that was just opened, and goes on from what it holds.
    pub(crate) fn check(&mut self, store: &Volumes, owners: u64) {
        self.look();
        let mut found: BTreeMap<Owner, BTreeMap<u64, Record>> = BTreeMap::new();
        for number in 0..owners {
            let owner = owner(number);
            let records = all(store, owner);
            let ordered = records.is_sorted_by(|a, b| a.end() <= b.sequence);
            assert!(ordered, "owner {owner} is out of order");
            found.insert(owner, records.into_iter().map(|r| (r.sequence, r)).collect());
        }
        let start = |owner: &Owner| store.bounds(*owner).unwrap_or_default().start;
        let mut matched = 0;
        // An owner of whom something sent is missing has nothing later.
        let mut missing: BTreeMap<Owner, u64> = BTreeMap::new();
        for sent in &mut self.sent {
            let visible = sent.records.iter().filter(|(owner, r)| r.end() > start(owner));
            let (mut there, mut absent) = (0, 0);
            for (owner, record) in visible {
                match found[owner].get(&record.sequence) {
                    Some(other) if other == record => there += 1,
                    _ => absent += 1,
                }
            }
            assert!(there == 0 || absent == 0, "a batch is there in part");
            if sent.fate == Fate::Durable {
                assert_eq!(absent, 0, "an acknowledged batch is not there");
                for (owner, to) in &sent.trims {
                    assert!(start(owner) >= *to, "an acknowledged trim is not there");
                    let known = self.starts.entry(*owner).or_default();
                    *known = (*known).max(*to);
                }
            }
            matched += there;
            for (owner, record) in &sent.records {
                if there > 0 {
                    let gap = missing.get(owner).copied();
                    assert_eq!(gap, None, "owner {owner}: {} after a gap", record.sequence);
                } else if absent > 0 && sent.fate == Fate::Unknown {
                    missing.entry(*owner).or_insert(record.sequence);
                }
            }
            sent.receipt = None;
            sent.fate = match sent.fate {
                Fate::Unknown | Fate::Denied if there > 0 => Fate::Durable,
                Fate::Unknown | Fate::Denied if absent > 0 => Fate::Gone,
                fate => fate,
            };
        }
        let held: usize = found.values().map(BTreeMap::len).sum();
        assert_eq!(held, matched, "something is there that nobody appended");
        // What is not there was never promised, and its sequences are given out again.
        self.sent.retain(|sent| sent.fate != Fate::Gone);
        for number in 0..owners {
            let owner = owner(number);
            let bounds = store.bounds(owner).unwrap_or_default();
            let known = self.starts.get(&owner).copied().unwrap_or(0);
            assert!(bounds.start >= known, "a trim was forgotten");
            self.next.insert(owner, store.resume(owner));
        }
    }
}

/// Eight bytes that differ each time, then more of the same.
fn noise(random: &mut Random, length: usize) -> Bytes {
    let mut out = random.any().to_le_bytes().repeat(length.div_ceil(8));
    out.truncate(length);
    out.into()
}
