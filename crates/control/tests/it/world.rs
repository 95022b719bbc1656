//! A world for control to live in: an agent, an edge and their processes, all in fake time.
//!
//! Processes outlive the engine, as real ones do; the edge dies with it. Nothing is carried out
//! at once: starts, stops, removals and routes take their time, and requests go on while they do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, Now, SteadyNanos, UnixNanos};
use control::{
    Action, EdgeReport, Exit, InstanceRecord, Observation, Reported, ReportedState, RoutePlan,
};

use crate::support::Chance;

/// How programs behave while there is trouble.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temper {
    /// One start in this many fails or crashes at once; 0 is never.
    pub(crate) crash_at_start: u64,
    /// A running program crashes in one of this many moments; 0 is never.
    pub(crate) crash: u64,
    /// Its health changes in one of this many moments; 0 is never.
    pub(crate) flap: u64,
    /// It never gets healthy in one of this many starts; 0 is never.
    pub(crate) stuck: u64,
}

impl Temper {
    pub(crate) const CALM: Temper = Temper { crash_at_start: 0, crash: 0, flap: 0, stuck: 0 };
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) attempt: u32,
    pub(crate) release: u64,
    pub(crate) address: Ipv4Addr,
    pub(crate) state: ReportedState,
    started_at: UnixNanos,
    /// When it leaves its present state by itself.
    turn_at: Option<SteadyNanos>,
    killed_at: Option<SteadyNanos>,
    /// Runs to its end rather than on.
    job: bool,
}

impl Process {
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, ReportedState::Exited(_))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) now: SteadyNanos,
    /// What people's clocks show; somebody may set them.
    pub(crate) wall: UnixNanos,
    pub(crate) processes: BTreeMap<InstanceId, Process>,
    pub(crate) removing: BTreeMap<InstanceId, SteadyNanos>,
    pub(crate) applied: Option<Arc<RoutePlan>>,
    pub(crate) arriving: Vec<(SteadyNanos, Arc<RoutePlan>)>,
    /// Requests under way: where, and until when.
    pub(crate) requests: Vec<(InstanceId, SteadyNanos)>,
    pub(crate) wake: Option<SteadyNanos>,
    /// How often each attempt was started.
    pub(crate) starts: BTreeMap<(InstanceId, u64, u32), u32>,
    /// Services whose programs end with code 0 after a while.
    pub(crate) jobs: Vec<String>,
}

impl World {
    pub(crate) fn inflight(&self, id: &InstanceId) -> u32 {
        u32::try_from(self.requests.iter().filter(|(at, _)| at == id).count()).unwrap()
    }

    /// May the edge still send it something new? In the plan that it follows it is ready.
    pub(crate) fn may_get_requests(&self, id: &InstanceId) -> bool {
        let plan = self.applied.as_ref();
        let mut endpoints =
            plan.into_iter().flat_map(|p| p.services.values()).flat_map(|s| &s.endpoints);
        endpoints.any(|e| e.instance == *id && e.ready)
    }

    pub(crate) fn observation(&self) -> Observation {
        let instances = self.processes.iter().map(|(id, process)| {
            let reported = Reported {
                attempt: process.attempt,
                state: process.state.clone(),
                detail: String::new(),
                started_at: Some(process.started_at),
                address: Some(process.address),
                port_env: None,
                post_start: Some(Ok(())),
                warnings: Vec::new(),
            };
            (id.clone(), reported)
        });
        let mut inflight = BTreeMap::new();
        for (id, _) in &self.requests {
            *inflight.entry(id.clone()).or_insert(0) += 1;
        }
        let applied_version = self.applied.as_ref().map_or(0, |plan| plan.version);
        Observation {
            instances: instances.collect(),
            edge: EdgeReport { applied_version, inflight },
            pre_started: BTreeSet::new(),
        }
    }

    /// Begins to carry out a side effect.
    pub(crate) fn carry_out(&mut self, action: &Action, chance: &mut Chance) {
        match action {
            Action::StartInstance(record) => self.start(record, chance),
            Action::StopInstance { id, grace, .. } => {
                if let Some(process) = self.processes.get_mut(id).filter(|p| p.is_live()) {
                    let by_itself = chance.millis(1, 4000);
                    let at = self.now.plus(by_itself.min(*grace));
                    process.killed_at = Some(process.killed_at.map_or(at, |before| before.min(at)));
                }
            }
            Action::RemoveInstance { id } => {
                let at = self.now.plus(chance.millis(1, 300));
                self.removing.entry(id.clone()).or_insert(at);
            }
            Action::Route(plan) => {
                let latest = self.arriving.last().map_or(self.now, |(at, _)| *at);
                let at = self.now.plus(chance.millis(1, 400)).max(latest);
                self.arriving.push((at, plan.clone()));
            }
            Action::RunPostStart(_) => {}
            Action::WakeAt(at) => self.wake = Some(*at),
            Action::Put(_) | Action::Delete(_) | Action::Emit(_) => {}
        }
    }

