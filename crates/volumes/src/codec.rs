//! Reading and writing of what `format` lays out.
//!
//! Not here: offsets (`format`), files, recovery. Invariants: no decoder panics, or allocates by a
//! number that it has not checked against the bytes at hand; what is decoded has passed its
//! checksum and does not contradict itself.

use crate::checksum::crc32c;
use crate::format::{
    BLOCK, Bad, FOOTER_MAGIC, GROUP_BYTES_MAX, GROUP_MAGIC, MANIFEST_MAGIC, Seed, VERSION,
    VOLUME_MAGIC, align8, array_at, entry, field, footer_header, footer_owner, footer_run,
    group_header, low32, manifest_entry, manifest_header, put, run_head, u32_at, u64_at, verified,
    version, volume_header,
};

/// Which life of which volume bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The volume.
    pub volume: u32,
    /// Its file's life.
    pub generation: u32,
    /// Of both and the store.
    pub seed: Seed,
}

/// See [`volume_header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeHeader {
    /// 0 written by commits, 1 by settling.
    pub kind: u8,
    /// Never used again within a store.
    pub volume: u32,
    /// How many volumes this file was before.
    pub generation: u32,
    /// The store.
    pub store: [u8; 16],
    /// Sequence of the manifest that first names the volume.
    pub manifest: u64,
    /// Nanoseconds since 1970.
    pub created: u64,
    /// Number of its first group: an earlier volume's groups from it on were never acknowledged.
    pub first_group: u64,
}

impl VolumeHeader {
    /// The volume's identity.
    pub fn identity(&self) -> Identity {
        let seed = Seed::new(&self.store, self.volume, self.generation);
        Identity { volume: self.volume, generation: self.generation, seed }
    }

    /// The first block of the volume.
    pub fn encode(&self) -> [u8; BLOCK] {
        use volume_header as at;
        let mut out = [0; BLOCK];
        put(&mut out, at::MAGIC, VOLUME_MAGIC.to_le_bytes());
        put(&mut out, at::VERSION, VERSION.to_le_bytes());
        put(&mut out, at::KIND, [self.kind]);
        put(&mut out, at::VOLUME, self.volume.to_le_bytes());
        put(&mut out, at::GENERATION, self.generation.to_le_bytes());
        put(&mut out, at::BLOCK, 4096_u32.to_le_bytes());
        put(&mut out, at::STORE, self.store);
        put(&mut out, at::MANIFEST, self.manifest.to_le_bytes());
        put(&mut out, at::CREATED, self.created.to_le_bytes());
        put(&mut out, at::FIRST_GROUP, self.first_group.to_le_bytes());
        let sum = self.identity().seed.sum(0, &out[..at::CHECKSUM]);
        put(&mut out, at::CHECKSUM, sum.to_le_bytes());
        out
    }

    /// Reads the first bytes of a volume.
    ///
    /// # Errors
    /// When they are no header that this program reads.
    pub fn decode(bytes: &[u8]) -> Result<VolumeHeader, Bad> {
        use volume_header as at;
        let bytes = bytes.get(..at::BYTES).ok_or(Bad::Short)?;
        if u64_at(bytes, at::MAGIC) != VOLUME_MAGIC {
            return Err(Bad::Magic);
        }
        version(bytes, at::VERSION)?;
        let header = VolumeHeader {
            kind: bytes[at::KIND],
            volume: u32_at(bytes, at::VOLUME),
            generation: u32_at(bytes, at::GENERATION),
            store: array_at(bytes, at::STORE),
            manifest: u64_at(bytes, at::MANIFEST),
            created: u64_at(bytes, at::CREATED),
            first_group: u64_at(bytes, at::FIRST_GROUP),
        };
        let sum = header.identity().seed.sum(0, &bytes[..at::CHECKSUM]);
        verified(sum == u32_at(bytes, at::CHECKSUM))?;
        field(u32_at(bytes, at::BLOCK) as usize == BLOCK, "block size")?;
        field(header.volume > 0 && header.kind <= 1, "volume")?;
        Ok(header)
    }
}

