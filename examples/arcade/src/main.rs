//! Arcade: multiplayer Snake in the browser, three services and an event log between them.
//!
//! `web` serves the page and passes the players' WebSockets on, `arena` plays the games, `scores`
//! keeps the table of best scores; `check` is their health check. They find each other by name
//! over HTTP and the event log, and know nothing of what runs them.

mod arena;
mod check;
mod client;
mod feed;
mod game;
mod scores;
mod server;
mod settings;
mod web;

use std::process::ExitCode;

use settings::Settings;

const USAGE: &str = "\
usage: arcade web      the page, and the way from browsers to the arena
       arcade arena    the games
       arcade scores   the table of best scores
       arcade check    asks http://127.0.0.1:$PORT/healthz; exit code 0 when healthy

environment: PORT (8080), ARENA_URL (http://arena:8080), SCORES_URL (http://scores:8080),
             SCORES_DIR (/data), BOTS (2), DRAIN_SECONDS (8),
             EVENTS (a Kafka to write games to, as events:9092; without, scores gets them by HTTP)";

fn main() -> ExitCode {
    let what = std::env::args().nth(1).unwrap_or_default();
    let done = match what.as_str() {
        "check" => check::run(),
        "web" => run(web::serve),
        "arena" => run(arena::serve),
        "scores" => run(scores::serve),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("arcade {what}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a service on one thread: each of them waits far more than it computes.
fn run<F: Future<Output = Result<(), settings::Error>>>(
    serve: fn(Settings) -> F,
) -> Result<(), settings::Error> {
    let settings = Settings::from_environment()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings))
}
