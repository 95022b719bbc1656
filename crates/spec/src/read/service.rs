//! One service: every key that is honoured, by its reader.

use std::collections::{BTreeMap, BTreeSet};

use base::{Place, ServiceName};

use super::Reader;
use super::deploy::REPLICAS_MAX;
use super::health::RawHealthcheck;
use crate::keys::Scope;
use crate::model::{Condition, Dependency, Extension, Limits, Restart, Service, UpdateConfig};
use crate::report::At;
use crate::tree::{Entry, Node, Value};

/// More environment files of one service than this are taken for a slip.
const ENV_FILES_MAX: usize = 64;

/// A service as its own part of the file says it; what others say about it is still missing.
pub(crate) struct RawService {
    pub(crate) service: Service,
    pub(crate) health: Option<(RawHealthcheck, Place)>,
    pub(crate) image_place: Option<Place>,
    /// `build` is there, though it may have been refused.
    pub(crate) build_said: bool,
}

/// What is only known when every key was read.
#[derive(Default)]
struct Late {
    env_files: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    container_name: Option<At>,
    scale: Option<(u32, At)>,
    deploy: super::deploy::Deploy,
    memory: Option<(u64, At)>,
    cpus: Option<(f64, At)>,
    pids: Option<(u64, At)>,
}

/// Reads a service. `None` when its name or shape is wrong; the report says why.
pub(crate) fn service(reader: &mut Reader<'_>, entry: &Entry) -> Option<RawService> {
    let name: ServiceName = match entry.key.parse() {
        Ok(name) => name,
        Err(error) => {
            reader.bad(entry.at, "the name of a service", &entry.key, error.rule);
            return None;
        }
    };
    let owner = format!("service `{name}`");
    let place = reader.report.place(entry.at);
    let mut raw = RawService {
        service: empty(name, place),
        health: None,
        image_place: None,
        build_said: false,
    };
    let mut late = Late::default();
    let shaped = matches!(entry.node.value, Value::Map(_) | Value::Null);
    for entry in reader.entries(Scope::Service, &owner, &entry.node) {
        if !matches!(entry.node.value, Value::Null) {
            key(reader, entry, &owner, &mut raw, &mut late);
        }
    }
    finish(reader, &owner, &mut raw.service, late);
    shaped.then_some(raw)
}

fn empty(name: ServiceName, place: Place) -> Service {
    Service {
        name,
        image: None,
        build: None,
        command: None,
        entrypoint: None,
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
        hostname: None,
        ports: Vec::new(),
        expose: Vec::new(),
        volumes: Vec::new(),
        depends_on: Vec::new(),
        healthcheck: None,
        restart: Restart::No,
        stop_signal: None,
        stop_grace_period: std::time::Duration::from_secs(10),
        labels: BTreeMap::new(),
        replicas: 1,
        update: UpdateConfig::default(),
        limits: Limits::default(),
        init: false,
        profiles: BTreeSet::new(),
        extension: Extension::default(),
        stand_in: None,
        place,
    }
}

fn key(reader: &mut Reader<'_>, entry: &Entry, owner: &str, raw: &mut RawService, late: &mut Late) {
    let (node, at) = (&entry.node, entry.at);
    let named = format!("`{}` of {owner}", entry.key);
    let service = &mut raw.service;
    match entry.key.as_str() {
        "image" => {
            service.image = reader.text(node, &named).filter(|i| !i.is_empty());
            raw.image_place = Some(reader.report.place(at));
        }
        "build" => {
            raw.build_said = true;
            service.build = reader.build(node, at, owner);
        }
        "command" => service.command = reader.words(node, &named),
        "entrypoint" => service.entrypoint = reader.words(node, &named),
        "environment" => {
            let pairs = reader.pairs(node, &named);
            late.environment = reader.filled(pairs);
        }
        "env_file" => late.env_files = reader.env_files(node, owner),
        "working_dir" => service.working_dir = reader.text(node, &named).map(Into::into),
        "user" => service.user = reader.text(node, &named).filter(|u| !u.is_empty()),
        "hostname" => service.hostname = reader.text(node, &named).filter(|h| !h.is_empty()),
        "labels" => {
            let pairs = reader.pairs(node, &named).into_iter();
            service.labels = pairs.map(|(k, v)| (k, v.unwrap_or_default())).collect();
        }
        "ports" => service.ports = reader.ports(node, owner),
        "expose" => service.expose = reader.expose(node, owner),
        "volumes" => {
            let tmpfs = std::mem::replace(&mut service.volumes, reader.mounts(node, owner));
            service.volumes.extend(tmpfs);
        }
        "tmpfs" => reader.tmpfs(node, owner, &mut service.volumes),
        "depends_on" => service.depends_on = reader.dependencies(node, owner),
        "healthcheck" => {
            let place = reader.report.place(at);
            raw.health = reader.healthcheck(node, owner).map(|health| (health, place));
        }
        "restart" => service.restart = reader.restart(node, &named),
        "init" => service.init = reader.boolean(node, &named).unwrap_or_default(),
        "stop_signal" => service.stop_signal = reader.signal(node, &named),
        "stop_grace_period" => {
            if let Some(period) = reader.duration(node, &named) {
                service.stop_grace_period = period;
            }
        }
        "profiles" => {
            let texts = reader.texts(node, &named).into_iter();
            service.profiles = texts.map(|(text, _)| text).collect();
        }
        "scale" => late.scale = reader.small(node, &named, REPLICAS_MAX).map(|n| (n, at)),
        "deploy" => late.deploy = reader.deploy(node, owner),
        "mem_limit" => late.memory = reader.memory(node, &named).map(|v| (v, at)),
        "cpus" => late.cpus = reader.cpus(node, &named).map(|v| (v, at)),
        "pids_limit" => late.pids = reader.pids(node, &named).map(|v| (v, at)),
        "x-mainspring" => service.extension = reader.extension(node, owner),
        "container_name" => late.container_name = Some(at),
        other => reader.by_value(other, node, at, &named),
    }
}

