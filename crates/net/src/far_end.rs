//! Whether somebody still holds the other end of a connection that has ended its half.
//!
//! A client that has said all and one that has gone away send the same FIN. On this host the
//! kernel knows which it was and tells within microseconds (sock_diag, what `ss` asks). Of a
//! client on another host nothing is known.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// A process of this host holds it, and may read.
    Held,
    /// It is on this host and no process holds it.
    Abandoned,
    /// It is on another host, or the system does not say.
    Unknown,
}

// Numbers of the kernel's interface (linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h).
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
const HEADER_BYTES: usize = 16;
const QUESTION_BYTES: usize = HEADER_BYTES + 56;
/// Where an answer has the socket's state and its inode, 0 when no process holds it.
const STATE_AT: usize = HEADER_BYTES + 1;
const INODE_AT: usize = HEADER_BYTES + 68;

/// Looks at the end `peer` of a TCP connection whose end here is `ours`. A few microseconds.
pub fn far_end(ours: SocketAddr, peer: SocketAddr) -> FarEnd {
    let ask = || -> io::Result<FarEnd> {
        let kind = Type::RAW.cloexec().nonblocking();
        let protocol = Protocol::from(NETLINK_SOCK_DIAG);
        let mut socket = Socket::new(Domain::from(AF_NETLINK), kind, Some(protocol))?;
        socket.send(&question(peer, ours))?;
        // The answer is there when the question has been taken.
        let mut answer = [0; 512];
        let count = socket.read(&mut answer)?;
        Ok(answered(&answer[..count]))
    };
    ask().unwrap_or(FarEnd::Unknown)
}

/// Which socket is at `local` and talks to `remote`?
fn question(local: SocketAddr, remote: SocketAddr) -> [u8; QUESTION_BYTES] {
    let (source, destination) = (local.ip().to_canonical(), remote.ip().to_canonical());
    let family = if source.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut out = [0; QUESTION_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[u8::try_from(QUESTION_BYTES).unwrap_or(0), 0, 0, 0]);
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&NLM_F_REQUEST.to_ne_bytes());
    // Sequence and sender, which nobody looks at; then family, protocol, nothing more than that.
    put(&[0; 8]);
    put(&[family, IPPROTO_TCP, 0, 0]);
    // In whatever state, at these ports and addresses, on any interface, with any cookie.
    put(&[0xff; 4]);
    put(&local.port().to_be_bytes());
    put(&remote.port().to_be_bytes());
    put(&sixteen(source));
    put(&sixteen(destination));
    put(&[0; 4]);
    put(&[0xff; 8]);
    out
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut field = [0; 16];
            field[..4].copy_from_slice(&ip.octets());
            field
        }
    }
}

fn answered(answer: &[u8]) -> FarEnd {
    let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let found = answer.get(4..6) == Some(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    match word(INODE_AT).map(u32::from_ne_bytes) {
        // Without such a connection the kernel names a listener at its address.
        _ if !found || answer[STATE_AT] == TCP_LISTEN => FarEnd::Unknown,
        Some(0) => FarEnd::Abandoned,
        Some(_) => FarEnd::Held,
        None => FarEnd::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn half_closed_is_held_and_closed_is_abandoned() {
        for at in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let port = listener.local_addr().unwrap().port();
            for to in ["127.0.0.1", "::1"] {
                let Ok(client) = TcpStream::connect((to, port)) else { continue };
                let (mut server, peer) = listener.accept().unwrap();
                let ours = server.local_addr().unwrap();
                assert_eq!(far_end(ours, peer), FarEnd::Held);
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(server.read(&mut [0]).unwrap(), 0);
                assert_eq!(far_end(ours, peer), FarEnd::Held);
                drop(client);
                assert_eq!(far_end(ours, peer), FarEnd::Abandoned, "{ours} {peer}");
            }
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_not_here() {
        let here = "127.0.0.1:9".parse().unwrap();
        assert_eq!(far_end(here, "192.0.2.1:9".parse().unwrap()), FarEnd::Unknown);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(far_end(here, listener.local_addr().unwrap()), FarEnd::Unknown);
        for odd in [&[][..], &[0; 20], &[20; 30]] {
            assert_eq!(answered(odd), FarEnd::Unknown);
        }
    }
}
