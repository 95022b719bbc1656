//! The loop: tells control what is and what people ask, and carries out what it decides.
//!
//! Not here: any decision. Invariants: an observation is always the whole picture, with starts
//! under way in it, so that control never asks twice for the same start; the edge's table version
//! carries the plan's, so that "applied" means applied on every thread of the edge.

mod end;
mod up;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent::{Agent, InstanceEvent, Ports};
use base::{InstanceId, Problem, ServiceName, SteadyNanos, UnixNanos};
use console::wire::{self, Accepted};
use control::{
    Action, Control, ControlError, EdgeReport, Event, Handled, InstanceRecord, Observation,
    Reported, ReportedState, RoutePlan,
};
use edge::{EdgeStatus, RouteTable};
use spec::model::NetworkMode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id as TaskId, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use up::{Then, UpReady};

use super::answers::Answers;
use super::api::Shared;
use super::before::{self, Before, Launch, NotStarted, Once};
use super::convert;
use super::ending::WhenDown;
use super::given;
use super::hooks;

/// Bits of a table's version below the plan's: listeners change more often than plans.
const REVISION_BITS: u32 = 24;
/// Ages in seconds of the youngest instance at which all are asked what they listen on.
const LISTENING_AT: [u64; 9] = [0, 1, 2, 3, 5, 8, 13, 21, 34];
/// And every so many seconds.
const LISTENING_EVERY: u64 = 60;
/// How long starts and stops under way may take when the engine ends.
const WORKS_GRACE: Duration = Duration::from_secs(5);
/// Seconds between two looks at the host's addresses.
const ADDRESSES_EVERY: u64 = 5;
/// Bytes of logs kept over all instances.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Pause before an instance is removed again that could not be.
const REMOVAL_RETRY: Duration = Duration::from_secs(1);
/// How long the `post_start` steps of an instance may take.
const POST_START_WITHIN: Duration = Duration::from_secs(120);
/// A turn looks at everything: after one, so many times its own length goes by before the next, in
/// which all that happens is gathered. Of a large app that starts, things happen all the time.
const RESTS: u32 = 4;
/// The longest such rest.
const REST_MAX: Duration = Duration::from_millis(50);
/// Pause before records that could not be written are tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Seconds between two looks at how much the logs take.
const PRUNE_EVERY: u64 = 300;

/// A person's wish with who waits for the answer.
pub(super) struct Request {
    /// What is wanted.
    pub(super) command: wire::Command,
    /// Who waits.
    pub(super) reply: oneshot::Sender<Result<Accepted, Problem>>,
}

type Reply = oneshot::Sender<Result<Accepted, Problem>>;

/// Something that ran beside the loop and is done.
enum Done {
    Started {
        id: InstanceId,
        attempt: u32,
        /// The release whose `pre_start` steps that run once are done.
        pre_started: Option<u64>,
        result: Result<(), NotStarted>,
    },
    Removed {
        id: InstanceId,
    },
    PostStarted {
        id: InstanceId,
        attempt: u32,
        how: Result<(), String>,
    },
    Other,
    Up {
        up: Box<UpReady>,
        reply: Reply,
    },
    Built {
        answer: Result<Accepted, Problem>,
        reply: Reply,
    },
    UpFailed {
        problem: Problem,
        reply: Reply,
    },
}

/// What runs beside the loop and would hold something up if nobody heard of its end.
enum Undertaken {
    Start { id: InstanceId, attempt: u32 },
    Removal { id: InstanceId },
    Up,
}

