//! Taking in an observation: what the agent saw becomes what the records say.
//!
//! Adoption is the ordinary case of this: after a restart of the engine the first observation
//! meets the records of the engine before it. What runs and has a record is kept; what has a
//! record and is gone has ended; what runs without a record is stopped.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{InstanceId, ServiceName};

use crate::event::{Observation, Reported, ReportedState};
use crate::record::{Exit, InstanceRecord, Level, Phase, Then};
use crate::supervise;
use crate::why;
use crate::work::Work;

pub(crate) fn take_in(work: &mut Work, observation: &Observation) {
    let first = work.state.observed.is_none();
    work.state.observed = Some(Arc::new(observation.clone()));
    if first {
        adopt(work, observation);
    }
    for (id, reported) in &observation.instances {
        let mine = work.state.instances.get(id).is_some_and(|r| r.attempt == reported.attempt);
        if !mine {
            stranger(work, id, reported);
        }
    }
    let records: Vec<_> = work.state.instances.values().cloned().collect();
    for record in records {
        let reported = observation.instances.get(&record.id);
        match reported.filter(|r| r.attempt == record.attempt) {
            Some(reported) => seen(work, &record, reported),
            None => missing(work, &record, reported.is_some()),
        }
    }
    for (service, number) in &observation.pre_started {
        work.release(service, *number, |release| release.pre_started = true);
    }
    let instances = &work.state.instances;
    let listed = &observation.instances;
    let live = &mut work.state.live;
    live.asked.retain(|id, _| instances.contains_key(id) || listed.contains_key(id));
}

fn adopt(work: &mut Work, observation: &Observation) {
    let running = observation.instances.iter().filter(|(id, reported)| {
        let known = work.state.instances.get(id).is_some_and(|r| r.attempt == reported.attempt);
        known && !matches!(reported.state, ReportedState::Exited(_))
    });
    let names: Vec<_> = running.map(|(id, _)| id.to_string()).collect();
    if !names.is_empty() {
        let message = format!("found running and kept: {}", names.join(", "));
        work.event(Level::Info, "instances-adopted", None, None, message);
    }
    let runs = |r: &InstanceRecord| {
        let reported = observation.instances.get(&r.id);
        reported.is_some_and(|seen| !matches!(seen.state, ReportedState::Exited(_)))
    };
    // Services of which nothing runs any more come back in order.
    let gone = |name: &&ServiceName| {
        let of = || work.state.instances_of(name).filter(|r| !r.is_leaving());
        of().any(|r| r.phase.is_live() || r.phase == Phase::Pending) && !of().any(|r| runs(r))
    };
    let gone: Vec<_> = work.state.services.keys().filter(gone).cloned().collect();
    for name in gone {
        work.service(&name, |s| s.gated = true);
    }
    if std::mem::take(&mut work.state.live.rebooted) {
        let of = work.state.instances.values();
        let ran = of.filter(|r| r.phase.is_live() && r.then.is_none() && !runs(r));
        let ran: Vec<_> = ran.map(|r| r.id.clone()).collect();
        bring_back(work, &ran);
    }
}

/// The machine was restarted: what ran when the engine last looked runs again, whatever its restart
/// policy and however it ended when the machine went down. Nothing of it has failed.
fn bring_back(work: &mut Work, ran: &[InstanceId]) {
    if ran.is_empty() {
        return;
    }
    for id in ran {
        work.instance(id, |r| {
            supervise::next_attempt(r);
            r.why = "ran before the machine was restarted; starts again".to_owned();
        });
    }
    let names: Vec<_> = ran.iter().map(InstanceId::to_string).collect();
    let names = names.join(", ");
    let message = format!("the machine was restarted; what ran before comes back: {names}");
    work.event(Level::Info, "machine-restarted", None, None, message);
}

/// An instance, or an earlier attempt of one, that no record explains.
fn stranger(work: &mut Work, id: &InstanceId, reported: &Reported) {
    let known = work.state.instances.get(id);
    if !matches!(reported.state, ReportedState::Exited(_)) {
        if work.ask_stop_unknown(id, reported.attempt) {
            let message = format!("{id} runs without a record of it and is stopped");
            work.tell(Level::Warn, "instance-unknown", id, message);
        }
    } else if known.is_none_or(|r| r.is_leaving() && !r.phase.is_live()) {
        work.ask_remove(id);
    }
}

