//! Every key of the Compose specification, and what is done about it.
//!
//! Not here: reading the keys. A key that is in none of the tables (`table`) is unknown, which is
//! an error; `x-…` is always accepted.

mod table;

pub(crate) use table::ALONE;

use std::collections::BTreeMap;

use crate::report::{At, Report};
use crate::suggest::nearest;
use crate::tree::{Entry, Node, Value};

/// What is done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Read and honoured.
    Support,
    /// Read and honoured in part; whoever reads it says what does not hold of a value.
    Partly(&'static str),
    /// Has no effect here, for good; said once.
    Warn(&'static str),
    /// Cannot be honoured; an error with a way out.
    Refuse(&'static str),
}

use Treatment::{Partly, Refuse, Support, Warn};

/// A map of the file whose keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Top,
    Service,
    Build,
    Dependency,
    Deploy,
    Update,
    Rollback,
    RestartPolicy,
    Placement,
    Preference,
    Resources,
    Limits,
    Reservations,
    Device,
    EnvFile,
    Extends,
    Healthcheck,
    Logging,
    LoggingOptions,
    Attachment,
    Port,
    PreStart,
    PostStart,
    PreStop,
    GrantSecret,
    GrantConfig,
    Ulimit,
    Mount,
    MountBind,
    MountVolume,
    MountTmpfs,
    Extension,
    Include,
    Network,
    Volume,
    Secret,
    Config,
}

impl Scope {
    /// All of them, parents first.
    pub(crate) const ALL: &[Scope] = &[
        Scope::Top,
        Scope::Service,
        Scope::Build,
        Scope::Dependency,
        Scope::Deploy,
        Scope::Update,
        Scope::Rollback,
        Scope::RestartPolicy,
        Scope::Placement,
        Scope::Preference,
        Scope::Resources,
        Scope::Limits,
        Scope::Reservations,
        Scope::Device,
        Scope::EnvFile,
        Scope::Extends,
        Scope::Healthcheck,
        Scope::Logging,
        Scope::LoggingOptions,
        Scope::Attachment,
        Scope::Port,
        Scope::PreStart,
        Scope::PostStart,
        Scope::PreStop,
        Scope::GrantSecret,
        Scope::GrantConfig,
        Scope::Ulimit,
        Scope::Mount,
        Scope::MountBind,
        Scope::MountVolume,
        Scope::MountTmpfs,
        Scope::Extension,
        Scope::Include,
        Scope::Network,
        Scope::Volume,
        Scope::Secret,
        Scope::Config,
    ];

    /// Where such a map stands in a file; `*` is any name, or any item of a list.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Scope::Top => "",
            Scope::Service => "services.*",
            Scope::Build => "services.*.build",
            Scope::Dependency => "services.*.depends_on.*",
            Scope::Deploy => "services.*.deploy",
            Scope::Update => "services.*.deploy.update_config",
            Scope::Rollback => "services.*.deploy.rollback_config",
            Scope::RestartPolicy => "services.*.deploy.restart_policy",
            Scope::Placement => "services.*.deploy.placement",
            Scope::Preference => "services.*.deploy.placement.preferences.*",
            Scope::Resources => "services.*.deploy.resources",
            Scope::Limits => "services.*.deploy.resources.limits",
            Scope::Reservations => "services.*.deploy.resources.reservations",
            Scope::Device => "services.*.devices.*",
            Scope::EnvFile => "services.*.env_file.*",
            Scope::Extends => "services.*.extends",
            Scope::Healthcheck => "services.*.healthcheck",
            Scope::Logging => "services.*.logging",
            Scope::LoggingOptions => "services.*.logging.options",
            Scope::Attachment => "services.*.networks.*",
            Scope::Port => "services.*.ports.*",
            Scope::PreStart => "services.*.pre_start.*",
            Scope::PostStart => "services.*.post_start.*",
            Scope::PreStop => "services.*.pre_stop.*",
            Scope::GrantSecret => "services.*.secrets.*",
            Scope::GrantConfig => "services.*.configs.*",
            Scope::Ulimit => "services.*.ulimits.*",
            Scope::Mount => "services.*.volumes.*",
            Scope::MountBind => "services.*.volumes.*.bind",
            Scope::MountVolume => "services.*.volumes.*.volume",
            Scope::MountTmpfs => "services.*.volumes.*.tmpfs",
            Scope::Extension => "services.*.x-mainspring",
            Scope::Include => "include.*",
            Scope::Network => "networks.*",
            Scope::Volume => "volumes.*",
            Scope::Secret => "secrets.*",
            Scope::Config => "configs.*",
        }
    }
}

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
    /// The entries of a map that are read; what does not hold of them is reported. `owner` is what
    /// the map belongs to, such as "service `web`".
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
            Support | Partly(_) => return true,
            Refuse(way_out) => report.error(
                "key-not-supported",
                entry.at,
                format!("`{key}` in {owner} cannot be honoured"),
                "without it the app would not be what the file says",
                *way_out,
            ),
            Warn(_) => {
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
                Warn(note) => {
                    report.warn(
                        "key-ignored",
                        remark.at,
                        format!("{what} has no effect"),
                        note,
                        remove,
                    );
                }
                Support | Partly(_) | Refuse(_) => {}
            }
        }
    }
}

pub(crate) fn unknown(scope: Scope, owner: &str, entry: &Entry, report: &mut Report) {
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
        for scope in Scope::ALL {
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
            assert!(Scope::Service.table().iter().any(|(name, _)| *name == key), "{key}");
        }
    }
}
