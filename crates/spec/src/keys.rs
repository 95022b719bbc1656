//! Every key of the Compose specification, and what is done about it.
//!
//! Not here: reading the keys that are supported. A key that is in none of these tables is
//! unknown, which is an error; `x-…` is always accepted.

use std::collections::BTreeMap;

use crate::report::{At, Report};
use crate::suggest::nearest;
use crate::tree::{Entry, Node, Value};

/// What is done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Read and honoured.
    Support,
    /// Accepted; what does not hold of it is said once.
    Partly(&'static str),
    /// Has no effect here, for good; said once.
    Warn(&'static str),
    /// Will have an effect in a later version, and is harmless to leave out; said once.
    LaterWarn(&'static str),
    /// Will have an effect in a later version; without it the app would not be the same.
    Later(&'static str),
    /// Cannot be honoured; an error with a way out.
    Refuse(&'static str),
}

use Treatment::{Later, LaterWarn, Partly, Refuse, Support, Warn};

type Table = &'static [(&'static str, Treatment)];

/// A map of the file whose keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Top,
    Service,
    Build,
    Deploy,
    Update,
    RestartPolicy,
    Resources,
    Limits,
    Reservations,
    Healthcheck,
    Port,
    Mount,
    MountBind,
    MountVolume,
    MountTmpfs,
    Dependency,
    EnvFile,
    Volume,
    Extension,
}

impl Scope {
    pub(crate) fn table(self) -> Table {
        match self {
            Scope::Top => TOP,
            Scope::Service => SERVICE,
            Scope::Build => BUILD,
            Scope::Deploy => DEPLOY,
            Scope::Update => UPDATE,
            Scope::RestartPolicy => RESTART_POLICY,
            Scope::Resources => RESOURCES,
            Scope::Limits => LIMITS,
            Scope::Reservations => RESERVATIONS,
            Scope::Healthcheck => HEALTHCHECK,
            Scope::Port => PORT,
            Scope::Mount => MOUNT,
            Scope::MountBind => MOUNT_BIND,
            Scope::MountVolume => MOUNT_VOLUME,
            Scope::MountTmpfs => MOUNT_TMPFS,
            Scope::Dependency => DEPENDENCY,
            Scope::EnvFile => ENV_FILE,
            Scope::Volume => VOLUME,
            Scope::Extension => EXTENSION,
        }
    }
}

const TOP: Table = &[
    ("name", Support),
    ("services", Support),
    ("volumes", Support),
    ("version", Warn("Compose has not used it for years")),
    (
        "networks",
        Partly("all services of an app reach each other by name; they are not kept apart yet"),
    ),
    ("configs", LaterWarn("services that use one are refused")),
    ("secrets", LaterWarn("services that use one are refused")),
    ("include", Later("give the other file with another `-f`")),
    ("models", Refuse("model runners are a part of Docker; run the model as a service")),
];

const SERVICE: Table = &[
    ("image", Support),
    ("build", Support),
    ("command", Support),
    ("entrypoint", Support),
    ("environment", Support),
    ("env_file", Support),
    ("working_dir", Support),
    ("user", Support),
    ("hostname", Support),
    ("labels", Support),
    ("ports", Support),
    ("expose", Support),
    ("volumes", Support),
    ("tmpfs", Support),
    ("depends_on", Support),
    ("healthcheck", Support),
    ("restart", Support),
    ("init", Support),
    ("stop_signal", Support),
    ("stop_grace_period", Support),
    ("profiles", Support),
    ("scale", Support),
    ("deploy", Support),
    ("mem_limit", Support),
    ("cpus", Support),
    ("pids_limit", Support),
    ("x-mainspring", Support),
    // Their value decides; the reader of services looks at them.
    ("network_mode", Support),
    ("runtime", Support),
    ("ipc", Support),
    ("pid", Support),
    ("container_name", Support),
    ("networks", Support),
    // Later, and an app without them is another app.
    ("configs", Later("mount the file with `volumes:`")),
    ("secrets", Later("mount the file with `volumes:`, or pass it by `environment:`")),
    ("extends", Later("repeat the keys, or share them with an anchor and `<<`")),
    ("pre_start", Later("use `x-mainspring: {prepare: …}`")),
    ("post_start", Later("do it in the command")),
    ("pre_stop", Later("handle the stop signal in the service")),
    ("extra_hosts", Later("add the names to the host's /etc/hosts")),
    ("group_add", Later("run as a user who is in the group")),
    // Later, and harmless without.
    ("label_file", LaterWarn("its labels are missing")),
    ("annotations", LaterWarn("nothing reads annotations")),
    ("dns", LaterWarn("the host's resolver is used")),
    ("dns_opt", LaterWarn("the host's resolver is used")),
    ("dns_search", LaterWarn("the host's resolver is used")),
    ("read_only", LaterWarn("the service can write to its own copy of the file system")),
    ("cap_add", LaterWarn("the capabilities are not given")),
    ("cap_drop", LaterWarn("capabilities are those that the engine leaves")),
    ("sysctls", LaterWarn("the host's values hold")),
    ("shm_size", LaterWarn("the host's /dev/shm holds")),
    ("mem_reservation", LaterWarn("no memory is set aside")),
    ("memswap_limit", LaterWarn("swap is not limited")),
    ("cpu_shares", LaterWarn("CPU is shared evenly")),
    ("cpu_quota", LaterWarn("use `cpus`")),
    ("cpu_period", LaterWarn("use `cpus`")),
    ("cpuset", LaterWarn("any CPU may run it")),
    ("pull_policy", LaterWarn("no image is pulled")),
    ("privileged", LaterWarn("the service gets no more rights than others")),
    ("security_opt", LaterWarn("the engine's own settings hold")),
    ("ulimits", LaterWarn("the engine's own limits hold")),
    ("oom_score_adj", LaterWarn("the kernel's choice is not steered")),
    ("oom_kill_disable", LaterWarn("the kernel's choice is not steered")),
    ("devices", LaterWarn("the host's devices are seen as the user may see them")),
    ("device_cgroup_rules", LaterWarn("the host's devices are seen as the user may see them")),
    ("logging", LaterWarn("output is always kept and searchable: `ms logs`")),
    ("platform", LaterWarn("services run on the host's own platform")),
    ("uts", LaterWarn("each instance has a host name of its own")),
    ("cgroup", LaterWarn("each instance has a cgroup of its own")),
    // Never.
    ("gpus", Refuse("GPUs are not handed out")),
    ("volumes_from", Refuse("name the volumes under `volumes:`")),
    ("credential_spec", Refuse("it is for Windows")),
    ("isolation", Refuse("it is for Windows")),
    ("userns_mode", Refuse("the engine chooses its namespaces itself")),
    ("provider", Refuse("providers are Docker's plugins; run it as a service")),
    ("models", Refuse("model runners are a part of Docker; run the model as a service")),
    ("use_api_socket", Refuse("there is no Docker to talk to")),
    // No effect.
    ("links", Warn("every service is reached by its own name")),
    ("external_links", Warn("only services of this app have names")),
    ("mac_address", Warn("instances have no network card of their own")),
    ("blkio_config", Warn("disk bandwidth is not divided")),
    ("cpu_rt_period", Warn("real-time scheduling is not handed out")),
    ("cpu_rt_runtime", Warn("real-time scheduling is not handed out")),
    ("cpu_count", Warn("it is for Windows")),
    ("cpu_percent", Warn("it is for Windows")),
    ("cgroup_parent", Warn("the engine arranges its cgroups itself")),
    ("storage_opt", Warn("there is no storage driver")),
    ("develop", Warn("`ms up` again takes up changes")),
    ("attach", Warn("`ms logs` selects services")),
    ("stdin_open", Warn("services read from /dev/null")),
    ("tty", Warn("services write to a pipe")),
    ("domainname", Warn("there is no domain")),
    ("mem_swappiness", Warn("the kernel's own setting holds")),
];

const NO_IMAGE: &str = "no image is built; the last stage is read and run on the host";

const BUILD: Table = &[
    ("context", Support),
    ("dockerfile", Support),
    ("dockerfile_inline", Support),
    ("target", Support),
    ("args", Support),
    ("additional_contexts", Later("copy the folder into the context")),
    ("labels", Warn(NO_IMAGE)),
    ("tags", Warn(NO_IMAGE)),
    ("cache_from", Warn(NO_IMAGE)),
    ("cache_to", Warn(NO_IMAGE)),
    ("no_cache", Warn(NO_IMAGE)),
    ("no_cache_filter", Warn(NO_IMAGE)),
    ("pull", Warn(NO_IMAGE)),
    ("platforms", Warn(NO_IMAGE)),
    ("network", Warn(NO_IMAGE)),
    ("shm_size", Warn(NO_IMAGE)),
    ("ulimits", Warn(NO_IMAGE)),
    ("isolation", Warn(NO_IMAGE)),
    ("privileged", Warn(NO_IMAGE)),
    ("provenance", Warn(NO_IMAGE)),
    ("sbom", Warn(NO_IMAGE)),
    ("extra_hosts", Warn(NO_IMAGE)),
    ("entitlements", Warn(NO_IMAGE)),
    ("secrets", Warn(NO_IMAGE)),
    ("ssh", Warn(NO_IMAGE)),
];

const DEPLOY: Table = &[
    ("replicas", Support),
    ("update_config", Support),
    ("resources", Support),
    ("restart_policy", Support),
    ("labels", Support),
    ("mode", Support),
    ("endpoint_mode", Support),
    ("rollback_config", LaterWarn("a rollback goes by `update_config`")),
    ("placement", LaterWarn("there is one node, and every service runs on it")),
];

const UPDATE: Table = &[
    ("parallelism", Support),
    ("delay", Support),
    ("failure_action", Support),
    ("monitor", Support),
    ("max_failure_ratio", Support),
    ("order", Support),
];

const RESTART_POLICY: Table = &[
    ("condition", Support),
    ("max_attempts", Support),
    ("delay", LaterWarn("restarts back off by themselves, longer each time")),
    ("window", LaterWarn("an instance counts as started when it is healthy")),
];

const RESOURCES: Table = &[("limits", Support), ("reservations", Support)];

const LIMITS: Table = &[("cpus", Support), ("memory", Support), ("pids", Support)];

const RESERVATIONS: Table = &[
    ("cpus", LaterWarn("nothing is set aside")),
    ("memory", LaterWarn("nothing is set aside")),
    ("pids", LaterWarn("nothing is set aside")),
    ("devices", Refuse("devices and GPUs are not handed out")),
    ("generic_resources", Refuse("devices and GPUs are not handed out")),
];

const HEALTHCHECK: Table = &[
    ("test", Support),
    ("interval", Support),
    ("timeout", Support),
    ("retries", Support),
    ("start_period", Support),
    ("start_interval", Support),
    ("disable", Support),
];

const PORT: Table = &[
    ("target", Support),
    ("published", Support),
    ("host_ip", Support),
    ("protocol", Support),
    ("app_protocol", Support),
    ("name", Support),
    ("mode", Support),
];

const MOUNT: Table = &[
    ("type", Support),
    ("source", Support),
    ("target", Support),
    ("read_only", Support),
    ("bind", Support),
    ("volume", Support),
    ("tmpfs", Support),
    ("consistency", Warn("the host's files are seen as they are")),
    ("image", Refuse("images are not mounted")),
];

const MOUNT_BIND: Table = &[
    ("create_host_path", Support),
    ("propagation", LaterWarn("later mounts of the host are not passed on")),
    ("recursive", LaterWarn("mounts below the folder come along")),
    ("selinux", Warn("labels are not changed")),
];

const MOUNT_VOLUME: Table = &[
    ("nocopy", Warn("nothing is ever copied into a new volume")),
    ("labels", Warn("label the volume itself")),
    ("subpath", Later("use a volume of its own")),
];

const MOUNT_TMPFS: Table = &[("size", Support), ("mode", Support)];

const DEPENDENCY: Table = &[("condition", Support), ("required", Support), ("restart", Support)];

const ENV_FILE: Table = &[("path", Support), ("required", Support), ("format", Support)];

const VOLUME: Table = &[
    ("name", Support),
    ("external", Support),
    ("labels", Support),
    ("driver", Support),
    ("driver_opts", Warn("volumes are folders of the engine's state")),
];

const EXTENSION: Table = &[
    ("native", Support),
    ("protocol", Support),
    ("prepare", Support),
    ("balance", Support),
    ("engine", Support),
];

/// Keys that were accepted with a remark, so that each remark is made once.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    seen: BTreeMap<(Scope, &'static str), Remark>,
}

