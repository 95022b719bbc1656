//! A coarser tier on disk: one row for all series at the end of each step.
//!
//! A tier is a folder of segments, each named after its first step. A segment is a sequence of
//! frames: length, CRC-32C, and a row: its step, the series that are new to the segment, and one
//! section of cells for each family, so that a reader passes over the families it does not want.
//! A segment needs no other file to be read. Old ones are deleted whole, by age and by the bytes
//! of the tier; this is a ring without any writing in place.
//!
//! Invariants: what is written is never changed; a frame that does not verify ends its segment,
//! and whoever goes on writing there cuts it off first. Nothing is synced: after `kill -9` all is
//! there but the row being added up, after a power loss the last half minute may be missing. Two
//! rows of one step, from before and after a restart, add up.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::{Bytes, put, put_text};
use super::cell::{Cell, Key, Kind};

/// A tier's bytes and age are given up in so many pieces.
const SEGMENTS: u32 = 32;
/// A frame's length and checksum, in bytes.
const HEAD_BYTES: usize = 8;
/// A longer row is not written, and not read, in bytes.
const ROW_BYTES_MAX: usize = 64 << 20;

/// What a segment's rows refer to by number.
#[derive(Debug, Default)]
struct Dictionary {
    series: HashMap<Arc<Key>, u32>,
    families: HashMap<String, u32>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    bytes: u64,
    first: u32,
    dictionary: Dictionary,
}

#[derive(Debug)]
pub(super) struct Tier {
    dir: PathBuf,
    /// Seconds of a step.
    pub step: u32,
    /// Steps that are kept.
    keep: u32,
    bytes_max: u64,
    segment: Option<Segment>,
}

/// A series' cell at the end of a step.
pub(super) struct Row<'a> {
    pub key: &'a Arc<Key>,
    pub kind: Kind,
    pub cell: &'a Cell,
}

impl Tier {
    /// A tier of steps of `step` seconds, of which `keep` are kept.
    pub(super) fn open(dir: PathBuf, step: u32, keep: u32, bytes_max: u64) -> io::Result<Tier> {
        fs::create_dir_all(&dir)?;
        Ok(Tier { dir, step, keep, bytes_max, segment: None })
    }

    /// Appends the row of `slot`; rows of one family follow one another.
    pub(super) fn write(&mut self, slot: u32, rows: &[Row<'_>]) -> io::Result<()> {
        let written = self.try_write(slot, rows);
        if written.is_err() {
            // The dictionary may be ahead of the file: read it again next time.
            self.segment = None;
        }
        written
    }

    fn try_write(&mut self, slot: u32, rows: &[Row<'_>]) -> io::Result<()> {
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.resume(slot)?,
        };
        let span = slot.saturating_sub(segment.first);
        if segment.bytes >= self.bytes_max / u64::from(SEGMENTS) || span > self.keep / SEGMENTS {
            self.prune(slot)?;
            segment = self.start(slot)?;
        }
        let row = segment.dictionary.encode(slot, rows);
        if row.len() > ROW_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let frame = frame(&row);
        segment.file.write_all_at(&frame, segment.bytes)?;
        segment.bytes += frame.len() as u64;
        self.segment = Some(segment);
        Ok(())
    }

    /// The segments, oldest first.
    fn segments(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let first = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
            found.extend(first.map(|first| (first, entry.path())));
        }
        found.sort();
        Ok(found)
    }

    /// Goes on with the newest segment, without what does not verify.
    fn resume(&self, slot: u32) -> io::Result<Segment> {
        let Some((first, path)) = self.segments()?.pop() else { return self.start(slot) };
        let bytes = read_bounded(&path, self.bytes_max)?;
        let mut dictionary = Dictionary::default();
        let mut end = 0;
        for row in frames(&bytes) {
            let mut fresh = Bytes(row);
            if fresh.array::<4>().is_none() || dictionary.learn(&mut fresh).is_none() {
                break;
            }
            end += HEAD_BYTES + row.len();
        }
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(end as u64)?;
        Ok(Segment { file, bytes: end as u64, first, dictionary })
    }

