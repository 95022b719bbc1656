//! `arcade web`: the page, and the one way in for browsers: WebSockets at `/arena` are passed on to
//! the arena, and `/api/scores` to the scores. So a player needs one address, and the arena's
//! copies are balanced by whatever stands behind the arena's name.
//!
//! Not here: anything about the game. A WebSocket is passed on as bytes.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use crate::client::{self, Open};
use crate::server::{self, Answer, Reply, Service, Session};
use crate::settings::{Error, Settings, say, stop_signal, stopped};

/// Buffer for each way of a passed on WebSocket, in bytes.
const TUNNEL_BUFFER: usize = 4 * 1024;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $content_type:expr, $file:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            body: include_bytes!(concat!("../page/", $file)),
        }
    };
}

const ASSETS: &[Asset] = &[
    asset!("/", HTML, "index.html"),
    asset!("/style.css", CSS, "style.css"),
    asset!("/main.js", JS, "main.js"),
    asset!("/board.js", JS, "board.js"),
    asset!("/link.js", JS, "link.js"),
    asset!("/controls.js", JS, "controls.js"),
    asset!("/icon.svg", "image/svg+xml", "icon.svg"),
];

/// Nothing but our own files and our own WebSocket.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

struct Web {
    settings: Settings,
    stop: watch::Receiver<bool>,
}

/// Serves the page until it is told to stop.
pub(crate) async fn serve(settings: Settings) -> Result<(), Error> {
    let (stop, signals) = stop_signal()?;
    let listener = server::listen(settings.port).await?;
    let drain = settings.drain;
    let web = Arc::new(Web { settings, stop: stop.clone() });
    tokio::select! {
        () = server::serve(listener, web, stop, drain) => {}
        () = signals => {}
    }
    Ok(())
}

impl Service for Web {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return server::text(StatusCode::METHOD_NOT_ALLOWED, "GET is all there is").into();
        }
        match request.uri().path() {
            "/healthz" => server::text(StatusCode::OK, "ok").into(),
            "/arena" => self.enter(request).await,
            "/api/scores" => self.scores().await.into(),
            path => match ASSETS.iter().find(|asset| asset.path == path) {
                Some(asset) => page(asset).into(),
                None => server::text(StatusCode::NOT_FOUND, "nothing here").into(),
            },
        }
    }
}

impl Web {
    async fn scores(&self) -> Reply {
        let scores = &self.settings.scores;
        match client::call(scores, Method::GET, "/scores", Bytes::new()).await {
            Ok((status, body)) => server::reply(status, "application/json", body),
            Err(error) => unreachable_service(&error),
        }
    }

    /// Repeats the browser's handshake towards the arena, then passes bytes both ways.
    async fn enter(&self, mut request: Request<Incoming>) -> Answer {
        let headers = request.headers();
        if !same_origin(headers) {
            let why = "a page from elsewhere may not play here";
            return server::text(StatusCode::FORBIDDEN, why).into();
        }
        let upgrade = headers.get(header::UPGRADE).map_or(&b""[..], HeaderValue::as_bytes);
        if !upgrade.eq_ignore_ascii_case(b"websocket") {
            return server::text(StatusCode::UPGRADE_REQUIRED, "a WebSocket is wanted").into();
        }
        let mut onward = Request::new(Full::new(Bytes::new()));
        *onward.uri_mut() = hyper::Uri::from_static("/arena");
        copy_handshake(headers, onward.headers_mut());
        let Open { mut response, connection } =
            match client::open(&self.settings.arena, onward).await {
                Ok(open) => open,
                Err(error) => return unreachable_service(&error).into(),
            };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let why = format!("the arena answered {}", response.status());
            return server::text(StatusCode::BAD_GATEWAY, &why).into();
        }
        let mut reply = Response::new(Full::new(Bytes::new()));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        copy_handshake(response.headers(), reply.headers_mut());
        let (browser, arena) =
            (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut response));
        let mut stop = self.stop.clone();
        let drain = self.settings.drain;
        let session: Session = Box::pin(async move {
            let (Ok(browser), Ok(arena)) = (browser.await, arena.await) else { return };
            let (mut browser, mut arena) = (TokioIo::new(browser), TokioIo::new(arena));
            let passed = tokio::io::copy_bidirectional_with_sizes(
                &mut browser,
                &mut arena,
                TUNNEL_BUFFER,
                TUNNEL_BUFFER,
            );
            // Players stay while this copy drains; the page finds the next copy by itself.
            let drained = async {
                stopped(&mut stop).await;
                tokio::time::sleep(drain.mul_f32(0.9)).await;
            };
            tokio::select! {
                _ = passed => {}
                () = drained => {}
            }
            drop(connection);
        });
        Answer { reply, session: Some(session) }
    }
}

/// Browsers say which page opens a WebSocket: it must be ours.
fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|(_, host)| host);
    origin.is_some() && origin == host
}

fn copy_handshake(from: &HeaderMap, to: &mut HeaderMap) {
    const NAMES: [HeaderName; 5] = [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::SEC_WEBSOCKET_ACCEPT,
    ];
    for name in NAMES {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

fn page(asset: &Asset) -> Reply {
    let body = Bytes::from_static(asset.body);
    let mut reply = server::reply(StatusCode::OK, asset.content_type, body);
    let headers = reply.headers_mut();
    // Revalidated each time, so that a deployed page is seen at the next load.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    reply
}

fn unreachable_service(error: &client::CallError) -> Reply {
    say(format_args!("{error}"));
    server::text(StatusCode::BAD_GATEWAY, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_may_open_a_websocket() {
        let with = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            same_origin(&headers)
        };
        assert!(with(None) && with(Some("http://127.0.0.1:8080")));
        assert!(with(Some("https://127.0.0.1:8080")), "TLS may end in front of us");
        assert!(!with(Some("http://example.com")) && !with(Some("null")));
        assert!(!with(Some("http://127.0.0.1:8081")));
    }
}
