//! How a service is, in one word and one sentence: pure functions over the state.
//!
//! Sentences do not mention how long something has lasted, so that they change only when the
//! state does.

use base::{ServiceName, UnixNanos};

use crate::gate;
use crate::record::{
    InstanceRecord, Intent, Level, Phase, Release, ReleaseState, RolloutKind, ServiceRecord, Then,
};
use crate::state::State;
use crate::supervise;
use crate::why;
use crate::work::Work;

/// One word for how a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Waits for what it depends on.
    Waiting,
    /// Instances start and have not been healthy yet.
    Starting,
    /// As many healthy instances as wanted, on the wanted release.
    Healthy,
    /// A new release takes over.
    Updating,
    /// Serves, with fewer healthy instances than wanted, or after a release that did not make it.
    Degraded,
    /// Serves nothing: crashes, or was never healthy.
    Failed,
    /// Ran to its end with exit code 0 and is not restarted.
    Completed,
    /// Stopped on purpose or scaled to zero.
    Stopped,
}

impl Health {
    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Waiting => "waiting",
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Updating => "updating",
            Health::Degraded => "degraded",
            Health::Failed => "failed",
            Health::Completed => "completed",
            Health::Stopped => "stopped",
        }
    }
}

/// A service in one row.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// How it is.
    pub health: Health,
    /// Why it is so, one sentence; empty when healthy.
    pub why: String,
    /// Instances wanted.
    pub desired: u32,
    /// Of these, instances that this node may not run.
    pub unplaced: u32,
    /// Instances healthy now that do not leave.
    pub healthy: u32,
    /// Instances that exist, draining ones included, by slot.
    pub instances: Vec<InstanceView>,
    /// Release that takes traffic.
    pub release: Option<u64>,
    /// Release that is on its way in, when it is not `release`.
    pub next_release: Option<u64>,
    /// Newer release that did not make it.
    pub failed_release: Option<u64>,
    /// Restarts of its present instances.
    pub restarts: u32,
    /// Since when it has had this health, as far as this life of the engine knows.
    pub since: UnixNanos,
}

/// An instance in one row.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// The record.
    pub record: std::sync::Arc<InstanceRecord>,
    /// Where it stands, its present health included.
    pub phase: Phase,
    /// Why, one sentence; empty when healthy.
    pub why: String,
}

/// Why a healthy instance gets nothing new although it does not leave yet.
pub(crate) const STANDS_BY: &str = "stands by while those that replaced it are watched";

/// Every service, by name.
pub fn services(state: &State) -> Vec<ServiceView> {
    state.services.keys().filter_map(|name| service(state, name)).collect()
}

/// One service.
pub fn service(state: &State, name: &ServiceName) -> Option<ServiceView> {
    let record = state.services.get(name)?;
    let (health, why) = health(state, record);
    let instances: Vec<_> = state.instances_of(name).map(|r| instance(state, r)).collect();
    let since = state.live.health_since.get(name).map_or(record.created_at, |(_, at)| *at);
    Some(ServiceView {
        name: name.clone(),
        health,
        why,
        desired: record.desired_replicas,
        unplaced: match state.refusal(record) {
            Some(_) => record.desired_replicas,
            None => record.desired_replicas - state.wanted(record),
        },
        healthy: u32::try_from(healthy_count(state, name)).unwrap_or(u32::MAX),
        restarts: instances.iter().map(|i| i.record.restarts).sum(),
        instances,
        release: record.release,
        next_release: record.target,
        failed_release: record.failed_release,
        since,
    })
}

