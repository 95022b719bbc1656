//! An HTTP/1.1 server: bounded connections, one task each, upgrades, and a stop that lets what is
//! under way end. What is answered is the [`Service`]'s business.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::settings::{Error, say, stopped};

/// Most connections at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 1024;

/// How long a connection may stay without a request. Longer than proxies keep theirs idle.
const IDLE_MAX: Duration = Duration::from_secs(120);

pub(crate) type Reply = Response<Full<Bytes>>;

/// What a connection goes on with after a 101 answer.
pub(crate) type Session = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer, and for an upgrade the session that follows it.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) session: Option<Session>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer { reply, session: None }
    }
}

/// What a service answers.
pub(crate) trait Service: Send + Sync + 'static {
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Listens on every address: inside a container or an instance that is what callers reach.
pub(crate) async fn listen(port: u16) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .map_err(|source| Error::Listen { port, source })?;
    say(format_args!("listening on {}", listener.local_addr()?));
    Ok(listener)
}

/// Serves until `stop` is true, then for at most `drain` until the last connection has ended.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<impl Service>,
    mut stop: watch::Receiver<bool>,
    drain: Duration,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = connection(stream, Arc::clone(&service), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: serving those who are here frees some.
                say(format_args!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, ended).await.is_err() {
        say(format_args!("closing {} connections that did not end", connections.len()));
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    service: Arc<impl Service>,
    mut stop: watch::Receiver<bool>,
) {
    // Turns are small and must not wait for more of them. Without it games are only slower.
    let _ = stream.set_nodelay(true);
    let next = Arc::new(Mutex::new(None::<Session>));
    let answer = service_fn(|request| {
        let (service, next) = (Arc::clone(&service), Arc::clone(&next));
        async move {
            let answer = service.answer(request).await;
            *next.lock().unwrap_or_else(PoisonError::into_inner) = answer.session;
            Ok::<_, Infallible>(answer.reply)
        }
    });
    {
        let http = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_MAX)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        let mut http = std::pin::pin!(http);
        let ended = tokio::select! {
            ended = http.as_mut() => ended,
            () = stopped(&mut stop) => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        };
        if ended.is_err() {
            return; // The client broke off or sent no HTTP; hyper has answered what it could.
        }
    }
    let session = next.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(session) = session {
        session.await;
    }
}

/// A reply with a body of the given type.
pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    reply
}

pub(crate) fn text(status: StatusCode, body: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", Bytes::from(format!("{body}\n")))
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut reply = reply(status, "application/json", Bytes::from(body));
            let fresh = header::HeaderValue::from_static("no-store");
            reply.headers_mut().insert(header::CACHE_CONTROL, fresh);
            reply
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Reads a request's body of at most `bytes_max`.
pub(crate) async fn body(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, Reply> {
    let whole = Limited::new(request.into_body(), bytes_max).collect().await;
    whole.map(http_body_util::Collected::to_bytes).map_err(|error| {
        let why = format!("the body must be whole and at most {bytes_max} bytes: {error}");
        text(StatusCode::PAYLOAD_TOO_LARGE, &why)
    })
}
