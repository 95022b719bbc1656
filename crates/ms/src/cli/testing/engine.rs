//! A made-up engine behind the real HTTP API. It moves one step each time it is looked at, so
//! that nothing depends on time.
//!
//! Services become healthy; one called `bad…` fails, one called `slow…` never gets ready, one called
//! `job…` runs to its end.

use std::path::Path;
use std::sync::{Arc, Mutex};

use base::{Problem, UnixNanos};
use console::engine::Answer;
use console::wire::{
    Accepted, Cause, Chart, ChartQuery, Command, EventView, Health, LogLine, LogPage, LogQuery,
    Overview, ReleaseView, ServiceDetail, Status, Why,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::{overview, service};

/// The made-up engine.
pub(crate) struct Fake {
    overview: Mutex<Overview>,
    /// Every command that came, in order.
    pub(crate) commands: Mutex<Vec<Command>>,
    /// What every command is refused with.
    pub(crate) refuse: Mutex<Option<Problem>>,
    definitions: Mutex<Vec<(String, serde_json::Value)>>,
    ended: watch::Sender<bool>,
}

impl Fake {
    /// An engine that runs these services.
    pub(crate) fn new(services: &[&str]) -> Arc<Fake> {
        let services = services.iter().map(|name| service(name)).collect();
        Arc::new(Fake {
            overview: Mutex::new(Overview { services, ..overview() }),
            commands: Mutex::default(),
            refuse: Mutex::default(),
            definitions: Mutex::default(),
            ended: watch::channel(false).0,
        })
    }

    /// Answers on the socket of `state` until told to end.
    pub(crate) async fn serve(self: Arc<Fake>, state: &Path) {
        let socket = state.join("engine.sock");
        let listeners =
            console::Listeners { tcp: vec![], unix: vec![UnixListener::bind(&socket).unwrap()] };
        let ended = self.ended.subscribe();
        let config = console::ConsoleConfig::default();
        let clock = Arc::new(base::SystemClock);
        console::serve(config, listeners, self, clock, ended).await.unwrap();
        std::fs::remove_file(socket).unwrap();
    }

    fn step(&self) -> Overview {
        let mut overview = self.overview.lock().unwrap();
        let shown = overview.clone();
        for service in &mut overview.services {
            let name = service.name.to_string();
            service.health = match service.health {
                Health::Waiting => Health::Starting,
                Health::Starting if name.starts_with("bad") => Health::Failed,
                Health::Starting if name.starts_with("job") => Health::Completed,
                Health::Starting if !name.starts_with("slow") => Health::Healthy,
                other => other,
            };
            service.healthy = match service.health {
                Health::Healthy => service.desired,
                _ => 0,
            };
            let (state, why) = match service.health {
                Health::Healthy => ("healthy", ""),
                Health::Failed => ("failed", "exited with code 3"),
                Health::Completed => ("stopped", ""),
                _ => ("starting", "not ready yet"),
            };
            service.why = why.to_owned();
            service.instances.iter_mut().for_each(|instance| instance.state = state.to_owned());
        }
        shown
    }

    fn change(&self, names: &[String], change: impl Fn(&mut console::wire::ServiceView)) {
        let mut overview = self.overview.lock().unwrap();
        overview.status.revision += 1;
        let named = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
        overview.services.iter_mut().filter(|s| named(s.name.as_str())).for_each(change);
    }

    fn obey(&self, command: &Command) {
        match command {
            Command::Up { app, .. } => {
                let app: spec::App = serde_json::from_value(app.clone()).unwrap();
                let mut overview = self.overview.lock().unwrap();
                overview.status.revision += 1;
                for (name, defined) in &app.services {
                    let mut made = service(name.as_str());
                    made.desired = defined.replicas;
                    (made.health, made.healthy) = (Health::Waiting, 0);
                    overview.services.retain(|s| s.name != *name);
                    overview.services.push(made);
                    let definition = serde_json::to_value(defined).unwrap();
                    self.definitions.lock().unwrap().push((name.to_string(), definition));
                }
            }
            Command::Stop { services } => self.change(services, |s| {
                s.health = Health::Stopped;
                s.instances.clear();
            }),
            Command::Start { services } | Command::Restart { services } => {
                self.change(services, |s| s.health = Health::Starting);
            }
            Command::Scale { service, replicas } => {
                self.change(&[service.to_string()], |s| {
                    (s.desired, s.health) = (*replicas, Health::Starting);
                });
            }
            Command::Rollback { service, .. } => {
                self.change(&[service.to_string()], |s| s.health = Health::Starting);
            }
            Command::Prune { .. } => {}
            Command::Build { .. } | Command::Down { .. } | Command::Shutdown { .. } => {
                self.overview.lock().unwrap().status.ending = true;
                _ = self.ended.send(true);
            }
        }
    }

    fn line(instance: &str) -> LogLine {
        LogLine {
            at: UnixNanos(11_000_000_000),
            instance: instance.parse().unwrap(),
            stream: "stderr".to_owned(),
            text: "last words".to_owned(),
        }
    }
}

impl console::Engine for Fake {
    fn status(&self) -> Status {
        self.overview.lock().unwrap().status.clone()
    }

    fn overview(&self) -> Overview {
        self.step()
    }

    fn service(&self, name: &str) -> Option<ServiceDetail> {
        let service = self.step().services.into_iter().find(|s| s.name.as_str() == name)?;
        let definitions = self.definitions.lock().unwrap();
        let definition = definitions.iter().rfind(|(of, _)| of == name);
        let release = |number, state: &str| ReleaseView {
            number,
            state: state.to_owned(),
            created_at: UnixNanos(1),
            source: "build .".to_owned(),
            change: String::new(),
        };
        Some(ServiceDetail {
            service,
            releases: vec![release(1, "serving")],
            events: vec![],
            definition: definition.map(|(_, definition)| definition.clone()).unwrap_or_default(),
            skipped_steps: vec![],
        })
    }

    fn why(&self, name: &str) -> Option<Why> {
        let service = self.service(name)?.service;
        let db = "db".parse().unwrap();
        let cause = Cause { service: db, health: Health::Failed, why: "exited".to_owned() };
        let history = vec![EventView {
            seq: 1,
            at: UnixNanos(11_000_000_000),
            level: "info".to_owned(),
            service: Some(service.name.clone()),
            instance: None,
            kind: "service-waiting".to_owned(),
            message: format!("{name} waits for db to be healthy"),
        }];
        Some(Why { service, causes: vec![cause], history })
    }

    fn builds(&self, _after: u64, _limit: usize) -> Vec<console::wire::BuildLine> {
        vec![]
    }

    fn events(&self, _after: u64, _limit: usize) -> Vec<EventView> {
        vec![]
    }

    fn chart(&self, _query: &ChartQuery) -> Result<Chart, Problem> {
        Err(Problem::new("not-found", "no charts here"))
    }

    fn prometheus(&self) -> String {
        String::new()
    }

    fn logs(&self, query: LogQuery) -> Answer<LogPage> {
        let of = query.services.first().cloned().unwrap_or_else(|| "web".to_owned());
        let of = if of.ends_with(".1") { of } else { format!("{of}.1") };
        let lines = vec![Fake::line(&of)];
        Box::pin(async move { Ok(LogPage { lines, more: false }) })
    }

    fn follow_logs(&self, _query: LogQuery) -> Result<mpsc::Receiver<Vec<LogLine>>, Problem> {
        // One line, then the end.
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(vec![Fake::line("web.1")]).unwrap();
        Ok(receiver)
    }

    fn event_log(
        &self,
        _service: Option<String>,
        _ask: console::event_log::Ask,
    ) -> Answer<console::event_log::Answer> {
        Box::pin(async {
            Err(Problem::new("no-event-log", "this app has no event log").with_next("make one"))
        })
    }

    fn command(&self, command: Command) -> Answer<Accepted> {
        let refused = self.refuse.lock().unwrap().clone();
        self.commands.lock().unwrap().push(command.clone());
        if refused.is_none() {
            self.obey(&command);
        }
        let revision = self.overview.lock().unwrap().status.revision;
        Box::pin(async move {
            refused.map_or_else(|| Ok(Accepted { revision, ..Accepted::default() }), Err)
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
