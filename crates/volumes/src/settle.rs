//! Settling: what is still wanted of old volumes is written again, sorted by owner, and the old
//! ones are free.
//!
//! Not here: when it runs (`seal`). Invariants: the manifest names either the old volumes or the
//! new ones, never both and never neither; a record moves only when its checksum matched; a run
//! that does not verify stays where it is, and its volume is quarantined.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::SteadyNanos;

use crate::batch::{META_BYTES_MAX, OPERATION_BYTES, Operation, Owner, Record};
use crate::catalog::{Failure, Volume, Wanted, file_name, set};
use crate::checksum::crc32c;
use crate::codec::State;
use crate::format::{BLOCK, low32};
use crate::group::{self, Place};
use crate::index::Run;
use crate::store::{Inner, Volumes};
use crate::sync::{lock, read, write};

/// A settled group takes no further record beyond this.
const GROUP_BYTES: usize = 4 << 20;

/// Volumes settled together, at most: the more, the longer the runs, and the more space it takes
/// for a while.
const INPUTS_MAX: usize = 4;

/// What becomes of a record that is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It is given up; its sequence is a gap from now on.
    Drop,
    /// It stays with another meta and payload, of 4 MiB at most or it is kept as it was; sequence,
    /// span, time and tag are the same.
    Replace(Record),
}

/// Decides for the owners of a class, when their records are settled, what is still wanted.
/// Without one everything is that was not trimmed.
pub trait Judge: Send + Sync {
    /// What becomes of a record. Called in the owner's order, on the thread that settles; the
    /// answer may be carried out or not, and asked for again.
    fn judge(&self, owner: Owner, record: &Record) -> Verdict;
}

/// The state of settling.
#[derive(Default)]
pub(crate) struct Keeper {
    /// Volumes that could not be settled whole: not tried again before the next opening.
    pub(crate) stuck: BTreeSet<u32>,
    /// Volumes with groups that cannot be read: they are scanned by every opening, so that what is
    /// missing is not taken for a gap.
    lossy: BTreeSet<u32>,
    /// When the next volume is scrubbed, and which was last.
    pub(crate) scrub: Option<SteadyNanos>,
    pub(crate) scrubbed: u32,
}

impl Keeper {
    /// What opening knows.
    pub(crate) fn after(lossy: impl Iterator<Item = u32>) -> Keeper {
        Keeper { lossy: lossy.collect(), ..Keeper::default() }
    }

    /// A volume lost a group.
    pub(crate) fn lost(&mut self, volume: u32) {
        self.lossy.insert(volume);
    }
}

impl Volumes {
    /// Sets who decides for a class.
    pub fn set_judge(&self, class: u8, judge: Arc<dyn Judge>) {
        write(&self.inner.judges).insert(class, judge);
    }
}

impl Volumes {
    /// How far an owner's records lie in volumes that are sealed, and so can be settled: one past
    /// the last of them, and their bytes.
    pub fn sealed(&self, owner: Owner) -> (u64, u64) {
        let sealed = self.inner.sealed();
        let runs = read(&self.inner.index).of_owner(owner);
        let runs = runs.iter().take_while(|run| sealed.contains(&run.volume));
        runs.fold((0, 0), |(_, bytes), run| (run.end, bytes + run.bytes()))
    }

    /// Settles the sealed volumes that hold records of an owner below a sequence, so that its
    /// judge is asked about each of them; what others have there moves along. Blocks while the
    /// disk works. Returns whether all of them were: a full or failing disk leaves them.
    pub fn settle_owner(&self, owner: Owner, below: u64) -> bool {
        let inner = &*self.inner;
        let sealed = inner.sealed();
        let runs = read(&inner.index).of_owner(owner);
        let wanted = runs.iter().filter(|run| run.first < below);
        let wanted: BTreeSet<u32> = wanted.map(|run| run.volume).collect();
        let wanted: Vec<u32> = wanted.intersection(&sealed).copied().collect();
        for inputs in wanted.chunks(INPUTS_MAX) {
            let mut keeper = lock(&inner.keeper);
            if inputs.iter().any(|input| keeper.stuck.contains(input)) {
                return false;
            }
            if inner.settle_if_room(&mut keeper, inputs).is_err() {
                return false;
            }
        }
        true
    }
}

/// What is being written.
struct Output {
    volume: Arc<Volume>,
    at: u32,
    groups: u64,
    runs: Vec<(Owner, Run)>,
}

/// One settling.
struct Settling<'a> {
    inner: &'a Inner,
    waiting: Vec<(Owner, Operation)>,
    bytes: usize,
    outputs: Vec<Output>,
    /// Runs whose records are in the outputs, or given up.
    moved: HashSet<(u32, u32)>,
    /// Those that are in no output yet.
    moving: Vec<(u32, u32)>,
}