/// See [`group_header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Position of the group.
    pub at: u32,
    /// Its length, padding included.
    pub length: u32,
    /// One more than the group before.
    pub sequence: u64,
    /// Groups below it were durable when this was written.
    pub durable_below: u64,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Length of all payloads.
    pub payload_bytes: u32,
    /// Length of all run blocks.
    pub directory_bytes: u32,
    /// Number of runs.
    pub runs: u32,
    /// Number of entries of all runs.
    pub entries: u32,
    /// Of all run blocks.
    pub directory_checksum: u32,
}

impl GroupHeader {
    /// Position of the first run block, relative to the group.
    pub fn directory_at(&self) -> usize {
        align8(group_header::BYTES + self.payload_bytes as usize)
    }

    /// The header's bytes.
    pub fn encode(&self, id: Identity) -> [u8; group_header::BYTES] {
        use group_header as at;
        let mut out = [0; at::BYTES];
        put(&mut out, at::MAGIC, GROUP_MAGIC.to_le_bytes());
        put(&mut out, at::VERSION, VERSION.to_le_bytes());
        put(&mut out, at::VOLUME, id.volume.to_le_bytes());
        put(&mut out, at::GENERATION, id.generation.to_le_bytes());
        put(&mut out, at::AT, self.at.to_le_bytes());
        put(&mut out, at::LENGTH, self.length.to_le_bytes());
        put(&mut out, at::SEQUENCE, self.sequence.to_le_bytes());
        put(&mut out, at::DURABLE_BELOW, self.durable_below.to_le_bytes());
        put(&mut out, at::TIME, self.time.to_le_bytes());
        put(&mut out, at::PAYLOAD_BYTES, self.payload_bytes.to_le_bytes());
        put(&mut out, at::DIRECTORY_BYTES, self.directory_bytes.to_le_bytes());
        put(&mut out, at::RUNS, self.runs.to_le_bytes());
        put(&mut out, at::ENTRIES, self.entries.to_le_bytes());
        put(&mut out, at::DIRECTORY_CHECKSUM, self.directory_checksum.to_le_bytes());
        let sum = id.seed.sum(self.at, &out[..at::CHECKSUM]);
        put(&mut out, at::CHECKSUM, sum.to_le_bytes());
        out
    }

    /// Reads the header of the group at `at`.
    ///
    /// # Errors
    /// When there is none of this volume's life.
    pub fn decode(bytes: &[u8], id: Identity, at: u32) -> Result<GroupHeader, Bad> {
        use group_header as h;
        let bytes = bytes.get(..h::BYTES).ok_or(Bad::Short)?;
        if u32_at(bytes, h::MAGIC) != GROUP_MAGIC {
            return Err(Bad::Magic);
        }
        verified(id.seed.sum(at, &bytes[..h::CHECKSUM]) == u32_at(bytes, h::CHECKSUM))?;
        version(bytes, h::VERSION)?;
        let header = GroupHeader {
            at,
            length: u32_at(bytes, h::LENGTH),
            sequence: u64_at(bytes, h::SEQUENCE),
            durable_below: u64_at(bytes, h::DURABLE_BELOW),
            time: u64_at(bytes, h::TIME),
            payload_bytes: u32_at(bytes, h::PAYLOAD_BYTES),
            directory_bytes: u32_at(bytes, h::DIRECTORY_BYTES),
            runs: u32_at(bytes, h::RUNS),
            entries: u32_at(bytes, h::ENTRIES),
            directory_checksum: u32_at(bytes, h::DIRECTORY_CHECKSUM),
        };
        field(u32_at(bytes, h::VOLUME) == id.volume, "volume")?;
        field(u32_at(bytes, h::GENERATION) == id.generation, "generation")?;
        field(u32_at(bytes, h::AT) == at, "position")?;
        let length = header.length as usize;
        field(length <= GROUP_BYTES_MAX && length.is_multiple_of(BLOCK), "length")?;
        field(at.checked_add(header.length).is_some(), "length")?;
        let used = header.directory_at() as u64 + u64::from(header.directory_bytes);
        field(used <= u64::from(header.length), "length")?;
        let least = u64::from(header.runs) * run_head::BYTES as u64
            + u64::from(header.entries) * entry::BYTES as u64;
        field(header.runs > 0 && least <= u64::from(header.directory_bytes), "directory")?;
        field(header.durable_below <= header.sequence, "sequence")?;
        Ok(header)
    }
}

