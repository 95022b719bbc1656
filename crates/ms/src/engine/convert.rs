//! One crate's types into another's: records into processes, plans into routes, reports into
//! observations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::{HealthSpec, HealthTest, InstanceStatus, MountSource, Ports, ProcessSpec, View};
use base::InstanceId;
use control::{InstanceRecord, Release, Reported, ReportedState, RoutePlan, State};
use edge::{Balance, EndpointAddress, EndpointState, Listener, RouteTable, Upstream};
use serde::Deserialize;
use spec::Service;
use spec::model::{self, MountKind, NetworkMode, PortKind, Protocol, Test};

use super::prepare::Prepared;
use super::published::{HostPorts, Published};

/// How long a request waits while no instance is ready.
const HOLD: Duration = Duration::from_secs(30);
/// The address that instances without one of their own are reached at.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What was prepared for a release.
pub(super) fn prepared(release: &Release) -> Prepared {
    Prepared::deserialize(&release.prepared).unwrap_or_default()
}

/// The ports that a release is expected to listen on: asked for often, and a small part of what
/// was prepared.
pub(super) fn ports(release: &Release) -> BTreeSet<u16> {
    release.prepared.get("ports").and_then(|p| Deserialize::deserialize(p).ok()).unwrap_or_default()
}

/// What the agent is asked to run for a record.
pub(super) fn process(
    state: &State,
    record: &InstanceRecord,
    release: &Release,
    port_env: Option<u16>,
    own_address: bool,
    names_at: Option<IpAddr>,
    state_dir: &Path,
) -> ProcessSpec {
    let definition = &release.definition;
    let mode = &definition.networking.mode;
    let offline = *mode == NetworkMode::None;
    let own_address = own_address && !offline && *mode != NetworkMode::Host;
    let prepared = prepared(release);
    let mut env = prepared.env.clone();
    match (port_env, prepared.ports.first()) {
        (Some(port), _) => {
            env.insert("PORT".to_owned(), port.to_string());
        }
        (None, Some(port)) => {
            env.entry("PORT".to_owned()).or_insert_with(|| port.to_string());
        }
        (None, None) => {}
    }
    let hostname = definition.hostname.clone().unwrap_or_else(|| record.id.to_string());
    env.entry("HOSTNAME".to_owned()).or_insert_with(|| hostname.clone());
    let ports = match port_env {
        // A service that names no port is not waited for at one.
        Some(port) if !prepared.ports.is_empty() => vec![port],
        Some(_) => Vec::new(),
        None if offline => Vec::new(),
        None => prepared.ports.iter().copied().collect(),
    };
    ProcessSpec {
        id: record.id.clone(),
        attempt: record.attempt,
        argv: prepared.argv,
        env: env.into_iter().collect(),
        working_dir: prepared.working_dir,
        view: match prepared.base {
            Some(base) => View::Image { layers: prepared.layers, base },
            None => View::Overlay { layers: prepared.layers },
        },
        mounts: mounts(definition, &prepared.volumes, &record.id, state_dir),
        hosts: hosts_of(state, &record.id, own_address),
        hostname: Some(hostname),
        address: own_address.then_some(record.address),
        limits: limits(&definition.limits),
        user: prepared.user,
        rights: rights(&definition.rights),
        kernel: kernel(&definition.kernel),
        resolver: Some(resolver(&definition.networking.dns, names_at)),
        health: prepared.health.map(health),
        ports,
        offline,
        inside: definition.networking.inside,
        logging: logging(&definition.logging),
    }
}

fn logging(asked: &model::Logging) -> agent::Logging {
    agent::Logging { none: asked.none, file_bytes: asked.file_bytes_max, files: asked.files_max }
}

fn limits(asked: &model::Limits) -> agent::Limits {
    agent::Limits {
        memory_bytes: asked.memory_bytes,
        memory_and_swap_bytes: asked.memory_and_swap.map(|both| match both {
            model::Swap::Unlimited => u64::MAX,
            model::Swap::Bytes(bytes) => bytes,
        }),
        memory_reserved_bytes: asked.memory_reserved_bytes,
        cpus: asked.cpus,
        cpu_shares: asked.cpu_shares.or_else(|| asked.cpus_reserved.map(shares)),
        cpuset: asked.cpuset.clone(),
        pids: asked.pids,
    }
}

