//! Which addresses this engine may give out, when several engines share a host.
//!
//! A claim is a bound abstract Unix socket named after the pool. Every instance's shim inherits
//! it, so that the claim outlives a killed engine for as long as an instance uses the pool, and
//! vanishes with the last of them. No file has to be cleaned up.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use base::Problem;

/// An IPv4 network: `127.64.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Lowest address.
    pub(crate) first: Ipv4Addr,
    /// Length of the prefix in bits.
    pub(crate) prefix: u8,
}

/// Pools that are tried in turn when none is asked for: 127.64.0.0/16 to 127.127.0.0/16.
const DEFAULT_SECOND_OCTETS: std::ops::RangeInclusive<u8> = 64..=127;

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl std::str::FromStr for Pool {
    type Err = Problem;

    /// Reads a CIDR inside 127.0.0.0/8 with 64 addresses at least.
    fn from_str(text: &str) -> Result<Pool, Problem> {
        let bad = |cause: &str| {
            Problem::new("bad-addresses", format!("`{text}` cannot be a pool of addresses"))
                .with_cause(cause)
                .with_next("give a loopback network, as in --addresses 127.80.0.0/16")
        };
        let (address, prefix) = text.split_once('/').ok_or_else(|| bad("it is not a CIDR"))?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad("it is not an IPv4 network"))?;
        let prefix: u8 = prefix.parse().map_err(|_| bad("its prefix is not a number"))?;
        if !(8..=26).contains(&prefix) {
            return Err(bad("its prefix is not between 8 and 26"));
        }
        let mask = u32::MAX << (32 - prefix);
        if address.to_bits() & !mask != 0 {
            return Err(bad("it has bits set beyond its prefix"));
        }
        if !address.is_loopback() || address.to_bits() >> (32 - prefix) == 127 << (prefix - 8) {
            return Err(bad("it is not inside 127.0.0.0/8 clear of 127.0.0.1"));
        }
        Ok(Pool { first: address, prefix })
    }
}

/// A pool that is ours for as long as this value, or an instance that inherited it, lives.
pub(crate) struct Claim {
    /// The pool.
    pub(crate) pool: Pool,
    /// What holds it; instances inherit it. `None` when instances that run already hold it.
    pub(crate) held_by: Option<OwnedFd>,
}

/// Claims a pool.
///
/// `asked` is what the person asked for, `stored` what this state folder used before, and
/// `in_use` whether instances of ours still run on `stored`: then it is ours, claimed by them.
pub(crate) fn claim(
    asked: Option<Pool>,
    stored: Option<Pool>,
    in_use: bool,
) -> Result<Claim, Problem> {
    if let (Some(stored), true) = (stored, in_use) {
        return Ok(Claim { pool: stored, held_by: bind(stored) });
    }
    if let Some(pool) = asked {
        let held_by = bind(pool).ok_or_else(|| taken(pool))?;
        return Ok(Claim { pool, held_by: Some(held_by) });
    }
    let defaults = DEFAULT_SECOND_OCTETS
        .map(|second| Pool { first: Ipv4Addr::new(127, second, 0, 0), prefix: 16 });
    stored
        .into_iter()
        .chain(defaults)
        .find_map(|pool| bind(pool).map(|fd| Claim { pool, held_by: Some(fd) }))
        .ok_or_else(|| {
            Problem::new("addresses-taken", "no pool of addresses is free")
                .with_cause("every network from 127.64.0.0/16 to 127.127.0.0/16 is in use")
                .with_next("stop an engine, or give another with --addresses")
        })
}

fn taken(pool: Pool) -> Problem {
    Problem::new("addresses-taken", format!("the pool of addresses {pool} is in use"))
        .with_cause("another engine on this host, or an instance that it left, has claimed it")
        .with_next("give another with --addresses, or leave it out to take a free one")
}

fn bind(pool: Pool) -> Option<OwnedFd> {
    let name = format!("mainspring/addresses/{pool}");
    let address = SocketAddr::from_abstract_name(name).ok()?;
    UnixDatagram::bind_addr(&address).ok().map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_loopback_networks_only() {
        assert_eq!("127.80.0.0/16".parse::<Pool>().unwrap().to_string(), "127.80.0.0/16");
        for bad in
            ["", "127.80.0.0", "10.0.0.0/16", "127.80.0.1/16", "127.0.0.0/16", "127.80.0.0/30"]
        {
            assert!(bad.parse::<Pool>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_claim_lasts_as_long_as_its_holder() {
        let pool: Pool = "127.250.64.0/20".parse().unwrap();
        let first = claim(Some(pool), None, false).unwrap();
        assert_eq!(claim(Some(pool), None, false).err().unwrap().code, "addresses-taken");
        let inherited = first.held_by.as_ref().unwrap().try_clone().unwrap();
        drop(first);
        assert!(claim(Some(pool), None, false).is_err(), "an instance still holds it");
        assert!(claim(None, Some(pool), true).unwrap().held_by.is_none(), "ours, held by it");
        drop(inherited);
        assert!(claim(Some(pool), None, false).is_ok());
    }
}
