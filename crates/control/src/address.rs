//! Addresses: services take the low half of a pool in order, instances the high half.
//!
//! Not here: who else on this host uses the pool (the engine claims it before it opens control).
//! Invariant: an address is given out only while no record and no observed instance holds it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// An IPv4 network to give addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    first: u32,
    half: u32,
}

impl Pool {
    /// The pool `first/prefix`; `None` unless it has from 16 to 2^24 addresses and starts at its
    /// own first address.
    pub fn new(first: Ipv4Addr, prefix: u8) -> Option<Pool> {
        let size = 1u32 << (32 - u32::from((8..=28).contains(&prefix).then_some(prefix)?));
        let first = first.to_bits();
        first.is_multiple_of(size).then_some(Pool { first, half: size / 2 })
    }

    /// How many services may have an address.
    pub fn services_max(&self) -> u32 {
        self.half - 1
    }

    /// How many instances may have an address.
    pub fn instances_max(&self) -> u32 {
        self.half - 1
    }

    /// Is it one of the pool's?
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.first + (2 * self.half - 1)).contains(&address.to_bits())
    }

    /// The lowest free address for a service. The pool's very first address is never given out.
    pub(crate) fn service(&self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        free(self.first + 1..self.first + self.half, taken)
    }

    /// The lowest free address for an instance. The pool's very last address is never given out.
    pub(crate) fn instance(&self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        free(self.first + self.half..self.first + (2 * self.half - 1), taken)
    }
}

fn free(mut range: std::ops::Range<u32>, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    range.find(|bits| !taken.contains(&Ipv4Addr::from_bits(*bits))).map(Ipv4Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_do_not_meet() {
        let pool = Pool::new(Ipv4Addr::new(127, 64, 0, 0), 28).unwrap();
        let mut taken = BTreeSet::new();
        let mut all = Vec::new();
        for _ in 0..pool.services_max() {
            let address = pool.service(&taken).unwrap();
            assert!(taken.insert(address));
            all.push(address);
        }
        assert_eq!(pool.service(&taken), None);
        assert_eq!(all[0], Ipv4Addr::new(127, 64, 0, 1));
        for _ in 0..pool.instances_max() {
            assert!(taken.insert(pool.instance(&taken).unwrap()));
        }
        assert_eq!(pool.instance(&taken), None);
        assert!(!taken.contains(&Ipv4Addr::new(127, 64, 0, 15)));
    }

    #[test]
    fn refuses_what_is_no_network() {
        assert_eq!(Pool::new(Ipv4Addr::new(127, 64, 0, 1), 24), None);
        assert_eq!(Pool::new(Ipv4Addr::new(127, 64, 0, 0), 29), None);
        assert!(Pool::new(Ipv4Addr::new(127, 64, 0, 0), 16).is_some());
    }
}
