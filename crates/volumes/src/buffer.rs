//! Memory that begins at a multiple of a block, as direct writes need it.

use bytes::Bytes;

use crate::format::BLOCK;

/// Zeros to begin with.
pub(crate) struct Aligned {
    raw: Vec<u8>,
    from: usize,
    length: usize,
}

impl Aligned {
    pub(crate) fn zeroed(length: usize) -> Aligned {
        let raw = vec![0; length + BLOCK];
        // Large allocations begin 16 bytes after a page, so one block more is enough.
        let from = raw.as_ptr().align_offset(BLOCK).min(BLOCK);
        Aligned { raw, from, length }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.raw[self.from..self.from + self.length]
    }

    /// To be read and shared; it stays where it is.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.raw[self.from..self.from + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_block_before_and_after_it_is_shared() {
        for length in [BLOCK, 3 * BLOCK, 1 << 20] {
            let mut buffer = Aligned::zeroed(length);
            assert_eq!(buffer.bytes_mut().as_ptr().align_offset(BLOCK), 0);
            let shared = buffer.freeze();
            assert_eq!((shared.as_ptr().align_offset(BLOCK), shared.len()), (0, length));
        }
    }
}