/// What a service depends on, near or far, that is not as it should be: what may be the reason why
/// the service is not either. The nearest come first.
pub fn causes(state: &State, name: &ServiceName) -> Vec<ServiceView> {
    let mut found: Vec<ServiceView> = Vec::new();
    let mut seen = vec![name.clone()];
    let mut at = 0;
    while let Some(next) = seen.get(at).cloned() {
        at += 1;
        let definition = state.services.get(&next).map(|s| &s.definition);
        for on in definition.into_iter().flat_map(|d| &d.depends_on) {
            if seen.contains(&on.service) {
                continue;
            }
            seen.push(on.service.clone());
            let fine = [Health::Healthy, Health::Completed];
            found.extend(service(state, &on.service).filter(|view| !fine.contains(&view.health)));
        }
    }
    found
}

/// A service's releases, newest first, each with its word: `serving`, `arriving`, `leaving`,
/// `failed` or `old`.
pub fn releases(state: &State, name: &ServiceName) -> Vec<(std::sync::Arc<Release>, &'static str)> {
    let live =
        |number: u64| state.instances_of(name).any(|r| r.release == number && r.phase.is_live());
    let of = state.releases.values().filter(|release| release.service == *name);
    of.rev()
        .map(|release| {
            let word = match release.state {
                ReleaseState::Arriving => "arriving",
                ReleaseState::Serving => "serving",
                ReleaseState::Failed => "failed",
                ReleaseState::Old if live(release.number) => "leaving",
                ReleaseState::Old => "old",
            };
            (release.clone(), word)
        })
        .collect()
}

/// One instance.
pub fn instance(state: &State, record: &std::sync::Arc<InstanceRecord>) -> InstanceView {
    let phase = state.phase(record);
    let seen = state.observed.as_ref().and_then(|seen| seen.instances.get(&record.id));
    let detail = seen.map(|r| why::detail(&r.detail)).unwrap_or_default();
    let why = match phase {
        Phase::Healthy if state.stands_by(record) => STANDS_BY.to_owned(),
        Phase::Healthy => String::new(),
        Phase::Unhealthy if state.live.broken.contains_key(&record.id) => {
            state.live.broken.get(&record.id).cloned().unwrap_or_default()
        }
        Phase::Unhealthy if state.live.late.contains(&record.id) => {
            let release = state.release(record.service(), record.release);
            let within = release.map(|r| supervise::start_within(&r.definition));
            why::late(state, record, within.unwrap_or_default())
        }
        Phase::Unhealthy if record.phase == Phase::Starting => {
            format!("has not been healthy yet: it fails its health check{detail}")
        }
        Phase::Unhealthy => format!("fails its health check{detail}"),
        Phase::Starting if record.started_at.is_some() => {
            format!("runs and is not healthy yet{detail}")
        }
        Phase::Starting => format!("is being started{detail}"),
        Phase::Draining if record.stop_at.is_some() => format!("was asked to stop: {}", record.why),
        Phase::Draining => format!("finishes what it has and stops then: {}", record.why),
        Phase::Pending | Phase::Stopped | Phase::Failed => record.why.clone(),
    };
    InstanceView { record: record.clone(), phase, why }
}

fn healthy_count(state: &State, name: &ServiceName) -> usize {
    let of = state.instances_of(name);
    let stand_by = state.services.get(name).filter(|service| state.has_moved(service));
    let serves = |r: &InstanceRecord| stand_by.is_none_or(|service| state.is_new(service, r));
    of.filter(|r| state.phase(r) == Phase::Healthy && r.then.is_none() && serves(r)).count()
}

