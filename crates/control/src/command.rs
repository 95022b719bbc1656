//! What people ask for, as changes of what is wanted. Carrying it out is left to convergence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Problem, ServiceName};
use serde_json::Value;

use crate::change;
use crate::event::Command;
use crate::record::{
    AppRecord, Intent, Level, Phase, Release, ReleaseState, RolloutKind, ServiceRecord,
};
use crate::rollout;
use crate::state::State;
use crate::supervise;
use crate::work::Work;

/// Most instances of one service.
pub const REPLICAS_MAX: u32 = 1000;

/// Releases kept of a service, those in use aside.
const RELEASES_KEPT: usize = 20;

/// Why a command cannot be carried out; it would change nothing then.
///
/// Codes: `not-found` for a service or release that is not there, `conflict` for what the present
/// state does not allow, `bad-command` for what no state would allow.
pub fn check(state: &State, command: &Command) -> Result<(), Problem> {
    match command {
        Command::Up { app, services, .. } => check_up(state, app, services),
        Command::Down => Ok(()),
        Command::Stop { services }
        | Command::Start { services }
        | Command::Restart { services } => {
            services.iter().try_for_each(|name| known(state, name).map(|_| ()))
        }
        Command::Scale { service, replicas } => {
            scalable(&*known(state, service)?)?;
            fits(*replicas, service)?;
            let others = state.services.values().filter(|s| s.name != *service);
            room(state, others.map(|s| s.desired_replicas).sum::<u32>() + replicas)
        }
        Command::Rollback { service, release } => {
            let service = known(state, service)?;
            rollback_to(state, &service, *release).map(|_| ())
        }
    }
}

fn check_up(state: &State, app: &spec::App, services: &[ServiceName]) -> Result<(), Problem> {
    if let Some(runs) = state.app.as_ref().filter(|runs| runs.name != app.name) {
        let message = format!("cannot bring up `{}`: this engine runs `{}`", app.name, runs.name);
        return Err(Problem::new("conflict", message)
            .with_cause("one engine runs one app")
            .with_next("ms down, or use another folder with --state"));
    }
    for name in services {
        if !app.services.contains_key(name) {
            return Err(Problem::new(
                "not-found",
                format!("there is no service `{name}` in the file"),
            )
            .with_next("ms config shows the services of the file"));
        }
    }
    for (name, service) in &app.services {
        fits(service.replicas, name)?;
    }
    let names: BTreeSet<_> = app.services.keys().chain(state.services.keys()).collect();
    let most = crate::address::each_max(state.pool);
    if names.len() > most as usize {
        return Err(pool_too_small("services", names.len(), most));
    }
    room(state, app.services.values().map(|s| s.replicas).sum())
}

fn known(state: &State, name: &ServiceName) -> Result<Arc<ServiceRecord>, Problem> {
    let service = state.services.get(name).filter(|s| s.intent != Intent::Remove);
    service.cloned().ok_or_else(|| {
        Problem::new("not-found", format!("there is no service `{name}`"))
            .with_next("ms ps shows the services that there are")
    })
}

fn scalable(service: &ServiceRecord) -> Result<(), Problem> {
    if !service.definition.global {
        return Ok(());
    }
    Err(Problem::new("conflict", format!("`{}` cannot be scaled", service.name))
        .with_cause("it is `mode: global`: one instance runs on every node")
        .with_next("remove `mode: global` from the file, then ms up"))
}

fn fits(replicas: u32, name: &ServiceName) -> Result<(), Problem> {
    if replicas <= REPLICAS_MAX {
        return Ok(());
    }
    Err(Problem::new("bad-command", format!("cannot run {replicas} instances of `{name}`"))
        .with_cause(format!("{REPLICAS_MAX} instances of one service is the limit")))
}

fn room(state: &State, instances: u32) -> Result<(), Problem> {
    let most = crate::address::each_max(state.pool);
    match instances <= most {
        true => Ok(()),
        false => Err(pool_too_small("instances", instances as usize, most)),
    }
}

fn pool_too_small(what: &str, wanted: usize, max: u32) -> Problem {
    Problem::new("conflict", format!("there are not enough addresses for {wanted} {what}"))
        .with_cause(format!("the pool has room for {max}"))
        .with_next("start the engine with a larger pool: --addresses 127.64.0.0/16")
}

