//! Where requests go, what is tried again, and what waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edge::{Balance, Endpoint, EndpointAddress, Limits};

use crate::rig::{Backend, Options, Rig, address, body, get, ok, ready};

fn dead() -> SocketAddr {
    SocketAddr::new(address(), 8000)
}

fn names(rig: &Rig, count: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        *seen.entry(body(&rig.ask(&get("/"))).to_owned()).or_default() += 1;
    }
    seen
}

#[test]
fn weights_are_kept_and_none_is_none() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let weights = [3, 1, 0];
    let endpoints = (1..).zip(&backends).zip(weights);
    let endpoints: Vec<Endpoint> =
        endpoints.map(|((slot, b), weight)| Endpoint { weight, ..ready(slot, b.addr) }).collect();
    let options = Options { balance: Balance::RoundRobin, threads: 1, ..Options::default() };
    let rig = Rig::with(options, endpoints);
    let seen = names(&rig, 40);
    assert_eq!(seen, BTreeMap::from([("a".to_owned(), 30), ("b".to_owned(), 10)]));
}

#[test]
fn a_busy_instance_gets_less() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = std::sync::Mutex::new(held);
    let slow = Backend::http(move |_, _| {
        let _ = held.lock().unwrap().recv();
        ok("slow")
    });
    let quick = Backend::named("quick");
    let rig = Rig::with(
        Options { threads: 1, ..Options::default() },
        vec![ready(1, slow.addr), ready(2, quick.addr)],
    );
    // Ties rotate: of two requests one after the other, the second goes to the slow instance.
    assert_eq!(body(&rig.ask(&get("/"))), "quick");
    let mut waiting = rig.client();
    waiting.send(get("/"));
    let edge = rig.edge.as_ref().unwrap();
    while edge.inflight(&crate::rig::instance(1)) == 0 {
        std::thread::yield_now();
    }
    let seen = names(&rig, 10);
    assert_eq!(seen, BTreeMap::from([("quick".to_owned(), 10)]));
    release.send(()).unwrap();
}

#[test]
fn a_dead_instance_costs_no_request() {
    let backend = Backend::named("alive");
    let rig = Rig::new(vec![ready(1, dead()), ready(2, backend.addr)]);
    let post = "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi";
    for request in [&get("/"), post].repeat(10) {
        assert_eq!(body(&rig.ask(request)), "alive");
    }
    let retried = rig.count("ms_edge_retries_total", &[("reason", "connect")]);
    assert!((1..=10).contains(&retried), "set aside after a failure: {retried}");
}

#[test]
fn the_target_port_is_dialled_at_an_address_of_its_own() {
    let backend = Backend::named("x");
    let endpoint =
        Endpoint { address: EndpointAddress::AnyPort(backend.addr.ip()), ..ready(1, backend.addr) };
    let rig = Rig::new(vec![endpoint]);
    assert_eq!(body(&rig.ask(&get("/"))), "x");
}

/// Closes its first connection when the second request arrives on it, unanswered.
fn closes_once() -> (Backend, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let backend = Backend::raw(move |mut client, number| {
        let mut served = 0;
        while client.message(false).is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            if number == 0 && served == 1 {
                return;
            }
            served += 1;
            client.send(ok(&number.to_string()));
        }
    });
    (backend, asked)
}

#[test]
fn a_request_that_may_be_repeated_survives_a_stale_connection() {
    let (backend, asked) = closes_once();
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    let put = "PUT / HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi";
    for (request, want) in [(&get("/")[..], "0"), (put, "1"), (&get("/"), "1")] {
        client.send(request);
        assert_eq!(body(&client.response("GET")), want);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4, "one of them was sent twice");
    assert_eq!(rig.count("ms_edge_retries_total", &[("reason", "stale")]), 1);
}

#[test]
fn a_request_that_may_not_be_repeated_is_not() {
    let (backend, asked) = closes_once();
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    client.response("GET");
    client.send("POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi");
    assert!(client.response("POST").starts_with("HTTP/1.1 502 "));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    client.send(get("/"));
    assert_eq!(body(&client.response("GET")), "1", "the client's connection goes on");
}

#[test]
fn a_connection_that_was_closed_while_idle_is_never_used() {
    let backend = Backend::raw(|mut client, number| {
        client.message(false);
        client.send(ok(&number.to_string()));
    });
    let rig = Rig::with(Options { threads: 1, ..Options::default() }, vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    for number in 0..20 {
        client.send("POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\n\r\n");
        let response = client.response("POST");
        // The close may arrive after the next request was sent; then it is a plain 502.
        assert!(
            response.starts_with("HTTP/1.1 502 ")
                || body(&response).parse::<u32>().unwrap() <= number
        );
    }
}

#[test]
fn requests_wait_for_an_instance() {
    let backend = Backend::named("x");
    let rig = Rig::new(vec![]);
    let mut clients: Vec<_> = (0..5).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi");
    }
    rig.wait_count("ms_edge_held", &[("service", "web")], 5);
    rig.endpoints(vec![ready(1, backend.addr)]);
    for client in &mut clients {
        assert_eq!(body(&client.response("POST")), "x");
    }
    rig.wait_count("ms_edge_held", &[("service", "web")], 0);
}

#[test]
fn an_instance_that_comes_back_is_found_without_a_new_table() {
    let addr = dead();
    let rig = Rig::new(vec![ready(1, addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    rig.wait_count("ms_edge_held", &[("service", "web")], 1);
    let _backend = Backend::raw_at(addr, |mut client, _| {
        while client.message(false).is_some() {
            client.send(ok("back"));
        }
    });
    assert_eq!(body(&client.response("GET")), "back");
}

#[test]
fn who_waited_in_vain_is_told_why() {
    let options = Options {
        hold: Duration::from_millis(20),
        why: "web.1 exits with code 3 at every start",
        ..Options::default()
    };
    let rig = Rig::with(options, vec![]);
    let mut client = rig.client();
    for _ in 0..2 {
        client.send(get("/"));
        let response = client.response("GET");
        assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
        assert!(response.contains("\r\nretry-after: 1\r\n"), "{response}");
        assert_eq!(
            body(&response),
            "503: `web` cannot take the request: no instance became ready in time\n\
             cause: web.1 exits with code 3 at every start\nnext:  ms ps web; ms logs web\n"
        );
    }
    rig.wait_count("ms_edge_requests_total", &[("instance", ""), ("code_class", "5xx")], 2);
}

#[test]
fn the_cause_names_an_instance_that_refuses() {
    let options = Options { hold: Duration::from_millis(1), ..Options::default() };
    let rig = Rig::with(options, vec![ready(7, dead())]);
    let response = rig.ask(&get("/"));
    assert!(response.contains("\ncause: web.7 at 127."), "{response}");
    assert!(response.contains("Connection refused"), "{response}");
}

#[test]
fn the_queue_is_bounded() {
    let limits = Limits { hold_requests_max: 2, ..Limits::default() };
    let rig = Rig::with(Options { limits, ..Options::default() }, vec![]);
    let mut waiting: Vec<_> = (0..2).map(|_| rig.client()).collect();
    for client in &mut waiting {
        client.send(get("/"));
    }
    rig.wait_count("ms_edge_held", &[("service", "web")], 2);
    let response = rig.ask(&get("/"));
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("too many requests wait"), "{response}");
}