/// The loop and what it remembers between turns.
pub(super) struct Carrier {
    control: Arc<Control>,
    agent: Arc<Agent>,
    agent_events: mpsc::Receiver<InstanceEvent>,
    edge_status: watch::Receiver<Arc<EdgeStatus>>,
    routes: watch::Sender<Arc<RouteTable>>,
    answers: Option<Answers>,
    shared: Arc<Shared>,
    works: JoinSet<Done>,
    /// What each of `works` is, for when it ends with a panic.
    undertaken: HashMap<TaskId, Undertaken>,
    launching: HashMap<InstanceId, Launch>,
    /// The `pre_start` steps of a release that run once, while they have not been seen to be done.
    once: HashMap<(ServiceName, u64), Once>,
    /// Releases whose steps that run once were seen to be done.
    pre_started: BTreeSet<(ServiceName, u64)>,
    removing: HashSet<InstanceId>,
    failed_starts: HashMap<InstanceId, Reported>,
    /// By instance the attempt whose `post_start` steps were begun, and how they ended.
    post_started: HashMap<InstanceId, (u32, Option<Result<(), String>>)>,
    /// Instances whose `pre_stop` steps were begun.
    pre_stopped: HashSet<InstanceId>,
    listening: HashMap<InstanceId, Ports>,
    /// The tick at which the youngest instance was started.
    youngest_tick: u64,
    names: convert::Names,
    plan: Arc<RoutePlan>,
    revision: u64,
    wake_at: Option<SteadyNanos>,
    /// Before this, what happens is gathered for one turn.
    rested_at: SteadyNanos,
    /// The engine ends now; services run on.
    leaving: bool,
    /// What happens when the app is down.
    when_down: Option<WhenDown>,
    /// Whether the files that go with it are discarded.
    discarded: bool,
    ticks: u64,
    preparing: usize,
    own_addresses: bool,
}

impl Carrier {
    /// A loop over opened parts.
    pub(super) fn new(
        control: Arc<Control>,
        agent: Arc<Agent>,
        agent_events: mpsc::Receiver<InstanceEvent>,
        edge_status: watch::Receiver<Arc<EdgeStatus>>,
        routes: watch::Sender<Arc<RouteTable>>,
        answers: Option<Answers>,
        shared: Arc<Shared>,
    ) -> Carrier {
        let own_addresses = agent.isolation().addressing == agent::Addressing::Own;
        Carrier {
            control,
            agent,
            agent_events,
            edge_status,
            routes,
            answers,
            shared,
            works: JoinSet::new(),
            undertaken: HashMap::new(),
            launching: HashMap::new(),
            once: HashMap::new(),
            pre_started: BTreeSet::new(),
            removing: HashSet::new(),
            failed_starts: HashMap::new(),
            post_started: HashMap::new(),
            pre_stopped: HashSet::new(),
            listening: HashMap::new(),
            youngest_tick: 0,
            names: convert::Names::default(),
            plan: Arc::default(),
            revision: 0,
            wake_at: None,
            rested_at: SteadyNanos::default(),
            leaving: false,
            when_down: None,
            discarded: false,
            ticks: 0,
            preparing: 0,
            own_addresses,
        }
    }

    /// Works until the engine is told to end.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Request>) -> Result<(), Problem> {
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
        if let Some(wish) = WhenDown::read(&self.shared.state_dir) {
            let _ = self.go_down(wish)?;
        }
        self.turn()?;
        let mut owed = None;
        loop {
            let sleep = self.until(self.wake_at);
            let rested = self.until(owed);
            tokio::select! {
                Some(_) = self.agent_events.recv() => {}
                Ok(()) = self.edge_status.changed() => {}
                Some(request) = asked.recv() => self.request(request)?,
                Some(done) = self.works.join_next_with_id() => self.done(done)?,
                () = sleep => self.wake_at = None,
                () = rested => {}
                _ = every_second.tick() => {
                    self.look_for_folder()?;
                    self.look_for_room()?;
                    if !self.second() { continue }
                }
                _ = terminate.recv() => self.leaving = true,
                _ = interrupt.recv() => self.leaving = true,
            }
            // What arrived meanwhile belongs to the same picture.
            while self.agent_events.try_recv().is_ok() {}
            self.edge_status.mark_unchanged();
            let now = self.shared.clock.steady();
            if now < self.rested_at && !self.leaving {
                owed = Some(self.rested_at);
                continue;
            }
            owed = None;
            self.turn()?;
            let done = self.shared.clock.steady();
            let rest = done.since(now).saturating_mul(RESTS).min(REST_MAX);
            self.rested_at = done.plus(rest);
            if self.ended() {
                break;
            }
        }
        self.agent.stop_deleting();
        self.launching.values().for_each(Launch::give_up);
        // A build under way stops, and what it has finished is kept.
        self.shared.ending.store(true, Ordering::Relaxed);
        let finish = async { while self.works.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(WORKS_GRACE, finish).await;
        self.control.flush().map_err(super::serve::internal)
    }

