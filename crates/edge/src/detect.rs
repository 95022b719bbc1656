//! Finds out what a connection speaks, without stalling protocols in which the server begins.
//!
//! How it decides:
//!
//! - The client's first bytes decide when they come within `detect_wait` (10 ms). After blanks (CR,
//!   LF, space, tab; more than 8 KiB of them count as HTTP) the name of a method and any byte up to
//!   0x20 are HTTP, however odd the rest is: the strict parser refuses it, and no instance sees it.
//!   Everything else is TCP, among it TLS and the preface of HTTP/2 (`PRI * HTTP/2.0`), which is
//!   passed through as bytes; and `CONNECT` alone on its line, with which STOMP begins.
//! - A listener on which an instance has answered a request in HTTP speaks HTTP, until the table
//!   changes the listener: whatever a client says first there goes to the strict parser, except the
//!   whole preface of HTTP/2. TLS, or a client that pauses within its first word, is no way around.
//! - A client that is silent may wait for the server to begin. So an endpoint is connected to, and
//!   whoever speaks first decides: the server makes it TCP, the client is looked at as above. A
//!   connection that turns out not to be needed is closed without a byte.
//! - While nobody has spoken, an endpoint that leaves the table is let go for another one: a silent
//!   client neither keeps an instance from draining nor loses its connection by it.
//!
//! What it costs: a text protocol whose client begins with the name of a method (RTSP's `OPTIONS`,
//! a bare `GET key` typed to Redis) is taken for HTTP and refused. Until a listener is known to
//! speak HTTP, a method that is not listed here, or a pause within the first word, is TCP.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use crate::buffer::{BUFFER_BYTES, Buffer};
use crate::conns::TICK;
use crate::http_conn;
use crate::pump::poll_fill;
use crate::service::{Target, acquire_session};
use crate::socket::Socket;
use crate::tcp;
use crate::worker::{ConnGuard, LocalListener, Worker};

/// Methods by which HTTP/1 is known.
pub(crate) const METHODS: &[&[u8]] = &[
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"CONNECT",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"PURGE",
    b"QUERY",
];

/// With which HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Blanks before the first word that are looked through; half of a buffer.
const BLANK_BYTES_MAX: usize = BUFFER_BYTES / 2;

/// What first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    Http,
    Tcp,
    /// The beginning of a method: more has to come.
    Unsure,
}

/// What these first bytes are, on a listener of which nothing is known.
pub(crate) fn guess(first: &[u8]) -> Guess {
    // Servers differ in how many blanks they skip: what is behind them decides.
    let blank = |b: &u8| matches!(b, b'\r' | b'\n' | b' ' | b'\t');
    let blanks = first.iter().position(|b| !blank(b)).unwrap_or(first.len());
    if blanks > BLANK_BYTES_MAX {
        return Guess::Http;
    }
    let word = &first[blanks..];
    for method in METHODS {
        if method.starts_with(word) {
            return Guess::Unsure;
        }
        match word.strip_prefix(*method) {
            // A STOMP frame. No request line ends there.
            Some([b'\n', ..] | [b'\r', b'\n', ..]) if *method == b"CONNECT" => return Guess::Tcp,
            Some(b"\r") if *method == b"CONNECT" => return Guess::Unsure,
            Some([0..=b' ', ..]) => return Guess::Http,
            _ => {}
        }
    }
    Guess::Tcp
}

/// The same on a listener that speaks HTTP.
pub(crate) fn guess_known(first: &[u8]) -> Guess {
    if first.starts_with(PREFACE) {
        Guess::Tcp
    } else if PREFACE.starts_with(first) {
        Guess::Unsure
    } else {
        Guess::Http
    }
}

/// Who spoke first.
enum Spoke {
    Client,
    Server,
    Nobody,
    /// The client ended or broke without a byte.
    Gone,
}

/// Serves a connection from its first byte.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<LocalListener>,
    guard: ConnGuard,
    stream: Socket,
    peer: SocketAddr,
) {
    // Boxed and separate, so that HTTP connections do not carry the room for it while idle.
    let found = Box::pin(find(&worker, &listener, &guard, &stream)).await;
    match found {
        Some(Found::Http(first)) => {
            http_conn::serve_after(worker, listener, guard, stream, peer, first).await;
        }
        Some(Found::Tcp(target, first, from_server)) => {
            Box::pin(tcp::run(&worker, &stream, peer, *target, (first, from_server))).await;
        }
        None => {}
    }
}

enum Found {
    Http(Buffer),
    Tcp(Box<Target>, Buffer, Buffer),
}

