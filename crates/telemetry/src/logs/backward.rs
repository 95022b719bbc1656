//! Lines of a file from its end to its start.
//!
//! Invariants: memory is bounded by the longest line that is kept and one block; a longer line is
//! given as nothing, and the ones before it are still found; what is written after opening is not
//! seen.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// The first block read, in bytes: little, for small limits over many instances.
const BLOCK_BYTES_MIN: usize = 16 << 10;
/// Blocks grow to this size, in bytes.
const BLOCK_BYTES_MAX: usize = 256 << 10;
/// A line in a file is no entry when it is longer than this, in bytes. Entries are 16 KiB.
pub(super) const RAW_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Backward {
    file: File,
    /// Offset in the file of `bytes[0]`.
    start: u64,
    bytes: Vec<u8>,
    /// `bytes[..end]` is still to be given, and a line ends at `end`; `None` when all is given.
    end: Option<usize>,
    block_bytes: usize,
    /// The line that ends at `end` was too long, and its tail is dropped already.
    skipping: bool,
}

impl Backward {
    /// Reads the first `length` bytes of `file`; a last line without its line end counts only when
    /// `torn` is true.
    pub(super) fn new(file: File, length: u64, torn: bool) -> io::Result<Backward> {
        Backward::with_block(file, length, torn, BLOCK_BYTES_MIN)
    }

    fn with_block(file: File, length: u64, torn: bool, block_bytes: usize) -> io::Result<Backward> {
        let start = length;
        let (bytes, end) = (Vec::new(), (start > 0).then_some(0));
        let mut reader = Backward { file, start, bytes, end, block_bytes, skipping: false };
        let Some(loaded) = reader.end else { return Ok(reader) };
        reader.load(loaded)?;
        let ended = reader.bytes.ends_with(b"\n");
        reader.end = Some(reader.bytes.len() - usize::from(ended));
        if !ended && !torn {
            // What follows the last line end is not a line yet.
            reader.previous()?;
        }
        Ok(reader)
    }

    /// The line before the last one given, without its line end, as a range for [`Backward::at`].
    pub(super) fn previous(&mut self) -> io::Result<Option<Range<usize>>> {
        let Some(mut end) = self.end else { return Ok(None) };
        let mut unsearched = end;
        loop {
            if let Some(at) = memchr::memrchr(b'\n', &self.bytes[..unsearched]) {
                self.end = Some(at);
                if !std::mem::take(&mut self.skipping) {
                    return Ok(Some(at + 1..end));
                }
                (end, unsearched) = (at, at);
                continue;
            }
            if self.start == 0 {
                // The first line begins where the file does.
                self.end = None;
                return Ok((!self.skipping).then_some(0..end));
            }
            if end > RAW_BYTES_MAX {
                self.skipping = true;
                end = 0;
            }
            unsearched = self.load(end)?;
            end += unsearched;
        }
    }

    /// The bytes of the line that was just given.
    pub(super) fn at(&self, line: Range<usize>) -> &[u8] {
        self.bytes.get(line).unwrap_or_default()
    }

    /// Puts the block before in front of `bytes[..kept]`, and returns how long that block is.
    fn load(&mut self, kept: usize) -> io::Result<usize> {
        let more = self.block_bytes.min(usize::try_from(self.start).unwrap_or(usize::MAX));
        let start = self.start - more as u64;
        let mut bytes = vec![0; more + kept];
        match self.file.read_exact_at(&mut bytes[..more], start) {
            Ok(()) => {}
            // The file was cut meanwhile; nothing of this block can be relied on.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => bytes[..more].fill(b'\n'),
            Err(e) => return Err(e),
        }
        bytes[more..].copy_from_slice(&self.bytes[..kept]);
        (self.start, self.bytes) = (start, bytes);
        if self.block_bytes < BLOCK_BYTES_MAX {
            self.block_bytes *= 2;
        }
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn read(bytes: &[u8], torn: bool, block_bytes: usize) -> Vec<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut reader = Backward::with_block(file, bytes.len() as u64, torn, block_bytes).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = reader.previous().unwrap() {
            lines.push(reader.at(line).to_vec());
        }
        lines
    }

    proptest! {
        #[test]
        fn reads_what_a_naive_reader_reads(
            bytes in prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 0..120),
            torn in any::<bool>(),
            block_bytes in 1usize..20,
        ) {
            let mut want: Vec<Vec<u8>> = bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            // The last piece is empty after a line end, else it is a torn line.
            let last = want.pop().unwrap();
            if torn && !last.is_empty() {
                want.push(last);
            }
            want.reverse();
            prop_assert_eq!(read(&bytes, torn, block_bytes), want);
        }
    }

    #[test]
    fn an_endless_line_is_passed_over_in_bounded_memory() {
        let long = vec![b'x'; 3 * RAW_BYTES_MAX];
        let all = [b"one\ntwo\n", &long[..], b"\nthree\n"].concat();
        assert_eq!(read(&all, false, 4096), [&b"three"[..], b"two", b"one"]);
        let mut first = long.clone();
        first.extend(b"\nend\n");
        assert_eq!(read(&first, false, 4096), [&b"end"[..]]);
    }
}
