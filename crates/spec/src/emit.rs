//! The resolved model as a Compose file.
//!
//! Not here: comments, anchors and variables of the files that it came from; they are resolved.
//! Loading the outcome from the same project folder gives the same app again. A `$` is doubled,
//! because loading would read it as a variable.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

mod policy;
mod rights;
#[cfg(test)]
mod tests;
mod top;

use crate::duration::show;
use crate::model::{
    App, Balance, Build, Condition, Healthcheck, Mount, MountKind, Port, PortKind, PortProtocols,
    Protocol, Restart, Service, Test,
};

/// The app as a Compose file with everything spelled out.
pub fn to_yaml(app: &App) -> String {
    let mut out = Yaml::default();
    out.pair("name", &app.name);
    out.open("services", |out| {
        for service in app.services.values() {
            out.open(&quoted(service.name.as_str()), |out| emit_service(out, service));
        }
    });
    top::emit(&mut out, app);
    out.text
}

fn emit_service(out: &mut Yaml, service: &Service) {
    out.option("image", service.image.as_ref());
    if let Some(build) = &service.build {
        out.open("build", |out| emit_build(out, build));
    }
    if let Some(entrypoint) = &service.entrypoint {
        out.list("entrypoint", entrypoint);
    }
    if let Some(command) = &service.command {
        out.list("command", command);
    }
    out.map("environment", &service.environment);
    if let Some(dir) = &service.working_dir {
        out.pair("working_dir", &shown(dir));
    }
    rights::emit(out, service);
    out.items("ports", &service.ports, emit_port);
    if !service.expose.is_empty() {
        let each = service.expose.iter().map(|(port, kind)| format!("{port}/{}", transport(*kind)));
        out.list("expose", &each.collect::<Vec<_>>());
    }
    // What the long form has no words for comes from `tmpfs`, whose mounts are last.
    let bare = |m: &Mount| {
        !matches!(&m.kind, MountKind::Tmpfs { owner, without, .. }
        if (*owner, *without) != Default::default())
    };
    let short_from = service.volumes.iter().position(|m| !bare(m));
    let (long, short) = service.volumes.split_at(short_from.unwrap_or(service.volumes.len()));
    out.items("volumes", long, emit_mount);
    if !short.is_empty() {
        out.list("tmpfs", &short.iter().map(tmpfs_text).collect::<Vec<_>>());
    }
    out.items("secrets", &service.secrets, top::emit_grant);
    out.items("configs", &service.configs, top::emit_grant);
    if !service.depends_on.is_empty() {
        out.open("depends_on", |out| {
            for dependency in &service.depends_on {
                out.open(&quoted(dependency.service.as_str()), |out| {
                    out.pair(
                        "condition",
                        match dependency.condition {
                            Condition::ServiceStarted => "service_started",
                            Condition::ServiceHealthy => "service_healthy",
                            Condition::ServiceCompletedSuccessfully => {
                                "service_completed_successfully"
                            }
                        },
                    );
                    out.line(&format!("required: {}", dependency.required));
                    out.line(&format!("restart: {}", dependency.restart));
                });
            }
        });
    }
    if let Some(check) = &service.healthcheck {
        out.open("healthcheck", |out| emit_healthcheck(out, check));
    }
    policy::emit_hooks(out, service);
    match service.restart {
        // A pace can only be said with `restart_policy`.
        _ if service.restart_pace != Default::default() => {}
        Restart::No => {}
        Restart::Always => out.pair("restart", "always"),
        Restart::UnlessStopped => out.pair("restart", "unless-stopped"),
        Restart::OnFailure { max_retries: None } => out.pair("restart", "on-failure"),
        Restart::OnFailure { max_retries: Some(n) } => {
            out.pair("restart", &format!("on-failure:{n}"));
        }
    }
    out.option("stop_signal", service.stop_signal.as_ref());
    out.pair("stop_grace_period", &show(service.stop_grace_period));
    out.map("labels", &service.labels);
    out.map("annotations", &service.annotations);
    policy::emit_logging(out, service);
    if service.init {
        out.line("init: true");
    }
    if !service.profiles.is_empty() {
        out.list("profiles", &service.profiles.iter().cloned().collect::<Vec<_>>());
    }
    policy::emit_limits(out, service);
    out.open("deploy", |out| policy::emit_deploy(out, service));
    emit_extension(out, service);
}

