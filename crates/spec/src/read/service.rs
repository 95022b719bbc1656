//! One service: every key that is honoured, by its reader.

use std::collections::BTreeMap;

use base::{Place, ServiceName};

use super::Reader;
use super::deploy::REPLICAS_MAX;
use super::files::Kind;
use super::health::RawHealthcheck;
use super::limits::SaidLimits;
use crate::keys::Scope;
use crate::model::{Condition, Dependency, PullPolicy, Restart, Service};
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
    working_dir: Option<At>,
    scale: Option<(u32, At)>,
    deploy: super::deploy::Deploy,
    limits: SaidLimits,
    label_files: BTreeMap<String, String>,
    platform: Option<String>,
    pull_policy: Option<At>,
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
        service: Service::new(name, place),
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

fn key(reader: &mut Reader<'_>, entry: &Entry, owner: &str, raw: &mut RawService, late: &mut Late) {
    let (node, at, key) = (&entry.node, entry.at, entry.key.as_str());
    let named = format!("`{key}` of {owner}");
    let service = &mut raw.service;
    match key {
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
            late.environment = reader.filled(node, &named);
        }
        "env_file" => late.env_files = reader.env_files(node, owner),
        "working_dir" => {
            service.working_dir = reader.text(node, &named).map(Into::into);
            late.working_dir = Some(node.at);
        }
        "labels" => service.labels = reader.labels(node, &named),
        "annotations" => service.annotations = reader.labels(node, &named),
        "label_file" => late.label_files = reader.label_files(node, &named),
        "ports" => service.ports = reader.ports(node, owner),
        "expose" => service.expose = reader.expose(node, owner),
        "volumes" => {
            let tmpfs = std::mem::replace(&mut service.volumes, reader.mounts(node, owner));
            service.volumes.extend(tmpfs);
        }
        "tmpfs" => reader.tmpfs(node, owner, &mut service.volumes),
        "depends_on" => {
            let implied =
                std::mem::replace(&mut service.depends_on, reader.dependencies(node, owner));
            implied.into_iter().for_each(|d| wait_for(service, d.service, d.place));
        }
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
        "secrets" => service.secrets = reader.grants(node, Kind::Secret, owner),
        "configs" => service.configs = reader.grants(node, Kind::Config, owner),
        "pre_start" => service.hooks.pre_start = reader.hooks(node, Scope::PreStart, key, owner),
        "post_start" => service.hooks.post_start = reader.hooks(node, Scope::PostStart, key, owner),
        "pre_stop" => service.hooks.pre_stop = reader.hooks(node, Scope::PreStop, key, owner),
        "logging" => service.logging = reader.logging(node, owner),
        "pull_policy" => {
            service.pull_policy = reader.pull_policy(node, &named);
            late.pull_policy = Some(node.at);
        }
        "platform" => late.platform = reader.platform(node, &named),
        "x-mainspring" => service.extension = reader.extension(node, owner),
        "runtime" | "ipc" | "pid" | "uts" | "cgroup" => reader.by_value(key, node, at, &named),
        other => {
            if other == "container_name" {
                late.container_name = Some(at);
            }
            _ = reader.networking_key(other, node, at, owner, service)
                || reader.rights_key(other, node, owner, service)
                || reader.limits_key(other, node, at, owner, &mut late.limits);
        }
    }
}

/// Adds what is waited for without being said: a link, for instance.
pub(super) fn wait_for(service: &mut Service, on: ServiceName, place: Place) {
    if service.depends_on.iter().all(|d| d.service != on) {
        service.depends_on.push(Dependency {
            service: on,
            condition: Condition::ServiceStarted,
            required: true,
            restart: false,
            place,
        });
    }
}

