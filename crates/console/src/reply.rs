//! Replies: JSON, problems, bytes and streams, with the headers that every reply carries.
//!
//! Not here: which reply a request gets.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base::Problem;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;

/// The body of every reply.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
/// Every reply.
pub(crate) type Reply = Response<Body>;

/// What a page may load and run: its own files and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types ms";

/// A whole body of some type.
pub(crate) fn bytes(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    with_headers(status, content_type, Full::new(body).boxed_unsync())
}

/// An empty reply.
pub(crate) fn empty(status: StatusCode) -> Reply {
    bytes(status, "text/plain; charset=utf-8", Bytes::new())
}

/// A value as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Reply {
    json_with(StatusCode::OK, value)
}

/// A problem as JSON, with the status that its code stands for.
pub(crate) fn problem(problem: &Problem) -> Reply {
    let status = match problem.code.as_str() {
        "login-needed" => StatusCode::UNAUTHORIZED,
        "not-allowed" | "not-your-engine" => StatusCode::FORBIDDEN,
        "not-found" => StatusCode::NOT_FOUND,
        "wrong-method" => StatusCode::METHOD_NOT_ALLOWED,
        "too-slow" => StatusCode::REQUEST_TIMEOUT,
        "conflict" => StatusCode::CONFLICT,
        "too-large" => StatusCode::PAYLOAD_TOO_LARGE,
        "wrong-content-type" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "internal" => StatusCode::INTERNAL_SERVER_ERROR,
        "too-busy" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut reply = json_with(status, problem);
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"Mainspring\", charset=\"UTF-8\"");
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    reply
}

/// To an address that gave too many wrong logins: when it may ask again.
pub(crate) fn too_many_guesses(left: Duration) -> Reply {
    // No earlier than then, so a second that has begun counts.
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    let problem = Problem::new("too-many-logins", "too many wrong logins came from this address")
        .with_cause("nothing is taken from it for a while, the right login included")
        .with_next(format!("wait {seconds} seconds; the engine's socket is open meanwhile"));
    let mut reply = json_with(StatusCode::TOO_MANY_REQUESTS, &problem);
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    reply
}

/// A body that is made piece by piece, while the client reads: `next` is asked for a piece and
/// the state for the one after it, until it answers `None`. Dropped with the client.
pub(crate) fn stream<S, F, Fut>(content_type: &'static str, state: S, next: F) -> Reply
where
    S: Send + Unpin + 'static,
    F: FnMut(S) -> Fut + Send + Unpin + 'static,
    Fut: Future<Output = Option<(Bytes, S)>> + Send + 'static,
{
    let body = Pieces { next, state: Some(state), pending: None };
    with_headers(StatusCode::OK, content_type, body.boxed_unsync())
}

fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, "application/json", body.into()),
        // Wire types hold no maps with odd keys and no failing serialisers.
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn with_headers(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

struct Pieces<S, F, Fut> {
    next: F,
    state: Option<S>,
    pending: Option<Pin<Box<Fut>>>,
}

impl<S, F, Fut> hyper::body::Body for Pieces<S, F, Fut>
where
    S: Unpin,
    F: FnMut(S) -> Fut + Unpin,
    Fut: Future<Output = Option<(Bytes, S)>>,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.pending.is_none() {
            let Some(state) = this.state.take() else { return Poll::Ready(None) };
            this.pending = Some(Box::pin((this.next)(state)));
        }
        let Some(pending) = &mut this.pending else { return Poll::Ready(None) };
        let Poll::Ready(piece) = pending.as_mut().poll(context) else { return Poll::Pending };
        this.pending = None;
        Poll::Ready(piece.map(|(bytes, state)| {
            this.state = Some(state);
            Ok(Frame::data(bytes))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
