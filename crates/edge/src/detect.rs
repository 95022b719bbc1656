//! Finds out what a connection speaks, without stalling protocols in which the server begins.
//!
//! How it decides:
//!
//! - The client's first bytes decide when they come within `detect_wait` (10 ms): a method of
//!   HTTP/1 with a target after it is HTTP; everything else is TCP, among it TLS and the preface
//!   of HTTP/2 (`PRI * HTTP/2.0`), which is passed through as bytes.
//! - A client that is silent may wait for the server to begin. So an endpoint is connected to, and
//!   whoever speaks first decides: the server makes it TCP, the client is looked at as above. A
//!   connection that turns out not to be needed is closed without a byte.
//! - While nobody has spoken, an endpoint that leaves the table is let go for another one: a silent
//!   client neither keeps an instance from draining nor loses its connection by it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use crate::buffer::Buffer;
use crate::conns::TICK;
use crate::http_conn;
use crate::pump::poll_fill;
use crate::service::{Target, acquire_session};
use crate::socket::Socket;
use crate::tcp;
use crate::worker::{ConnGuard, LocalListener, Worker};

/// Methods by which HTTP/1 is known.
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"CONNECT ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"LOCK ",
    b"UNLOCK ",
    b"REPORT ",
    b"SEARCH ",
    b"PURGE ",
    b"QUERY ",
];

/// What first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    Http,
    Tcp,
    /// The beginning of a method: more has to come.
    Unsure,
}

/// What these first bytes are. A method alone could also be a command of a text protocol (`GET key`
/// of Redis): what follows must begin like a target.
fn guess(first: &[u8]) -> Guess {
    // Some clients end a request with an empty line too many.
    let first = first.strip_prefix(b"\r\n").unwrap_or(first);
    if first.is_empty() || first == b"\r" {
        return Guess::Unsure;
    }
    for method in METHODS {
        if let Some(target) = first.strip_prefix(*method) {
            let begins = |with: &[u8]| {
                let common = with.len().min(target.len());
                target[..common]
                    .eq_ignore_ascii_case(&with[..common])
                    .then_some(common == with.len())
            };
            return match target.first() {
                None => Guess::Unsure,
                Some(b'/') => Guess::Http,
                Some(b'*') if *method == b"OPTIONS " => Guess::Http,
                // CONNECT is refused as HTTP, with words.
                Some(_) if *method == b"CONNECT " => Guess::Http,
                Some(_) => match begins(b"http://").or(begins(b"https://")) {
                    Some(true) => Guess::Http,
                    Some(false) => Guess::Unsure,
                    None => Guess::Tcp,
                },
            };
        }
        if method.starts_with(first) {
            return Guess::Unsure;
        }
    }
    Guess::Tcp
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
                // A client that stops within the first word is not HTTP.
                let more = tokio::time::timeout(TICK * 4, more).await;
                match more {
                    Ok(None | Some(0)) if first.is_empty() => return None,
                    Ok(None | Some(0)) | Err(_) => break,
                    Ok(Some(_)) => match guess(first.bytes()) {
                        Guess::Http => return Some(Found::Http(first)),
                        Guess::Tcp => break,
                        Guess::Unsure => {}
                    },
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
            (b"GET ", Guess::Unsure),
            (b"GET key\r\n", Guess::Tcp),
            (b"GET http", Guess::Unsure),
            (b"GET http://web/", Guess::Http),
            (b"GET https://", Guess::Http),
            (b"OPTIONS *", Guess::Http),
            (b"GET *", Guess::Tcp),
            (b"\r\nPOST /x", Guess::Http),
            (b"\r", Guess::Unsure),
            (b"get /", Guess::Tcp),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Guess::Tcp),
            (b"\x16\x03\x01", Guess::Tcp),
            (b"*1\r\n$4\r\nPING\r\n", Guess::Tcp),
            (b"PING\r\n", Guess::Tcp),
        ] {
            assert_eq!(guess(first), want, "{}", first.escape_ascii());
        }
    }

    #[test]
    fn pieces_never_change_the_answer() {
        for whole in [&b"OPTIONS * HTTP/1.1\r\n"[..], b"GET https://web/ HTTP/1.1", b"GETX / "] {
            let at_end = guess(whole);
            for len in 1..whole.len() {
                let early = guess(&whole[..len]);
                assert!(early == at_end || early == Guess::Unsure, "{}", whole.escape_ascii());
            }
        }
    }
}
