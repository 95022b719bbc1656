//! A group: many owners' operations as the bytes of one write, and back.
//!
//! Not here: the layout (`format`), when groups are made (`commit`, `settle`). Invariant: what
//! `encode` makes, `decode` accepts, and only at the same place of the same volume's life.

use bytes::Bytes;

use crate::batch::{Operation, Owner};
use crate::buffer::Aligned;
use crate::codec::{
    EntryHead, GroupHeader, Identity, RunHead, RunKind, decode_run, encode_run, run_block_bytes,
    run_block_bytes_padded,
};
use crate::format::{BLOCK, Bad, align8, field, group_header, low32, verified};
use crate::index::Run;

/// Where and when a group is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: Identity,
    pub(crate) at: u32,
    pub(crate) sequence: u64,
    pub(crate) time: u64,
}

/// A group ready to be written, and what it adds to the index.
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) runs: Vec<(Owner, Run)>,
    pub(crate) trims: Vec<(Owner, u64)>,
}

/// Puts operations, in the order that they came, into one group. There is at least one.
pub(crate) fn encode<'a>(
    operations: impl Iterator<Item = &'a (Owner, Operation)>,
    place: Place,
) -> Encoded {
    let mut sorted: Vec<&(Owner, Operation)> = operations.collect();
    let is_trim = |operation: &Operation| matches!(operation, Operation::Trim(_));
    // Stable: an owner's records stay in the order that they came.
    sorted.sort_by_key(|(owner, operation)| (*owner, is_trim(operation)));
    let mut payload_bytes = 0;
    for (_, operation) in &sorted {
        if let Operation::Put(record, _) = operation {
            payload_bytes += record.payload.len();
        }
    }
    let directory_from = align8(group_header::BYTES + payload_bytes);
    let mut made = Directory {
        place,
        at: place.at + low32(directory_from),
        bytes: Vec::with_capacity(sorted.len() * 72),
        payload_at: place.at + low32(group_header::BYTES),
        count: 0,
        entries: 0,
        runs: Vec::new(),
        trims: Vec::new(),
    };
    for run in sorted.chunk_by(|a, b| a.0 == b.0 && is_trim(&a.1) == is_trim(&b.1)) {
        made.push(run);
    }
    let length = (directory_from + made.bytes.len()).next_multiple_of(BLOCK);
    let mut buffer = Aligned::zeroed(length);
    let out = buffer.bytes_mut();
    let mut at = group_header::BYTES;
    for (_, operation) in &sorted {
        if let Operation::Put(record, _) = operation {
            out[at..at + record.payload.len()].copy_from_slice(&record.payload);
            at += record.payload.len();
        }
    }
    out[directory_from..directory_from + made.bytes.len()].copy_from_slice(&made.bytes);
    let header = GroupHeader {
        at: place.at,
        length: low32(length),
        sequence: place.sequence,
        // One group is under way at a time, so all before it are durable.
        durable_below: place.sequence,
        time: place.time,
        payload_bytes: low32(payload_bytes),
        directory_bytes: low32(made.bytes.len()),
        runs: made.count,
        entries: made.entries,
        directory_checksum: place.id.seed.sum(made.at, &made.bytes),
    };
    out[..group_header::BYTES].copy_from_slice(&header.encode(place.id));
    Encoded { bytes: buffer.freeze(), runs: made.runs, trims: made.trims }
}

/// The run blocks so far.
struct Directory {
    place: Place,
    at: u32,
    bytes: Vec<u8>,
    payload_at: u32,
    count: u32,
    entries: u32,
    runs: Vec<(Owner, Run)>,
    trims: Vec<(Owner, u64)>,
}

impl Directory {
    /// Adds the operations of one owner, all records or all trims.
    fn push(&mut self, operations: &[&(Owner, Operation)]) {
        let mut entries = Vec::with_capacity(operations.len());
        let owner = operations[0].0;
        let (from, mut at) = (self.payload_at, self.payload_at);
        for (_, operation) in operations {
            match operation {
                Operation::Put(record, sum) => {
                    let length = low32(record.payload.len());
                    entries.push(EntryHead {
                        sequence: record.sequence,
                        time: record.time,
                        span: record.span,
                        length,
                        checksum: sum ^ self.place.id.seed.mask(at),
                        meta_bytes: u16::try_from(record.meta.len()).unwrap_or(u16::MAX),
                        tag: record.tag,
                    });
                    at += length;
                }
                // A later trim of the same group reaches at least as far, or says nothing.
                Operation::Trim(start) => {
                    let start = entries.pop().map_or(*start, |e: EntryHead| e.sequence.max(*start));
                    entries.push(trim_entry(start));
                }
            }
        }
        let is_trim = matches!(operations[0].1, Operation::Trim(_));
        let head = RunHead {
            owner: owner.bits(),
            kind: if is_trim { RunKind::Trim } else { RunKind::Records },
            entries: low32(entries.len()),
            payload_at: from,
            payload_bytes: at - from,
            metas_bytes: entries.iter().map(|entry| u32::from(entry.meta_bytes)).sum(),
        };
        let block_at = self.at + low32(self.bytes.len());
        let metas = operations.iter().filter_map(|(_, operation)| match operation {
            Operation::Put(record, _) => Some(&record.meta[..]),
            Operation::Trim(_) => None,
        });
        encode_run(&mut self.bytes, self.place.id.seed, block_at, &head, &entries, metas);
        if is_trim {
            self.trims.push((owner, entries[0].sequence));
        } else {
            self.runs.push((owner, Run::new(self.place.id.volume, block_at, &head, &entries)));
        }
        self.payload_at = at;
        self.count += 1;
        self.entries += head.entries;
    }
}

