//! The engine: wires control, agent, edge, telemetry and console into one process.
//!
//! Not here: anything that a crate could own. This module converts between the crates' types,
//! carries out what control decides, and answers the console.

mod answers;
mod api;
mod before;
mod builds;
mod carry;
mod convert;
mod ending;
mod event_figures;
mod event_log;
mod figures;
mod given;
mod hooks;
mod lock;
mod logs;
mod node;
mod pool;
mod prepare;
mod published;
mod room;
mod serve;
mod views;

use std::net::SocketAddr;
use std::path::PathBuf;

use base::Problem;

pub(crate) use lock::is_locked;
pub(crate) use logs::without_engine as logs_without_engine;

/// Exit code of an engine whose state folder another engine holds.
pub(crate) const RUNS_ALREADY: i32 = 75;

/// What an engine is started with.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    /// Its state folder; made when it is missing.
    pub(crate) state: PathBuf,
    /// Where the console listens; `None` is nowhere.
    pub(crate) console: Option<SocketAddr>,
    /// The pool of addresses as a CIDR; `None` takes a free one.
    pub(crate) addresses: Option<String>,
}

/// Runs an engine until it is told to end.
///
/// # Errors
/// What kept it from starting, for a person.
pub(crate) fn run(options: EngineOptions) -> Result<(), Problem> {
    // Sockets, records and logs are for their user alone; shims set their instances' own.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| {
        Problem::new("internal", "the engine's runtime does not start")
            .with_cause(e.to_string())
            .with_next("raise the limits on open files and processes")
    })?;
    runtime.block_on(serve::serve(options))
}
