//! Whose process is at the other end of a loopback TCP connection, read from `/proc/net`.
//!
//! Not here: what that user may do. Another machine's process is never known.
//!
//! Invariant: a uid is told only while the connection stands and somebody holds its other end.
//! The kernel writes uid 0 for an end that was closed or is not accepted yet, so these are
//! unknown; a client that sends and leaves must not pass for root.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};

use crate::holder::parse_address;

/// The tables change while they are read, and then a row may be missed.
const READS_MAX: usize = 3;
const ESTABLISHED: &str = "01";

/// The user id of the process that made the other end of `stream`, when that is on this host.
///
/// Reads tables as long as the host has connections: not for an asynchronous thread.
pub fn peer_uid(stream: &TcpStream) -> Option<u32> {
    let ours = canonical(stream.local_addr().ok()?);
    let peer = canonical(stream.peer_addr().ok()?);
    let uid = (0..READS_MAX).find_map(|_| uid_in_tables(peer, ours))?;
    // After a reset another process may have got the same addresses. While this end still
    // stands, the row was of its own peer.
    stream.peer_addr().ok().and(uid)
}

/// The user id that this process acts with.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// A v4 address as itself, also when the socket is a v6 one; no scope and no flow label.
fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// `None` when there is no such row, `Some(None)` when it tells no uid.
fn uid_in_tables(peer: SocketAddr, ours: SocketAddr) -> Option<Option<u32>> {
    let mut found = None;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A host without IPv6 has no second table.
        let Ok(file) = File::open(table) else { continue };
        for line in BufReader::new(file).lines().skip(1).map_while(io::Result::ok) {
            let Some(uid) = uid_of(&line, peer, ours) else { continue };
            // A row may be read twice; two that differ tell nothing.
            found = Some(found.map_or(uid, |before| if before == uid { uid } else { None }));
        }
    }
    found
}

/// The uid of a line of `/proc/net/tcp` if it is of the end `local` that talks to `remote`:
/// `Some(None)` when nobody holds that end.
fn uid_of(line: &str, local: SocketAddr, remote: SocketAddr) -> Option<Option<u32>> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let is = |text: Option<&str>, at| text.and_then(parse_address) == Some(at);
    if !is(fields.next(), local) || !is(fields.next(), remote) {
        return None;
    }
    let state = fields.next();
    let uid = fields.nth(3).and_then(|uid| uid.parse().ok());
    let held = fields.nth(1).is_some_and(|inode| inode != "0");
    Some(uid.filter(|_| held && state == Some(ESTABLISHED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Uid, setfsuid};
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    const NOBODY: u32 = 65534;

    /// Both ends, the first of them made with the file system user id `uid`, as its process's.
    fn pair(listen: &str, connect: &str, uid: u32) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((listen, 0)).unwrap();
        let at = (connect.to_owned(), listener.local_addr().unwrap().port());
        // The id is a thread's own, and ends with it.
        let connecting = thread::spawn(move || {
            setfsuid(Uid::from_raw(uid));
            TcpStream::connect(at).unwrap()
        });
        (connecting.join().unwrap(), listener.accept().unwrap().0)
    }

    fn users() -> impl Iterator<Item = u32> {
        let other = (own_uid() == 0).then_some(NOBODY);
        [own_uid()].into_iter().chain(other)
    }

    #[test]
    fn whoever_connected_is_known() {
        for uid in users() {
            let (client, server) = pair("127.0.0.1", "127.0.0.1", uid);
            assert_eq!(peer_uid(&server), Some(uid));
            assert_eq!(peer_uid(&client), Some(own_uid()), "seen from the other end");
        }
    }

    #[test]
    fn also_over_v6_and_mapped_v4() {
        if TcpListener::bind("[::1]:0").is_err() {
            return;
        }
        for uid in users() {
            for (listen, connect) in [
                ("::1", "::1"),
                ("::ffff:127.0.0.1", "127.0.0.1"),
                ("127.0.0.1", "::ffff:127.0.0.1"),
                ("::", "127.0.0.1"),
            ] {
                let (_client, server) = pair(listen, connect, uid);
                assert_eq!(peer_uid(&server), Some(uid), "{listen} {connect}");
            }
        }
    }

    #[test]
    fn who_left_is_unknown() {
        for uid in users() {
            let (client, mut server) = pair("127.0.0.1", "127.0.0.1", uid);
            drop(client);
            assert_eq!(server.read(&mut [0]).unwrap(), 0, "it has gone");
            assert_eq!(peer_uid(&server), None, "closed");

            let (client, mut server) = pair("127.0.0.1", "127.0.0.1", uid);
            let client = socket2::Socket::from(client);
            client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(client);
            assert!(server.read(&mut [0]).is_err(), "it was reset");
            assert_eq!(peer_uid(&server), None, "reset");
        }
    }

    #[test]
    fn an_end_that_nobody_accepted_is_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(peer_uid(&client), None);
        let _accepted = listener.accept().unwrap();
        assert_eq!(peer_uid(&client), Some(own_uid()));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_row_counts_when_it_is_the_peer_s_and_held() {
        let (peer, ours) = ("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        let row = |state: &str, inode: &str| {
            format!(
                "   4: 0100007F:1F90 0100007F:0050 {state} 00000000:00000000 00:00000000 00000000 \
                 1000        0 {inode} 1 0 20 4 30 10 -1"
            )
        };
        assert_eq!(uid_of(&row("01", "77"), peer, ours), Some(Some(1000)));
        assert_eq!(uid_of(&row("01", "77"), ours, peer), None, "the other end");
        for (state, inode) in [("01", "0"), ("04", "77"), ("05", "0"), ("06", "0"), ("08", "77")] {
            assert_eq!(uid_of(&row(state, inode), peer, ours), Some(None), "{state} {inode}");
        }
        for odd in ["", "x", "1: 0100007F:1F90", "1: 0100007F:1F90 0100007F:0050"] {
            assert_eq!(uid_of(odd, peer, ours).flatten(), None, "{odd}");
        }
    }
}