fn finish(reader: &mut Reader<'_>, owner: &str, service: &mut Service, late: Late) {
    service.environment = late.env_files;
    service.environment.extend(late.environment);
    let own = std::mem::replace(&mut service.labels, late.label_files);
    service.labels.extend(late.deploy.labels);
    service.labels.extend(own);
    service.update = late.deploy.update;
    service.rollback = late.deploy.rollback;
    service.global = late.deploy.global;
    service.placement = late.deploy.placement;
    service.placement.platform = late.platform;
    if let Some((restart, pace)) = late.deploy.restart {
        (service.restart, service.restart_pace) = (restart, pace);
    }
    let wide = |v: Option<(u32, At)>| v.map(|(n, at)| (u64::from(n), at));
    let (scale, replicas) = (wide(late.scale), wide(late.deploy.replicas));
    if let (true, Some((_, at))) = (service.global, scale.or(replicas)) {
        reader.report.error(
            "said-twice",
            at,
            format!("{owner} is `mode: global` and says how many replicas"),
            "a global service has one instance on every node",
            "keep one of them",
        );
    }
    let replicas = reader.one(scale, replicas, "`scale` and `replicas`", owner);
    service.replicas = replicas.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    service.limits = reader.limits(late.limits, late.deploy.limits, owner);
    reader.unpublished(owner, service);
    // What is there already is as good as what would be pulled only if that is allowed.
    let pulls =
        !matches!(service.pull_policy, None | Some(PullPolicy::Never | PullPolicy::Missing));
    let image = service.image.is_some() && service.build.is_none() && !service.extension.native;
    if let (true, true, Some(at)) = (pulls, image, late.pull_policy) {
        reader.report.warn(
            "key-partly",
            at,
            format!("`pull_policy` of {owner} has no effect"),
            "no image is pulled: a program of the host takes its place",
            "remove it, or leave it for Docker",
        );
    }
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
        }
    }
    let native = service.extension.native || service.build.is_none();
    if let (Some(dir), Some(at)) = (service.working_dir.take(), late.working_dir) {
        service.working_dir = Some(match native {
            true => super::normal(&reader.origins.of(at).dir.join(dir)),
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
        let Some(text) = self.text(node, named) else { return };
        let refused = match key {
            "runtime" => text != "runc",
            _ => text.starts_with("service:") || text.starts_with("container:"),
        };
        if refused {
            self.report.error(
                "key-not-supported",
                at,
                format!("{named} is `{}`", text.escape_debug()),
                "without it the app would not be what the file says",
                "remove it; services of an app reach each other by name",
            );
        } else if !matches!((key, text.as_str()), ("runtime", _) | (_, "private" | "shareable")) {
            self.report.warn(
                "key-partly",
                at,
                format!("{named} has no effect in this version"),
                "the engine chooses the namespaces of its instances",
                "remove it, or leave it for Docker",
            );
        }
    }

    /// `os/architecture`, with a variant perhaps.
    fn platform(&mut self, node: &Node, named: &str) -> Option<String> {
        let text = self.text(node, named).filter(|p| !p.is_empty())?;
        let here = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut parts = text.split('/');
        let fits = |part: Option<&str>, own: &str| part.is_none_or(|part| part == own);
        let os = fits(parts.next(), std::env::consts::OS);
        if !os || !fits(parts.next(), here) {
            self.report.warn(
                "key-partly",
                node.at,
                format!("{named} is `{}`, and this host is linux/{here}", text.escape_debug()),
                match os {
                    true => "what runs are the host's own programs, for its own processors",
                    false => "no node has that system, so it is not started",
                },
                "remove it, or leave it for Docker",
            );
        }
        Some(text)
    }

    /// Labels: pairs in which a missing value is an empty one.
    pub(crate) fn labels(&mut self, node: &Node, named: &str) -> BTreeMap<String, String> {
        let pairs = self.pairs(node, named).into_iter();
        pairs.map(|(key, value)| (key, value.unwrap_or_default())).collect()
    }

    fn label_files(&mut self, node: &Node, named: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (text, at) in self.bounded(node, named, ENV_FILES_MAX) {
            let path = self.origins.path(&text, at);
            let shown = self.origins.shown(&path);
            let asked_at = Some(self.report.place(at));
            let source = crate::env::Source { path: &path, shown: &shown, asked_at };
            let nothing = BTreeMap::new();
            all.extend(crate::env::read(self.files, &source, true, false, &nothing, self.report));
        }
        all
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
        let mut named_files: Vec<(std::path::PathBuf, bool, bool, At)> = Vec::new();
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
            let Some(path) = path else { continue };
            // A file that is named again stays where it was, as it is said last.
            let file = (self.origins.path(&path, item.at), required, raw, item.at);
            match named_files.iter().position(|known| known.0 == file.0) {
                Some(i) => named_files[i] = file,
                None => named_files.push(file),
            }
        }
        for (path, required, raw, at) in named_files {
            let env = &self.origins.of(at).env;
            let asked_at = Some(self.report.place(at));
            let shown = self.origins.shown(&path);
            let source = crate::env::Source { path: &path, shown: &shown, asked_at };
            all.extend(crate::env::read(self.files, &source, required, raw, env, self.report));
        }
        all
    }
}
