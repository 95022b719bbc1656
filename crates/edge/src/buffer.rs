//! Buffers that belong to a thread and are lent to connections only while those have bytes.

use std::cell::RefCell;

/// Size of a buffer: the longest head, and the piece in which bodies move.
pub(crate) const BUFFER_BYTES: usize = 16 << 10;
/// Free buffers that a thread keeps.
const FREE_MAX: usize = 256;

/// The free buffers of a thread.
#[derive(Default)]
pub(crate) struct Buffers(RefCell<Vec<Box<[u8]>>>);

impl Buffers {
    /// A buffer with arbitrary content.
    pub(crate) fn take(&self) -> Buffer {
        let free = self.0.borrow_mut().pop();
        let data = free.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Buffer { data, start: 0, end: 0 }
    }

    /// Takes a buffer back.
    pub(crate) fn put(&self, buffer: Buffer) {
        let mut free = self.0.borrow_mut();
        if free.len() < FREE_MAX && !buffer.data.is_empty() {
            free.push(buffer.data);
        }
    }
}

/// Bytes that were received and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The unused bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Drops the first `count` of them.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Takes `count` bytes out of the middle, from `at` on.
    pub(crate) fn cut(&mut self, at: usize, count: usize) {
        let from = self.start + at;
        self.data.copy_within(from + count..self.end, from);
        self.end -= count;
    }

    /// Room for more bytes, all of it: unused bytes move to the front when they are in the way.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.data.len() - self.end < self.data.len() / 4 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.data[self.end..]
    }

    /// It was given back, or never taken.
    pub(crate) fn has_no_room(&self) -> bool {
        self.data.is_empty()
    }

    /// Says that the first `count` bytes of the room are filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.data.len());
    }
}
