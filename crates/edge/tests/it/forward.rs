//! What is forwarded arrives as it was meant.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use edge::Limits;

use crate::rig::{Backend, Options, Rig, body, get, ok, ready};

#[test]
fn one_connection_serves_many_requests_on_one_connection() {
    let backend = Backend::http(|_, number| ok(&number.to_string()));
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    for at in 0..5 {
        client.send(get(&format!("/{at}")));
        assert_eq!(client.response("GET"), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0");
    }
    let wanted: Vec<_> = (0..5).map(|at| get(&format!("/{at}"))).collect();
    assert_eq!(backend.requests(), wanted);
    rig.wait_count(
        "ms_edge_requests_total",
        &[("service", "web"), ("instance", "web.1"), ("method", "GET"), ("code_class", "2xx")],
        5,
    );
    rig.wait_count("ms_edge_request_duration_seconds", &[("caller", "")], 5);
    let received: usize = wanted.iter().map(String::len).sum();
    rig.wait_count("ms_edge_received_bytes_total", &[], received as u64);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::http(|request, _| ok(request.split(' ').nth(1).unwrap()));
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    let post = "POST /b HTTP/1.1\r\nHost: w\r\nContent-Length: 3\r\n\r\nabc";
    let chunked =
        "POST /c HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send([&get("/a"), post, chunked, &get("/d")].concat());
    for path in ["/a", "/b", "/c", "/d"] {
        assert_eq!(body(&client.response("GET")), path);
    }
    assert_eq!(backend.requests()[1], post);
}

#[test]
fn bodies_and_trailers_pass_both_ways_in_any_pieces() {
    let backend = Backend::http(|request, _| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let framing = head.lines().find(|l| l.to_ascii_lowercase().starts_with("transfer"));
        match framing {
            Some(_) => format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{body}"
            ),
            None => ok(body),
        }
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    let big = "x".repeat(300_000);
    let chunked = format!(
        "5;name=\"v\"\r\nhello\r\n{:x}\r\n{big}\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        big.len()
    );
    let head = "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n";
    for step in [1_000_000, 70_001, 8_191] {
        for piece in [head, &chunked].concat().as_bytes().chunks(step) {
            client.send(piece);
        }
        let response = client.response("POST");
        assert!(response.contains("\r\nTrailer: X-Sum\r\n"));
        assert_eq!(body(&response), chunked);
    }
    let small = [head, "2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"].concat();
    for byte in small.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(body(&client.response("POST")), "2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n");
    let length = format!("PUT / HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n{big}", big.len());
    client.send(length);
    assert_eq!(body(&client.response("PUT")), big);
}

#[test]
fn leave_to_continue_is_asked_and_given() {
    let (leave, given) = sync_channel::<()>(0);
    let given = std::sync::Mutex::new(given);
    let backend = Backend::raw(move |mut client, _| {
        let head = client.until("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nExpect: 100-continue\r\n"));
        if head.contains("/no") {
            client.send("HTTP/1.1 413 Too Long\r\nContent-Length: 0\r\n\r\n");
            client.rest();
            return;
        }
        given.lock().unwrap().recv().unwrap();
        client.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.exactly(3), "abc");
        // It serves one request, and says so: the next must not meet its close.
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone");
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let ask = |path: &str| {
        let mut client = rig.client();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        ));
        client
    };
    let mut client = ask("/yes");
    leave.send(()).unwrap();
    assert_eq!(client.response("POST"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    assert_eq!(body(&client.response("POST")), "done");
    client = ask("/no");
    let response = client.response("POST");
    assert!(response.starts_with("HTTP/1.1 413 "));
    assert!(response.contains("\r\nconnection: close\r\n"), "the body never came: {response}");
    assert!(client.is_over());
}

#[test]
fn interim_heads_nobody_asked_for_stop_here() {
    let backend = Backend::http(|_, _| {
        format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}",
            ok("x")
        )
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    let hints = client.until("\r\n\r\n").unwrap();
    assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert_eq!(body(&client.response("GET")), "x");
    let old = rig.ask("GET / HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200 "), "{old}");
}

