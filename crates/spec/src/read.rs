//! From the merged tree to the model: what every reader of a key needs.
//!
//! Not here: the keys themselves (the modules below), and checks across services
//! ([`crate::load`]).

mod build;
mod deploy;
mod extension;
mod files;
mod health;
mod hooks;
mod limits;
mod logging;
mod mounts;
mod network;
mod ports;
mod rights;
mod scalar;
mod service;

use std::collections::BTreeMap;

pub(crate) use files::Kind;
pub(crate) use health::RETRIES_MAX;
pub(crate) use ports::port_range;
pub(crate) use service::{RawService, service};

use crate::Files;
use crate::keys::{Remarks, Scope};
use crate::origin::Origins;
pub(crate) use crate::origin::normal;
use crate::report::{At, Report};
use crate::tree::{Entry, Node, Value};

/// What reading a service takes beside its tree.
pub(crate) struct Reader<'a> {
    pub(crate) report: &'a mut Report,
    pub(crate) remarks: Remarks,
    pub(crate) files: &'a dyn Files,
    pub(crate) origins: &'a Origins,
}

impl Reader<'_> {
    pub(crate) fn entries<'n>(
        &mut self,
        scope: Scope,
        owner: &str,
        node: &'n Node,
    ) -> Vec<&'n Entry> {
        self.remarks.entries(scope, owner, node, self.report)
    }

    /// An error about a value, with what it should have been.
    pub(crate) fn bad(&mut self, at: At, what: &str, found: &str, next: impl Into<String>) {
        let found: String = found.chars().take(80).collect();
        self.report.error(
            "bad-value",
            at,
            format!("{what} is `{found}`"),
            "the value cannot be read as what the key takes",
            next,
        );
    }

    /// A text; null and nested values are errors.
    pub(crate) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(scalar) => Some(scalar.shown()),
            _ => {
                self.report.error(
                    "bad-type",
                    node.at,
                    format!("{what} is {}", node.kind()),
                    "it takes a single value",
                    "write one value behind the colon",
                );
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        let text = self.text(node, what)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "0" => Some(false),
            _ => {
                self.bad(node.at, what, &text, "write `true` or `false`");
                None
            }
        }
    }

    /// A whole number up to `max`.
    pub(crate) fn number(&mut self, node: &Node, what: &str, max: u64) -> Option<u64> {
        let text = self.text(node, what)?;
        match text.trim().parse::<u64>() {
            Ok(number) if number <= max => Some(number),
            _ => {
                self.bad(node.at, what, &text, format!("write a whole number from 0 to {max}"));
                None
            }
        }
    }

    pub(crate) fn small(&mut self, node: &Node, what: &str, max: u32) -> Option<u32> {
        self.number(node, what, u64::from(max)).and_then(|n| u32::try_from(n).ok())
    }

    /// A number with a fraction, from 0 to `max`.
    pub(crate) fn fraction(&mut self, node: &Node, what: &str, max: f64) -> Option<f64> {
        let text = self.text(node, what)?;
        match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && (0.0..=max).contains(&number) => Some(number),
            _ => {
                self.bad(node.at, what, &text, format!("write a number from 0 to {max}"));
                None
            }
        }
    }

    pub(crate) fn duration(&mut self, node: &Node, what: &str) -> Option<std::time::Duration> {
        let text = self.text(node, what)?;
        let read = crate::duration::parse(&text);
        if read.is_none() {
            self.bad(node.at, what, &text, "write a duration such as `30s` or `1m30s`");
        }
        read
    }

    pub(crate) fn bytes(&mut self, node: &Node, what: &str) -> Option<u64> {
        let text = self.text(node, what)?;
        let read = base::units::parse_bytes(&text);
        if read.is_none() {
            self.bad(node.at, what, &text, "write a size such as `512m` or `1gb`");
        }
        read
    }

    /// A list of texts; a single value counts as a list of one.
    pub(crate) fn texts(&mut self, node: &Node, what: &str) -> Vec<(String, At)> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Scalar(scalar) => vec![(scalar.shown(), node.at)],
            Value::List(items) => {
                let each = items.iter().map(|i| (self.text(i, what), i.at));
                each.filter_map(|(text, at)| text.map(|t| (t, at))).collect()
            }
            Value::Map(_) => {
                self.wrong_list(node, what);
                Vec::new()
            }
        }
    }

    pub(crate) fn wrong_list(&mut self, node: &Node, what: &str) {
        self.report.error(
            "bad-type",
            node.at,
            format!("{what} is {}", node.kind()),
            "it takes a list",
            "write its items in lines that begin with `- `",
        );
    }

    /// A map, or a list of `KEY=value`. A key without a value maps to `None`.
    pub(crate) fn pairs(&mut self, node: &Node, what: &str) -> BTreeMap<String, Option<String>> {
        let node = crate::merge::pairs(node.clone());
        let mut pairs = BTreeMap::new();
        match &node.value {
            Value::Null => {}
            Value::Map(entries) => {
                for entry in entries {
                    let value = match &entry.node.value {
                        Value::Null => Some(None),
                        _ => {
                            self.text(&entry.node, &format!("`{}` in {what}", entry.key)).map(Some)
                        }
                    };
                    if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                        self.bad(entry.at, &format!("a name in {what}"), &entry.key, "name it");
                    } else if let Some(value) = value {
                        pairs.insert(entry.key.clone(), value);
                    }
                }
            }
            Value::Scalar(_) | Value::List(_) => self.report.error(
                "bad-type",
                node.at,
                format!("{what} is {}", node.kind()),
                "it takes `KEY: value` lines, or a list of `KEY=value`",
                "write `KEY: value` lines",
            ),
        }
        pairs
    }
}
