//! Tests of HTTP/1 as bytes: tables, and properties against httparse and against pieces.

use proptest::prelude::*;

use super::*;

fn parse(head: &[u8]) -> Result<(Request, Vec<Field>), Refusal> {
    let mut scan = HeadScan::default();
    let len = scan.advance(head, 16 << 10)?.ok_or(Refusal::RequestLine)?;
    let mut fields = Vec::new();
    let request = Request::parse(&head[..len], 100, &mut fields)?;
    Ok((request, fields))
}

fn forwarded(head: &str, forwarding: Option<Forwarding>) -> String {
    let (request, fields) = parse(head.as_bytes()).unwrap();
    let mut out = Vec::new();
    request_head(&mut out, head.as_bytes(), &request, &fields, "web", forwarding);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|r| r.label()).collect();
    assert_eq!(labels.len(), Refusal::ALL.len());
}

#[test]
fn fields_of_one_hop_end_here() {
    let got = forwarded(
        "GET /a?b HTTP/1.1\r\nHost: web\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authorization: x\r\nUpgrade: websocket\r\nAccept: */*\r\n\r\n",
        None,
    );
    assert_eq!(got, "GET /a?b HTTP/1.1\r\nHost: web\r\nAccept: */*\r\n\r\n");
}

#[test]
fn clients_of_published_listeners_are_not_believed() {
    let head = "GET / HTTP/1.1\r\nHost: web:80\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_Proto: https\r\n\
                Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nA: b\r\n\r\n";
    let published = Some(Forwarding { client: "10.1.2.3".parse().unwrap() });
    assert_eq!(
        forwarded(head, published),
        "GET / HTTP/1.1\r\nHost: web:80\r\nA: b\r\nx-forwarded-for: 10.1.2.3\r\nx-forwarded-proto: http\r\n\
         x-forwarded-host: web:80\r\n\r\n"
    );
    assert_eq!(forwarded(head, None), head);
}

#[test]
fn targets_become_paths() {
    for (target, want) in [
        ("http://web/x?y", "/x?y"),
        ("HTTP://web", "/"),
        ("http://web?y", "/?y"),
        ("https://web/", "/"),
    ] {
        let got = forwarded(&format!("GET {target} HTTP/1.1\r\nHost: WEB\r\n\r\n"), None);
        assert_eq!(got, format!("GET {want} HTTP/1.1\r\nhost: web\r\n\r\n"), "{target}");
    }
    let old = forwarded("GET / HTTP/1.0\r\n\r\n", None);
    assert_eq!(old, "GET / HTTP/1.1\r\nhost: web\r\n\r\n");
}

#[test]
fn upgrades_are_offered_on_unless_they_hide_requests() {
    let head = |protocol: &str, rest: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: w\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{rest}\r\n"
        )
    };
    let offered = |text: &str| parse(text.as_bytes()).unwrap().0.upgrade.is_some();
    assert!(offered(&head("websocket", "")));
    assert!(!offered(&head("h2c", "")));
    assert!(!offered(&head("websocket, H2C", "")));
    assert!(!offered(&head("websocket", "Content-Length: 1\r\n")));
    let got = forwarded(&head("websocket", ""), None);
    assert!(got.ends_with("Host: w\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"), "{got}");
}

fn response(head: &str, method: Method) -> Result<Response, Refusal> {
    Response::parse(head.as_bytes(), method, 100, &mut Vec::new())
}

#[test]
fn responses_are_framed_by_status_method_and_fields() {
    let framing = |head: &str, method| response(head, method).unwrap().framing;
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(framing(long, Method::Get), Framing::Length(5));
    assert_eq!(framing(long, Method::Head), Framing::None);
    for status in ["204", "304", "103"] {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(framing(&head, Method::Get), Framing::None);
    }
    assert_eq!(framing("HTTP/1.1 200\r\n\r\n", Method::Get), Framing::UntilClose);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(framing(chunked, Method::Get), Framing::Chunked(Chunked::default()));
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert!(response(bad, Method::Get).is_err(), "{bad}");
    }
}

