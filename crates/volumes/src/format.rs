//! What is on disk, to the byte: the one file that knows an offset.
//!
//! Not here: reading and writing it (`codec`), files, order of writes, recovery. Everything is little-endian; lengths and positions
//! are bytes; positions inside a volume count from its first byte and fit in 32 bits.
//!
//! A **store** is a folder with `manifest-a` and `manifest-b` (the same manifest twice, written one
//! after the other; the valid one with the highest sequence counts) and volumes, `volume-SLOT`.
//! A **volume** is
//!
//! ```text
//! [volume header, one block] [group] [group] … [footer, when sealed] [anything]
//! ```
//!
//! A **group** is what one flush made durable, a whole number of blocks long:
//!
//! ```text
//! [header 96] [payloads of run 0, of run 1, …] [0 to 7 zeros] [run block 0] [run block 1] … [zeros]
//! ```
//!
//! A **run** is what one owner has in one group: its payloads lie side by side in the owner's
//! order, and its run block says what they are:
//!
//! ```text
//! [head 40] [entry 32] × entries [metas of every entry, side by side] [0 to 7 zeros]
//! ```
//!
//! A **footer** lists the runs of a sealed volume (56 each) and where every owner stood (24 each).
//!
//! **What counts.** The manifest's sealed volumes hold the runs that their footers list, and nothing
//! else. An open volume of kind 0 holds its groups, read one after the other from the second block
//! on, each numbered one more than the one before, up to the first place where no such group
//! verifies; groups whose number is not below the next such volume's `FIRST_GROUP` do not count. If
//! any later group header of the volume says that the missing one was durable, the place is damaged
//! and reading goes on there. A quarantined volume is read the same way up to `FOOTER_AT`, and what
//! other volumes hold too does not count in it. Open volumes of kind 1, retired and free ones hold
//! nothing. Of all trims and footers the highest start of an owner counts: what ends at or below it
//! is given up.
//!
//! **Checksums** are CRC-32C (reflected, polynomial 0x1EDC6F41) of the bytes, XORed with a mask:
//! the CRC-32C of the volume's seed and the position of those bytes in the volume, where the seed
//! is the CRC-32C of store id, volume id and generation. So bytes from a file's earlier life, from
//! another volume, another store or another place never verify. What is in a manifest has no mask.

use crate::checksum::crc32c;

/// Version of everything below. A reader refuses what is newer.
pub const VERSION: u16 = 1;

/// Volumes are written in blocks of this size, and no block twice once it is acknowledged.
pub const BLOCK: usize = 4096;

/// Longest group, padding included: nothing longer is written or believed.
pub const GROUP_BYTES_MAX: usize = (16 << 20) + (64 << 10);

/// Volume header: the first block of a volume. The rest of the block is zeros.
pub mod volume_header {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const MAGIC: usize = 0; // u64, "MSVOLUME"
    pub const VERSION: usize = 8; // u16
    pub const KIND: usize = 10; // u8: 0 written by commits, 1 written by settling
    pub const VOLUME: usize = 12; // u32, never used again within a store
    pub const GENERATION: usize = 16; // u32, how many volumes this file was before
    pub const BLOCK: usize = 20; // u32, 4096
    pub const STORE: usize = 24; // 16 bytes, chosen at random with the store
    pub const MANIFEST: usize = 40; // u64, sequence of the manifest that first names the volume
    pub const CREATED: usize = 48; // u64, nanoseconds since 1970
    pub const FIRST_GROUP: usize = 56; // u64, number of the first group of a volume of kind 0
    pub const CHECKSUM: usize = 92; // u32, of the 92 bytes before, masked
    pub const BYTES: usize = 96;
}

