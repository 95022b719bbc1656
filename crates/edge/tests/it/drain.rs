//! The promise that stopping an instance rests on, under load and random tables.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge::{Balance, Endpoint, Limits, Protocol};

use crate::rig::{Backend, Options, Rig, address, body, draining, get, instance, ok, ready};

/// xorshift: numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// An instance that knows when it must not be asked any more.
struct Watched {
    backend: Backend,
    stopped: Arc<AtomicBool>,
}

fn watched(violations: &Arc<AtomicU32>) -> Watched {
    let stopped = Arc::new(AtomicBool::new(false));
    let (is_stopped, violations) = (Arc::clone(&stopped), Arc::clone(violations));
    let backend = Backend::raw(move |mut client, _| {
        while client.message(false).is_some() {
            // Neither when a request arrives nor until it is answered.
            let before = is_stopped.load(Ordering::SeqCst);
            std::thread::yield_now();
            client.send(ok("fine"));
            if before {
                violations.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    Watched { backend, stopped }
}

#[test]
fn what_the_status_calls_drained_is_never_asked_again() {
    for (seed, balance) in [(1, Balance::LeastRequests), (2, Balance::RoundRobin)] {
        run(seed, balance);
    }
}

fn run(seed: u64, balance: Balance) {
    let violations = Arc::new(AtomicU32::new(0));
    let instances: Vec<Watched> = (0..4).map(|_| watched(&violations)).collect();
    let all: Vec<Endpoint> =
        (1..).zip(&instances).map(|(slot, one)| ready(slot, one.backend.addr)).collect();
    let rig = Rig::with(Options { threads: 3, balance, ..Options::default() }, all.clone());
    let over = Arc::new(AtomicBool::new(false));
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let (over, failures, addr) = (Arc::clone(&over), Arc::clone(&failures), rig.addr);
            std::thread::spawn(move || {
                let mut answered = 0;
                let mut client = crate::rig::Client::connect(addr);
                while !over.load(Ordering::SeqCst) {
                    // Some keep their connection, some do not; some may not be repeated.
                    if number % 3 == 0 {
                        client = crate::rig::Client::connect(addr);
                    }
                    client.send(if number % 2 == 0 {
                        get("/")
                    } else {
                        "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi".to_owned()
                    });
                    let response = client.response("GET");
                    if body(&response) != "fine" {
                        failures.lock().unwrap().push(response);
                    }
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
    for _ in 0..150 {
        // Some stay, some drain, some are gone; sometimes none is left.
        let mut leaving = Vec::new();
        let mut endpoints = Vec::new();
        for (at, endpoint) in all.iter().enumerate() {
            match dice.roll(4) {
                0 => leaving.push(at),
                1 => {
                    leaving.push(at);
                    let slot = u32::try_from(at + 1).unwrap();
                    endpoints.push(draining(slot, instances[at].backend.addr));
                }
                _ => endpoints.push(endpoint.clone()),
            }
        }
        let version = rig.endpoints(endpoints);
        let drained: Vec<_> =
            leaving.iter().map(|&at| instance(u32::try_from(at + 1).unwrap())).collect();
        rig.wait(|status| {
            status.version >= version && drained.iter().all(|id| !status.inflight.contains_key(id))
        });
        for &at in &leaving {
            instances[at].stopped.store(true, Ordering::SeqCst);
        }
        for _ in 0..dice.roll(30) {
            std::thread::yield_now();
        }
        // They start again before the next table may name them.
        for &at in &leaving {
            instances[at].stopped.store(false, Ordering::SeqCst);
        }
    }
    let version = rig.endpoints(all);
    rig.wait(|status| status.version == version);
    over.store(true, Ordering::SeqCst);
    let answered: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(violations.load(Ordering::SeqCst), 0, "seed {seed}: asked after it was drained");
    assert_eq!(*failures.lock().unwrap(), Vec::<String>::new(), "seed {seed}");
    assert!(answered > 100, "seed {seed}: only {answered} requests, too few to prove anything");
    let edge = rig.edge.as_ref().unwrap();
    while (1..=4).any(|slot| edge.inflight(&instance(slot)) > 0) {
        std::thread::yield_now();
    }
}

#[test]
fn a_request_under_way_keeps_its_instance_in_the_status() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = Mutex::new(held);
    let backend = Backend::http(move |_, _| {
        held.lock().unwrap().recv().unwrap();
        ok("finished")
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    let edge = rig.edge.as_ref().unwrap();
    while edge.inflight(&instance(1)) == 0 {
        std::thread::yield_now();
    }
    let version = rig.endpoints(vec![]);
    let status = rig.wait(|status| status.version == version);
    assert_eq!(status.inflight, BTreeMap::from([(instance(1), 1)]));
    release.send(()).unwrap();
    assert_eq!(body(&client.response("GET")), "finished");
    rig.wait(|status| status.inflight.is_empty());
    assert_eq!(rig.edge.as_ref().unwrap().inflight(&instance(1)), 0);
}

#[test]
fn idle_connections_to_a_leaving_instance_are_closed() {
    let (ended, tells) = std::sync::mpsc::sync_channel::<()>(1);
    let backend = Backend::raw(move |mut client, _| {
        client.message(false);
        client.send(ok("x"));
        client.rest();
        ended.send(()).unwrap();
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    client.response("GET");
    rig.endpoints(vec![draining(1, backend.addr)]);
    tells.recv().unwrap();
}

/// Repeats every line that it gets.
fn parrot(mut client: crate::rig::Client) {
    while let Some(line) = client.until("\n") {
        client.send(line);
    }
}

#[test]
fn an_open_tunnel_is_no_reason_to_wait() {
    let backend = Backend::raw(|mut client, _| {
        client.until("\r\n\r\n").unwrap();
        client.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        parrot(client);
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: w\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.until("\r\n\r\n").unwrap();
    client.send("before\n");
    assert_eq!(client.exactly(7), "before\n");
    let sessions = BTreeMap::from([(instance(1), 1)]);
    for left in [vec![draining(1, backend.addr)], vec![]] {
        let version = rig.endpoints(left);
        let status = rig.wait(|status| status.version == version);
        assert_eq!((&status.inflight, &status.sessions), (&BTreeMap::new(), &sessions));
        client.send("after\n");
        assert_eq!(client.exactly(6), "after\n");
    }
    drop(client);
    rig.wait(|status| status.sessions.is_empty());
}

#[test]
fn a_session_whose_client_is_silent_is_no_reason_to_wait() {
    let backend = Backend::raw(|client, _| parrot(client));
    let options = Options { protocol: Protocol::Tcp, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let mut silent = rig.client();
    while rig.edge.as_ref().unwrap().sessions(&instance(1)) == 0 {
        std::thread::yield_now();
    }
    let version = rig.endpoints(vec![draining(1, backend.addr)]);
    let status = rig.wait(|status| status.version == version);
    assert_eq!(status.inflight, BTreeMap::new());
    assert_eq!(status.sessions, BTreeMap::from([(instance(1), 1)]));
    silent.send("at last\n");
    assert_eq!(silent.exactly(8), "at last\n");
}

/// A listener that completes no connection: its queue is full.
fn full() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
    let addr = SocketAddr::new(address(), 8000);
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&addr.into()).unwrap();
    listener.listen(0).unwrap();
    let connect = |_| TcpStream::connect_timeout(&addr, Duration::from_millis(300));
    let waiting: Vec<_> = (0..8).map_while(|at| connect(at).ok()).collect();
    assert!(waiting.len() < 8, "the queue takes more than it was told to");
    (listener, waiting, addr)
}

#[test]
fn a_session_that_only_connects_is_waited_for_and_goes_elsewhere() {
    let (_listener, _waiting, addr) = full();
    let other = Backend::raw(|client, _| parrot(client));
    let limits = Limits { connect_timeout: Duration::from_millis(250), ..Limits::default() };
    let options = Options { protocol: Protocol::Tcp, limits, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, addr)]);
    let mut client = rig.client();
    let edge = rig.edge.as_ref().unwrap();
    while edge.inflight(&instance(1)) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(edge.sessions(&instance(1)), 0);
    let version = rig.endpoints(vec![draining(1, addr), ready(2, other.addr)]);
    rig.wait(|status| status.version == version && !status.inflight.contains_key(&instance(1)));
    client.send("hello\n");
    assert_eq!(client.exactly(6), "hello\n");
    assert_eq!(edge.sessions(&instance(2)), 1);
}
