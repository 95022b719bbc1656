//! `arcade scores`: the table of best scores over HTTP, safe on disk before it is acknowledged.
//!
//! `GET /scores` gives the table. Finished games come from the event log where there is one, and by
//! `POST /results`. A result that is sent twice changes nothing, so that callers may repeat what
//! they are not sure of.

pub(crate) mod store;
pub(crate) mod table;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tokio::sync::Mutex;

use crate::feed::Games;
use crate::server::{self, Answer, Reply, Service};
use crate::settings::{Error, Settings, say, stop_signal};
use store::{Store, StoreError};
use table::{Outcome, Table};

/// Largest body of results, in bytes, and most results in it.
const BODY_MAX: usize = 64 * 1024;
pub(crate) const RESULTS_MAX: usize = 200;

/// Wait before a game is kept again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

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
    let games = settings.events.as_deref().map(Games::new).transpose()?;
    tokio::select! {
        () = server::serve(listener, Arc::clone(&scores), stop, settings.drain) => {}
        () = signals => {}
        () = scores.follow(games) => {}
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
    /// Takes games from the event log, for ever. What is not kept is not taken.
    async fn follow(&self, games: Option<Games>) {
        let Some(games) = games else { return std::future::pending().await };
        loop {
            let (message, game) = games.next().await;
            while let Some(game) = &game
                && let Err(error) = self.keep(std::slice::from_ref(game)).await
            {
                say(format_args!("{error}"));
                tokio::time::sleep(AGAIN).await;
            }
            games.took(&message);
        }
    }

    /// Keeps what is better than what there is, and says how many were.
    async fn keep(&self, outcomes: &[Outcome]) -> Result<usize, StoreError> {
        let mut kept = self.kept.lock().await;
        let (store, table) = &mut *kept;
        let mut next = table.clone();
        let news = outcomes.iter().filter(|outcome| next.add(outcome)).count();
        if news > 0 {
            // Memory changes only when the disk has it: what is shown is never more than is kept.
            store.save(&next).await?;
            *table = next;
        }
        Ok(news)
    }

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
        match self.keep(&outcomes).await {
            Ok(news) => server::json(StatusCode::OK, &serde_json::json!({ "kept": news })),
            Err(error) => {
                say(format_args!("{error}"));
                server::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
            }
        }
    }
}