/// The word and the sentence.
pub(crate) fn health(state: &State, service: &ServiceRecord) -> (Health, String) {
    let name = &service.name;
    let live = state.instances_of(name).filter(|r| r.phase.is_live()).count();
    let stopped = |why: &str| match live {
        0 => (Health::Stopped, why.to_owned()),
        n => (Health::Stopped, format!("{why}; {n} still to stop")),
    };
    match service.intent {
        Intent::Stop => return stopped("stopped by hand"),
        Intent::Remove => return stopped("on its way out"),
        Intent::Run if service.desired_replicas == 0 && service.rollout.is_none() => {
            return stopped("scaled to zero");
        }
        Intent::Run => {}
    }
    if service.gated {
        return match gate::waits_for(state, name) {
            Some(wait) if wait.hopeless => (Health::Failed, wait.why),
            Some(wait) => (Health::Waiting, wait.why),
            None => (Health::Starting, "its first instances are about to start".to_owned()),
        };
    }
    let shortage = state.shortage(service);
    if let Some(why) = shortage.as_ref().filter(|_| state.instances_of(name).next().is_none()) {
        return (Health::Failed, why.clone());
    }
    let healthy = healthy_count(state, name);
    if let Some(said) = rolling(state, service, healthy) {
        return said;
    }
    let desired = state.wanted(service) as usize;
    if healthy >= desired {
        return match (service.failed_release, shortage) {
            (Some(number), _) => (Health::Degraded, failed_release(state, service, number)),
            (None, Some(why)) if service.desired_replicas as usize > desired => {
                (Health::Degraded, why)
            }
            (None, _) => (Health::Healthy, String::new()),
        };
    }
    let completed = state.instances_of(name).filter(|r| r.is_completed()).count();
    if completed >= desired {
        return (Health::Completed, String::new());
    }
    let trouble = worst(state, name);
    let fails = trouble.as_ref().is_some_and(|(_, fails)| *fails);
    let why = trouble.map(|(why, _)| why).unwrap_or_else(|| "instances are made".to_owned());
    if !fails && only_first_starts(state, name) {
        return match healthy {
            0 => (Health::Starting, why),
            n => (Health::Starting, format!("{n} of {desired} healthy: {why}")),
        };
    }
    match healthy {
        0 if fails => (Health::Failed, why),
        0 if service.release.is_some() => (Health::Failed, format!("none is healthy: {why}")),
        0 => (Health::Starting, why),
        n => (Health::Degraded, format!("{n} of {desired} healthy: {why}")),
    }
}

/// What is missing has never run yet: a first start, or a scale up. Nothing is wrong.
fn only_first_starts(state: &State, name: &ServiceName) -> bool {
    let stays = state.instances_of(name).filter(|r| r.then.is_none());
    let mut missing = stays.filter(|r| state.phase(r) != Phase::Healthy);
    missing.all(|r| {
        let waits = matches!(r.phase, Phase::Pending | Phase::Starting);
        waits && r.restarts == 0 && r.failures == 0 && r.healthy_at.is_none()
    })
}

fn rolling(state: &State, service: &ServiceRecord, healthy: usize) -> Option<(Health, String)> {
    let rollout = service.rollout.as_ref()?;
    let goal = service.goal().unwrap_or_default();
    let name = &service.name;
    let of_goal =
        |r: &&std::sync::Arc<InstanceRecord>| state.is_new(service, r) && r.then.is_none();
    let new = state.instances_of(name).filter(of_goal);
    let new = new.filter(|r| state.phase(r) == Phase::Healthy).count();
    let desired = state.wanted(service);
    if let Some(reason) = &rollout.paused {
        let word = if healthy > 0 { Health::Degraded } else { Health::Failed };
        return Some((word, format!("the update to release {goal} is paused: {reason}")));
    }
    if healthy == 0 && service.release.is_some() && !only_first_starts(state, name) {
        let why = worst(state, name).map(|(why, _)| why).unwrap_or_default();
        return Some((Health::Failed, format!("none is healthy: {why}")));
    }
    if rollout.gated {
        let wait = gate::waits_for(state, name)?;
        let word = if wait.hopeless { Health::Degraded } else { Health::Updating };
        let what = match rollout.kind {
            RolloutKind::Restart => "its restart".to_owned(),
            _ => format!("release {goal}"),
        };
        return Some((word, format!("{what} {}", wait.why)));
    }
    let proven = matches!(rollout.kind, RolloutKind::Restart | RolloutKind::Rollback);
    if proven && state.has_moved(service) && service.failed_release.is_none() {
        return Some((Health::Healthy, String::new()));
    }
    Some(match rollout.kind {
        RolloutKind::Restart => (Health::Updating, format!("{new} of {desired} restarted")),
        RolloutKind::Return => {
            let why = match service.failed_release {
                Some(number) => failed_release(state, service, number),
                None => format!("returns to release {goal}: {new} of {desired}"),
            };
            (Health::Updating, why)
        }
        _ => (Health::Updating, format!("release {goal}: {new} of {desired} healthy")),
    })
}

