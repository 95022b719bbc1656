//! Reading records back.
//!
//! Not here: where runs are (`index`), when they move (`settle`). Calls block on the disk.
//! Invariants: a byte is given out only when its checksum matched; what is given out of one run
//! is one piece of memory, its payloads side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Owner, Record};
use crate::catalog::{Volume, file_name};
use crate::codec::{EntryHead, RunHead, decode_run, metas, run_block_bytes};
use crate::error::ReadError;
use crate::index::{Hole, Run};
use crate::store::{Damage, Inner, Volumes};
use crate::sync::{lock, read};

/// Runs read by one call, at most.
const RUNS_MAX: usize = 256;

/// Records of one owner that lie side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// In order; their payloads are slices of `payload`.
    pub records: Vec<Record>,
    /// All payloads, one after the other.
    pub payload: Bytes,
}

/// A record without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// As of [`Record`].
    pub sequence: u64,
    /// As of [`Record`].
    pub span: u32,
    /// As of [`Record`].
    pub time: u64,
    /// As of [`Record`].
    pub tag: u16,
    /// As of [`Record`].
    pub meta: Bytes,
    /// Length of its payload.
    pub payload_bytes: u32,
}

impl RecordHead {
    /// One past the last sequence that it covers.
    pub fn end(&self) -> u64 {
        self.sequence.saturating_add(self.span.into())
    }
}

/// A run block that verified.
pub(crate) struct Block {
    pub(crate) head: RunHead,
    pub(crate) entries: Vec<EntryHead>,
    pub(crate) metas: Bytes,
}

/// Run blocks read lately.
pub(crate) struct Blocks {
    held: HashMap<(u32, u32), Arc<Block>>,
    order: VecDeque<(u32, u32)>,
    bytes: usize,
    bytes_max: usize,
}

impl Blocks {
    pub(crate) fn new(bytes_max: usize) -> Blocks {
        Blocks { held: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    fn push(&mut self, key: (u32, u32), block: Arc<Block>) {
        self.bytes += block.cost();
        if let Some(before) = self.held.insert(key, block) {
            self.bytes -= before.cost();
            return;
        }
        self.order.push_back(key);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.held.remove(&oldest).map_or(0, |block| block.cost());
        }
    }
}

impl Block {
    fn cost(&self) -> usize {
        200 + self.entries.len() * size_of::<EntryHead>() + self.metas.len()
    }
}

impl Volumes {
    /// Records of an owner from `from` on, in order: at least the one that holds or follows
    /// `from`, and more until their payloads reach `bytes`. Empty at the owner's end. Blocks while
    /// the disk reads.
    ///
    /// # Errors
    /// When `from` was given up, or the first record cannot be read; damage further on ends what
    /// is returned, and is the error of the call that begins there.
    pub fn read(&self, owner: Owner, from: u64, bytes: u64) -> Result<Vec<Span>, ReadError> {
        let mut spans: Vec<Span> = Vec::new();
        let (mut next, mut left) = (from, bytes);
        // Settling may move a run while it is looked for; then the index knows the new place.
        loop {
            let runs = {
                let index = read(&self.inner.index);
                let bounds = index.bounds(owner).unwrap_or_default();
                if next < bounds.start {
                    return Err(ReadError::Trimmed { owner, start: bounds.start });
                }
                index.find(owner, next, left.max(1), RUNS_MAX)
            };
            let mut moved = false;
            for run in runs {
                let hole = read(&self.inner.index).hole(owner, next, run.first);
                if let Some(hole) = hole.filter(|_| !spans.is_empty() || next < run.first) {
                    return if spans.is_empty() { Err(lost(owner, next, hole)) } else { Ok(spans) };
                }
                let Some(volume) = self.inner.volume(run.volume) else {
                    moved = true;
                    break;
                };
                match self.inner.span(&volume, owner, &run, next, left) {
                    Ok(span) => {
                        next = span.records.last().map_or(next, Record::end);
                        left = left.saturating_sub(span.payload.len() as u64);
                        spans.push(span);
                    }
                    Err(_) if !spans.is_empty() => return Ok(spans),
                    Err(error) => return Err(error),
                }
                if left == 0 {
                    break;
                }
            }
            if !moved {
                break;
            }
        }
        Ok(spans)
    }

