//! The addresses of this host.

use std::net::{IpAddr, Ipv4Addr};

/// Every address of this host's interfaces, loopback included, in order and without repeats.
/// IPv6 addresses that hold on one link only are left out: without their link they are ambiguous.
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    let usable = |ip: &IpAddr| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut found: Vec<IpAddr> = addresses.filter(usable).collect();
    if found.is_empty() {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_can_be_bound() {
        let found = local_addresses();
        assert!(found.contains(&Ipv4Addr::LOCALHOST.into()), "{found:?}");
        for ip in found {
            std::net::TcpListener::bind((ip, 0)).unwrap_or_else(|e| panic!("{ip}: {e}"));
        }
    }
}