#[test]
fn an_upgraded_connection_is_a_tunnel_with_half_close() {
    let backend = Backend::raw(|mut client, _| {
        let head = client.until("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"), "{head}");
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        // The client half-closes; what it sent comes back after that.
        let said = client.rest();
        client.send(format!("you said {said}"));
        client.end();
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    // Bytes of the new protocol may come along with the request.
    client.send(
        "GET /ws HTTP/1.1\r\nHost: w\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\none ",
    );
    let head = client.until("\r\n\r\n").unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
    assert_eq!(client.exactly(5), "hello");
    assert_eq!(rig.edge.as_ref().unwrap().sessions(&crate::rig::instance(1)), 1);
    // Counted when it is answered, not when the tunnel ends.
    rig.wait_count("ms_edge_requests_total", &[("code_class", "1xx")], 1);
    client.send("two");
    client.end();
    assert_eq!(client.rest(), "you said one two");
    rig.wait_count("ms_edge_requests_total", &[("code_class", "1xx")], 1);
}

#[test]
fn heads_without_bodies_leave_the_connection_in_step() {
    let backend = Backend::http(|request, _| match request.split(' ').nth(1).unwrap() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n".to_owned(),
        "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_owned(),
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        path => ok(path),
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    for (method, path) in [
        ("GET", "/204"),
        ("GET", "/a"),
        ("GET", "/304"),
        ("GET", "/b"),
        ("HEAD", "/head"),
        ("GET", "/c"),
        ("HEAD", "/chunked"),
        ("GET", "/d"),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: w\r\n\r\n"));
        let response = client.response(method);
        let want = if path.len() == 2 { path } else { "" };
        assert_eq!(body(&response), want, "{path}");
    }
}

#[test]
fn a_response_that_ends_with_its_connection_ends_the_clients_too() {
    let backend = Backend::raw(|mut client, _| {
        client.until("\r\n\r\n");
        client.send("HTTP/1.0 200 OK\r\n\r\n");
        client.send("x".repeat(100_000));
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send(get("/"));
    let head = client.until("\r\n\r\n").unwrap();
    assert_eq!(head, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
    assert_eq!(client.rest().len(), 100_000);
}

#[test]
fn old_clients_get_what_they_understand() {
    let backend = Backend::http(|request, _| {
        if request.starts_with("GET /chunked ") {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nA: b\r\n\r\n"
                .to_owned()
        } else {
            ok("plain")
        }
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.rest(), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcde");
    let mut client = rig.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response("GET");
        assert!(response.contains("\r\nconnection: keep-alive\r\n"), "{response}");
        assert_eq!(body(&response), "plain");
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    let last = client.rest();
    assert!(last.contains("\r\nconnection: close\r\n") && last.ends_with("plain"), "{last}");
    let (head, _) = backend.requests()[0]
        .split_once("\r\n\r\n")
        .map(|(h, b)| (h.to_owned(), b.to_owned()))
        .unwrap();
    assert_eq!(head, "GET /chunked HTTP/1.1\r\nhost: web");
}

#[test]
fn a_response_cut_short_is_not_passed_off_as_whole() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz",
    ] {
        let backend = Backend::raw(move |mut client, _| {
            client.until("\r\n\r\n");
            client.send(start);
        });
        let rig = Rig::new(vec![ready(1, backend.addr)]);
        let mut client = rig.client();
        client.send("GET / HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n");
        let got = client.rest();
        let whole = got.starts_with("HTTP/1.1 502 ") || body(start) == body(&got);
        assert!(whole, "{got}");
        rig.wait_count("ms_edge_requests_total", &[("code_class", "5xx")], 1);
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let backend = Backend::raw(|mut client, _| {
        client.until("\r\n\r\n");
        client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        client.rest();
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 100000\r\n\r\n");
    client.send("x".repeat(50_000));
    let response = client.response("POST");
    assert!(response.starts_with("HTTP/1.1 403 ") && response.ends_with("no"), "{response}");
    assert!(client.is_over());
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for_forever() {
    let limits = Limits { head_timeout: Duration::from_millis(250), ..Limits::default() };
    let backend = Backend::named("x");
    let rig = Rig::with(Options { limits, ..Options::default() }, vec![ready(1, backend.addr)]);
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHos");
    assert!(client.response("GET").starts_with("HTTP/1.1 408 "));
    assert!(client.is_over());
}

#[test]
fn silence_is_ended_on_either_side() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(250),
        stall_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let backend = Backend::raw(|mut client, _| {
        client.until("\r\n\r\n");
        client.rest();
    });
    let rig = Rig::with(Options { limits, ..Options::default() }, vec![ready(1, backend.addr)]);
    assert!(rig.client().is_over(), "an idle connection is closed");
    let response = rig.ask(&get("/"));
    assert!(response.starts_with("HTTP/1.1 504 "), "{response}");
}