#[test]
fn a_response_keeps_its_connection_or_not() {
    let keeps = |head: &str| response(head, Method::Get).unwrap().keep_alive;
    assert!(keeps("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n"));
    assert!(!keeps("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(keeps("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"));
    let node = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=5, max=9\r\n\r\n";
    assert_eq!(response(node, Method::Get).unwrap().keep_alive_seconds, Some(5));
}

/// Runs a body through in these pieces: what was taken, and the content in it.
fn unframe(mut framing: Framing, pieces: &[&[u8]]) -> Result<(usize, Vec<u8>, bool), Refusal> {
    let (mut taken, mut content) = (0, Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() && !framing.is_done() {
            let run = framing.advance(rest)?;
            if run.content {
                content.extend_from_slice(&rest[..run.len]);
            }
            taken += run.len;
            rest = &rest[run.len..];
        }
    }
    Ok((taken, content, framing.is_done()))
}

fn chunked() -> Framing {
    Framing::Chunked(Chunked::default())
}

#[test]
fn chunks_are_read_strictly() {
    let good = b"3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET";
    let (taken, content, done) = unframe(chunked(), &[good]).unwrap();
    assert_eq!((taken, content.as_slice(), done), (good.len() - 3, &b"abc0123456789"[..], true));
    for (bad, why) in [
        (&b"3\nabc\r\n"[..], Refusal::ChunkSize),
        (b"3\r\nabc\n", Refusal::ChunkEnd),
        (b"3\r\nabcd", Refusal::ChunkEnd),
        (b"3 \r\nabc\r\n", Refusal::ChunkSize),
        (b"0x3\r\nabc\r\n", Refusal::ChunkSize),
        (b"-3\r\n", Refusal::ChunkSize),
        (b"+3\r\n", Refusal::ChunkSize),
        (b"\r\n", Refusal::ChunkSize),
        (b";x\r\n", Refusal::ChunkSize),
        (b"1000000000000000\r\n", Refusal::ChunkSize),
        (b"3;x\nabc\r\n", Refusal::BareLf),
        (b"3;\x00\r\n", Refusal::ChunkExtension),
        (b"3\r\rabc", Refusal::ChunkEnd),
        (b"0\r\n\n", Refusal::Trailer),
        (b"0\r\nA: b\n", Refusal::Trailer),
        (b"0\r\nA : b\r\n", Refusal::Trailer),
        (b"0\r\n b\r\n", Refusal::Trailer),
        (b"0\r\nContent-Length: 3\r\n\r\n", Refusal::Trailer),
        (b"0\r\ntransfer_encoding: chunked\r\n\r\n", Refusal::Trailer),
        (b"0\r\nX-Forwarded-For: 1\r\n\r\n", Refusal::Trailer),
    ] {
        assert_eq!(unframe(chunked(), &[bad]), Err(why), "{}", bad.escape_ascii());
    }
    let long = [b"1;", vec![b'x'; 300].as_slice()].concat();
    assert_eq!(unframe(chunked(), &[&long]), Err(Refusal::ChunkExtension));
    let long = [b"0\r\nA:", vec![b'x'; 9000].as_slice()].concat();
    assert_eq!(unframe(chunked(), &[&long]), Err(Refusal::Trailer));
}

/// Bytes that are almost a request: pieces of real ones in any order, with some noise.
fn almost_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            &b"GET / HTTP/1.1\r\n"[..], b"POST /a HTTP/1.0\r\n", b"GET http://w/ HTTP/1.1\r\n",
            b"Host: w\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"A: b\r\n",
            b"Connection: close\r\n", b"\xc3\xa4: b\r\n", b"X: \xc3\xa4\r\n", b"Cookie: a=b; c\r\n",
            b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"GET ", b"/\xc3\xa4 ", b"HTTP/1.1\r\n", b"\0",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let good = prop::bool::weighted(0.7);
    (good, prop::collection::vec(piece, 0..10)).prop_map(|(good, pieces)| {
        let start: &[u8] = if good { b"GET / HTTP/1.1\r\nHost: w\r\n" } else { b"" };
        [start, &pieces.concat(), b"\r\n\r\n"].concat()
    })
}

fn cut(bytes: &[u8], at: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = at.iter().map(|at| at.index(bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn what_is_accepted_httparse_accepts_too(head in almost_head()) {
        if let Ok((request, fields)) = parse(&head) {
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut theirs = httparse::Request::new(&mut headers);
            let parsed = theirs.parse(&head);
            prop_assert!(matches!(parsed, Ok(httparse::Status::Complete(_))), "{parsed:?}");
            prop_assert_eq!(theirs.method.unwrap().as_bytes(), request.method_name.of(&head));
            prop_assert_eq!(theirs.headers.len(), fields.len());
            for (their, ours) in theirs.headers.iter().zip(&fields) {
                prop_assert_eq!(their.name.as_bytes(), ours.name.of(&head));
                prop_assert_eq!(their.value, ours.value.of(&head));
            }
        }
    }

    #[test]
    fn what_is_forwarded_reads_the_same_again(head in almost_head()) {
        if let Ok((request, fields)) = parse(&head) {
            let mut out = Vec::new();
            request_head(&mut out, &head, &request, &fields, "w", None);
            let (again, _) = parse(&out).unwrap();
            prop_assert_eq!(again.method, request.method);
            prop_assert_eq!(again.framing, request.framing);
            prop_assert_eq!(again.upgrade.is_some(), request.upgrade.is_some());
        }
    }

    #[test]
    fn pieces_never_change_where_a_head_ends(
        head in almost_head(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        max in 1usize..200,
    ) {
        let whole = HeadScan::default().advance(&head, max);
        let mut scan = HeadScan::default();
        let mut found = Ok(None);
        for end in cut(&head, &at) {
            found = scan.advance(&head[..end], max);
            if found != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn pieces_never_change_a_chunked_body(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
        noise in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\nX-T: 1\r\n\r\nmore");
        let changed = noise.is_some_and(|(at, byte)| {
            std::mem::replace(at.get_mut(&mut body), byte) != byte
        });
        let whole = unframe(chunked(), &[&body]);
        if !changed {
            prop_assert_eq!(&whole, &Ok((body.len() - 4, chunks.concat(), true)));
        }
        let mut from = 0;
        let mut pieces = Vec::new();
        for end in cut(&body, &at) {
            pieces.push(&body[from..end]);
            from = end;
        }
        prop_assert_eq!(unframe(chunked(), &pieces), whole);
    }

    #[test]
    fn never_panics_on_a_request(head in almost_head()) {
        let _ = parse(&head);
    }

    #[test]
    fn never_panics_on_any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        max in 0usize..300,
    ) {
        let _ = HeadScan::default().advance(&bytes, max);
        let _ = Request::parse(&bytes, 5, &mut Vec::new());
        let _ = Response::parse(&bytes, Method::Get, 5, &mut Vec::new());
        let _ = unframe(chunked(), &[&bytes]);
    }
}