    fn start(&mut self, record: &InstanceRecord, chance: &mut Chance) {
        if let Some(process) = self.processes.get(&record.id) {
            if process.attempt == record.attempt {
                return; // Asked again: done already.
            }
            assert!(!process.is_live(), "{} starts over a running attempt", record.id);
        }
        self.removing.remove(&record.id);
        *self.starts.entry((record.id.clone(), record.release, record.attempt)).or_default() += 1;
        for (id, other) in self.processes.iter().filter(|(id, _)| **id != record.id) {
            let clash = other.is_live() && other.address == record.address;
            assert!(!clash, "{} and {id} share {}", record.id, record.address);
        }
        let process = Process {
            attempt: record.attempt,
            release: record.release,
            address: record.address,
            state: ReportedState::Launching,
            started_at: self.wall,
            turn_at: Some(self.now.plus(chance.millis(1, 200))),
            killed_at: None,
            job: self.jobs.iter().any(|job| job == record.service().as_str()),
        };
        self.processes.insert(record.id.clone(), process);
    }

    /// The engine is gone: what it was about to do is not done, and its edge with it.
    pub(crate) fn crash(&mut self) {
        self.applied = None;
        self.arriving.clear();
        self.requests.clear();
        self.wake = None;
    }

    /// The machine was restarted: nothing runs any more.
    pub(crate) fn lose_processes(&mut self) {
        self.processes.clear();
        self.removing.clear();
    }

    pub(crate) fn both(&self) -> Now {
        Now { wall: self.wall, steady: self.now }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, by: Duration, temper: Temper, chance: &mut Chance) {
        self.now = self.now.plus(by);
        self.wall = self.wall.plus(by);
        let now = self.both();
        for process in self.processes.values_mut().filter(|p| p.is_live()) {
            turn(process, now, temper, chance);
        }
        let gone: Vec<_> = self
            .removing
            .iter()
            .filter(|(_, at)| **at <= now.steady)
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.removing.remove(&id);
            if self.processes.get(&id).is_some_and(|p| !p.is_live()) {
                self.processes.remove(&id);
            }
        }
        self.serve(chance);
        while self.arriving.first().is_some_and(|(at, _)| *at <= now.steady) {
            self.applied = Some(self.arriving.remove(0).1);
        }
    }

    /// New requests go where the plan of the edge allows; old ones end with their program at last.
    fn serve(&mut self, chance: &mut Chance) {
        let now = self.now;
        let processes = &self.processes;
        let live = |id: &InstanceId| processes.get(id).is_some_and(Process::is_live);
        self.requests.retain(|(id, until)| *until > now && live(id));
        let Some(plan) = &self.applied else { return };
        for endpoint in plan.services.values().flat_map(|s| &s.endpoints).filter(|e| e.ready) {
            if live(&endpoint.instance) && chance.one_in(2) {
                let long = if chance.one_in(20) { 20_000 } else { 500 };
                let until = now.plus(chance.millis(1, long));
                self.requests.push((endpoint.instance.clone(), until));
            }
        }
    }
}

fn turn(process: &mut Process, at: Now, temper: Temper, chance: &mut Chance) {
    let now = at.steady;
    let mut luck = |one_in: u64| one_in > 0 && chance.one_in(one_in);
    let exit =
        |code, signal| ReportedState::Exited(Exit { at: at.wall, code, signal, ..Exit::default() });
    if process.killed_at.is_some_and(|at| at <= now) {
        process.state = exit(None, Some(15));
        return;
    }
    let due = process.turn_at.is_some_and(|at| at <= now);
    match process.state {
        ReportedState::Launching if due => {
            if luck(temper.crash_at_start) {
                process.state = exit(Some(1), None);
                return;
            }
            process.state = ReportedState::Running;
            process.turn_at = (!luck(temper.stuck)).then(|| now.plus(chance.millis(1, 3000)));
        }
        ReportedState::Running if due && process.job => process.state = exit(Some(0), None),
        ReportedState::Running if due => process.state = ReportedState::Healthy,
        // What was stuck in bad times gets free in good ones.
        ReportedState::Running if process.turn_at.is_none() && temper.stuck == 0 => {
            process.turn_at = Some(now);
        }
        ReportedState::Healthy if luck(temper.flap) => process.state = ReportedState::Unhealthy,
        ReportedState::Unhealthy if temper.flap == 0 || luck(temper.flap / 4 + 1) => {
            process.state = ReportedState::Healthy;
        }
        ReportedState::Running | ReportedState::Healthy | ReportedState::Unhealthy
            if luck(temper.crash) =>
        {
            process.state = exit(Some(3), None);
        }
        _ => {}
    }
}