    fn until(&self, at: Option<SteadyNanos>) -> impl Future<Output = ()> + 'static {
        let wait = at.map(|at| at.since(self.shared.clock.steady()));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    /// One round: look, decide, act.
    fn turn(&mut self) -> Result<(), Problem> {
        let observation = self.observe();
        let observed = Event::Observed(observation);
        self.happen(&observed)
    }

    /// Lets control react. A store that cannot be written (a full disk) is no reason to stop
    /// serving: nothing has changed, and the same picture is shown again a little later.
    fn happen(&mut self, event: &Event) -> Result<(), Problem> {
        match self.control.handle(event) {
            Ok(handled) => {
                if self.shared.room.records(None, self.shared.clock.now()) {
                    eprintln!("records can be written again");
                }
                self.carry_out(handled);
            }
            Err(error @ ControlError::Store(_)) => {
                if self.shared.room.records(Some(error.to_string()), self.shared.clock.now()) {
                    eprintln!("error: {error}; trying again every second");
                    self.shared.changed();
                }
                self.wake_at = Some(self.shared.clock.steady().plus(STORE_RETRY));
            }
            Err(error) => return Err(super::serve::internal(error)),
        }
        Ok(())
    }

    /// Tells when the disk runs out of room, and when it has some again.
    fn look_for_room(&mut self) -> Result<(), Problem> {
        let Some(note) = self.shared.room.look() else { return Ok(()) };
        let message = note.message.clone();
        match self.control.handle(&Event::Noted(note)) {
            Ok(handled) => {
                eprintln!("{message}");
                self.shared.room.was_told();
                self.carry_out(handled);
            }
            // With the records all else that was to be told waits as well.
            Err(ControlError::Store(_)) => {}
            Err(error) => return Err(super::serve::internal(error)),
        }
        Ok(())
    }

    fn observe(&self) -> Observation {
        let mut instances: BTreeMap<InstanceId, Reported> = BTreeMap::new();
        for status in self.agent.instances() {
            let listening = self.listening.get(&status.id);
            instances.insert(status.id.clone(), convert::reported(&status, listening));
        }
        instances.extend(self.failed_starts.clone());
        for (id, launch) in &self.launching {
            let launching = Reported {
                attempt: launch.attempt,
                state: ReportedState::Launching,
                detail: launch.detail().to_owned(),
                started_at: None,
                address: instances.get(id).and_then(|r| r.address),
                port_env: None,
                post_start: None,
                warnings: Vec::new(),
            };
            instances.insert(id.clone(), launching);
        }
        for (id, (attempt, how)) in &self.post_started {
            if let Some(reported) = instances.get_mut(id).filter(|r| r.attempt == *attempt) {
                reported.post_start.clone_from(how);
            }
        }
        let status = self.edge_status.borrow();
        let edge = EdgeReport {
            applied_version: status.version >> REVISION_BITS,
            inflight: status.inflight.clone(),
        };
        Observation { instances, edge, pre_started: self.pre_started.clone() }
    }