fn rollback_to(
    state: &State,
    service: &ServiceRecord,
    release: Option<u64>,
) -> Result<u64, Problem> {
    let name = &service.name;
    let found = match release {
        Some(number) => state.release(name, number).map(|r| r.number),
        // A rollout under way is undone; otherwise the newest that served before this one.
        None if service.target.is_some() && service.release.is_some() => service.release,
        None => {
            let of = state.releases.values().filter(|r| r.service == *name && r.served);
            of.map(|r| r.number).filter(|n| Some(*n) < service.release).max()
        }
    };
    let number = found.ok_or_else(|| {
        let what = release.map_or("no earlier release".to_owned(), |n| format!("no release {n}"));
        Problem::new("not-found", format!("`{name}` has {what} to go back to"))
            .with_next(format!("ms ps {name} --releases shows what there is"))
    })?;
    if service.goal() == Some(number) {
        let message = format!("`{name}` runs release {number} already");
        return Err(Problem::new("conflict", message));
    }
    Ok(number)
}

pub(crate) fn carry_out(work: &mut Work, command: &Command) {
    if check(&work.state, command).is_err() {
        return; // The caller was told by `check`; a step changes nothing.
    }
    match command {
        Command::Up { app, services, recreate, prepared } => {
            up(work, app, services, *recreate, prepared);
        }
        Command::Down => {
            if let Some(app) = &mut work.state.app {
                Arc::make_mut(app).leaving = true;
            }
            for name in all(&work.state) {
                work.service(&name, |s| s.intent = Intent::Remove);
            }
        }
        Command::Stop { services } => {
            for name in chosen(&work.state, services) {
                work.service(&name, |s| s.intent = Intent::Stop);
            }
        }
        Command::Start { services } => {
            for name in chosen(&work.state, services) {
                wake(work, &name);
                revive(work, &name, true);
            }
        }
        Command::Restart { services } => restart(work, services),
        Command::Scale { service, replicas } => {
            work.service(service, |s| s.desired_replicas = *replicas);
            let message = format!("{service} is scaled to {replicas}");
            work.say(Level::Info, "service-scaled", service, message);
        }
        Command::Rollback { service, release } => {
            let record = known(&work.state, service);
            let found = record.and_then(|record| rollback_to(&work.state, &record, *release));
            if let Ok(number) = found {
                go_to(work, service, number, RolloutKind::Rollback);
                work.service(service, |s| s.failed_release = None);
                let message = format!("{service} goes back to release {number}");
                work.say(Level::Info, "rollback", service, message);
            }
        }
    }
}

fn all(state: &State) -> Vec<ServiceName> {
    state.services.keys().cloned().collect()
}

/// The named services, or all that are to stay.
fn chosen(state: &State, names: &[ServiceName]) -> Vec<ServiceName> {
    match names {
        [] => {
            let stay = state.services.values().filter(|s| s.intent != Intent::Remove);
            stay.map(|s| s.name.clone()).collect()
        }
        names => names.to_vec(),
    }
}

fn up(
    work: &mut Work,
    app: &spec::App,
    services: &[ServiceName],
    recreate: bool,
    prepared: &BTreeMap<ServiceName, Value>,
) {
    let created_at = work.state.app.as_ref().map_or(work.now.wall, |app| app.created_at);
    work.state.app = Some(Arc::new(AppRecord {
        name: app.name.clone(),
        project_dir: app.project_dir.clone(),
        files: app.files.clone(),
        leaving: false,
        created_at,
    }));
    let selected = app.with_dependencies(services);
    if services.is_empty() {
        for name in all(&work.state).into_iter().filter(|n| !app.services.contains_key(n)) {
            work.service(&name, |s| s.intent = Intent::Remove);
            let message = format!("{name} is not in the file any more and goes");
            work.say(Level::Info, "service-leaving", &name, message);
        }
    }
    for name in &selected {
        let Some(definition) = app.services.get(name) else { continue };
        let prepared = prepared.get(name).unwrap_or(&Value::Null);
        if work.state.services.contains_key(name) {
            renew(work, definition, prepared, recreate);
        } else {
            introduce(work, definition, prepared);
        }
    }
    work.dirty = true;
}

