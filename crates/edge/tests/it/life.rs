//! Listeners that come and go, callers, connection limits, and the end.

use std::time::Duration;

use edge::{BindProblem, Limits, Listener, Protocol};

use crate::rig::{Backend, Client, Options, Rig, address, body, get, instance, ok, ready, service};

#[test]
fn callers_are_counted_by_name() {
    let backend = Backend::named("x");
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    client.response("GET");
    // All connections of this test come from 127.0.0.1 or the address that is connected to.
    let from = client.stream.local_addr().unwrap().ip();
    let version = rig.change(|table| {
        table.callers.insert(from, "shop".parse().unwrap());
    });
    rig.wait(|status| status.version == version);
    client.send(get("/"));
    client.response("GET");
    rig.wait_count("ms_edge_requests_total", &[("caller", "")], 1);
    rig.wait_count("ms_edge_requests_total", &[("caller", "shop")], 1);
}

#[test]
fn published_listeners_tell_who_the_client_is() {
    let backend = Backend::named("x");
    let rig =
        Rig::with(Options { published: true, ..Options::default() }, vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: w\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    client.response("GET");
    let from = client.stream.local_addr().unwrap().ip();
    assert_eq!(
        backend.requests(),
        [format!(
            "GET / HTTP/1.1\r\nHost: w\r\nx-forwarded-for: {from}\r\nx-forwarded-proto: http\r\n\
             x-forwarded-host: w\r\n\r\n"
        )]
    );
}

#[test]
fn other_listeners_come_and_go_without_a_lost_connection() {
    let backend = Backend::named("x");
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut kept = rig.client();
    kept.send(get("/"));
    kept.response("GET");
    let second = Listener {
        addr: std::net::SocketAddr::new(address(), 8000),
        service: service(),
        target_port: 8000,
        protocol: Protocol::Http,
        published: false,
    };
    let addr = second.addr;
    rig.change(|table| table.listeners.push(second));
    rig.wait(|status| status.listeners.get(&addr) == Some(&Ok(())));
    let mut other = Client::connect(addr);
    other.send(get("/"));
    assert_eq!(body(&other.response("GET")), "x");
    let version = rig.change(|table| {
        table.listeners.pop();
    });
    rig.wait(|status| status.version == version);
    assert!(other.is_over(), "an idle connection of a listener that is gone");
    assert!(std::net::TcpStream::connect(addr).is_err());
    kept.send(get("/"));
    assert_eq!(body(&kept.response("GET")), "x");
}

#[test]
fn a_listener_can_be_led_elsewhere() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let rig = Rig::new(vec![ready(1, a.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    assert_eq!(body(&client.response("GET")), "a");
    let version = rig.change(|table| {
        let upstream = (*table.services[&service()]).clone();
        let endpoints = vec![ready(2, b.addr)];
        let other: base::ServiceName = "other".parse().unwrap();
        table.services.insert(other.clone(), edge::Upstream { endpoints, ..upstream }.into());
        table.listeners[0].service = other;
    });
    rig.wait(|status| status.version == version);
    client.send(get("/"));
    assert_eq!(body(&client.response("GET")), "b", "on the same connection");
}

#[test]
fn an_address_in_use_is_named_and_tried_again() {
    let addr = std::net::SocketAddr::new(address(), 8000);
    let holder = std::net::TcpListener::bind(addr).unwrap();
    let backend = Backend::named("x");
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    rig.change(|table| {
        let listener = Listener { addr, ..table.listeners[0].clone() };
        table.listeners.push(listener);
    });
    let status = rig.wait(|status| status.listeners.contains_key(&addr));
    match &status.listeners[&addr] {
        Err(BindProblem::InUse { holder: Some(holder), .. }) => {
            assert_eq!(holder.pid, std::process::id());
        }
        other => panic!("{other:?}"),
    }
    drop(holder);
    rig.wait(|status| status.listeners[&addr] == Ok(()));
    let mut client = Client::connect(addr);
    client.send(get("/"));
    assert_eq!(body(&client.response("GET")), "x");
}

#[test]
fn past_the_limit_connections_wait() {
    let backend = Backend::named("x");
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let options = Options { limits, threads: 1, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let mut first = rig.client();
    first.send(get("/"));
    first.response("GET");
    let mut second = rig.client();
    second.send(get("/"));
    assert_eq!(rig.edge.as_ref().unwrap().connections(), 1);
    drop(first);
    assert_eq!(body(&second.response("GET")), "x");
}

#[test]
fn a_drain_lets_requests_finish_and_says_so() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = std::sync::Mutex::new(held);
    let backend = Backend::http(move |_, _| {
        held.lock().unwrap().recv().unwrap();
        ok("finished")
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut idle = rig.client();
    let mut busy = rig.client();
    busy.send(get("/"));
    while rig.edge.as_ref().unwrap().inflight(&instance(1)) == 0 {
        std::thread::yield_now();
    }
    let addr = rig.addr;
    let client = std::thread::spawn(move || {
        assert!(idle.is_over(), "an idle connection ends at once");
        while std::net::TcpStream::connect(addr).is_ok() {
            std::thread::yield_now();
        }
        release.send(()).unwrap();
        let response = busy.response("GET");
        assert_eq!(body(&response), "finished");
        assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
        assert!(busy.is_over());
    });
    assert!(rig.drain(Duration::from_secs(30)));
    client.join().unwrap();
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let backend = Backend::raw(|mut client, _| {
        client.rest();
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    while rig.edge.as_ref().unwrap().inflight(&instance(1)) == 0 {
        std::thread::yield_now();
    }
    assert!(!rig.drain(Duration::from_millis(50)));
    assert!(client.is_over());
}

#[test]
fn a_client_that_hangs_up_gives_its_place_in_the_queue_back() {
    let limits = Limits { hold_requests_max: 1, ..Limits::default() };
    let rig = Rig::with(Options { limits, ..Options::default() }, vec![]);
    for gone in 1..=3 {
        let mut client = rig.client();
        client.send(get("/"));
        rig.wait_count("ms_edge_held", &[], 1);
        drop(client);
        rig.wait_count("ms_edge_held", &[], 0);
        rig.wait_count("ms_edge_requests_total", &[("code_class", "4xx")], gone);
    }
}

#[test]
fn a_client_that_hangs_up_ends_what_was_asked_for_it() {
    for (start, class) in
        [("", "4xx"), ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "2xx")]
    {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let backend = Backend::raw(move |mut instance, _| {
            instance.until("\r\n\r\nhi");
            instance.send(start);
            tell.send("asked").unwrap();
            assert_eq!(instance.rest(), "");
            tell.send("let go").unwrap();
        });
        let rig = Rig::new(vec![ready(1, backend.addr)]);
        let mut client = rig.client();
        client.send("POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 2\r\n\r\nhi");
        client.exactly(start.len());
        assert_eq!(told.recv(), Ok("asked"));
        drop(client);
        assert_eq!(told.recv(), Ok("let go"));
        rig.wait_count("ms_edge_requests_total", &[("code_class", class)], 1);
        assert_eq!(rig.edge.as_ref().unwrap().inflight(&instance(1)), 0);
    }
}

/// Two others say no more and hang up one after the other, which the edge finds only by asking
/// after all who said no more.
fn clients_are_asked_after_twice(rig: &Rig) {
    for gone in 1..=2 {
        let before = rig.edge.as_ref().unwrap().inflight(&instance(1));
        let mut other = rig.client();
        other.send(get("/gone"));
        other.end();
        while rig.edge.as_ref().unwrap().inflight(&instance(1)) == before {
            std::thread::yield_now();
        }
        drop(other);
        rig.wait_count("ms_edge_requests_total", &[("code_class", "4xx")], gone);
    }
}

#[test]
fn a_client_that_says_no_more_gets_its_whole_answer() {
    let long = "x".repeat(2 << 20);
    let answer = ok(&long);
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let held = std::sync::Mutex::new(held);
    let backend = Backend::raw(move |mut instance, _| {
        if instance.message(false).unwrap().starts_with("GET /gone ") {
            assert_eq!(instance.rest(), "");
            return;
        }
        held.lock().unwrap().recv().unwrap();
        instance.send(&answer);
    });
    for protocol in [Protocol::Http, Protocol::Detect] {
        let options = Options { protocol, threads: 1, ..Options::default() };
        let rig = Rig::with(options, vec![ready(1, backend.addr)]);
        let mut client = rig.client();
        client.send(get("/"));
        client.end();
        clients_are_asked_after_twice(&rig);
        release.send(()).unwrap();
        assert!(body(&client.response("GET")) == long);
        assert!(client.is_over());
        rig.wait_count("ms_edge_requests_total", &[("code_class", "2xx")], 1);
    }
}

#[test]
fn a_client_that_says_no_more_keeps_its_place_in_the_queue_until_it_is_gone() {
    let rig = Rig::new(vec![]);
    let (mut waits, mut leaves) = (rig.client(), rig.client());
    for client in [&mut waits, &mut leaves] {
        client.send(get("/"));
        client.end();
    }
    rig.wait_count("ms_edge_held", &[], 2);
    drop(leaves);
    rig.wait_count("ms_edge_held", &[], 1);
    rig.wait_count("ms_edge_requests_total", &[("code_class", "4xx")], 1);
    rig.endpoints(vec![ready(1, Backend::named("a").addr)]);
    assert_eq!(body(&waits.response("GET")), "a");
}

#[test]
fn a_client_that_says_no_more_and_then_hangs_up_is_not_waited_for() {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let backend = Backend::raw(move |mut instance, _| {
        let gone = instance.message(false).unwrap().starts_with("GET /gone ");
        let tell = |what| {
            if !gone {
                tell.send(what).unwrap()
            }
        };
        tell("asked");
        assert_eq!(instance.rest(), "");
        tell("let go");
    });
    let options = Options { threads: 1, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    client.end();
    assert_eq!(told.recv(), Ok("asked"));
    clients_are_asked_after_twice(&rig);
    assert!(told.try_recv().is_err(), "the client is still there");
    drop(client);
    assert_eq!(told.recv(), Ok("let go"));
}

#[test]
fn a_request_that_is_sent_early_is_not_taken_for_a_hang_up() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = std::sync::Mutex::new(held);
    let backend = Backend::http(move |_, _| {
        held.lock().unwrap().recv().unwrap();
        ok("x")
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    while backend.requests().is_empty() {
        std::thread::yield_now();
    }
    client.send(get("/"));
    for _ in 0..2 {
        release.send(()).unwrap();
        assert_eq!(body(&client.response("GET")), "x");
    }
}
