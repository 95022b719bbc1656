//! The route plan: who gets traffic.
//!
//! An instance is ready when it is healthy, does not leave, and does not stand by behind the ones
//! that replaced it. When no instance of a service is
//! healthy, unhealthy ones get traffic rather than nobody: a wrong check must not take a service
//! down that would have answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::action::{Action, Endpoint, RoutePlan, ServiceRoute};
use crate::record::{Phase, ServiceRecord};
use crate::share;
use crate::state::State;
use crate::view;
use crate::work::Work;

/// Sends a new plan when it differs from the last one.
pub(crate) fn plan(work: &mut Work) {
    let before = work.state.live.plan.clone();
    let version = before.as_ref().map_or(0, |plan| plan.version);
    let mut plan = compute(&work.state);
    plan.version = version;
    let version = match before {
        Some(before) if *before == plan => version,
        _ => {
            plan.version += 1;
            let plan = Arc::new(plan);
            work.state.live.plan = Some(plan.clone());
            work.effect(Action::Route(plan));
            version + 1
        }
    };
    note_out(&mut work.state, version);
}

/// Remembers since which plan an instance gets nothing new.
fn note_out(state: &mut State, version: u64) {
    let Some(plan) = state.live.plan.clone() else { return };
    let endpoints = plan.services.values().flat_map(|s| &s.endpoints);
    let ready: std::collections::BTreeSet<_> =
        endpoints.filter(|e| e.ready).map(|e| &e.instance).collect();
    let out = &mut state.live.out_since;
    out.retain(|id, _| state.instances.contains_key(id) && !ready.contains(id));
    for id in state.instances.keys().filter(|id| !ready.contains(id)) {
        out.entry(id.clone()).or_insert(version);
    }
}

fn compute(state: &State) -> RoutePlan {
    let mut services = BTreeMap::new();
    for service in state.services.values() {
        if let Some(release) = service.release.or(service.target) {
            services.insert(service.name.clone(), route(state, service, release));
        }
    }
    // Who has another's address calls as that one.
    let own = state.instances.values().filter(|r| !share::borrows(state, r));
    let callers = own.map(|r| (r.address, r.service().clone())).collect();
    RoutePlan { version: 0, services, callers }
}

fn route(state: &State, service: &ServiceRecord, release: u64) -> ServiceRoute {
    let routable = |r: &&Arc<crate::InstanceRecord>| {
        r.phase == Phase::Healthy || (r.phase == Phase::Draining && r.healthy_at.is_some())
    };
    let healthy = |r: &crate::InstanceRecord| state.phase(r) == Phase::Healthy;
    let moved = state.has_moved(service);
    let any_healthy = state.instances_of(&service.name).any(|r| healthy(r));
    let endpoints: Vec<_> = state
        .instances_of(&service.name)
        .filter(routable)
        .map(|r| {
            let stands_by = moved && !state.is_new(service, r);
            let ready = (healthy(r) && !stands_by) || (!any_healthy && r.phase == Phase::Healthy);
            let why = match r.phase {
                _ if ready => String::new(),
                Phase::Healthy if stands_by => view::STANDS_BY.to_owned(),
                Phase::Healthy => "its health check fails".to_owned(),
                _ => r.why.clone(),
            };
            Endpoint {
                instance: r.id.clone(),
                release: r.release,
                address: r.address,
                port_env: r.port_env,
                ready,
                why,
            }
        })
        .collect();
    let why = match endpoints.iter().any(|e| e.ready) {
        true => String::new(),
        false => view::health(state, service).1,
    };
    ServiceRoute { address: service.address, release, endpoints, why }
}
