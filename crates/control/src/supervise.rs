//! Keeping instances alive: exits, restart policies, back-off, and checks that keep failing.
//!
//! An instance whose health check fails gets no new requests while others of its service are
//! healthy. When it stays so for as long again as it took to be called unhealthy (`retries` times
//! `interval`, at least 5 s and at most 2 min; 30 s without a check of its own), it is drained
//! and restarted in its slot, one instance of a service at a time; not with `restart: no`.
//!
//! An instance without a check of its own is late when it was not healthy within its start
//! deadline: most likely nobody listens on its port. It counts as unhealthy until it is healthy, and
//! is left alone: a slow start that is begun anew again and again would never end.

use std::time::Duration;

use base::{InstanceId, ServiceName};
use spec::model::{Restart, Test};

use crate::backoff;
use crate::event::{Reported, ReportedState};
use crate::record::{Exit, InstanceRecord, Intent, Level, Phase, Then};
use crate::share;
use crate::state::State;
use crate::why;
use crate::work::Work;

/// Patience with a failing check where the definition has none.
const PATIENCE: Duration = Duration::from_secs(30);

/// An attempt has ended: by itself, by our asking, or unseen.
pub(crate) fn ended(work: &mut Work, id: &InstanceId, exit: &Exit) {
    let Some(record) = work.state.instances.get(id).cloned() else { return };
    work.state.live.unhealthy_since.remove(id);
    work.state.live.late.remove(id);
    work.state.live.broken.remove(id);
    let how = why::ended(exit);
    match record.then {
        Some(Then::Remove) => {
            work.instance(id, |r| {
                r.phase = Phase::Stopped;
                r.last_exit = Some(exit.clone());
            });
            let message = format!("{id} {how} after it was asked to stop");
            work.tell(Level::Info, "instance-stopped", id, message);
            work.ask_remove(id);
        }
        Some(Then::Restart) if share::moves(&record) => share::at_once(work, &record),
        Some(Then::Restart) => {
            again(work, &record, exit, "was stopped because it stayed unhealthy")
        }
        None => by_policy(work, &record, exit),
    }
}

fn by_policy(work: &mut Work, record: &InstanceRecord, exit: &Exit) {
    let id = &record.id;
    let service = work.state.services.get(record.service());
    let wanted = service.is_some_and(|s| s.intent == Intent::Run);
    let policy = policy(work, record);
    let pace = service.map(|s| s.definition.restart_pace.clone()).unwrap_or_default();
    let lasted = record.launched_at.map(|at| work.now.steady.since(at)).unwrap_or_default();
    if pace.window.is_some_and(|window| lasted >= window) {
        work.instance(id, |r| r.counted = 0);
    }
    let counted = work.state.instances.get(id).map_or(record.counted, |r| r.counted);
    let restarts = match policy {
        Restart::No => false,
        Restart::Always | Restart::UnlessStopped => pace.attempts.is_none_or(|max| counted < max),
        Restart::OnFailure { max_retries } => {
            !exit.is_success() && max_retries.is_none_or(|max| counted < max)
        }
    };
    let how = why::ended(exit);
    if wanted && restarts {
        let level = if exit.is_success() { Level::Info } else { Level::Warn };
        let message = format!("{id} {how}{}", why::lines(exit));
        work.tell(level, "instance-exited", id, message);
        return again(work, record, exit, &how);
    }
    let success = exit.is_success();
    let after = match policy {
        _ if success => "",
        Restart::OnFailure { max_retries: Some(max) } if max > 0 => {
            &*format!(" and was restarted {max} times, as often as `restart` allows")
        }
        Restart::Always | Restart::UnlessStopped if pace.attempts.is_some() => {
            " and was restarted as often as `max_attempts` allows"
        }
        Restart::No => " and `restart` is `no`",
        _ => "",
    };
    work.instance(id, |r| {
        r.phase = if success { Phase::Stopped } else { Phase::Failed };
        r.why = format!("{how}{after}");
        r.last_exit = Some(exit.clone());
        if !success {
            r.failures += 1;
        }
    });
    let (level, kind) = match success {
        true => (Level::Info, "instance-completed"),
        false => (Level::Error, "instance-failed"),
    };
    work.tell(level, kind, id, format!("{id} {how}{after}{}", why::lines(exit)));
}

