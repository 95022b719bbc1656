//! Ports that the host publishes: refused before anything changes when they cannot be had.
//!
//! Not here: listening on them (the edge does). The check asks the kernel the way a listener that
//! shares nothing would, because the edge's own listeners share their port among its threads and
//! would share it with another engine's as well.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base::{Place, Problem, ServiceName};
use spec::Service;
use spec::model::PortKind;

use super::api::lock;

/// Where the host reaches each service. A port that the file leaves open is any free one, kept
/// in the state folder until the app is down, so that an engine that comes back gives it again.
///
/// A port that is published everywhere is bound on each of the host's addresses one by one: a
/// wildcard would take the port from the addresses that instances have of their own.
pub(super) struct HostPorts {
    chosen: Mutex<BTreeMap<Open, u16>>,
    file: PathBuf,
    here: Mutex<Vec<IpAddr>>,
}

/// A port that the file leaves open: of whom, at which address of the host, for which port inside.
type Open = (ServiceName, IpAddr, u16);

impl HostPorts {
    /// Of this host as it is now, with the ports that an earlier engine chose.
    pub(super) fn new(state_dir: &Path) -> HostPorts {
        let file = state_dir.join("ports");
        let kept = std::fs::read(&file).unwrap_or_default();
        let kept: Vec<(Open, u16)> = serde_json::from_slice(&kept).unwrap_or_default();
        HostPorts {
            chosen: Mutex::new(kept.into_iter().collect()),
            file,
            here: Mutex::new(net::local_addresses()),
        }
    }

    /// Forgets which ports were chosen.
    pub(super) fn forget(&self) {
        lock(&self.chosen).clear();
        let _ = std::fs::remove_file(&self.file);
    }

    /// Looks again which addresses this host has; true when they changed.
    pub(super) fn look_again(&self) -> bool {
        let now = net::local_addresses();
        std::mem::replace(&mut *lock(&self.here), now.clone()) != now
    }

    /// The addresses to listen on for one that the file says.
    pub(super) fn bound_for(&self, addr: SocketAddr) -> Vec<SocketAddr> {
        if !addr.ip().is_unspecified() {
            return vec![addr];
        }
        // `[::]` takes IPv4 in as well, as it does elsewhere, and 0.0.0.0 takes in `localhost`
        // however that resolves.
        let at = |ip: &IpAddr| SocketAddr::new(*ip, addr.port());
        lock(&self.here).iter().map(at).collect()
    }

    /// Host addresses that lead to a service's ports. A port that the file leaves open has the same
    /// number for TCP and UDP.
    pub(super) fn of(&self, service: &Service) -> Vec<Published> {
        let published = service.ports.iter().filter_map(|port| {
            let ip = port.host_ip.unwrap_or(EVERYWHERE);
            let number = match port.published {
                Some(number) => number,
                None => self.choose(&service.name, ip, port.target)?,
            };
            let addr = SocketAddr::new(ip, number);
            let target = spec::parts::published_target(service, port);
            Some(Published { addr, target, kind: port.protocol })
        });
        published.collect()
    }

    fn choose(&self, service: &ServiceName, ip: IpAddr, target: u16) -> Option<u16> {
        let mut chosen = lock(&self.chosen);
        let key = (service.clone(), ip, target);
        if let Some(number) = chosen.get(&key) {
            return Some(*number);
        }
        let number = agent::free_port(ip).ok()?;
        chosen.insert(key, number);
        let kept: Vec<_> = chosen.iter().collect();
        // What cannot be kept is chosen anew by the next engine.
        let _ = std::fs::write(&self.file, serde_json::to_vec(&kept).unwrap_or_default());
        Some(number)
    }
}

/// An address of the host that leads to a port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// The address, as the file says.
    pub(super) addr: SocketAddr,
    /// The service's port.
    pub(super) target: u16,
    /// Transport of both.
    pub(super) kind: PortKind,
}

/// A port that a service wants to publish.
pub(super) struct Wanted<'a> {
    /// The service.
    pub(super) service: &'a ServiceName,
    /// Where to listen, as the file says.
    pub(super) addr: SocketAddr,
    /// Over what.
    pub(super) kind: PortKind,
    /// The addresses that this means.
    pub(super) bound: Vec<SocketAddr>,
    /// Where the file says so.
    pub(super) place: &'a Place,
}

