//! Memory for points: chunks of 64 KiB that are filled in order of time and given up whole.
//!
//! Each record knows where the one before it of its series is, so that a series keeps one
//! reference and nothing has to be tidied when a chunk goes: references into it read as nothing.
//!
//! Invariants: memory is the number of chunks; a record is given up only with all that are older.

use std::collections::VecDeque;

use super::bytes::Bytes;

/// A chunk's size, in bytes. No record is longer. Tests fill and give up smaller ones.
pub(super) const CHUNK_BYTES: usize = if cfg!(test) { 8 << 10 } else { 64 << 10 };

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ref {
    chunk: u32,
    offset: u32,
}

impl Ref {
    /// No record.
    pub(super) const NONE: Ref = Ref { chunk: u32::MAX, offset: 0 };
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// Second of its newest record.
    newest: u32,
}

#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: VecDeque<Chunk>,
    /// Number of the first chunk; they count on for ever.
    first: u32,
    /// Every record after this second is still there.
    gone: u32,
}

impl Arena {
    /// Keeps a record of `second`, which comes after `before` in its series.
    pub(super) fn push(&mut self, before: Ref, second: u32, payload: &[u8]) -> Ref {
        let need = payload.len() + 12;
        if base::never!(need > CHUNK_BYTES, "a record is longer than a chunk") {
            return before;
        }
        if self.chunks.back().is_none_or(|last| last.bytes.len() + need > CHUNK_BYTES) {
            self.chunks.push_back(Chunk { bytes: Vec::with_capacity(CHUNK_BYTES), newest: second });
        }
        let chunk = self.first.wrapping_add(narrow(self.chunks.len() - 1));
        let Some(last) = self.chunks.back_mut() else { return before };
        let offset = narrow(last.bytes.len());
        last.newest = last.newest.max(second);
        for word in [before.chunk, before.offset, narrow(payload.len())] {
            last.bytes.extend_from_slice(&word.to_le_bytes());
        }
        last.bytes.extend_from_slice(payload);
        Ref { chunk, offset }
    }

    /// A record and the reference to the one before it, unless it is gone.
    pub(super) fn get(&self, at: Ref) -> Option<(Ref, &[u8])> {
        let chunk = self.chunks.get(at.chunk.wrapping_sub(self.first) as usize)?;
        let mut bytes = Bytes(chunk.bytes.get(at.offset as usize..)?);
        let chunk = u32::from_le_bytes(bytes.array()?);
        let offset = u32::from_le_bytes(bytes.array()?);
        let length = u32::from_le_bytes(bytes.array()?);
        Some((Ref { chunk, offset }, bytes.take(length as usize)?))
    }

    /// A series' records, the newest first.
    pub(super) fn walk(&self, from: Ref) -> impl Iterator<Item = &[u8]> {
        let mut at = from;
        std::iter::from_fn(move || {
            let (before, payload) = self.get(at)?;
            at = before;
            Some(payload)
        })
    }

    /// Gives up the chunks in which everything is older than `second`.
    pub(super) fn expire(&mut self, second: u32) {
        while self.chunks.front().is_some_and(|chunk| chunk.newest < second) {
            self.give_up();
        }
    }

    /// Gives up the oldest chunk; false when there is at most one.
    pub(super) fn evict(&mut self) -> bool {
        let more = self.chunks.len() > 1;
        if more {
            self.give_up();
        }
        more
    }

    fn give_up(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.first = self.first.wrapping_add(1);
            self.gone = self.gone.max(chunk.newest);
        }
    }

    /// Records after this second are all there.
    pub(super) fn gone(&self) -> u32 {
        self.gone
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_series_reads_back_until_its_chunks_go(
            records in prop::collection::vec((0usize..3, 0usize..4_000), 0..60),
            evict in 0usize..5,
        ) {
            let mut arena = Arena::default();
            let mut heads = [Ref::NONE; 3];
            let mut model: [Vec<(u32, Vec<u8>)>; 3] = Default::default();
            for (second, (series, length)) in (1u32..).zip(&records) {
                let payload = vec![u8::try_from(second % 251).unwrap(); *length];
                heads[*series] = arena.push(heads[*series], second, &payload);
                model[*series].push((second, payload));
            }
            (0..evict).for_each(|_| { arena.evict(); });
            for (head, want) in heads.into_iter().zip(&model) {
                let got: Vec<_> = arena.walk(head).map(<[u8]>::to_vec).collect();
                let kept = want.iter().rev().filter(|(second, _)| *second > arena.gone());
                prop_assert_eq!(got, kept.map(|(_, payload)| payload.clone()).collect::<Vec<_>>());
            }
        }
    }
}
