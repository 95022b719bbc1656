//! What the API shows, made from control's state, the agent's reports and the figures.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use base::ServiceName;
use console::wire::{
    CallView, Cause, EventView, Health, InstanceView, Isolation, Overview, PortView, ReleaseView,
    ServiceDetail, ServiceView, Status, Traffic, Why,
};
use control::{EventRecord, Level, Release, ReleaseState, State};
use spec::Service;
use spec::model::{NetworkMode, PortKind};

use super::api::{Shared, lock};
use super::convert;
use super::figures::Figures;
use super::published::Published;

/// Events on a service's own page.
const EVENTS_SHOWN: usize = 50;
/// Newest events among which those of a service are looked for.
const EVENTS_LOOKED_AT: usize = 1000;

/// The engine itself.
pub(super) fn status(shared: &Shared) -> Status {
    let state = shared.control.state();
    let isolation = shared.agent.isolation();
    let (memory_bytes, cpu_micros) = {
        let process = lock(&shared.process);
        (process.resident_bytes(), process.cpu_micros())
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        app: state.app.as_ref().map(|app| app.name.clone()),
        files: state
            .app
            .iter()
            .flat_map(|app| app.files.iter().map(|f| f.display().to_string()))
            .collect(),
        state_dir: shared.state_dir.display().to_string(),
        console: shared.console_url.clone(),
        addresses: shared.addresses.clone(),
        isolation: Isolation {
            mode: match isolation.mode {
                agent::Mode::Full => "full",
                agent::Mode::User => "user",
                agent::Mode::None => "none",
            }
            .to_owned(),
            missing: isolation.missing.clone(),
        },
        started_at: shared.started_at,
        ending: shared.ending.load(Ordering::Relaxed),
        problems: shared.room.problems(),
        memory_bytes,
        cpu_micros,
        revision: shared.revision(),
    }
}

/// Services and calls.
pub(super) fn overview(shared: &Shared) -> Overview {
    let state = shared.control.state();
    let figures = shared.figures();
    let services = state.services.keys().map(|name| service(shared, &state, &figures, name));
    Overview {
        services: services.collect(),
        calls: figures.calls.iter().filter_map(|(group, traffic)| call(group, *traffic)).collect(),
        status: status(shared),
    }
}

fn call(group: &[String], traffic: Traffic) -> Option<CallView> {
    let [caller, service] = group else { return None };
    let bytes = traffic.received_bytes_per_second + traffic.sent_bytes_per_second;
    if traffic.requests_per_second + bytes == 0.0 && traffic.sessions_open == 0 {
        return None;
    }
    Some(CallView { caller: caller.parse().ok(), service: service.parse().ok()?, traffic })
}

/// One service with everything.
pub(super) fn detail(shared: &Shared, name: &str) -> Option<ServiceDetail> {
    let state = shared.control.state();
    let name: ServiceName = name.parse().ok()?;
    let record = state.services.get(&name)?;
    let goal = state.goal(&name)?;
    let mut releases: Vec<&Release> =
        state.releases.values().map(|r| &**r).filter(|r| r.service == name).collect();
    releases.sort_by_key(|r| std::cmp::Reverse(r.number));
    let mut events = shared.control.events(0, EVENTS_LOOKED_AT).unwrap_or_default();
    events.retain(|e| e.service.as_ref() == Some(&name));
    events.reverse();
    events.truncate(EVENTS_SHOWN);
    let serving = record.release;
    Some(ServiceDetail {
        service: service(shared, &state, &shared.figures(), &name),
        releases: releases.into_iter().map(|r| release(r, serving)).collect(),
        events: events.iter().map(event).collect(),
        definition: convert::shown(&goal.definition),
        skipped_steps: convert::prepared(goal).skipped_steps,
    })
}

/// One service, with what led to how it is.
pub(super) fn why_so(shared: &Shared, name: &str) -> Option<Why> {
    let state = shared.control.state();
    let name: ServiceName = name.parse().ok()?;
    state.services.get(&name)?;
    let cause = |seen: control::ServiceView| Cause {
        service: seen.name,
        health: health(seen.health),
        why: seen.why,
    };
    Some(Why {
        service: service(shared, &state, &shared.figures(), &name),
        causes: control::view::causes(&state, &name).into_iter().map(cause).collect(),
        history: shared.control.history(&name).iter().map(event).collect(),
    })
}

