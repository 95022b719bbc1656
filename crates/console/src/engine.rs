//! What the console asks of the engine that it shows.

use std::future::Future;
use std::pin::Pin;

use base::Problem;
use tokio::sync::{mpsc, watch};

use crate::event_log;
use crate::wire::{
    Accepted, BuildLine, Chart, ChartQuery, Command, EventView, LogLine, LogPage, LogQuery,
    Overview, ServiceDetail, Status, Why,
};

/// An answer that takes time.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;

/// The engine, as far as its console and command line see it.
///
/// Snapshots are cheap and do not wait. A `Problem` with code `not-found` becomes HTTP 404,
/// `conflict` 409, `internal` 500; every other code is the caller's doing and becomes 400.
pub trait Engine: Send + Sync + 'static {
    /// The engine itself.
    fn status(&self) -> Status;

    /// Services and calls.
    fn overview(&self) -> Overview;

    /// One service.
    fn service(&self, name: &str) -> Option<ServiceDetail>;

    /// Why a service is as it is.
    fn why(&self, name: &str) -> Option<Why>;

    /// Events after `after`, oldest first, `limit` at most; the newest ones when `after` is 0.
    fn events(&self, after: u64, limit: usize) -> Vec<EventView>;

    /// Lines of builds after `after`, oldest first, `limit` at most.
    fn builds(&self, after: u64, limit: usize) -> Vec<BuildLine>;

    /// A chart from the metric history.
    fn chart(&self, query: &ChartQuery) -> Result<Chart, Problem>;

    /// Every metric in the Prometheus text format.
    fn prometheus(&self) -> String;

    /// Lines already written.
    fn logs(&self, query: LogQuery) -> Answer<LogPage>;

    /// Lines as they are written, from now on, in batches. Ends when the receiver is dropped.
    fn follow_logs(&self, query: LogQuery) -> Result<mpsc::Receiver<Vec<LogLine>>, Problem>;

    /// Asks an event log: the one of that service, or the only one.
    fn event_log(&self, service: Option<String>, ask: event_log::Ask) -> Answer<event_log::Answer>;

    /// Does what a person asked for.
    fn command(&self, command: Command) -> Answer<Accepted>;

    /// Moves whenever services, instances or events change.
    fn changes(&self) -> watch::Receiver<u64>;
}
