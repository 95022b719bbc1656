//! The newest groups, as they were written, for readers that follow.
//!
//! Invariant: holds no more than its bound, or one group.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// Position of a group: volume and offset.
type Key = (u32, u32);

pub(crate) struct Tail {
    groups: BTreeMap<Key, Bytes>,
    order: VecDeque<Key>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Tail {
        Tail { groups: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds a group that is durable.
    pub(crate) fn push(&mut self, volume: u32, at: u32, group: Bytes) {
        self.bytes += group.len();
        self.order.push_back((volume, at));
        self.groups.insert((volume, at), group);
        while self.bytes > self.bytes_max && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            let gone = self.groups.remove(&oldest);
            self.bytes -= gone.map_or(0, |group| group.len());
        }
    }

    /// Bytes of a volume, if they are in one group here.
    pub(crate) fn get(&self, volume: u32, at: u32, length: usize) -> Option<Bytes> {
        let ((of, from), group) = self.groups.range(..=(volume, at)).next_back()?;
        if *of != volume {
            return None;
        }
        let skip = (at - from) as usize;
        let end = skip.checked_add(length).filter(|end| *end <= group.len())?;
        Some(group.slice(skip..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_it_has_and_stays_within_its_bound() {
        let mut tail = Tail::new(8192);
        for at in [4096, 8192, 12288] {
            tail.push(1, at, Bytes::from(vec![u8::try_from(at / 4096).unwrap(); 4096]));
        }
        assert_eq!(tail.get(1, 4096, 1), None);
        assert_eq!(tail.get(1, 8200, 4).unwrap(), &[2; 4][..]);
        assert_eq!(tail.get(1, 12288 + 4095, 2), None);
        assert_eq!(tail.get(2, 12288, 1), None);
    }
}
