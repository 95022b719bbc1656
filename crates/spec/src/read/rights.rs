//! What a service is allowed and what is its own of the kernel: capabilities, security options,
//! devices, sysctls, ulimits, `/dev/shm` and the killer's preference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Reader, normal};
use crate::keys::Scope;
use crate::model::{Device, Rights, Seccomp, Service, Ulimit};
use crate::report::At;
use crate::suggest::nearest;
use crate::tree::{Node, Value};

const ITEMS_MAX: usize = 256;

/// Linux's capabilities, without `CAP_`.
const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Limits of a process, as `ulimits` calls them.
const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Reader<'_> {
    /// A key about rights or the kernel. `false` when it is none of these.
    pub(super) fn rights_key(
        &mut self,
        key: &str,
        node: &Node,
        owner: &str,
        service: &mut Service,
    ) -> bool {
        let named = format!("`{key}` of {owner}");
        let (rights, kernel) = (&mut service.rights, &mut service.kernel);
        match key {
            "user" => {
                let text = self.text(node, &named).filter(|u| !u.is_empty());
                service.user = text.filter(|text| self.is_account(text, node.at, &named));
            }
            "group_add" => {
                let texts = self.bounded(node, &named, ITEMS_MAX).into_iter();
                let fit = texts.filter(|(text, at)| self.is_account(text, *at, &named));
                rights.group_add = fit.map(|(text, _)| text).collect();
                rights.group_add.dedup();
            }
            "cap_add" => rights.cap_add = self.capabilities(node, &named),
            "cap_drop" => rights.cap_drop = self.capabilities(node, &named),
            "privileged" => rights.privileged = self.boolean(node, &named).unwrap_or_default(),
            "read_only" => rights.read_only = self.boolean(node, &named).unwrap_or_default(),
            "security_opt" => self.security(node, &named, rights),
            "devices" => rights.devices = self.devices(node, owner),
            "sysctls" => kernel.sysctls = self.sysctls(node, &named),
            "ulimits" => kernel.ulimits = self.ulimits(node, owner),
            "shm_size" => kernel.shm_size_bytes = self.memory(node, &named),
            "oom_score_adj" => kernel.oom_score_adj = self.score(node, &named),
            _ => return false,
        }
        true
    }

    /// A user, group or `user:group`: what could be looked up in a line of `/etc/passwd`.
    fn is_account(&mut self, text: &str, at: At, named: &str) -> bool {
        let good = text.split(':').count() <= 2
            && text.len() <= 256
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if !good {
            let next = "write a name or a number, as in `1000` or `app:app`";
            self.bad(at, named, &text.escape_debug().to_string(), next);
        }
        good
    }

    fn capabilities(&mut self, node: &Node, named: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (text, at) in self.bounded(node, named, ITEMS_MAX) {
            let upper = text.to_ascii_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if name == "ALL" || CAPABILITIES.contains(&name) {
                all.insert(name.to_owned());
                continue;
            }
            let lower: Vec<String> = CAPABILITIES.iter().map(|c| c.to_ascii_lowercase()).collect();
            let typed = name.to_ascii_lowercase();
            let next = match nearest(&typed, lower.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{}`?", meant.to_ascii_uppercase()),
                None => "write one of Linux's capabilities, as in `NET_ADMIN`, or `ALL`".to_owned(),
            };
            self.bad(at, &format!("a capability in {named}"), &text, next);
        }
        all
    }

    fn security(&mut self, node: &Node, named: &str, rights: &mut Rights) {
        for (text, at) in self.bounded(node, named, ITEMS_MAX) {
            let (option, value) =
                text.split_once(['=', ':']).map_or((text.as_str(), None), |(o, v)| (o, Some(v)));
            match (option, value) {
                ("no-new-privileges", None | Some("true")) => {
                    rights.no_new_privileges = Some(true);
                }
                ("no-new-privileges", Some("false")) => rights.no_new_privileges = Some(false),
                ("seccomp", Some("unconfined")) => rights.seccomp = Some(Seccomp::Unconfined),
                ("seccomp", Some("builtin")) => rights.seccomp = None,
                ("seccomp", Some(path)) if !path.is_empty() => {
                    rights.seccomp = Some(Seccomp::Profile(self.origins.path(path, at)));
                }
                ("apparmor" | "label" | "systempaths" | "writable-cgroups", _) => self.report.warn(
                    "key-partly",
                    at,
                    format!("`{option}` in {named} has no effect"),
                    "`no-new-privileges` and `seccomp` are the options that are known",
                    "remove it, or leave it for Docker",
                ),
                _ => {
                    let next = "write `no-new-privileges:true` or `seccomp=unconfined`";
                    self.bad(at, &format!("an option in {named}"), &text, next);
                }
            }
        }
    }

    /// `SOURCE`, `SOURCE:TARGET`, `SOURCE:TARGET:rwm`, or a map.
    fn devices(&mut self, node: &Node, owner: &str) -> Vec<Device> {
        let mut devices: Vec<Device> = Vec::new();
        let named = format!("a device of {owner}");
        for item in self.items(node, &format!("`devices` of {owner}")) {
            let (mut source, mut target, mut permissions) = (None, None, None);
            if let Value::Map(_) = &item.value {
                for entry in self.entries(Scope::Device, &named, item) {
                    let text = self.text(&entry.node, &format!("`{}` of {named}", entry.key));
                    match entry.key.as_str() {
                        "source" => source = text,
                        "target" => target = text,
                        _ => permissions = text,
                    }
                }
            } else if let Some(text) = self.text(item, &named) {
                let mut parts = text.splitn(3, ':').map(str::to_owned);
                (source, target, permissions) = (parts.next(), parts.next(), parts.next());
            }
            let Some(source) = source else { continue };
            let permissions = permissions.unwrap_or_else(|| "rwm".to_owned());
            let target = target.unwrap_or_else(|| source.clone());
            let absolute = source.starts_with('/') && target.starts_with('/');
            if !absolute || permissions.is_empty() || permissions.contains(|c| !"rwm".contains(c)) {
                let next = "write `/dev/SOURCE:/dev/TARGET:rwm` with absolute paths";
                self.bad(item.at, &named, &format!("{source}:{target}:{permissions}"), next);
                continue;
            }
            let path = |text: &str| -> PathBuf { normal(Path::new(text)) };
            let device = Device { source: path(&source), target: path(&target), permissions };
            match devices.iter().position(|d| d.target == device.target) {
                Some(i) => devices[i] = device,
                None => devices.push(device),
            }
        }
        devices
    }

    fn sysctls(&mut self, node: &Node, named: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (key, value) in self.pairs(node, named) {
            let own = ["kernel.shm", "kernel.msg", "fs.mqueue."];
            if own.iter().any(|prefix| key.starts_with(prefix)) || key == "kernel.sem" {
                all.insert(key, value.unwrap_or_default());
                continue;
            }
            let what = format!("`{key}` in {named}");
            if key.starts_with("net.") {
                self.report.warn(
                    "key-partly",
                    node.at,
                    format!("{what} has no effect"),
                    "instances are on the host's network, whose settings are the host's",
                    format!("set it on the host: sysctl -w {key}={}", value.unwrap_or_default()),
                );
                continue;
            }
            self.report.error(
                "bad-value",
                node.at,
                format!("{what} is not a parameter that a service can have of its own"),
                "it would change the whole host",
                "set it on the host; kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* can be \
                 a service's own",
            );
        }
        all
    }

    fn ulimits(&mut self, node: &Node, owner: &str) -> BTreeMap<String, Ulimit> {
        let mut all = BTreeMap::new();
        let what = format!("`ulimits` of {owner}");
        let Value::Map(entries) = &node.value else {
            self.entries(Scope::Ulimit, &what, node);
            return all;
        };
        for entry in entries {
            let named = format!("`{}` in {what}", entry.key);
            if !ULIMITS.contains(&entry.key.as_str()) {
                let next = match nearest(&entry.key, ULIMITS.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("it may be: {}", ULIMITS.join(", ")),
                };
                self.bad(entry.at, &format!("a limit in {what}"), &entry.key, next);
                continue;
            }
            let limit = match &entry.node.value {
                Value::Map(_) => {
                    let (mut soft, mut hard) = (None, None);
                    for inner in self.entries(Scope::Ulimit, &named, &entry.node) {
                        let named = format!("`{}` of {named}", inner.key);
                        let read = self.ulimit(&inner.node, &named);
                        if inner.key == "soft" { soft = read } else { hard = read }
                    }
                    // What was refused is told already; what is missing is as the other.
                    match (soft, hard) {
                        (Some(soft), Some(hard)) => Some(Ulimit { soft, hard }),
                        (Some(one), None) | (None, Some(one)) => {
                            Some(Ulimit { soft: one, hard: one })
                        }
                        (None, None) => None,
                    }
                }
                _ => self.ulimit(&entry.node, &named).map(|n| Ulimit { soft: n, hard: n }),
            };
            let Some(limit) = limit else { continue };
            if limit.hard.is_some_and(|hard| limit.soft.is_none_or(|soft| soft > hard)) {
                let next = "make `soft` no more than `hard`";
                self.bad(entry.at, &named, "soft above hard", next);
                continue;
            }
            all.insert(entry.key.clone(), limit);
        }
        all
    }

    /// A limit; the inner `None` is -1: without limit.
    fn ulimit(&mut self, node: &Node, named: &str) -> Option<Option<u64>> {
        let text = self.text(node, named)?;
        if matches!(text.trim(), "-1" | "unlimited") {
            return Some(None);
        }
        self.number(node, named, u64::MAX - 1).map(Some)
    }

    fn score(&mut self, node: &Node, named: &str) -> Option<i32> {
        let text = self.text(node, named)?;
        let read = text.trim().parse::<i32>().ok().filter(|n| (-1000..=1000).contains(n));
        if read.is_none() {
            self.bad(node.at, named, &text, "write a number from -1000 to 1000");
        }
        read
    }
}
