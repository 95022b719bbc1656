//! Answers that the edge gives itself, in plain text: what, on what, why, what next.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::Poll;

use base::{InstanceId, ServiceName};

use crate::http::{Method, Refusal};
use crate::service::Unavailable;
use crate::socket::Socket;

/// Bytes of a refused request that are read and dropped, so that the client gets to its answer.
const LINGER_BYTES_MAX: usize = 256 << 10;
/// What every 405 has to name (RFC 9110, 15.5.6): what passes here, whatever the service takes.
const ALLOW: &str = "allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";
/// How long that goes on.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) refusal: Refusal,
    body: String,
    retry_after: bool,
}

impl Answer {
    /// To a request that cannot be understood in one way only.
    pub(crate) fn refused(refusal: Refusal) -> Answer {
        let body = format!("{}: the request was refused: {}\n", refusal.status(), refusal.text());
        Answer { refusal, body, retry_after: false }
    }

    /// To a request for which there was no endpoint.
    pub(crate) fn unavailable(service: &ServiceName, unavailable: &Unavailable) -> Answer {
        let refusal = unavailable.refusal;
        let status = refusal.status();
        let mut body =
            format!("{status}: `{service}` cannot take the request: {}\n", refusal.text());
        if !unavailable.why.is_empty() {
            body.push_str(&format!("cause: {}\n", unavailable.why));
        }
        body.push_str(&format!("next:  ms ps {service}; ms logs {service}\n"));
        Answer { refusal, body, retry_after: true }
    }

    /// To a request that an instance did not answer.
    pub(crate) fn failed(service: &ServiceName, instance: &InstanceId, refusal: Refusal) -> Answer {
        let status = refusal.status();
        let body = format!(
            "{status}: `{service}` did not answer the request: {}\ncause: instance {instance}\n\
             next:  ms logs {instance}\n",
            refusal.text()
        );
        Answer { refusal, body, retry_after: false }
    }

    /// Writes the answer as far as the socket takes it at once, which is all of it unless the
    /// client reads nothing; `false` when it did not go out whole.
    pub(crate) fn send(&self, stream: &Socket, method: Method, keep_alive: bool) -> bool {
        let status = self.refusal.status();
        let text = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\n{}{}{}\r\n{}",
            reason(status),
            self.body.len(),
            if status == 405 { ALLOW } else { "" },
            if self.retry_after { "retry-after: 1\r\n" } else { "" },
            if keep_alive { "" } else { "connection: close\r\n" },
            if method == Method::Head { "" } else { &self.body },
        );
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match stream.try_write(left) {
                Ok(count) if count > 0 => left = &left[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
        true
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// Ends a connection whose client may still be sending: a close with unread bytes would reset it
/// and take the answer away from the client.
pub(crate) async fn linger(stream: &Socket) {
    if stream.shut_down().is_err() {
        return;
    }
    let mut left = LINGER_BYTES_MAX;
    let drained = poll_fn(|cx| {
        let mut sink = [0; 1024];
        while left > 0 {
            match stream.poll_read(cx, &mut sink) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => left = left.saturating_sub(count),
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    });
    // Whether the client was done in time or not, the connection is over.
    let _ = tokio::time::timeout(LINGER, drained).await;
}