/// The weight of who has so many processors set aside: more than that of others, which is 1024.
fn shares(cpus: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what the kernel takes"
    )]
    let shares = ((1.0 + cpus) * 1024.0).round().clamp(2.0, 262_144.0) as u32;
    shares
}

fn rights(asked: &model::Rights) -> agent::Rights {
    agent::Rights {
        group_add: asked.group_add.clone(),
        cap_add: asked.cap_add.clone(),
        cap_drop: asked.cap_drop.clone(),
        privileged: asked.privileged,
        no_new_privileges: asked.no_new_privileges,
        seccomp: match &asked.seccomp {
            None => agent::Seccomp::Usual,
            Some(model::Seccomp::Unconfined) => agent::Seccomp::Unconfined,
            Some(model::Seccomp::Profile(path)) => agent::Seccomp::Profile(path.clone()),
        },
        read_only: asked.read_only,
        devices: asked.devices.iter().map(device).collect(),
    }
}

fn device(asked: &model::Device) -> agent::Device {
    agent::Device {
        source: asked.source.clone(),
        target: asked.target.clone(),
        permissions: asked.permissions.clone(),
    }
}

fn kernel(asked: &model::Kernel) -> agent::Kernel {
    let ulimits = asked.ulimits.iter();
    agent::Kernel {
        sysctls: asked.sysctls.clone(),
        ulimits: ulimits.map(|(name, limit)| (name.clone(), (limit.soft, limit.hard))).collect(),
        shm_size_bytes: asked.shm_size_bytes,
        oom_score_adj: asked.oom_score_adj,
    }
}

fn resolver(asked: &model::Dns, names_at: Option<IpAddr>) -> agent::Resolver {
    agent::Resolver {
        first: names_at,
        servers: asked.servers.clone(),
        search: asked.search.clone(),
        options: asked.options.clone(),
    }
}

fn health(check: model::Healthcheck) -> HealthSpec {
    HealthSpec {
        test: match check.test {
            Test::Exec(argv) => HealthTest::Exec(argv),
            Test::Shell(line) => HealthTest::Shell(line),
            Test::None => HealthTest::Exec(vec!["true".to_owned()]),
        },
        interval: check.interval,
        timeout: check.timeout,
        retries: check.retries,
        start_period: check.start_period,
        start_interval: check.start_interval,
    }
}

/// What decides which names instances find: when it changes, their hosts files do.
pub(super) type Names = Vec<(Ipv4Addr, base::ServiceName, model::Networking)>;

pub(super) fn names(state: &State) -> Names {
    let each = state.services.values();
    each.map(|s| (s.address, s.name.clone(), s.definition.networking.clone())).collect()
}

/// Whether these are still what they were made of. Asked at every turn, so nothing is copied.
pub(super) fn are_names_of(names: &Names, state: &State) -> bool {
    names.len() == state.services.len()
        && names.iter().zip(state.services.values()).all(|((address, name, networking), s)| {
            (address, name) == (&s.address, &s.name) && *networking == s.definition.networking
        })
}

/// The names that an instance finds: those of whose network it is in.
pub(super) fn hosts_of(
    state: &State,
    id: &InstanceId,
    own_address: bool,
) -> Vec<(IpAddr, Vec<String>)> {
    let mut caller = state.services.get(id.service());
    let of_host = caller.is_some_and(|c| c.definition.networking.mode == NetworkMode::Host);
    let alone = match own_address && !of_host {
        true => agent::host_address(state.pool),
        false => Ipv4Addr::LOCALHOST,
    };
    for _ in 0..state.services.len() {
        match caller.and_then(|caller| caller.definition.shares_with()) {
            Some(owner) => caller = state.services.get(owner),
            None => break,
        }
    }
    caller.map(|caller| hosts(state, &caller.definition, alone)).unwrap_or_default()
}

/// The same for those that ask over DNS.
pub(super) fn scope_of(state: &State, service: &base::ServiceName) -> names::Scope {
    let Some(caller) = state.services.get(service) else { return names::Scope::default() };
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (address, names) in hosts(state, &caller.definition, agent::host_address(state.pool)) {
        for name in names {
            found.entry(name.to_ascii_lowercase()).or_default().push(address);
        }
    }
    let dns = &caller.definition.networking.dns;
    let plain = |domain: &String| domain.trim_end_matches('.').to_ascii_lowercase();
    let mut search: Vec<String> = dns.search.iter().map(plain).collect();
    // What resolvers take for it when nothing is said.
    let domain = caller.definition.hostname.as_ref().and_then(|name| name.split_once('.'));
    search.extend(domain.map(|(_, domain)| domain.to_ascii_lowercase()));
    search.retain(|domain| !domain.is_empty());
    let (servers, inside) = (dns.servers.clone(), caller.definition.networking.inside);
    names::Scope { names: found, search, servers, inside }
}

