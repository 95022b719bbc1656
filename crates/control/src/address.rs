//! Addresses: services take the low half of a pool in order, instances the high half.
//!
//! Not here: who else on this host uses the pool (the engine claims it before it opens control).
//! Invariant: an address is given out only while no record and no observed instance holds it. The
//! pool's very first and last address are never given out.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use base::Ipv4Cidr;

/// How many services may have an address of the pool, and how many instances.
pub(crate) fn each_max(pool: Ipv4Cidr) -> u32 {
    u32::try_from(half(pool).saturating_sub(1)).unwrap_or(u32::MAX)
}

/// The lowest free address for a service.
pub(crate) fn for_service(pool: Ipv4Cidr, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    free(pool, 1..half(pool), taken)
}

/// The lowest free address for an instance.
pub(crate) fn for_instance(pool: Ipv4Cidr, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    free(pool, half(pool)..(2 * half(pool)).saturating_sub(1), taken)
}

fn half(pool: Ipv4Cidr) -> u64 {
    (1u64 << (32 - u32::from(pool.bits()))) / 2
}

fn free(
    pool: Ipv4Cidr,
    mut range: std::ops::Range<u64>,
    taken: &BTreeSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let at = |offset: u64| {
        let bits = u64::from(pool.base().to_bits()) + offset;
        u32::try_from(bits).ok().map(Ipv4Addr::from_bits)
    };
    range.find_map(|offset| at(offset).filter(|address| !taken.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_do_not_meet() {
        let pool: Ipv4Cidr = "127.64.0.0/28".parse().unwrap();
        let mut taken = BTreeSet::new();
        let mut all = Vec::new();
        for _ in 0..each_max(pool) {
            let address = for_service(pool, &taken).unwrap();
            assert!(taken.insert(address));
            all.push(address);
        }
        assert_eq!(for_service(pool, &taken), None);
        assert_eq!(all[0], Ipv4Addr::new(127, 64, 0, 1));
        for _ in 0..each_max(pool) {
            assert!(taken.insert(for_instance(pool, &taken).unwrap()));
        }
        assert_eq!(for_instance(pool, &taken), None);
        assert!(!taken.contains(&Ipv4Addr::new(127, 64, 0, 15)));
    }

    #[test]
    fn a_pool_of_any_size_gives_only_its_own() {
        for bits in 0..=32 {
            let pool = Ipv4Cidr::new(Ipv4Addr::new(127, 64, 0, 0), bits).unwrap();
            let given = [for_service(pool, &BTreeSet::new()), for_instance(pool, &BTreeSet::new())];
            assert!(given.into_iter().flatten().all(|address| pool.contains(address)), "{pool}");
            assert_eq!(given[0].is_some(), bits <= 30, "{pool}");
        }
    }
}