    /// As [`Volumes::read`], when all of it is in memory: never waits for the disk. `None` when it
    /// is not; then read.
    pub fn read_in_memory(
        &self,
        owner: Owner,
        from: u64,
        bytes: u64,
    ) -> Option<Result<Vec<Span>, ReadError>> {
        let inner = &*self.inner;
        let runs = {
            let index = read(&inner.index);
            let bounds = index.bounds(owner).unwrap_or_default();
            if from >= bounds.end {
                return Some(Ok(Vec::new()));
            }
            index.find(owner, from, bytes.max(1), RUNS_MAX)
        };
        let held = |run: &Run| {
            let tail = lock(&inner.tail);
            let all = run.payload_bytes as usize;
            tail.get(run.volume, run.payload_at, all).is_some()
        };
        runs.iter().all(held).then(|| self.read(owner, from, bytes))
    }

    /// Records as of [`Volumes::read`], without their payloads, whose bytes are not looked at:
    /// what is in the run blocks. `records` at most, but at least one run's. Blocks while the disk
    /// reads.
    ///
    /// # Errors
    /// When a run block cannot be read.
    pub fn heads(
        &self,
        owner: Owner,
        from: u64,
        records: usize,
    ) -> Result<Vec<RecordHead>, ReadError> {
        let inner = &*self.inner;
        let mut heads: Vec<RecordHead> = Vec::new();
        let mut next = from;
        while heads.len() < records {
            let runs = read(&inner.index).find(owner, next, u64::MAX, RUNS_MAX);
            let mut moved = false;
            for run in &runs {
                let hole = read(&inner.index).hole(owner, next, run.first);
                if let Some(hole) = hole {
                    return if heads.is_empty() { Err(lost(owner, next, hole)) } else { Ok(heads) };
                }
                let Some(volume) = inner.volume(run.volume) else {
                    moved = true;
                    break;
                };
                let block = inner.block(&volume, owner, run)?;
                let mut meta_at = 0;
                for entry in &block.entries {
                    let meta_end = meta_at + usize::from(entry.meta_bytes);
                    if entry.sequence + u64::from(entry.span) > next {
                        heads.push(RecordHead {
                            sequence: entry.sequence,
                            span: entry.span,
                            time: entry.time,
                            tag: entry.tag,
                            meta: block.metas.slice(meta_at..meta_end),
                            payload_bytes: entry.length,
                        });
                    }
                    meta_at = meta_end;
                }
                next = heads.last().map_or(run.end, RecordHead::end).max(run.end);
                if heads.len() >= records {
                    break;
                }
            }
            if runs.is_empty() || (!moved && runs.len() < RUNS_MAX) {
                break;
            }
        }
        Ok(heads)
    }