/// Header of a group.
pub mod group_header {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const MAGIC: usize = 0; // u32, "MSGR"
    pub const VERSION: usize = 4; // u16
    pub const FLAGS: usize = 6; // u16, zero
    pub const VOLUME: usize = 8; // u32
    pub const GENERATION: usize = 12; // u32
    pub const AT: usize = 16; // u32, position of this header
    pub const LENGTH: usize = 20; // u32, of the whole group, padding included
    pub const SEQUENCE: usize = 24; // u64, one more than the group before, across volumes
    pub const DURABLE_BELOW: usize = 32; // u64, groups below it were durable when this was written
    pub const TIME: usize = 40; // u64, nanoseconds since 1970
    pub const PAYLOAD_BYTES: usize = 48; // u32
    pub const DIRECTORY_BYTES: usize = 52; // u32, all run blocks
    pub const RUNS: usize = 56; // u32
    pub const ENTRIES: usize = 60; // u32, of all runs
    pub const DIRECTORY_CHECKSUM: usize = 64; // u32, of all run blocks, masked by their position
    pub const CHECKSUM: usize = 92; // u32, of the 92 bytes before, masked
    pub const BYTES: usize = 96;
}

/// Head of a run block.
pub mod run_head {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const CHECKSUM: usize = 0; // u32, of what follows up to the metas, masked by its position
    pub const ENTRIES: usize = 4; // u32
    pub const OWNER: usize = 8; // u64
    pub const KIND: usize = 16; // u16: 0 records, 1 trim (one entry, its sequence the new start)
    pub const PAYLOAD_AT: usize = 20; // u32, position in the volume
    pub const PAYLOAD_BYTES: usize = 24; // u32, the sum of the entries' lengths
    pub const METAS_BYTES: usize = 28; // u32, the sum of the entries' meta lengths
    pub const METAS_CHECKSUM: usize = 32; // u32, of the metas, masked by their position
    pub const BYTES: usize = 40;
}

/// One record of a run.
pub mod entry {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const SEQUENCE: usize = 0; // u64, the owner's
    pub const TIME: usize = 8; // u64, the owner's
    pub const SPAN: usize = 16; // u32, how many sequences it covers, at least 1
    pub const LENGTH: usize = 20; // u32, of the payload
    pub const CHECKSUM: usize = 24; // u32, of the payload, masked by its position
    pub const META_BYTES: usize = 28; // u16
    pub const TAG: usize = 30; // u16, the owner's
    pub const BYTES: usize = 32;
}

/// Header of a footer, which is a whole number of blocks long: header, runs, owners, zeros.
pub mod footer_header {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const MAGIC: usize = 0; // u32, "MSFT"
    pub const VERSION: usize = 4; // u16
    pub const VOLUME: usize = 8; // u32
    pub const GENERATION: usize = 12; // u32
    pub const AT: usize = 16; // u32, position of this header
    pub const LENGTH: usize = 20; // u32, of the whole footer, padding included
    pub const RUNS: usize = 24; // u32
    pub const OWNERS: usize = 28; // u32
    pub const FIRST_GROUP: usize = 32; // u64, sequence of the first group
    pub const NEXT_GROUP: usize = 40; // u64, one past the last
    pub const BODY_CHECKSUM: usize = 48; // u32, of runs and owners, masked by their position
    pub const CHECKSUM: usize = 92; // u32, of the 92 bytes before, masked
    pub const BYTES: usize = 96;
}

/// One run as a footer lists it, by owner and first sequence.
pub mod footer_run {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const OWNER: usize = 0; // u64
    pub const FIRST: usize = 8; // u64, sequence of the first record
    pub const END: usize = 16; // u64, one past the last sequence
    pub const TIME_MAX: usize = 24; // u64
    pub const PAYLOAD_AT: usize = 32; // u32
    pub const PAYLOAD_BYTES: usize = 36; // u32
    pub const BLOCK_AT: usize = 40; // u32, position of the run block
    pub const ENTRIES: usize = 44; // u32
    pub const METAS_BYTES: usize = 48; // u32
    pub const BYTES: usize = 56;
}

/// Where an owner stood when a footer was written.
pub mod footer_owner {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const OWNER: usize = 0; // u64
    pub const START: usize = 8; // u64, below it everything is given up
    pub const END: usize = 16; // u64, one past the highest sequence ever taken
    pub const BYTES: usize = 24;
}

