//! Order: who waits for whom before it starts, and who is stopped before whom.
//!
//! `depends_on` gates the first start of a service, its return after nothing of it ran any more (a
//! reboot, a stop), a new release, and a restart while what it depends on is replaced as well. It
//! never gates the next attempt of an instance that ended: a dependency that changes or falls over
//! later does not touch its dependents. What cannot come true by waiting holds up a first start and
//! a new release only: what ran without it before may do so again.

use base::ServiceName;
use spec::model::{Condition, Dependency};

use crate::record::{Intent, Phase, Release, RolloutKind};
use crate::state::State;
use crate::work::Work;

/// Why a service does not start yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// One sentence.
    pub(crate) why: String,
    /// It cannot come true by waiting.
    pub(crate) hopeless: bool,
}

/// Lets those through whose dependencies are there.
pub(crate) fn open(work: &mut Work) {
    let names: Vec<_> = work.state.services.keys().cloned().collect();
    for name in names {
        let Some(service) = work.state.services.get(&name).cloned() else { continue };
        let gated = service.gated || service.rollout.as_ref().is_some_and(|r| r.gated);
        if service.intent != Intent::Run || !gated {
            continue;
        }
        let wait = waits_for(&work.state, &name);
        let returns = match &service.rollout {
            Some(rollout) if !service.gated => rollout.kind == RolloutKind::Restart,
            _ => work.state.instances_of(&name).next().is_some(),
        };
        if wait.is_none_or(|wait| wait.hopeless && returns) {
            work.service(&name, |s| {
                s.gated = false;
                if let Some(rollout) = &mut s.rollout {
                    rollout.gated = false;
                }
            });
        }
    }
}

/// What a service waits for; `None` when everything is there.
pub(crate) fn waits_for(state: &State, service: &ServiceName) -> Option<Wait> {
    let service = state.services.get(service)?;
    let restarts = service.rollout.as_ref().is_some_and(|r| r.kind == RolloutKind::Restart);
    let depends_on = &service.definition.depends_on;
    let mut waits = depends_on.iter().filter_map(|dependency| match replaced(state, dependency) {
        // Whoever restarts serves on meanwhile; how the dependency fares otherwise is no matter.
        None if restarts && !service.gated => None,
        None => unmet(state, dependency),
        wait => wait,
    });
    let first = waits.next()?;
    if first.hopeless {
        return Some(first);
    }
    waits.find(|wait| wait.hopeless).or(Some(first))
}

/// What it depends on is being replaced, and the new ones do not have the traffic yet.
fn replaced(state: &State, dependency: &Dependency) -> Option<Wait> {
    let name = &dependency.service;
    let service = state.services.get(name).filter(|s| s.intent == Intent::Run)?;
    let rollout = service.rollout.as_ref().filter(|rollout| rollout.paused.is_none())?;
    let what = match rollout.kind {
        RolloutKind::Update | RolloutKind::Rollback => "is being updated",
        RolloutKind::Restart => "is being restarted",
        RolloutKind::Return => return None,
    };
    let why = format!("waits for {name}, which {what}");
    (!state.has_moved(service)).then_some(Wait { why, hopeless: false })
}

fn unmet(state: &State, dependency: &Dependency) -> Option<Wait> {
    let name = &dependency.service;
    let service = state.services.get(name).filter(|s| s.intent != Intent::Remove);
    let wait = |why: String, hopeless: bool| Some(Wait { why, hopeless });
    let found = match service {
        None => wait(format!("waits for {name}, which is not part of the app"), true),
        Some(s) if s.intent == Intent::Stop => {
            wait(format!("waits for {name}, which is stopped"), true)
        }
        Some(s) if s.desired_replicas == 0 => {
            wait(format!("waits for {name}, which is scaled to zero"), true)
        }
        Some(s) if state.refusal(s).is_some() && state.instances_of(name).next().is_none() => {
            wait(format!("waits for {name}, which is not placed"), true)
        }
        Some(s) => {
            let desired = state.wanted(s) as usize;
            match dependency.condition {
                Condition::ServiceStarted => started(state, name),
                Condition::ServiceHealthy => healthy(state, name, desired),
                Condition::ServiceCompletedSuccessfully => completed(state, name, desired),
            }
        }
    };
    // What is not required is waited for only while it may still come.
    found.filter(|wait| dependency.required || !wait.hopeless)
}

fn started(state: &State, name: &ServiceName) -> Option<Wait> {
    let has = state.instances_of(name).any(|r| r.started_at.is_some() || r.is_completed());
    if has {
        return None;
    }
    let failed = state.instances_of(name).find(|r| r.phase == Phase::Failed);
    Some(match failed {
        Some(r) => {
            Wait { why: format!("waits for {name} to start: {} {}", r.id, r.why), hopeless: true }
        }
        None => Wait { why: format!("waits for {name} to start"), hopeless: false },
    })
}

fn healthy(state: &State, name: &ServiceName, desired: usize) -> Option<Wait> {
    let healthy = state.instances_of(name).filter(|r| state.phase(r) == Phase::Healthy).count();
    if healthy >= desired {
        return None;
    }
    let ended = |r: &&std::sync::Arc<crate::InstanceRecord>| {
        matches!(r.phase, Phase::Failed | Phase::Stopped) && r.then.is_none()
    };
    Some(match state.instances_of(name).find(ended) {
        Some(r) => Wait {
            why: format!("waits for {name} to be healthy: {} {}", r.id, r.why),
            hopeless: true,
        },
        None => Wait { why: format!("waits for {name} to be healthy"), hopeless: false },
    })
}

fn completed(state: &State, name: &ServiceName, desired: usize) -> Option<Wait> {
    let goal = state.goal(name).map(|release: &std::sync::Arc<Release>| release.number);
    let mut done = 0;
    for record in state.instances_of(name).filter(|r| Some(r.release) == goal) {
        if record.phase == Phase::Failed {
            let why = format!("waits for {name} to complete: {} {}", record.id, record.why);
            return Some(Wait { why, hopeless: true });
        }
        done += usize::from(record.is_completed());
    }
    let rollout = state.services.get(name).and_then(|s| s.rollout.as_ref());
    if let Some(reason) = rollout.and_then(|r| r.paused.as_ref()) {
        let why = format!("waits for {name} to complete, whose update is paused: {reason}");
        return Some(Wait { why, hopeless: true });
    }
    let why = format!("waits for {name} to complete");
    (done < desired).then_some(Wait { why, hopeless: false })
}

/// May instances of a service that is to stop be stopped now? Not while a service that depends on
/// it, and is to stop as well, still has some.
pub(crate) fn may_stop(state: &State, service: &ServiceName) -> bool {
    !state.services.values().any(|other| {
        let stopping = other.intent != Intent::Run && other.name != *service;
        let depends = || other.definition.depends_on.iter().any(|d| d.service == *service);
        stopping && depends() && state.instances_of(&other.name).any(|r| r.phase.is_live())
    })
}
