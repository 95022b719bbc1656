//! A minute of one series: up to 60 points, packed. Pure.
//!
//! Times are implicit: a bit says whether a second has a point. Each column keeps its smallest
//! value and the distances from it in as many bits as the largest needs, so that an idle counter
//! costs two bytes a minute.
//!
//! Invariants: what is packed reads back exactly; a missing second stays missing.

use super::bytes::{Bytes, put_signed};

/// Seconds, and so points at most, in a block.
pub(super) const BLOCK_SECONDS: u32 = 60;

/// Values of one column while its block is filled; those of a constant one take no memory.
#[derive(Clone, Debug, Default)]
struct Column {
    first: i64,
    /// All values, or none as long as every value equals `first`.
    values: Vec<i64>,
}

/// A block that is being filled.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub start: u32,
    present: u64,
    columns: Box<[Column]>,
}

impl Open {
    pub(super) fn new(columns: usize) -> Open {
        Open { start: 0, present: 0, columns: vec![Column::default(); columns].into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Adds the point of `second`, which is in this block and after all others.
    pub(super) fn push(&mut self, second: u32, values: &[i64]) {
        let count = self.present.count_ones() as usize;
        self.present |= 1 << (second - self.start);
        for (column, &value) in self.columns.iter_mut().zip(values) {
            if count == 0 {
                (column.first, column.values) = (value, Vec::new());
            } else if !column.values.is_empty() {
                column.values.push(value);
            } else if value != column.first {
                column.values = vec![column.first; count];
                column.values.push(value);
            }
        }
    }

    /// Starts over at `start`.
    pub(super) fn restart(&mut self, start: u32) {
        (self.start, self.present) = (start, 0);
        self.columns.iter_mut().for_each(|column| *column = Column::default());
    }

    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.present.to_le_bytes());
        for column in &self.columns {
            let (least, most) = (column.values.iter().min(), column.values.iter().max());
            let (Some(&least), Some(&most)) = (least, most) else {
                put_signed(out, column.first);
                out.push(0);
                continue;
            };
            let width = 64 - most.wrapping_sub(least).cast_unsigned().leading_zeros();
            put_signed(out, least);
            out.push(u8::try_from(width).unwrap_or(64));
            let (mut word, mut used) = (0u128, 0);
            for value in &column.values {
                word |= u128::from(value.wrapping_sub(least).cast_unsigned()) << used;
                used += width;
                while used >= 8 {
                    out.push(u8::try_from(word & 0xff).unwrap_or(0));
                    word >>= 8;
                    used -= 8;
                }
            }
            if used > 0 {
                out.push(u8::try_from(word & 0xff).unwrap_or(0));
            }
        }
    }

    /// Its points so far.
    pub(super) fn points(&self) -> Block {
        let count = self.present.count_ones() as usize;
        let columns = self.columns.iter().map(|column| match column.values.as_slice() {
            [] => vec![column.first; count],
            values => values.to_vec(),
        });
        Block { start: self.start, present: self.present, columns: columns.collect() }
    }
}

/// A block's points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub start: u32,
    present: u64,
    pub columns: Vec<Vec<i64>>,
}

impl Block {
    /// Reads what [`Open::pack`] wrote, with so many columns.
    pub(super) fn unpack(bytes: &mut Bytes<'_>, columns: usize) -> Option<Block> {
        let start = u32::from_le_bytes(bytes.array()?);
        let present = u64::from_le_bytes(bytes.array()?);
        let count = present.count_ones() as usize;
        let each = (0..columns).map(|_| {
            let least = bytes.signed()?;
            let [width] = bytes.array()?;
            if width > 64 {
                return None;
            }
            let packed = bytes.take((count * usize::from(width)).div_ceil(8))?;
            let (mut word, mut have, mut next) = (0u128, 0, packed.iter());
            let mask = (1u128 << width) - 1;
            let values = (0..count).map(|_| {
                while have < width {
                    word |= u128::from(next.next().copied().unwrap_or(0)) << have;
                    have += 8;
                }
                let distance = u64::try_from(word & mask).unwrap_or(0);
                word >>= width;
                have -= width;
                least.wrapping_add(distance.cast_signed())
            });
            Some(values.collect())
        });
        let columns = each.collect::<Option<_>>()?;
        Some(Block { start, present, columns })
    }

    /// The seconds that have a point, in order.
    pub(super) fn seconds(&self) -> impl Iterator<Item = u32> + '_ {
        (0..64).filter(|bit| self.present >> bit & 1 == 1).map(|bit| self.start.saturating_add(bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), 0..5i64, any::<i32>().prop_map(i64::from), any::<i64>()]
    }

    proptest! {
        #[test]
        fn packed_blocks_read_back_exactly(
            start in any::<u32>().prop_map(|s| s / 120 * 60),
            points in prop::collection::btree_map(0..BLOCK_SECONDS, (value(), value()), 1..60),
        ) {
            let mut open = Open::new(2);
            open.restart(start);
            for (&second, &(a, b)) in &points {
                open.push(start + second, &[a, b]);
            }
            let mut out = Vec::new();
            open.pack(&mut out);
            let mut bytes = Bytes(&out);
            let block = Block::unpack(&mut bytes, 2).unwrap();
            prop_assert!(bytes.0.is_empty());
            prop_assert_eq!(&block, &open.points());
            prop_assert_eq!(block.seconds().collect::<Vec<_>>(),
                points.keys().map(|s| start + s).collect::<Vec<_>>());
            prop_assert_eq!(&block.columns[0], &points.values().map(|p| p.0).collect::<Vec<_>>());
            prop_assert_eq!(&block.columns[1], &points.values().map(|p| p.1).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Block::unpack(&mut Bytes(&bytes), 2);
        }
    }

    #[test]
    fn an_idle_minute_costs_two_bytes_beside_its_head() {
        let mut open = Open::new(1);
        open.restart(60);
        (60..120).for_each(|second| open.push(second, &[0]));
        let mut out = Vec::new();
        open.pack(&mut out);
        assert_eq!(out.len(), 12 + 2);
    }
}