fn finish(reader: &mut Reader<'_>, owner: &str, service: &mut Service, late: Late) {
    service.environment = late.env_files;
    service.environment.extend(late.environment);
    let own = std::mem::replace(&mut service.labels, late.deploy.labels);
    service.labels.extend(own);
    service.update = late.deploy.update;
    if let Some(restart) = late.deploy.restart {
        service.restart = restart;
    }
    let mut one = |short: Option<(u64, At)>, long: Option<(u64, At)>, names: &str| {
        if let (Some((a, at)), Some((b, _))) = (short, long)
            && a != b
        {
            reader.report.error(
                "said-twice",
                at,
                format!("{owner} says {names} with different values"),
                "they mean the same",
                "keep the one under `deploy`",
            );
        }
        long.or(short).map(|(value, _)| value)
    };
    let wide = |v: Option<(u32, At)>| v.map(|(n, at)| (u64::from(n), at));
    let replicas = one(wide(late.scale), wide(late.deploy.replicas), "`scale` and `replicas`");
    service.replicas = replicas.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    service.limits.memory_bytes =
        one(late.memory, late.deploy.memory, "`mem_limit` and `limits.memory`");
    service.limits.pids = one(late.pids, late.deploy.pids, "`pids_limit` and `limits.pids`");
    let bits = |v: Option<(f64, At)>| v.map(|(cpus, at)| (cpus.to_bits(), at));
    let cpus = one(bits(late.cpus), bits(late.deploy.cpus), "`cpus` and `limits.cpus`");
    service.limits.cpus = cpus.map(f64::from_bits);
    if let Some(at) = late.container_name {
        let replicas = service.replicas;
        if replicas > 1 {
            reader.report.error(
                "container-name-replicas",
                at,
                format!("{owner} has a `container_name` and {replicas} replicas"),
                "two instances cannot have one name",
                "remove `container_name`",
            );
        } else {
            reader.report.warn(
                "key-partly",
                at,
                format!("`container_name` of {owner} has no effect"),
                format!("instances are called `{0}.1`, and others reach `{0}`", service.name),
                "remove it, or leave it for Docker",
            );
        }
    }
    let native = service.extension.native || service.build.is_none();
    if let Some(dir) = service.working_dir.take() {
        service.working_dir = Some(match native {
            true => super::normal(&reader.project_dir.join(dir)),
            false => dir,
        });
    }
}

