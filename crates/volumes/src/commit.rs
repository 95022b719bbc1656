//! Group commit: what waits becomes one group, one write, one flush.
//!
//! Not here: the order of batches (`queue`), the bytes (`group`). Invariants: one group is under
//! way at a time, so a group that is followed by another one was durable; a record is in the index
//! only when its group is durable; groups are numbered without a gap, and a number whose write
//! failed is used again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::buffer::Aligned;
use crate::catalog::{Failure, Volume, Wanted, file_name};
use crate::disk::WriteFailed;
use crate::error::AppendError;
use crate::format::{BLOCK, low32};
use crate::group::{self, Encoded, Place};
use crate::queue::Pending;
use crate::store::{Damage, Inner, Volumes};
use crate::sync::{lock, read, write};

/// How many volumes are tried for one group when writes fail.
const TRIES: usize = 3;

/// Zeros written at once ahead of small groups: a write into blocks that are there already takes
/// half as long as one that makes the file grow (83 and 166 us, measured).
const AHEAD_BYTES: u32 = 1 << 20;

/// Groups from this size on do not pay for having their blocks written twice.
const SMALL_GROUP_BYTES: u32 = 64 << 10;

/// Who writes, and where.
pub(crate) struct Commit {
    pub(crate) active: Option<Active>,
    /// Number of the next group.
    pub(crate) next: u64,
}

/// The volume that takes groups.
pub(crate) struct Active {
    pub(crate) volume: Arc<Volume>,
    /// Number of its first group.
    pub(crate) first: u64,
    /// Position of the next group.
    pub(crate) at: u32,
    /// Up to here the file's blocks were written before, in this life or an earlier one.
    pub(crate) written: u32,
}

impl Active {
    /// A volume that goes on at a position.
    pub(crate) fn new(volume: Arc<Volume>, first: u64, at: u32) -> Active {
        let length = volume.file.length().unwrap_or(0);
        let written = u32::try_from(length).unwrap_or(u32::MAX).max(at);
        Active { volume, first, at, written }
    }
}

/// A volume that takes no more.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) volume: Arc<Volume>,
    /// Number of its first group.
    pub(crate) first: u64,
    /// One past its last group.
    pub(crate) next: u64,
    /// Position after its last group.
    pub(crate) end: u32,
    /// A write failed or something in it is bad: it gets no footer.
    pub(crate) bad: bool,
}

impl Volumes {
    /// Writes the next group if a batch waits: one write and one flush. Returns whether it did
    /// anything.
    pub fn turn(&self) -> bool {
        let inner = &*self.inner;
        let mut commit = lock(&inner.commit);
        let mut taken = inner.queue.take(inner.options.group_bytes);
        if taken.is_empty() {
            return false;
        }
        match inner.space() {
            Ok(()) => {}
            Err(why) => taken = inner.refuse_records(taken, &AppendError::Full(why.into())),
        }
        while !taken.is_empty() {
            match inner.commit(&mut commit, &taken) {
                Ok((active, encoded)) => {
                    inner.publish(&active, &encoded);
                    // Only now: a footer lists what readers see.
                    if let Some(ended) = commit.end_full(inner.options.volume_bytes) {
                        lock(&inner.ended).push_back(ended);
                    }
                    for pending in taken {
                        pending.done(Ok(()));
                    }
                    inner.write_ahead(&mut commit, low32(encoded.bytes.len()));
                    return true;
                }
                Err(Failure::Full(why)) => {
                    let before = taken.len();
                    let error = AppendError::Full(why.into());
                    taken = inner.refuse_records(taken, &error);
                    if taken.len() == before {
                        inner.queue.fail(std::mem::take(&mut taken), &error);
                    }
                }
                Err(failure) => inner.queue.fail(std::mem::take(&mut taken), &failure.into()),
            }
        }
        true
    }
}

impl Inner {
    /// Whether records may be written: trims and settling may always.
    fn space(&self) -> Result<(), String> {
        let reserve = self.options.reserve_bytes;
        match self.disk.free_bytes() {
            Ok(free) if free < reserve => {
                Err(format!("{free} bytes are free and {reserve} are kept in reserve"))
            }
            // If nobody knows, the write will tell.
            _ => Ok(()),
        }
    }

