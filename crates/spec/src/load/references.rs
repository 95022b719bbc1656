//! What services name exists, and what only one of them can have is not taken twice.

use std::collections::BTreeMap;

use base::{Place, ServiceName};

use crate::Finding;
use crate::model::{
    DEFAULT_NETWORK, FileDef, FileSource, MountKind, NetworkDef, NetworkMode, Service, VolumeDef,
};
use crate::report::Report;
use crate::suggest::nearest;

/// Volumes that a service mounts are defined.
pub(super) fn volumes(
    report: &mut Report,
    services: &BTreeMap<ServiceName, Service>,
    volumes: &BTreeMap<String, VolumeDef>,
) {
    for service in services.values() {
        for mount in &service.volumes {
            let MountKind::Named { name, .. } = &mount.kind else { continue };
            if volumes.contains_key(name) {
                continue;
            }
            let next = match nearest(name, volumes.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!(
                    "add `{name}:` below the top-level `volumes:`, or write `./{name}` for a folder"
                ),
            };
            let what = format!("service `{}` uses the volume `{name}`", service.name);
            let finding = Finding::error("volume-unknown", what).at(&mount.place);
            report.push(finding.cause("the file does not define it").next(next));
        }
    }
}

/// Networks that a service is on are defined; the default one need not be.
pub(super) fn networks(
    report: &mut Report,
    services: &BTreeMap<ServiceName, Service>,
    networks: &BTreeMap<String, NetworkDef>,
) {
    for service in services.values() {
        let on = &service.networking;
        for name in on.networks.keys() {
            if name == DEFAULT_NETWORK || networks.contains_key(name) {
                continue;
            }
            let next = match nearest(name, networks.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("add `{name}:` below the top-level `networks:`"),
            };
            let what = format!("service `{}` is on the network `{name}`", service.name);
            let finding = Finding::error("network-unknown", what).at(&service.place);
            report.push(finding.cause("the file does not define it").next(next));
        }
        if on.mode != NetworkMode::Networks && !on.networks.is_empty() {
            let what = format!("service `{}` has both `network_mode` and `networks`", service.name);
            let finding = Finding::error("said-twice", what).at(&service.place);
            let cause = "a service with a mode is on no network of the app";
            report.push(finding.cause(cause).next("keep one of them"));
        }
    }
}

/// Which services have no network that leads outside; what shares another's network is as that one.
pub(super) fn inside(
    services: &mut BTreeMap<ServiceName, Service>,
    networks: &BTreeMap<String, NetworkDef>,
) {
    let internal = |name: &str| networks.get(name).is_some_and(|network| network.internal);
    let is_inside = |service: &Service| {
        let mut on = service;
        for _ in 0..services.len() {
            match on.shares_with().and_then(|name| services.get(name)) {
                Some(owner) => on = owner,
                None => break,
            }
        }
        on.networking.mode == NetworkMode::Networks && on.networks().all(internal)
    };
    let found: Vec<ServiceName> =
        services.values().filter(|s| is_inside(s)).map(|s| s.name.clone()).collect();
    for name in found {
        if let Some(service) = services.get_mut(&name) {
            service.networking.inside = true;
        }
    }
}

/// Says once that services on different networks are kept apart by name only.
pub(super) fn apart(report: &mut Report, services: &BTreeMap<ServiceName, Service>) {
    // Many services are on the same networks: one of each kind is looked at.
    let mut kinds: BTreeMap<Vec<&str>, &Service> = BTreeMap::new();
    for service in services.values() {
        if service.networking.mode == NetworkMode::Networks {
            kinds.entry(service.networks().collect()).or_insert(service);
        }
    }
    let kinds: Vec<&Service> = kinds.into_values().collect();
    for (i, one) in kinds.iter().enumerate() {
        let Some(other) = kinds[..i].iter().find(|other| other.names_for(one).is_empty()) else {
            continue;
        };
        let what = format!(
            "`{}` and `{}` are on no common network and are kept apart by name only",
            other.name, one.name
        );
        let finding = Finding::note("network-names", what).at(&one.place);
        let cause = "neither finds the other, but who knows an address can call it";
        report.push(finding.cause(cause).next("nothing to do, unless they must not be called"));
        return;
    }
}