fn introduce(work: &mut Work, definition: &spec::Service, prepared: &Value) {
    let name = &definition.name;
    let taken = work.state.addresses();
    let Some(address) = crate::address::for_service(work.state.pool, &taken) else {
        let message = format!("{name} cannot have an address: the pool is used up");
        return work.say(Level::Error, "addresses-used-up", name, message);
    };
    let record = ServiceRecord {
        name: name.clone(),
        address,
        desired_replicas: definition.replicas,
        definition: definition.clone(),
        intent: Intent::Run,
        gated: true,
        release: None,
        target: None,
        rollout: None,
        failed_release: None,
        restart_nonce: 0,
        last_release: 0,
        created_at: work.now.wall,
    };
    work.state.services.insert(name.clone(), Arc::new(record));
    make_release(work, definition, prepared, "first release");
}

fn renew(work: &mut Work, definition: &spec::Service, prepared: &Value, recreate: bool) {
    let name = &definition.name;
    wake(work, name);
    let Some(service) = work.state.services.get(name).cloned() else { return };
    let in_place = spec::diff_in_place(&service.definition, definition);
    if let Some(what) = &in_place {
        work.say(Level::Info, "service-changed", name, format!("{name}: {what}"));
    }
    // A file in which only lines moved is the same file.
    if in_place.is_some() || spec::diff(&service.definition, definition).is_some() {
        work.service(name, |s| {
            if s.definition.replicas != definition.replicas || definition.global {
                s.desired_replicas = definition.replicas;
            }
            s.definition = definition.clone();
        });
    }
    let change = match work.state.goal(name) {
        Some(goal) => change::against(goal, definition, prepared),
        None => Some("first release".to_owned()),
    };
    if change.is_none() && !recreate {
        // The same again: whoever asks wants a paused rollout and failed instances tried again.
        resume(work, name);
        return revive(work, name, false);
    }
    let serving = service.release.and_then(|number| work.state.release(name, number));
    let same_as_serving = service.target.is_some()
        && serving.is_some_and(|r| change::against(r, definition, prepared).is_none());
    if same_as_serving && !recreate {
        if let Some(number) = service.release {
            go_to(work, name, number, RolloutKind::Update);
        }
        return;
    }
    make_release(work, definition, prepared, &change.unwrap_or_else(|| "recreated".to_owned()));
}

/// A service that was stopped or on its way out is wanted again.
fn wake(work: &mut Work, name: &ServiceName) {
    work.service(name, |s| {
        if s.intent != Intent::Run {
            s.intent = Intent::Run;
            s.gated = true;
        }
    });
}

/// A paused rollout goes on as if nothing had failed.
fn resume(work: &mut Work, name: &ServiceName) {
    let paused = work.state.services.get(name).and_then(|s| s.rollout.as_ref());
    if paused.is_none_or(|rollout| rollout.paused.is_none()) {
        return;
    }
    work.service(name, |s| {
        if let Some(rollout) = &mut s.rollout {
            (rollout.paused, rollout.failures) = (None, 0);
        }
    });
    let now = work.now.steady;
    let failed: Vec<_> =
        work.state.instances_of(name).filter(|r| r.failed_rollout).map(|r| r.id.clone()).collect();
    for id in failed {
        work.instance(&id, |r| {
            (r.restarts, r.counted, r.failed_rollout) = (0, 0, false);
            r.launched_at = r.launched_at.map(|_| now);
        });
    }
}

/// Starts instances again that have ended for good.
fn revive(work: &mut Work, name: &ServiceName, completed_too: bool) {
    let ended: Vec<_> = work
        .state
        .instances_of(name)
        .filter(|r| r.then.is_none())
        .filter(|r| r.phase == Phase::Failed || (completed_too && r.phase == Phase::Stopped))
        .map(|r| r.id.clone())
        .collect();
    // Whoever asks has put something right, and does not wait out what it had come to before.
    let backing_off = work.state.instances_of(name).filter(|r| r.backoff_until.is_some());
    let backing_off: Vec<_> = backing_off.map(|r| r.id.clone()).collect();
    for id in backing_off {
        work.instance(&id, |r| {
            r.backoff_until = None;
            (r.restarts, r.counted, r.failures, r.failed_rollout) = (0, 0, 0, false);
        });
    }
    if !ended.is_empty() && !work.state.instances_of(name).any(|r| r.phase.is_live()) {
        work.service(name, |s| s.gated = true);
    }
    for id in ended {
        work.instance(&id, |r| {
            supervise::next_attempt(r);
            r.why = "starts again on request".to_owned();
            (r.restarts, r.counted, r.failures, r.failed_rollout) = (0, 0, 0, false);
        });
    }
}