/// The next attempt in the same slot, after its back-off, or after what the file says.
fn again(work: &mut Work, record: &InstanceRecord, exit: &Exit, how: &str) {
    let now = work.now.steady;
    let healthy_for = record.healthy_at.map(|at| now.since(at)).unwrap_or_default();
    let clears = match record.then {
        Some(_) => backoff::LONG_HEALTHY_RUN,
        None => backoff::HEALTHY_RUN,
    };
    let failures = if healthy_for >= clears { 1 } else { record.failures.saturating_add(1) };
    let service = work.state.services.get(record.service());
    let delay = service.and_then(|s| s.definition.restart_pace.delay);
    let wait = match delay {
        Some(delay) => delay.max(backoff::FIRST),
        None => backoff::wait(work.state.seed, &record.id, record.attempt, failures),
    };
    work.instance(&record.id, |r| {
        r.restarts = r.restarts.saturating_add(1);
        r.counted = r.counted.saturating_add(1);
        r.failures = failures;
        r.last_exit = Some(exit.clone());
        r.why = match failures {
            1 if delay.is_none() => format!("{how}; starts again"),
            1 => format!("{how}; starts again after {}", base::units::show_duration(wait)),
            n => format!(
                "{how}, the {} failure in a row; starts again after {}",
                why::ordinal(n),
                base::units::show_duration(wait)
            ),
        };
        next_attempt(r);
        r.backoff_until = Some(now.plus(wait));
    });
}

/// Makes a record that has ended ready for its next attempt.
pub(crate) fn next_attempt(record: &mut InstanceRecord) {
    record.attempt += 1;
    record.phase = Phase::Pending;
    record.then = None;
    record.launched_at = None;
    record.started_at = None;
    record.post_started = false;
    record.healthy_at = None;
    record.drain_until = None;
    record.stop_at = None;
    record.backoff_until = None;
}

/// Hands what waits and may start to the agent.
pub(crate) fn launch(work: &mut Work) {
    let Some(seen) = work.state.observed.clone() else { return };
    let pending = work.state.instances.values().filter(|r| r.phase == Phase::Pending);
    let pending: Vec<_> = pending.cloned().collect();
    for record in pending {
        let id = &record.id;
        let service = work.state.services.get(record.service());
        let wanted = service.is_some_and(|s| s.intent == Intent::Run && !s.gated);
        // An earlier life of the same name has to end first.
        let free =
            seen.instances.get(id).is_none_or(|r| matches!(r.state, ReportedState::Exited(_)));
        if !wanted || !free || !record.backoff_until.is_none_or(|at| work.due(at)) {
            continue;
        }
        if !share::join(work, &record) {
            continue;
        }
        let now = work.now.steady;
        let attempt = match record.attempt {
            1 => String::new(),
            n => format!(", the {} time", why::ordinal(n)),
        };
        let message = format!("{id} starts, of release {}{attempt}", record.release);
        work.tell(Level::Info, "instance-starting", id, message);
        work.instance(id, |r| {
            r.phase = Phase::Starting;
            r.launched_at = Some(now);
            r.backoff_until = None;
        });
        work.ask_start(id);
    }
}

/// An instance has this long to be healthy where its definition says nothing else.
const START_WITHIN: Duration = Duration::from_secs(120);

