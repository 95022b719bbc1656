//! Where every owner's records are: runs, in the order of their sequences, and how much of each
//! volume is still wanted.
//!
//! Not here: single records, which are in the run blocks on disk; the disk. Invariants: an
//! owner's runs are sorted and do not overlap; none ends at or below the owner's start; the live
//! bytes of a volume are those of the runs that the index holds of it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::batch::Owner;
use crate::codec::{FooterOwner, FooterRun};

/// Records of one owner that lie side by side in one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) time_max: u64,
    pub(crate) volume: u32,
    pub(crate) payload_at: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) block_at: u32,
    pub(crate) entries: u32,
    pub(crate) metas_bytes: u32,
}

impl Run {
    pub(crate) fn of_footer(volume: u32, run: &FooterRun) -> Run {
        Run {
            first: run.first,
            end: run.end,
            time_max: run.time_max,
            volume,
            payload_at: run.payload_at,
            payload_bytes: run.payload_bytes,
            block_at: run.block_at,
            entries: run.entries,
            metas_bytes: run.metas_bytes,
        }
    }

    pub(crate) fn in_footer(&self, owner: Owner) -> FooterRun {
        FooterRun {
            owner: owner.bits(),
            first: self.first,
            end: self.end,
            time_max: self.time_max,
            payload_at: self.payload_at,
            payload_bytes: self.payload_bytes,
            block_at: self.block_at,
            entries: self.entries,
            metas_bytes: self.metas_bytes,
        }
    }
}

/// Where an owner begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Everything below is given up.
    pub start: u64,
    /// One past the highest sequence that is durable; the next one may be this or higher.
    pub end: u64,
    /// Bytes that its records take, metas and directory included.
    pub bytes: u64,
}

#[derive(Default)]
struct Held {
    start: u64,
    end: u64,
    bytes: u64,
    runs: VecDeque<Run>,
    /// The newest volume when it was given up for good.
    given_up: u32,
}

/// Sequences of an owner that were durable, or may have been, in groups that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) volume: u32,
    pub(crate) at: u32,
}

/// All owners.
#[derive(Default)]
pub(crate) struct Index {
    owners: HashMap<Owner, Held>,
    live: HashMap<u32, u64>,
    holes: HashMap<Owner, Vec<Hole>>,
    /// The newest volume.
    newest: u32,
}

impl Index {
    /// A volume was made or found.
    pub(crate) fn saw(&mut self, volume: u32) {
        self.newest = self.newest.max(volume);
    }

    /// Adds a run that comes after all others of its owner.
    pub(crate) fn append(&mut self, owner: Owner, run: Run) {
        let held = self.owners.entry(owner).or_default();
        debug_assert!(run.first >= held.end, "the queue keeps every owner's order");
        held.end = held.end.max(run.end);
        if run.end > held.start {
            held.bytes += run.bytes();
            held.runs.push_back(run);
            *self.live.entry(run.volume).or_default() += run.bytes();
        }
    }

    /// Gives up what is below `start`.
    pub(crate) fn trim(&mut self, owner: Owner, start: u64) {
        let held = self.owners.entry(owner).or_default();
        held.start = held.start.max(start);
        held.end = held.end.max(start);
        if start == u64::MAX {
            held.given_up = self.newest;
        }
        while let Some(run) = held.runs.front().copied().filter(|run| run.end <= held.start) {
            held.runs.pop_front();
            held.bytes -= run.bytes();
            forget(&mut self.live, &run);
        }
    }

    /// What a footer remembers of an owner.
    pub(crate) fn remember(&mut self, owner: &FooterOwner) {
        let id = Owner::from_bits(owner.owner);
        self.trim(id, owner.start);
        if let Some(held) = self.owners.get_mut(&id) {
            held.end = held.end.max(owner.end);
        }
    }

    /// Takes the runs found by recovery, in any order. Returns those that overlap with others.
    pub(crate) fn load(&mut self, mut found: Vec<(Owner, Run)>) -> Vec<(Owner, Run)> {
        found.sort_by_key(|(owner, run)| (*owner, run.first, run.volume));
        let mut overlapping = Vec::new();
        for (owner, run) in found {
            if !self.load_one(owner, run) {
                overlapping.push((owner, run));
            }
        }
        overlapping
    }

    /// Takes a run if nothing else is in its place.
    pub(crate) fn load_one(&mut self, owner: Owner, run: Run) -> bool {
        let held = self.owners.entry(owner).or_default();
        let at = held.runs.partition_point(|other| other.end <= run.first);
        if held.runs.get(at).is_some_and(|next| next.first < run.end) {
            return false;
        }
        held.end = held.end.max(run.end);
        if run.end > held.start {
            held.bytes += run.bytes();
            held.runs.insert(at, run);
            *self.live.entry(run.volume).or_default() += run.bytes();
        }
        true
    }

    /// The run that begins at `first` follows groups that are lost: what is missing before it is a
    /// hole. A gap that the owner left looks the same; it is told rather than passed over.
    pub(crate) fn lost_before(&mut self, owner: Owner, first: u64, volume: u32, at: u32) {
        let Some(held) = self.owners.get(&owner) else { return };
        let next = held.runs.partition_point(|run| run.end <= first);
        let Some(to) = held.runs.get(next).map(|run| run.first) else { return };
        let before = next.checked_sub(1).and_then(|before| held.runs.get(before));
        let from = before.map_or(held.start, |run| run.end);
        let holes = self.holes.entry(owner).or_default();
        if from < to && !holes.iter().any(|hole| hole.from == from) {
            holes.push(Hole { from, to, volume, at });
        }
    }