fn emit_build(out: &mut Yaml, build: &Build) {
    out.pair("context", &shown(&build.context));
    match &build.dockerfile_inline {
        Some(text) => out.pair("dockerfile_inline", text),
        None => out.pair("dockerfile", &shown(&build.dockerfile)),
    }
    out.option("target", build.target.as_ref());
    out.map("args", &build.args);
    let contexts = build.contexts.iter().map(|(name, context)| match context {
        crate::model::NamedContext::Folder(folder) => (name.clone(), shown(folder)),
        crate::model::NamedContext::Image(image) => {
            (name.clone(), format!("docker-image://{image}"))
        }
    });
    out.map("additional_contexts", &contexts.collect());
    out.map("ssh", &build.ssh.iter().map(|(name, path)| (name.clone(), shown(path))).collect());
    out.items("secrets", &build.secrets, top::emit_grant);
    if build.no_cache {
        out.line("no_cache: true");
    }
}

fn emit_port(out: &mut Yaml, port: &Port) {
    out.line(&format!("target: {}", port.target));
    if let Some(published) = port.published {
        out.line(&format!("published: {}", quoted(&published.to_string())));
    }
    if let Some(ip) = port.host_ip {
        out.pair("host_ip", &ip.to_string());
    }
    out.pair("protocol", transport(port.protocol));
    out.option("app_protocol", port.app_protocol.as_ref());
    out.option("name", port.name.as_ref());
}

fn emit_mount(out: &mut Yaml, mount: &Mount) {
    match &mount.kind {
        MountKind::Bind { source, create_host_path } => {
            out.pair("type", "bind");
            out.pair("source", &shown(source));
            out.open("bind", |out| out.line(&format!("create_host_path: {create_host_path}")));
        }
        MountKind::Named { name, subpath } => {
            out.pair("type", "volume");
            out.pair("source", name);
            if mount.no_copy || subpath.is_some() {
                out.open("volume", |out| {
                    out.flag("nocopy", mount.no_copy);
                    if let Some(path) = subpath {
                        out.pair("subpath", &shown(path));
                    }
                });
            }
        }
        MountKind::Anonymous => {
            out.pair("type", "volume");
            if mount.no_copy {
                out.open("volume", |out| out.flag("nocopy", true));
            }
        }
        MountKind::Tmpfs { size_bytes, mode, .. } => {
            out.pair("type", "tmpfs");
            if size_bytes.is_some() || mode.is_some() {
                out.open("tmpfs", |out| {
                    if let Some(size) = size_bytes {
                        out.line(&format!("size: {size}"));
                    }
                    if let Some(mode) = mode {
                        out.line(&format!("mode: \"{mode:o}\""));
                    }
                });
            }
        }
    }
    out.pair("target", &shown(&mount.target));
    if mount.read_only {
        out.line("read_only: true");
    }
}

