//! `deploy`: replicas, updates, limits and the restart policy.

use super::Reader;
use crate::keys::Scope;
use crate::model::{FailureAction, Restart, UpdateConfig, UpdateOrder};
use crate::report::At;
use crate::tree::Node;

/// More instances of one service than this are taken for a slip.
pub(super) const REPLICAS_MAX: u32 = 1000;

/// What `deploy` says; `None` where it is silent.
#[derive(Default)]
pub(super) struct Deploy {
    pub(super) replicas: Option<(u32, At)>,
    pub(super) labels: std::collections::BTreeMap<String, String>,
    pub(super) update: UpdateConfig,
    pub(super) restart: Option<Restart>,
    pub(super) memory: Option<(u64, At)>,
    pub(super) cpus: Option<(f64, At)>,
    pub(super) pids: Option<(u64, At)>,
}

impl Reader<'_> {
    pub(super) fn deploy(&mut self, node: &Node, owner: &str) -> Deploy {
        let mut deploy = Deploy::default();
        for entry in self.entries(Scope::Deploy, &format!("`deploy` of {owner}"), node) {
            let (node, at) = (&entry.node, entry.at);
            let named = format!("`deploy.{}` of {owner}", entry.key);
            match entry.key.as_str() {
                "replicas" => {
                    deploy.replicas = self.small(node, &named, REPLICAS_MAX).map(|n| (n, at));
                }
                "labels" => {
                    let pairs = self.pairs(node, &named);
                    let each = pairs.into_iter();
                    deploy.labels = each.map(|(k, v)| (k, v.unwrap_or_default())).collect();
                }
                "update_config" => deploy.update = self.update(node, owner),
                "restart_policy" => deploy.restart = self.restart_policy(node, owner),
                "resources" => self.resources(node, owner, &mut deploy),
                "mode" => self.mode(node, &named),
                "endpoint_mode" => self.endpoint_mode(node, &named),
                _ => {}
            }
        }
        deploy
    }

    fn mode(&mut self, node: &Node, named: &str) {
        match self.text(node, named).as_deref() {
            None | Some("replicated") => {}
            Some("global") => self.report.warn(
                "key-partly",
                node.at,
                format!("{named} is `global`"),
                "there is one node, so it is one instance unless `replicas` says more",
                "nothing to do",
            ),
            Some(other @ ("replicated-job" | "global-job")) => self.report.error(
                "key-later",
                node.at,
                format!("{named} is `{other}`"),
                "jobs are not yet part of this version",
                "remove it; a service with `restart: no` runs once",
            ),
            Some(other) => self.bad(node.at, named, other, "write `replicated` or `global`"),
        }
    }

    fn endpoint_mode(&mut self, node: &Node, named: &str) {
        match self.text(node, named).as_deref() {
            None | Some("vip") => {}
            Some("dnsrr") => self.report.warn(
                "key-partly",
                node.at,
                format!("{named} is `dnsrr`"),
                "a name has one address, and connections to it are balanced",
                "nothing to do",
            ),
            Some(other) => self.bad(node.at, named, other, "write `vip`"),
        }
    }

    fn update(&mut self, node: &Node, owner: &str) -> UpdateConfig {
        let mut update = UpdateConfig::default();
        for entry in self.entries(Scope::Update, &format!("`update_config` of {owner}"), node) {
            let node = &entry.node;
            let named = format!("`update_config.{}` of {owner}", entry.key);
            match entry.key.as_str() {
                "parallelism" => {
                    update.parallelism =
                        self.small(node, &named, REPLICAS_MAX).unwrap_or(update.parallelism);
                }
                "delay" => update.delay = self.duration(node, &named).unwrap_or(update.delay),
                "monitor" => update.monitor = self.duration(node, &named).unwrap_or(update.monitor),
                "max_failure_ratio" => {
                    update.max_failure_ratio = self.fraction(node, &named, 1.0).unwrap_or_default();
                }
                "failure_action" => match self.text(node, &named).as_deref() {
                    Some("pause") => update.failure_action = FailureAction::Pause,
                    Some("continue") => update.failure_action = FailureAction::Continue,
                    Some("rollback") => update.failure_action = FailureAction::Rollback,
                    Some(other) => {
                        let next = "write `rollback`, `pause` or `continue`";
                        self.bad(node.at, &named, other, next);
                    }
                    None => {}
                },
                "order" => match self.text(node, &named).as_deref() {
                    Some("start-first") => update.order = UpdateOrder::StartFirst,
                    Some("stop-first") => update.order = UpdateOrder::StopFirst,
                    Some(other) => {
                        self.bad(node.at, &named, other, "write `start-first` or `stop-first`");
                    }
                    None => {}
                },
                _ => {}
            }
        }
        update
    }

    fn restart_policy(&mut self, node: &Node, owner: &str) -> Option<Restart> {
        let mut condition = None;
        let mut attempts = None;
        let what = format!("`restart_policy` of {owner}");
        for entry in self.entries(Scope::RestartPolicy, &what, node) {
            let named = format!("`restart_policy.{}` of {owner}", entry.key);
            match entry.key.as_str() {
                "condition" => condition = self.text(&entry.node, &named).map(|t| (t, entry.at)),
                "max_attempts" => {
                    let number = self.small(&entry.node, &named, u32::MAX);
                    attempts = number.map(|n| (n, entry.at));
                }
                _ => {}
            }
        }
        let (condition, at) = condition.unwrap_or_else(|| ("any".to_owned(), node.at));
        match (condition.as_str(), attempts) {
            ("none", _) => Some(Restart::No),
            ("on-failure", attempts) => {
                Some(Restart::OnFailure { max_retries: attempts.map(|(n, _)| n) })
            }
            ("any", None) => Some(Restart::Always),
            ("any", Some((_, at))) => {
                self.report.warn(
                    "key-partly",
                    at,
                    format!("`restart_policy.max_attempts` of {owner} has no effect"),
                    "attempts are counted for `condition: on-failure`",
                    "write `condition: on-failure`, or remove it",
                );
                Some(Restart::Always)
            }
            (other, _) => {
                let named = format!("`restart_policy.condition` of {owner}");
                self.bad(at, &named, other, "write `none`, `on-failure` or `any`");
                None
            }
        }
    }

    fn resources(&mut self, node: &Node, owner: &str, deploy: &mut Deploy) {
        for entry in self.entries(Scope::Resources, &format!("`resources` of {owner}"), node) {
            let what = format!("`resources.{}` of {owner}", entry.key);
            if entry.key == "reservations" {
                self.entries(Scope::Reservations, &what, &entry.node);
                continue;
            }
            for limit in self.entries(Scope::Limits, &what, &entry.node) {
                let (node, at) = (&limit.node, limit.at);
                let named = format!("`limits.{}` of {owner}", limit.key);
                match limit.key.as_str() {
                    "cpus" => deploy.cpus = self.cpus(node, &named).map(|v| (v, at)),
                    "memory" => deploy.memory = self.memory(node, &named).map(|v| (v, at)),
                    "pids" => deploy.pids = self.pids(node, &named).map(|v| (v, at)),
                    _ => {}
                }
            }
        }
    }

    /// Cores; 0 is without limit, as for Docker.
    pub(super) fn cpus(&mut self, node: &Node, named: &str) -> Option<f64> {
        self.fraction(node, named, 4096.0).filter(|cpus| *cpus > 0.0)
    }

    /// Bytes; 0 is without limit.
    pub(super) fn memory(&mut self, node: &Node, named: &str) -> Option<u64> {
        self.bytes(node, named).filter(|bytes| *bytes > 0)
    }

    /// A count; 0 and -1 are without limit.
    pub(super) fn pids(&mut self, node: &Node, named: &str) -> Option<u64> {
        if self.text(node, named)?.trim() == "-1" {
            return None;
        }
        self.number(node, named, 1 << 22).filter(|pids| *pids > 0)
    }
}