    /// Fails what is more than trims; returns the others.
    fn refuse_records(&self, taken: Vec<Pending>, error: &AppendError) -> Vec<Pending> {
        let (trims, records): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|pending| pending.batch.only_trims());
        if !records.is_empty() {
            self.queue.fail(records, error);
        }
        trims
    }

    /// Makes batches durable, in another volume where one fails. Returns the volume and the group.
    fn commit(
        &self,
        commit: &mut Commit,
        taken: &[Pending],
    ) -> Result<(Arc<Volume>, Encoded), Failure> {
        let mut tries = 0;
        loop {
            let active = self.active(commit)?;
            let place = Place {
                id: active.volume.id,
                at: active.at,
                sequence: active.next,
                time: self.clock.now().0,
            };
            let operations = taken.iter().flat_map(|pending| &pending.batch.operations);
            let encoded = group::encode(operations, place);
            let volume = Arc::clone(active.volume);
            let began = self.clock.steady();
            match volume.file.write_durable(place.at.into(), &encoded.bytes) {
                Ok(()) => {
                    let end = place.at + low32(encoded.bytes.len());
                    commit.written(end);
                    self.counters.groups.fetch_add(1, Ordering::Relaxed);
                    let micros = self.clock.steady().0.saturating_sub(began.0) / 1000;
                    self.counters.flush_micros.fetch_add(micros, Ordering::Relaxed);
                    self.counters.batches.fetch_add(taken.len() as u64, Ordering::Relaxed);
                    let bytes = encoded.bytes.len() as u64;
                    self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                    return Ok((volume, encoded));
                }
                Err(WriteFailed::Full(error)) => {
                    let name = file_name(volume.slot);
                    return Err(Failure::of("write", &name, WriteFailed::Full(error)));
                }
                Err(WriteFailed::Broken(error)) => {
                    let name = file_name(volume.slot);
                    let why = format!("cannot write `{name}`: {error}");
                    self.give_up(commit, &why);
                    tries += 1;
                    if tries == TRIES {
                        return Err(Failure::Failed(why));
                    }
                }
            }
        }
    }

    /// The volume that takes the next group, a new one if there is none.
    fn active<'a>(&self, commit: &'a mut Commit) -> Result<NextPlace<'a>, Failure> {
        if commit.active.is_none() {
            let (created, first_group) = (self.clock.now().0, commit.next);
            let wanted = Wanted { kind: 0, created, first_group };
            let volume = Arc::new(lock(&self.catalog).create(&wanted)?);
            write(&self.volumes).insert(volume.id.volume, Arc::clone(&volume));
            write(&self.index).saw(volume.id.volume);
            commit.active = Some(Active::new(volume, commit.next, low32(BLOCK)));
        }
        let next = commit.next;
        match &commit.active {
            Some(active) => Ok(NextPlace { volume: &active.volume, at: active.at, next }),
            None => Err(Failure::Failed("no volume takes groups".to_owned())),
        }
    }

    /// After a small group: sees to it that the next ones find their blocks written. The same
    /// thread writes groups, so the two never meet.
    fn write_ahead(&self, commit: &mut Commit, group_bytes: u32) {
        let volume_bytes = self.options.volume_bytes;
        let Some(active) = &mut commit.active else { return };
        let ahead = AHEAD_BYTES.min(volume_bytes / 8).next_multiple_of(low32(BLOCK));
        let low = active.at + group_bytes > active.written;
        if !low || group_bytes > SMALL_GROUP_BYTES || active.at + ahead > volume_bytes {
            return;
        }
        let zeros = Aligned::zeroed(ahead as usize);
        match active.volume.file.write_durable(active.at.into(), zeros.as_ref()) {
            Ok(()) => active.written = active.at + ahead,
            // Whoever writes records there will be told.
            Err(WriteFailed::Full(_)) => {}
            Err(WriteFailed::Broken(error)) => {
                let why = format!("cannot write `{}`: {error}", file_name(active.volume.slot));
                self.give_up(commit, &why);
            }
        }
    }

    /// Ends the active volume because a write to it failed. Nothing is written to it again.
    fn give_up(&self, commit: &mut Commit, why: &str) {
        let Some(active) = commit.active.take() else { return };
        self.report(Damage {
            volume: active.volume.id.volume,
            file: file_name(active.volume.slot),
            at: active.at,
            bytes: 0,
            what: format!("{why}; the volume takes no more"),
        });
        let (first, next, end) = (active.first, commit.next, active.at);
        let volume = active.volume;
        lock(&self.ended).push_back(Ended { volume, first, next, end, bad: true });
    }

    /// Lets readers see what is durable.
    fn publish(&self, volume: &Volume, encoded: &Encoded) {
        if let Some((_, run)) = encoded.runs.first() {
            let at = run.payload_at - low32(crate::format::group_header::BYTES);
            lock(&self.tail).push(volume.id.volume, at, encoded.bytes.clone());
        }
        {
            let mut index = write(&self.index);
            for (owner, run) in &encoded.runs {
                index.append(*owner, *run);
            }
            for (owner, start) in &encoded.trims {
                index.trim(*owner, *start);
            }
        }
        let listeners = read(&self.listeners);
        for (owner, run) in &encoded.runs {
            if let Some(listener) = listeners.get(&owner.class()) {
                listener.committed(*owner, run.end);
            }
        }
    }
}

/// Where the next group goes.
struct NextPlace<'a> {
    volume: &'a Arc<Volume>,
    at: u32,
    next: u64,
}

impl Commit {
    /// A group is durable up to `end`.
    fn written(&mut self, end: u32) {
        self.next += 1;
        if let Some(active) = &mut self.active {
            active.at = end;
            active.written = active.written.max(end);
        }
    }

    /// Ends the active volume if it is full.
    fn end_full(&mut self, volume_bytes: u32) -> Option<Ended> {
        let full = self.active.as_ref().is_some_and(|active| active.at >= volume_bytes);
        let active = self.active.take_if(|_| full)?;
        let (first, next, end) = (active.first, self.next, active.at);
        Some(Ended { volume: active.volume, first, next, end, bad: false })
    }
}