impl Inner {
    /// Settles some volumes if it pays.
    pub(crate) fn settle_some(&self, keeper: &mut Keeper) -> Result<bool, Failure> {
        let inputs = self.inputs(keeper);
        if inputs.is_empty() {
            return Ok(false);
        }
        self.settle_if_room(keeper, &inputs)?;
        Ok(true)
    }

    fn settle_if_room(&self, keeper: &mut Keeper, inputs: &[u32]) -> Result<(), Failure> {
        let live: u64 = inputs.iter().map(|input| read(&self.index).live(*input)).sum();
        if self.disk.free_bytes().is_ok_and(|free| free < live) {
            return Err(Failure::Full(format!("{live} bytes are needed to settle")));
        }
        self.settle(keeper, inputs)
    }

    fn sealed(&self) -> BTreeSet<u32> {
        let catalog = lock(&self.catalog);
        let entries = catalog.manifest.entries.iter();
        entries.filter(|entry| entry.state == State::Sealed).map(|entry| entry.volume).collect()
    }

    /// Which volumes to settle: a bad one, a mostly dead one, those that commits filled, or small
    /// ones that settling left.
    fn inputs(&self, keeper: &Keeper) -> Vec<u32> {
        let entries = lock(&self.catalog).manifest.entries.clone();
        let volumes = read(&self.volumes).clone();
        let index = read(&self.index);
        let (mut ingested, mut small) = (Vec::new(), Vec::new());
        for entry in &entries {
            let live = index.live(entry.volume);
            if keeper.stuck.contains(&entry.volume) || live == 0 {
                continue;
            }
            let held = volumes.get(&entry.volume).map(|v| v.held.load(Ordering::Relaxed));
            match entry.state {
                State::Quarantined => return vec![entry.volume],
                State::Sealed if live < held.unwrap_or(0) / 2 => return vec![entry.volume],
                State::Sealed if entry.kind == 0 => ingested.push(entry.volume),
                State::Sealed if live < u64::from(self.options.volume_bytes) / 4 => {
                    small.push(entry.volume);
                }
                _ => {}
            }
        }
        let mut enough = [(ingested, self.options.settle_volumes), (small, INPUTS_MAX)];
        for (volumes, least) in &mut enough {
            if volumes.len() >= (*least).max(1) {
                volumes.sort_unstable();
                volumes.truncate(INPUTS_MAX);
                return std::mem::take(volumes);
            }
        }
        Vec::new()
    }

    fn settle(&self, keeper: &mut Keeper, inputs: &[u32]) -> Result<(), Failure> {
        let runs = read(&self.index).in_volumes(inputs);
        let mut settling = Settling {
            inner: self,
            waiting: Vec::new(),
            bytes: 0,
            outputs: Vec::new(),
            moved: HashSet::new(),
            moving: Vec::new(),
        };
        let done = settling.all(&runs);
        let outputs: Vec<u32> = settling.outputs.iter().map(|out| out.volume.id.volume).collect();
        match done.and_then(|()| settling.finish(keeper, inputs, &runs)) {
            Ok(stuck) => {
                keeper.stuck.extend(stuck.iter().copied());
                let free: Vec<u32> =
                    inputs.iter().copied().filter(|input| !stuck.contains(input)).collect();
                self.retire(&free)
            }
            Err(failure) => {
                // What was begun counts for nothing; it is retired, or found by the next opening.
                lock(&self.catalog).change(|manifest| {
                    for output in &outputs {
                        set(manifest, *output, State::Retired, 0);
                    }
                })?;
                Err(failure)
            }
        }
    }

    /// Lets writers go first: waits as long as the bytes should take.
    pub(crate) fn pace(&self, bytes: usize, groups_before: u64) {
        let rate = self.options.settle_bytes_per_second;
        let busy = self.counters.groups.load(Ordering::Relaxed) != groups_before;
        if let Some(millis) = (bytes as u64 * 1000).checked_div(rate).filter(|_| busy) {
            std::thread::sleep(Duration::from_millis(millis));
        }
    }
}