/// How long an instance may take to be healthy: what `start_period` says, and with a check at least
/// until as many tries as it has could have failed.
pub(crate) fn start_within(definition: &spec::Service) -> Duration {
    let Some(check) = &definition.healthcheck else { return START_WITHIN };
    if check.test == Test::None {
        return if check.start_period.is_zero() { START_WITHIN } else { check.start_period };
    }
    let rounds = (check.interval + check.timeout).saturating_mul(check.retries.max(1));
    START_WITHIN.max(check.start_period.saturating_add(rounds))
}

/// Whether its release has steps that come before its program.
pub(crate) fn has_pre_start(state: &State, record: &InstanceRecord) -> bool {
    let release = state.release(record.service(), record.release);
    release.is_some_and(|release| !release.definition.hooks.pre_start.is_empty())
}

/// Steps that come before its program run, as far as is known.
pub(crate) fn prepares(state: &State, record: &InstanceRecord) -> bool {
    let seen = state.observed.as_ref().and_then(|seen| seen.instances.get(&record.id));
    let launches =
        |r: &Reported| r.attempt == record.attempt && matches!(r.state, ReportedState::Launching);
    seen.is_some_and(launches) && has_pre_start(state, record)
}

/// Notes which instances of a service are late.
pub(crate) fn late(work: &mut Work, service: &ServiceName) {
    let starting = work.state.instances_of(service).filter(|r| r.phase == Phase::Starting);
    let known = &work.state.live.late;
    let starting = starting.filter(|r| !known.contains(&r.id) && !prepares(&work.state, r));
    let starting: Vec<_> = starting.cloned().collect();
    for record in &starting {
        let Some(release) = work.state.release(service, record.release).cloned() else { continue };
        let definition = &release.definition;
        let checked = definition.healthcheck.as_ref().is_some_and(|c| c.test != Test::None);
        let within = start_within(definition);
        if !checked && record.launched_at.is_some_and(|at| work.due(at.plus(within))) {
            work.state.live.late.insert(record.id.clone());
            work.dirty = true;
            let said = why::late(&work.state, record, within);
            let message = format!("{} {said}", record.id);
            work.tell(Level::Warn, "instance-late", &record.id, message);
        }
    }
}

/// Restarts what has been unhealthy for too long.
pub(crate) fn unhealthy(work: &mut Work, service: &ServiceName) {
    if work.state.services.get(service).is_none_or(|s| s.intent != Intent::Run) {
        return;
    }
    if work.state.instances_of(service).any(|r| r.then == Some(Then::Restart)) {
        return;
    }
    let sick: Vec<_> = work
        .state
        .instances_of(service)
        .filter(|r| r.then.is_none() && r.phase.is_live())
        .filter_map(|r| Some((work.state.live.unhealthy_since.get(&r.id).copied()?, r.clone())))
        .collect();
    let mut sick: Vec<_> =
        sick.into_iter().filter(|(_, r)| policy(work, r) != Restart::No).collect();
    sick.sort_by_key(|(since, record)| (*since, record.id.slot()));
    for (since, record) in sick {
        let definition = work.state.release(service, record.release).map(|r| r.definition.clone());
        let Some(definition) = definition else { continue };
        if !work.due(since.plus(patience(&definition))) {
            continue;
        }
        let unhealthy_for = base::units::show_duration(work.now.steady.since(since));
        let why = format!("its health check has failed for {unhealthy_for}");
        let message = format!("{} is restarted: {why}", record.id);
        work.tell(Level::Warn, "instance-restarting", &record.id, message);
        work.leave(&record.id, Then::Restart, definition.stop_grace_period, &why);
        return;
    }
}

fn patience(definition: &spec::Service) -> Duration {
    match &definition.healthcheck {
        Some(check) => (check.interval.saturating_mul(check.retries.max(1)))
            .clamp(Duration::from_secs(5), Duration::from_secs(120)),
        None => PATIENCE,
    }
}

fn policy(work: &Work, record: &InstanceRecord) -> Restart {
    let release = work.state.release(record.service(), record.release);
    release.map(|r| r.definition.restart).unwrap_or_default()
}
