//! Ports that the host publishes: refused before anything changes when they cannot be had.
//!
//! Not here: listening on them (the edge does). The check asks the kernel the way a listener that
//! shares nothing would, because the edge's own listeners share their port among its threads and
//! would share it with another engine's as well.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use base::{Place, Problem, ServiceName};

/// A port that a service wants to publish.
pub(super) struct Wanted<'a> {
    /// The service.
    pub(super) service: &'a ServiceName,
    /// Where to listen.
    pub(super) addr: SocketAddr,
    /// Where the file says so.
    pub(super) place: &'a Place,
}

/// The address that a port without one is published on: every one of the host's, as Compose does.
pub(super) const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Checks that no two want the same port and nobody else has it. `ours` are the addresses that
/// our own edge listens on already.
pub(super) fn check(wanted: &[Wanted<'_>], ours: &[SocketAddr]) -> Result<(), Problem> {
    let mut seen: BTreeMap<u16, Vec<&Wanted<'_>>> = BTreeMap::new();
    for want in wanted {
        let others = seen.entry(want.addr.port()).or_default();
        if let Some(other) = others.iter().find(|o| overlap(o.addr.ip(), want.addr.ip())) {
            return Err(clash(want, other));
        }
        others.push(want);
        if !ours.contains(&want.addr) {
            free(want, ours)?;
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

fn free(want: &Wanted<'_>, ours: &[SocketAddr]) -> Result<(), Problem> {
    let Err(error) = TcpListener::bind(want.addr) else { return Ok(()) };
    let taken = error.kind() == std::io::ErrorKind::AddrInUse;
    let holder = net::holder_of(want.addr);
    let mine = holder.as_ref().is_some_and(|h| h.pid == std::process::id());
    // Our own listeners on service addresses are no obstacle: sockets of the edge share ports.
    if taken && mine && ours.iter().any(|o| o.port() == want.addr.port()) {
        return Ok(());
    }
    let code = if taken { "port-taken" } else { "port-refused" };
    let what = if taken { "is in use" } else { "cannot be listened on" };
    let cause = match holder {
        Some(holder) => format!("{} (pid {}) listens there", holder.program, holder.pid),
        None => error.to_string(),
    };
    Err(Problem::new(code, format!("cannot publish `{}`: {} {what}", want.service, want.addr))
        .with_place(want.place.clone())
        .with_cause(cause)
        .with_next("stop what holds it, or publish another port of the host in `ports:`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_two_that_want_the_same_and_one_that_is_taken() {
        let (a, b): (ServiceName, ServiceName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let place = Place { file: "compose.yaml".into(), line: 3, column: 7 };
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = holder.local_addr().unwrap();
        let want = |service, addr| Wanted { service, addr, place: &place };

        let problem = check(&[want(&a, addr)], &[]).unwrap_err();
        assert_eq!(problem.code, "port-taken");
        assert!(problem.cause.unwrap().contains(&std::process::id().to_string()));
        assert!(check(&[want(&a, addr)], &[addr]).is_ok(), "our edge holds it");

        drop(holder);
        let everywhere = SocketAddr::new(EVERYWHERE, addr.port());
        let problem = check(&[want(&a, addr), want(&b, everywhere)], &[]).unwrap_err();
        assert_eq!(problem.code, "port-clash");
        assert!(problem.message.contains("`a` and `b`"), "{problem}");
    }
}