/// What a run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// Records.
    Records,
    /// One entry, whose sequence is the owner's new start.
    Trim,
}

/// See [`run_head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHead {
    /// Whose.
    pub owner: u64,
    /// Records or a trim.
    pub kind: RunKind,
    /// Number of entries.
    pub entries: u32,
    /// Position of the payloads in the volume.
    pub payload_at: u32,
    /// Their length.
    pub payload_bytes: u32,
    /// Length of all metas.
    pub metas_bytes: u32,
}

/// See [`entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// The owner's sequence.
    pub sequence: u64,
    /// The owner's time.
    pub time: u64,
    /// Sequences covered.
    pub span: u32,
    /// Length of the payload.
    pub length: u32,
    /// Of the payload, masked.
    pub checksum: u32,
    /// Length of the meta.
    pub meta_bytes: u16,
    /// The owner's.
    pub tag: u16,
}

/// Length of a run block up to its metas.
pub fn run_block_bytes(entries: u32) -> usize {
    run_head::BYTES + entries as usize * entry::BYTES
}

/// Length of a run block with metas and padding.
pub fn run_block_bytes_padded(entries: u32, metas_bytes: u32) -> usize {
    align8(run_block_bytes(entries) + metas_bytes as usize)
}

/// Writes a run block at position `at` of the volume to the end of `out`. `metas` gives the bytes
/// of every entry's meta, in order.
pub fn encode_run<'a>(
    out: &mut Vec<u8>,
    seed: Seed,
    at: u32,
    head: &RunHead,
    entries: &[EntryHead],
    metas: impl Iterator<Item = &'a [u8]>,
) {
    use run_head as h;
    debug_assert_eq!(head.entries as usize, entries.len());
    let from = out.len();
    let metas_from = from + run_block_bytes(head.entries);
    out.resize(metas_from, 0);
    for (entry, bytes) in entries.iter().zip(out[from + h::BYTES..].chunks_exact_mut(entry::BYTES))
    {
        encode_entry(bytes, entry);
    }
    for meta in metas {
        out.extend_from_slice(meta);
    }
    debug_assert_eq!(out.len() - metas_from, head.metas_bytes as usize);
    let metas_at = at.wrapping_add(low32(metas_from - from));
    let metas_sum = seed.sum(metas_at, &out[metas_from..]);
    let kind: u16 = if head.kind == RunKind::Trim { 1 } else { 0 };
    let block = &mut out[from..metas_from];
    put(block, h::OWNER, head.owner.to_le_bytes());
    put(block, h::KIND, kind.to_le_bytes());
    put(block, h::ENTRIES, head.entries.to_le_bytes());
    put(block, h::PAYLOAD_AT, head.payload_at.to_le_bytes());
    put(block, h::PAYLOAD_BYTES, head.payload_bytes.to_le_bytes());
    put(block, h::METAS_BYTES, head.metas_bytes.to_le_bytes());
    put(block, h::METAS_CHECKSUM, metas_sum.to_le_bytes());
    let sum = run_sum(seed, at, block);
    put(block, h::CHECKSUM, sum.to_le_bytes());
    out.resize(from + align8(out.len() - from), 0);
}

fn encode_entry(out: &mut [u8], entry: &EntryHead) {
    use crate::format::entry as e;
    put(out, e::SEQUENCE, entry.sequence.to_le_bytes());
    put(out, e::TIME, entry.time.to_le_bytes());
    put(out, e::SPAN, entry.span.to_le_bytes());
    put(out, e::LENGTH, entry.length.to_le_bytes());
    put(out, e::CHECKSUM, entry.checksum.to_le_bytes());
    put(out, e::META_BYTES, entry.meta_bytes.to_le_bytes());
    put(out, e::TAG, entry.tag.to_le_bytes());
}

/// Of everything after the checksum itself.
fn run_sum(seed: Seed, at: u32, block: &[u8]) -> u32 {
    const FROM: usize = run_head::CHECKSUM + 4;
    seed.sum(at.wrapping_add(low32(FROM)), &block[FROM..])
}