/// The names that instances of a service find. A name leads to one service: to the one that is
/// called so, or else to the first in the order of their names. The host itself is at `alone` when
/// it has no address but loopback's.
fn hosts(state: &State, caller: &Service, alone: Ipv4Addr) -> Vec<(IpAddr, Vec<String>)> {
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut hosts = Vec::new();
    for service in state.services.values() {
        let names = service.definition.names_for(caller);
        let free = names.into_iter().filter(|name| {
            let own = *name == service.name.as_str();
            own || (!state.services.contains_key(*name) && taken.insert(name))
        });
        let names: Vec<String> = free.map(str::to_owned).collect();
        if !names.is_empty() {
            hosts.push((IpAddr::V4(service.address), names));
        }
    }
    let extra = caller.networking.extra_hosts.iter();
    hosts.extend(extra.map(|host| {
        let gateway = || gateway(&net::local_addresses()).unwrap_or(IpAddr::V4(alone));
        (host.address.unwrap_or_else(gateway), vec![host.name.clone()])
    }));
    hosts
}

/// Where an instance reaches the host itself: not at its loopback, which is the instance's own.
fn gateway(addresses: &[IpAddr]) -> Option<IpAddr> {
    let far = |ip: &&IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let usable = || addresses.iter().filter(far).copied();
    usable().find(IpAddr::is_ipv4).or_else(|| usable().next())
}

fn mounts(
    definition: &Service,
    of_image: &[PathBuf],
    id: &InstanceId,
    state_dir: &Path,
) -> Vec<agent::Mount> {
    let source = |kind: &MountKind, target: &Path| match kind {
        MountKind::Bind { source, .. } => MountSource::Path(source.clone()),
        MountKind::Named { name, subpath: None } => MountSource::Path(volume(state_dir, name)),
        MountKind::Named { name, subpath: Some(path) } => {
            MountSource::Within(volume(state_dir, name), path.clone())
        }
        MountKind::Anonymous => MountSource::Path(anonymous(state_dir, id, target)),
        MountKind::Tmpfs { size_bytes, mode, owner, without } => MountSource::Tmpfs {
            size_bytes: *size_bytes,
            mode: *mode,
            owner: (owner.uid, owner.gid),
            no_exec: without.exec,
        },
    };
    let each = definition.volumes.iter();
    let own = each.map(|mount| agent::Mount {
        source: source(&mount.kind, &mount.target),
        target: mount.target.clone(),
        read_only: mount.read_only,
    });
    // Further out first, so that none covers another.
    let of_image = of_image.iter().filter(|target| is_free(definition, target));
    let of_image = of_image.map(|target| agent::Mount {
        source: MountSource::Path(anonymous(state_dir, id, target)),
        target: target.clone(),
        read_only: false,
    });
    let mut all: Vec<_> = of_image.chain(own).collect();
    all.sort_by_key(|mount| mount.target.components().count());
    all.extend(super::given::mounts(definition, state_dir));
    all
}

/// Whether the file mounts nothing at a place where the image wants a volume.
fn is_free(definition: &Service, target: &Path) -> bool {
    !definition.volumes.iter().any(|mount| mount.target == target)
}

/// The volumes of an instance, and where it sees them, into which goes what the image has there
/// when they are new.
pub(super) fn volumes(
    definition: &Service,
    of_image: &[PathBuf],
    id: &InstanceId,
    state_dir: &Path,
) -> Vec<(PathBuf, PathBuf)> {
    let of_file = definition.volumes.iter().filter(|mount| !mount.no_copy);
    let of_file = of_file.filter_map(|mount| match &mount.kind {
        MountKind::Named { name, subpath: None } => {
            Some((volume(state_dir, name), mount.target.clone()))
        }
        MountKind::Anonymous => {
            Some((anonymous(state_dir, id, &mount.target), mount.target.clone()))
        }
        MountKind::Named { subpath: Some(_), .. }
        | MountKind::Bind { .. }
        | MountKind::Tmpfs { .. } => None,
    });
    let of_image = of_image.iter().filter(|target| is_free(definition, target));
    let of_image = of_image.map(|target| (anonymous(state_dir, id, target), target.clone()));
    of_file.chain(of_image).collect()
}

