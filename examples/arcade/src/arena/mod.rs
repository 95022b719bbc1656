//! `arcade arena`: plays the games. Each copy fills its own rooms with whoever it is given.
//!
//! A connection is a session ([`session`]), which sits in one room at a time ([`room`]); the lobby
//! ([`lobby`]) finds it a room. Points of games that end go to the scores service by way of the
//! event log where there is one, and the outbox ([`outbox`]), which keeps them until they are acknowledged. At a stop every living snake's
//! points are banked, players are told to move to another copy, and the outbox is emptied.

mod lobby;
mod outbox;
mod room;
mod session;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::feed::Feed;
use crate::server::{self, Answer, Service, Session};
use crate::settings::{Error, Settings, replica, say, stop_signal};
use lobby::Lobby;
use outbox::Outbox;

/// How long sessions and rooms may take to say goodbye, of the whole drain time.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

struct Arena {
    lobby: Arc<Lobby>,
    stop: watch::Receiver<bool>,
}

/// Plays until it is told to stop.
pub(crate) async fn serve(settings: Settings) -> Result<(), Error> {
    let (stop, signals) = stop_signal()?;
    let listener = server::listen(settings.port).await?;
    let feed = settings.events.as_deref().map(Feed::new).transpose()?;
    let outbox = Arc::new(Outbox::new(settings.scores.clone(), feed));
    let lobby = Arc::new(Lobby::new(lobby::Config {
        replica: replica(),
        bots: settings.bots,
        outbox: Arc::clone(&outbox),
        stop: stop.clone(),
    }));
    let arena = Arc::new(Arena { lobby: Arc::clone(&lobby), stop: stop.clone() });
    let play = async {
        server::serve(listener, arena, stop, GOODBYE_MAX).await;
        lobby.ended().await;
    };
    tokio::select! {
        () = play => {}
        () = signals => {}
        () = outbox.run() => {}
    }
    if tokio::time::timeout(settings.drain, outbox.flush()).await.is_err() {
        say(format_args!("{} results were not taken", outbox.len()));
    }
    Ok(())
}

impl Service for Arena {
    async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        if *request.method() != Method::GET {
            return server::text(StatusCode::METHOD_NOT_ALLOWED, "GET is all there is").into();
        }
        match request.uri().path() {
            "/healthz" => server::text(StatusCode::OK, "ok").into(),
            "/rooms" => server::json(StatusCode::OK, &self.lobby.overview()).into(),
            "/arena" => self.enter(&mut request),
            _ => server::text(StatusCode::NOT_FOUND, "WebSocket /arena, GET /rooms").into(),
        }
    }
}

impl Arena {
    fn enter(&self, request: &mut Request<Incoming>) -> Answer {
        let headers = request.headers();
        let is = |name, value: &[u8]| {
            headers.get(name).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(value))
        };
        let wanted = is(header::UPGRADE, b"websocket") && is(header::SEC_WEBSOCKET_VERSION, b"13");
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| wanted) else {
            return server::text(StatusCode::UPGRADE_REQUIRED, "a WebSocket is wanted").into();
        };
        let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
            return server::text(StatusCode::BAD_REQUEST, "not a WebSocket key").into();
        };
        let mut reply = Response::new(Full::new(Bytes::new()));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let head = reply.headers_mut();
        head.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        head.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        let upgraded = hyper::upgrade::on(request);
        let (lobby, stop) = (Arc::clone(&self.lobby), self.stop.clone());
        let session: Session = Box::pin(async move {
            if let Ok(stream) = upgraded.await {
                session::run(TokioIo::new(stream), lobby, stop).await;
            }
        });
        Answer { reply, session: Some(session) }
    }
}
