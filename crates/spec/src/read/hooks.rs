//! `pre_start`, `post_start` and `pre_stop`.

use super::Reader;
use crate::keys::Scope;
use crate::model::Hook;
use crate::tree::{Node, Value};

const HOOKS_MAX: usize = 64;

impl Reader<'_> {
    /// The hooks under `key`; `scope` is what each of them may say.
    pub(super) fn hooks(&mut self, node: &Node, scope: Scope, key: &str, owner: &str) -> Vec<Hook> {
        let mut hooks = Vec::new();
        let named = format!("a step of `{key}` of {owner}");
        let items = self.items(node, &format!("`{key}` of {owner}"));
        if items.len() > HOOKS_MAX {
            let what = format!("`{key}` of {owner} has more than {HOOKS_MAX} steps");
            self.report.error("too-many-items", node.at, what, "lists are bounded", "join some");
        }
        for item in items.iter().take(HOOKS_MAX) {
            let mut hook = Hook {
                command: Vec::new(),
                user: None,
                privileged: false,
                working_dir: None,
                environment: std::collections::BTreeMap::new(),
                image: None,
                per_replica: false,
            };
            let failed_before = self.report.failed();
            for entry in self.entries(scope, &named, item) {
                let node = &entry.node;
                let what = format!("`{}` of {named}", entry.key);
                match entry.key.as_str() {
                    "command" => hook.command = self.words(node, &what).unwrap_or_default(),
                    "user" => hook.user = self.text(node, &what).filter(|u| !u.is_empty()),
                    "privileged" => hook.privileged = self.boolean(node, &what).unwrap_or_default(),
                    "working_dir" => hook.working_dir = self.text(node, &what).map(Into::into),
                    "environment" => hook.environment = self.filled(node, &what),
                    "image" => hook.image = self.text(node, &what),
                    "per_replica" => {
                        hook.per_replica = self.boolean(node, &what).unwrap_or_default();
                    }
                    _ => {}
                }
            }
            if !hook.command.is_empty() {
                hooks.push(hook);
            } else if matches!(item.value, Value::Map(_)) && self.report.failed() == failed_before {
                let next = "add `command: [program, argument]`";
                self.bad(item.at, &named, "without a command", next);
            }
        }
        hooks
    }
}
