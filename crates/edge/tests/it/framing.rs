//! What has two readings is refused and never reaches an instance.

use crate::rig::{Backend, Client, Rig, get, ready};

/// Requests that must be refused, with the status.
const REFUSED: &[(&str, u16, &str)] = &[
    (
        "CL+TE",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE+CL",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two equal CL",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    ),
    (
        "two CL",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ),
    ("CL list", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 1, 1\r\n\r\nx"),
    ("CL plus", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: +1\r\n\r\nx"),
    ("CL minus", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: -1\r\n\r\nx"),
    ("CL hex", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 0x1\r\n\r\nx"),
    ("CL octal", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 01\r\n\r\nx"),
    ("CL empty", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length:\r\n\r\n"),
    ("CL huge", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 99999999999999999999\r\n\r\n"),
    ("CL with _", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent_Length: 1\r\n\r\nx"),
    ("TE with _", 400, "POST / HTTP/1.1\r\nHost: w\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "TE twice",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE list",
        501,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE chunked twice",
        501,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    ("TE identity", 501, "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("TE x", 501, "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("TE empty", 501, "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding:\r\n\r\n"),
    (
        "TE vertical tab",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    ("TE in 1.0", 400, "POST / HTTP/1.0\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("bare LF in the request line", 400, "GET / HTTP/1.1\nHost: w\r\n\r\n"),
    ("bare LF in a field", 400, "GET / HTTP/1.1\r\nHost: w\nA: b\r\n\r\n"),
    ("bare LF at the end", 400, "GET / HTTP/1.1\r\nHost: w\r\n\n"),
    ("bare LFs only", 400, "GET / HTTP/1.1\nHost: w\n\n"),
    ("bare CR in a value", 400, "GET / HTTP/1.1\r\nHost: w\r\nA: b\rc\r\n\r\n"),
    ("CR CR LF", 400, "GET / HTTP/1.1\r\nHost: w\r\nA: b\r\r\n\r\n"),
    ("obs-fold", 400, "GET / HTTP/1.1\r\nHost: w\r\nA: b\r\n c\r\n\r\n"),
    ("obs-fold tab", 400, "GET / HTTP/1.1\r\nHost: w\r\nA: b\r\n\tc\r\n\r\n"),
    ("fold of the first field", 400, "GET / HTTP/1.1\r\n Host: w\r\n\r\n"),
    ("space before colon", 400, "GET / HTTP/1.1\r\nHost : w\r\n\r\n"),
    ("tab before colon", 400, "POST / HTTP/1.1\r\nHost: w\r\nContent-Length\t: 1\r\n\r\nx"),
    ("no colon", 400, "GET / HTTP/1.1\r\nHost: w\r\nA\r\n\r\n"),
    ("empty name", 400, "GET / HTTP/1.1\r\nHost: w\r\n: b\r\n\r\n"),
    ("NUL in a value", 400, "GET / HTTP/1.1\r\nHost: w\r\nA: b\0c\r\n\r\n"),
    ("NUL in a name", 400, "GET / HTTP/1.1\r\nHost: w\r\nA\0: b\r\n\r\n"),
    ("DEL in a value", 400, "GET / HTTP/1.1\r\nHost: w\r\nA: \x7f\r\n\r\n"),
    ("NUL in the target", 400, "GET /\0 HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("no Host", 400, "GET / HTTP/1.1\r\nA: b\r\n\r\n"),
    ("two Hosts", 400, "GET / HTTP/1.1\r\nHost: w\r\nHost: w\r\n\r\n"),
    ("empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("Host with a path", 400, "GET / HTTP/1.1\r\nHost: w/x\r\n\r\n"),
    ("Host with a user", 400, "GET / HTTP/1.1\r\nHost: a@w\r\n\r\n"),
    ("Host list", 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("Host port", 400, "GET / HTTP/1.1\r\nHost: w:8o\r\n\r\n"),
    ("Host differs from the target", 400, "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("target with a user", 400, "GET http://a@w/ HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("target of another scheme", 400, "GET ftp://w/ HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("target without slash", 400, "GET x HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("asterisk", 400, "GET * HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("fragment", 400, "GET /#a HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("two spaces", 400, "GET  / HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("space in the target", 400, "GET /a b HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("tab in the request line", 400, "GET\t/ HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("space at the end", 400, "GET / HTTP/1.1 \r\nHost: w\r\n\r\n"),
    ("space at the start", 400, " GET / HTTP/1.1\r\nHost: w\r\n\r\n"),
    ("no version", 400, "GET /\r\nHost: w\r\n\r\n"),
    ("lower version", 400, "GET / http/1.1\r\nHost: w\r\n\r\n"),
    ("version 1.2", 505, "GET / HTTP/1.2\r\nHost: w\r\n\r\n"),
    ("version 2.0", 505, "GET / HTTP/2.0\r\nHost: w\r\n\r\n"),
    ("CONNECT", 501, "CONNECT w:80 HTTP/1.1\r\nHost: w:80\r\n\r\n"),
    (
        "Connection names Content-Length",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\nx",
    ),
    ("Connection names Host", 400, "GET / HTTP/1.1\r\nHost: w\r\nConnection: close, host\r\n\r\n"),
    (
        "other expectation",
        417,
        "POST / HTTP/1.1\r\nHost: w\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\nx",
    ),
    (
        "chunk size LF",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    ),
    (
        "chunk end LF",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\n0\r\n\r\n",
    ),
    (
        "chunk extension LF",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nx\r\n0\r\n\r\n",
    ),
    (
        "chunk size space",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
    ),
    (
        "chunk size sign",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
    ),
    (
        "chunk size overflow",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n",
    ),
    (
        "chunk longer than said",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    ),
    (
        "trailer LF",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
    ),
    ("end LF", 400, "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n"),
    (
        "trailer that frames",
        400,
        "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
    ),
];

#[test]
fn ambiguous_requests_are_refused_and_never_forwarded() {
    let backend = Backend::named("x");
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    for (name, status, request) in REFUSED {
        let mut client = rig.client();
        client.send(request);
        // What follows would be a smuggled request, if anybody read it as one.
        let _ = std::io::Write::write_all(&mut client.stream, get("/smuggled").as_bytes());
        let response = client.response("GET");
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {response}");
        assert!(response.contains("\r\nconnection: close\r\n"), "{name}: {response}");
        assert!(client.is_over(), "{name} is not closed");
    }
    assert_eq!(backend.requests(), Vec::<String>::new());
    let refused = rig.count("ms_edge_refused_total", &[("service", "web")]);
    assert_eq!(refused, REFUSED.len() as u64);
    assert!(rig.ask(&get("/")).ends_with("\r\n\r\nx"), "still serves");
}

#[test]
fn refused_alike_in_any_pieces() {
    let backend = Backend::named("x");
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    for (at, (name, status, request)) in REFUSED.iter().enumerate() {
        // A different cut for each, through its whole length over the table.
        let cut = 1 + at * 7 % (request.len() - 1);
        let mut client = rig.client();
        client.send(&request[..cut]);
        std::thread::yield_now();
        let _ = std::io::Write::write_all(&mut client.stream, &request.as_bytes()[cut..]);
        let response = client.response("GET");
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {response}");
    }
    assert_eq!(backend.requests(), Vec::<String>::new());
}

#[test]
fn heads_have_limits() {
    let backend = Backend::named("x");
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let status = |request: &str| {
        let mut client = rig.client();
        client.send(request);
        client.response("GET")[9..12].to_owned()
    };
    let fits = format!("GET / HTTP/1.1\r\nHost: w\r\nA: {}\r\n\r\n", "x".repeat(16_000));
    assert_eq!(status(&fits), "200");
    let long = format!("GET / HTTP/1.1\r\nHost: w\r\nA: {}\r\n\r\n", "x".repeat(17_000));
    assert_eq!(status(&long), "431");
    assert_eq!(status(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(17_000))), "414");
    let many = format!("GET / HTTP/1.1\r\nHost: w\r\n{}\r\n", "A: b\r\n".repeat(100));
    assert_eq!(status(&many), "431");
    let at_most = format!("GET / HTTP/1.1\r\nHost: w\r\n{}\r\n", "A: b\r\n".repeat(99));
    assert_eq!(status(&at_most), "200");
}

#[test]
fn bad_answers_of_an_instance_become_502() {
    for bad in [
        "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ] {
        let backend = Backend::http(move |_, _| bad.to_owned());
        let rig = Rig::new(vec![ready(1, backend.addr)]);
        let response = rig.ask(&get("/"));
        assert!(response.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{bad}: {response}");
        assert!(response.contains("cause: instance web.1\n"), "{response}");
    }
}

#[test]
fn an_empty_line_before_a_request_is_forgiven_once() {
    let backend = Backend::named("x");
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client: Client = rig.client();
    client.send("\r");
    client.send(format!("\n{}", get("/")));
    assert!(client.response("GET").starts_with("HTTP/1.1 200 "));
    client.send(format!("\r\n\r\n{}", get("/")));
    assert!(client.response("GET").starts_with("HTTP/1.1 400 "));
}
