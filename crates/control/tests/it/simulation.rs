//! Seeded simulation: commands, crashes of programs, of the engine and of the machine at random
//! moments, with invariants checked at every step, and peace at the end. And one deploy with a
//! crash at each of its moments in turn.
//!
//! As many seeds are run as 20 s have room for. `MS_SIM_SEEDS=1000` runs so many however long it
//! takes (from `MS_SIM_FIRST`; best with `--release`), `MS_SIM_SEED=17` runs one and prints its
//! trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SteadyNanos, UnixNanos};
use control::{
    Action, Command, Event, Health, InstanceRecord, Intent, Phase, RecordKey, ReportedState, State,
    advance, check, view,
};
use spec::model::{Condition, FailureAction, Restart, UpdateConfig, UpdateOrder};

use crate::support::{Chance, depends, name, pool, service, up, version};
use crate::world::{Temper, World};

struct Simulation {
    chance: Chance,
    world: World,
    state: State,
    trace: Vec<String>,
    traced: bool,
    file: BTreeMap<&'static str, spec::Service>,
    crashes: bool,
    crashed: u32,
    /// The engine crashes once so many moments from now.
    crash_in: Option<u32>,
    /// Somebody sets the wall clock now and then, as this says.
    clock_steps: Option<Chance>,
}

/// Time for seeds when no number of them is asked for.
const BUDGET: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3600);

impl Simulation {
    fn new(seed: u64, traced: bool, clock_steps: bool) -> Simulation {
        let mut chance = Chance(seed);
        let world = World {
            now: SteadyNanos(1_000_000_000_000_000),
            wall: UnixNanos(1_000_000_000_000_000_000),
            jobs: vec!["job".to_owned()],
            ..World::default()
        };
        let mut file = BTreeMap::new();
        for named in ["db", "job", "web", "worker"] {
            file.insert(named, definition(named, &mut chance));
        }
        let state = State::new(pool(), seed);
        Simulation {
            chance,
            world,
            state,
            trace: Vec::new(),
            traced,
            file,
            crashes: true,
            crashed: 0,
            crash_in: None,
            clock_steps: clock_steps.then_some(Chance(seed ^ 0xc10c)),
        }
    }

    /// One event: decided, written, checked, and carried out as far as no crash comes between.
    fn handle(&mut self, event: &Event) {
        let now = self.world.both();
        self.note(event);
        let (next, actions) = advance(&self.state, event, now);
        let mut written = self.state.clone();
        written.apply(&actions);
        assert_eq!(records(&written), records(&next), "the actions write what the step decided");
        self.check(event, &next);
        self.check_settled(event, &next);
        // A crash before the commit loses the step, one after it some of its effects.
        let lost = self.crashes && self.chance.one_in(60);
        if (lost && self.chance.one_in(3)) || self.crash_is_due() {
            return self.crash();
        }
        self.state = next;
        self.world.wake = None;
        for action in &actions {
            if (lost && self.chance.one_in(3)) || self.crash_is_due() {
                return self.crash();
            }
            self.check_effect(action);
            let quiet = matches!(action, Action::Put(_) | Action::Delete(_) | Action::WakeAt(_));
            if self.traced && !quiet {
                self.trace.push(format!("    {}", brief(action)));
            }
            self.world.carry_out(action, &mut self.chance);
        }
        if lost {
            self.crash();
        }
    }

    fn crash_is_due(&mut self) -> bool {
        let left = self.crash_in.as_mut();
        left.is_some_and(|left| {
            *left = left.wrapping_sub(1);
            *left == u32::MAX
        })
    }

    fn crash(&mut self) {
        self.crashed += 1;
        self.trace.push("  the engine crashes".to_owned());
        self.world.crash();
        self.state = reloaded(&self.state);
        if self.crashes && self.chance.one_in(10) {
            self.trace.push("  the machine restarts".to_owned());
            self.world.lose_processes();
            self.world.now = SteadyNanos(self.chance.below(1_000_000_000_000));
            self.state.rebase(self.world.now);
        }
    }

    /// What must hold of every state.
    fn check(&self, event: &Event, next: &State) {
        let mut addresses = BTreeSet::new();
        let services = next.services.values().map(|s| s.address);
        for address in services.chain(next.instances.values().map(|r| r.address)) {
            assert!(addresses.insert(address), "{address} is given out twice");
        }
        for (named, service) in &next.services {
            if !matches!(event, Event::Command(_)) {
                self.check_capacity(next, named, service.desired_replicas as usize);
            }
        }
    }

