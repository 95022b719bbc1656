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

/// Answers anything at all in HTTP, as lenient servers do.
fn lenient() -> Backend {
    Backend::raw(|mut client, _| {
        client.exactly(1);
        client.send(ok("reached"));
        client.rest();
    })
}

const ODD: &[&str] = &[
    "GET  / HTTP/1.1",
    "GET\t/ HTTP/1.1",
    "GET\0/ HTTP/1.1",
    "GET /\tHTTP/1.1",
    "GET key",
    "GET",
    "\nGET / HTTP/1.1",
    "\rGET / HTTP/1.1",
    " GET / HTTP/1.1",
    "\tGET / HTTP/1.1",
    "\r\n\r\nGET / HTTP/1.1",
    "\r\n GET / HTTP/1.1",
    "\r\n\nGET  / HTTP/1.1",
];

#[test]
fn odd_request_lines_are_refused_and_reach_no_instance() {
    let backend = lenient();
    let rig = rig(Protocol::Detect, &backend);
    let blanks = "\n".repeat(8193) + "GET / HTTP/1.1";
    for (at, line) in ODD.iter().copied().chain([&*blanks]).enumerate() {
        let answer = rig.ask(&format!("{line}\r\nHost: web\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{}: {answer}", line.escape_debug());
        rig.wait_count("ms_edge_refused_total", &[], at as u64 + 1);
    }
    assert_eq!(rig.count("ms_edge_sessions_total", &[]), 0);
    assert_eq!(rig.count("ms_edge_requests_total", &[]), 0);
}

#[test]
fn one_empty_line_before_a_request_is_http() {
    let backend = Backend::named("x");
    let options = Options { protocol: Protocol::Detect, published: true, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    assert_eq!(body(&rig.ask(&format!("\r\n{}", get("/")))), "x");
    assert!(backend.requests()[0].contains("x-forwarded-for"), "{:?}", backend.requests());
    rig.wait_count("ms_edge_requests_total", &[], 1);
}

#[test]
fn where_an_instance_answered_in_http_clients_speak_http() {
    let backend = Backend::named("x");
    let limits = Limits { detect_wait: Duration::from_millis(1), ..Limits::default() };
    let options = Options { protocol: Protocol::Detect, limits, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    assert_eq!(body(&rig.ask(&get("/"))), "x");
    rig.wait_count("ms_edge_requests_total", &[], 1);
    // More than there are threads: all of them know.
    for _ in 0..8 {
        for first in ["FOO  / HTTP/1.1\r\n\r\n", "get\t/ HTTP/1.1\r\n\r\n", "\x16\x03\x01\r\n\r\n"]
        {
            let answer = rig.ask(first);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{}: {answer}", first.escape_debug());
        }
        // Not the whole preface of HTTP/2.
        let answer = rig.ask("PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    }
    // Ends before it is clear whether it is the preface.
    let mut short = rig.client();
    short.send("PR");
    short.end();
    assert!(short.is_over());
    assert_eq!(rig.count("ms_edge_sessions_total", &[]), 0);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn an_answer_that_goes_on_tells_at_its_beginning() {
    let backend = Backend::raw(|mut client, _| {
        client.until("\r\n\r\n");
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        client.until("never");
    });
    let options = Options { protocol: Protocol::Detect, threads: 1, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let mut first = rig.client();
    first.send(get("/"));
    first.until("\r\n\r\n").unwrap();
    assert!(rig.ask("FOO  / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn the_preface_of_http2_passes_where_http_is_spoken() {
    let backend = Backend::raw(|mut client, number| {
        if number == 0 {
            client.until("\r\n\r\n");
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        } else {
            let said = client.rest();
            client.send(said.len().to_string());
        }
    });
    let rig = rig(Protocol::Detect, &backend);
    assert!(rig.ask(&get("/")).starts_with("HTTP/1.1 200 "));
    rig.wait_count("ms_edge_requests_total", &[], 1);
    let mut client = rig.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes");
    client.end();
    assert_eq!(client.rest(), "30");
}

#[test]
fn a_changed_listener_is_looked_at_anew() {
    let http = Backend::named("x");
    let rig = rig(Protocol::Detect, &http);
    assert_eq!(body(&rig.ask(&get("/"))), "x");
    rig.wait_count("ms_edge_requests_total", &[], 1);
    let raw = echo();
    rig.endpoints(vec![ready(1, raw.addr)]);
    let version = rig.change(|table| table.listeners[0].target_port += 1);
    rig.wait(|status| status.version >= version);
    for said in ["\x16\x03\x01", "\r\n", "FOO / HTTP/1.1\r\n\r\n", "CONNECT\nhost:x\n\n"] {
        let mut client = rig.client();
        client.send(said);
        client.end();
        assert_eq!(client.rest(), format!("you said {said}"));
    }
}

#[test]
fn bytes_that_are_not_http_are_never_taken_for_an_answer_in_it() {
    let backend = Backend::raw(|mut client, _| {
        while let Some(line) = client.until("\n") {
            client.send(line);
        }
    });
    let rig = rig(Protocol::Detect, &backend);
    // Answered by an echo: that is no HTTP, and nothing is remembered.
    assert!(rig.ask(&get("/")).starts_with("HTTP/1.1 502 "));
    let mut client = rig.client();
    for line in ["hello\n", "\n", "GET / HTTP/1.1\n"] {
        client.send(line);
        assert_eq!(client.exactly(line.len()), line);
    }
}

#[test]
fn trace_from_outside_is_refused() {
    let trace = "TRACE / HTTP/1.1\r\nHost: web\r\n\r\n";
    for protocol in [Protocol::Detect, Protocol::Http] {
        let backend = Backend::named("x");
        let published = Options { protocol, published: true, ..Options::default() };
        let answer = Rig::with(published, vec![ready(1, backend.addr)]).ask(trace);
        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
        assert!(answer.contains("\r\nallow: GET, "), "{answer}");
        assert_eq!(backend.requests().len(), 0);
        let rig = rig(protocol, &backend);
        assert_eq!(body(&rig.ask(trace)), "x", "within the app it passes");
    }
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