/// A tmpfs in the form of the `tmpfs` key.
fn tmpfs_text(mount: &Mount) -> String {
    let mut options = Vec::new();
    if let MountKind::Tmpfs { size_bytes, mode, owner, without } = &mount.kind {
        options.extend(size_bytes.map(|size| format!("size={size}")));
        options.extend(mode.map(|mode| format!("mode={mode:o}")));
        options.extend(owner.uid.map(|uid| format!("uid={uid}")));
        options.extend(owner.gid.map(|gid| format!("gid={gid}")));
        let said = [(without.exec, "noexec"), (without.suid, "nosuid"), (without.dev, "nodev")];
        options.extend(said.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
    }
    if mount.read_only {
        options.push("ro".to_owned());
    }
    format!("{}:{}", shown(&mount.target), options.join(","))
}

fn emit_healthcheck(out: &mut Yaml, check: &Healthcheck) {
    match &check.test {
        Test::None => out.list("test", &["NONE".to_owned()]),
        Test::Shell(line) => out.list("test", &["CMD-SHELL".to_owned(), line.clone()]),
        Test::Exec(words) => {
            out.list("test", &[&["CMD".to_owned()], words.as_slice()].concat());
        }
    }
    out.pair("interval", &show(check.interval));
    out.pair("timeout", &show(check.timeout));
    out.line(&format!("retries: {}", check.retries));
    out.pair("start_period", &show(check.start_period));
    out.pair("start_interval", &show(check.start_interval));
}

fn emit_extension(out: &mut Yaml, service: &Service) {
    let extension = &service.extension;
    if *extension == crate::model::Extension::default() {
        return;
    }
    let name = |protocol: &Protocol| match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    };
    out.open("x-mainspring", |out| {
        if extension.native {
            out.line("native: true");
        }
        match &extension.protocol {
            Some(PortProtocols::All(protocol)) => out.pair("protocol", name(protocol)),
            Some(PortProtocols::Each(each)) => {
                let lines = each.iter().map(|(port, protocol)| (port.to_string(), name(protocol)));
                let lines: BTreeMap<String, String> =
                    lines.map(|(port, name)| (port, name.to_owned())).collect();
                match lines.is_empty() {
                    true => out.line("protocol: {}"),
                    false => out.map("protocol", &lines),
                }
            }
            None => {}
        }
        out.option("engine", extension.engine.as_ref());
        if let Some(prepare) = &extension.prepare {
            out.list("prepare", prepare);
        }
        match extension.balance {
            Some(Balance::LeastRequests) => out.pair("balance", "least-requests"),
            Some(Balance::RoundRobin) => out.pair("balance", "round-robin"),
            None => {}
        }
    });
}

fn transport(kind: PortKind) -> &'static str {
    match kind {
        PortKind::Tcp => "tcp",
        PortKind::Udp => "udp",
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Indented lines of block YAML.
#[derive(Default)]
struct Yaml {
    text: String,
    depth: usize,
    /// The next line is the first of a list item.
    item: bool,
}

impl Yaml {
    fn line(&mut self, line: &str) {
        let indent = "  ".repeat(self.depth);
        match std::mem::take(&mut self.item) {
            // The dash stands in the two columns that the item's own lines are indented by.
            true => {
                let _ = writeln!(self.text, "{}- {line}", &indent[2..]);
            }
            false => {
                let _ = writeln!(self.text, "{indent}{line}");
            }
        }
    }

    fn open(&mut self, key: &str, inside: impl FnOnce(&mut Yaml)) {
        self.line(&format!("{key}:"));
        self.depth += 1;
        inside(self);
        self.depth -= 1;
    }

    /// A value, quoted where it must be; variables cannot come of it.
    fn pair(&mut self, key: &str, value: &str) {
        self.line(&format!("{key}: {}", value_text(value)));
    }

    fn option(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.pair(key, value);
        }
    }

    fn flag(&mut self, key: &str, is: bool) {
        if is {
            self.line(&format!("{key}: true"));
        }
    }

    fn map(&mut self, key: &str, map: &BTreeMap<String, String>) {
        if !map.is_empty() {
            self.open(key, |out| {
                for (key, value) in map {
                    out.pair(&quoted(key), value);
                }
            });
        }
    }

    fn list(&mut self, key: &str, items: &[String]) {
        if items.is_empty() {
            return self.line(&format!("{key}: []"));
        }
        self.open(key, |out| {
            for item in items {
                out.line(&format!("- {}", value_text(item)));
            }
        });
    }

    /// A list that is left out when it is empty.
    fn some(&mut self, key: &str, items: &[String]) {
        if !items.is_empty() {
            self.list(key, items);
        }
    }

    fn items<T>(&mut self, key: &str, items: &[T], each: impl Fn(&mut Yaml, &T)) {
        if items.is_empty() {
            return;
        }
        self.open(key, |out| {
            for item in items {
                out.depth += 1;
                out.item = true;
                each(out, item);
                out.depth -= 1;
            }
        });
    }
}

fn value_text(value: &str) -> String {
    quoted(&value.replace('$', "$$"))
}

/// The text as a YAML scalar: plain when nobody could read it as anything else.
fn quoted(text: &str) -> String {
    if plain(text) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c) || c == '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether every reader of YAML takes the bare text for this text.
fn plain(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:@+=%".contains(c);
    let special = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let word = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(safe)
        && !text.ends_with(':')
        && !special.contains(&text.to_ascii_lowercase().as_str());
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    word || (unit.len() < text.len() && ["us", "ms", "s", "m", "h"].contains(&unit))
}