    fn carry_out(&mut self, handled: Handled) {
        self.wake_at = None;
        let mut askers_changed = false;
        for action in handled.actions {
            match action {
                Action::StartInstance(record) => self.start(record),
                Action::RunPostStart(record) => self.post_start(&record),
                Action::StopInstance { id, signal, grace } => self.stop(id, signal, grace),
                Action::RemoveInstance { id } => self.remove(id),
                Action::Route(plan) => {
                    askers_changed |= self.plan.callers != plan.callers;
                    self.plan = plan;
                    self.publish();
                }
                Action::WakeAt(at) => self.wake_at = Some(at),
                // Records and events are written already: control does that first.
                Action::Put(_) | Action::Delete(_) | Action::Emit(_) => {}
            }
        }
        let state = self.control.state();
        self.pre_started.retain(|(service, number)| {
            state.release(service, *number).is_some_and(|release| !release.pre_started)
        });
        self.once.retain(|(service, number), _| {
            state.release(service, *number).is_some_and(|release| !release.pre_started)
        });
        if !convert::are_names_of(&self.names, &state) {
            self.names = convert::names(&state);
            self.write_names();
        } else if askers_changed && let Some(answers) = &mut self.answers {
            answers.publish(&state, &self.plan);
        }
        self.shared.changed();
    }

    /// Tells instances the names that they find now.
    fn write_names(&mut self) {
        let (state, own) = (self.control.state(), self.own_addresses);
        // An instance whose file cannot be written keeps the names that it knew.
        let _ = self.agent.update_hosts(|id| convert::hosts_of(&state, id, own));
        if let Some(answers) = &mut self.answers {
            answers.forget();
            answers.publish(&state, &self.plan);
        }
    }

