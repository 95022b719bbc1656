//! Converging one service: the right number of instances of the right release.
//!
//! New instances are those of the goal release made since the last restart was asked for; all
//! others are old. With start-first, up to `parallelism` new ones start beside the old, and old
//! ones drain only as new ones have settled: healthy for `monitor`. A new instance takes traffic
//! as soon as it is healthy, so that the watched time is time under load. With stop-first, as many
//! old ones are drained and stopped first. The next batch waits until the last has settled, its
//! old ones are gone and `delay` has passed. When the last batch is healthy the traffic has moved:
//! the old ones that are left stand by, without new requests, until the new ones have settled, and
//! serve again at once should those fail. A restart or a return by hand is over for whoever waits
//! for it when the traffic has moved; a new release has yet to prove itself.
//!
//! A new instance fails when it crashes, is not healthy in time, or ends while the old ones run
//! on. Past `max_failure_ratio` the rollout pauses, goes on, or (by default) returns: the serving
//! release keeps serving, the new instances go, and the new release is marked failed.

use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, ServiceName, SteadyNanos, UnixNanos};
use spec::model::{FailureAction, UpdateConfig, UpdateOrder};

use crate::command;
use crate::gate;
use crate::record::{
    InstanceRecord, Intent, Level, Phase, Release, ReleaseState, Rollout, RolloutKind,
    ServiceRecord, Then,
};
use crate::supervise;
use crate::why;
use crate::work::Work;

/// How long requests may go on when a whole service stops. Nothing takes over, so waiting longer
/// serves nobody; what is under way may still end in the program's own grace period.
pub(crate) const STOP_DRAIN: Duration = Duration::from_secs(1);

/// One look at a service.
struct View {
    service: Arc<ServiceRecord>,
    release: Arc<Release>,
    desired: usize,
    new: Vec<Arc<InstanceRecord>>,
    old: Vec<Arc<InstanceRecord>>,
    /// On their way out for good and not gone yet.
    leaving: usize,
}

impl View {
    fn of(work: &Work, name: &ServiceName) -> Option<View> {
        let service = work.state.services.get(name)?.clone();
        let release = work.state.goal(name)?.clone();
        let (leaving, members): (Vec<_>, Vec<_>) =
            work.state.instances_of(name).cloned().partition(|r| r.is_leaving());
        let (new, old) = members.into_iter().partition(|r| work.state.is_new(&service, r));
        let desired = work.state.wanted(&service) as usize;
        Some(View { service, release, desired, new, old, leaving: leaving.len() })
    }

    /// How it goes: as an update, or as a rollback where the file says that this is another thing.
    fn update(&self) -> &UpdateConfig {
        let definition = &self.service.definition;
        match (self.service.rollout.as_ref().map(|r| r.kind), &definition.rollback) {
            (Some(RolloutKind::Rollback | RolloutKind::Return), Some(rollback)) => rollback,
            _ => &definition.update,
        }
    }

    /// Some release serves that a failure can fall back on.
    fn fallback(&self) -> bool {
        self.service.release.is_some()
    }
}

/// Moves a service one look toward what is wanted of it.
pub(crate) fn converge(work: &mut Work, name: &ServiceName) {
    let Some(view) = View::of(work, name) else { return };
    if view.service.intent != Intent::Run {
        if gate::may_stop(&work.state, name) {
            let within = view.release.definition.stop_grace_period.min(STOP_DRAIN);
            for record in view.new.iter().chain(&view.old) {
                work.leave(&record.id, Then::Remove, within, "the service is being stopped");
            }
        }
        return;
    }
    if view.service.gated {
        return;
    }
    match &view.service.rollout {
        None if view.old.is_empty() => steady(work, &view),
        // Old instances without a rollout: somebody wants them replaced.
        None => begin(work, name, RolloutKind::Return),
        Some(rollout) => roll(work, &view, rollout),
    }
}

/// Forgets services that were to go and have no instance left, and then the app.
pub(crate) fn forget_removed(work: &mut Work) {
    let removed = work.state.services.values().filter(|s| s.intent == Intent::Remove);
    let removed: Vec<_> = removed.map(|s| s.name.clone()).collect();
    for name in removed {
        if work.state.instances_of(&name).next().is_none() {
            work.state.services.remove(&name);
            work.state.releases.retain(|(of, _), _| *of != name);
            work.say(Level::Info, "service-removed", &name, format!("{name} is gone"));
            work.dirty = true;
        }
    }
    let leaving = work.state.app.as_ref().is_some_and(|app| app.leaving);
    if leaving && work.state.services.is_empty() {
        let name = work.state.app.take().map(|app| app.name.clone()).unwrap_or_default();
        work.event(Level::Info, "app-down", None, None, format!("{name} is down"));
    }
}