#[derive(Debug)]
struct Remark {
    at: At,
    treatment: Treatment,
    owner: String,
    others: usize,
}

impl Remarks {
    /// The entries of a map that are supported; the others are reported. `owner` is what the map
    /// belongs to, such as "service `web`".
    pub(crate) fn entries<'a>(
        &mut self,
        scope: Scope,
        owner: &str,
        node: &'a Node,
        report: &mut Report,
    ) -> Vec<&'a Entry> {
        if matches!(node.value, Value::Null) {
            return Vec::new();
        }
        let Value::Map(entries) = &node.value else {
            report.error(
                "bad-type",
                node.at,
                format!("{owner} is {}", node.kind()),
                "it is a map in every Compose file",
                "write it as `key: value` lines",
            );
            return Vec::new();
        };
        let supported = |e: &&Entry| self.judge(scope, owner, e, report);
        entries.iter().filter(supported).collect()
    }

    fn judge(&mut self, scope: Scope, owner: &str, entry: &Entry, report: &mut Report) -> bool {
        let key = entry.key.as_str();
        let Some((name, treatment)) = scope.table().iter().find(|(name, _)| *name == key) else {
            if !key.starts_with("x-") || scope == Scope::Extension {
                unknown(scope, owner, entry, report);
            } else if let Some(meant) = nearest(key, ["x-mainspring"].into_iter()) {
                report.warn(
                    "key-unknown",
                    entry.at,
                    format!("`{key}` in {owner} is not read"),
                    "keys that begin with `x-` are accepted and mean nothing here",
                    format!("if `{meant}` is meant, write that"),
                );
            }
            return false;
        };
        match treatment {
            Support => return true,
            Refuse(way_out) => report.error(
                "key-not-supported",
                entry.at,
                format!("`{key}` in {owner} cannot be honoured"),
                "without it the app would not be what the file says",
                *way_out,
            ),
            Later(way_out) => report.error(
                "key-later",
                entry.at,
                format!("`{key}` in {owner} is not yet part of this version"),
                "without it the app would not be what the file says",
                *way_out,
            ),
            Partly(_) | Warn(_) | LaterWarn(_) => {
                let first = || Remark {
                    at: entry.at,
                    treatment: *treatment,
                    owner: owner.to_owned(),
                    others: 0,
                };
                let known = self.seen.contains_key(&(scope, *name));
                let remark = self.seen.entry((scope, *name)).or_insert_with(first);
                remark.others += usize::from(known);
            }
        }
        false
    }

    /// Makes the remarks: one for each key, at its first place.
    pub(crate) fn finish(self, report: &mut Report) {
        for ((_, key), remark) in self.seen {
            let more = match remark.others {
                0 => String::new(),
                1 => " and in one other place".to_owned(),
                n => format!(" and in {n} other places"),
            };
            let what = format!("`{key}` in {}{more}", remark.owner);
            let remove = "remove it, or leave it for Docker";
            match remark.treatment {
                Partly(note) => {
                    report.warn(
                        "key-partly",
                        remark.at,
                        format!("{what} holds in part"),
                        note,
                        remove,
                    );
                }
                LaterWarn(note) => report.warn(
                    "key-ignored",
                    remark.at,
                    format!("{what} has no effect in this version"),
                    note,
                    remove,
                ),
                Warn(note) => {
                    report.warn(
                        "key-ignored",
                        remark.at,
                        format!("{what} has no effect"),
                        note,
                        remove,
                    );
                }
                Support | Later(_) | Refuse(_) => {}
            }
        }
    }
}