/// Reads the head and entries of the run block at `at`.
///
/// # Errors
/// When the bytes are no such block, or its numbers contradict each other.
pub fn decode_run(bytes: &[u8], seed: Seed, at: u32) -> Result<(RunHead, Vec<EntryHead>), Bad> {
    use run_head as h;
    let head = bytes.get(..h::BYTES).ok_or(Bad::Short)?;
    let count = u32_at(head, h::ENTRIES);
    let length = u64::from(count) * entry::BYTES as u64 + h::BYTES as u64;
    let length = usize::try_from(length).map_err(|_| Bad::Short)?;
    let block = bytes.get(..length).ok_or(Bad::Short)?;
    verified(run_sum(seed, at, block) == u32_at(head, h::CHECKSUM))?;
    let kind = match array_at::<2>(head, h::KIND) {
        [0, 0] => RunKind::Records,
        [1, 0] => RunKind::Trim,
        _ => return Err(Bad::Field("kind")),
    };
    let run = RunHead {
        owner: u64_at(head, h::OWNER),
        kind,
        entries: count,
        payload_at: u32_at(head, h::PAYLOAD_AT),
        payload_bytes: u32_at(head, h::PAYLOAD_BYTES),
        metas_bytes: u32_at(head, h::METAS_BYTES),
    };
    let entries: Vec<_> = block[h::BYTES..].chunks_exact(entry::BYTES).map(decode_entry).collect();
    check_run(&run, &entries)?;
    Ok((run, entries))
}

fn decode_entry(bytes: &[u8]) -> EntryHead {
    use entry as e;
    EntryHead {
        sequence: u64_at(bytes, e::SEQUENCE),
        time: u64_at(bytes, e::TIME),
        span: u32_at(bytes, e::SPAN),
        length: u32_at(bytes, e::LENGTH),
        checksum: u32_at(bytes, e::CHECKSUM),
        meta_bytes: u16::from_le_bytes(array_at(bytes, e::META_BYTES)),
        tag: u16::from_le_bytes(array_at(bytes, e::TAG)),
    }
}

fn check_run(run: &RunHead, entries: &[EntryHead]) -> Result<(), Bad> {
    field(!entries.is_empty(), "entries")?;
    if run.kind == RunKind::Trim {
        let alone = entries.len() == 1 && run.payload_bytes == 0 && run.metas_bytes == 0;
        return field(alone && entries[0].length == 0, "trim");
    }
    let (mut payload, mut metas, mut next) = (0_u64, 0_u64, 0_u64);
    for entry in entries {
        field(entry.sequence >= next && entry.span > 0, "sequences")?;
        next = entry.sequence.checked_add(entry.span.into()).ok_or(Bad::Field("sequences"))?;
        payload += u64::from(entry.length);
        metas += u64::from(entry.meta_bytes);
    }
    field(payload == run.payload_bytes.into(), "payload")?;
    field(metas == run.metas_bytes.into(), "metas")?;
    field(run.payload_at.checked_add(run.payload_bytes).is_some(), "payload")
}

/// The metas of a run, verified; `block` begins with the run block and holds them.
///
/// # Errors
/// When they are cut short or damaged.
pub fn metas<'a>(block: &'a [u8], seed: Seed, at: u32, head: &RunHead) -> Result<&'a [u8], Bad> {
    let from = run_block_bytes(head.entries);
    let metas = block.get(from..from + head.metas_bytes as usize).ok_or(Bad::Short)?;
    let stored = u32_at(block, run_head::METAS_CHECKSUM);
    verified(seed.sum(at.wrapping_add(low32(from)), metas) == stored)?;
    Ok(metas)
}

/// See [`footer_run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterRun {
    /// Whose.
    pub owner: u64,
    /// Sequence of the first record.
    pub first: u64,
    /// One past the last sequence.
    pub end: u64,
    /// Highest time of its entries.
    pub time_max: u64,
    /// Position of the payloads.
    pub payload_at: u32,
    /// Their length.
    pub payload_bytes: u32,
    /// Position of the run block.
    pub block_at: u32,
    /// Number of entries.
    pub entries: u32,
    /// Length of the metas.
    pub metas_bytes: u32,
}

/// Where an owner stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterOwner {
    /// Who.
    pub owner: u64,
    /// Below it everything is given up.
    pub start: u64,
    /// One past the highest sequence ever taken.
    pub end: u64,
}