fn failed_release(state: &State, service: &ServiceRecord, number: u64) -> String {
    let reason = state.release(&service.name, number).map(|r| r.why.clone()).unwrap_or_default();
    let serving = service.release.unwrap_or_default();
    format!("release {number} did not make it, release {serving} serves on: {reason}")
}

/// So many failures in a row still count as starting.
const FALSE_STARTS: u32 = 2;

/// The most telling instance that is not healthy, and whether it has failed rather than not come
/// yet.
fn worst(state: &State, name: &ServiceName) -> Option<(String, bool)> {
    let of = state.instances_of(name).filter(|r| r.then != Some(Then::Remove));
    let rank = |r: &InstanceRecord| match state.phase(r) {
        Phase::Failed => 0,
        Phase::Pending if r.failures > 0 => 1,
        Phase::Unhealthy => 2,
        Phase::Starting if r.failures > 0 => 3,
        Phase::Draining => 4,
        Phase::Stopped => 5,
        Phase::Starting => 6,
        Phase::Pending => 7,
        Phase::Healthy => 8,
    };
    let record = of.filter(|r| rank(r) < 8).min_by_key(|r| (rank(r), r.id.slot()))?;
    // One that never served may fall over once or twice: what it needs may not be there yet.
    let fails = match rank(record) {
        0 | 2 => true,
        1 | 3 => record.failures > FALSE_STARTS,
        _ => false,
    };
    let mut sentence = instance(state, record).why;
    if let (Phase::Starting, Some(exit)) = (record.phase, &record.last_exit)
        && record.failures > 0
    {
        sentence = format!("{} before and starts again", why::ended(exit));
    }
    if sentence.is_empty() {
        sentence = "is about to start".to_owned();
    }
    Some((format!("{} {sentence}", record.id), fails))
}

/// Remembers since when each service has had its health, and says when it changes for good or bad.
pub(crate) fn note_health(work: &mut Work) {
    let services: Vec<_> = work.state.services.values().cloned().collect();
    for record in services {
        let name = &record.name;
        let (health, why) = health(&work.state, &record);
        let before = work.state.live.health_since.get(name).copied();
        if before.is_some_and(|(word, _)| word == health) {
            continue;
        }
        work.state.live.health_since.insert(name.clone(), (health, work.now.wall));
        // The first look of a life is not a change, except that whoever waits has begun to.
        if before.is_none() && health != Health::Waiting {
            continue;
        }
        let (level, kind, message) = match health {
            Health::Healthy => (Level::Info, "service-healthy", format!("{name} is healthy")),
            Health::Completed => {
                (Level::Info, "service-completed", format!("{name} has completed"))
            }
            Health::Waiting => (Level::Info, "service-waiting", format!("{name} {why}")),
            Health::Degraded => (Level::Warn, "service-degraded", format!("{name}: {why}")),
            Health::Failed => (Level::Error, "service-failed", format!("{name}: {why}")),
            _ => continue,
        };
        if let Some(more) = work.may_tell(name.as_str()) {
            work.say(level, kind, name, format!("{message}{more}"));
        }
    }
    let known = &work.state.services;
    work.state.live.health_since.retain(|name, _| known.contains_key(name));
    work.state.live.warned.retain(|name, _| known.contains_key(name));
    let instances = &work.state.instances;
    work.state.live.told.retain(|about, _| {
        let instance = about.parse::<base::InstanceId>();
        known.contains_key(about.as_str()) || instance.is_ok_and(|id| instances.contains_key(&id))
    });
}
