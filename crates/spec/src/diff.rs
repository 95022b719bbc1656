//! What changed between two definitions of a service, in a few words.
//!
//! Two questions, because a release is a thing of instances: [`diff`] names what instances were
//! started with, which takes a new release; [`diff_in_place`] names what the engine can take up
//! while they run.

use std::collections::BTreeMap;

use crate::model::{Dns, Grant, NetworkMode, Networking, Port, Service};

/// What needs a new release: `environment DEBUG, command`. `None` when nothing does.
pub fn diff(old: &Service, new: &Service) -> Option<String> {
    let mut words = Vec::new();
    let mut changed = |name: &str, is: bool| {
        if is {
            words.push(name.to_owned());
        }
    };
    changed("image", old.image != new.image && !new.extension.native);
    changed("command", old.command != new.command);
    changed("entrypoint", old.entrypoint != new.entrypoint);
    let keys = changed_keys(&old.environment, &new.environment);
    changed(&format!("environment {keys}"), !keys.is_empty());
    changed("working_dir", old.working_dir != new.working_dir);
    changed("user", old.user != new.user);
    changed("hostname", old.hostname != new.hostname);
    changed("volumes", mounts(old) != mounts(new));
    changed("healthcheck", old.healthcheck != new.healthcheck);
    changed("restart", old.restart != new.restart);
    changed("stop_signal", old.stop_signal != new.stop_signal);
    changed("stop_grace_period", old.stop_grace_period != new.stop_grace_period);
    changed("limits", old.limits != new.limits);
    changed("rights", old.rights != new.rights);
    changed("kernel settings", old.kernel != new.kernel);
    changed("dns", old.networking.dns != new.networking.dns);
    changed("network_mode", old.networking.mode != new.networking.mode);
    changed("internal networks", old.networking.inside != new.networking.inside);
    changed("secrets", grants(&old.secrets) != grants(&new.secrets));
    changed("configs", grants(&old.configs) != grants(&new.configs));
    changed("hooks", old.hooks != new.hooks);
    changed("logging", old.logging != new.logging);
    changed("placement", old.placement != new.placement);
    changed("ports", old.tcp_ports() != new.tcp_ports() || old.udp_ports() != new.udp_ports());
    changed("prepare", old.extension.prepare != new.extension.prepare);
    changed("native", old.extension.native != new.extension.native);
    changed("build", build(old) != build(new));
    (!words.is_empty()).then(|| words.join(", "))
}

/// What can be taken up without a new release: replicas, published ports, protocols, how updates
/// go, names, labels, what it waits for. `None` when nothing of it changed.
pub fn diff_in_place(old: &Service, new: &Service) -> Option<String> {
    let mut words = Vec::new();
    let mut changed = |name: &str, is: bool| {
        if is {
            words.push(name.to_owned());
        }
    };
    let replicas = format!("replicas {} → {}", old.replicas, new.replicas);
    changed(&replicas, old.replicas != new.replicas);
    changed("published ports", ports(old) != ports(new));
    changed("protocol", old.extension.protocol != new.extension.protocol);
    changed("balance", old.extension.balance != new.extension.balance);
    changed("update_config", old.update != new.update);
    changed("rollback_config", old.rollback != new.rollback);
    changed("mode", old.global != new.global);
    changed("restart pace", old.restart_pace != new.restart_pace);
    changed("names", names(old) != names(new));
    changed("labels", old.labels != new.labels);
    changed("annotations", old.annotations != new.annotations);
    changed("pull_policy", old.pull_policy != new.pull_policy);
    changed("profiles", old.profiles != new.profiles);
    let waits = |s: &Service| -> Vec<_> {
        let each = s.depends_on.iter();
        each.map(|d| (d.service.clone(), d.condition, d.required, d.restart)).collect()
    };
    changed("depends_on", waits(old) != waits(new));
    (!words.is_empty()).then(|| words.join(", "))
}

/// The keys whose values differ, at most three of them by name. Values may be secret.
fn changed_keys(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> String {
    let gone = old.keys().filter(|k| !new.contains_key(*k));
    let other = new.iter().filter(|(k, v)| old.get(*k) != Some(v)).map(|(k, _)| k);
    let mut keys: Vec<&str> = gone.chain(other).map(String::as_str).collect();
    keys.sort_unstable();
    match keys.len() {
        0..=3 => keys.join(" "),
        n => format!("{} and {} more", keys[..3].join(" "), n - 3),
    }
}

/// Grants without their places.
fn grants(grants: &[Grant]) -> Vec<Grant> {
    grants.iter().map(|g| Grant { place: nowhere(), ..g.clone() }).collect()
}

/// How a service is found and what it finds, as far as hosts files say it.
fn names(service: &Service) -> Networking {
    let (mode, dns) = (NetworkMode::default(), Dns::default());
    Networking { mode, dns, inside: false, ..service.networking.clone() }
}

fn mounts(service: &Service) -> Vec<(&crate::model::MountKind, &std::path::Path, bool)> {
    service.volumes.iter().map(|m| (&m.kind, m.target.as_path(), m.read_only)).collect()
}

fn ports(service: &Service) -> Vec<Port> {
    service.ports.iter().map(|p| Port { place: nowhere(), ..p.clone() }).collect()
}

fn nowhere() -> base::Place {
    base::Place { file: std::path::PathBuf::new(), line: 0, column: 0 }
}

type BuildParts<'a> = Option<(
    &'a std::path::Path,
    &'a std::path::Path,
    &'a Option<String>,
    &'a Option<String>,
    &'a BTreeMap<String, String>,
    &'a BTreeMap<String, crate::model::NamedContext>,
)>;

fn build(service: &Service) -> BuildParts<'_> {
    let build = service.build.as_ref().filter(|_| service.uses_build())?;
    let (context, file) = (build.context.as_path(), build.dockerfile.as_path());
    Some((context, file, &build.dockerfile_inline, &build.target, &build.args, &build.contexts))
}