    fn start(&self, slot: u32) -> io::Result<Segment> {
        let path = self.dir.join(format!("{slot:010}.seg"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Segment { file, bytes: 0, first: slot, dictionary: Dictionary::default() })
    }

    /// Deletes what is too old, and the oldest of what is too much.
    fn prune(&self, slot: u32) -> io::Result<()> {
        let segments = self.segments()?;
        let sizes =
            segments.iter().map(|(_, path)| fs::metadata(path).map_or(0, |stat| stat.len()));
        let sizes: Vec<u64> = sizes.collect();
        let mut total: u64 = sizes.iter().sum();
        // Room for the segment that is about to start.
        let bytes_max = self.bytes_max - self.bytes_max / u64::from(SEGMENTS);
        for (at, (_, path)) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map_or(slot, |(first, _)| *first);
            if total <= bytes_max && next >= slot.saturating_sub(self.keep) {
                break;
            }
            fs::remove_file(path)?;
            total -= sizes[at];
        }
        Ok(())
    }

    /// Gives the cells of steps in `from..to`, of the series for which `want` has a number.
    pub(super) fn read(
        &self,
        from: u32,
        to: u32,
        mut want: impl FnMut(Key, Kind) -> Option<usize>,
        mut each: impl FnMut(usize, u32, Cell),
    ) -> io::Result<()> {
        let segments = self.segments()?;
        for (at, (_, path)) in segments.iter().enumerate() {
            // A clock that was set back may overlap two segments by a little; a step of slack.
            let next = segments.get(at + 1).map_or(u32::MAX, |(first, _)| *first);
            if next.saturating_add(1) < from {
                continue;
            }
            let bytes = match read_bounded(path, self.bytes_max) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            read_segment(&bytes, from, to, &mut want, &mut each);
        }
        Ok(())
    }
}

/// Reads a segment as far as it verifies.
fn read_segment(
    bytes: &[u8],
    from: u32,
    to: u32,
    want: &mut impl FnMut(Key, Kind) -> Option<usize>,
    each: &mut impl FnMut(usize, u32, Cell),
) {
    let mut wanted: Vec<Option<usize>> = Vec::new();
    let mut families: Vec<(String, bool)> = Vec::new();
    for row in frames(bytes) {
        let mut row = Bytes(row);
        let learnt = (|| {
            let slot = u32::from_le_bytes(row.array()?);
            for _ in 0..row.number()? {
                let (key, kind) = take_series(&mut row)?;
                let family = families.iter().position(|(name, _)| *name == key.family);
                let family = family.unwrap_or_else(|| {
                    families.push((key.family.clone(), false));
                    families.len() - 1
                });
                let number = want(key, kind);
                families[family].1 |= number.is_some();
                wanted.push(number);
            }
            Some(slot)
        })();
        // Without its series, the rows behind it cannot be told apart.
        let Some(slot) = learnt else { return };
        let _rest_passed_over = (|| {
            while !row.0.is_empty() {
                let (family, length): (usize, usize) = (row.narrow()?, row.narrow()?);
                let mut section = Bytes(row.take(length)?);
                if !families.get(family)?.1 || !(from..to).contains(&slot) {
                    continue;
                }
                let mut id = 0usize;
                while !section.0.is_empty() {
                    id = id.checked_add(section.narrow()?)?;
                    let cell = Cell::take(&mut section)?;
                    if let Some(number) = *wanted.get(id)? {
                        each(number, slot, cell);
                    }
                }
            }
            Some(())
        })();
    }
}