impl Reader<'_> {
    fn dependencies(&mut self, node: &Node, owner: &str) -> Vec<Dependency> {
        let what = format!("`depends_on` of {owner}");
        let node = crate::merge::names(node.clone());
        let Value::Map(entries) = &node.value else {
            self.wrong_list(&node, &what);
            return Vec::new();
        };
        let mut dependencies = Vec::new();
        for entry in entries {
            let service = match entry.key.parse::<ServiceName>() {
                Ok(name) => name,
                Err(error) => {
                    self.bad(entry.at, &format!("a name in {what}"), &entry.key, error.rule);
                    continue;
                }
            };
            let mut dependency = Dependency {
                service,
                condition: Condition::ServiceStarted,
                required: true,
                restart: false,
                place: self.report.place(entry.at),
            };
            let inner_owner = format!("`{}` in {what}", entry.key);
            for inner in self.entries(Scope::Dependency, &inner_owner, &entry.node) {
                let named = format!("`{}` of {inner_owner}", inner.key);
                match inner.key.as_str() {
                    "condition" => {
                        if let Some(condition) = self.condition(&inner.node, &named) {
                            dependency.condition = condition;
                        }
                    }
                    "required" => {
                        dependency.required = self.boolean(&inner.node, &named).unwrap_or(true);
                    }
                    _ => {
                        dependency.restart = self.boolean(&inner.node, &named).unwrap_or_default();
                    }
                }
            }
            dependencies.push(dependency);
        }
        dependencies
    }

    fn condition(&mut self, node: &Node, named: &str) -> Option<Condition> {
        match self.text(node, named)?.as_str() {
            "service_started" => Some(Condition::ServiceStarted),
            "service_healthy" => Some(Condition::ServiceHealthy),
            "service_completed_successfully" => Some(Condition::ServiceCompletedSuccessfully),
            other => {
                let next = "write `service_started`, `service_healthy` or \
                            `service_completed_successfully`";
                self.bad(node.at, named, other, next);
                None
            }
        }
    }

    fn restart(&mut self, node: &Node, named: &str) -> Restart {
        let Some(text) = self.text(node, named) else { return Restart::No };
        match text.split_once(':').map_or((text.as_str(), None), |(a, b)| (a, Some(b))) {
            ("no", None) => Restart::No,
            ("always", None) => Restart::Always,
            ("unless-stopped", None) => Restart::UnlessStopped,
            ("on-failure", None) => Restart::OnFailure { max_retries: None },
            ("on-failure", Some(count)) if count.parse::<u32>().is_ok() => {
                Restart::OnFailure { max_retries: count.parse().ok() }
            }
            _ => {
                let next = "write `\"no\"`, `always`, `on-failure`, `on-failure:3` or \
                            `unless-stopped`";
                self.bad(node.at, named, &text, next);
                Restart::No
            }
        }
    }

    fn signal(&mut self, node: &Node, named: &str) -> Option<String> {
        let text = self.text(node, named).filter(|t| !t.is_empty())?;
        let signal = crate::signal::normal(&text);
        if signal.is_none() {
            self.bad(node.at, named, &text, "write a signal such as `SIGTERM` or `15`");
        }
        signal
    }

    /// Keys whose value decides whether they can be left out.
    fn by_value(&mut self, key: &str, node: &Node, at: At, named: &str) {
        if key == "networks" {
            return self.networks(node, named);
        }
        let Some(text) = self.text(node, named) else { return };
        let joins = text.starts_with("service:") || text.starts_with("container:");
        let later = match key {
            "network_mode" => !matches!(text.as_str(), "host" | "bridge" | "default"),
            "runtime" => text != "runc",
            _ => joins,
        };
        if later {
            self.report.error(
                "key-not-supported",
                at,
                format!("{named} is `{text}`"),
                "without it the app would not be what the file says",
                "remove it; services of an app reach each other by name",
            );
        } else if key != "runtime" {
            self.report.warn(
                "key-partly",
                at,
                format!("{named} has no effect in this version"),
                "the engine chooses the namespaces of its instances",
                "remove it, or leave it for Docker",
            );
        }
    }

    fn networks(&mut self, node: &Node, named: &str) {
        for network in node.entries() {
            for entry in network.node.entries() {
                match entry.key.as_str() {
                    "aliases" => self.report.error(
                        "key-later",
                        entry.at,
                        format!("`aliases` in {named} is not yet part of this version"),
                        "other services would not find the name",
                        "call the service by its own name",
                    ),
                    key if key.starts_with("x-") => {}
                    key => self.report.warn(
                        "key-ignored",
                        entry.at,
                        format!("`{key}` in {named} has no effect"),
                        "every service has one address, which its name leads to",
                        "remove it, or leave it for Docker",
                    ),
                }
            }
        }
    }

    fn env_files(&mut self, node: &Node, owner: &str) -> BTreeMap<String, String> {
        let what = format!("`env_file` of {owner}");
        let mut all = BTreeMap::new();
        let single = std::slice::from_ref(node);
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => single,
        };
        if items.len() > ENV_FILES_MAX {
            let what = format!("{what} names more than {ENV_FILES_MAX} files");
            self.report.error("too-many-items", node.at, what, "lists are bounded", "join some");
        }
        for item in items.iter().take(ENV_FILES_MAX) {
            let (mut path, mut required, mut format) = (None, true, None);
            if let Value::Map(_) = &item.value {
                for entry in self.entries(Scope::EnvFile, &what, item) {
                    let named = format!("`{}` of {what}", entry.key);
                    match entry.key.as_str() {
                        "path" => path = self.text(&entry.node, &named),
                        "required" => {
                            required = self.boolean(&entry.node, &named).unwrap_or(true);
                        }
                        _ => format = self.text(&entry.node, &named).map(|f| (f, entry.node.at)),
                    }
                }
            } else {
                path = self.text(item, &what);
            }
            let raw = match &format {
                None => false,
                Some((format, _)) if format == "raw" => true,
                Some((format, at)) => {
                    self.bad(*at, &format!("the format of {what}"), format, "write `raw`");
                    continue;
                }
            };
            if let Some(path) = path {
                let path = self.host_path(&path);
                let at = self.report.place(item.at);
                let shown = self.shown(&path);
                let source = crate::env::Source { path: &path, shown: &shown, asked_at: Some(at) };
                let read =
                    crate::env::read(self.files, &source, required, raw, self.env, self.report);
                all.extend(read);
            }
        }
        all
    }
}