/// The address that a port without one is published on: every one of the host's, as Compose does.
pub(super) const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Checks that no two want the same port and nobody else has it. `ours` are the addresses that
/// our own edge listens on already.
pub(super) fn check(wanted: &[Wanted<'_>], ours: &[(SocketAddr, PortKind)]) -> Result<(), Problem> {
    let mut seen: BTreeMap<(u16, PortKind), Vec<&Wanted<'_>>> = BTreeMap::new();
    for want in wanted {
        let others = seen.entry((want.addr.port(), want.kind)).or_default();
        if let Some(other) = others.iter().find(|o| overlap(o.addr.ip(), want.addr.ip())) {
            return Err(clash(want, other));
        }
        others.push(want);
        for addr in want.bound.iter().filter(|addr| !ours.contains(&(**addr, want.kind))) {
            free(want, *addr)?;
        }
    }
    Ok(())
}

fn overlap(one: IpAddr, two: IpAddr) -> bool {
    one == two || one.is_unspecified() || two.is_unspecified()
}

fn clash(want: &Wanted<'_>, other: &Wanted<'_>) -> Problem {
    Problem::new(
        "port-clash",
        format!("`{}` and `{}` both publish {}", other.service, want.service, want.addr),
    )
    .with_place(want.place.clone())
    .with_cause(format!("`{}` does so at {}", other.service, other.place))
    .with_next(format!("give `{}` another port on the host", want.service))
}

fn free(want: &Wanted<'_>, addr: SocketAddr) -> Result<(), Problem> {
    let (bound, holder_of): (_, fn(SocketAddr) -> _) = match want.kind {
        PortKind::Tcp => (TcpListener::bind(addr).map(drop), net::holder_of),
        PortKind::Udp => (UdpSocket::bind(addr).map(drop), net::udp_holder_of),
    };
    let Err(error) = bound else { return Ok(()) };
    let taken = error.kind() == std::io::ErrorKind::AddrInUse;
    let holder = holder_of(addr);
    let code = if taken { "port-taken" } else { "port-refused" };
    let what = if taken { "is in use" } else { "cannot be listened on" };
    let cause = match holder {
        Some(holder) => format!("{} (pid {}) listens there", holder.program, holder.pid),
        None => error.to_string(),
    };
    Err(Problem::new(code, format!("cannot publish `{}`: {addr} {what}", want.service))
        .with_place(want.place.clone())
        .with_cause(cause)
        .with_next("stop what holds it, or publish another port of the host in `ports:`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_left_open_stays_the_same_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (web, ip): (ServiceName, IpAddr) = ("web".parse().unwrap(), Ipv4Addr::LOCALHOST.into());
        let first = HostPorts::new(dir.path()).choose(&web, ip, 80).unwrap();
        let second = HostPorts::new(dir.path());
        assert_eq!(second.choose(&web, ip, 80), Some(first));
        assert_ne!(second.choose(&web, ip, 81), Some(first));
        second.forget();
        assert!(lock(&HostPorts::new(dir.path()).chosen).is_empty());
    }

    #[test]
    fn refuses_two_that_want_the_same_and_one_that_is_taken() {
        let (a, b): (ServiceName, ServiceName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let place = Place { file: "compose.yaml".into(), line: 3, column: 7 };
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = holder.local_addr().unwrap();
        let want = |service, addr| {
            let (kind, bound) = (PortKind::Tcp, vec![addr]);
            Wanted { service, addr, kind, bound, place: &place }
        };

        let problem = check(&[want(&a, addr)], &[]).unwrap_err();
        assert_eq!(problem.code, "port-taken");
        assert!(problem.cause.unwrap().contains(&std::process::id().to_string()));
        assert!(check(&[want(&a, addr)], &[(addr, PortKind::Tcp)]).is_ok(), "our edge holds it");
        assert!(check(&[want(&a, addr)], &[(addr, PortKind::Udp)]).is_err(), "over UDP alone");
        let udp = Wanted { kind: PortKind::Udp, ..want(&b, addr) };
        assert!(check(&[udp], &[]).is_ok(), "TCP is not in the way of UDP");

        drop(holder);
        let everywhere = SocketAddr::new(EVERYWHERE, addr.port());
        let problem = check(&[want(&a, addr), want(&b, everywhere)], &[]).unwrap_err();
        assert_eq!(problem.code, "port-clash");
        assert!(problem.message.contains("`a` and `b`"), "{problem}");
    }
}
