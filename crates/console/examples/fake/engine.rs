//! A stand-in for the engine: answers everything, obeys every command, in memory alone.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Clock, InstanceId, Problem, ServiceName, SystemClock, UnixNanos};
use console::Engine;
use console::engine::Answer;
use console::event_log;
use console::wire::{
    Accepted, BuildLine, CallView, Chart, ChartLine, ChartQuery, Command, EventView, Health,
    InstanceView, Isolation, LogLine, LogPage, LogQuery, Overview, ReleaseView, ServiceDetail,
    ServiceView, Status, Why,
};
use tokio::sync::{mpsc, watch};

use crate::model::{self, Blueprint, CALLS, CRASH, LINES, SERVICES, noise};

const EVENTS_MAX: usize = 500;
const LINES_MAX: usize = 20_000;
/// How long an instance takes to become healthy, and to drain.
const STEP: Duration = Duration::from_secs(2);

struct Instance {
    slot: u32,
    release: u64,
    state: &'static str,
    why: &'static str,
    since: UnixNanos,
    started_at: UnixNanos,
    restarts: u32,
}

struct Service {
    blueprint: &'static Blueprint,
    release: u64,
    next_release: Option<u64>,
    releases: Vec<ReleaseView>,
    desired: u32,
    instances: Vec<Instance>,
    since: UnixNanos,
    /// The health that it starts out with, until a person does something about it.
    scripted: bool,
    stopped: bool,
}

struct State {
    services: Vec<Service>,
    events: VecDeque<EventView>,
    lines: VecDeque<LogLine>,
    followers: Vec<(LogQuery, mpsc::Sender<Vec<LogLine>>)>,
    seq: u64,
    ticks: u64,
}

