//! What must hold for any bytes that come in over a connection.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.
//!
//! The other reader is httparse: whatever is accepted here it must read in the same way.

use crate::detect::{Guess, METHODS, guess, guess_known};
use crate::http::{
    Chunked, Ending, Field, Forwarding, Framing, HeadScan, Method, Refusal, Request, Response,
    Version, request_head, response_head,
};

const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 100;

/// A request head and what follows it.
///
/// # Panics
/// When something ambiguous is accepted, httparse reads another request, or what is forwarded
/// says something else than what came.
pub fn http_request(bytes: &[u8]) {
    let Some(head) = head_of(bytes) else { return };
    let mut fields = Vec::new();
    let Ok(request) = Request::parse(head, FIELDS_MAX, &mut fields) else { return };
    // The one thing that httparse refuses and this does not, as most servers.
    if std::str::from_utf8(request.path.of(head)).is_err() {
        return;
    }

    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut theirs = httparse::Request::new(&mut headers);
    let parsed = theirs.parse(head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
    assert_eq!(theirs.method.map(str::as_bytes), Some(request.method_name.of(head)));
    assert_eq!(theirs.version, Some(u8::from(request.version == Version::Http11)));
    let target = theirs.path.unwrap_or_default().as_bytes();
    assert!(target.ends_with(request.path.of(head)), "{}", target.escape_ascii());
    same_fields(head, &fields, theirs.headers);
    unambiguous(theirs.headers, &request.framing);
    let hosts = count(theirs.headers, "host");
    assert!(hosts == 1 || hosts == 0 && request.version == Version::Http10, "{hosts} hosts");
    assert!(request.upgrade.is_none() || request.framing == Framing::None);

    // To an instance, from a caller of the app and from outside.
    let outside = Forwarding { client: [192, 0, 2, 7].into() };
    for forwarding in [None, Some(outside)] {
        let (mut out, mut again) = (Vec::new(), Vec::new());
        request_head(&mut out, head, &request, &fields, "web", forwarding);
        let mut fields = Vec::new();
        let second = match Request::parse(&out, FIELDS_MAX + 8, &mut fields) {
            Ok(second) => second,
            Err(refusal) => panic!("{refusal:?}: {}", out.escape_ascii()),
        };
        assert_eq!(second.method_name.of(&out), request.method_name.of(head));
        assert_eq!(second.framing, request.framing, "{}", out.escape_ascii());
        assert_eq!(second.upgrade.is_some(), request.upgrade.is_some());
        // Once more, as another caller of the app, changes nothing.
        request_head(&mut again, &out, &second, &fields, "web", None);
        assert_eq!(sorted(&again), sorted(&out), "{}", out.escape_ascii());
    }
    body(&request.framing, &bytes[head.len()..]);
}

/// A response head and what follows it.
///
/// # Panics
/// As [`http_request`].
pub fn http_response(bytes: &[u8]) {
    let Some(head) = head_of(bytes) else { return };
    for method in [Method::Get, Method::Head, Method::Other] {
        let mut fields = Vec::new();
        let Ok(response) = Response::parse(head, method, FIELDS_MAX, &mut fields) else { return };
        let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut theirs = httparse::Response::new(&mut headers);
        let parsed = theirs.parse(head);
        assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
        assert_eq!(theirs.code, Some(response.status));
        same_fields(head, &fields, theirs.headers);
        unambiguous(theirs.headers, &response.framing);
        assert!(!response.keep_alive || response.framing != Framing::UntilClose);

        let mut out = Vec::new();
        response_head(&mut out, head, &response, &fields, Version::Http11, Ending::KeepAlive);
        let mut fields = Vec::new();
        let second = match Response::parse(&out, method, FIELDS_MAX + 8, &mut fields) {
            Ok(second) => second,
            Err(refusal) => panic!("{refusal:?}: {}", out.escape_ascii()),
        };
        assert_eq!(second.status, response.status);
        assert_eq!(second.framing, response.framing, "{}", out.escape_ascii());
        body(&response.framing, &bytes[head.len()..]);
    }
}

/// A chunked body.
///
/// # Panics
/// When pieces change what is read, or httparse finds another size or content.
pub fn http_chunked(bytes: &[u8]) {
    body(&Framing::Chunked(Chunked::default()), bytes);
    let (taken, content) = match read_body(Framing::Chunked(Chunked::default()), bytes, usize::MAX)
    {
        Ok((taken, content, true)) => (taken, content),
        _ => return,
    };
    let (mut rest, mut theirs) = (&bytes[..taken], Vec::new());
    loop {
        let Ok(httparse::Status::Complete((at, size))) = httparse::parse_chunk_size(rest) else {
            panic!("another size: {}", rest.escape_ascii());
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        rest = &rest[at..];
        if size == 0 {
            break;
        }
        theirs.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
    assert_eq!(theirs.escape_ascii().to_string(), content.escape_ascii().to_string());
    let mut trailers = [httparse::EMPTY_HEADER; 4096];
    let parsed = httparse::parse_headers(rest, &mut trailers);
    let Ok(httparse::Status::Complete((at, trailers))) = parsed else {
        panic!("other trailers: {}", rest.escape_ascii());
    };
    assert_eq!(at, rest.len());
    for name in ["host", "content-length", "transfer-encoding", "connection", "cookie"] {
        assert_eq!(count(trailers, name), 0, "{name}");
    }
}

/// The first bytes of a connection.
///
/// # Panics
/// When more bytes change the answer, or a request that somebody reads as HTTP passes for TCP.
pub fn first_bytes(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(64)];
    for guess in [guess, guess_known] {
        let at_end = guess(bytes);
        for len in 0..bytes.len() {
            let early = guess(&bytes[..len]);
            assert!(early == at_end || early == Guess::Unsure, "{}", bytes.escape_ascii());
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut theirs = httparse::Request::new(&mut headers);
    let read = theirs.parse(bytes);
    let known = theirs.method.is_some_and(|name| METHODS.contains(&name.as_bytes()));
    if read.is_ok() && known && theirs.path.is_some() {
        assert_eq!(guess(bytes), Guess::Http, "{}", bytes.escape_ascii());
    }
}

/// The head that `bytes` begin with, which is found at the same place however they come.
fn head_of(bytes: &[u8]) -> Option<&[u8]> {
    let whole = HeadScan::default().advance(bytes, HEAD_BYTES_MAX);
    let mut scan = HeadScan::default();
    let step = bytes.len() / 64 + 1;
    let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let mut each = ends.map(|end| scan.advance(&bytes[..end], HEAD_BYTES_MAX));
    let in_pieces = each.find(|found| *found != Ok(None)).unwrap_or(Ok(None));
    assert_eq!(in_pieces, whole, "{}", bytes.escape_ascii());
    whole.ok().flatten().map(|len| &bytes[..len])
}

fn same_fields(head: &[u8], ours: &[Field], theirs: &[httparse::Header<'_>]) {
    assert_eq!(ours.len(), theirs.len(), "{}", head.escape_ascii());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.name.of(head), theirs.name.as_bytes());
        assert_eq!(ours.value.of(head), theirs.value, "{}", head.escape_ascii());
    }
}

/// What a reader who believes one of several framings could see otherwise.
fn unambiguous(fields: &[httparse::Header<'_>], framing: &Framing) {
    let (lengths, codings) = (count(fields, "content-length"), count(fields, "transfer-encoding"));
    assert!(lengths + codings <= 1, "{lengths} lengths and {codings} codings");
    let chunked = matches!(framing, Framing::Chunked(_));
    assert!(!chunked || codings == 1, "{framing:?}");
    if let Framing::Length(length) = framing {
        let said = fields.iter().find(|field| same_name(field.name, "content-length"));
        assert_eq!(said.map(|field| field.value), Some(length.to_string().as_bytes()));
    }
}

fn count(fields: &[httparse::Header<'_>], name: &str) -> usize {
    fields.iter().filter(|field| same_name(field.name, name)).count()
}

/// Gateways that turn fields into variables take `_` for `-`.
fn same_name(given: &str, name: &str) -> bool {
    let framing = name == "content-length" || name == "transfer-encoding";
    given.eq_ignore_ascii_case(name)
        || framing && given.replace('_', "-").eq_ignore_ascii_case(name)
}

fn sorted(head: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = head.split(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

/// A body reads the same whole and byte by byte.
fn body(framing: &Framing, bytes: &[u8]) {
    let whole = read_body(framing.clone(), bytes, usize::MAX);
    assert_eq!(read_body(framing.clone(), bytes, 1), whole, "{}", bytes.escape_ascii());
    if let Ok((taken, content, _)) = whole {
        assert!(content.len() <= taken && taken <= bytes.len());
    }
}

/// What was taken, the content in it, and whether the body ended.
fn read_body(
    mut framing: Framing,
    bytes: &[u8],
    piece: usize,
) -> Result<(usize, Vec<u8>, bool), Refusal> {
    let (mut taken, mut content) = (0, Vec::new());
    while taken < bytes.len() && !framing.is_done() {
        let rest = &bytes[taken..bytes.len().min(taken.saturating_add(piece))];
        let run = framing.advance(rest)?;
        if run.content {
            content.extend_from_slice(&rest[..run.len]);
        }
        taken += run.len;
    }
    Ok((taken, content, framing.is_done()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for (target, run) in [
            ("http_request", http_request as fn(&[u8])),
            ("http_response", http_response),
            ("http_chunked", http_chunked),
            ("first_bytes", first_bytes),
        ] {
            let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(folder).unwrap() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