async fn find(
    worker: &Worker,
    listener: &LocalListener,
    guard: &ConnGuard,
    stream: &Socket,
) -> Option<Found> {
    let mut first = Buffer::default();
    let wait = worker.limits().detect_wait;
    let mut target: Option<Target> = None;
    let spoke = tokio::time::timeout(wait, first_word(guard, stream, None)).await;
    let mut spoke = spoke.unwrap_or(Spoke::Nobody);
    loop {
        match spoke {
            Spoke::Gone => return None,
            Spoke::Server => break,
            Spoke::Client => {
                if first.has_no_room() {
                    first = worker.buffers.take();
                }
                let more = poll_fn(|cx| poll_fill(cx, stream, &mut first));
                let more = tokio::time::timeout(TICK * 4, more).await;
                let known = listener.speaks_http();
                match more {
                    Ok(None | Some(0)) if first.is_empty() => return None,
                    Ok(None | Some(0)) | Err(_) if known => return Some(Found::Http(first)),
                    // A client that stops within the first word is not HTTP.
                    Ok(None | Some(0)) | Err(_) => break,
                    Ok(Some(_)) => {
                        let guess = if known { guess_known } else { guess };
                        match guess(first.bytes()) {
                            Guess::Http => return Some(Found::Http(first)),
                            Guess::Tcp => break,
                            Guess::Unsure => {}
                        }
                    }
                }
            }
            Spoke::Nobody => {
                if target.as_ref().is_none_or(|target| target.endpoint.retired.get()) {
                    // Let go before another one is waited for.
                    drop(target.take());
                    // A client that speaks while its endpoint is awaited may be answered in HTTP.
                    let early = tokio::select! {
                        biased;
                        early = first_word(guard, stream, None) => Some(early),
                        found = acquire_session(worker, listener) => {
                            target = Some(found?);
                            None
                        }
                    };
                    if let Some(early) = early {
                        spoke = early;
                        continue;
                    }
                }
                let changed = worker.table_changed.notified();
                spoke = tokio::select! {
                    biased;
                    spoke = first_word(guard, stream, target.as_ref()) => spoke,
                    () = changed => Spoke::Nobody,
                };
            }
        }
    }
    let target = match target.filter(|target| !target.endpoint.retired.get()) {
        Some(target) => target,
        None => acquire_session(worker, listener).await?,
    };
    Some(Found::Tcp(Box::new(target), first, Buffer::default()))
}

/// Waits until client or server has bytes to read.
async fn first_word(guard: &ConnGuard, stream: &Socket, server: Option<&Target>) -> Spoke {
    poll_fn(|cx| {
        if stream.poll_peek(cx).is_ready() {
            return Poll::Ready(Spoke::Client);
        }
        if server.is_some_and(|server| server.stream.poll_peek(cx).is_ready()) {
            return Poll::Ready(Spoke::Server);
        }
        guard.conn.watch(cx);
        if guard.conn.is_leaving() { Poll::Ready(Spoke::Gone) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell() {
        for (first, want) in [
            (&b"GET / HTTP/1.1\r\n"[..], Guess::Http),
            (b"G", Guess::Unsure),
            (b"GET", Guess::Unsure),
            (b"GET ", Guess::Http),
            (b"GET  / HTTP/1.1", Guess::Http),
            (b"GET\t/ HTTP/1.1", Guess::Http),
            (b"GET\0/ HTTP/1.1", Guess::Http),
            (b"GET\r\n", Guess::Http),
            (b"GETX /", Guess::Tcp),
            (b"OPTIONS *", Guess::Http),
            (b"\r\nPOST /x", Guess::Http),
            (b"\n\r \t\nPOST /x", Guess::Http),
            (b" \t\r\n", Guess::Unsure),
            (b" \tPING", Guess::Tcp),
            (b"get /", Guess::Tcp),
            (b"CONNECT a:1", Guess::Http),
            (b"CONNECT\r", Guess::Unsure),
            (b"CONNECT\r\naccept-version:1.2\n", Guess::Tcp),
            (b"CONNECT\naccept-version:1.2\n", Guess::Tcp),
            (PREFACE, Guess::Tcp),
            (b"\x16\x03\x01", Guess::Tcp),
            (b"*1\r\n$4\r\nPING\r\n", Guess::Tcp),
            (b"PING\r\n", Guess::Tcp),
        ] {
            assert_eq!(guess(first), want, "{}", first.escape_ascii());
        }
    }

    #[test]
    fn blanks_have_a_limit_past_which_they_are_http() {
        assert_eq!(guess(&[b'\n'; BLANK_BYTES_MAX]), Guess::Unsure);
        assert_eq!(guess(&[b'\n'; BLANK_BYTES_MAX + 1]), Guess::Http);
    }

    #[test]
    fn where_http_is_spoken_only_the_whole_preface_is_not() {
        for first in [&b"\x16\x03\x01"[..], b"FOO /", b"\r\nPRI", b"PRI * HTTP/2.0\r\n\r\nGET "] {
            assert_eq!(guess_known(first), Guess::Http, "{}", first.escape_ascii());
        }
        assert_eq!(guess_known(&PREFACE[..PREFACE.len() - 1]), Guess::Unsure);
        assert_eq!(guess_known(&[PREFACE, b"more"].concat()), Guess::Tcp);
    }

    #[test]
    fn pieces_never_change_the_answer() {
        for whole in [
            &b"OPTIONS * HTTP/1.1\r\n"[..],
            b"\n GET\thttps://web/ HTTP/1.1",
            b"GETX / ",
            b"CONNECT\r\nhost:x",
            PREFACE,
        ] {
            for guess in [guess, guess_known] {
                let at_end = guess(whole);
                for len in 1..whole.len() {
                    let early = guess(&whole[..len]);
                    assert!(early == at_end || early == Guess::Unsure, "{}", whole.escape_ascii());
                }
            }
        }
    }
}