/// The made-up engine.
pub(crate) struct FakeEngine {
    started_at: UnixNanos,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl FakeEngine {
    /// One with the made-up app, or with none.
    pub(crate) fn new(empty: bool) -> FakeEngine {
        let now = SystemClock.now();
        let blueprints = if empty { &[] } else { SERVICES };
        let services = blueprints.iter().map(|blueprint| Service::new(blueprint, now)).collect();
        let state = State {
            services,
            events: VecDeque::new(),
            lines: VecDeque::new(),
            followers: Vec::new(),
            seq: 0,
            ticks: 0,
        };
        let engine = FakeEngine {
            started_at: UnixNanos(now.0 - 11_340_000_000_000),
            state: Mutex::new(state),
            changes: watch::channel(0).0,
        };
        if !empty {
            engine.script(now);
        }
        engine
    }

    /// What happened before the page was opened.
    fn script(&self, now: UnixNanos) {
        let mut state = self.lock();
        let crash = format!("exited with code 1 after 0.2 s\n{}", CRASH.join("\n"));
        for (ago, level, about, kind, message) in [
            (11_340, "info", "", "engine-started", "engine 0.1.0 started, isolation is full"),
            (
                11_338,
                "info",
                "migrate",
                "instance-exited",
                "migrate.1 ran to its end with exit code 0",
            ),
            (11_330, "info", "", "app-ready", "12 of 12 services are healthy after 4.1 s"),
            (5_400, "info", "web", "release-serving", "release 21 takes all traffic of web"),
            (2_210, "info", "admin", "service-stopped", "admin was stopped by a person"),
            (640, "error", "mailer", "instance-exited", &crash),
            (
                612,
                "error",
                "mailer",
                "service-failed",
                "mailer exits right after it starts, 7 times in a row",
            ),
            (
                94,
                "error",
                "payments",
                "instance-out-of-memory",
                "payments.2 went over its memory limit of 128 MiB and was killed (signal 9)\ncharge ch_99182 accepted\nloading report for 2026-10: 1,204,331 rows",
            ),
            (93, "warn", "payments", "instance-restarting", "payments.2 restarts in 60 s"),
            (31, "info", "catalog", "release-created", "release 7 of catalog: image changed"),
            (20, "info", "catalog", "instance-healthy", "catalog.5 is healthy after 1.2 s"),
        ] {
            state.event(UnixNanos(now.0 - ago * 1_000_000_000), level, about, kind, message);
        }
        for back in (1..2_400).rev() {
            state.write_lines(UnixNanos(now.0 - back * 200_000_000), back);
        }
    }

    /// Lets a fifth of a second pass.
    pub(crate) fn tick(&self) {
        let now = SystemClock.now();
        let mut state = self.lock();
        state.ticks += 1;
        let ticks = state.ticks;
        state.write_lines(now, ticks.wrapping_mul(7_919));
        let mut happened = Vec::new();
        for service in &mut state.services {
            service.step(now, &mut happened);
        }
        let moved = !happened.is_empty();
        for (service, kind, message) in happened {
            state.event(now, "info", &service, kind, &message);
        }
        drop(state);
        if moved {
            self.changed();
        }
    }

    fn changed(&self) -> u64 {
        self.changes.send_modify(|revision| *revision += 1);
        *self.changes.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn obey(&self, command: &Command) -> Result<Accepted, Problem> {
        let now = SystemClock.now();
        let mut state = self.lock();
        let names: Vec<String> = match command {
            Command::Stop { services }
            | Command::Start { services }
            | Command::Restart { services } => services.clone(),
            Command::Scale { service, .. } | Command::Rollback { service, .. } => {
                vec![service.to_string()]
            }
            Command::Up { .. }
            | Command::Build { .. }
            | Command::Prune { .. }
            | Command::Down { .. }
            | Command::Shutdown { .. } => {
                return Err(Problem::new("not-here", "this console shows a made-up app")
                    .with_cause("it has no Compose file and ends with Ctrl-C")
                    .with_next("use scale, restart, rollback, stop or start"));
            }
        };
        let mut changed = Vec::new();
        let mut said = Vec::new();
        for name in &names {
            let Some(service) = state.services.iter_mut().find(|s| s.blueprint.name == name) else {
                return Err(Problem::new("not-found", format!("there is no service `{name}`"))
                    .with_next("`ms ps` lists the services"));
            };
            said.push((name.clone(), service.obey(command, now)?));
            changed.push(service.name());
        }
        for (name, (kind, message)) in said {
            state.event(now, "info", &name, kind, &message);
        }
        drop(state);
        Ok(Accepted { revision: self.changed(), changed, ..Accepted::default() })
    }
}

impl State {
    fn event(&mut self, at: UnixNanos, level: &str, about: &str, kind: &str, message: &str) {
        self.seq += 1;
        self.events.push_back(EventView {
            seq: self.seq,
            at,
            level: level.to_owned(),
            service: about.parse().ok(),
            instance: None,
            kind: kind.to_owned(),
            message: message.to_owned(),
        });
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    fn write_lines(&mut self, at: UnixNanos, seed: u64) {
        let mut batch = Vec::new();
        for (index, (name, weight, stream, text)) in (0u64..).zip(LINES) {
            let chance = noise(seed.wrapping_mul(31).wrapping_add(index));
            #[expect(clippy::cast_precision_loss, reason = "weights are below 10")]
            let likely = *weight as f64 / 30.0;
            let Some(service) = self.services.iter().find(|s| s.blueprint.name == *name) else {
                continue;
            };
            let running = service.instances.iter().filter(|i| i.state == "healthy");
            let running: Vec<u32> = running.map(|instance| instance.slot).collect();
            if chance > likely || running.is_empty() {
                continue;
            }
            let number = seed.wrapping_mul(2_654_435_761).wrapping_add(index * 97) % 9_000;
            let slot = running[usize::try_from(number).unwrap_or(0) % running.len()];
            batch.push(LogLine {
                at: UnixNanos(at.0 + index * 7_000_000),
                instance: InstanceId::new(service.name(), slot),
                stream: (*stream).to_owned(),
                text: text.replace('#', &(number % 400 + 3).to_string()),
            });
        }
        self.lines.extend(batch.iter().cloned());
        let excess = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..excess);
        self.followers.retain(|(query, sender)| {
            let lines: Vec<_> = batch.iter().filter(|line| wanted(query, line)).cloned().collect();
            // A follower that does not keep up loses lines; one that is gone is forgotten.
            lines.is_empty() && !sender.is_closed()
                || !matches!(sender.try_send(lines), Err(mpsc::error::TrySendError::Closed(_)))
        });
    }
}

fn wanted(query: &LogQuery, line: &LogLine) -> bool {
    let (service, instance) = (line.instance.service().as_str(), line.instance.to_string());
    let named = |name: &String| *name == service || *name == instance;
    (query.services.is_empty() || query.services.iter().any(named))
        && query.grep.as_ref().is_none_or(|grep| line.text.contains(grep.trim_matches('/')))
        && query.since.is_none_or(|since| line.at >= since)
        && query.until.is_none_or(|until| line.at <= until)
}

impl Service {
    fn new(blueprint: &'static Blueprint, now: UnixNanos) -> Service {
        let ago = |secs: u64| UnixNanos(now.0 - secs * 1_000_000_000);
        let updating = blueprint.health == Health::Updating;
        let instance = |slot, release, state, why, age| Instance {
            slot,
            release,
            state,
            why,
            since: ago(age),
            started_at: ago(age),
            restarts: 0,
        };
        let mut instances: Vec<_> = (1..=blueprint.replicas)
            .map(|slot| instance(slot, blueprint.release, "healthy", "", 5_400))
            .collect();
        match blueprint.name {
            "catalog" => {
                instances.truncate(3);
                instances[0].state = "draining";
                for (slot, state) in [(5, "healthy"), (6, "healthy"), (7, "starting")] {
                    instances.push(instance(slot, blueprint.release + 1, state, "", 20));
                }
            }
            "payments" => {
                instances[1] = instance(
                    2,
                    blueprint.release,
                    "failed",
                    "went over its memory limit of 128 MiB (signal 9)",
                    94,
                );
                instances[1].restarts = 3;
            }
            "mailer" => {
                instances[0] = instance(
                    1,
                    blueprint.release,
                    "failed",
                    "exited with code 1: KeyError: 'SMTP_URL'",
                    22,
                );
                instances[0].restarts = 7;
            }
            _ => {}
        }
        let newest = blueprint.release + u64::from(updating);
        let oldest = newest.saturating_sub(5).max(1);
        let changes = [
            "image changed",
            "environment: LOG_LEVEL",
            "command changed",
            "deploy.replicas: 2 to 3",
            "build context changed",
        ];
        let releases = (oldest..=newest)
            .rev()
            .map(|number| ReleaseView {
                number,
                state: match number {
                    n if n > blueprint.release => "arriving",
                    n if n == blueprint.release && updating => "leaving",
                    n if n == blueprint.release && blueprint.health == Health::Failed => "failed",
                    n if n == blueprint.release => "serving",
                    _ => "old",
                }
                .to_owned(),
                created_at: ago(if number > blueprint.release {
                    31
                } else {
                    (newest - number) * 8_100 + 5_400
                }),
                source: blueprint.source.to_owned(),
                change: match number {
                    1 => "first release".to_owned(),
                    n => changes[usize::try_from(n).unwrap_or(0) % changes.len()].to_owned(),
                },
            })
            .collect();
        Service {
            blueprint,
            release: blueprint.release,
            next_release: updating.then_some(newest),
            releases,
            desired: blueprint.replicas,
            instances,
            since: ago(match blueprint.health {
                Health::Failed => 612,
                Health::Degraded => 94,
                Health::Updating => 31,
                _ => 5_400,
            }),
            scripted: blueprint.health != Health::Healthy,
            stopped: blueprint.replicas == 0,
        }
    }

    fn name(&self) -> ServiceName {
        self.blueprint.name.parse().expect("made-up names are valid")
    }

    fn obey(
        &mut self,
        command: &Command,
        now: UnixNanos,
    ) -> Result<(&'static str, String), Problem> {
        let name = self.blueprint.name;
        self.since = now;
        self.scripted = false;
        match command {
            Command::Scale { replicas, .. } => {
                self.desired = (*replicas).min(20);
                self.stopped = self.desired == 0;
                Ok(("service-scaled", format!("{name} is scaled to {replicas}")))
            }
            Command::Stop { .. } => {
                self.stopped = true;
                Ok(("service-stopped", format!("{name} was stopped by a person")))
            }
            Command::Start { .. } => {
                self.stopped = false;
                self.desired = self.desired.max(1);
                Ok(("service-started", format!("{name} was started by a person")))
            }
            Command::Rollback { release, .. } => {
                let present = self.next_release.unwrap_or(self.release);
                let target = release.unwrap_or(present - 1);
                if target == 0 || !self.releases.iter().any(|r| r.number == target) {
                    let message = format!("{name} has no release {target} to go back to");
                    return Err(Problem::new("no-such-release", message)
                        .with_next("the service's page lists its releases"));
                }
                let message = format!("{name} goes back to release {target}");
                self.deploy(now, &format!("as release {target}"));
                Ok(("release-created", message))
            }
            _ => {
                self.deploy(now, "restarted by a person");
                Ok(("service-restarting", format!("{name} restarts: fresh instances, one by one")))
            }
        }
    }

    fn deploy(&mut self, now: UnixNanos, change: &str) {
        let number = self.releases.first().map_or(0, |release| release.number) + 1;
        self.next_release = Some(number);
        self.desired = self.desired.max(1);
        self.stopped = false;
        for release in &mut self.releases {
            if release.state == "serving" || release.state == "arriving" {
                release.state = "leaving".to_owned();
            }
        }
        let source = self.blueprint.source.to_owned();
        let (state, change) = ("arriving".to_owned(), change.to_owned());
        self.releases.insert(0, ReleaseView { number, state, created_at: now, source, change });
        self.releases.truncate(12);
    }

    /// Moves toward what is wanted, one instance at a time.
    fn step(&mut self, now: UnixNanos, happened: &mut Vec<(String, &'static str, String)>) {
        if self.scripted {
            return;
        }
        let name = self.blueprint.name;
        let target = self.next_release.unwrap_or(self.release);
        let desired = if self.stopped { 0 } else { usize::try_from(self.desired).unwrap_or(0) };
        let due = |instance: &Instance| now.since(instance.since) >= STEP;
        let before = self.instances.len();
        self.instances.retain(|i| !matches!(i.state, "draining" | "failed") || !due(i));
        if self.instances.len() != before {
            happened.push((
                name.to_owned(),
                "instance-stopped",
                format!("{name}: old instance is gone"),
            ));
        }
        for instance in &mut self.instances {
            if instance.state == "starting" && due(instance) {
                instance.state = "healthy";
                let message = format!("{name}.{} is healthy after 2.0 s", instance.slot);
                happened.push((name.to_owned(), "instance-healthy", message));
            }
        }
        let fresh = |i: &Instance| i.release == target && matches!(i.state, "starting" | "healthy");
        let starting = self.instances.iter().any(|i| i.state == "starting");
        let count = self.instances.iter().filter(|i| fresh(i)).count();
        if count < desired && !starting {
            let slot = (1..).find(|s| self.instances.iter().all(|i| i.slot != *s)).unwrap_or(1);
            let (since, started_at) = (now, now);
            self.instances.push(Instance {
                slot,
                release: target,
                state: "starting",
                why: "",
                since,
                started_at,
                restarts: 0,
            });
            happened.push((name.to_owned(), "instance-starting", format!("{name}.{slot} starts")));
        }
        let healthy_new = |i: &Instance| i.release == target && i.state == "healthy";
        let ready = self.instances.iter().filter(|i| healthy_new(i)).count();
        let alive = self.instances.iter().filter(|i| i.state == "healthy").count();
        if alive > desired {
            let old = self.instances.iter_mut().filter(|i| i.state == "healthy");
            if let Some(instance) = old.min_by_key(|i| (i.release, std::cmp::Reverse(i.slot))) {
                (instance.state, instance.since) = ("draining", now);
                let message = format!("{name}.{} drains", instance.slot);
                happened.push((name.to_owned(), "instance-draining", message));
            }
        }
        if self.next_release.is_some() && ready >= desired {
            self.next_release = None;
            self.release = target;
            self.since = now;
            for release in &mut self.releases {
                release.state = if release.number == target { "serving" } else { "old" }.to_owned();
            }
            let message = format!("release {target} takes all traffic of {name}");
            happened.push((name.to_owned(), "release-serving", message));
        }
    }

    fn health(&self) -> (Health, String) {
        if self.scripted {
            return (self.blueprint.health, self.blueprint.why.to_owned());
        }
        let healthy = self.healthy();
        if self.stopped {
            (Health::Stopped, "stopped by a person".to_owned())
        } else if let Some(next) = self.next_release {
            let why = format!("release {next} takes over: {healthy} of {} healthy", self.desired);
            (Health::Updating, why)
        } else if healthy >= self.desired {
            (Health::Healthy, String::new())
        } else if healthy == 0 {
            (Health::Starting, "its first instance starts".to_owned())
        } else {
            (Health::Degraded, format!("{healthy} of {} instances are healthy", self.desired))
        }
    }

    fn healthy(&self) -> u32 {
        let healthy = self.instances.iter().filter(|i| i.state == "healthy").count();
        u32::try_from(healthy).unwrap_or(0).min(self.desired)
    }

    fn view(&self, index: usize, second: u64) -> ServiceView {
        let blueprint = self.blueprint;
        let (health, why) = self.health();
        let name = blueprint.name;
        let up = self.healthy() > 0;
        let rate = if up { rate_to(name) } else { 0.0 };
        let share = 1.0 / f64::from(self.healthy().max(1));
        let instances =
            self.instances.iter().map(|i| self.instance(i, index, second, rate * share));
        let instances: Vec<_> = instances.collect();
        ServiceView {
            name: self.name(),
            health,
            why,
            source: blueprint.source.to_owned(),
            address: format!("127.64.0.{}", index + 2),
            ports: model::ports(blueprint),
            published: Some(blueprint.published.to_owned())
                .filter(|p| !p.is_empty())
                .into_iter()
                .collect(),
            release: (!blueprint.name.is_empty()).then_some(self.release),
            next_release: self.next_release,
            stands_in_for: None,
            failed_release: None,
            desired: self.desired,
            unplaced: 0,
            healthy: self.healthy(),
            traffic: model::traffic(name, second, rate, blueprint.p50_ms, model::bad_share(name)),
            cpu_cores: instances.iter().map(|i| i.cpu_cores).sum(),
            memory_bytes: instances.iter().map(|i| i.memory_bytes).sum(),
            restarts: instances.iter().map(|i| i.restarts).sum(),
            instances,
            warnings: Vec::new(),
            since: self.since,
        }
    }

    fn instance(&self, instance: &Instance, index: usize, second: u64, rate: f64) -> InstanceView {
        let blueprint = self.blueprint;
        let runs = instance.state != "failed";
        let serves = instance.state == "healthy";
        let id = InstanceId::new(self.name(), instance.slot);
        let factor = model::swing(&id.to_string(), second);
        let rate = if serves { rate } else { 0.0 };
        let bad = model::bad_share(blueprint.name);
        InstanceView {
            state: instance.state.to_owned(),
            why: instance.why.to_owned(),
            release: instance.release,
            pid: runs.then(|| 4_100 + u32::try_from(index).unwrap_or(0) * 17 + instance.slot),
            address: format!("127.65.{index}.{}", instance.slot + 1),
            restarts: instance.restarts,
            started_at: runs.then_some(instance.started_at),
            cpu_cores: if runs { (0.006 + rate * 0.0011) * factor } else { 0.0 },
            memory_bytes: if runs { bytes(blueprint.memory_mib * (0.9 + factor * 0.1)) } else { 0 },
            inflight: if serves { count(rate * blueprint.p50_ms / 400.0 * factor) } else { 0 },
            traffic: model::traffic(&id.to_string(), second, rate, blueprint.p50_ms, bad),
            id,
        }
    }
}

fn rate_to(name: &str) -> f64 {
    CALLS.iter().filter(|(_, to, _)| *to == name).map(|(_, _, rate)| rate).sum()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small made-up figures"
)]
fn bytes(mib: f64) -> u64 {
    (mib * 1_048_576.0) as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small made-up figures"
)]
fn count(number: f64) -> u32 {
    number.round() as u32
}

impl Engine for FakeEngine {
    fn status(&self) -> Status {
        let now = SystemClock.now();
        let has_app = !self.lock().services.is_empty();
        Status {
            version: "0.1.0".to_owned(),
            pid: std::process::id(),
            app: has_app.then(|| "shop".to_owned()),
            files: if has_app {
                vec!["/home/ada/shop/compose.yaml".to_owned()]
            } else {
                Vec::new()
            },
            state_dir: "/home/ada/shop/.ms".to_owned(),
            console: Some("http://127.0.0.1:7700".to_owned()),
            addresses: "127.64.0.0/16".to_owned(),
            isolation: Isolation { mode: "full".to_owned(), missing: Vec::new() },
            started_at: self.started_at,
            ending: false,
            problems: Vec::new(),
            memory_bytes: bytes(22.4 * model::swing("engine", now.secs())),
            cpu_micros: now.since(self.started_at).as_secs() * 1_900,
            revision: *self.changes.borrow(),
        }
    }

