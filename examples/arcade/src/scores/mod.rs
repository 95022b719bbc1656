//! `arcade scores`: the table of best scores over HTTP, safe on disk before it is acknowledged.
//!
//! `GET /scores` gives the table, `POST /results` takes finished games. A result that is sent
//! twice changes nothing, so callers may repeat what they are not sure of.

pub(crate) mod store;
pub(crate) mod table;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tokio::sync::Mutex;

use crate::server::{self, Answer, Reply, Service};
use crate::settings::{Error, Settings, say, stop_signal};
use store::Store;
use table::{Outcome, Table};

/// Largest body of results, in bytes, and most results in it.
const BODY_MAX: usize = 64 * 1024;
pub(crate) const RESULTS_MAX: usize = 200;

struct Scores {
    kept: Mutex<(Store, Table)>,
}

/// Serves the table until it is told to stop.
pub(crate) async fn serve(settings: Settings) -> Result<(), Error> {
    // Opening may wait for another copy to end; until then a signal must simply end this one.
    let (store, table) = Store::open(&settings.scores_dir)?;
    let (stop, signals) = stop_signal()?;
    say(format_args!("{} scores in {}", table.len(), store.folder().display()));
    let listener = server::listen(settings.port).await?;
    let scores = Arc::new(Scores { kept: Mutex::new((store, table)) });
    tokio::select! {
        () = server::serve(listener, scores, stop, settings.drain) => {}
        () = signals => {}
    }
    Ok(())
}

impl Service for Scores {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let reply = match (request.method(), path) {
            (&Method::GET, "/healthz") => server::text(StatusCode::OK, "ok"),
            (&Method::GET, "/scores") => server::json(StatusCode::OK, &self.kept.lock().await.1),
            (&Method::POST, "/results") => self.take(request).await,
            _ => server::text(StatusCode::NOT_FOUND, "GET /scores, POST /results, GET /healthz"),
        };
        reply.into()
    }
}

impl Scores {
    async fn take(&self, request: Request<Incoming>) -> Reply {
        let body = match server::body(request, BODY_MAX).await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let outcomes: Vec<Outcome> = match serde_json::from_slice(&body) {
            Ok(outcomes) => outcomes,
            Err(error) => return server::text(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        if outcomes.len() > RESULTS_MAX {
            let why = format!("{} results: send at most {RESULTS_MAX} at once", outcomes.len());
            return server::text(StatusCode::PAYLOAD_TOO_LARGE, &why);
        }
        let mut kept = self.kept.lock().await;
        let (store, table) = &mut *kept;
        let mut next = table.clone();
        let news = outcomes.into_iter().filter(|outcome| next.add(outcome)).count();
        if news > 0 {
            // Memory changes only when the disk has it: what is shown is never more than is kept.
            if let Err(error) = store.save(&next).await {
                say(format_args!("{error}"));
                return server::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
            }
            *table = next;
        }
        server::json(StatusCode::OK, &serde_json::json!({ "kept": news }))
    }
}