impl Dictionary {
    /// A row, after learning what is new in it.
    fn encode(&mut self, slot: u32, rows: &[Row<'_>]) -> Vec<u8> {
        let (mut fresh, mut count) = (Vec::new(), 0);
        let mut sections: Vec<(u32, Vec<(u32, &Cell)>)> = Vec::new();
        for row in rows {
            let known = self.series.get(row.key).copied();
            let id = known.unwrap_or_else(|| {
                put_series(&mut fresh, row.key, row.kind);
                count += 1;
                self.add(row.key.clone())
            });
            let family = self.families.get(&row.key.family).copied().unwrap_or_default();
            match sections.last_mut() {
                Some((last, cells)) if *last == family => cells.push((id, row.cell)),
                _ => sections.push((family, vec![(id, row.cell)])),
            }
        }
        let mut out = slot.to_le_bytes().to_vec();
        put(&mut out, count);
        out.extend_from_slice(&fresh);
        for (family, mut cells) in sections {
            cells.sort_by_key(|(id, _)| *id);
            let (mut section, mut before) = (Vec::new(), 0);
            for (id, cell) in cells {
                put(&mut section, (id - before).into());
                cell.put(&mut section);
                before = id;
            }
            put(&mut out, family.into());
            put(&mut out, section.len() as u64);
            out.extend_from_slice(&section);
        }
        out
    }

    /// Takes the new series of a row: all of them, or none when one is not as it should be.
    fn learn(&mut self, row: &mut Bytes<'_>) -> Option<()> {
        let count = row.number()?;
        let fresh = (0..count).map(|_| Some(Arc::new(take_series(row)?.0)));
        let fresh: Vec<Arc<Key>> = fresh.collect::<Option<_>>()?;
        let mut seen = HashSet::new();
        let new = |key: &Arc<Key>| !self.series.contains_key(key) && seen.insert(key.clone());
        if !fresh.iter().all(new) {
            return None;
        }
        fresh.into_iter().for_each(|key| {
            self.add(key);
        });
        Some(())
    }

    fn add(&mut self, key: Arc<Key>) -> u32 {
        let families = u32::try_from(self.families.len()).unwrap_or(u32::MAX);
        if !self.families.contains_key(&key.family) {
            self.families.insert(key.family.clone(), families);
        }
        let id = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        self.series.insert(key, id);
        id
    }
}

fn put_series(out: &mut Vec<u8>, key: &Key, kind: Kind) {
    out.push(kind.byte());
    put_text(out, &key.family);
    put(out, key.labels.len() as u64);
    for (name, value) in &key.labels {
        put_text(out, name);
        put_text(out, value);
    }
}

fn take_series(bytes: &mut Bytes<'_>) -> Option<(Key, Kind)> {
    let [kind] = bytes.array()?;
    let family = bytes.text()?.to_owned();
    let mut labels = Vec::new();
    for _ in 0..bytes.number()? {
        labels.push((bytes.text()?.to_owned(), bytes.text()?.to_owned()));
    }
    Some((Key { family, labels }, Kind::of_byte(kind)?))
}

/// Reads a file, unless it is longer than any segment can be.
fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > bytes_max.max(ROW_BYTES_MAX as u64 * 2) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read(path)
}

/// A row as it stands in a segment.
pub(super) fn frame(row: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + row.len());
    frame.extend_from_slice(&u32::try_from(row.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&crc32c(row).to_le_bytes());
    frame.extend_from_slice(row);
    frame
}

/// The rows of a segment, up to the first that does not verify.
fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Bytes(bytes);
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(rest.array()?) as usize;
        let sum = u32::from_le_bytes(rest.array()?);
        rest.take(length).filter(|row| crc32c(row) == sum)
    })
}

