//! `x-mainspring` of a service.

use std::collections::BTreeMap;

use super::Reader;
use crate::keys::Scope;
use crate::model::{Balance, Extension, PortProtocols, Protocol};
use crate::tree::{Node, Value};

impl Reader<'_> {
    pub(super) fn extension(&mut self, node: &Node, owner: &str) -> Extension {
        let mut extension = Extension::default();
        let what = format!("`x-mainspring` of {owner}");
        for entry in self.entries(Scope::Extension, &what, node) {
            let node = &entry.node;
            let named = format!("`x-mainspring.{}` of {owner}", entry.key);
            match entry.key.as_str() {
                "native" => extension.native = self.boolean(node, &named).unwrap_or_default(),
                "protocol" => extension.protocol = self.protocols(node, &named),
                "prepare" => extension.prepare = self.words(node, &named).filter(|w| !w.is_empty()),
                "balance" => {
                    extension.balance = match self.text(node, &named).as_deref() {
                        Some("least-requests") => Some(Balance::LeastRequests),
                        Some("round-robin") => Some(Balance::RoundRobin),
                        Some(other) => {
                            let next = "write `least-requests` or `round-robin`";
                            self.bad(node.at, &named, other, next);
                            None
                        }
                        None => None,
                    };
                }
                "engine" => extension.engine = self.engine(node, &named),
                _ => {}
            }
        }
        extension
    }

    fn engine(&mut self, node: &Node, named: &str) -> Option<String> {
        let text = self.text(node, named)?;
        if text.split_once("://").is_none_or(|(scheme, rest)| scheme.is_empty() || rest.is_empty())
        {
            self.bad(node.at, named, &text, "write a URL such as `redis://10.0.0.5:6379`");
            return None;
        }
        Some(text)
    }

    fn protocols(&mut self, node: &Node, named: &str) -> Option<PortProtocols> {
        let Value::Map(entries) = &node.value else {
            return self.protocol(node, named).map(PortProtocols::All);
        };
        let mut each = BTreeMap::new();
        for entry in entries {
            match entry.key.parse::<u16>() {
                Ok(port) if port > 0 => {
                    if let Some(protocol) = self.protocol(&entry.node, named) {
                        each.insert(port, protocol);
                    }
                }
                _ => self.bad(entry.at, &format!("a port in {named}"), &entry.key, "write a port"),
            }
        }
        Some(PortProtocols::Each(each))
    }

    fn protocol(&mut self, node: &Node, named: &str) -> Option<Protocol> {
        match self.text(node, named)?.as_str() {
            "http" => Some(Protocol::Http),
            "tcp" => Some(Protocol::Tcp),
            other => {
                self.bad(node.at, named, other, "write `http` or `tcp`");
                None
            }
        }
    }

    /// A command: a list, or a text that is split as a shell would. `None` when it is null.
    pub(super) fn words(&mut self, node: &Node, named: &str) -> Option<Vec<String>> {
        match &node.value {
            Value::Null => None,
            Value::Scalar(scalar) => {
                let split = shlex::split(&scalar.shown());
                if split.is_none() {
                    self.bad(node.at, named, &scalar.text, "close the quote, or write a list");
                }
                split
            }
            _ => Some(self.texts(node, named).into_iter().map(|(text, _)| text).collect()),
        }
    }
}