    fn overview(&self) -> Overview {
        let second = SystemClock.now().secs();
        let status = self.status();
        let state = self.lock();
        let services: Vec<ServiceView> =
            state.services.iter().enumerate().map(|(i, s)| s.view(i, second)).collect();
        let calls = CALLS.iter().filter(|_| !services.is_empty()).map(|(from, to, rate)| {
            let called = services.iter().find(|s| s.name.as_str() == *to);
            let p50 = SERVICES.iter().find(|b| b.name == *to).map_or(1.0, |b| b.p50_ms);
            let down = called.is_none_or(|s| s.healthy == 0);
            let bad = if down { 1.0 } else { model::bad_share(to) };
            CallView {
                caller: from.parse().ok(),
                service: to.parse().expect("made-up names are valid"),
                traffic: model::traffic(&format!("{from}{to}"), second, *rate, p50, bad),
            }
        });
        let calls = calls.collect();
        Overview { status, services, calls }
    }

    fn service(&self, name: &str) -> Option<ServiceDetail> {
        let second = SystemClock.now().secs();
        let state = self.lock();
        let index = state.services.iter().position(|s| s.blueprint.name == name)?;
        let service = &state.services[index];
        let about = |event: &&EventView| event.service.as_ref().is_some_and(|s| s.as_str() == name);
        Some(ServiceDetail {
            service: service.view(index, second),
            releases: service.releases.clone(),
            events: state.events.iter().rev().filter(about).take(20).cloned().collect(),
            definition: serde_json::json!({
                "build": {"context": format!("./{name}")},
                "environment": {"LOG_LEVEL": "info", "DATABASE_URL": "********"},
                "deploy": {"replicas": service.desired, "resources": {"limits": {"memory": "128m"}}},
            }),
            skipped_steps: match name {
                "api" => vec!["RUN pip install --no-cache-dir -r requirements.txt".to_owned()],
                _ => Vec::new(),
            },
        })
    }