fn seen(work: &mut Work, record: &InstanceRecord, reported: &Reported) {
    let id = &record.id;
    let now = work.now;
    let runs = !matches!(reported.state, ReportedState::Exited(_));
    if runs && !record.phase.is_live() {
        // Taken for gone, and here after all.
        work.ask_stop(id);
        return;
    }
    if !matches!(reported.state, ReportedState::Exited(_) | ReportedState::Launching) {
        if record.started_at.is_none() {
            warn(work, record, &reported.warnings);
        }
        let prepared = supervise::has_pre_start(&work.state, record);
        work.instance(id, |r| {
            if r.started_at.is_none() {
                r.started_at = reported.started_at.or(Some(now.wall));
                if prepared {
                    // Steps before may take as long as they do.
                    r.launched_at = Some(now.steady);
                }
            }
            r.port_env = reported.port_env.or(r.port_env);
        });
    }
    if runs && !post_start(work, record, reported) {
        return;
    }
    match &reported.state {
        ReportedState::Launching | ReportedState::Running => {}
        ReportedState::Healthy => {
            let was_unhealthy = work.state.live.unhealthy_since.remove(id).is_some();
            work.state.live.late.remove(id);
            match record.phase {
                Phase::Starting => {
                    work.instance(id, |r| {
                        r.phase = Phase::Healthy;
                        r.healthy_at = Some(now.steady);
                        r.why.clear();
                    });
                    work.tell(Level::Info, "instance-healthy", id, format!("{id} is healthy"));
                }
                Phase::Healthy if was_unhealthy => {
                    if let Some(more) = work.may_tell(&id.to_string()) {
                        let message = format!("{id} is healthy again{more}");
                        work.tell(Level::Info, "instance-healthy", id, message);
                    }
                }
                _ => {}
            }
        }
        ReportedState::Unhealthy => {
            let watched = matches!(record.phase, Phase::Starting | Phase::Healthy);
            if watched && !work.state.live.unhealthy_since.contains_key(id) {
                work.state.live.unhealthy_since.insert(id.clone(), now.steady);
                if let Some(more) = work.may_tell(&id.to_string()) {
                    let detail = why::detail(&reported.detail);
                    let message = format!("{id} fails its health check{detail}{more}");
                    work.tell(Level::Warn, "instance-unhealthy", id, message);
                }
            }
        }
        ReportedState::Exited(exit) if record.phase.is_live() => {
            supervise::ended(work, id, exit);
        }
        ReportedState::Exited(_) if record.is_leaving() => work.ask_remove(id),
        ReportedState::Exited(_) => {}
    }
}

/// Says what could not be done as the file asks: once of a release, whose instances are all alike.
fn warn(work: &mut Work, record: &InstanceRecord, warnings: &[String]) {
    for warning in warnings {
        let service = record.service().clone();
        let said = work.state.live.warned.entry(service).or_default();
        if said.0 != record.release {
            *said = (record.release, BTreeSet::new());
        }
        if said.1.insert(warning.clone()) {
            let message = format!("{}: {warning}", record.id);
            work.tell(Level::Warn, "not-as-asked", &record.id, message);
        }
    }
}

/// Nobody counts on an instance before its `post_start` steps are done. True when there are none
/// to wait for.
fn post_start(work: &mut Work, record: &InstanceRecord, reported: &Reported) -> bool {
    let id = &record.id;
    let release = work.state.release(record.service(), record.release);
    let steps = release.is_some_and(|r| !r.definition.hooks.post_start.is_empty());
    if !steps || record.post_started || record.phase != Phase::Starting {
        return true;
    }
    match &reported.post_start {
        Some(Ok(())) => {
            work.state.live.broken.remove(id);
            work.instance(id, |r| r.post_started = true);
            return true;
        }
        Some(Err(why)) if !work.state.live.broken.contains_key(id) => {
            let why = format!("failed in `post_start`: {why}");
            work.tell(Level::Error, "hook-failed", id, format!("{id} {why}"));
            work.state.live.broken.insert(id.clone(), why);
            work.dirty = true;
        }
        Some(Err(_)) => {}
        None if matches!(reported.state, ReportedState::Launching) => {}
        None => work.ask_post_start(id),
    }
    false
}

/// The agent does not list this attempt. `earlier` says that it lists another one.
fn missing(work: &mut Work, record: &InstanceRecord, earlier: bool) {
    let id = &record.id;
    let lost = || Exit { at: work.now.wall, lost: true, ..Exit::default() };
    match record.phase {
        Phase::Draining if record.started_at.is_none() && work.start_is_fresh(record) => {}
        Phase::Starting if record.started_at.is_none() && !earlier => work.ask_start(id),
        // The earlier attempt has ended, or is being stopped as a stranger.
        Phase::Starting if record.started_at.is_none() => {
            let seen = work.state.observed.clone();
            let ended = seen.and_then(|o| o.instances.get(id).map(|r| r.state.clone()));
            if matches!(ended, Some(ReportedState::Exited(_))) {
                work.ask_start(id);
            }
        }
        Phase::Draining if record.then == Some(Then::Remove) && !earlier => work.forget(id),
        Phase::Starting | Phase::Healthy | Phase::Unhealthy | Phase::Draining => {
            let exit = lost();
            supervise::ended(work, id, &exit);
        }
        Phase::Stopped | Phase::Failed if record.is_leaving() && !earlier => work.forget(id),
        Phase::Pending | Phase::Stopped | Phase::Failed => {}
    }
}