fn release(release: &Release, serving: Option<u64>) -> ReleaseView {
    let state = match release.state {
        ReleaseState::Arriving => "arriving",
        ReleaseState::Serving => "serving",
        ReleaseState::Old if serving == Some(release.number) => "leaving",
        ReleaseState::Old => "old",
        ReleaseState::Failed => "failed",
    };
    ReleaseView {
        number: release.number,
        state: state.to_owned(),
        created_at: release.created_at,
        source: source(release),
        change: release.change.clone(),
    }
}

fn source(release: &Release) -> String {
    let definition = &release.definition;
    match (&definition.build, definition.extension.native, &definition.image) {
        (Some(build), _, _) => build.context.display().to_string(),
        (None, false, Some(image)) => image.clone(),
        _ => convert::prepared(release).argv.join(" "),
    }
}

/// One event.
pub(super) fn event(event: &EventRecord) -> EventView {
    EventView {
        seq: event.seq,
        at: event.at,
        level: match event.level {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
        .to_owned(),
        service: event.service.clone(),
        instance: event.instance.clone(),
        kind: event.kind.clone(),
        message: event.message.clone(),
    }
}

fn service(shared: &Shared, state: &State, figures: &Figures, name: &ServiceName) -> ServiceView {
    let Some(seen) = control::view::service(state, name) else { return gone(name) };
    let goal = state.goal(name);
    let prepared = goal.map(|release| convert::prepared(release)).unwrap_or_default();
    let record = state.services.get(name);
    let definition = record.map(|record| &record.definition);
    let published = definition.map(|d| shared.host_ports.of(d)).unwrap_or_default();
    let has_name = definition.is_some_and(|d| d.networking.mode == NetworkMode::Networks);
    let refused = refused(shared, name, &published);
    let instances: Vec<InstanceView> =
        seen.instances.iter().map(|seen| instance(shared, figures, seen)).collect();
    ServiceView {
        name: name.clone(),
        health: match (health(seen.health), &refused) {
            (Health::Healthy, Some(_)) => Health::Degraded,
            (health, _) => health,
        },
        why: why(shared, state, name, refused.unwrap_or(seen.why)),
        source: goal.map(|release| source(release)).unwrap_or_default(),
        address: record.filter(|_| has_name).map(|r| r.address.to_string()).unwrap_or_default(),
        ports: if has_name { ports(&prepared.ports, definition) } else { Vec::new() },
        published: published.iter().map(|published| url(published, definition)).collect(),
        release: seen.release,
        next_release: seen.next_release,
        stands_in_for: definition.filter(|d| d.stand_in.is_some()).and_then(|d| d.image.clone()),
        failed_release: seen.failed_release,
        desired: seen.desired,
        unplaced: seen.unplaced,
        healthy: seen.healthy,
        traffic: traffic(&figures.services, name.as_str()),
        cpu_cores: instances.iter().map(|i| i.cpu_cores).sum(),
        memory_bytes: instances.iter().map(|i| i.memory_bytes).sum(),
        restarts: seen.restarts,
        since: seen.since,
        warnings: warnings(shared, &instances),
        instances,
    }
}

/// What instances do without, each once.
fn warnings(shared: &Shared, instances: &[InstanceView]) -> Vec<String> {
    let each = instances.iter().filter_map(|instance| shared.agent.status(&instance.id));
    let all: BTreeSet<String> = each.flat_map(|status| status.warnings).collect();
    all.into_iter().collect()
}

fn ports(tcp: &BTreeSet<u16>, definition: Option<&Service>) -> Vec<PortView> {
    let spoken = |port| match definition.and_then(|d| d.protocol(port)) {
        Some(spec::model::Protocol::Http) => "http",
        Some(spec::model::Protocol::Tcp) => "tcp",
        None => "detect",
    };
    let udp = definition.map(Service::udp_ports).unwrap_or_default();
    let tcp = tcp.iter().map(|&port| (port, spoken(port)));
    let all = tcp.chain(udp.into_iter().map(|port| (port, "udp")));
    all.map(|(port, protocol)| PortView { port, protocol: protocol.to_owned() }).collect()
}

/// The sentence, and below it what a person could not know.
fn why(shared: &Shared, state: &State, name: &ServiceName, why: String) -> String {
    let shared_ports = shared.agent.isolation().addressing == agent::Addressing::Port;
    match convert::clash(state, name) {
        Some(clash) if shared_ports && !why.is_empty() => format!("{why}\n{clash}"),
        _ => why,
    }
}

/// Why the edge does not listen where the service should be reached, if it does not.
fn refused(shared: &Shared, name: &ServiceName, published: &[Published]) -> Option<String> {
    let status = shared.edge_status.borrow();
    published.iter().find_map(|published| {
        let listeners = match published.kind {
            PortKind::Tcp => &status.listeners,
            PortKind::Udp => &status.udp_listeners,
        };
        let mut bound = shared.host_ports.bound_for(published.addr).into_iter();
        bound.find_map(|addr| match listeners.get(&addr) {
            Some(Err(problem)) => Some(format!("`{name}` is not reached at {addr}: {problem}")),
            _ => None,
        })
    })
}

fn url(published: &Published, definition: Option<&Service>) -> String {
    let protocol = definition.and_then(|d| d.protocol(published.target));
    let scheme = match (published.kind, protocol) {
        (PortKind::Udp, _) => "udp",
        (PortKind::Tcp, Some(spec::model::Protocol::Tcp)) => "tcp",
        _ => "http",
    };
    let addr = published.addr;
    match addr.ip().is_unspecified() {
        true => format!("{scheme}://127.0.0.1:{}", addr.port()),
        false => format!("{scheme}://{addr}"),
    }
}

fn traffic(by: &super::figures::ByGroup, name: &str) -> Traffic {
    by.get([name.to_owned()].as_slice()).copied().unwrap_or_default()
}

fn instance(shared: &Shared, figures: &Figures, seen: &control::InstanceView) -> InstanceView {
    let record = &*seen.record;
    let id = &record.id;
    let status = shared.agent.status(id);
    let used = lock(&shared.usage).get(id).copied().unwrap_or_default();
    let name = id.to_string();
    let address = match record.port_env.or(status.as_ref().and_then(port_env)) {
        Some(port) => format!("127.0.0.1:{port}"),
        None if status.as_ref().is_some_and(|s| s.spec.offline) => "none".to_owned(),
        None => record.address.to_string(),
    };
    let running = status.as_ref().filter(|s| s.pid.is_some());
    InstanceView {
        id: id.clone(),
        state: seen.phase.as_str().to_owned(),
        why: seen.why.clone(),
        release: record.release,
        pid: running.and_then(|s| s.pid),
        address,
        restarts: record.restarts,
        started_at: running.and_then(|s| s.started_at).or(record.started_at),
        cpu_cores: figures.cpu_cores.get(&name).copied().unwrap_or_default(),
        memory_bytes: used.memory_bytes,
        inflight: convert::under_way(&shared.edge_status.borrow(), id),
        traffic: traffic(&figures.instances, &name),
    }
}

fn port_env(status: &agent::InstanceStatus) -> Option<u16> {
    convert::reported(status, None).port_env
}

fn health(health: control::view::Health) -> Health {
    use control::view::Health as Seen;
    match health {
        Seen::Waiting => Health::Waiting,
        Seen::Starting => Health::Starting,
        Seen::Healthy => Health::Healthy,
        Seen::Updating => Health::Updating,
        Seen::Degraded => Health::Degraded,
        Seen::Failed => Health::Failed,
        Seen::Completed => Health::Completed,
        Seen::Stopped => Health::Stopped,
    }
}

/// A service that went away between two looks.
fn gone(name: &ServiceName) -> ServiceView {
    ServiceView {
        name: name.clone(),
        health: Health::Stopped,
        why: "it is gone".to_owned(),
        source: String::new(),
        address: String::new(),
        ports: Vec::new(),
        published: Vec::new(),
        release: None,
        next_release: None,
        stands_in_for: None,
        failed_release: None,
        desired: 0,
        unplaced: 0,
        healthy: 0,
        instances: Vec::new(),
        warnings: Vec::new(),
        traffic: Traffic::default(),
        cpu_cores: 0.0,
        memory_bytes: 0,
        restarts: 0,
        since: base::UnixNanos::default(),
    }
}