/// Where a named volume is kept.
pub(super) fn volume(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join("volumes").join(name)
}

/// Where an instance's own volume is kept: by slot, so that a restart finds it again.
pub(super) fn anonymous(state_dir: &Path, id: &InstanceId, target: &Path) -> PathBuf {
    let name = target.to_string_lossy().replace('/', "_");
    state_dir.join("volumes").join(".own").join(id.to_string()).join(name)
}

/// What the edge is given for a plan. `listening` adds ports that instances were seen to listen
/// on beside those that were declared.
pub(super) fn routes(
    state: &State,
    plan: &RoutePlan,
    version: u64,
    listening: &HashMap<InstanceId, Ports>,
    host_ports: &HostPorts,
) -> RouteTable {
    let mut table = RouteTable { version, ..RouteTable::default() };
    for (name, route) in &plan.services {
        let Some(release) = state.release(name, route.release) else { continue };
        // How it is reached is what the file says now; what listens is what the release runs.
        let Some(definition) = state.services.get(name).map(|s| &s.definition) else { continue };
        if definition.networking.mode != NetworkMode::Networks {
            // No name leads to it: what it listens on is the host's, another's, or its own alone.
            continue;
        }
        let (published, published_udp): (Vec<_>, Vec<_>) =
            host_ports.of(definition).into_iter().partition(|p| p.kind == PortKind::Tcp);
        let protocol = |port: u16| match definition.protocol(port) {
            Some(Protocol::Http) => edge::Protocol::Http,
            Some(Protocol::Tcp) => edge::Protocol::Tcp,
            None => edge::Protocol::Detect,
        };
        let mut ports = ports(release);
        ports.extend(published.iter().map(|published| published.target));
        let mine = route.endpoints.iter().filter(|e| e.port_env.is_none());
        let mine: Vec<&Ports> = mine.filter_map(|e| listening.get(&e.instance)).collect();
        ports.extend(mine.iter().flat_map(|found| &found.tcp));
        let mut listen = |kind, addr, target_port, published| {
            let protocol = match kind {
                PortKind::Tcp => protocol(target_port),
                PortKind::Udp => edge::Protocol::Udp,
            };
            let service = name.clone();
            table.listeners.push(Listener { addr, service, target_port, protocol, published });
        };
        let mut reach = |kind, ports: BTreeSet<u16>, published: Vec<Published>| {
            for port in ports {
                listen(kind, SocketAddr::from((route.address, port)), port, false);
            }
            for published in published {
                for addr in host_ports.bound_for(published.addr) {
                    listen(kind, addr, published.target, true);
                }
            }
        };
        reach(PortKind::Tcp, ports, published);
        let mut ports = release.definition.udp_ports();
        ports.extend(published_udp.iter().map(|published| published.target));
        ports.extend(mine.iter().flat_map(|found| &found.udp));
        reach(PortKind::Udp, ports, published_udp);
        table.services.insert(name.clone(), Arc::new(upstream(definition, route)));
    }
    table.callers = plan.callers.iter().map(|(ip, name)| (IpAddr::V4(*ip), name.clone())).collect();
    table
}

fn upstream(definition: &Service, route: &control::ServiceRoute) -> Upstream {
    let own = route.endpoints.iter().any(|e| e.port_env.is_none());
    let endpoints = route.endpoints.iter().map(|e| edge::Endpoint {
        instance: e.instance.clone(),
        address: match e.port_env {
            Some(port) => EndpointAddress::Fixed(SocketAddr::new(HOST, port)),
            None => EndpointAddress::AnyPort(IpAddr::V4(e.address)),
        },
        weight: 1,
        state: if e.ready { EndpointState::Ready } else { EndpointState::Draining },
    });
    Upstream {
        balance: match definition.extension.balance {
            Some(model::Balance::RoundRobin) => Balance::RoundRobin,
            Some(model::Balance::LeastRequests) | None => Balance::LeastRequests,
        },
        endpoints: endpoints.collect(),
        hold: HOLD,
        // What an instance sends to localhost stays with it, so a client of it may not be there.
        datagrams_from: own.then_some(IpAddr::V4(route.address)),
        unavailable_why: route.why.clone(),
    }
}

