//! Who listens on an address, read from `/proc`: for the error of a bind that failed.
//!
//! Best effort: without the right to read another user's file descriptors the port is still known
//! to be taken, but not by whom.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A process that listens on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// The process whose listening socket keeps the TCP address `addr` from being bound, when it can be
/// found.
pub fn holder_of(addr: SocketAddr) -> Option<Holder> {
    holder(addr, ["/proc/net/tcp", "/proc/net/tcp6"])
}

/// The same for a UDP address.
pub fn udp_holder_of(addr: SocketAddr) -> Option<Holder> {
    holder(addr, ["/proc/net/udp", "/proc/net/udp6"])
}

fn holder(addr: SocketAddr, tables: [&str; 2]) -> Option<Holder> {
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| listener_inode(line, addr))
    })?;
    owner_of(&format!("socket:[{inode}]"))
}

fn owner_of(socket: &str) -> Option<Holder> {
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == socket));
        if holds {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(Holder { pid, program: program.trim().to_owned() });
        }
    }
    None
}

/// The inode of a line of `/proc/net/tcp` that listens where `addr` would.
pub(crate) fn listener_inode(line: &str, addr: SocketAddr) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let local = parse_address(fields.nth(1)?)?;
    let (_remote, state) = (fields.next()?, fields.next()?);
    let inode = fields.nth(5)?.parse().ok()?;
    let overlaps = local.ip() == addr.ip()
        || local.ip().is_unspecified() && (local.is_ipv6() || addr.is_ipv4())
        || addr.ip().is_unspecified() && (addr.is_ipv6() || local.is_ipv4());
    // Listening, and what an unconnected UDP socket is called.
    (matches!(state, "0A" | "07") && local.port() == addr.port() && overlaps).then_some(inode)
}

/// `0100007F:1F90`: each word of four bytes in the host's order, the port in network order.
pub(crate) fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = holder_of(listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        let port = listener.local_addr().unwrap().port();
        let wildcard = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        assert_eq!(holder_of(wildcard).unwrap().pid, std::process::id());
        drop(listener);
    }

    #[test]
    fn finds_this_process_by_its_udp_port() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        assert_eq!(udp_holder_of(addr).unwrap().pid, std::process::id());
    }

    #[test]
    fn reads_addresses_as_the_kernel_writes_them() {
        let local = parse_address("0100007F:1F90");
        #[cfg(target_endian = "little")]
        assert_eq!(local, "127.0.0.1:8080".parse().ok());
        let six = parse_address("00000000000000000000000001000000:0050");
        #[cfg(target_endian = "little")]
        assert_eq!(six, "[::1]:80".parse().ok());
        for bad in ["", "0100007F", "0100:1", "zz00007F:1F90", "0100007F:1F90F"] {
            assert_eq!(parse_address(bad), None, "{bad}");
        }
        let _ = local.max(six);
    }
}
