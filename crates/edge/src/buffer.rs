//! Buffers that belong to a thread and are lent to connections only while those have bytes.
//!
//! Two sizes: one that holds any head, and a large one for whatever may be long, since every system
//! call for a piece of a body costs as much as copying some 10 KiB. Invariant: a thread lends at most
//! `LARGE_MAX` large ones at once; who comes later gets a small one, so connections that are slow to
//! take what they asked for cost 16 KiB each, plus 8 MiB a thread in all.

use std::cell::RefCell;
use std::rc::Rc;

/// Size of a small buffer, the longest head.
pub(crate) const BUFFER_BYTES: usize = 16 << 10;
/// Size of a large buffer, the piece in which long bodies move.
pub(crate) const LARGE_BYTES: usize = 128 << 10;
/// Free small buffers that a thread keeps.
const FREE_MAX: usize = 256;
/// Large buffers that a thread lends at once.
const LARGE_MAX: usize = 64;
/// Free large buffers that a thread keeps: few, since nearly all are back before the next is taken.
const LARGE_FREE_MAX: usize = 8;

/// The free buffers of a thread.
#[derive(Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    /// Each large buffer that is lent holds a share, so that none can be forgotten.
    lent: Rc<()>,
}

impl Buffers {
    /// A small buffer with arbitrary content.
    pub(crate) fn take(&self) -> Buffer {
        let data = self.small.borrow_mut().pop();
        let data = data.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Buffer { data, ..Buffer::default() }
    }

    /// Takes a buffer back.
    pub(crate) fn put(&self, mut buffer: Buffer) {
        buffer.consume(usize::MAX);
        self.put_empty(&mut buffer);
    }

    /// Makes an empty buffer a large one, or a small one when too many are lent.
    #[inline]
    pub(crate) fn enlarge_empty(&self, buffer: &mut Buffer) {
        if !buffer.is_empty() || buffer.lent.is_some() {
            return;
        }
        if Rc::strong_count(&self.lent) > LARGE_MAX {
            if buffer.has_no_room() {
                *buffer = self.take();
            }
            return;
        }
        self.put_empty(buffer);
        let data = self.large.borrow_mut().pop();
        buffer.data = data.unwrap_or_else(|| vec![0; LARGE_BYTES].into_boxed_slice());
        buffer.lent = Some(Rc::clone(&self.lent));
    }

    /// Takes an empty buffer back from where it lies.
    #[inline]
    pub(crate) fn put_empty(&self, buffer: &mut Buffer) {
        if !buffer.is_empty() || buffer.has_no_room() {
            return;
        }
        let (free, max) = match buffer.lent.take() {
            None => (&self.small, FREE_MAX),
            Some(_) => (&self.large, LARGE_FREE_MAX),
        };
        let data = std::mem::take(&mut buffer.data);
        let mut free = free.borrow_mut();
        if free.len() < max {
            free.push(data);
        }
    }
}

/// Bytes that were received and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
    /// The share that a large one holds.
    lent: Option<Rc<()>>,
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
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves `count` bytes at `from` to `to`, which lies before it.
    pub(crate) fn copy_down(&mut self, from: usize, count: usize, to: usize) {
        let from = self.start + from;
        self.data.copy_within(from..from + count, self.start + to);
    }

    /// Takes the bytes between `from` and `to` out.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.data.copy_within(self.start + to..self.end, self.start + from);
        self.end -= to - from;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn large(buffers: &Buffers) -> Buffer {
        let mut buffer = Buffer::default();
        buffers.enlarge_empty(&mut buffer);
        buffer
    }

    #[test]
    fn a_thread_lends_so_many_large_ones_and_then_small_ones() {
        let buffers = Buffers::default();
        let mut lent: Vec<Buffer> = (0..LARGE_MAX).map(|_| large(&buffers)).collect();
        assert!(lent.iter().all(|buffer| buffer.data.len() == LARGE_BYTES));
        assert_eq!(large(&buffers).data.len(), BUFFER_BYTES);
        // Whether it is given back or forgotten, another one may be lent.
        buffers.put(lent.pop().unwrap());
        drop(lent.pop());
        lent.extend([large(&buffers), large(&buffers)]);
        assert!(lent.iter().all(|buffer| buffer.data.len() == LARGE_BYTES));
        assert_eq!(large(&buffers).data.len(), BUFFER_BYTES);
        for buffer in lent {
            buffers.put(buffer);
        }
        assert_eq!(buffers.large.borrow().len(), LARGE_FREE_MAX);
    }

    #[test]
    fn only_an_empty_buffer_changes() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.room()[..3].copy_from_slice(b"abc");
        buffer.filled(3);
        buffers.enlarge_empty(&mut buffer);
        buffers.put_empty(&mut buffer);
        assert_eq!((buffer.bytes(), buffer.data.len()), (&b"abc"[..], BUFFER_BYTES));
        buffer.consume(3);
        buffers.enlarge_empty(&mut buffer);
        assert_eq!(buffer.data.len(), LARGE_BYTES);
        buffers.put_empty(&mut buffer);
        assert!(buffer.has_no_room());
        assert_eq!(Rc::strong_count(&buffers.lent), 1);
    }

    #[test]
    fn pieces_are_taken_out_of_the_middle() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.room()[..10].copy_from_slice(b"_ab--cd-ef");
        buffer.filled(10);
        buffer.consume(1);
        buffer.copy_down(4, 2, 2);
        buffer.cut(4, 7);
        assert_eq!(buffer.bytes(), b"abcdef");
    }
}