/// Secrets and configs that a service gets are defined; it takes along where they come from.
pub(super) fn files(
    report: &mut Report,
    services: &mut BTreeMap<ServiceName, Service>,
    secrets: &BTreeMap<String, FileDef>,
    configs: &BTreeMap<String, FileDef>,
) {
    for service in services.values_mut() {
        let of_build =
            service.build.iter_mut().map(|build| ("secret", &mut build.secrets, secrets));
        let own =
            [("secret", &mut service.secrets, secrets), ("config", &mut service.configs, configs)];
        for (word, grants, defined) in own.into_iter().chain(of_build) {
            for grant in grants {
                let name = grant.source.escape_debug().to_string();
                if let Some(def) = defined.get(&grant.source) {
                    grant.content.clone_from(&def.source);
                    if let Some(finding) = without_content(&service.name, word, &name, def) {
                        report.push(finding.at(&grant.place));
                    }
                    continue;
                }
                let next = match nearest(&name, defined.keys().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("add `{name}:` below the top-level `{word}s:`"),
                };
                let what = format!("service `{}` gets the {word} `{name}`", service.name);
                let finding = Finding::error("file-unknown", what).at(&grant.place);
                report.push(finding.cause("the file does not define it").next(next));
            }
        }
    }
}

/// What is wrong with a secret or config that has no content here.
fn without_content(owner: &ServiceName, word: &str, name: &str, def: &FileDef) -> Option<Finding> {
    match &def.source {
        FileSource::External => {
            let what = format!("service `{owner}` gets the {word} `{name}`, which is external");
            let finding = Finding::error("external-file", what);
            let cause = "only Docker's swarm keeps such files; there is none to ask";
            Some(finding.cause(cause).next(format!("name where it is: `file: ./{name}`")))
        }
        FileSource::Unset { name: variable } => {
            let variable = variable.escape_debug();
            let what = format!("`{variable}`, which the {word} `{name}` is taken from, is not set");
            let next = format!("set it in the shell or in .env: {variable}=…");
            let cause = format!("service `{owner}` gets it; its value would be the content");
            Some(Finding::error("variable-required", what).cause(cause).next(next))
        }
        _ => None,
    }
}

/// A port of the host belongs to one service.
pub(super) fn ports(report: &mut Report, services: &BTreeMap<ServiceName, Service>) {
    let mut taken = BTreeMap::new();
    for service in services.values() {
        for port in &service.ports {
            let Some(published) = port.published else { continue };
            let key = (published, port.protocol, port.host_ip);
            let first = taken.entry(key).or_insert((&service.name, &port.place));
            if first.1 == &port.place {
                continue;
            }
            let what = format!("service `{}` publishes port {published}", service.name);
            let cause = format!("service `{}` publishes it at {}", first.0, first.1);
            let finding = Finding::error("port-twice", what).at(&port.place).cause(cause);
            report.push(finding.next("publish another port of the host"));
        }
    }
}

/// A name that leads to one service cannot lead to another: the service of that name has it, or
/// else the first of those who want it.
pub(super) fn names(report: &mut Report, services: &BTreeMap<ServiceName, Service>) {
    let mut wanted: BTreeMap<&str, (&ServiceName, &Place)> =
        services.values().map(|s| (s.name.as_str(), (&s.name, &s.place))).collect();
    for service in services.values() {
        let net = &service.networking;
        for name in net.networks.values().flatten().chain(&net.container_name) {
            let first = wanted.entry(name).or_insert((&service.name, &service.place)).0;
            if *first == service.name {
                continue;
            }
            let what = format!("service `{}` cannot be found as `{name}`", service.name);
            let finding = Finding::warning("name-taken", what).at(&service.place);
            let cause = format!("where both are on a network, the name leads to `{first}`");
            report.push(finding.cause(cause).next("choose another name"));
        }
    }
}