fn unknown(scope: Scope, owner: &str, entry: &Entry, report: &mut Report) {
    let known = || scope.table().iter().map(|(name, _)| *name);
    let next = match nearest(&entry.key, known()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if scope.table().len() <= 10 => {
            format!("it may be: {}", known().collect::<Vec<_>>().join(", "))
        }
        None => "remove it; a name that begins with `x-` is accepted anywhere".to_owned(),
    };
    report.error(
        "key-unknown",
        entry.at,
        format!("`{}` is not a key of {owner}", entry.key),
        "the Compose specification has no such key here",
        next,
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_key_is_treated_twice() {
        for scope in [Scope::Top, Scope::Service, Scope::Build, Scope::Deploy, Scope::Mount] {
            let names: Vec<_> = scope.table().iter().map(|(name, _)| *name).collect();
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{scope:?}");
        }
    }

    #[test]
    fn every_service_key_of_the_specification_is_in_the_table() {
        // The keys of the schema (compose-spec.json, 2026), `pre_start` of the prose added.
        const ALL: &str = "annotations attach blkio_config build cap_add cap_drop cgroup \
            cgroup_parent command configs container_name cpu_count cpu_percent cpu_period \
            cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec \
            depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search \
            domainname entrypoint env_file environment expose extends external_links extra_hosts \
            gpus group_add healthcheck hostname image init ipc isolation label_file labels links \
            logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models \
            network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports \
            post_start pre_start pre_stop privileged profiles provider pull_policy read_only \
            restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period \
            stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts \
            volumes volumes_from working_dir";
        for key in ALL.split_whitespace() {
            assert!(SERVICE.iter().any(|(name, _)| *name == key), "{key}");
        }
    }
}