/// A footer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// Sequence of the first group.
    pub first_group: u64,
    /// One past the last.
    pub next_group: u64,
    /// By owner and first sequence.
    pub runs: Vec<FooterRun>,
    /// Where every owner of the store stood.
    pub owners: Vec<FooterOwner>,
}

impl Footer {
    /// The footer's bytes for position `at`, a whole number of blocks.
    pub fn encode(&self, id: Identity, at: u32) -> Vec<u8> {
        use footer_header as h;
        let body = self.runs.len() * footer_run::BYTES + self.owners.len() * footer_owner::BYTES;
        let mut out = vec![0; (h::BYTES + body).next_multiple_of(BLOCK)];
        let length = low32(out.len());
        let (runs, rest) = out[h::BYTES..].split_at_mut(self.runs.len() * footer_run::BYTES);
        for (run, bytes) in self.runs.iter().zip(runs.chunks_exact_mut(footer_run::BYTES)) {
            encode_footer_run(bytes, run);
        }
        for (owner, bytes) in self.owners.iter().zip(rest.chunks_exact_mut(footer_owner::BYTES)) {
            put(bytes, footer_owner::OWNER, owner.owner.to_le_bytes());
            put(bytes, footer_owner::START, owner.start.to_le_bytes());
            put(bytes, footer_owner::END, owner.end.to_le_bytes());
        }
        let body_at = at.wrapping_add(low32(h::BYTES));
        let body_sum = id.seed.sum(body_at, &out[h::BYTES..h::BYTES + body]);
        put(&mut out, h::MAGIC, FOOTER_MAGIC.to_le_bytes());
        put(&mut out, h::VERSION, VERSION.to_le_bytes());
        put(&mut out, h::VOLUME, id.volume.to_le_bytes());
        put(&mut out, h::GENERATION, id.generation.to_le_bytes());
        put(&mut out, h::AT, at.to_le_bytes());
        put(&mut out, h::LENGTH, length.to_le_bytes());
        put(&mut out, h::RUNS, low32(self.runs.len()).to_le_bytes());
        put(&mut out, h::OWNERS, low32(self.owners.len()).to_le_bytes());
        put(&mut out, h::FIRST_GROUP, self.first_group.to_le_bytes());
        put(&mut out, h::NEXT_GROUP, self.next_group.to_le_bytes());
        put(&mut out, h::BODY_CHECKSUM, body_sum.to_le_bytes());
        let sum = id.seed.sum(at, &out[..h::CHECKSUM]);
        put(&mut out, h::CHECKSUM, sum.to_le_bytes());
        out
    }

    /// The length that the header of a footer at `at` gives it.
    ///
    /// # Errors
    /// When there is no such header.
    pub fn length(bytes: &[u8], id: Identity, at: u32) -> Result<usize, Bad> {
        use footer_header as h;
        let bytes = bytes.get(..h::BYTES).ok_or(Bad::Short)?;
        if u32_at(bytes, h::MAGIC) != FOOTER_MAGIC {
            return Err(Bad::Magic);
        }
        verified(id.seed.sum(at, &bytes[..h::CHECKSUM]) == u32_at(bytes, h::CHECKSUM))?;
        version(bytes, h::VERSION)?;
        field(u32_at(bytes, h::AT) == at, "position")?;
        let length = u32_at(bytes, h::LENGTH) as usize;
        field(length.is_multiple_of(BLOCK), "length")?;
        field(footer_body_bytes(bytes) + h::BYTES as u64 <= length as u64, "length")?;
        Ok(length)
    }

    /// Reads the footer at `at`.
    ///
    /// # Errors
    /// When the bytes are no such footer.
    pub fn decode(bytes: &[u8], id: Identity, at: u32) -> Result<Footer, Bad> {
        use footer_header as h;
        let length = Footer::length(bytes, id, at)?;
        let bytes = bytes.get(..length).ok_or(Bad::Short)?;
        let body = usize::try_from(footer_body_bytes(bytes)).map_err(|_| Bad::Short)?;
        let body = bytes.get(h::BYTES..h::BYTES + body).ok_or(Bad::Short)?;
        let body_at = at.wrapping_add(low32(h::BYTES));
        verified(id.seed.sum(body_at, body) == u32_at(bytes, h::BODY_CHECKSUM))?;
        let (runs, owners) = body.split_at(u32_at(bytes, h::RUNS) as usize * footer_run::BYTES);
        let footer = Footer {
            first_group: u64_at(bytes, h::FIRST_GROUP),
            next_group: u64_at(bytes, h::NEXT_GROUP),
            runs: runs.chunks_exact(footer_run::BYTES).map(decode_footer_run).collect(),
            owners: owners.chunks_exact(footer_owner::BYTES).map(decode_footer_owner).collect(),
        };
        footer.check(at)?;
        Ok(footer)
    }

