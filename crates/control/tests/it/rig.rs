//! One engine at a desk: an agent and an edge that do as they are told at once, and programs that
//! do what the test says.

use std::time::Duration;

use base::{InstanceId, Now, SteadyNanos, UnixNanos};
use control::{
    Action, Command, Event, Exit, Health, Observation, Reported, ReportedState, RoutePlan, State,
    advance, check, view,
};

use crate::support::{id, name, pool};

pub(crate) struct Rig {
    pub(crate) state: State,
    pub(crate) now: SteadyNanos,
    pub(crate) wall: UnixNanos,
    pub(crate) seen: Observation,
    pub(crate) wake: Option<SteadyNanos>,
    pub(crate) plan: RoutePlan,
    /// Kinds and messages of events, oldest first.
    pub(crate) events: Vec<String>,
    /// Started programs are healthy at once.
    pub(crate) eager: bool,
    /// The edge follows each plan at once.
    pub(crate) edge_follows: bool,
    /// Programs end as soon as they are asked to.
    pub(crate) obedient: bool,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let mut rig = Rig {
            state: State::new(pool(), 1),
            now: SteadyNanos(1_000_000_000_000),
            wall: UnixNanos(1_000_000_000_000_000_000),
            seen: Observation::default(),
            wake: None,
            plan: RoutePlan::default(),
            events: Vec::new(),
            eager: true,
            edge_follows: true,
            obedient: true,
        };
        rig.look();
        rig
    }

    /// Hands one event in and carries out what comes of it; says in short what was asked for.
    pub(crate) fn hand(&mut self, event: &Event) -> Vec<String> {
        let (next, actions) = advance(&self.state, event, self.both());
        self.state = next;
        self.wake = None;
        let mut said = Vec::new();
        for action in actions {
            match action {
                Action::StartInstance(record) => {
                    said.push(format!(
                        "start {}#{} r{}",
                        record.id, record.attempt, record.release
                    ));
                    let state =
                        if self.eager { ReportedState::Healthy } else { ReportedState::Running };
                    let reported = Reported {
                        attempt: record.attempt,
                        state,
                        detail: String::new(),
                        started_at: Some(self.wall),
                        address: Some(record.address),
                        port_env: None,
                        post_start: None,
                        warnings: Vec::new(),
                    };
                    self.seen.instances.insert(record.id.clone(), reported);
                }
                Action::RunPostStart(record) => said.push(format!("post_start {}", record.id)),
                Action::StopInstance { id, signal, grace } => {
                    said.push(format!("stop {id} {signal} {}s", grace.as_secs()));
                    let reported = self.seen.instances.get_mut(&id);
                    if let Some(reported) = reported.filter(|_| self.obedient) {
                        let exit = Exit { at: self.wall, signal: Some(15), ..Exit::default() };
                        reported.state = ReportedState::Exited(exit);
                    }
                }
                Action::RemoveInstance { id } => {
                    said.push(format!("remove {id}"));
                    self.seen.instances.remove(&id);
                }
                Action::Route(plan) => {
                    if self.edge_follows {
                        self.seen.edge.applied_version = plan.version;
                    }
                    self.plan = (*plan).clone();
                }
                Action::Emit(event) => {
                    self.events.push(format!("{}: {}", event.kind, event.message));
                }
                Action::WakeAt(at) => self.wake = Some(at),
                Action::Put(_) | Action::Delete(_) => {}
            }
        }
        said
    }

    pub(crate) fn ask(&mut self, command: Command) -> Vec<String> {
        check(&self.state, &command).unwrap();
        self.hand(&Event::Command(command))
    }

    pub(crate) fn refuse(&self, command: &Command) -> String {
        let problem = check(&self.state, command).unwrap_err();
        assert_eq!(
            advance(&self.state, &Event::Command(command.clone()), self.both()).0,
            self.state
        );
        problem.to_string()
    }

    pub(crate) fn look(&mut self) -> Vec<String> {
        let seen = self.seen.clone();
        self.hand(&Event::Observed(seen))
    }

    /// Looks until nothing is asked for any more.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..100 {
            let records = (self.state.services.clone(), self.state.instances.clone());
            let said = self.look();
            let after = (self.state.services.clone(), self.state.instances.clone());
            if said.is_empty() && records == after {
                return all;
            }
            all.extend(said);
        }
        panic!("it never comes to rest: {all:?}");
    }

    /// Brings it up and lets everything get healthy.
    pub(crate) fn up(&mut self, services: impl IntoIterator<Item = spec::Service>) -> Vec<String> {
        let mut said = self.ask(crate::support::up(services));
        said.extend(self.settle());
        said
    }

    pub(crate) fn wait(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.wall = self.wall.plus(by);
    }

    fn both(&self) -> Now {
        Now { wall: self.wall, steady: self.now }
    }

    pub(crate) fn set(&mut self, of: &str, state: ReportedState) {
        self.seen.instances.get_mut(&id(of)).unwrap().state = state;
    }

    pub(crate) fn exit(&mut self, of: &str, code: i32) -> Vec<String> {
        let exit = Exit {
            at: self.wall,
            code: Some(code),
            last_lines: vec!["last words".to_owned()],
            ..Exit::default()
        };
        self.set(of, ReportedState::Exited(exit));
        self.look()
    }

    /// What the plan says of a service: ready instances bare, others in brackets.
    pub(crate) fn routed(&self, service: &str) -> String {
        let endpoints = self.plan.services[&name(service)].endpoints.iter();
        let words = endpoints.map(|e| match e.ready {
            true => e.instance.to_string(),
            false => format!("({})", e.instance),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn health(&self, service: &str) -> (Health, String) {
        let view = view::service(&self.state, &name(service)).unwrap();
        (view.health, view.why)
    }

    pub(crate) fn word(&self, service: &str) -> Health {
        self.health(service).0
    }

    pub(crate) fn release(&self, service: &str) -> Option<u64> {
        self.state.services[&name(service)].release
    }

    pub(crate) fn has(&self, id: &InstanceId) -> bool {
        self.state.instances.contains_key(id)
    }

    /// The machine goes down and comes up again, and with it the engine.
    pub(crate) fn restart_machine(&mut self) {
        self.restart_engine();
        self.now = SteadyNanos(7);
        self.state.rebase(self.now);
        for reported in self.seen.instances.values_mut() {
            let exit = Exit { at: self.wall, lost: true, ..Exit::default() };
            reported.state = ReportedState::Exited(exit);
        }
    }

    /// The engine ends without a word, and another one reads its records.
    pub(crate) fn restart_engine(&mut self) {
        let mut fresh = State::new(pool(), 1);
        fresh.app = self.state.app.clone();
        fresh.services = self.state.services.clone();
        fresh.releases = self.state.releases.clone();
        fresh.instances = self.state.instances.clone();
        self.state = fresh;
        self.seen.edge = control::EdgeReport::default();
        self.wake = None;
    }
}