    /// A step never takes out of rotation what is healthy while that leaves too few.
    fn check_capacity(&self, next: &State, named: &base::ServiceName, desired: usize) {
        let update = &next.services[named].definition.update;
        let runs = next.services[named].intent == Intent::Run;
        let strict = update.failure_action != FailureAction::Continue
            && update.max_failure_ratio == 0.0
            && update.order == UpdateOrder::StartFirst;
        if !runs || !strict {
            return;
        }
        let healthy = |state: &State, record: &InstanceRecord| {
            state.phase(record) == Phase::Healthy && record.then.is_none()
        };
        let after = next.instances_of(named).filter(|r| healthy(next, r)).count();
        let seen = next.observed.as_ref().map(|seen| &seen.instances);
        let before = self.state.instances_of(named).filter(|r| {
            let reported = seen.and_then(|seen| seen.get(&r.id));
            let well = |reported: &control::Reported| {
                reported.attempt == r.attempt && reported.state == ReportedState::Healthy
            };
            healthy(&self.state, r) && reported.is_some_and(well)
        });
        let before = before.count();
        assert!(
            after >= before.min(desired),
            "{named}: {after} ready after a step, {before} before it, {desired} wanted"
        );
    }

    /// The same event once more asks for nothing: a step goes as far as it can.
    fn check_settled(&self, event: &Event, next: &State) {
        if let Event::Observed(_) = event
            && (self.world.now.0 / 1_000_000).is_multiple_of(4)
        {
            let (_, again) = advance(next, event, self.world.both());
            let again: Vec<_> = again.iter().filter(|a| !matches!(a, Action::WakeAt(_))).collect();
            assert!(again.is_empty(), "the same observation again asks for {again:?}");
        }
    }

    fn check_effect(&self, action: &Action) {
        if let Action::StopInstance { id, .. } = action {
            let record = self.state.instances.get(id);
            let known = record
                .filter(|r| self.world.processes.get(id).is_some_and(|p| p.attempt == r.attempt));
            let Some(record) = known else { return };
            let late = record.drain_until.is_some_and(|at| at <= self.world.now);
            let dead = !self.world.processes[id].is_live();
            assert!(
                late || dead || !self.world.may_get_requests(id),
                "{id} is stopped while the edge may send it requests"
            );
            assert!(
                late || dead || self.world.inflight(id) == 0,
                "{id} is stopped with requests under way"
            );
        }
    }

    fn observe(&mut self) {
        let seen = self.world.observation();
        self.handle(&Event::Observed(seen));
    }

    fn act(&mut self, temper: Temper) {
        if let Some(chance) = &mut self.clock_steps
            && chance.one_in(10)
        {
            let wall = self.world.wall;
            let back = UnixNanos(wall.0 - 3_600_000_000_000);
            self.world.wall = if chance.one_in(2) { wall.plus(HOUR) } else { back };
        }
        let by = self.chance.millis(1, 800);
        self.world.pass(by, temper, &mut self.chance);
        if self.world.wake.is_some_and(|at| at <= self.world.now) {
            return self.handle(&Event::Tick);
        }
        match self.chance.below(40) {
            0 => {
                let command = self.command();
                if check(&self.state, &command).is_ok() {
                    self.handle(&Event::Command(command));
                }
            }
            1..=3 => self.handle(&Event::Tick),
            _ => self.observe(),
        }
    }

    fn command(&mut self) -> Command {
        let named = name(self.chance.pick::<&str>(&["db", "job", "web", "worker"]));
        match self.chance.below(12) {
            0..=3 => {
                let which = *self.chance.pick(&["db", "job", "web", "worker"]);
                match self.chance.below(6) {
                    0 if which != "db" => {
                        self.file.remove(which);
                    }
                    _ => {
                        let changed = definition(which, &mut self.chance);
                        self.file.insert(which, changed);
                    }
                }
                up(self.file.values().cloned())
            }
            4 => up(self.file.values().cloned()),
            5 => Command::Stop { services: vec![named] },
            6 | 7 => Command::Start { services: vec![named] },
            8 => Command::Restart { services: vec![named] },
            9 => {
                let replicas = u32::try_from(self.chance.below(5)).unwrap();
                Command::Scale { service: named, replicas }
            }
            10 => Command::Rollback { service: named, release: None },
            _ if self.chance.one_in(4) => Command::Down,
            _ => up(self.file.values().cloned()),
        }
    }