impl Settling<'_> {
    fn all(&mut self, runs: &[(Owner, Run)]) -> Result<(), Failure> {
        let mut before: Option<(Owner, u64)> = None;
        for (owner, run) in runs {
            let Some(volume) = self.inner.volume(run.volume) else { continue };
            // A run that is being made may not reach over another one that stays.
            let joins = before.is_none_or(|(other, end)| {
                other != *owner || read(&self.inner.index).adjacent(*owner, end, run.first)
            });
            if !joins {
                self.flush()?;
            }
            let Ok(span) = self.inner.span(&volume, *owner, run, 0, u64::MAX) else {
                before = Some((*owner, run.first));
                continue;
            };
            if span.records.len() != run.entries as usize {
                before = Some((*owner, run.first));
                continue;
            }
            self.run(*owner, run, span.records)?;
            before = Some((*owner, run.end));
        }
        self.flush()
    }

    fn run(&mut self, owner: Owner, run: &Run, records: Vec<Record>) -> Result<(), Failure> {
        let start = read(&self.inner.index).bounds(owner).unwrap_or_default().start;
        let judge = read(&self.inner.judges).get(&owner.class()).cloned();
        self.moving.push((run.volume, run.block_at));
        for record in records.into_iter().filter(|record| record.end() > start) {
            let record = match judge.as_ref().map(|judge| judge.judge(owner, &record)) {
                Some(Verdict::Drop) => continue,
                Some(Verdict::Replace(Record { meta, payload, .. }))
                    if meta.len() <= META_BYTES_MAX && payload.len() <= GROUP_BYTES =>
                {
                    Record { meta, payload, ..record }
                }
                _ => record,
            };
            let cost = record.payload.len() + record.meta.len() + OPERATION_BYTES;
            if self.bytes + cost > GROUP_BYTES {
                self.flush()?;
            }
            self.bytes += cost;
            let sum = crc32c(&record.payload);
            self.waiting.push((owner, Operation::Put(record, sum)));
        }
        Ok(())
    }

    /// Writes what waits.
    fn flush(&mut self) -> Result<(), Failure> {
        self.moved.extend(self.moving.drain(..));
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let (inner, options) = (self.inner, &self.inner.options);
        let full = self.outputs.last().is_none_or(|out| out.at >= options.volume_bytes);
        if full {
            let wanted = Wanted { kind: 1, created: inner.clock.now().0, first_group: 0 };
            let volume = Arc::new(lock(&inner.catalog).create(&wanted)?);
            let at = low32(BLOCK);
            self.outputs.push(Output { volume, at, groups: 0, runs: Vec::new() });
        }
        let Some(out) = self.outputs.last_mut() else { return Ok(()) };
        let groups_before = inner.counters.groups.load(Ordering::Relaxed);
        let (id, at, sequence, time) = (out.volume.id, out.at, out.groups, inner.clock.now().0);
        let encoded = group::encode(waiting.iter(), Place { id, at, sequence, time });
        let name = file_name(out.volume.slot);
        let written = out.volume.file.write_durable(at.into(), &encoded.bytes);
        written.map_err(|error| Failure::of("settle into", &name, error))?;
        out.at += low32(encoded.bytes.len());
        out.groups += 1;
        out.runs.extend(encoded.runs);
        inner.counters.settled.fetch_add(encoded.bytes.len() as u64, Ordering::Relaxed);
        inner.pace(encoded.bytes.len(), groups_before);
        Ok(())
    }

    /// Lets the outputs count in place of the inputs. Returns the inputs that hold something still.
    fn finish(
        &self,
        keeper: &Keeper,
        inputs: &[u32],
        runs: &[(Owner, Run)],
    ) -> Result<BTreeSet<u32>, Failure> {
        let inner = self.inner;
        let mut settled: BTreeMap<Owner, Vec<Run>> = BTreeMap::new();
        let mut stuck: BTreeSet<u32> = BTreeSet::new();
        for (owner, run) in runs {
            settled.entry(*owner).or_default();
            if !self.moved.contains(&(run.volume, run.block_at)) {
                stuck.insert(run.volume);
            }
        }
        for out in &self.outputs {
            let mut sorted = out.runs.clone();
            sorted.sort_by_key(|(owner, run)| (*owner, run.first));
            let runs = sorted.iter().map(|(owner, run)| run.in_footer(*owner)).collect();
            let held = out.runs.iter().map(|(_, run)| run.bytes()).sum();
            out.volume.held.store(held, Ordering::Relaxed);
            let written = inner.write_footer(&out.volume, out.at, (0, out.groups), runs);
            let name = file_name(out.volume.slot);
            written.map_err(|error| Failure::of("seal", &name, error))?;
            for (owner, run) in &out.runs {
                settled.entry(*owner).or_default().push(*run);
            }
        }
        lock(&inner.catalog).change(|manifest| {
            for out in &self.outputs {
                set(manifest, out.volume.id.volume, State::Sealed, out.at);
            }
            for entry in &mut manifest.entries {
                if !inputs.contains(&entry.volume) {
                    continue;
                }
                let bad = entry.state == State::Quarantined;
                let stays = stuck.contains(&entry.volume);
                entry.state = if bad || stays { State::Quarantined } else { State::Retired };
                // Everything good was saved from it: nothing of it is read again.
                if bad && !stays && !keeper.lossy.contains(&entry.volume) {
                    entry.footer_at = 0;
                }
            }
        })?;
        for out in &self.outputs {
            write(&inner.volumes).insert(out.volume.id.volume, Arc::clone(&out.volume));
            write(&inner.index).saw(out.volume.id.volume);
        }
        for (owner, runs) in &settled {
            write(&inner.index).replace(*owner, &self.moved, runs);
        }
        let quarantined: Vec<u32> = lock(&inner.catalog)
            .manifest
            .entries
            .iter()
            .filter(|entry| entry.state == State::Quarantined)
            .map(|entry| entry.volume)
            .collect();
        stuck.extend(inputs.iter().filter(|input| quarantined.contains(input)));
        Ok(stuck)
    }
}