    fn check(&self, at: u32) -> Result<(), Bad> {
        field(self.first_group <= self.next_group, "groups")?;
        let below = |from: u32, length: u64| u64::from(from) + length <= u64::from(at);
        let mut before: Option<&FooterRun> = None;
        for run in &self.runs {
            let block = run_block_bytes(run.entries) as u64 + u64::from(run.metas_bytes);
            field(below(run.payload_at, run.payload_bytes.into()), "runs")?;
            field(below(run.block_at, block) && run.entries > 0, "runs")?;
            field(run.first < run.end, "runs")?;
            let ordered = before.is_none_or(|before| {
                before.owner < run.owner || (before.owner == run.owner && before.end <= run.first)
            });
            field(ordered, "order of runs")?;
            before = Some(run);
        }
        field(self.owners.iter().all(|owner| owner.start <= owner.end), "owners")
    }
}

fn footer_body_bytes(header: &[u8]) -> u64 {
    u64::from(u32_at(header, footer_header::RUNS)) * footer_run::BYTES as u64
        + u64::from(u32_at(header, footer_header::OWNERS)) * footer_owner::BYTES as u64
}

fn encode_footer_run(out: &mut [u8], run: &FooterRun) {
    use footer_run as r;
    put(out, r::OWNER, run.owner.to_le_bytes());
    put(out, r::FIRST, run.first.to_le_bytes());
    put(out, r::END, run.end.to_le_bytes());
    put(out, r::TIME_MAX, run.time_max.to_le_bytes());
    put(out, r::PAYLOAD_AT, run.payload_at.to_le_bytes());
    put(out, r::PAYLOAD_BYTES, run.payload_bytes.to_le_bytes());
    put(out, r::BLOCK_AT, run.block_at.to_le_bytes());
    put(out, r::ENTRIES, run.entries.to_le_bytes());
    put(out, r::METAS_BYTES, run.metas_bytes.to_le_bytes());
}

fn decode_footer_run(bytes: &[u8]) -> FooterRun {
    use footer_run as r;
    FooterRun {
        owner: u64_at(bytes, r::OWNER),
        first: u64_at(bytes, r::FIRST),
        end: u64_at(bytes, r::END),
        time_max: u64_at(bytes, r::TIME_MAX),
        payload_at: u32_at(bytes, r::PAYLOAD_AT),
        payload_bytes: u32_at(bytes, r::PAYLOAD_BYTES),
        block_at: u32_at(bytes, r::BLOCK_AT),
        entries: u32_at(bytes, r::ENTRIES),
        metas_bytes: u32_at(bytes, r::METAS_BYTES),
    }
}

fn decode_footer_owner(bytes: &[u8]) -> FooterOwner {
    FooterOwner {
        owner: u64_at(bytes, footer_owner::OWNER),
        start: u64_at(bytes, footer_owner::START),
        end: u64_at(bytes, footer_owner::END),
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No volume; its blocks are written and may be used again.
    Free,
    /// It takes groups, or did until something ended that.
    Open,
    /// Complete, with a footer.
    Sealed,
    /// Something in it is bad: read where it verifies, never used again, never deleted unasked.
    Quarantined,
    /// Nothing in it counts any more; it will be free or gone.
    Retired,
}

/// See [`manifest_entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The file.
    pub slot: u32,
    /// The volume in it; zero in a free one.
    pub volume: u32,
    /// The file's life.
    pub generation: u32,
    /// 0 written by commits, 1 by settling.
    pub kind: u8,
    /// What the file is.
    pub state: State,
    /// Position of the footer; of a quarantined volume, where what counts ends.
    pub footer_at: u32,
}

/// See [`manifest_header`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// One more with each change.
    pub sequence: u64,
    /// The store.
    pub store: [u8; 16],
    /// The lowest id that was never used.
    pub next_volume: u32,
    /// Groups below it are in sealed volumes, settled, or given up.
    pub sealed_below: u64,
    /// Every file.
    pub entries: Vec<ManifestEntry>,
}

