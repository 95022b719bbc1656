//! On which addresses an instance listens: TCP, and where it has one of its own UDP.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use base::Ipv4Cidr;

/// Ports on which an instance listens at its own address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Over TCP.
    pub tcp: BTreeSet<u16>,
    /// Over UDP, those alone that the kernel does not give out: others are of clients.
    pub udp: BTreeSet<u16>,
}

/// A socket's state as the kernel prints it.
const TCP_LISTEN: &str = "0A";
/// A UDP socket that is not connected.
const UDP_OPEN: &str = "07";

/// A listening socket of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    address: SocketAddr,
    inode: u64,
}

/// Addresses on which the instance listens: its own address's, and those of its processes.
pub(crate) fn of(own: Option<Ipv4Addr>, processes: &[u32]) -> Vec<SocketAddr> {
    let all = all("tcp", TCP_LISTEN);
    // Whoever listens on its own address is known by that; only others need the costly look.
    let (mut found, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|l| own.is_some_and(|own| l.address.ip() == IpAddr::V4(own)));
    let mine = if others.is_empty() { HashSet::new() } else { sockets(processes) };
    let twin = |l: &Listener| l.address.ip() == IpAddr::V4(crate::bpf::TWINS);
    found.extend(others.into_iter().filter(|l| mine.contains(&l.inode) && !twin(l)));
    let mut addresses: Vec<_> = found.into_iter().map(|l| l.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Ports by the address that they are listened on, of the whole network namespace.
pub(crate) fn ports_by_address() -> HashMap<IpAddr, Ports> {
    let mut found: HashMap<IpAddr, Ports> = HashMap::new();
    for listener in all("tcp", TCP_LISTEN) {
        found.entry(listener.address.ip()).or_default().tcp.insert(listener.address.port());
    }
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let given_out = given_out(&range);
    let open = all("udp", UDP_OPEN).into_iter().map(|socket| socket.address);
    for address in open.filter(|address| !given_out.contains(&address.port())) {
        found.entry(address.ip()).or_default().udp.insert(address.port());
    }
    found
}

/// Whether anything listens over TCP on an address of this range.
pub fn listens_in(range: Ipv4Cidr) -> bool {
    all("tcp", TCP_LISTEN).into_iter().any(|listener| match listener.address.ip() {
        IpAddr::V4(address) => range.contains(address),
        IpAddr::V6(_) => false,
    })
}

/// Ports that clients get.
fn given_out(range: &str) -> RangeInclusive<u16> {
    let mut ends = range.split_ascii_whitespace().map(str::parse);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 32_768..=60_999,
    }
}

/// Every socket in this state. The kernel walks all of its connections for this: for now and then.
fn all(kind: &str, state: &str) -> Vec<Listener> {
    let mut all = Vec::new();
    for (family, parse) in [("", ipv4 as fn(&str) -> Option<IpAddr>), ("6", ipv6)] {
        let text = fs::read_to_string(format!("/proc/net/{kind}{family}")).unwrap_or_default();
        all.extend(text.lines().skip(1).filter_map(|line| listener(line, state, parse)));
    }
    all
}

pub(crate) fn listener(
    line: &str,
    state: &str,
    parse: fn(&str) -> Option<IpAddr>,
) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let listens = fields.nth(1)? == state;
    let inode = fields.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = SocketAddr::new(parse(ip)?, port);
    listens.then_some(Listener { address, inode })
}

/// The kernel prints each 32-bit word of the address in the machine's byte order.
pub(crate) fn ipv4(hex: &str) -> Option<IpAddr> {
    let word = u32::from_str_radix(hex, 16).ok()?;
    Some(Ipv4Addr::from(word.to_ne_bytes()).into())
}

pub(crate) fn ipv6(hex: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    for (at, bytes) in bytes.chunks_exact_mut(4).enumerate() {
        let word = u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?;
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes).to_canonical())
}

/// Inodes of the sockets that these processes hold.
fn sockets(processes: &[u32]) -> HashSet<u64> {
    let folders = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    let links = folders.flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| {
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    links.filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn ports_of_clients_are_not_listened_on() {
        // Below what the kernel gives out, and as likely as not to be free.
        let served = UdpSocket::bind("127.77.1.3:2953").unwrap();
        let client = UdpSocket::bind("127.77.1.3:0").unwrap();
        let connected = UdpSocket::bind("127.77.1.3:2954").unwrap();
        connected.connect(served.local_addr().unwrap()).unwrap();
        let found = ports_by_address();
        assert_eq!(found[&client.local_addr().unwrap().ip()].udp, [2953].into());
        assert_eq!(given_out("1024\t65535\n"), 1024..=65_535);
        assert_eq!(given_out(""), 32_768..=60_999);
    }

    #[test]
    fn finds_what_this_process_listens_on() {
        let four = TcpListener::bind("127.77.1.2:0").unwrap();
        let six = TcpListener::bind("[::1]:0").ok();
        let found = of(None, &[std::process::id()]);
        assert!(found.contains(&four.local_addr().unwrap()));
        assert!(six.is_none_or(|six| found.contains(&six.local_addr().unwrap())));
        assert!(of(None, &[]).is_empty());
        let own = of(Some([127, 77, 1, 2].into()), &[]);
        let four = four.local_addr().unwrap();
        assert_eq!(own, [four]);
        assert!(ports_by_address()[&four.ip()].tcp.contains(&four.port()));
        assert!(listens_in("127.77.1.2/32".parse().unwrap()));
        assert!(!listens_in("127.77.9.0/24".parse().unwrap()));
    }
}