    /// What is lost between two sequences.
    pub(crate) fn hole(&self, owner: Owner, from: u64, to: u64) -> Option<Hole> {
        let holes = self.holes.get(&owner)?;
        holes.iter().copied().find(|hole| hole.from < to && hole.to > from)
    }

    pub(crate) fn bounds(&self, owner: Owner) -> Option<Bounds> {
        let held = self.owners.get(&owner)?;
        Some(Bounds { start: held.start, end: held.end, bytes: held.bytes })
    }

    /// Every owner that was not given up for good.
    pub(crate) fn owners(&self) -> BTreeMap<Owner, Bounds> {
        let live = self.owners.iter().filter(|(_, held)| held.start < u64::MAX);
        live.map(|(owner, held)| {
            (*owner, Bounds { start: held.start, end: held.end, bytes: held.bytes })
        })
        .collect()
    }

    /// Where every owner stands, for a footer.
    pub(crate) fn standing(&self) -> Vec<FooterOwner> {
        let of = |(owner, held): (&Owner, &Held)| FooterOwner {
            owner: owner.bits(),
            start: held.start,
            end: held.end,
        };
        let mut all: Vec<_> = self.owners.iter().map(of).collect();
        all.sort_by_key(|owner| owner.owner);
        all
    }

    /// The runs that hold `from` and what comes after it, up to `bytes` of payload, at least one
    /// if there is any, and no more than `runs`.
    pub(crate) fn find(&self, owner: Owner, from: u64, bytes: u64, runs: usize) -> Vec<Run> {
        let Some(held) = self.owners.get(&owner) else { return Vec::new() };
        let at = held.runs.partition_point(|run| run.end <= from);
        let mut total = 0;
        let wanted = held.runs.range(at..).take(runs).take_while(|run| {
            let wanted = total < bytes;
            total += u64::from(run.payload_bytes);
            wanted
        });
        let wanted: Vec<Run> = wanted.copied().collect();
        if wanted.is_empty() { held.runs.range(at..).take(1).copied().collect() } else { wanted }
    }

    /// The first run, in the owner's order, whose highest time is at least `time`.
    pub(crate) fn find_time(&self, owner: Owner, time: u64) -> Option<Run> {
        let held = self.owners.get(&owner)?;
        held.runs.iter().find(|run| run.time_max >= time).copied()
    }

    /// Every run of an owner, in order.
    pub(crate) fn of_owner(&self, owner: Owner) -> Vec<Run> {
        self.owners.get(&owner).map_or_else(Vec::new, |held| held.runs.iter().copied().collect())
    }

    /// Every run in some volumes, by owner and sequence.
    pub(crate) fn in_volumes(&self, volumes: &[u32]) -> Vec<(Owner, Run)> {
        let mut found = Vec::new();
        for (owner, held) in &self.owners {
            let runs = held.runs.iter().filter(|run| volumes.contains(&run.volume));
            found.extend(runs.map(|run| (*owner, *run)));
        }
        found.sort_by_key(|(owner, run)| (*owner, run.first));
        found
    }

    /// Whether the owner has nothing between two sequences, and lost nothing.
    pub(crate) fn adjacent(&self, owner: Owner, from: u64, to: u64) -> bool {
        let Some(held) = self.owners.get(&owner) else { return true };
        let at = held.runs.partition_point(|run| run.end <= from);
        let nothing = held.runs.get(at).is_none_or(|run| run.first >= to);
        nothing && self.hole(owner, from, to).is_none()
    }

    /// Puts settled runs of an owner in the place of those that were moved, each known by volume
    /// and position.
    pub(crate) fn replace(&mut self, owner: Owner, moved: &HashSet<(u32, u32)>, settled: &[Run]) {
        let Some(held) = self.owners.get_mut(&owner) else { return };
        let mut kept: Vec<Run> = Vec::with_capacity(held.runs.len());
        for run in &held.runs {
            if moved.contains(&(run.volume, run.block_at)) {
                forget(&mut self.live, run);
            } else {
                kept.push(*run);
            }
        }
        for run in settled.iter().filter(|run| run.end > held.start) {
            *self.live.entry(run.volume).or_default() += run.bytes();
            kept.push(*run);
        }
        kept.sort_by_key(|run| run.first);
        held.bytes = kept.iter().map(Run::bytes).sum();
        held.runs = kept.into();
    }

    pub(crate) fn count(&self) -> usize {
        self.owners.len()
    }

    /// Bytes of a volume that are still wanted.
    pub(crate) fn live(&self, volume: u32) -> u64 {
        self.live.get(&volume).copied().unwrap_or(0)
    }

    /// Drops what is remembered of owners that were given up for good before the oldest volume
    /// began: nothing is left that could bring them back.
    pub(crate) fn bury(&mut self, oldest: u32) {
        self.owners.retain(|_, held| held.start < u64::MAX || held.given_up >= oldest);
    }
}

fn forget(live: &mut HashMap<u32, u64>, run: &Run) {
    if let Some(bytes) = live.get_mut(&run.volume) {
        *bytes = bytes.saturating_sub(run.bytes());
        if *bytes == 0 {
            live.remove(&run.volume);
        }
    }
}
