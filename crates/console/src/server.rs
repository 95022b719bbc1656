//! Listening and answering: one task per connection, bounded, drained at shutdown.
//!
//! Not here: what is answered (`routes`).

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Problem};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::ConnectionLimit;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{ConsoleConfig, HEAD_BYTES_MAX, TCP_CONNECTIONS_MAX, UNIX_CONNECTIONS_MAX};
use crate::engine::Engine;
use crate::guard::Peer;
use crate::routes::{self, Shared, Trust};
use crate::stream::stopped;

/// How long a client may take for a request's head, or keep an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Header lines of one request; more are refused with 431.
const HEADERS_MAX: usize = 64;
/// After this long without being able to accept (no descriptors left), try again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way may take once the console shuts down.
const DRAIN: Duration = Duration::from_secs(2);

/// Where the console listens; bound by the caller.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For browsers: checked.
    pub tcp: Vec<TcpListener>,
    /// For the command line: trusted.
    pub unix: Vec<UnixListener>,
}

/// Serves pages and API until `shutdown` is true or its sender is gone, then drains.
///
/// Fails at once, with code `console-exposed`, when a TCP listener is reachable from other
/// machines and the configuration has no credentials. Wrong logins are counted by `clock`.
pub async fn serve(
    config: ConsoleConfig,
    listeners: Listeners,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Problem> {
    for listener in &listeners.tcp {
        check_exposure(&config, listener)?;
    }
    let shared = Arc::new(Shared::new(config, engine, clock, shutdown));
    let mut loops = JoinSet::new();
    for listener in listeners.tcp {
        loops.spawn(accept(Listener::Tcp(listener), shared.clone()));
    }
    for listener in listeners.unix {
        loops.spawn(accept(Listener::Unix(listener), shared.clone()));
    }
    while loops.join_next().await.is_some() {}
    drain(shared.take_commands()).await;
    Ok(())
}

/// Waits a while for these tasks; what is not done by then is cut off.
async fn drain(mut tasks: JoinSet<()>) {
    let done = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, done).await;
}

fn check_exposure(config: &ConsoleConfig, listener: &TcpListener) -> Result<(), Problem> {
    let address = listener.local_addr().map_err(|error| {
        Problem::new("internal", "the console's address cannot be read")
            .with_cause(error.to_string())
            .with_next("start the engine again")
    })?;
    config.check_exposure(address)
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream, Peer),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // Live messages are small and must not wait for one another.
                stream.set_nodelay(true)?;
                let peer = Peer::of(&stream, from)?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Listener::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>) {
    let mut shutdown = shared.shutdown.clone();
    let places = ConnectionLimit::new(match listener {
        Listener::Tcp(_) => TCP_CONNECTIONS_MAX,
        Listener::Unix(_) => UNIX_CONNECTIONS_MAX,
    });
    let mut connections = JoinSet::new();
    loop {
        // A place first: past the bound, clients wait in the backlog.
        let next = async {
            let place = places.acquire().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            next = next => next,
        };
        let shared = shared.clone();
        match accepted {
            Ok(Accepted::Tcp(stream, peer)) => {
                connections.spawn(async move {
                    connection(stream, Trust::Network(peer), shared).await;
                    drop(place);
                });
            }
            Ok(Accepted::Unix(stream)) => {
                connections.spawn(async move {
                    connection(stream, Trust::Socket, shared).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    drain(connections).await;
}

async fn connection<S>(stream: S, trust: Trust, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut shutdown = shared.shutdown.clone();
    let service = service_fn(move |request| {
        let (shared, trust) = (shared.clone(), trust.clone());
        async move { Ok::<_, Infallible>(routes::answer(shared, trust, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        // One more buffer may be read before its size is checked.
        .max_buf_size(HEAD_BYTES_MAX / 2)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks ends its own task and concerns nobody else.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
