//! What must hold for any bytes on the disk.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use base::ManualClock;
use bytes::Bytes;

use crate::batch::{Batch, Owner, Record};
use crate::codec::{Footer, GroupHeader, Identity, Manifest, VolumeHeader, decode_run, metas};
use crate::disk::{Disk, DiskFile, WriteFailed};
use crate::format::{
    BLOCK, FOOTER_MAGIC, GROUP_MAGIC, MANIFEST_MAGIC, Seed, VERSION, VOLUME_MAGIC, footer_header,
    group_header, low32, manifest_header, put, run_head, u32_at, volume_header,
};
use crate::group::Group;
use crate::store::{Options, Volumes};
use crate::sync::lock;

/// One structure: a byte says which, the rest is it. Magic numbers and checksums are put right
/// first, or nothing would get past them.
///
/// # Panics
/// When what was read is another after it was written and read again.
pub fn volume_format(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let seed = Seed::new(&[7; 16], 1, 2);
    let id = Identity { volume: 1, generation: 2, seed };
    let mut bytes = bytes.to_vec();
    match kind % 5 {
        0 => volume(&mut bytes),
        1 => group(&mut bytes, id),
        2 => run(&mut bytes, seed),
        3 => footer(&mut bytes, id),
        _ => manifest(&mut bytes),
    }
}

fn volume(bytes: &mut [u8]) {
    use volume_header as h;
    if bytes.len() < h::BYTES {
        assert!(VolumeHeader::decode(bytes).is_err());
        return;
    }
    put(bytes, h::MAGIC, VOLUME_MAGIC.to_le_bytes());
    put(bytes, h::VERSION, VERSION.to_le_bytes());
    let mut store = [0; 16];
    store.copy_from_slice(&bytes[h::STORE..h::STORE + 16]);
    let seed = Seed::new(&store, u32_at(bytes, h::VOLUME), u32_at(bytes, h::GENERATION));
    let sum = seed.sum(0, &bytes[..h::CHECKSUM]);
    put(bytes, h::CHECKSUM, sum.to_le_bytes());
    if let Ok(header) = VolumeHeader::decode(bytes) {
        assert_eq!(VolumeHeader::decode(&header.encode()), Ok(header));
    }
}

fn group(bytes: &mut Vec<u8>, id: Identity) {
    use group_header as h;
    if bytes.len() < h::BYTES {
        return;
    }
    let at = low32(BLOCK);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    put(bytes, h::MAGIC, GROUP_MAGIC.to_le_bytes());
    put(bytes, h::VERSION, VERSION.to_le_bytes());
    put(bytes, h::VOLUME, id.volume.to_le_bytes());
    put(bytes, h::GENERATION, id.generation.to_le_bytes());
    put(bytes, h::AT, at.to_le_bytes());
    let length = low32(bytes.len());
    put(bytes, h::LENGTH, length.to_le_bytes());
    for _ in 0..2 {
        let sum = id.seed.sum(at, &bytes[..h::CHECKSUM]);
        put(bytes, h::CHECKSUM, sum.to_le_bytes());
        let Ok(header) = GroupHeader::decode(bytes, id, at) else { return };
        assert_eq!(GroupHeader::decode(&header.encode(id), id, at), Ok(header));
        let from = header.directory_at();
        let directory = &bytes[from..from + header.directory_bytes as usize];
        let sum = id.seed.sum(at + low32(from), directory);
        put(bytes, h::DIRECTORY_CHECKSUM, sum.to_le_bytes());
    }
    if let Ok(group) = Group::decode(bytes, id, at) {
        for (_, run) in &group.runs {
            assert!(run.first < run.end && run.entries > 0);
        }
    }
}

fn run(bytes: &mut [u8], seed: Seed) {
    use run_head as h;
    if bytes.len() < h::BYTES {
        return;
    }
    let entries = u32_at(bytes, h::ENTRIES) % 64;
    put(bytes, h::ENTRIES, entries.to_le_bytes());
    let length = crate::codec::run_block_bytes(entries).min(bytes.len());
    let sum = seed.sum(4096 + 4, &bytes[4..length]);
    put(bytes, h::CHECKSUM, sum.to_le_bytes());
    if let Ok((head, entries)) = decode_run(bytes, seed, 4096) {
        assert_eq!(entries.len(), head.entries as usize);
        let _ = metas(bytes, seed, 4096, &head);
    }
}

fn footer(bytes: &mut Vec<u8>, id: Identity) {
    use footer_header as h;
    if bytes.len() < h::BYTES {
        return;
    }
    let at: u32 = 1 << 20;
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    put(bytes, h::MAGIC, FOOTER_MAGIC.to_le_bytes());
    put(bytes, h::VERSION, VERSION.to_le_bytes());
    put(bytes, h::AT, at.to_le_bytes());
    let length = low32(bytes.len());
    put(bytes, h::LENGTH, length.to_le_bytes());
    let (runs, owners) = (u32_at(bytes, h::RUNS) % 40, u32_at(bytes, h::OWNERS) % 40);
    put(bytes, h::RUNS, runs.to_le_bytes());
    put(bytes, h::OWNERS, owners.to_le_bytes());
    let body = h::BYTES..h::BYTES + runs as usize * 56 + owners as usize * 24;
    if let Some(body) = bytes.get(body) {
        let sum = id.seed.sum(at + low32(h::BYTES), body);
        put(bytes, h::BODY_CHECKSUM, sum.to_le_bytes());
    }
    let sum = id.seed.sum(at, &bytes[..h::CHECKSUM]);
    put(bytes, h::CHECKSUM, sum.to_le_bytes());
    if let Ok(footer) = Footer::decode(bytes, id, at) {
        assert_eq!(Footer::decode(&footer.encode(id, at), id, at), Ok(footer));
    }
}

