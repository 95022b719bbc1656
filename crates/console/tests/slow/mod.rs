//! An engine whose commands wait to be let on, and one of which panics.

use std::sync::Arc;

use base::Problem;
use console::Engine;
use console::engine::Answer;
use console::event_log;
use console::wire::*;
use tokio::sync::{Notify, mpsc, watch};

use crate::engine::FakeEngine;

pub(crate) struct Slow {
    fake: FakeEngine,
    pub(crate) begun: Arc<Notify>,
    pub(crate) go_on: Arc<Notify>,
    pub(crate) done: Arc<Notify>,
}

impl Default for Slow {
    fn default() -> Slow {
        let fake = FakeEngine::new(true);
        Slow { fake, begun: Arc::default(), go_on: Arc::default(), done: Arc::default() }
    }
}

impl Engine for Slow {
    fn status(&self) -> Status {
        self.fake.status()
    }

    fn overview(&self) -> Overview {
        self.fake.overview()
    }

    fn service(&self, name: &str) -> Option<ServiceDetail> {
        self.fake.service(name)
    }

    fn why(&self, name: &str) -> Option<Why> {
        self.fake.why(name)
    }

    fn builds(&self, after: u64, limit: usize) -> Vec<BuildLine> {
        self.fake.builds(after, limit)
    }

    fn events(&self, after: u64, limit: usize) -> Vec<EventView> {
        self.fake.events(after, limit)
    }

    fn chart(&self, query: &ChartQuery) -> Result<Chart, Problem> {
        self.fake.chart(query)
    }

    fn prometheus(&self) -> String {
        self.fake.prometheus()
    }

    fn logs(&self, query: LogQuery) -> Answer<LogPage> {
        self.fake.logs(query)
    }

    fn follow_logs(&self, query: LogQuery) -> Result<mpsc::Receiver<Vec<LogLine>>, Problem> {
        self.fake.follow_logs(query)
    }

    fn event_log(&self, service: Option<String>, ask: event_log::Ask) -> Answer<event_log::Answer> {
        self.fake.event_log(service, ask)
    }

    fn command(&self, command: Command) -> Answer<Accepted> {
        let (begun, go_on, done) = (self.begun.clone(), self.go_on.clone(), self.done.clone());
        Box::pin(async move {
            assert!(!matches!(command, Command::Shutdown { .. }), "a fault of the engine's own");
            begun.notify_one();
            go_on.notified().await;
            done.notify_one();
            Ok(Accepted::default())
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.fake.changes()
    }
}