    fn why(&self, name: &str) -> Option<Why> {
        let detail = self.service(name)?;
        let history = detail.events.into_iter().rev().collect();
        Some(Why { service: detail.service, causes: Vec::new(), history })
    }

    fn builds(&self, _after: u64, _limit: usize) -> Vec<BuildLine> {
        Vec::new()
    }

    fn events(&self, after: u64, limit: usize) -> Vec<EventView> {
        let state = self.lock();
        if after == 0 {
            let skip = state.events.len().saturating_sub(limit);
            return state.events.iter().skip(skip).cloned().collect();
        }
        state.events.iter().filter(|event| event.seq > after).take(limit).cloned().collect()
    }

    fn chart(&self, query: &ChartQuery) -> Result<Chart, Problem> {
        let seconds = query.seconds.unwrap_or(900).clamp(60, 604_800);
        let step = (seconds / 900).max(1);
        let end = SystemClock.now().secs() / u64::from(step) * u64::from(step);
        let start = end - u64::from(seconds);
        let name = query.service.as_ref().map_or("web", ServiceName::as_str);
        let blueprint = SERVICES.iter().find(|b| b.name == name).unwrap_or(&SERVICES[0]);
        let names: &[&str] = match query.chart.as_str() {
            "traffic" => &["requests", "errors"],
            "latency" => &["p50_ms", "p99_ms"],
            "cpu" => &["cpu_cores"],
            "memory" => &["memory_bytes"],
            other => {
                return Err(Problem::new("bad-query", format!("there is no chart `{other}`"))
                    .with_next("use traffic, latency, cpu or memory"));
            }
        };
        let rate = rate_to(name);
        let value = |line: &str, at: u64| -> Option<f64> {
            if at < self.started_at.secs() {
                return None;
            }
            let bad = model::bad_share(name);
            let traffic = model::traffic(name, at, rate, blueprint.p50_ms, bad);
            let factor = model::swing(name, at / 5 * 5);
            match line {
                "requests" => Some(traffic.requests_per_second),
                "errors" => Some(traffic.requests_per_second * (1.0 - traffic.success?)),
                "p50_ms" => traffic.p50_ms,
                "p99_ms" => traffic.p99_ms,
                "cpu_cores" => Some((0.01 + rate * 0.0011) * factor),
                _ => Some(
                    blueprint.memory_mib
                        * 1_048_576.0
                        * f64::from(blueprint.replicas.max(1))
                        * (0.9 + 0.1 * factor),
                ),
            }
        };
        let points = || (start..=end).step_by(usize::try_from(step).unwrap_or(1));
        let lines = names.iter().map(|line| ChartLine {
            name: (*line).to_owned(),
            values: points().map(|at| value(line, at)).collect(),
        });
        let lines = lines.collect();
        Ok(Chart { start: UnixNanos(start * 1_000_000_000), step_seconds: step, lines })
    }