fn make_release(work: &mut Work, definition: &spec::Service, prepared: &Value, change: &str) {
    let name = &definition.name;
    let Some(service) = work.state.services.get(name).cloned() else { return };
    let number = service.last_release + 1;
    let release = Release {
        service: name.clone(),
        number,
        created_at: work.now.wall,
        definition: definition.clone(),
        prepared: prepared.clone(),
        change: change.to_owned(),
        state: ReleaseState::Arriving,
        why: String::new(),
        served: false,
        pre_started: false,
    };
    work.state.releases.insert((name.clone(), number), Arc::new(release));
    work.service(name, |s| {
        s.last_release = number;
        s.failed_release = None;
    });
    let message = format!("{name}: release {number} ({change})");
    work.say(Level::Info, "release-created", name, message);
    go_to(work, name, number, RolloutKind::Update);
    prune(work, name);
}

/// Sets the release that a service moves to.
fn go_to(work: &mut Work, name: &ServiceName, number: u64, kind: RolloutKind) {
    let Some(service) = work.state.services.get(name).cloned() else { return };
    if let Some(overtaken) = service.target.filter(|target| *target != number) {
        work.release(name, overtaken, |r| r.state = ReleaseState::Old);
    }
    let back = service.release == Some(number);
    work.service(name, |s| s.target = (!back).then_some(number));
    if !back {
        work.release(name, number, |r| r.state = ReleaseState::Arriving);
    }
    let first = service.release.is_none() && work.state.instances_of(name).next().is_none();
    if first {
        work.service(name, |s| s.rollout = None);
    } else {
        rollout::begin(work, name, if back { RolloutKind::Return } else { kind });
    }
}

fn restart(work: &mut Work, services: &[ServiceName]) {
    let mut names: BTreeSet<_> = chosen(&work.state, services).into_iter().collect();
    // `depends_on: {restart: true}` goes along.
    loop {
        let along: Vec<_> =
            names.iter().flat_map(|name| restarts_with(&work.state, name)).collect();
        let before = names.len();
        names.extend(along);
        if names.len() == before {
            break;
        }
    }
    for name in names {
        restart_one(work, &name, "");
    }
}

/// Who says `depends_on: {restart: true}` of it.
fn restarts_with(state: &State, name: &ServiceName) -> Vec<ServiceName> {
    let says = |s: &&Arc<ServiceRecord>| {
        s.definition.depends_on.iter().any(|d| d.restart && d.service == *name)
    };
    state.services.values().filter(says).map(|s| s.name.clone()).collect()
}

/// A service has changed: those that say so are restarted. One whose own update has yet to begin
/// meets the new one anyway.
pub(crate) fn restart_dependents(work: &mut Work, name: &ServiceName) {
    for dependent in restarts_with(&work.state, name) {
        let rollout = work.state.services.get(&dependent).and_then(|s| s.rollout.as_ref());
        if rollout.is_none_or(|rollout| !rollout.gated) {
            restart_one(work, &dependent, &format!(", since {name} was updated"));
        }
    }
}

fn restart_one(work: &mut Work, name: &ServiceName, why: &str) {
    let Some(service) = work.state.services.get(name).cloned() else { return };
    if service.intent != Intent::Run {
        return;
    }
    work.service(name, |s| {
        s.restart_nonce += 1;
        s.failed_release = None;
    });
    if service.rollout.is_none() && work.state.instances_of(name).next().is_some() {
        rollout::begin(work, name, RolloutKind::Restart);
    }
    work.say(Level::Info, "service-restarting", name, format!("{name} is restarted{why}"));
}

/// Forgets the oldest releases that nothing needs.
fn prune(work: &mut Work, name: &ServiceName) {
    let Some(service) = work.state.services.get(name).cloned() else { return };
    let needed = |number: u64| {
        service.release == Some(number)
            || service.goal() == Some(number)
            || work.state.instances_of(name).any(|r| r.release == number)
    };
    let of = work.state.releases.keys().filter(|(of, number)| of == name && !needed(*number));
    let idle: Vec<_> = of.cloned().collect();
    for key in idle.iter().take(idle.len().saturating_sub(RELEASES_KEPT)) {
        work.state.releases.remove(key);
    }
}
