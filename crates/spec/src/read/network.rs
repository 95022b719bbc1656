//! How a service is found and what it finds: host names, networks, links, extra hosts and DNS.
//!
//! Invariant: a name that leaves here fits on a line of a hosts file.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base::ServiceName;

use super::Reader;
use crate::Finding;
use crate::keys::Scope;
use crate::model::{ExtraHost, NetworkMode, Service};
use crate::report::At;
use crate::tree::{Node, Value};

/// Longest host name that the kernel takes.
const HOST_NAME_MAX: usize = 63;
/// Longest name that is looked up.
const NAME_MAX: usize = 253;
/// More names of one service than this are taken for a slip.
const NAMES_MAX: usize = 1024;
/// More servers, domains or options of a resolver than this are never looked at.
const DNS_MAX: usize = 32;

/// Whether a text can be the name of a host: letters, digits, `-`, `_` and `.`.
fn is_host_name(text: &str, longest: usize) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = text.as_bytes();
    bytes.len() <= longest
        && bytes.iter().copied().all(inside)
        && edge(bytes.first())
        && edge(bytes.last())
        && !text.contains("..")
}

impl Reader<'_> {
    /// A key that says how a service is found. `false` when it is none of these.
    pub(super) fn networking_key(
        &mut self,
        key: &str,
        node: &Node,
        at: At,
        owner: &str,
        service: &mut Service,
    ) -> bool {
        let named = format!("`{key}` of {owner}");
        let net = &mut service.networking;
        match key {
            "hostname" => service.hostname = self.host_name(node, &named, HOST_NAME_MAX),
            "container_name" => net.container_name = self.host_name(node, &named, NAME_MAX),
            "networks" => self.networks(node, owner, service),
            "network_mode" => self.network_mode(node, at, &named, service),
            "links" => self.links(node, &named, service),
            "extra_hosts" => net.extra_hosts = self.extra_hosts(node, &named),
            "dns" => {
                let texts = self.bounded(node, &named, DNS_MAX).into_iter();
                let each = texts.map(|(text, at)| self.address_of(&text, at, &named));
                net.dns.servers = each.collect::<Vec<_>>().into_iter().flatten().collect();
            }
            "dns_search" => {
                let texts = self.bounded(node, &named, DNS_MAX).into_iter();
                net.dns.search = texts
                    .filter(|(text, at)| self.fits(text.trim_end_matches('.'), *at, &named))
                    .map(|(text, _)| text)
                    .collect();
            }
            "dns_opt" => {
                let texts = self.bounded(node, &named, DNS_MAX).into_iter();
                let good = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
                let (fit, unfit): (Vec<_>, Vec<_>) = texts.partition(|(text, _)| good(text));
                for (text, at) in unfit {
                    self.bad(at, &named, &text, "write one option, as in `ndots:2`");
                }
                net.dns.options = fit.into_iter().map(|(text, _)| text).collect();
            }
            _ => return false,
        }
        true
    }

    fn host_name(&mut self, node: &Node, named: &str, longest: usize) -> Option<String> {
        let text = self.text(node, named).filter(|t| !t.is_empty())?;
        if is_host_name(&text, longest) {
            return Some(text);
        }
        let next =
            format!("write up to {longest} letters, digits, `-`, `_` and `.`, no sign at its ends");
        self.bad(node.at, named, &text.escape_debug().to_string(), next);
        None
    }

    fn fits(&mut self, text: &str, at: At, named: &str) -> bool {
        let fits = is_host_name(text, NAME_MAX);
        if !fits {
            let next = "write letters, digits, `-`, `_` and `.`, no sign at the ends";
            self.bad(at, &format!("a name in {named}"), &text.escape_debug().to_string(), next);
        }
        fits
    }

    fn address_of(&mut self, text: &str, at: At, named: &str) -> Option<IpAddr> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let read = bare.parse().ok();
        if read.is_none() {
            let shown = text.escape_debug().to_string();
            self.bad(at, &format!("an address in {named}"), &shown, "write an IP address");
        }
        read
    }

    /// A list of texts, or one of them, of which there may be only so many.
    pub(super) fn bounded(&mut self, node: &Node, named: &str, most: usize) -> Vec<(String, At)> {
        let mut texts = self.texts(node, named);
        if texts.len() > most {
            let what = format!("{named} has more than {most} items");
            self.report.error("too-many-items", node.at, what, "lists are bounded", "remove some");
            texts.truncate(most);
        }
        texts
    }

    fn networks(&mut self, node: &Node, owner: &str, service: &mut Service) {
        let what = format!("`networks` of {owner}");
        let node = crate::merge::names(node.clone());
        let Value::Map(entries) = &node.value else { return self.wrong_list(&node, &what) };
        for network in entries {
            let mut aliases = BTreeSet::new();
            let inner = format!("`{}` in {what}", network.key);
            for entry in self.entries(Scope::Attachment, &inner, &network.node) {
                if entry.key == "aliases" {
                    let named = format!("`aliases` of {inner}");
                    let texts = self.bounded(&entry.node, &named, NAMES_MAX).into_iter();
                    let fit = texts.filter(|(text, at)| self.fits(text, *at, &named));
                    aliases = fit.map(|(text, _)| text).collect();
                }
            }
            service.networking.networks.insert(network.key.clone(), aliases);
        }
    }

    fn network_mode(&mut self, node: &Node, at: At, named: &str, service: &mut Service) {
        let Some(text) = self.text(node, named) else { return };
        let mode = &mut service.networking.mode;
        match (text.as_str(), text.split_once(':')) {
            ("bridge" | "default", _) => {}
            ("host", _) => *mode = NetworkMode::Host,
            ("none", _) => *mode = NetworkMode::None,
            (_, Some(("service", name))) => match name.parse::<ServiceName>() {
                Ok(name) => {
                    *mode = NetworkMode::Service(name.clone());
                    let place = self.report.place(at);
                    super::service::wait_for(service, name, place);
                }
                Err(error) => self.bad(node.at, named, &text, error.rule),
            },
            _ => {
                let next = "write `host`, `none`, `bridge` or `service:NAME`";
                self.bad(node.at, named, &text, next);
            }
        }
    }

    /// Published ports are those of networks of the app: with a mode of its own a service has none.
    pub(super) fn unpublished(&mut self, owner: &str, service: &mut Service) {
        let (cause, next) = match &service.networking.mode {
            NetworkMode::Networks => return,
            NetworkMode::Host => (
                "what it listens on is the host's already",
                "remove them, or `network_mode`".into(),
            ),
            NetworkMode::None => {
                ("nobody reaches it but itself", "remove them, or `network_mode`".into())
            }
            NetworkMode::Service(name) => {
                ("its network is that of another service", format!("publish them at `{name}`"))
            }
        };
        if let Some(port) = service.ports.first() {
            let what = format!("the published ports of {owner} have no effect");
            let finding = Finding::warning("key-partly", what).at(&port.place);
            self.report.push(finding.cause(cause).next(next));
            service.ports.clear();
        }
    }

    fn links(&mut self, node: &Node, named: &str, service: &mut Service) {
        for (text, at) in self.bounded(node, named, NAMES_MAX) {
            let (name, alias) = match text.split_once(':') {
                Some((name, alias)) => (name, alias),
                None => (text.as_str(), text.as_str()),
            };
            match name.parse::<ServiceName>() {
                Ok(to) if self.fits(alias, at, named) => {
                    let place = self.report.place(at);
                    service.networking.links.insert(alias.to_owned(), to.clone());
                    super::service::wait_for(service, to, place);
                }
                Ok(_) => {}
                Err(error) => self.bad(at, named, &text.escape_debug().to_string(), error.rule),
            }
        }
    }

    /// `name:address`, `name=address`, or a map from names to an address or several.
    fn extra_hosts(&mut self, node: &Node, named: &str) -> Vec<ExtraHost> {
        let node = crate::merge::hosts(node.clone());
        let mut hosts: Vec<ExtraHost> = Vec::new();
        for (text, at) in self.bounded(&node, named, NAMES_MAX) {
            let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':'))
            else {
                let next = "write `NAME:ADDRESS`, as in `db.internal:10.0.0.5`";
                self.bad(at, named, &text.escape_debug().to_string(), next);
                continue;
            };
            if !self.fits(name, at, named) {
                continue;
            }
            let address = match address {
                "host-gateway" => None,
                _ => match self.address_of(address, at, named) {
                    Some(address) => Some(address),
                    None => continue,
                },
            };
            let host = ExtraHost { name: name.to_owned(), address };
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_on_a_line() {
        for good in ["a", "db-1.internal", "_x", "A9", "my_app"] {
            assert!(is_host_name(good, HOST_NAME_MAX), "{good}");
        }
        for bad in ["", "a b", "a\nb", "-a", "a-", ".a", "a.", "a..b", "ä", "a#", &"x".repeat(64)]
        {
            assert!(!is_host_name(bad, HOST_NAME_MAX), "{bad:?}");
        }
    }
}
