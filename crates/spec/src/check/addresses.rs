//! Addresses where names belong, and names that networks do not know. They are looked for in the tree, because only there is what was
//! written told from what a variable gave.

use std::net::{IpAddr, Ipv4Addr};

use crate::Finding;
use crate::report::Report;
use crate::tree::{Node, Value};

pub(super) fn check(tree: &Node, report: &mut Report) {
    let Some(services) = tree.get("services") else { return };
    for service in services.entries() {
        let node = &service.node;
        if let Some(environment) = node.get("environment") {
            in_environment(&service.key, environment, report);
        }
        if let Some(hosts) = node.get("extra_hosts") {
            extra_hosts(&service.key, hosts, report);
        }
        if let Some(links) = node.get("links") {
            let what = format!("service `{}` finds others by `links`", service.key);
            let finding = Finding::note("links-used", what).at(&report.place(links.at));
            let cause = "they say once more what the network says, and only one side knows them";
            let next = "call services by name, or give them aliases: `networks: {default: \
                        {aliases: [db]}}`";
            report.push(finding.cause(cause).next(next));
        }
        for network in node.get("networks").map(Node::entries).unwrap_or_default() {
            for entry in network.node.entries() {
                if matches!(entry.key.as_str(), "ipv4_address" | "ipv6_address") {
                    let what = format!("service `{}` asks for a fixed address", service.key);
                    say(entry.node.at, what, report);
                }
            }
        }
    }
}

fn in_environment(service: &str, environment: &Node, report: &mut Report) {
    // Lists of who is trusted, and versions, are no targets.
    const OTHER: [&str; 8] =
        ["VERSION", "PROXY", "ALLOW", "TRUST", "CIDR", "SUBNET", "BIND", "LISTEN"];
    for entry in crate::merge::pairs(environment.clone()).entries() {
        let Value::Scalar(scalar) = &entry.node.value else { continue };
        let key = entry.key.to_ascii_uppercase();
        if !scalar.literal || OTHER.iter().any(|word| key.contains(word)) {
            continue;
        }
        if let Some(address) = address(&scalar.text) {
            let what = format!("`{}` of service `{service}` holds {address}", entry.key);
            say(entry.at, what, report);
        }
    }
}

/// The first IPv4 address of another host in a text.
fn address(text: &str) -> Option<Ipv4Addr> {
    let inside = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let after_word =
            rest[..start].ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
        let tail = &rest[start..];
        let (word, behind) = tail.split_at(tail.find(|c| !inside(c)).unwrap_or(tail.len()));
        let range =
            behind.strip_prefix('/').is_some_and(|t| t.starts_with(|c: char| c.is_ascii_digit()));
        let before_word = behind.starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c));
        if !after_word
            && !before_word
            && !range
            && let Ok(address) = word.trim_end_matches('.').parse::<Ipv4Addr>()
            && is_of_another_host(address)
        {
            return Some(address);
        }
        rest = behind;
    }
    None
}

fn is_of_another_host(address: Ipv4Addr) -> bool {
    !address.is_loopback() && !address.is_unspecified() && !address.is_broadcast()
}

fn extra_hosts(service: &str, hosts: &Node, report: &mut Report) {
    let Value::List(items) = crate::merge::hosts(hosts.clone()).value else { return };
    for item in items {
        let Value::Scalar(scalar) = &item.value else { continue };
        let pair = scalar.text.split_once('=').or_else(|| scalar.text.split_once(':'));
        let Some((name, address)) = pair.filter(|_| scalar.literal) else { continue };
        let address = address.trim_matches(['[', ']']).parse::<IpAddr>();
        if address.is_ok_and(|address| !address.is_loopback()) {
            let what = format!("`{name}` in `extra_hosts` of service `{service}` is fixed");
            let finding = Finding::note("address-literal", what).at(&report.place(item.at));
            report.push(finding.cause(CAUSE).next("use a name that the host's resolver knows"));
        }
    }
}

const CAUSE: &str = "addresses change when things move; names follow";

fn say(at: crate::report::At, what: String, report: &mut Report) {
    let finding = Finding::warning("address-literal", what).at(&report.place(at));
    report
        .push(finding.cause(CAUSE).next("call services by name, and take others from a variable"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_other_hosts() {
        for (text, found) in [
            ("10.0.0.5", true),
            ("http://192.168.1.10:8080/x", true),
            ("a=1,b=172.16.0.1", true),
            ("ends with 10.0.0.5.", true),
            ("127.0.0.1:80", false),
            ("0.0.0.0", false),
            ("10.0.0.0/8", false),
            ("v1.2.3.4", false),
            ("1.2.3.4-alpine", false),
            ("1.2.3", false),
            ("300.1.1.1", false),
            ("1.2.3.4.5", false),
            ("http://db:5432", false),
            ("ä1.2.3.4", false),
        ] {
            assert_eq!(address(text).is_some(), found, "{text}");
        }
    }
}