pub(crate) fn begin(work: &mut Work, name: &ServiceName, kind: RolloutKind) {
    let started_at = work.now.wall;
    let gated = matches!(kind, RolloutKind::Update | RolloutKind::Restart);
    work.service(name, |s| {
        s.rollout = Some(Rollout { kind, started_at, gated, failures: 0, paused: None });
    });
}

/// No replacement under way: as many as wanted.
fn steady(work: &mut Work, view: &View) {
    scale(work, view);
    let came = view.desired == 0 || view.new.iter().any(|r| is_ready(work, r) || r.is_completed());
    if view.service.target.is_some() && came {
        promote(work, view);
    }
}

fn scale(work: &mut Work, view: &View) {
    let have = view.new.len();
    if have < view.desired {
        create(work, view, view.desired - have);
    } else {
        let why = format!("scaled to {}", view.desired);
        drain(work, view, &view.new, have - view.desired, &why);
    }
}

fn roll(work: &mut Work, view: &View, rollout: &Rollout) {
    let total = view.new.len() + view.old.len();
    if rollout.gated || rollout.paused.is_some() {
        // It stands still, but scaling down goes on. A paused one may have its surge.
        let surge = if rollout.gated { 0 } else { batch(view) };
        let all: Vec<_> = view.old.iter().chain(&view.new).cloned().collect();
        let why = format!("scaled to {}", view.desired);
        return drain(work, view, &all, total.saturating_sub(view.desired + surge), &why);
    }
    if view.fallback() && rollout.kind != RolloutKind::Return && failed(work, view, rollout) {
        return;
    }
    if let Some(why) = work.state.refusal(&view.service)
        && view.fallback()
    {
        return give_up(work, view, rollout.kind, &why);
    }
    if drop_useless(work, view) {
        return;
    }
    let settled = view.new.iter().filter(|r| is_settled(work, view, rollout, r)).count();
    let unsettled = view.new.len() - settled;
    let pause_over = match view.new.iter().filter_map(|r| settled_at(view, r)).max() {
        Some(at) => work.due(at.plus(view.update().delay)),
        None => true,
    };
    let missing = view.desired.saturating_sub(total);
    let quiet = unsettled == 0 && view.leaving == 0;
    match view.update().order {
        UpdateOrder::StartFirst => {
            let keep = view.desired.saturating_sub(settled);
            let surplus = view.old.len().saturating_sub(keep);
            let why = format!("release {} takes over", view.release.number);
            drain(work, view, &view.old, surplus, &why);
            let wanted = view.desired.saturating_sub(view.new.len());
            if quiet && surplus == 0 && wanted > 0 && (pause_over || missing > 0) {
                create(work, view, batch(view).max(missing).min(wanted));
            }
        }
        UpdateOrder::StopFirst => {
            let why = format!("makes room for release {}", view.release.number);
            if view.leaving == 0 && missing > 0 {
                create(work, view, missing);
            } else if quiet && !view.old.is_empty() && (pause_over || total > view.desired) {
                let room = batch(view).max(total - view.desired);
                drain(work, view, &view.old, room, &why);
            }
        }
    }
    if view.new.len() > view.desired {
        scale(work, view);
    }
    if view.old.is_empty() && view.new.len() == view.desired && unsettled == 0 {
        promote(work, view);
    }
}

/// How many at a time.
fn batch(view: &View) -> usize {
    match view.update().parallelism {
        0 => view.desired.max(1),
        n => n as usize,
    }
}

/// Lets go of instances of releases that neither serve nor arrive and that help nobody.
fn drop_useless(work: &mut Work, view: &View) -> bool {
    let serving = view.service.release;
    let useless = |r: &&Arc<InstanceRecord>| Some(r.release) != serving && !is_ready(work, r);
    let useless: Vec<_> = view.old.iter().filter(useless).cloned().collect();
    for record in &useless {
        let why = format!("release {} is not wanted any more", record.release);
        work.leave(&record.id, Then::Remove, grace(view), &why);
    }
    !useless.is_empty()
}