    fn note(&mut self, event: &Event) {
        if !self.traced {
            return;
        }
        let at = self.world.now.0 / 1_000_000 % 10_000_000;
        let line = match event {
            Event::Command(Command::Up { app, .. }) => {
                let of = |s: &spec::Service| format!("{} x{} {:?}", s.name, s.replicas, s.command);
                format!("{at} up {:?}", app.services.values().map(of).collect::<Vec<_>>())
            }
            Event::Command(command) => format!("{at} {command:?}"),
            Event::Observed(seen) => {
                let of = seen.instances.iter().map(|(id, r)| {
                    let state = format!("{:?}", r.state);
                    let word = state.split([' ', '(']).next().unwrap_or_default().to_owned();
                    format!("{id}#{} {word}", r.attempt)
                });
                format!("{at} seen v{} {:?}", seen.edge.applied_version, of.collect::<Vec<_>>())
            }
            Event::Tick => format!("{at} tick"),
            Event::Noted(note) => format!("{at} {}", note.message),
        };
        self.trace.push(line);
    }

    /// Trouble, then peace, then everything is as it should be.
    fn run(&mut self) {
        let command = up(self.file.values().cloned());
        self.handle(&Event::Command(command));
        let trouble = Temper { crash_at_start: 6, crash: 150, flap: 60, stuck: 15 };
        for round in 0..400 {
            // Bad times come and go, so that rollouts finish now and then.
            let temper = if round % 100 < 60 { trouble } else { Temper::CALM };
            self.act(temper);
        }
        self.crashes = false;
        for named in ["db", "job", "web", "worker"] {
            let definition = definition(named, &mut self.chance);
            self.file.entry(named).or_insert(definition);
        }
        let command = up(self.file.values().cloned());
        self.handle(&Event::Command(command));
        self.handle(&Event::Command(Command::Scale { service: name("db"), replicas: 2 }));
        // What failed for good while its fellows got well is asked for once more.
        for _ in 0..3 {
            self.peace();
            self.handle(&Event::Command(Command::Start { services: Vec::new() }));
        }
        self.peace();
        self.check_converged();
        self.handle(&Event::Command(Command::Down));
        self.peace();
        assert_eq!(records(&self.state), records(&State::new(pool(), self.state.seed)));
        assert!(self.world.processes.is_empty(), "{:?}", self.world.processes);
    }

