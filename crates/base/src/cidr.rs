//! A range of IPv4 addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses such as `127.64.0.0/16`; host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Cidr {
    base: Ipv4Addr,
    bits: u8,
}

impl Ipv4Cidr {
    /// The range of `bits` leading bits around `address`; `None` past 32 bits.
    pub fn new(address: Ipv4Addr, bits: u8) -> Option<Ipv4Cidr> {
        let mask = mask(bits)?;
        Some(Ipv4Cidr { base: Ipv4Addr::from_bits(address.to_bits() & mask), bits })
    }

    /// The first address.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// How many leading bits are fixed.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The fixed bits, set.
    pub fn mask(self) -> u32 {
        mask(self.bits).unwrap_or(u32::MAX)
    }

    /// The last address.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | !self.mask())
    }

    /// Whether `address` is in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.base.to_bits()
    }
}

fn mask(bits: u8) -> Option<u32> {
    match bits {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - bits)),
        _ => None,
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Ipv4Cidr, String> {
        let read = || {
            let (address, bits) = text.split_once('/')?;
            let address: Ipv4Addr = address.parse().ok()?;
            let cidr = Ipv4Cidr::new(address, bits.parse().ok()?)?;
            (cidr.base == address).then_some(cidr)
        };
        read().ok_or_else(|| {
            format!("`{text}` is not an address range such as 127.64.0.0/16 with host bits zero")
        })
    }
}

impl TryFrom<String> for Ipv4Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Ipv4Cidr, String> {
        text.parse()
    }
}

impl From<Ipv4Cidr> for String {
    fn from(cidr: Ipv4Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_addresses_and_no_other() {
        let pool: Ipv4Cidr = "127.64.0.0/16".parse().unwrap();
        assert!(pool.contains("127.64.255.255".parse().unwrap()));
        assert!(!pool.contains("127.65.0.0".parse().unwrap()));
        assert_eq!(pool.to_string(), "127.64.0.0/16");
        assert_eq!(pool.last(), Ipv4Addr::new(127, 64, 255, 255));
        for bad in ["127.64.0.1/16", "127.64.0.0", "127.64.0.0/33", "x/8", "127.64.0.0/-1"] {
            assert!(bad.parse::<Ipv4Cidr>().is_err(), "{bad}");
        }
        assert!("0.0.0.0/0".parse::<Ipv4Cidr>().unwrap().contains([9, 9, 9, 9].into()));
    }
}
