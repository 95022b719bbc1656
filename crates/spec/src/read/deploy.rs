//! `deploy`: replicas, updates, limits, placement and the restart policy.

use super::Reader;
use crate::keys::Scope;
use crate::model::{
    Constraint, FailureAction, Placement, Restart, RestartPace, UpdateConfig, UpdateOrder,
};
use crate::read::limits::SaidLimits;
use crate::report::At;
use crate::tree::Node;

/// More instances of one service than this are taken for a slip.
pub(super) const REPLICAS_MAX: u32 = 1000;

const PLACEMENT_MAX: usize = 64;

/// What `deploy` says; `None` where it is silent.
#[derive(Default)]
pub(super) struct Deploy {
    pub(super) replicas: Option<(u32, At)>,
    pub(super) labels: std::collections::BTreeMap<String, String>,
    pub(super) update: UpdateConfig,
    pub(super) rollback: Option<UpdateConfig>,
    pub(super) restart: Option<(Restart, RestartPace)>,
    pub(super) limits: SaidLimits,
    pub(super) global: bool,
    pub(super) placement: Placement,
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
                "update_config" => deploy.update = self.update("update_config", node, owner),
                "rollback_config" => {
                    deploy.rollback = Some(self.update("rollback_config", node, owner));
                }
                "placement" => deploy.placement = self.placement(node, owner),
                "restart_policy" => deploy.restart = self.restart_policy(node, owner),
                "resources" => self.resources(node, owner, &mut deploy),
                "mode" => deploy.global = self.mode(node, &named),
                "endpoint_mode" => self.endpoint_mode(node, &named),
                _ => {}
            }
        }
        deploy
    }

    fn mode(&mut self, node: &Node, named: &str) -> bool {
        match self.text(node, named).as_deref() {
            None | Some("replicated") => {}
            Some("global") => return true,
            Some(other @ ("replicated-job" | "global-job")) => self.report.error(
                "key-later",
                node.at,
                format!("{named} is `{other}`"),
                "jobs are not yet part of this version",
                "remove it; a service with `restart: no` runs once",
            ),
            Some(other) => self.bad(node.at, named, other, "write `replicated` or `global`"),
        }
        false
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

    fn update(&mut self, key: &str, node: &Node, owner: &str) -> UpdateConfig {
        let mut update = UpdateConfig::default();
        let rollback = key == "rollback_config";
        let scope = if rollback { Scope::Rollback } else { Scope::Update };
        if rollback {
            // What is rolled back to has run before; going back and forth would never end.
            update.failure_action = FailureAction::Pause;
        }
        for entry in self.entries(scope, &format!("`{key}` of {owner}"), node) {
            let node = &entry.node;
            let named = format!("`{key}.{}` of {owner}", entry.key);
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
                    Some("rollback") if !rollback => {
                        update.failure_action = FailureAction::Rollback;
                    }
                    Some(other) => {
                        let next = match rollback {
                            true => "write `pause` or `continue`",
                            false => "write `rollback`, `pause` or `continue`",
                        };
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

    fn restart_policy(&mut self, node: &Node, owner: &str) -> Option<(Restart, RestartPace)> {
        let mut condition = None;
        let mut attempts = None;
        let mut pace = RestartPace::default();
        let what = format!("`restart_policy` of {owner}");
        for entry in self.entries(Scope::RestartPolicy, &what, node) {
            let named = format!("`restart_policy.{}` of {owner}", entry.key);
            match entry.key.as_str() {
                "condition" => condition = self.text(&entry.node, &named).map(|t| (t, entry.at)),
                "max_attempts" => {
                    let number = self.small(&entry.node, &named, u32::MAX);
                    attempts = number.map(|n| (n, entry.at));
                }
                "delay" => pace.delay = self.duration(&entry.node, &named),
                "window" => pace.window = self.duration(&entry.node, &named),
                _ => {}
            }
        }
        let (condition, at) = condition.unwrap_or_else(|| ("any".to_owned(), node.at));
        let restart = match (condition.as_str(), attempts) {
            ("none", _) => Restart::No,
            ("on-failure", attempts) => {
                Restart::OnFailure { max_retries: attempts.map(|(n, _)| n) }
            }
            ("any", attempts) => {
                pace.attempts = attempts.map(|(n, _)| n);
                Restart::Always
            }
            (other, _) => {
                let named = format!("`restart_policy.condition` of {owner}");
                self.bad(at, &named, other, "write `none`, `on-failure` or `any`");
                return None;
            }
        };
        Some((restart, pace))
    }

    fn resources(&mut self, node: &Node, owner: &str, deploy: &mut Deploy) {
        for entry in self.entries(Scope::Resources, &format!("`resources` of {owner}"), node) {
            let what = format!("`resources.{}` of {owner}", entry.key);
            let reserved = entry.key == "reservations";
            let scope = if reserved { Scope::Reservations } else { Scope::Limits };
            let limits = &mut deploy.limits;
            for limit in self.entries(scope, &what, &entry.node) {
                let (node, at) = (&limit.node, limit.at);
                let named = format!("`{}.{}` of {owner}", entry.key, limit.key);
                match (limit.key.as_str(), reserved) {
                    ("cpus", false) => limits.cpus = self.cpus(node, &named).map(|v| (v, at)),
                    ("memory", false) => limits.memory = self.memory(node, &named).map(|v| (v, at)),
                    ("pids", false) => limits.pids = self.pids(node, &named).map(|v| (v, at)),
                    ("cpus", true) => {
                        limits.cpus_reserved = self.cpus(node, &named).map(|v| (v, at));
                    }
                    ("memory", true) => {
                        limits.memory_reserved = self.memory(node, &named).map(|v| (v, at));
                    }
                    _ => {}
                }
            }
        }
    }

    fn placement(&mut self, node: &Node, owner: &str) -> Placement {
        let mut placement = Placement::default();
        for entry in self.entries(Scope::Placement, &format!("`placement` of {owner}"), node) {
            let node = &entry.node;
            let named = format!("`placement.{}` of {owner}", entry.key);
            match entry.key.as_str() {
                "constraints" => {
                    let texts = self.bounded(node, &named, PLACEMENT_MAX).into_iter();
                    let each = texts.map(|(text, at)| self.constraint(&text, at, &named));
                    placement.constraints =
                        each.collect::<Vec<_>>().into_iter().flatten().collect();
                }
                "preferences" => {
                    for item in self.items(node, &named).iter().take(PLACEMENT_MAX) {
                        for inner in self.entries(Scope::Preference, &named, item) {
                            placement.spread.extend(self.text(&inner.node, &named));
                        }
                    }
                }
                _ => {
                    let most = self.small(node, &named, REPLICAS_MAX).filter(|n| *n > 0);
                    placement.replicas_per_node_max = most;
                }
            }
        }
        placement
    }

    /// `node.labels.disk == ssd`, or `!=`.
    fn constraint(&mut self, text: &str, at: At, named: &str) -> Option<Constraint> {
        let split = |sign: &str| text.split_once(sign).map(|(k, v)| (k.trim(), v.trim()));
        let read = split("==").map(|pair| (pair, true)).or_else(|| Some((split("!=")?, false)));
        match read {
            Some(((key, value), equal)) if !value.is_empty() && is_of_a_node(key) => {
                Some(Constraint { key: key.to_owned(), equal, value: value.to_owned() })
            }
            Some(((key, value), _)) if !value.is_empty() => {
                let next = "ask for node.hostname, node.role, node.platform.os, \
                            node.platform.arch or node.labels.NAME";
                self.bad(at, &format!("what {named} look at"), key, next);
                None
            }
            _ => {
                self.report.warn(
                    "key-partly",
                    at,
                    format!("{named} has `{}`, which says nothing", text.escape_debug()),
                    "a constraint compares with `==` or `!=`",
                    "write `node.labels.disk == ssd`",
                );
                None
            }
        }
    }
}

/// Whether a constraint can ask for that.
fn is_of_a_node(key: &str) -> bool {
    const KEYS: [&str; 5] =
        ["node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch"];
    let label = key.strip_prefix("node.labels.").or_else(|| key.strip_prefix("engine.labels."));
    KEYS.contains(&key) || label.is_some_and(|label| !label.is_empty())
}
