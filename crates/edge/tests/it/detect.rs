//! TCP, and listeners that find out what is spoken.

use edge::{Limits, Protocol};
use std::time::Duration;

use crate::rig::{Backend, Options, Rig, body, draining, get, instance, ok, ready};

fn rig(protocol: Protocol, backend: &Backend) -> Rig {
    Rig::with(Options { protocol, ..Options::default() }, vec![ready(1, backend.addr)])
}

fn echo() -> Backend {
    Backend::raw(|mut client, _| {
        let said = client.rest();
        client.send(format!("you said {said}"));
    })
}

#[test]
fn a_tcp_session_passes_bytes_and_half_close() {
    let backend = echo();
    for protocol in [Protocol::Tcp, Protocol::Detect] {
        let rig = rig(protocol, &backend);
        let mut client = rig.client();
        let big = "*".repeat(200_000);
        client.send(&big);
        client.end();
        assert_eq!(client.rest(), format!("you said {big}"));
        rig.wait_count("ms_edge_sessions_total", &[("outcome", "finished")], 1);
        rig.wait_count("ms_edge_received_bytes_total", &[], big.len() as u64);
        assert_eq!(rig.count("ms_edge_requests_total", &[]), 0);
    }
}

#[test]
fn a_server_may_speak_first() {
    let backend = Backend::raw(|mut client, _| {
        client.send("220 mail ready\r\n");
        let said = client.until("\r\n").unwrap();
        client.send(format!("250 {said}"));
    });
    let rig = rig(Protocol::Detect, &backend);
    let mut client = rig.client();
    assert_eq!(client.until("\r\n").unwrap(), "220 mail ready\r\n");
    client.send("GET /\r\n");
    assert_eq!(client.rest(), "250 GET /\r\n", "decided: not looked at again");
}

#[test]
fn http_is_found_early_late_and_in_pieces() {
    let backend = Backend::named("x");
    let limits = Limits { detect_wait: Duration::from_millis(1), ..Limits::default() };
    let options = Options { protocol: Protocol::Detect, limits, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let mut early = rig.client();
    for _ in 0..2 {
        early.send(get("/"));
        assert_eq!(body(&early.response("GET")), "x");
    }
    let mut late = rig.client();
    let edge = rig.edge.as_ref().unwrap();
    while edge.sessions(&instance(1)) == 0 {
        std::thread::yield_now();
    }
    late.send(get("/"));
    assert_eq!(body(&late.response("GET")), "x");
    let mut pieces = rig.client();
    for byte in get("/").as_bytes() {
        pieces.send([*byte]);
    }
    assert_eq!(body(&pieces.response("GET")), "x");
    rig.wait_count("ms_edge_requests_total", &[("code_class", "2xx")], 4);
    assert_eq!(backend.requests().len(), 4);
}

#[test]
fn the_preface_of_http2_is_passed_through() {
    let backend = echo();
    let rig = rig(Protocol::Detect, &backend);
    let mut client = rig.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.end();
    assert_eq!(client.rest(), "you said PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn a_silent_client_does_not_keep_an_instance_from_draining() {
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let rig = rig(Protocol::Detect, &old);
    let mut silent = rig.client();
    let edge = rig.edge.as_ref().unwrap();
    while edge.sessions(&instance(1)) == 0 {
        std::thread::yield_now();
    }
    let version = rig.endpoints(vec![draining(1, old.addr), ready(2, new.addr)]);
    rig.wait(|s| s.version >= version && !s.inflight.contains_key(&instance(1)));
    rig.wait(|s| !s.sessions.contains_key(&instance(1)));
    silent.send(get("/"));
    assert_eq!(body(&silent.response("GET")), "new");
    assert_eq!(old.requests().len(), 0);
}

#[test]
fn a_client_that_waits_for_an_instance_is_answered_in_http() {
    let hold = Duration::from_millis(300);
    let rig = Rig::with(Options { protocol: Protocol::Detect, hold, ..Options::default() }, vec![]);
    let mut client = rig.client();
    rig.wait_count("ms_edge_held", &[("service", "web")], 1);
    client.send(get("/"));
    assert!(client.response("GET").starts_with("HTTP/1.1 503 "));
}

#[test]
fn a_session_that_breaks_on_one_side_breaks_on_the_other() {
    let backend = Backend::raw(|mut client, _| {
        client.send("x");
        client.until("y");
        // Dropped with unread bytes: the system sends a reset.
        drop(client);
    });
    let rig = rig(Protocol::Tcp, &backend);
    let mut client = rig.client();
    assert_eq!(client.exactly(1), "x");
    client.send("y");
    client.rest();
    let _ = ok("");
    assert!(client.is_over());
}