    /// Time without trouble, until nothing has happened for a while and nothing is waited for.
    fn peace(&mut self) {
        let mut quiet = 0;
        for _ in 0..400 {
            let by = self.chance.millis(100, 3000);
            self.world.pass(by, Temper::CALM, &mut self.chance);
            let before = records(&self.state);
            self.observe();
            let still = self.world.wake.is_none() && records(&self.state) == before;
            quiet = if still { quiet + 1 } else { 0 };
            if quiet > 10 {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Brings up a database and what needs it, and then another version of both, with one crash of
    /// the engine so many moments after that. True when the crash came before the end.
    fn deploy(&mut self, crash_in: u32) -> bool {
        (self.crashes, self.clock_steps) = (false, None);
        let file = |of: &str| {
            let mut web = version(service("web", 2), of);
            web.update.monitor = Duration::from_secs(3);
            depends(&mut web, "db", Condition::ServiceHealthy);
            up([web, version(service("db", 1), of)])
        };
        self.observe();
        self.handle(&Event::Command(file("a")));
        self.peace();
        self.crash_in = Some(crash_in);
        self.handle(&Event::Command(file("b")));
        for _ in 0..200 {
            let by = self.chance.millis(1, 800);
            self.world.pass(by, Temper::CALM, &mut self.chance);
            self.observe();
            self.check_served();
        }
        self.crash_in = None;
        // A crash before the answer: whoever asked asks again.
        self.handle(&Event::Command(file("b")));
        self.peace();
        self.check_converged();
        for (named, service) in &self.state.services {
            assert_eq!(service.release, Some(2), "{named}: {service:?}");
            assert_eq!(service.last_release, 2, "{named}: the same file is the same release");
        }
        let lives = self.world.starts.clone();
        let twice = lives.iter().find(|(_, starts)| **starts > 1);
        assert_eq!(twice, None, "an attempt was started twice");
        self.crashed > 0
    }

    /// Whenever an edge is there, each service has as many as are wanted to send requests to.
    fn check_served(&self) {
        let Some(plan) = &self.world.applied else { return };
        for (named, service) in &plan.services {
            let serves = |e: &&control::Endpoint| {
                let process = self.world.processes.get(&e.instance);
                e.ready && process.is_some_and(|p| p.state == ReportedState::Healthy)
            };
            let ready = service.endpoints.iter().filter(serves).count();
            let wanted = self.state.services[named].desired_replicas as usize;
            assert!(ready >= wanted, "{named} has {ready} of {wanted}: {plan:?}");
        }
    }

    fn check_converged(&self) {
        for service in view::services(&self.state) {
            let named = &service.name;
            let record = &self.state.services[named];
            let paused = record.rollout.as_ref().is_some_and(|r| r.paused.is_some());
            if paused {
                continue;
            }
            let fine = [Health::Healthy, Health::Completed, Health::Stopped, Health::Degraded];
            assert!(fine.contains(&service.health), "{named}: {:?}", service);
            assert_eq!(record.rollout, None, "{named}: a rollout is still under way");
            assert_eq!(record.target, None, "{named}: a release is still on its way");
            let members: Vec<_> = self.state.instances_of(named).collect();
            assert_eq!(members.len(), service.desired as usize, "{named}: {members:?}");
            for member in members {
                assert_eq!(Some(member.release), record.release, "{}", member.id);
                let process = &self.world.processes[&member.id];
                assert_eq!(process.attempt, member.attempt, "{}", member.id);
                assert_eq!(process.release, member.release, "{}", member.id);
                assert_eq!(process.is_live(), !member.is_completed(), "{}", member.id);
                // Four wanted and four beside them, at the most.
                assert!(member.id.slot() <= 4 * 2 + 2, "{} is far up", member.id);
            }
        }
        let known = self.state.instances.len();
        assert_eq!(self.world.processes.len(), known, "{:?}", self.world.processes.keys());
    }
}

fn definition(named: &'static str, chance: &mut Chance) -> spec::Service {
    let replicas = u32::try_from(chance.below(4)).unwrap().max(u32::from(named != "worker"));
    let mut made = version(service(named, replicas), &chance.below(5).to_string());
    made.restart = *chance.pick(&[
        Restart::Always,
        Restart::Always,
        Restart::UnlessStopped,
        Restart::OnFailure { max_retries: None },
        Restart::OnFailure { max_retries: Some(4) },
        Restart::No,
    ]);
    made.update.parallelism = u32::try_from(chance.below(3)).unwrap();
    made.update.delay = Duration::from_secs(chance.below(3));
    made.update.monitor = Duration::from_secs(chance.below(2) * 3);
    made.update.failure_action = *chance.pick(&[
        FailureAction::Rollback,
        FailureAction::Rollback,
        FailureAction::Pause,
        FailureAction::Continue,
    ]);
    if chance.one_in(4) {
        made.update.order = UpdateOrder::StopFirst;
    }
    if chance.one_in(3) {
        let rollback = UpdateConfig { failure_action: FailureAction::Pause, ..made.update.clone() };
        made.rollback = Some(UpdateConfig { parallelism: 0, ..rollback });
    }
    if chance.one_in(4) {
        made.restart_pace.delay = Some(Duration::from_secs(chance.below(6)));
        made.restart_pace.window = Some(Duration::from_secs(chance.below(20)));
    }
    match named {
        "job" => {
            made.replicas = 1;
            made.restart = Restart::OnFailure { max_retries: None };
        }
        "web" => {
            depends(&mut made, "db", Condition::ServiceHealthy);
            depends(&mut made, "job", Condition::ServiceCompletedSuccessfully);
            made.depends_on[1].required = false;
        }
        "worker" => depends(&mut made, "db", Condition::ServiceStarted),
        _ => {}
    }
    made
}

/// What a restarted engine knows: the records, through the JSON that the store keeps.
fn reloaded(state: &State) -> State {
    fn through<T: serde::Serialize + serde::de::DeserializeOwned>(record: &T) -> Arc<T> {
        let text = serde_json::to_vec(record).unwrap();
        Arc::new(serde_json::from_slice(&text).unwrap())
    }
    let mut fresh = State::new(pool(), state.seed);
    fresh.app = state.app.as_ref().map(|app| through(&**app));
    for (key, record) in &state.services {
        fresh.services.insert(key.clone(), through(&**record));
    }
    for (key, record) in &state.releases {
        fresh.releases.insert(key.clone(), through(&**record));
    }
    for (key, record) in &state.instances {
        fresh.instances.insert(key.clone(), through(&**record));
    }
    assert_eq!(records(&fresh), records(state), "records read back as written");
    fresh
}

fn records(state: &State) -> State {
    State { observed: None, live: control::Live::default(), ..state.clone() }
}

fn brief(action: &Action) -> String {
    match action {
        Action::StartInstance(r) => format!("start {}#{} r{}", r.id, r.attempt, r.release),
        Action::StopInstance { id, .. } => format!("stop {id}"),
        Action::RunPostStart(r) => format!("post_start {}", r.id),
        Action::RemoveInstance { id } => format!("remove {id}"),
        Action::Route(plan) => {
            let of = plan.services.iter().map(|(name, s)| {
                let of = s.endpoints.iter().map(|e| format!("{}:{}", e.instance.slot(), e.ready));
                format!("{name}={:?}", of.collect::<Vec<_>>())
            });
            format!("route v{} {}", plan.version, of.collect::<Vec<_>>().join(" "))
        }
        Action::Emit(event) => format!("{}: {}", event.kind, event.message),
        Action::Delete(RecordKey::Instance(id)) => format!("delete {id}"),
        other => format!("{other:?}"),
    }
}

/// Runs one seed; when it fails, runs it again to say what went before.
fn run(seed: u64, traced: bool) -> Simulation {
    let mut simulation = Simulation::new(seed, traced, true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.run()));
    let Err(panic) = result else { return simulation };
    if !traced {
        run(seed, true);
    }
    let tail = simulation.trace.len().saturating_sub(60);
    eprintln!("{}", simulation.trace[tail..].join("\n"));
    eprintln!("seed {seed} failed; MS_SIM_SEED={seed} runs it alone");
    std::panic::resume_unwind(panic);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn keeps_its_promises_through_trouble() {
    if let Some(seed) = number("MS_SIM_SEED") {
        eprintln!("{}", run(seed, true).trace.join("\n"));
        return;
    }
    let clock = base::SystemClock;
    let begun = clock.monotonic();
    let wanted = number("MS_SIM_SEEDS");
    let first = number("MS_SIM_FIRST").unwrap_or(0);
    let (mut runs, mut crashed) = (0, 0);
    while wanted.map_or(clock.monotonic() - begun < BUDGET, |wanted| runs < wanted) {
        crashed += u64::from(run(first + runs, false).crashed);
        runs += 1;
    }
    assert!(crashed > runs, "the simulation hardly crashes the engine: {crashed} in {runs} runs");
}

#[test]
fn a_crash_at_any_moment_of_a_deploy_loses_and_doubles_nothing() {
    let mut moments = 0;
    loop {
        let mut simulation = Simulation::new(7, true, false);
        let deploy = std::panic::AssertUnwindSafe(|| simulation.deploy(moments));
        match std::panic::catch_unwind(deploy) {
            Ok(true) => moments += 1,
            Ok(false) => break,
            Err(panic) => {
                let tail = simulation.trace.len().saturating_sub(80);
                eprintln!(
                    "{}\nthe crash was at moment {moments}",
                    simulation.trace[tail..].join("\n")
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(moments > 200, "a deploy has only {moments} moments");
}

#[test]
fn a_clock_that_is_set_changes_no_decision() {
    for seed in 0..30 {
        let [steps, none] = [true, false].map(|clock_steps| {
            let mut simulation = Simulation::new(seed, true, clock_steps);
            simulation.run();
            simulation.trace
        });
        for (steps, none) in steps.iter().zip(&none) {
            assert_eq!(steps, none, "seed {seed}");
        }
        assert_eq!(steps.len(), none.len());
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 141, 59_265] {
        assert_eq!(run(seed, true).trace, run(seed, true).trace);
    }
}
