//! Answers the console: snapshots from what the loop left behind, commands into the loop.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::{Agent, Usage};
use base::metrics::Registry;
use base::{Clock, InstanceId, Problem, UnixNanos};
use console::engine::Answer;
use console::wire::{
    Accepted, BuildLine, Chart, ChartQuery, Command, EventView, LogLine, LogPage, LogQuery,
    Overview, ServiceDetail, Status, Why,
};
use control::Control;
use telemetry::process::ProcessMetrics;
use telemetry::{History, LogStore};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::builds::Builds;
use super::carry::Request;
use super::figures::{self, Figures};
use super::lock::Folder;
use super::published::HostPorts;
use super::room::Room;
use super::{event_log, logs, views};

/// What the loop and the console both see.
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) registry: Registry,
    pub(super) history: History,
    pub(super) logs: LogStore,
    pub(super) agent: Arc<Agent>,
    pub(super) edge_status: watch::Receiver<Arc<edge::EdgeStatus>>,
    pub(super) state_dir: PathBuf,
    pub(super) console_url: Option<String>,
    pub(super) addresses: String,
    pub(super) started_at: UnixNanos,
    pub(super) process: Mutex<ProcessMetrics>,
    pub(super) usage: Mutex<HashMap<InstanceId, Usage>>,
    pub(super) figures: Mutex<Arc<Figures>>,
    pub(super) tails: Mutex<JoinSet<()>>,
    pub(super) control: Arc<Control>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) host_ports: HostPorts,
    pub(super) room: Room,
    /// Everything is being stopped, and the engine ends then.
    pub(super) ending: AtomicBool,
    pub(super) folder: Folder,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) builder: builder::Builder,
    pub(super) builds: Builds,
}

/// Nothing here panics while it holds a lock; if something did, what it guards is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Counts a change, so that whoever watches looks again.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|revision| *revision += 1);
    }

    /// How many changes there were.
    pub(super) fn revision(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Takes the figures of this second.
    pub(super) fn sample(&self, usage: HashMap<InstanceId, Usage>) {
        {
            let mut process = lock(&self.process);
            process.sample();
            for (id, used) in &usage {
                let used = telemetry::process::Usage {
                    cpu_micros: used.cpu_micros,
                    memory_bytes: used.memory_bytes,
                    tasks: used.processes.into(),
                };
                process.instance(id, &used);
            }
        }
        *lock(&self.usage) = usage;
        self.history.sample(self.clock.now(), &self.registry);
    }

    /// Forgets the figures of an instance that is gone.
    pub(super) fn forget(&self, id: &InstanceId) {
        lock(&self.process).forget(id);
    }

    /// The last ten seconds, worked out once a second at most and only when somebody looks.
    pub(super) fn figures(&self) -> Arc<Figures> {
        let now = self.clock.now();
        let mut figures = lock(&self.figures);
        if figures.second != now.secs() {
            *figures = Arc::new(Figures::read(&self.history, now));
        }
        figures.clone()
    }
}

/// The engine as the console sees it.
pub(super) struct Api(pub(super) Arc<Shared>);

impl console::Engine for Api {
    fn status(&self) -> Status {
        views::status(&self.0)
    }

    fn overview(&self) -> Overview {
        views::overview(&self.0)
    }

    fn service(&self, name: &str) -> Option<ServiceDetail> {
        views::detail(&self.0, name)
    }

    fn why(&self, name: &str) -> Option<Why> {
        views::why_so(&self.0, name)
    }

    fn events(&self, after: u64, limit: usize) -> Vec<EventView> {
        // What is older than the journal in memory comes from disk; nothing is shown without it.
        let events = self.0.control.events(after, limit).unwrap_or_default();
        events.iter().map(views::event).collect()
    }

    fn builds(&self, after: u64, limit: usize) -> Vec<BuildLine> {
        self.0.builds.after(after, limit)
    }

    fn chart(&self, query: &ChartQuery) -> Result<Chart, Problem> {
        figures::chart(&self.0.history, &*self.0.clock, query)
    }

    fn prometheus(&self) -> String {
        telemetry::prometheus::write(&self.0.registry)
    }

    fn logs(&self, query: LogQuery) -> Answer<LogPage> {
        let shared = self.0.clone();
        Box::pin(async move { logs::search(&shared.logs, query).await })
    }

    fn follow_logs(&self, query: LogQuery) -> Result<mpsc::Receiver<Vec<LogLine>>, Problem> {
        let mut tails = lock(&self.0.tails);
        while tails.try_join_next().is_some() {}
        logs::follow(&self.0.logs, query, &mut tails)
    }

    fn event_log(
        &self,
        service: Option<String>,
        ask: console::event_log::Ask,
    ) -> Answer<console::event_log::Answer> {
        Box::pin(event_log::ask(self.0.clone(), service, ask))
    }

    fn command(&self, command: Command) -> Answer<Accepted> {
        let shared = self.0.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let ended = || {
                Problem::new("conflict", "the engine is ending")
                    .with_next("start it again with `ms up`")
            };
            let request = Request { command, reply };
            shared.requests.send(request).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}