/// The manifest: which files are volumes, and which of them count.
pub mod manifest_header {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const MAGIC: usize = 0; // u64, "MSSTORE\0"
    pub const CHECKSUM: usize = 8; // u32, of what follows, entries included, not masked
    pub const VERSION: usize = 12; // u16
    pub const ENTRIES: usize = 16; // u32
    pub const NEXT_VOLUME: usize = 20; // u32, the lowest id that was never used
    pub const SEQUENCE: usize = 24; // u64, one more with each change
    pub const SEALED_BELOW: usize = 32; // u64, groups below it are sealed, settled or given up
    pub const STORE: usize = 40; // 16 bytes
    pub const BYTES: usize = 56;
}

/// One file as the manifest knows it.
pub mod manifest_entry {
    #![allow(missing_docs, reason = "a table of offsets; the comments say more")]
    pub const SLOT: usize = 0; // u32, the file's name
    pub const VOLUME: usize = 4; // u32, zero for a free file
    pub const GENERATION: usize = 8; // u32
    pub const KIND: usize = 12; // u8, as in the volume's header
    pub const STATE: usize = 13; // u8: 0 free, 1 open, 2 sealed, 3 quarantined, 4 retired
    pub const FOOTER_AT: usize = 16; // u32, of the footer; of a quarantined volume, where what counts ends
    pub const BYTES: usize = 24;
}

/// First bytes of a volume.
pub const VOLUME_MAGIC: u64 = u64::from_le_bytes(*b"MSVOLUME");
/// First bytes of a group.
pub const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"MSGR");
/// First bytes of a footer.
pub const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"MSFT");
/// First bytes of a manifest.
pub const MANIFEST_MAGIC: u64 = u64::from_le_bytes(*b"MSSTORE\0");

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Fewer bytes than it needs.
    #[error("is cut short")]
    Short,
    /// It begins with something else.
    #[error("does not begin with its magic number")]
    Magic,
    /// A newer program wrote it.
    #[error("has format version {0}, and this program reads up to {VERSION}")]
    Version(u16),
    /// Damaged, stale or from elsewhere.
    #[error("does not match its checksum")]
    Checksum,
    /// Its checksum is right and its content cannot be.
    #[error("says something impossible about its {0}")]
    Field(&'static str),
}

/// What the checksums of a volume are masked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// The seed of one life of one volume of one store.
    pub fn new(store: &[u8; 16], volume: u32, generation: u32) -> Seed {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(store);
        bytes[16..20].copy_from_slice(&volume.to_le_bytes());
        bytes[20..].copy_from_slice(&generation.to_le_bytes());
        Seed(crc32c(&bytes))
    }

    /// What a plain CRC-32C of bytes at `at` is XORed with to be stored, and back.
    pub fn mask(self, at: u32) -> u32 {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.0.to_le_bytes());
        bytes[4..].copy_from_slice(&at.to_le_bytes());
        crc32c(&bytes)
    }

    /// The checksum of `bytes` at `at`.
    pub fn sum(self, at: u32, bytes: &[u8]) -> u32 {
        crc32c(bytes) ^ self.mask(at)
    }
}

/// `length` and what it takes to the next multiple of 8.
pub fn align8(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// A length inside a volume, which is below 4 GiB by [`crate::Options`] and [`GROUP_BYTES_MAX`].
pub(crate) fn low32(length: usize) -> u32 {
    debug_assert!(u32::try_from(length).is_ok());
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(crate) fn verified(holds: bool) -> Result<(), Bad> {
    if holds { Ok(()) } else { Err(Bad::Checksum) }
}

pub(crate) fn field(holds: bool, what: &'static str) -> Result<(), Bad> {
    if holds { Ok(()) } else { Err(Bad::Field(what)) }
}

pub(crate) fn version(bytes: &[u8], at: usize) -> Result<(), Bad> {
    let version = u16::from_le_bytes(array_at(bytes, at));
    if version == VERSION { Ok(()) } else { Err(Bad::Version(version)) }
}

pub(crate) fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

/// Callers have checked that the bytes are there.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