fn manifest(bytes: &mut [u8]) {
    use manifest_header as h;
    if bytes.len() < h::BYTES {
        return;
    }
    let fits = (bytes.len() - h::BYTES) / 24;
    put(bytes, h::MAGIC, MANIFEST_MAGIC.to_le_bytes());
    put(bytes, h::VERSION, VERSION.to_le_bytes());
    let count = u32_at(bytes, h::ENTRIES) as usize % (fits + 1);
    put(bytes, h::ENTRIES, low32(count).to_le_bytes());
    let sum = crate::crc32c(&bytes[h::CHECKSUM + 4..h::BYTES + count * 24]);
    put(bytes, h::CHECKSUM, sum.to_le_bytes());
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }
}

/// Damage to a good store: each five bytes are a place and what its byte is changed by.
///
/// # Panics
/// When something is served that was not written, or opening, reading, writing or settling does
/// not survive it.
pub fn volume_store(bytes: &[u8]) {
    static GOOD: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let mut files = GOOD.get_or_init(good).clone();
    let total: usize = files.values().map(Vec::len).sum();
    for edit in bytes.chunks_exact(5) {
        let mut place = u32::from_le_bytes([edit[0], edit[1], edit[2], edit[3]]) as usize % total;
        for file in files.values_mut() {
            if let Some(byte) = file.get_mut(place) {
                *byte ^= edit[4];
                break;
            }
            place -= file.len();
        }
    }
    let Ok(store) = open(&Memory::of(files)) else { return };
    served(&store);
    let end = store.resume(owner(0));
    let mut receipt = append(&store, 0, end);
    for _ in 0..20 {
        store.turn();
        store.tend();
    }
    if let Some(receipt) = &mut receipt {
        assert!(receipt.now().is_some());
    }
    served(&store);
}

/// Whatever can be read is what was written.
fn served(store: &Volumes) {
    for number in 0..3 {
        let bounds = store.bounds(owner(number)).unwrap_or_default();
        for from in bounds.start..bounds.end.min(200) {
            let Ok(spans) = store.read(owner(number), from, 1) else { continue };
            for record in spans.iter().flat_map(|span| &span.records) {
                assert_eq!(record.payload, payload(number, record.sequence));
            }
        }
    }
}

fn owner(number: u64) -> Owner {
    Owner::from_bits(1 << 56 | number)
}

fn payload(number: u64, sequence: u64) -> Bytes {
    format!("{number}/{sequence};").repeat(30).into()
}

fn append(store: &Volumes, number: u64, sequence: u64) -> Option<crate::Receipt> {
    let payload = payload(number, sequence);
    let record = Record { sequence, span: 1, payload, ..Record::default() };
    let batch = Batch::new().put(owner(number), record);
    store.append(store.try_reserve(batch.cost()).ok()??, batch).ok()
}

fn open(disk: &Memory) -> Result<Volumes, crate::OpenError> {
    let options = Options {
        volume_bytes: 64 << 10,
        reserve_bytes: 0,
        settle_bytes_per_second: 0,
        ..Options::default()
    };
    Volumes::open(Arc::new(disk.clone()), Arc::new(ManualClock::default()), options)
}

fn good() -> BTreeMap<String, Vec<u8>> {
    let disk = Memory::of(BTreeMap::new());
    let store = open(&disk).expect("memory can be written");
    for sequence in 0..20 {
        for number in 0..3 {
            let _receipt = append(&store, number, sequence);
        }
        store.turn();
        store.tend();
    }
    let files = lock(&disk.0);
    files.iter().map(|(name, file)| (name.clone(), lock(file).clone())).collect()
}

type Content = Arc<Mutex<Vec<u8>>>;

/// A disk in memory to which nothing happens.
#[derive(Clone)]
struct Memory(Arc<Mutex<BTreeMap<String, Content>>>);

impl Memory {
    fn of(files: BTreeMap<String, Vec<u8>>) -> Memory {
        let share = |(name, file)| (name, Arc::new(Mutex::new(file)));
        Memory(Arc::new(Mutex::new(files.into_iter().map(share).collect())))
    }
}

impl Disk for Memory {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.0).keys().cloned().collect())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut files = lock(&self.0);
        if create {
            files.entry(name.to_owned()).or_default();
        }
        let file = files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.0).remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 30)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Ok([7; 16])
    }
}

struct MemoryFile(Content);

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let content = lock(&self.0);
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        let length = into.len().min(content.len() - from);
        into[..length].copy_from_slice(&content[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), WriteFailed> {
        let mut content = lock(&self.0);
        let at = usize::try_from(at).map_err(io::Error::other).map_err(WriteFailed::Broken)?;
        let length = content.len().max(at + bytes.len());
        content.resize(length, 0);
        content[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for (target, run) in
            [("volume_format", volume_format as fn(&[u8])), ("volume_store", volume_store)]
        {
            let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(folder).unwrap() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }

    #[test]
    fn any_byte_of_a_store_may_be_damaged() {
        let total: usize = good().values().map(Vec::len).sum();
        for place in (0..total).step_by(97) {
            let mut edit = low32(place).to_le_bytes().to_vec();
            edit.push(0x10);
            volume_store(&edit);
        }
    }
}
