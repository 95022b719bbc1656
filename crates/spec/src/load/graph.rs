//! What services expect of one another: they exist, not in a circle, and can be healthy.

use std::collections::{BTreeMap, BTreeSet};

use base::ServiceName;

use crate::Finding;
use crate::model::{Condition, Service, Test};
use crate::report::Report;
use crate::suggest::nearest;

/// Checks `depends_on` of the active services. A dependency that is not there and not required
/// is taken out. `known` are all services of the file.
pub(super) fn check(
    report: &mut Report,
    services: &mut BTreeMap<ServiceName, Service>,
    known: &BTreeSet<ServiceName>,
) {
    let active: BTreeSet<ServiceName> = services.keys().cloned().collect();
    for service in services.values_mut() {
        let owner = service.name.clone();
        service.depends_on.retain(|dependency| {
            if active.contains(&dependency.service) {
                return true;
            }
            report.push(missing(&owner, dependency, known));
            false
        });
    }
    for service in services.values() {
        for dependency in &service.depends_on {
            let on = &services[&dependency.service];
            let checked = on.healthcheck.as_ref().is_some_and(|h| h.test != Test::None);
            if dependency.condition == Condition::ServiceHealthy
                && !checked
                && on.stand_in.is_none()
            {
                let what = format!(
                    "service `{}` waits for `{}` to be healthy, which is never known",
                    service.name, on.name
                );
                let finding = Finding::error("dependency-no-healthcheck", what);
                report.push(
                    finding
                        .at(&dependency.place)
                        .cause(format!("`{}` has no health check", on.name))
                        .next("add `healthcheck:` to it, or wait for `service_started`"),
                );
            }
        }
    }
    cycles(report, services);
}

fn missing(
    owner: &ServiceName,
    dependency: &crate::model::Dependency,
    known: &BTreeSet<ServiceName>,
) -> Finding {
    let on = &dependency.service;
    let what = format!("service `{owner}` depends on `{on}`");
    let finding = match dependency.required {
        true => Finding::error("dependency-unknown", what),
        false => Finding::note("dependency-unknown", what),
    };
    let finding = finding.at(&dependency.place);
    if known.contains(on) {
        let next = format!("add `--profile` with one of the profiles of `{on}`, or name it");
        return finding.cause("its profile is not switched on").next(next);
    }
    let next = match nearest(on.as_str(), known.iter().map(ServiceName::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "define it, or remove it here".to_owned(),
    };
    finding.cause("the file does not define it").next(next)
}

/// Reports each circle once, at the dependency that closes it. Services that lead into nothing
/// but finished ones are taken off layer by layer; what stays lies on a circle or leads into one.
fn cycles(report: &mut Report, services: &BTreeMap<ServiceName, Service>) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    loop {
        let free = services.values().filter(|s| {
            !done.contains(s.name.as_str())
                && s.depends_on.iter().all(|d| done.contains(d.service.as_str()))
        });
        let layer: Vec<&str> = free.map(|s| s.name.as_str()).collect();
        if layer.is_empty() {
            break;
        }
        done.extend(layer);
    }
    while let Some(start) = services.keys().find(|name| !done.contains(name.as_str())) {
        // From a service that stays, some dependency always stays too: following it must close a
        // circle.
        let mut path: Vec<&str> = vec![start.as_str()];
        let closing = loop {
            let here = path[path.len() - 1];
            let stays = |d: &&crate::model::Dependency| !done.contains(d.service.as_str());
            let Some(next) = services[here].depends_on.iter().find(stays) else { break None };
            if let Some(i) = path.iter().position(|name| *name == next.service.as_str()) {
                break Some((i, next));
            }
            path.push(next.service.as_str());
        };
        if let Some((i, dependency)) = closing {
            let mut circle = path[i..].to_vec();
            circle.push(path[i]);
            let what = format!("services wait for each other: {}", circle.join(" → "));
            let finding = Finding::error("dependency-cycle", what).at(&dependency.place);
            let cause = "none of them could ever start";
            report.push(finding.cause(cause).next("take one `depends_on` out"));
        }
        done.extend(path);
    }
}