    fn prometheus(&self) -> String {
        "# HELP ms_up Whether the engine runs.\n# TYPE ms_up gauge\nms_up 1\n".to_owned()
    }

    fn logs(&self, query: LogQuery) -> Answer<LogPage> {
        let state = self.lock();
        let limit = query.limit.unwrap_or(1_000);
        let mut lines: Vec<LogLine> = state
            .lines
            .iter()
            .rev()
            .filter(|l| wanted(&query, l))
            .skip(query.skip.unwrap_or_default())
            .take(limit + 1)
            .cloned()
            .collect();
        let more = lines.len() > limit;
        lines.truncate(limit);
        lines.reverse();
        Box::pin(async move { Ok(LogPage { lines, more }) })
    }

    fn follow_logs(&self, query: LogQuery) -> Result<mpsc::Receiver<Vec<LogLine>>, Problem> {
        let (sender, receiver) = mpsc::channel(64);
        self.lock().followers.push((query, sender));
        Ok(receiver)
    }

    fn event_log(&self, _: Option<String>, ask: event_log::Ask) -> Answer<event_log::Answer> {
        let empty = self.lock().services.is_empty();
        Box::pin(std::future::ready(crate::topics::answer(ask, empty)))
    }

    fn command(&self, command: Command) -> Answer<Accepted> {
        let result = self.obey(&command);
        Box::pin(async move { result })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
