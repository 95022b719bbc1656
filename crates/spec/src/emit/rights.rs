//! What a service is allowed, what is its own of the kernel, and how it is found.

use std::collections::BTreeSet;

use super::{Yaml, quoted, shown};
use crate::model::{NetworkMode, Seccomp, Service};

pub(super) fn emit(out: &mut Yaml, service: &Service) {
    let rights = &service.rights;
    out.option("user", service.user.as_ref());
    out.some("group_add", &rights.group_add);
    set(out, "cap_add", &rights.cap_add);
    set(out, "cap_drop", &rights.cap_drop);
    out.flag("privileged", rights.privileged);
    out.flag("read_only", rights.read_only);
    let mut options = Vec::new();
    options.extend(rights.no_new_privileges.map(|is| format!("no-new-privileges:{is}")));
    options.extend(rights.seccomp.as_ref().map(|seccomp| match seccomp {
        Seccomp::Unconfined => "seccomp=unconfined".to_owned(),
        Seccomp::Profile(path) => format!("seccomp={}", shown(path)),
    }));
    out.some("security_opt", &options);
    out.items("devices", &rights.devices, |out, device| {
        out.pair("source", &shown(&device.source));
        out.pair("target", &shown(&device.target));
        out.pair("permissions", &device.permissions);
    });
    let kernel = &service.kernel;
    out.map("sysctls", &kernel.sysctls);
    if !kernel.ulimits.is_empty() {
        out.open("ulimits", |out| {
            let value = |limit: Option<u64>| limit.map_or("-1".to_owned(), |n| n.to_string());
            for (name, limit) in &kernel.ulimits {
                out.open(name, |out| {
                    out.line(&format!("soft: {}", value(limit.soft)));
                    out.line(&format!("hard: {}", value(limit.hard)));
                });
            }
        });
    }
    if let Some(size) = kernel.shm_size_bytes {
        out.line(&format!("shm_size: {size}"));
    }
    if let Some(score) = kernel.oom_score_adj {
        out.line(&format!("oom_score_adj: {score}"));
    }
    networking(out, service);
}

fn networking(out: &mut Yaml, service: &Service) {
    let net = &service.networking;
    out.option("hostname", service.hostname.as_ref());
    out.option("container_name", net.container_name.as_ref());
    if !net.networks.is_empty() {
        out.open("networks", |out| {
            for (name, aliases) in &net.networks {
                match aliases.is_empty() {
                    true => out.line(&format!("{}: {{}}", quoted(name))),
                    false => out.open(&quoted(name), |out| set(out, "aliases", aliases)),
                }
            }
        });
    }
    match &net.mode {
        NetworkMode::Networks => {}
        NetworkMode::Host => out.pair("network_mode", "host"),
        NetworkMode::None => out.pair("network_mode", "none"),
        NetworkMode::Service(name) => out.pair("network_mode", &format!("service:{name}")),
    }
    let links = net.links.iter().map(|(alias, service)| format!("{service}:{alias}"));
    out.some("links", &links.collect::<Vec<_>>());
    let hosts = net.extra_hosts.iter().map(|host| match host.address {
        Some(address) => format!("{}={address}", host.name),
        None => format!("{}=host-gateway", host.name),
    });
    out.some("extra_hosts", &hosts.collect::<Vec<_>>());
    let servers = net.dns.servers.iter().map(ToString::to_string);
    out.some("dns", &servers.collect::<Vec<_>>());
    out.some("dns_search", &net.dns.search);
    out.some("dns_opt", &net.dns.options);
}

fn set(out: &mut Yaml, key: &str, items: &BTreeSet<String>) {
    out.some(key, &items.iter().cloned().collect::<Vec<_>>());
}
