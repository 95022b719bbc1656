//! Which addresses this engine may give out, when several engines share a host.
//!
//! A claim is a bound abstract Unix socket named after the pool. Every instance's shim inherits
//! it, so that the claim outlives a killed engine for as long as an instance uses the pool, and
//! vanishes with the last of them. No file has to be cleaned up. A pool that nobody asked for is
//! left alone, too, where something listens in it: a program that knows nothing of claims, or what
//! a killed shim has not yet taken with it.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use base::{Ipv4Cidr, Problem};

/// Pools that are tried in turn when none is asked for: 127.64.0.0/16 to 127.127.0.0/16.
const DEFAULT_SECOND_OCTETS: std::ops::RangeInclusive<u8> = 64..=127;

/// Reads a CIDR inside 127.0.0.0/8 with 64 addresses at least.
pub(crate) fn read(text: &str) -> Result<Ipv4Cidr, Problem> {
    let bad = |cause: &str| {
        Problem::new("bad-addresses", format!("`{text}` cannot be a pool of addresses"))
            .with_cause(cause)
            .with_next("give a loopback network, as in --addresses 127.80.0.0/16")
    };
    let pool: Ipv4Cidr = text
        .parse()
        .map_err(|_| bad("it is not an IPv4 network with nothing set past its prefix"))?;
    if !(8..=26).contains(&pool.bits()) {
        return Err(bad("its prefix is not between 8 and 26"));
    }
    if !pool.base().is_loopback() || pool.contains(Ipv4Addr::LOCALHOST) {
        return Err(bad("it is not inside 127.0.0.0/8 clear of 127.0.0.1"));
    }
    Ok(pool)
}

/// A pool that is ours for as long as this value, or an instance that inherited it, lives.
pub(crate) struct Claim {
    /// The pool.
    pub(crate) pool: Ipv4Cidr,
    /// What holds it; instances inherit it. Empty when instances of an older engine hold it, which
    /// does not give it back.
    pub(crate) held_by: Vec<OwnedFd>,
}

/// Claims a pool.
///
/// `asked` is what the person asked for, `stored` what this state folder used before, and `kept`
/// what instances of ours that run on `stored` hold for us: then it is ours, claimed by them, and
/// the claim is passed on to instances that come after them.
pub(crate) fn claim(
    asked: Option<Ipv4Cidr>,
    stored: Option<Ipv4Cidr>,
    kept: Option<Vec<OwnedFd>>,
) -> Result<Claim, Problem> {
    if let (Some(stored), Some(kept)) = (stored, kept) {
        let held_by = bind(stored).map_or(kept, |fd| vec![fd]);
        return Ok(Claim { pool: stored, held_by });
    }
    if let Some(pool) = asked {
        let held_by = bind(pool).ok_or_else(|| taken(pool))?;
        return Ok(Claim { pool, held_by: vec![held_by] });
    }
    let defaults = DEFAULT_SECOND_OCTETS
        .filter_map(|second| Ipv4Cidr::new(Ipv4Addr::new(127, second, 0, 0), 16));
    stored
        .into_iter()
        .chain(defaults)
        .filter(|pool| !agent::listens_in(*pool))
        .find_map(|pool| bind(pool).map(|fd| Claim { pool, held_by: vec![fd] }))
        .ok_or_else(|| {
            Problem::new("addresses-taken", "no pool of addresses is free")
                .with_cause("every network from 127.64.0.0/16 to 127.127.0.0/16 is in use")
                .with_next("stop an engine, or give another with --addresses")
        })
}

fn taken(pool: Ipv4Cidr) -> Problem {
    Problem::new("addresses-taken", format!("the pool of addresses {pool} is in use"))
        .with_cause("another engine on this host, or an instance that it left, has claimed it")
        .with_next("give another with --addresses, or leave it out to take a free one")
}

/// Whether no engine and no instance of one has claimed it.
pub(crate) fn is_unclaimed(pool: Ipv4Cidr) -> bool {
    bind(pool).is_some()
}

fn bind(pool: Ipv4Cidr) -> Option<OwnedFd> {
    let name = format!("mainspring/addresses/{pool}");
    let address = SocketAddr::from_abstract_name(name).ok()?;
    UnixDatagram::bind_addr(&address).ok().map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_loopback_networks_only() {
        assert_eq!(read("127.80.0.0/16").unwrap().to_string(), "127.80.0.0/16");
        for bad in
            ["", "127.80.0.0", "10.0.0.0/16", "127.80.0.1/16", "127.0.0.0/16", "127.80.0.0/30"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_others_listen_in_is_left_alone() {
        let pool: Ipv4Cidr = "127.251.64.0/20".parse().unwrap();
        assert_eq!(claim(None, Some(pool), None).unwrap().pool, pool);
        let other = std::net::TcpListener::bind("127.251.64.9:0").unwrap();
        assert_ne!(claim(None, Some(pool), None).unwrap().pool, pool);
        assert_eq!(claim(Some(pool), None, None).unwrap().pool, pool, "whoever asks gets it");
        drop(other);
        assert_eq!(claim(None, Some(pool), None).unwrap().pool, pool);
    }

    #[test]
    fn a_claim_lasts_as_long_as_its_holder() {
        let pool: Ipv4Cidr = "127.250.64.0/20".parse().unwrap();
        let first = claim(Some(pool), None, None).unwrap();
        assert_eq!(claim(Some(pool), None, None).err().unwrap().code, "addresses-taken");
        let inherited = first.held_by[0].try_clone().unwrap();
        drop(first);
        assert!(claim(Some(pool), None, None).is_err(), "an instance still holds it");
        let again = claim(None, Some(pool), Some(vec![inherited])).unwrap();
        assert_eq!(again.held_by.len(), 1, "it passes on what the instance held");
        assert!(claim(Some(pool), None, None).is_err());
        drop(again);
        assert!(claim(Some(pool), None, None).is_ok());
    }
}