    /// The first sequence of the first run, in the owner's order, with a time of at least
    /// `time`; the records before it are all older.
    pub fn find_time(&self, owner: Owner, time: u64) -> Option<u64> {
        read(&self.inner.index).find_time(owner, time).map(|run| run.first)
    }
}

fn lost(owner: Owner, next: u64, hole: Hole) -> ReadError {
    ReadError::Damaged {
        owner,
        sequence: next.max(hole.from),
        what: "a group",
        volume: hole.volume,
        at: hole.at,
        why: "cannot be read".into(),
    }
}

impl Inner {
    /// The records of a run from `from` on, up to `bytes` of payload, at least one.
    pub(crate) fn span(
        &self,
        volume: &Arc<Volume>,
        owner: Owner,
        run: &Run,
        from: u64,
        bytes: u64,
    ) -> Result<Span, ReadError> {
        let block = self.block(volume, owner, run)?;
        let mut at = run.payload_at;
        let mut meta_at = 0;
        let mut wanted: Vec<(EntryHead, u32, usize)> = Vec::new();
        let (mut payload_from, mut total) = (run.payload_at, 0_u64);
        for entry in &block.entries {
            if entry.sequence + u64::from(entry.span) > from {
                if !wanted.is_empty() && total + u64::from(entry.length) > bytes {
                    break;
                }
                if wanted.is_empty() {
                    payload_from = at;
                }
                total += u64::from(entry.length);
                wanted.push((*entry, at, meta_at));
            }
            at += entry.length;
            meta_at += usize::from(entry.meta_bytes);
        }
        let length = usize::try_from(total).unwrap_or(usize::MAX);
        let payload = self.bytes(volume, payload_from, length)?;
        let mut records = Vec::with_capacity(wanted.len());
        for (entry, at, meta_at) in wanted {
            let skip = (at - payload_from) as usize;
            let one = payload.slice(skip..skip + entry.length as usize);
            if volume.id.seed.sum(at, &one) != entry.checksum {
                let (what, why) = ("the payload", "does not match its checksum");
                if records.is_empty() {
                    return Err(self.damaged(volume, owner, entry.sequence, what, at, why));
                }
                let payload = payload.slice(..skip);
                return Ok(Span { records, payload });
            }
            records.push(Record {
                sequence: entry.sequence,
                span: entry.span,
                time: entry.time,
                tag: entry.tag,
                meta: block.metas.slice(meta_at..meta_at + usize::from(entry.meta_bytes)),
                payload: one,
            });
        }
        Ok(Span { records, payload })
    }

    /// The run block of a run, from memory or disk.
    pub(crate) fn block(
        &self,
        volume: &Arc<Volume>,
        owner: Owner,
        run: &Run,
    ) -> Result<Arc<Block>, ReadError> {
        let key = (run.volume, run.block_at);
        if let Some(block) = lock(&self.blocks).held.get(&key) {
            return Ok(Arc::clone(block));
        }
        let length = run_block_bytes(run.entries) + run.metas_bytes as usize;
        let bytes = self.bytes(volume, run.block_at, length)?;
        let decoded =
            decode_run(&bytes, volume.id.seed, run.block_at).and_then(|(head, entries)| {
                let of = metas(&bytes, volume.id.seed, run.block_at, &head)?;
                let metas = bytes.slice_ref(of);
                Ok(Block { head, entries, metas })
            });
        let same = |block: &Block| {
            block.head.owner == owner.bits()
                && block.head.payload_at == run.payload_at
                && block.head.payload_bytes == run.payload_bytes
        };
        let what = "the directory";
        let block = match decoded {
            Ok(block) if same(&block) => Arc::new(block),
            Ok(_) => {
                let why = "is another run's";
                return Err(self.damaged(volume, owner, run.first, what, run.block_at, why));
            }
            Err(why) => {
                let why = why.to_string();
                return Err(self.damaged(volume, owner, run.first, what, run.block_at, &why));
            }
        };
        lock(&self.blocks).push(key, Arc::clone(&block));
        Ok(block)
    }

    /// Bytes of a volume, not verified yet. What the file does not have any more is left out.
    fn bytes(&self, volume: &Volume, at: u32, length: usize) -> Result<Bytes, ReadError> {
        if let Some(bytes) = lock(&self.tail).get(volume.id.volume, at, length) {
            return Ok(bytes);
        }
        let mut bytes = vec![0; length];
        let read = volume.file.read_at(at.into(), &mut bytes);
        read.map_err(|error| ReadError::Failed {
            volume: volume.id.volume,
            at,
            why: error.to_string().into(),
        })?;
        // What lies beyond the file's end stays zero and fails its checksum.
        Ok(bytes.into())
    }

    fn damaged(
        &self,
        volume: &Volume,
        owner: Owner,
        sequence: u64,
        what: &'static str,
        at: u32,
        why: &str,
    ) -> ReadError {
        let file = file_name(volume.slot);
        let told = format!("{what} of record {sequence} of owner {owner} {why}");
        let id = volume.id.volume;
        self.report(Damage { volume: id, file, at, bytes: 0, what: told });
        ReadError::Damaged { owner, sequence, what, volume: id, at, why: why.into() }
    }
}
