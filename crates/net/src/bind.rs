//! Listening sockets, and an error that says who is in the way.
//!
//! Invariant: an address is bound exclusively even when several sockets share it, so that a
//! second engine on the same host is told instead of taking part of the connections.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::holder::{Holder, holder_of, udp_holder_of};

/// Why an address could not be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("{addr} is in use{}", by(holder.as_ref()))]
    InUse {
        /// The address.
        addr: SocketAddr,
        /// Who has it, when that can be found.
        holder: Option<Holder>,
    },
    /// A port below 1024 without the right to it.
    #[error("{addr} needs the right to bind ports below 1024 (CAP_NET_BIND_SERVICE)")]
    Denied {
        /// The address.
        addr: SocketAddr,
    },
    /// This host does not have the address.
    #[error("{addr} is not an address of this host")]
    NoAddress {
        /// The address.
        addr: SocketAddr,
    },
    /// A living process serves the Unix socket.
    #[error("{} is served by another process", path.display())]
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is not a socket is in the place of a Unix socket.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Anything else that the system said.
    #[error("cannot listen on {on}: {cause}")]
    Other {
        /// The address or path.
        on: String,
        /// The system's words.
        cause: String,
    },
}

fn by(holder: Option<&Holder>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// How to listen on a TCP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpBind {
    /// Where.
    pub addr: SocketAddr,
    /// Connections that the kernel queues until they are accepted.
    pub backlog: u32,
    /// How many sockets share the address, one per thread; the kernel spreads connections.
    pub sockets: usize,
}

impl TcpBind {
    /// One socket with a queue of 1,024.
    pub fn new(addr: SocketAddr) -> TcpBind {
        TcpBind { addr, backlog: 1024, sockets: 1 }
    }
}

/// Non-blocking listeners on one address, all or none. Port 0 is chosen once for all of them.
///
/// # Errors
/// Says who holds the address, or what else is wrong with it.
pub fn bind_tcp(bind: TcpBind) -> Result<Vec<TcpListener>, BindError> {
    let failed = |error: &io::Error| bind_error(bind.addr, error, holder_of);
    let sockets = bind_siblings(bind.addr, bind.sockets, tcp_socket).map_err(|e| failed(&e))?;
    let backlog = i32::try_from(bind.backlog).unwrap_or(i32::MAX);
    for socket in &sockets {
        socket.listen(backlog).map_err(|e| failed(&e))?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

/// Non-blocking UDP sockets on one address, all or none; the kernel gives each client's datagrams to
/// one of them. Port 0 is chosen once for all.
///
/// # Errors
/// Says who holds the address, or what else is wrong with it.
pub fn bind_udp(addr: SocketAddr, sockets: usize) -> Result<Vec<UdpSocket>, BindError> {
    let bound = bind_siblings(addr, sockets, udp_socket);
    let bound = bound.map_err(|error| bind_error(addr, &error, udp_holder_of))?;
    Ok(bound.into_iter().map(UdpSocket::from).collect())
}

fn bind_siblings(
    mut addr: SocketAddr,
    count: usize,
    new: fn(SocketAddr) -> io::Result<Socket>,
) -> io::Result<Vec<Socket>> {
    let mut sockets: Vec<Socket> = Vec::with_capacity(count);
    for at in 0..count.max(1) {
        let socket = new(addr)?;
        // The first socket is bound without SO_REUSEPORT, which fails when anybody else listens
        // there, sharing or not. Only then does the option let its siblings in.
        if at > 0 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&addr.into())?;
        if at == 0 && count > 1 {
            socket.set_reuse_port(true)?;
        }
        if at == 0
            && let Some(bound) = socket.local_addr().ok().and_then(|bound| bound.as_socket())
        {
            addr = bound;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

fn udp_socket(addr: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn tcp_socket(addr: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    // Addresses in TIME_WAIT may be bound again; a listening one may not.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn bind_error(
    addr: SocketAddr,
    error: &io::Error,
    holder_of: fn(SocketAddr) -> Option<Holder>,
) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { addr, holder: holder_of(addr) },
        io::ErrorKind::PermissionDenied => BindError::Denied { addr },
        io::ErrorKind::AddrNotAvailable => BindError::NoAddress { addr },
        _ => BindError::Other { on: addr.to_string(), cause: error.to_string() },
    }
}

/// A non-blocking Unix listener that only this user can connect to. A socket file that nobody
/// serves any more is replaced.
///
/// # Errors
/// Another process serves it, something else is in its place, or the system refuses.
pub fn bind_unix(path: &Path) -> Result<UnixListener, BindError> {
    let other = |error: io::Error| BindError::Other {
        on: path.display().to_string(),
        cause: error.to_string(),
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(other(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {
            if UnixStream::connect(path).is_ok() {
                return Err(BindError::SocketInUse { path: path.to_owned() });
            }
            std::fs::remove_file(path).map_err(other)?;
        }
    }
    let listener = UnixListener::bind(path).map_err(other)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(other)?;
    listener.set_nonblocking(true).map_err(other)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn siblings_share_one_port_and_a_stranger_is_named() {
        let alone = "127.77.1.1:0".parse().unwrap();
        let ours = bind_tcp(TcpBind { sockets: 3, ..TcpBind::new(alone) }).unwrap();
        let addr = ours[0].local_addr().unwrap();
        assert!(ours.iter().all(|l| l.local_addr().unwrap() == addr));
        // A second set that would share is refused too: it is not ours.
        for sockets in [1, 3] {
            let error = bind_tcp(TcpBind { sockets, ..TcpBind::new(addr) }).unwrap_err();
            let pid = format!("(pid {})", std::process::id());
            assert!(error.to_string().contains(&pid), "{error}");
        }
        drop(ours);
        bind_tcp(TcpBind { sockets: 2, ..TcpBind::new(addr) }).unwrap();
    }

    #[test]
    fn udp_siblings_share_one_port_and_a_stranger_is_named() {
        // An address that no other test's clients connect from.
        let ours = bind_udp("127.77.1.2:0".parse().unwrap(), 2).unwrap();
        let addr = ours[0].local_addr().unwrap();
        assert_eq!(ours[1].local_addr().unwrap(), addr);
        for sockets in [1, 2] {
            let error = bind_udp(addr, sockets).unwrap_err();
            let pid = format!("(pid {})", std::process::id());
            assert!(error.to_string().contains(&pid), "{error}");
        }
        // TCP at the same address is another matter.
        bind_tcp(TcpBind::new(addr)).unwrap();
    }

    #[test]
    fn siblings_all_get_connections() {
        let ours = bind_tcp(TcpBind { sockets: 2, ..TcpBind::new(any_port()) }).unwrap();
        let addr = ours[0].local_addr().unwrap();
        let clients: Vec<_> =
            (0..64).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        let accepted: Vec<usize> =
            ours.iter().map(|l| std::iter::from_fn(|| l.accept().ok()).count()).collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        // The kernel spreads by a hash of the ports: 64 to one of two is a chance of 2^-63.
        assert!(accepted.iter().all(|&n| n > 0), "{accepted:?}");
    }

    #[test]
    fn a_foreign_address_is_called_that() {
        let error = bind_tcp(TcpBind::new("192.0.2.1:0".parse().unwrap())).unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.1:0 is not an address of this host");
    }

    #[test]
    fn stale_unix_sockets_are_replaced_and_living_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let first = bind_unix(&path).unwrap();
        assert!(matches!(bind_unix(&path), Err(BindError::SocketInUse { .. })));
        drop(first);
        let again = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(again);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(bind_unix(&file), Err(BindError::NotASocket { .. })));
    }
}