/// The goal release serves from now on.
fn promote(work: &mut Work, view: &View) {
    let name = view.service.name.clone();
    let number = view.release.number;
    let before = view.service.release.filter(|before| *before != number);
    if let Some(before) = before {
        work.release(&name, before, |r| r.state = ReleaseState::Old);
    }
    work.release(&name, number, |r| {
        r.state = ReleaseState::Serving;
        r.served = true;
        r.why.clear();
    });
    let kind = view.service.rollout.as_ref().map(|r| r.kind);
    work.service(&name, |s| {
        s.release = Some(number);
        s.target = None;
        s.rollout = None;
        if kind != Some(RolloutKind::Return) {
            s.failed_release = None;
        }
    });
    let message = match kind {
        Some(RolloutKind::Restart) => format!("{name} runs afresh, on release {number}"),
        _ => format!("{name} serves release {number}"),
    };
    work.say(Level::Info, "release-serving", &name, message);
    if matches!(kind, Some(RolloutKind::Update | RolloutKind::Rollback)) {
        command::restart_dependents(work, &name);
    }
}

/// Counts new failures, and acts on them past what is tolerated. True when it acted.
fn failed(work: &mut Work, view: &View, rollout: &Rollout) -> bool {
    let name = &view.service.name;
    let mut failures = rollout.failures;
    let mut reason = None;
    for record in view.new.iter().filter(|r| !r.failed_rollout) {
        if let Some(why) = failure(work, view, record) {
            failures = failures.saturating_add(1);
            work.instance(&record.id, |r| r.failed_rollout = true);
            reason.get_or_insert(why);
        }
    }
    if failures == 0 {
        return false;
    }
    work.service(name, |s| {
        if let Some(rollout) = &mut s.rollout {
            rollout.failures = failures;
        }
    });
    let number = view.release.number;
    if tolerates(view, failures) {
        if let Some(reason) = &reason {
            let message = format!("{name}: release {number} fails, and goes on: {reason}");
            work.say(Level::Warn, "rollout-continues", name, message);
        }
        return reason.is_some();
    }
    // Without a new one, the file has become stricter since.
    let reason = reason.unwrap_or_else(|| format!("{failures} of its instances failed"));
    let message = format!("{name}: release {number} fails: {reason}");
    if view.update().failure_action == FailureAction::Pause {
        work.say(Level::Error, "rollout-paused", name, message);
        work.service(name, |s| {
            if let Some(rollout) = &mut s.rollout {
                rollout.paused = Some(reason);
            }
        });
        return true;
    }
    give_up(work, view, rollout.kind, &reason);
    true
}

/// May so many new instances fail?
fn tolerates(view: &View, failures: u32) -> bool {
    let desired = u32::try_from(view.desired.max(1)).unwrap_or(u32::MAX);
    let ratio = f64::from(failures) / f64::from(desired);
    ratio <= view.update().max_failure_ratio
        || view.update().failure_action == FailureAction::Continue
}

/// Back to what serves: nothing may be worse than before the rollout.
fn give_up(work: &mut Work, view: &View, kind: RolloutKind, reason: &str) {
    let name = &view.service.name;
    let number = view.release.number;
    let serving = view.service.release.unwrap_or(number);
    let useless: Vec<_> = view.new.iter().filter(|r| !is_ready(work, r)).collect();
    for record in useless {
        work.leave(&record.id, Then::Remove, grace(view), "it did not become healthy");
    }
    if kind == RolloutKind::Restart || serving == number {
        let nonce = view.old.iter().map(|r| r.nonce).min();
        work.service(name, |s| {
            s.restart_nonce = nonce.unwrap_or(s.restart_nonce);
            s.rollout = None;
        });
        let message = format!("{name} was not restarted: {reason}; the others serve on");
        return work.say(Level::Error, "restart-failed", name, message);
    }
    work.release(name, number, |r| {
        r.state = ReleaseState::Failed;
        r.why = reason.to_owned();
    });
    work.service(name, |s| {
        s.target = None;
        s.failed_release = Some(number);
    });
    begin(work, name, RolloutKind::Return);
    let message =
        format!("{name}: release {number} did not make it, release {serving} serves on: {reason}");
    work.say(Level::Error, "release-failed", name, message);
}