    fn start(&mut self, record: Arc<InstanceRecord>) {
        let (id, attempt) = (record.id.clone(), record.attempt);
        if self.launching.get(&id).is_some_and(|launch| launch.attempt == attempt) {
            return;
        }
        let state = self.control.state();
        let Some(release) = state.release(record.service(), record.release) else { return };
        let mode = &release.definition.networking.mode;
        let told =
            !self.own_addresses && matches!(mode, NetworkMode::Networks | NetworkMode::Service(_));
        let port_env = match told {
            false => None,
            true => agent::free_port(std::net::Ipv4Addr::LOCALHOST.into()).ok(),
        };
        let dir = &self.shared.state_dir;
        let own = self.own_addresses;
        let names_at = self.answers.as_ref().map(|answers| answers.at);
        let spec = convert::process(&state, &record, release, port_env, own, names_at, dir);
        let (given, dir) = (release.clone(), dir.clone());
        self.failed_starts.remove(&id);
        self.listening.remove(&id);
        self.post_started.remove(&id);
        self.pre_stopped.remove(&id);
        let steps = release.definition.hooks.pre_start.clone();
        let key = (record.service().clone(), record.release);
        let has_once = steps.iter().any(|step| !step.per_replica);
        let once = (has_once && !release.pre_started && !self.pre_started.contains(&key))
            .then(|| self.once.entry(key).or_default().clone());
        let (launch, unwanted) = Launch::new(attempt, !steps.is_empty());
        self.launching.insert(id.clone(), launch);
        let (agent, state_dir, number) = (self.agent.clone(), dir.clone(), record.release);
        let shared = self.shared.clone();
        let undertaken = Undertaken::Start { id: id.clone(), attempt };
        let work = self.works.spawn(async move {
            let of = id.clone();
            let written = tokio::task::spawn_blocking(move || {
                given::write(&given.definition, &dir)?;
                fill_volumes(&shared.builder, &given, &of, &dir)
            });
            let (once_done, result) = match written.await.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(()) => {
                    let before = Before { agent, state_dir, spec, steps, once, unwanted };
                    before::start(before).await
                }
                Err(why) => (false, Err(why.into())),
            };
            Done::Started { id, attempt, pre_started: once_done.then_some(number), result }
        });
        self.undertaken.insert(work.id(), undertaken);
    }

    /// Runs the steps of this attempt, once in this life of the engine.
    fn post_start(&mut self, record: &InstanceRecord) {
        let (id, attempt) = (record.id.clone(), record.attempt);
        if self.post_started.get(&id).is_some_and(|(of, _)| *of == attempt) {
            return;
        }
        self.post_started.insert(id.clone(), (attempt, None));
        let steps = self.hooks(&id).post_start;
        let state_dir = self.shared.state_dir.clone();
        self.works.spawn(async move {
            let how = hooks::run(&state_dir, &id, &steps, POST_START_WITHIN).await;
            Done::PostStarted { id, attempt, how }
        });
    }

    /// What runs beside the program of an instance.
    fn hooks(&self, id: &InstanceId) -> spec::model::Hooks {
        let state = self.control.state();
        let record = state.instances.get(id);
        let release = record.and_then(|record| state.release(record.service(), record.release));
        release.map(|release| release.definition.hooks.clone()).unwrap_or_default()
    }

    fn stop(&mut self, id: InstanceId, signal: String, grace: Duration) {
        if let Some(launch) = self.launching.get(&id) {
            return launch.give_up();
        }
        let agent = self.agent.clone();
        let signal = spec::signal_number(&signal).unwrap_or(libc::SIGTERM);
        let first = self.pre_stopped.insert(id.clone());
        let steps = if first { self.hooks(&id).pre_stop } else { Vec::new() };
        let (clock, state_dir) = (self.shared.clock.clone(), self.shared.state_dir.clone());
        self.works.spawn(async move {
            let begun = clock.steady();
            // Steps that fail or take too long are no reason to let it run on.
            let _ = hooks::run(&state_dir, &id, &steps, grace).await;
            let grace = grace.saturating_sub(clock.steady().since(begun));
            let _ = agent.stop(&id, signal, grace).await;
            Done::Other
        });
    }

    fn remove(&mut self, id: InstanceId) {
        self.post_started.remove(&id);
        self.pre_stopped.remove(&id);
        self.failed_starts.remove(&id);
        self.listening.remove(&id);
        self.shared.forget(&id);
        if !self.removing.insert(id.clone()) {
            return;
        }
        let agent = self.agent.clone();
        let undertaken = Undertaken::Removal { id: id.clone() };
        let work = self.works.spawn(async move {
            if let Err(agent::OpError::Io { .. }) = agent.remove(&id).await {
                // Control asks again as long as it is there: not all the time.
                tokio::time::sleep(REMOVAL_RETRY).await;
            }
            Done::Removed { id }
        });
        self.undertaken.insert(work.id(), undertaken);
    }

    /// Gives the edge the present plan with the ports known now.
    fn publish(&mut self) {
        self.revision += 1;
        let version = (self.plan.version << REVISION_BITS) | self.revision;
        let state = self.control.state();
        let (listening, host_ports) = (&self.listening, &self.shared.host_ports);
        let table = convert::routes(&state, &self.plan, version, listening, host_ports);
        self.routes.send_replace(Arc::new(table));
    }

    fn done(&mut self, done: Result<(TaskId, Done), JoinError>) -> Result<(), Problem> {
        let undertaken = match &done {
            Ok((work, _)) => self.undertaken.remove(work),
            Err(panicked) => self.undertaken.remove(&panicked.id()),
        };
        let done = match done {
            Ok((_, done)) => done,
            // A panic in one of them must not end the engine, nor be waited for.
            Err(_) => {
                self.given_up(undertaken);
                return Ok(());
            }
        };
        match done {
            Done::Started { id, attempt, pre_started, result } => {
                self.launching.remove(&id);
                self.youngest_tick = self.ticks;
                if let Some(number) = pre_started {
                    let key = (id.service().clone(), number);
                    self.once.remove(&key);
                    self.pre_started.insert(key);
                }
                if let Err(why) = result {
                    let failed = failed_start(attempt, self.shared.clock.now(), why);
                    self.failed_starts.insert(id, failed);
                }
            }
            Done::Removed { id } => {
                self.removing.remove(&id);
            }
            Done::PostStarted { id, attempt, how } => {
                if let Some((of, known)) = self.post_started.get_mut(&id)
                    && *of == attempt
                {
                    *known = Some(how);
                }
            }
            Done::Other => {}
            Done::UpFailed { problem, reply } => {
                self.preparing -= 1;
                let _ = reply.send(Err(problem));
            }
            Done::Built { answer, reply } => {
                self.preparing -= 1;
                self.prune_layers();
                let _ = reply.send(answer);
            }
            Done::Up { up, reply } => {
                self.preparing -= 1;
                let answer = self.up(*up)?;
                self.prune_layers();
                let _ = reply.send(answer);
            }
        }
        Ok(())
    }

    /// Lets go of what ended with a panic; what is still wanted is tried again.
    fn given_up(&mut self, undertaken: Option<Undertaken>) {
        match undertaken {
            Some(Undertaken::Start { id, attempt }) => {
                self.launching.remove(&id);
                let why = "the engine failed at it; engine.log has the place".to_owned();
                let failed = failed_start(attempt, self.shared.clock.now(), why.into());
                self.failed_starts.insert(id, failed);
            }
            Some(Undertaken::Removal { id }) => {
                self.removing.remove(&id);
            }
            Some(Undertaken::Up) => self.preparing -= 1,
            None => {}
        }
    }

    fn request(&mut self, request: Request) -> Result<(), Problem> {
        use control::Command as Do;
        let Request { command, reply } = request;
        let of =
            |services: &[String], build: fn(Vec<ServiceName>) -> Do| Ok(build(names(services)?));
        let command = match command {
            wire::Command::Up { app, services, recreate } => {
                self.prepare(app, services, Then::Up { recreate }, reply);
                return Ok(());
            }
            wire::Command::Build { app, services, no_cache } => {
                self.prepare(app, services, Then::Rest { no_cache }, reply);
                return Ok(());
            }
            wire::Command::Prune { unused_for_seconds, keep_bytes } => {
                self.prune(unused_for_seconds, keep_bytes, reply);
                return Ok(());
            }
            wire::Command::Down { volumes, exit } => {
                let _ = reply.send(self.go_down(WhenDown { exit, volumes })?);
                return Ok(());
            }
            wire::Command::Shutdown { keep_services: true } => {
                self.leaving = true;
                let _ = reply.send(Ok(Accepted::default()));
                return Ok(());
            }
            wire::Command::Shutdown { keep_services: false } => {
                let _ = reply.send(self.go_down(WhenDown { exit: true, volumes: false })?);
                return Ok(());
            }
            wire::Command::Stop { services } => of(&services, |services| Do::Stop { services }),
            wire::Command::Start { services } => of(&services, |services| Do::Start { services }),
            wire::Command::Restart { services } => {
                of(&services, |services| Do::Restart { services })
            }
            wire::Command::Scale { service, replicas } => Ok(Do::Scale { service, replicas }),
            wire::Command::Rollback { service, release } => Ok(Do::Rollback { service, release }),
        };
        let command = match command {
            Ok(command) => command,
            Err(problem) => {
                let _ = reply.send(Err(problem));
                return Ok(());
            }
        };
        let answer = self.command(command)?;
        let _ = reply.send(answer);
        Ok(())
    }

    /// Hands a command to control. The outer error ends the engine, the inner one is the person's.
    fn command(&mut self, command: control::Command) -> Result<Result<Accepted, Problem>, Problem> {
        let handled = match self.control.handle(&Event::Command(command)) {
            Ok(handled) => handled,
            Err(ControlError::Refused(problem)) => return Ok(Err(*problem)),
            Err(ControlError::Fenced) => return Err(super::serve::internal(ControlError::Fenced)),
            Err(error) => {
                return Ok(Err(unwritable(error)));
            }
        };
        let changed = handled.changed.clone();
        self.carry_out(handled);
        Ok(Ok(Accepted { revision: self.shared.revision(), changed, ..Accepted::default() }))
    }

    /// Samples everything; true when something else than figures may have changed.
    fn second(&mut self) -> bool {
        self.ticks += 1;
        self.shared.sample(self.agent.usage());
        if self.ticks % PRUNE_EVERY == 1 {
            let logs = self.shared.logs.clone();
            self.works.spawn_blocking(move || {
                let _ = logs.prune(LOG_BYTES_MAX);
                Done::Other
            });
        }
        self.agent.update_resolvers();
        let moved =
            self.ticks.is_multiple_of(ADDRESSES_EVERY) && self.shared.host_ports.look_again();
        if moved {
            self.publish();
            self.write_names();
        }
        // What holds up a start changes without a report of its own.
        let begins = |s: &agent::InstanceStatus| {
            s.healthy.is_none() && !matches!(s.phase, agent::Phase::Exited(_))
        };
        let starting = self.agent.instances().iter().any(begins);
        (self.own_addresses && self.look_for_listeners()) || moved || starting
    }

    /// Looks which ports instances listen on beside those that were declared. The kernel walks all
    /// of its connections for this, so it is done often only while something is young.
    fn look_for_listeners(&mut self) -> bool {
        let age = self.ticks - self.youngest_tick;
        let due = LISTENING_AT.contains(&age) || self.ticks.is_multiple_of(LISTENING_EVERY);
        if !due || self.agent.instances().is_empty() {
            return false;
        }
        let listening = self.agent.listening_ports();
        if listening == self.listening {
            return false;
        }
        self.listening = listening;
        self.publish();
        true
    }
}