impl Manifest {
    /// The manifest's bytes.
    pub fn encode(&self) -> Vec<u8> {
        use manifest_header as h;
        let mut out = vec![0; h::BYTES + self.entries.len() * manifest_entry::BYTES];
        for (entry, bytes) in
            self.entries.iter().zip(out[h::BYTES..].chunks_exact_mut(manifest_entry::BYTES))
        {
            encode_manifest_entry(bytes, entry);
        }
        put(&mut out, h::MAGIC, MANIFEST_MAGIC.to_le_bytes());
        put(&mut out, h::VERSION, VERSION.to_le_bytes());
        put(&mut out, h::ENTRIES, low32(self.entries.len()).to_le_bytes());
        put(&mut out, h::SEQUENCE, self.sequence.to_le_bytes());
        put(&mut out, h::STORE, self.store);
        put(&mut out, h::NEXT_VOLUME, self.next_volume.to_le_bytes());
        put(&mut out, h::SEALED_BELOW, self.sealed_below.to_le_bytes());
        let sum = manifest_sum(&out);
        put(&mut out, h::CHECKSUM, sum.to_le_bytes());
        out
    }

    /// Reads a manifest; what follows it does not matter.
    ///
    /// # Errors
    /// When the bytes are none that this program reads.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Bad> {
        use manifest_header as h;
        let header = bytes.get(..h::BYTES).ok_or(Bad::Short)?;
        if u64_at(header, h::MAGIC) != MANIFEST_MAGIC {
            return Err(Bad::Magic);
        }
        version(header, h::VERSION)?;
        let count = u64::from(u32_at(header, h::ENTRIES));
        let length = h::BYTES as u64 + count * manifest_entry::BYTES as u64;
        let length = usize::try_from(length).map_err(|_| Bad::Short)?;
        let bytes = bytes.get(..length).ok_or(Bad::Short)?;
        verified(manifest_sum(bytes) == u32_at(header, h::CHECKSUM))?;
        let entries = bytes[h::BYTES..].chunks_exact(manifest_entry::BYTES);
        let entries = entries.map(decode_manifest_entry).collect::<Result<Vec<_>, Bad>>()?;
        let next_volume = u32_at(header, h::NEXT_VOLUME);
        field(entries.iter().all(|entry| entry.volume < next_volume), "volumes")?;
        let (sequence, store) = (u64_at(header, h::SEQUENCE), array_at(header, h::STORE));
        let sealed_below = u64_at(header, h::SEALED_BELOW);
        Ok(Manifest { sequence, store, next_volume, sealed_below, entries })
    }
}

/// Of everything after the checksum itself.
fn manifest_sum(bytes: &[u8]) -> u32 {
    crc32c(&bytes[manifest_header::CHECKSUM + 4..])
}

fn encode_manifest_entry(out: &mut [u8], entry: &ManifestEntry) {
    use manifest_entry as m;
    put(out, m::SLOT, entry.slot.to_le_bytes());
    put(out, m::VOLUME, entry.volume.to_le_bytes());
    put(out, m::GENERATION, entry.generation.to_le_bytes());
    put(out, m::KIND, [entry.kind]);
    put(out, m::STATE, [entry.state as u8]);
    put(out, m::FOOTER_AT, entry.footer_at.to_le_bytes());
}

fn decode_manifest_entry(bytes: &[u8]) -> Result<ManifestEntry, Bad> {
    use manifest_entry as m;
    let state = match bytes[m::STATE] {
        0 => State::Free,
        1 => State::Open,
        2 => State::Sealed,
        3 => State::Quarantined,
        4 => State::Retired,
        _ => return Err(Bad::Field("state")),
    };
    let entry = ManifestEntry {
        slot: u32_at(bytes, m::SLOT),
        volume: u32_at(bytes, m::VOLUME),
        generation: u32_at(bytes, m::GENERATION),
        kind: bytes[m::KIND],
        state,
        footer_at: u32_at(bytes, m::FOOTER_AT),
    };
    field((entry.volume == 0) == (state == State::Free) && entry.kind <= 1, "volume")?;
    Ok(entry)
}