/// Why a new instance counts as failed, if it does.
fn failure(work: &mut Work, view: &View, record: &InstanceRecord) -> Option<String> {
    let id = &record.id;
    let last = record.last_exit.as_ref();
    if record.phase == Phase::Failed || record.restarts > 0 {
        let how = last.map(|exit| format!("{}{}", why::ended(exit), why::lines(exit)));
        return Some(format!("{id} {}", how.unwrap_or_else(|| record.why.clone())));
    }
    if record.is_completed() && view.old.iter().any(|r| is_ready(work, r)) {
        return Some(format!("{id} exited with code 0 although the release before it runs on"));
    }
    if record.phase != Phase::Starting {
        return None;
    }
    if let Some(why) = work.state.live.broken.get(id) {
        return Some(format!("{id} {why}"));
    }
    if work.state.live.unhealthy_since.contains_key(id) {
        let seen = work.state.observed.as_ref().and_then(|seen| seen.instances.get(id));
        let detail = seen.map(|r| why::detail(&r.detail)).unwrap_or_default();
        return Some(format!("{id} fails its health check{detail}"));
    }
    if supervise::prepares(&work.state, record) {
        return None;
    }
    let within = supervise::start_within(&view.release.definition);
    let launched_at = record.launched_at?;
    let late = work.due(launched_at.plus(within));
    late.then(|| format!("{id} {}", why::late(&work.state, record, within)))
}

fn is_ready(work: &Work, record: &InstanceRecord) -> bool {
    work.state.phase(record) == Phase::Healthy && record.then.is_none()
}

/// Nothing more has to be waited for from this new instance.
fn is_settled(work: &mut Work, view: &View, rollout: &Rollout, record: &InstanceRecord) -> bool {
    if record.failed_rollout && rollout.kind != RolloutKind::Return {
        return true; // It was tolerated, else the rollout would have ended.
    }
    if record.is_completed() {
        return true;
    }
    if !is_ready(work, record) {
        return false;
    }
    settled_at(view, record).is_some_and(|at| work.due(at))
}

fn settled_at(view: &View, record: &InstanceRecord) -> Option<SteadyNanos> {
    // What returns has proved itself before.
    let kind = view.service.rollout.as_ref().map(|r| r.kind);
    let monitor = match kind {
        Some(RolloutKind::Return) => Duration::ZERO,
        _ => view.update().monitor,
    };
    Some(record.healthy_at?.plus(monitor))
}

fn grace(view: &View) -> Duration {
    view.release.definition.stop_grace_period
}

/// Takes `count` of `from` out: those that serve least first, then the highest slots.
fn drain(work: &mut Work, view: &View, from: &[Arc<InstanceRecord>], count: usize, why: &str) {
    let mut order: Vec<_> = from.iter().collect();
    order.sort_by_key(|r| {
        let worth = match work.state.phase(r) {
            Phase::Stopped | Phase::Failed => 0,
            Phase::Draining => 1,
            Phase::Pending => 2,
            Phase::Unhealthy => 3,
            Phase::Starting => 4,
            Phase::Healthy => 5,
        };
        (worth, std::cmp::Reverse(r.id.slot()))
    });
    for record in order.into_iter().take(count) {
        work.leave(&record.id, Then::Remove, grace(view), why);
    }
}

/// Makes records for `count` more instances in the smallest free slots.
fn create(work: &mut Work, view: &View, count: usize) {
    if work.state.refusal(&view.service).is_some() {
        return;
    }
    let name = &view.service.name;
    let mut taken = work.state.addresses();
    let mut slot = 0;
    for _ in 0..count {
        let id = loop {
            slot += 1;
            let id = InstanceId::new(name.clone(), slot);
            let seen = work.state.observed.as_ref();
            let listed = seen.is_some_and(|seen| seen.instances.contains_key(&id));
            if !listed && !work.state.instances.contains_key(&id) {
                break id;
            }
        };
        let Some(address) = crate::address::for_instance(work.state.pool, &taken) else {
            if !std::mem::replace(&mut work.state.live.pool_empty, true) {
                let message = format!(
                    "{name} cannot have another instance: no address is free; \
                     give the engine a larger pool with --addresses"
                );
                work.say(Level::Error, "addresses-used-up", name, message);
            }
            return;
        };
        work.state.live.pool_empty = false;
        taken.insert(address);
        let record = fresh(id.clone(), view, address, work.now.wall);
        work.state.instances.insert(id, Arc::new(record));
        work.dirty = true;
    }
}

fn fresh(
    id: InstanceId,
    view: &View,
    address: std::net::Ipv4Addr,
    now: UnixNanos,
) -> InstanceRecord {
    InstanceRecord {
        id,
        release: view.release.number,
        attempt: 1,
        nonce: view.service.restart_nonce,
        address,
        port_env: None,
        phase: Phase::Pending,
        why: String::new(),
        created_at: now,
        launched_at: None,
        started_at: None,
        post_started: false,
        healthy_at: None,
        restarts: 0,
        counted: 0,
        failures: 0,
        failed_rollout: false,
        backoff_until: None,
        last_exit: None,
        then: None,
        drain_until: None,
        stop_at: None,
    }
}