fn trim_entry(start: u64) -> EntryHead {
    EntryHead { sequence: start, time: 0, span: 1, length: 0, checksum: 0, meta_bytes: 0, tag: 0 }
}

/// A group whose header and directory verified.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) header: GroupHeader,
    pub(crate) runs: Vec<(Owner, Run)>,
    pub(crate) trims: Vec<(Owner, u64)>,
    /// Payloads that do not match their checksum: owner, sequence, position.
    pub(crate) damaged: Vec<(Owner, u64, u32)>,
}

impl Group {
    /// Reads the group at `at`, and verifies every byte that is served.
    pub(crate) fn decode(bytes: &[u8], id: Identity, at: u32) -> Result<Group, Bad> {
        let header = GroupHeader::decode(bytes, id, at)?;
        let bytes = bytes.get(..header.length as usize).ok_or(Bad::Short)?;
        let from = header.directory_at();
        let directory = &bytes[from..from + header.directory_bytes as usize];
        let directory_at = at + low32(from);
        verified(id.seed.sum(directory_at, directory) == header.directory_checksum)?;
        let mut group = Group { header, runs: Vec::new(), trims: Vec::new(), damaged: Vec::new() };
        let (mut done, mut entries_seen) = (0, 0_u64);
        let mut payload_at = at + low32(group_header::BYTES);
        for _ in 0..header.runs {
            let block = directory.get(done..).ok_or(Bad::Short)?;
            let block_at = directory_at + low32(done);
            let (run, entries) = decode_run(block, id.seed, block_at)?;
            entries_seen += entries.len() as u64;
            let whole = run_block_bytes_padded(run.entries, run.metas_bytes);
            field(whole <= block.len(), "metas")?;
            done += whole;
            if run.kind == RunKind::Trim {
                group.trims.push((Owner::from_bits(run.owner), entries[0].sequence));
                continue;
            }
            field(run.payload_at == payload_at, "payload")?;
            payload_at += run.payload_bytes;
            field(payload_at - at <= low32(from), "payload")?;
            group.damaged.extend(damaged(bytes, id, at, &run, &entries));
            let run = (Owner::from_bits(run.owner), Run::new(id.volume, block_at, &run, &entries));
            group.runs.push(run);
        }
        let whole = done == directory.len() && entries_seen == header.entries.into();
        field(whole, "directory")?;
        let payloads = u64::from(payload_at - at) - group_header::BYTES as u64;
        field(payloads == header.payload_bytes.into(), "payload")?;
        Ok(group)
    }

    /// Whether there is nothing wrong with it.
    pub(crate) fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// The position after it.
    pub(crate) fn end(&self) -> u32 {
        self.header.at + self.header.length
    }
}

fn damaged(
    bytes: &[u8],
    id: Identity,
    group_at: u32,
    run: &RunHead,
    entries: &[EntryHead],
) -> Vec<(Owner, u64, u32)> {
    let mut at = run.payload_at;
    let mut found = Vec::new();
    for entry in entries {
        let from = (at - group_at) as usize;
        let payload = &bytes[from..from + entry.length as usize];
        if id.seed.sum(at, payload) != entry.checksum {
            found.push((Owner::from_bits(run.owner), entry.sequence, at));
        }
        at += entry.length;
    }
    found
}

impl Run {
    pub(crate) fn new(volume: u32, block_at: u32, head: &RunHead, entries: &[EntryHead]) -> Run {
        let last = entries.last().map_or(0, |entry| entry.sequence + u64::from(entry.span));
        Run {
            first: entries.first().map_or(0, |entry| entry.sequence),
            end: last,
            time_max: entries.iter().map(|entry| entry.time).max().unwrap_or(0),
            volume,
            payload_at: head.payload_at,
            payload_bytes: head.payload_bytes,
            block_at,
            entries: head.entries,
            metas_bytes: head.metas_bytes,
        }
    }

    /// What it takes of its volume.
    pub(crate) fn bytes(&self) -> u64 {
        run_block_bytes(self.entries) as u64
            + u64::from(self.metas_bytes)
            + u64::from(self.payload_bytes)
    }
}
