//! `healthcheck`, whole.

use super::Reader;
use crate::keys::Scope;
use crate::model::{Healthcheck, Test};
use crate::tree::{Node, Value};

/// More failures in a row are a slip.
pub(crate) const RETRIES_MAX: u32 = 10_000;

/// A health check whose test may still be the image's.
#[derive(Clone, Debug)]
pub(crate) struct RawHealthcheck {
    /// `test` is only meant when this is true.
    pub(crate) has_test: bool,
    pub(crate) check: Healthcheck,
    /// The keys that were said, so that the image's values hold for the others.
    pub(crate) said: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn healthcheck(&mut self, node: &Node, owner: &str) -> Option<RawHealthcheck> {
        if matches!(node.value, Value::Null) {
            return None;
        }
        let mut raw =
            RawHealthcheck { has_test: false, check: Healthcheck::default(), said: Vec::new() };
        let defaults = Healthcheck::default();
        let check = &mut raw.check;
        let mut disabled = false;
        for entry in self.entries(Scope::Healthcheck, &format!("`healthcheck` of {owner}"), node) {
            let node = &entry.node;
            let named = format!("`healthcheck.{}` of {owner}", entry.key);
            raw.said.push(entry.key.clone());
            // Zero means the default, as for Docker.
            let time = |reader: &mut Self, default| {
                reader.duration(node, &named).filter(|d| !d.is_zero()).unwrap_or(default)
            };
            match entry.key.as_str() {
                "test" => {
                    if let Some(test) = self.test(node, &named) {
                        raw.has_test = true;
                        check.test = test;
                    }
                }
                "interval" => check.interval = time(self, defaults.interval),
                "timeout" => check.timeout = time(self, defaults.timeout),
                "start_period" => check.start_period = time(self, defaults.start_period),
                "start_interval" => check.start_interval = time(self, defaults.start_interval),
                "retries" => {
                    let retries = self.small(node, &named, RETRIES_MAX).filter(|n| *n > 0);
                    check.retries = retries.unwrap_or(defaults.retries);
                }
                "disable" => disabled = self.boolean(node, &named).unwrap_or_default(),
                _ => {}
            }
        }
        if disabled {
            check.test = Test::None;
            raw.has_test = true;
        }
        Some(raw)
    }

    fn test(&mut self, node: &Node, named: &str) -> Option<Test> {
        if let Value::Scalar(scalar) = &node.value {
            return Some(Test::Shell(scalar.shown()));
        }
        let words: Vec<String> = self.texts(node, named).into_iter().map(|(t, _)| t).collect();
        let (first, rest) = match words.split_first() {
            Some((first, rest)) => (first.as_str(), rest.to_vec()),
            None => ("", Vec::new()),
        };
        match (first, rest.len()) {
            ("NONE", 0) => Some(Test::None),
            ("CMD", 1..) => Some(Test::Exec(rest)),
            ("CMD-SHELL", 1) => Some(Test::Shell(rest.into_iter().next().unwrap_or_default())),
            _ => {
                let next = "begin the list with `CMD`, `CMD-SHELL` or `NONE`, \
                            or write one line for the shell";
                self.bad(node.at, named, &words.join(" "), next);
                None
            }
        }
    }
}
