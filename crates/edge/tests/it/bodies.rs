//! Bodies of any length, in any pieces, at any pace, arrive byte for byte through every path.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use edge::Protocol;
use proptest::prelude::*;

use crate::rig::{Backend, Client, Options, Rig, ready};

/// How a body is framed on its way back.
#[derive(Clone, Copy, Debug)]
enum Back {
    Length,
    Chunked,
    Close,
}

/// What carries the bytes.
#[derive(Clone, Copy, Debug)]
enum Path {
    Http { chunked: bool, back: Back, version: u32 },
    Upgrade,
    Tcp,
}

#[derive(Clone, Debug)]
struct Case {
    path: Path,
    len: usize,
    seed: u64,
    /// Sizes of the pieces in which it is written, and of its chunks; they repeat.
    writes: Vec<usize>,
    chunks: Vec<usize>,
    /// Both readers begin late, so that every buffer between them fills.
    late: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let back = prop_oneof![Just(Back::Length), Just(Back::Chunked), Just(Back::Close)];
    let http = (any::<bool>(), back, 0..2_u32).prop_map(|(chunked, back, version)| Path::Http {
        chunked,
        back,
        version,
    });
    let path = prop_oneof![4 => http, 1 => Just(Path::Upgrade), 1 => Just(Path::Tcp)];
    // Around the sizes of buffers, and anything.
    let len = prop_oneof![
        0..3_usize,
        (16 << 10) - 300..(16 << 10) + 3_usize,
        (128 << 10) - 300..(128 << 10) + 3_usize,
        0..1_500_000_usize
    ];
    let sizes = |max| prop::collection::vec(1..max, 1..6);
    let rest = (any::<u64>(), sizes(60_000_usize), sizes(40_000_usize), any::<bool>());
    (path, len, rest).prop_map(|(path, len, (seed, writes, chunks, late))| Case {
        path,
        len,
        seed,
        writes,
        chunks,
        late,
    })
}

/// Letters that never repeat in step with a buffer.
fn letters(mut seed: u64, len: usize) -> String {
    let letter = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((seed >> 33) % 26).unwrap())
    };
    (0..len).map(letter).collect()
}

fn pieces<'a>(mut whole: &'a str, sizes: &[usize]) -> Vec<&'a str> {
    // So few that the pauses between them do not add up.
    let least = whole.len() / 200;
    let mut sizes = sizes.iter().cycle();
    let mut pieces = Vec::new();
    while !whole.is_empty() {
        let size = sizes.next().map_or(1, |size| *size).max(least);
        let (piece, rest) = whole.split_at(size.min(whole.len()));
        pieces.push(piece);
        whole = rest;
    }
    pieces
}

fn to_chunks(body: &str, sizes: &[usize]) -> String {
    let chunks = pieces(body, sizes).into_iter().map(|c| format!("{:x};a=b\r\n{c}\r\n", c.len()));
    chunks.collect::<String>() + "0\r\nX-Sum: 1\r\n\r\n"
}

fn of_chunks(mut framed: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = framed.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
        if size == 0 {
            assert_eq!(rest, "X-Sum: 1\r\n\r\n");
            return body;
        }
        body += &rest[..size];
        framed = rest[size..].strip_prefix("\r\n").unwrap();
    }
}

/// The content of a message as it was framed.
fn content(message: &str) -> String {
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    if chunked { of_chunks(body) } else { body.to_owned() }
}

fn write_slowly(stream: &mut TcpStream, bytes: &str, sizes: &[usize]) {
    for (at, piece) in pieces(bytes, sizes).into_iter().enumerate() {
        stream.write_all(piece.as_bytes()).unwrap();
        if at % 16 == 7 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn numbers(list: &str) -> Vec<usize> {
    list.split(',').map(|number| number.parse().unwrap()).collect()
}

/// Answers with the body that it was sent, as its path says, until it says to close.
fn echo(mut client: Client) {
    while let Some(request) = client.message(false) {
        if answer(&mut client, &request) {
            return client.end();
        }
    }
}

fn answer(client: &mut Client, request: &str) -> bool {
    let mut words = request.split(' ').nth(1).unwrap().split('/').skip(1);
    let (back, late) = (words.next().unwrap(), words.next().unwrap());
    let (writes, chunks) = (numbers(words.next().unwrap()), numbers(words.next().unwrap()));
    if late == "true" {
        thread::sleep(Duration::from_millis(20));
    }
    let body = content(request);
    let answer = match back {
        "upgrade" => {
            client.send("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
            client.rest()
        }
        "Chunked" => {
            let body = to_chunks(&body, &chunks);
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{body}")
        }
        "Close" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"),
        _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    };
    write_slowly(&mut client.stream, &answer, &writes);
    matches!(back, "upgrade" | "Close")
}

/// Sends it and returns what came back.
fn pass(case: &Case, rig: &Rig, body: &str) -> String {
    let mut client = rig.client();
    let list = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let (writes, chunks) = (list(&case.writes), list(&case.chunks));
    let path = |back: &str| format!("/{back}/{}/{writes}/{chunks}", case.late);
    let upgrade = "Connection: upgrade\r\nUpgrade: echo";
    let request = match case.path {
        Path::Tcp => body.to_owned(),
        Path::Upgrade => {
            format!("GET {} HTTP/1.1\r\nHost: w\r\n{upgrade}\r\n\r\n{body}", path("upgrade"))
        }
        // Only HTTP/1.1 has chunks.
        Path::Http { chunked: true, back, version: 1 } => format!(
            "POST {} HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            path(&format!("{back:?}")),
            to_chunks(body, &case.chunks)
        ),
        Path::Http { back, version, .. } => format!(
            "POST {} HTTP/1.{version}\r\nHost: w\r\nContent-Length: {}\r\n\r\n{body}",
            path(&format!("{back:?}")),
            body.len()
        ),
    };
    let mut sender = client.stream.try_clone().unwrap();
    let (sizes, is_tcp) = (case.writes.clone(), matches!(case.path, Path::Tcp));
    let sending = thread::spawn(move || {
        write_slowly(&mut sender, &request, &sizes);
        if is_tcp {
            sender.shutdown(Shutdown::Write).unwrap();
        }
    });
    if case.late {
        thread::sleep(Duration::from_millis(40));
    }
    let came = match case.path {
        Path::Http { .. } => {
            let response = client.response("POST");
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
            content(&response)
        }
        Path::Upgrade => {
            assert!(client.response("GET").starts_with("HTTP/1.1 101 "));
            sending.join().unwrap();
            client.end();
            return client.rest();
        }
        Path::Tcp => client.rest(),
    };
    sending.join().unwrap();
    came
}

#[test]
fn whatever_the_framing_pieces_and_pace() {
    let http = Backend::raw(|client, _| echo(client));
    let tcp = Backend::raw(|mut client, number| {
        thread::sleep(Duration::from_millis(20 * u64::from(number % 2)));
        let all = client.rest();
        client.send(all);
        client.end();
    });
    let http = Rig::new(vec![ready(1, http.addr)]);
    let options = Options { protocol: Protocol::Tcp, ..Options::default() };
    let tcp = Rig::with(options, vec![ready(1, tcp.addr)]);
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..<_>::default() };
    proptest!(config, |(case in cases())| {
        let body = letters(case.seed, case.len);
        let rig = if matches!(case.path, Path::Tcp) { &tcp } else { &http };
        let came = pass(&case, rig, &body);
        // Not `assert_eq`, which would print megabytes.
        prop_assert!(came == body, "{} of {} bytes came", came.len(), body.len());
    });
}
