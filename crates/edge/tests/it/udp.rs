//! Datagrams through the edge, with real sockets on both sides.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use base::ServiceName;
use edge::{Limits, Protocol};

use crate::rig::{Backend, Options, Rig, address, draining, get, ready};

const OPEN: &str = "ms_edge_sessions_open";
const ENDED: &str = "ms_edge_sessions_total";
const DROPPED: &str = "ms_edge_datagrams_dropped_total";

/// An instance that answers each datagram with its name and what it got; `hush` gets none.
fn named(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind((address(), 8000)).unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            if &bytes[..len] != b"hush" {
                let answer = [name.as_bytes(), b" ", &bytes[..len]].concat();
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    addr
}

fn rig(limits: Limits, endpoints: Vec<edge::Endpoint>) -> Rig {
    Rig::with(Options { protocol: Protocol::Udp, limits, ..Options::default() }, endpoints)
}

/// A client at `ip`. It is connected, so it gets datagrams only from the address that it asks.
fn client(rig: &Rig, ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.connect(rig.addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Option<String> {
    let mut bytes = vec![0; 65_536];
    let len = socket.recv(&mut bytes).ok()?;
    Some(String::from_utf8(bytes[..len].to_vec()).unwrap())
}

/// Asks again until there is an answer, as clients of UDP do.
fn ask(socket: &UdpSocket, question: &str) -> String {
    for _ in 0..150 {
        socket.send(question.as_bytes()).unwrap();
        if let Some(answer) = receive(socket) {
            return answer;
        }
    }
    panic!("no answer to {question}");
}

#[test]
fn a_client_keeps_its_instance_and_is_counted() {
    let rig = rig(Limits::default(), vec![ready(1, named("a")), ready(2, named("b"))]);
    let jobs: ServiceName = "jobs".parse().unwrap();
    let from = address();
    let version = rig.change(|table| {
        table.callers.insert(from, jobs);
    });
    rig.wait(|status| status.version == version);
    let clients: Vec<_> = (0..6).map(|_| client(&rig, from)).collect();
    let mut by_instance = BTreeSet::new();
    for client in &clients {
        let first = ask(client, "x");
        for _ in 0..3 {
            assert_eq!(ask(client, "x"), first);
        }
        by_instance.insert(first);
    }
    assert_eq!(by_instance.len(), 2, "both have clients");
    let who = [("caller", "jobs"), ("service", "web")];
    rig.wait_count(OPEN, &who, 6);
    rig.wait_count("ms_edge_received_bytes_total", &who, 24);
    rig.wait_count("ms_edge_sent_bytes_total", &who, 72);
    let sessions = |slot| rig.edge.as_ref().unwrap().sessions(&crate::rig::instance(slot));
    assert_eq!(sessions(1) + sessions(2), 6);
}

#[test]
fn datagrams_come_from_where_they_are_told_to() {
    let socket = UdpSocket::bind((address(), 8000)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let datagrams_from = Some(address());
    let options = Options { protocol: Protocol::Udp, datagrams_from, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, socket.local_addr().unwrap())]);
    client(&rig, address()).send(b"x").unwrap();
    let (_, from) = socket.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(Some(from.ip()), datagrams_from);
}

#[test]
fn datagrams_of_any_length_pass_whole() {
    let rig = rig(Limits::default(), vec![ready(1, named("a"))]);
    let client = client(&rig, address());
    for len in [0, 1, 512, 1472, 9000, 60_000] {
        let question = "y".repeat(len);
        assert!(ask(&client, &question) == format!("a {question}"), "{len} bytes");
    }
}

#[test]
fn an_instance_that_leaves_gets_nothing_more_and_its_answers_are_delivered() {
    let slow = UdpSocket::bind((address(), 8000)).unwrap();
    let rig = rig(Limits::default(), vec![ready(1, slow.local_addr().unwrap())]);
    let client = client(&rig, address());
    client.send(b"before").unwrap();
    let mut bytes = [0; 100];
    let (_, edge) = slow.recv_from(&mut bytes).unwrap();
    let left = draining(1, slow.local_addr().unwrap());
    let version = rig.endpoints(vec![left, ready(2, named("b"))]);
    rig.wait(|status| status.version == version);
    assert_eq!(ask(&client, "after"), "b after");
    slow.send_to(b"late", edge).unwrap();
    assert_eq!(receive(&client).unwrap(), "late");
    slow.set_nonblocking(true).unwrap();
    assert!(slow.recv_from(&mut bytes).is_err(), "it got nothing more");
}

#[test]
fn where_nobody_listens_the_next_datagram_goes_elsewhere() {
    let nobody = SocketAddr::new(address(), 8000);
    let rig = rig(Limits::default(), vec![ready(1, nobody), ready(2, named("b"))]);
    for _ in 0..4 {
        assert_eq!(ask(&client(&rig, address()), "x"), "b x");
    }
}

#[test]
fn without_an_instance_datagrams_are_dropped_and_counted() {
    let rig = rig(Limits::default(), vec![]);
    let client = client(&rig, address());
    client.send(b"x").unwrap();
    rig.wait_count(DROPPED, &[("service", "web"), ("reason", "unavailable")], 1);
    rig.endpoints(vec![ready(1, named("a"))]);
    assert_eq!(ask(&client, "x"), "a x");
}

#[test]
fn past_the_bound_the_most_silent_session_ends() {
    let limits = Limits { udp_sessions_max: 2, ..Limits::default() };
    let endpoints = vec![ready(1, named("a"))];
    let options = Options { threads: 1, protocol: Protocol::Udp, limits, ..Options::default() };
    let rig = Rig::with(options, endpoints);
    let clients: Vec<_> = (0..10).map(|_| client(&rig, address())).collect();
    for (at, one) in clients.iter().enumerate() {
        assert_eq!(ask(one, "x"), "a x");
        // The first is never the most silent.
        assert_eq!(ask(&clients[0], "x"), "a x");
        rig.wait_count(OPEN, &[], u64::try_from(at).unwrap().clamp(0, 1) + 1);
    }
    rig.wait_count(ENDED, &[("outcome", "timed-out")], 8);
}

#[test]
fn silence_ends_a_session() {
    let limits = Limits { udp_idle_timeout: Duration::from_millis(500), ..Limits::default() };
    let rig = rig(limits, vec![ready(1, named("a"))]);
    let client = client(&rig, address());
    ask(&client, "x");
    client.send(b"hush").unwrap();
    assert_eq!(rig.count(OPEN, &[]), 1);
    rig.wait_count(OPEN, &[], 0);
    rig.wait_count(ENDED, &[("outcome", "finished")], 1);
    assert_eq!(ask(&client, "x"), "a x");
}

#[test]
fn tcp_and_udp_share_an_address_and_each_comes_and_goes_alone() {
    let udp = named("a");
    let backend = Backend::raw_at(udp, |mut client, _| {
        client.message(false).unwrap();
        client.send(crate::rig::ok("tcp"));
    });
    let rig = rig(Limits::default(), vec![ready(1, backend.addr)]);
    let version = rig.change(|table| {
        let mut tcp = table.listeners[0].clone();
        tcp.protocol = Protocol::Http;
        table.listeners.push(tcp);
    });
    rig.wait(|status| status.version == version && status.listeners.contains_key(&rig.addr));
    let client = client(&rig, address());
    assert_eq!(ask(&client, "x"), "a x");
    assert_eq!(crate::rig::body(&rig.ask(&get("/"))), "tcp");
    let version = rig.change(|table| table.listeners.retain(|l| l.protocol != Protocol::Udp));
    rig.wait(|status| status.version == version && status.udp_listeners.is_empty());
    rig.wait_count(OPEN, &[], 0);
    assert_eq!(crate::rig::body(&rig.ask(&get("/"))), "tcp");
    UdpSocket::bind(rig.addr).unwrap();
}

#[test]
fn a_taken_udp_port_is_told_by_name() {
    let rig = rig(Limits::default(), vec![]);
    let taken = UdpSocket::bind((address(), 8000)).unwrap().local_addr().unwrap();
    let holder = UdpSocket::bind(taken).unwrap();
    rig.change(|table| {
        let mut second = table.listeners[0].clone();
        second.addr = taken;
        table.listeners.push(second);
    });
    let status = rig.wait(|status| status.udp_listeners.contains_key(&taken));
    let problem = status.udp_listeners[&taken].clone().unwrap_err().to_string();
    assert!(problem.contains(&format!("(pid {})", std::process::id())), "{problem}");
    // Over TCP the address is free.
    drop(std::net::TcpListener::bind(taken).unwrap());
    drop(holder);
    rig.wait(|status| status.udp_listeners[&taken].is_ok());
}
