//! Lines of a file as it grows.
//!
//! Invariants: a line is given once, when its line end is there; memory is bounded by one chunk
//! and the longest line that is kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::backward::RAW_BYTES_MAX;

/// Read at a time, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Forward {
    file: File,
    pub ino: u64,
    offset: u64,
    /// What was read of a line that has not ended.
    torn: Vec<u8>,
    /// The line that has not ended is too long, and passed over.
    skipping: bool,
}

impl Forward {
    /// Reads from the start.
    pub(super) fn from_start(file: File) -> io::Result<Forward> {
        let ino = file.metadata()?.ino();
        Ok(Forward { file, ino, offset: 0, torn: Vec::new(), skipping: false })
    }

    /// Reads what comes after the last line that has ended by now.
    pub(super) fn from_end(file: File) -> io::Result<Forward> {
        let mut end = file.metadata()?.len();
        let length = end;
        let mut forward = Forward::from_start(file)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        while end > 0 && length - end <= RAW_BYTES_MAX as u64 {
            let start = end.saturating_sub(CHUNK_BYTES as u64);
            let part = &mut chunk[..usize::try_from(end - start).unwrap_or(CHUNK_BYTES)];
            forward.file.read_exact_at(part, start)?;
            if let Some(at) = memchr::memrchr(b'\n', part) {
                forward.offset = start + at as u64 + 1;
                return Ok(forward);
            }
            end = start;
        }
        // No line end in reach: either the file's first line, or one that is too long.
        forward.skipping = end > 0;
        forward.offset = if end > 0 { length } else { 0 };
        Ok(forward)
    }

    /// The same file, and how much of it lies before the lines that are still to come.
    pub(super) fn mark(&self) -> io::Result<(File, u64)> {
        Ok((self.file.try_clone()?, self.offset - self.torn.len() as u64))
    }

    /// Reads a chunk and gives the lines that end in it; false at the end of the file.
    pub(super) fn read(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = self.file.read_at(&mut chunk, self.offset)?;
        if read == 0 {
            let length = self.file.metadata()?.len();
            if length < self.offset {
                // Cut by its writer, which does so only to take back a torn line.
                (self.offset, self.skipping) = (length, false);
                self.torn.clear();
            }
            return Ok(false);
        }
        self.offset += read as u64;
        let mut rest = &chunk[..read];
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..at], &rest[at + 1..]);
            rest = after;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.torn.is_empty() {
                each(line);
            } else {
                self.torn.extend_from_slice(line);
                each(&self.torn);
                self.torn = Vec::new();
            }
        }
        if !self.skipping {
            self.torn.extend_from_slice(rest);
            if self.torn.len() > RAW_BYTES_MAX {
                (self.torn, self.skipping) = (Vec::new(), true);
            }
        }
        Ok(true)
    }

    /// What is left of a file that nobody writes to any more: a line without its end.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        (!self.torn.is_empty()).then_some(self.torn)
    }
}