fn unwritable(error: impl std::error::Error) -> Problem {
    Problem::new("state-folder", "the engine cannot write its records")
        .with_cause(error.to_string())
        .with_next("make room on the disk of the state folder, then try again")
}

fn failed_start(attempt: u32, at: UnixNanos, not: NotStarted) -> Reported {
    let NotStarted { why, last_lines } = not;
    let exit = control::Exit { at, start_error: Some(why), last_lines, ..control::Exit::default() };
    Reported {
        attempt,
        state: ReportedState::Exited(exit),
        detail: String::new(),
        started_at: None,
        address: None,
        port_env: None,
        post_start: None,
        warnings: Vec::new(),
    }
}

/// Reads names. One that is none must not become "all of them".
fn names(names: &[String]) -> Result<Vec<ServiceName>, Problem> {
    let read = |name: &String| {
        name.parse().map_err(|e: base::NameError| {
            Problem::new("service-unknown", format!("no service `{name}`"))
                .with_cause(e.to_string())
                .with_next("use one of those that `ms ps` lists")
        })
    };
    names.iter().map(read).collect()
}

fn signal(kind: tokio::signal::unix::SignalKind) -> Result<tokio::signal::unix::Signal, Problem> {
    tokio::signal::unix::signal(kind).map_err(super::serve::internal)
}

/// Puts into volumes that are new what the image has where they are mounted.
fn fill_volumes(
    builder: &builder::Builder,
    release: &control::Release,
    id: &InstanceId,
    state_dir: &std::path::Path,
) -> Result<(), String> {
    let prepared = convert::prepared(release);
    if prepared.base.is_none() {
        return Ok(());
    }
    let volumes = convert::volumes(&release.definition, &prepared.volumes, id, state_dir);
    volumes.iter().try_for_each(|(volume, target)| {
        builder.fill(&prepared.layers, target, volume).map_err(|e| {
            format!("cannot put what the image has at {} into its volume: {e}", target.display())
        })
    })
}