/// CRC-32C (Castagnoli), a byte at a time: rows are small and few.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let (mut at, mut index) = (0, 0u32);
        while at < 256 {
            let (mut value, mut bit) = (index, 0);
            while bit < 8 {
                value = (value >> 1) ^ if value & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[at] = value;
            (at, index) = (at + 1, index + 1);
        }
        table
    };
    !bytes
        .iter()
        .fold(!0, |sum: u32, byte| (sum >> 8) ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(family: &str, label: &str) -> Arc<Key> {
        let labels = vec![("to".to_owned(), label.to_owned())];
        Arc::new(Key { family: family.to_owned(), labels })
    }

    fn write(tier: &mut Tier, slot: u32, values: &[(&str, &str, i64)]) {
        let cells: Vec<_> = values
            .iter()
            .map(|(family, label, value)| (key(family, label), Cell::point(*value)))
            .collect();
        let rows = cells.iter().map(|(key, cell)| Row { key, kind: Kind::Gauge, cell });
        tier.write(slot, &rows.collect::<Vec<_>>()).unwrap();
    }

    fn read(tier: &Tier, family: &str, from: u32, to: u32) -> Vec<(String, u32, i64)> {
        let mut names = Vec::new();
        let mut found = Vec::new();
        let want = |key: Key, kind| {
            assert_eq!(kind, Kind::Gauge);
            names.push(key.label("to").to_owned());
            (key.family == family).then_some(names.len() - 1)
        };
        tier.read(from, to, want, |number, slot, cell| found.push((number, slot, cell.sum)))
            .unwrap();
        found.into_iter().map(|(number, slot, sum)| (names[number].clone(), slot, sum)).collect()
    }

    #[test]
    fn crc_is_castagnoli_s() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn rows_survive_a_restart_and_a_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Tier::open(dir.path().join("t"), 10, 1000, 1 << 20).unwrap();
        let mut tier = open();
        write(&mut tier, 5, &[("a", "x", 1), ("b", "y", -2)]);
        write(&mut tier, 6, &[("a", "w", 3), ("a", "x", 4)]);
        drop(tier);
        let path = dir.path().join("t/0000000005.seg");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"\x09\x00\x00\x00torn"].concat()).unwrap();
        let mut tier = open();
        write(&mut tier, 7, &[("a", "x", 5), ("a", "z", 6)]);
        let all = [("x", 5, 1), ("w", 6, 3), ("x", 6, 4), ("x", 7, 5), ("z", 7, 6)];
        let mut got = read(&tier, "a", 0, 100);
        got.sort_by_key(|(label, slot, _)| (*slot, label.clone()));
        let mut want = all.map(|(label, slot, sum)| (label.to_owned(), slot, sum));
        want.sort_by_key(|(label, slot, _)| (*slot, label.clone()));
        assert_eq!(got, want);
        assert_eq!(read(&tier, "b", 0, 100), [("y".to_owned(), 5, -2)]);
        assert_eq!(read(&tier, "a", 6, 7).len(), 2);
        // A flipped bit ends what is read, and what is read still verifies.
        let mut bytes = fs::read(&path).unwrap();
        let middle = whole.len() - 3;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&open(), "a", 0, 100), [("x".to_owned(), 5, 1)]);
    }

    #[test]
    fn a_row_that_makes_no_sense_hides_no_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Tier::open(dir.path().to_owned(), 10, 1000, 1 << 20).unwrap();
        write(&mut open(), 5, &[("a", "x", 1)]);
        let path = dir.path().join("0000000005.seg");
        let good = fs::read(&path).unwrap();
        let slot = 6u32.to_le_bytes();
        let of_nobody = [&slot[..], &[0, 0, 2, 9, 9]].concat();
        // A series of its own, and then one that does not end.
        let half = [&slot[..], &[2, 1, 1, b'a', 0, 1]].concat();
        for row in [of_nobody, half] {
            fs::write(&path, [good.as_slice(), &frame(&row)].concat()).unwrap();
            write(&mut open(), 7, &[("a", "y", 2), ("a", "x", 3)]);
            let mut got = read(&open(), "a", 0, 100);
            got.sort();
            assert_eq!(got, [("x".into(), 5, 1), ("x".into(), 7, 3), ("y".into(), 7, 2)]);
        }
    }

    #[test]
    fn old_and_surplus_segments_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut tier = Tier::open(dir.path().to_owned(), 10, 320, 32 << 10).unwrap();
        for slot in 1..1000 {
            write(&mut tier, slot, &[("a", "x", slot.into())]);
        }
        let slots: Vec<u32> = read(&tier, "a", 0, 2000).into_iter().map(|row| row.1).collect();
        assert!(slots[0] >= 1000 - 320 - 40 && slots[0] <= 680, "{}", slots[0]);
        assert!(slots.is_sorted() && slots.last() == Some(&999));
        let names: Vec<String> = (0..40).map(|n| format!("{n:040}")).collect();
        for slot in 1000..1100 {
            let values: Vec<_> = names.iter().map(|name| ("a", name.as_str(), 1)).collect();
            write(&mut tier, slot, &values);
        }
        let sizes = tier.segments().unwrap();
        let total: u64 = sizes.iter().map(|(_, path)| fs::metadata(path).unwrap().len()).sum();
        assert!(total <= (32 << 10) + 4096, "{total}");
        assert!(!read(&tier, "a", 1090, 1100).is_empty());
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        use proptest::prelude::*;
        use proptest::test_runner::TestRunner;
        let strategy = prop::collection::vec(any::<u8>(), 0..60);
        let outcome = TestRunner::default().run(&strategy, |row| {
            let mut bytes = u32::try_from(row.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend(crc32c(&row).to_le_bytes());
            bytes.extend(row);
            read_segment(&bytes, 0, u32::MAX, &mut |_, _| Some(0), &mut |_, _, _| {});
            Ok(())
        });
        outcome.unwrap();
    }
}