/// What control is told of one instance that the agent has, and that was seen to listen on these
/// ports.
pub(super) fn reported(status: &InstanceStatus, listening: Option<&Ports>) -> Reported {
    let state = match (&status.phase, status.healthy) {
        (agent::Phase::Starting, _) => ReportedState::Launching,
        (agent::Phase::Exited(exit), _) => ReportedState::Exited(exited(exit)),
        (_, None) => ReportedState::Running,
        (_, Some(true)) => ReportedState::Healthy,
        (_, Some(false)) => ReportedState::Unhealthy,
    };
    let given = |name: &str| {
        let value = status.spec.env.iter().find(|(key, _)| key == name).map(|(_, v)| v);
        value.and_then(|v| v.parse().ok())
    };
    let mut detail = status.health_detail.clone().unwrap_or_default();
    // Nobody answers where it was declared: where it does is the likely cure.
    if let (ReportedState::Running, None, Some(ports)) = (&state, &status.spec.health, listening)
        && !ports.tcp.is_empty()
        && !detail.is_empty()
    {
        let ports: Vec<_> = ports.tcp.iter().map(u16::to_string).collect();
        detail = format!("{detail}; it listens on {}", ports.join(", "));
    }
    Reported {
        attempt: status.spec.attempt,
        state,
        detail,
        started_at: status.started_at,
        address: status.spec.address,
        port_env: if status.spec.address.is_none() && !status.spec.offline {
            given("PORT")
        } else {
            None
        },
        post_start: None,
        warnings: status.warnings.clone(),
    }
}

fn exited(exit: &agent::Exit) -> control::Exit {
    control::Exit {
        at: exit.at,
        code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        start_error: None,
        lost: exit.code.is_none() && exit.signal.is_none(),
        left: exit.left.clone(),
        last_lines: exit.last_lines.clone(),
    }
}

/// A release's definition for people: what is secret is masked.
pub(super) fn shown(definition: &Service) -> serde_json::Value {
    serde_json::to_value(spec::masked(definition)).unwrap_or_default()
}

/// Requests and sessions under way with an instance.
pub(super) fn under_way(status: &edge::EdgeStatus, id: &InstanceId) -> u32 {
    let of = |counts: &BTreeMap<InstanceId, u32>| counts.get(id).copied().unwrap_or_default();
    of(&status.inflight).saturating_add(of(&status.sessions))
}

/// Why a program found its port taken: without addresses of their own all instances share the
/// host's, and the ports that services are called at are the edge's.
pub(super) fn clash(state: &State, service: &base::ServiceName) -> Option<String> {
    let taken =
        |line: &String| line.contains("ddress already in use") || line.contains("EADDRINUSE");
    let mut exits = state.instances_of(service).filter_map(|i| i.last_exit.as_ref());
    if !exits.any(|exit| exit.last_lines.iter().any(taken)) {
        return None;
    }
    let ports = |name: &base::ServiceName| {
        state.goal(name).map(|release| self::ports(release)).unwrap_or_default()
    };
    let mine = ports(service);
    let shares = |name: &&base::ServiceName| ports(name).intersection(&mine).next().is_some();
    let names: Vec<String> =
        state.services.keys().filter(shares).map(|name| format!("`{name}`")).collect();
    let mine: Vec<String> = mine.iter().map(u16::to_string).collect();
    Some(format!(
        "without root a service must listen on $PORT: {} is where {} {} called",
        mine.join(", "),
        names.join(" and "),
        if names.len() == 1 { "is" } else { "are" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_where_it_is_not_loopback() {
        let ips =
            |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        for (addresses, found) in [
            (&["127.0.0.1", "::1", "fe80::1", "fd00::5", "10.0.0.5"][..], Some("10.0.0.5")),
            (&["127.0.0.1", "fe80::1", "fd00::5"], Some("fd00::5")),
            (&["127.0.0.1", "169.254.1.1"], None),
        ] {
            assert_eq!(
                gateway(&ips(addresses)),
                found.map(|t| t.parse().unwrap()),
                "{addresses:?}"
            );
        }
    }
}
