//! `ports` and `expose`: short and long forms, ranges spelled out.

use std::net::IpAddr;

use super::Reader;
use crate::keys::Scope;
use crate::model::{Port, PortKind};
use crate::report::At;
use crate::tree::{Node, Value};

/// More ports of one service than this are taken for a slip.
const PORTS_MAX: usize = 1024;

/// More items of a list than this are not looked at one by one, nor more ports of all ranges.
pub(super) const ITEMS_MAX: usize = 4096;

/// An inclusive range of ports, none of them 0.
type Range = (u16, u16);

impl Reader<'_> {
    pub(super) fn ports(&mut self, node: &Node, owner: &str) -> Vec<Port> {
        let mut ports: Vec<Port> = Vec::new();
        let mut spelled_out = 0;
        for item in self.items(node, &format!("`ports` of {owner}")) {
            let read = match &item.value {
                Value::Map(_) => self.long_port(item, owner),
                _ => self.short_port(item, owner),
            };
            spelled_out += read.len();
            if spelled_out > ITEMS_MAX {
                self.too_many(item.at, owner);
                return ports;
            }
            for port in read {
                // The same port said again replaces what was said before.
                let same = |p: &Port| {
                    (p.host_ip, p.target, p.published, p.protocol)
                        == (port.host_ip, port.target, port.published, port.protocol)
                };
                match ports.iter().position(same) {
                    Some(i) => ports[i] = port,
                    None if ports.len() < PORTS_MAX => ports.push(port),
                    None => {
                        self.too_many(item.at, owner);
                        return ports;
                    }
                }
            }
        }
        ports
    }

    pub(super) fn expose(&mut self, node: &Node, owner: &str) -> Vec<(u16, PortKind)> {
        let mut ports = Vec::new();
        let named = format!("`expose` of {owner}");
        let mut spelled_out = 0;
        for (text, at) in self.texts(node, &named) {
            let Some((range, kind)) = self.with_protocol(&text, at, &named) else { continue };
            let Some(range) = self.range(range, &text, at, &named) else { continue };
            spelled_out += usize::from(range.1 - range.0) + 1;
            for port in range.0..=range.1 {
                if ports.len() >= PORTS_MAX || spelled_out > ITEMS_MAX {
                    self.too_many(at, owner);
                    return ports;
                }
                if !ports.contains(&(port, kind)) {
                    ports.push((port, kind));
                }
            }
        }
        ports
    }

    /// The items of a list; anything else than a list is an error.
    pub(super) fn items<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) if items.len() <= ITEMS_MAX => items,
            Value::List(_) => {
                self.report.error(
                    "too-many-items",
                    node.at,
                    format!("{what} has more than {ITEMS_MAX} items"),
                    "lists are bounded",
                    "name fewer",
                );
                &[]
            }
            Value::Null => &[],
            _ => {
                self.wrong_list(node, what);
                &[]
            }
        }
    }

    fn too_many(&mut self, at: At, owner: &str) {
        self.report.error(
            "too-many-ports",
            at,
            format!("{owner} has more than {PORTS_MAX} ports"),
            "each of them is a listener",
            "name the ports that are used",
        );
    }

    /// `[[ADDRESS:]HOST:]TARGET[/PROTOCOL]`.
    fn short_port(&mut self, node: &Node, owner: &str) -> Vec<Port> {
        let named = format!("a port of {owner}");
        let Some(text) = self.text(node, &named) else { return Vec::new() };
        let Some((ports, kind)) = self.with_protocol(&text, node.at, &named) else {
            return Vec::new();
        };
        let (front, target) = match ports.rsplit_once(':') {
            Some((front, target)) => (Some(front), target),
            None => (None, ports),
        };
        let (address, published) = match front {
            // An address in brackets, or a name without a colon: `[::1]`, `127.0.0.1`.
            Some(front) => match front.rsplit_once(':') {
                Some((address, published)) => (Some(address), Some(published)),
                None => (None, Some(front)),
            },
            None => (None, None),
        };
        let Some(target) = self.range(target, &text, node.at, &named) else { return Vec::new() };
        let published = match published.filter(|p| !p.is_empty()) {
            Some(published) => match self.range(published, &text, node.at, &named) {
                Some(range) => Some(range),
                None => return Vec::new(),
            },
            None => None,
        };
        let host_ip = match address.filter(|a| !a.is_empty()) {
            Some(address) => match self.address(address, node.at, &named) {
                Some(address) => Some(address),
                None => return Vec::new(),
            },
            None => None,
        };
        let bare = Port {
            host_ip,
            published: None,
            target: target.0,
            protocol: kind,
            app_protocol: None,
            name: None,
            place: self.report.place(node.at),
        };
        self.spelled_out(&bare, published, target, node.at, &text)
    }

    fn long_port(&mut self, node: &Node, owner: &str) -> Vec<Port> {
        let named = format!("a port of {owner}");
        let mut bare = Port {
            host_ip: None,
            published: None,
            target: 0,
            protocol: PortKind::Tcp,
            app_protocol: None,
            name: None,
            place: self.report.place(node.at),
        };
        let (mut target, mut published, mut bad) = (None, None, false);
        for entry in self.entries(Scope::Port, &named, node) {
            let what = format!("`{}` of {named}", entry.key);
            let Some(text) = self.text(&entry.node, &what) else {
                bad = true;
                continue;
            };
            let at = entry.node.at;
            match entry.key.as_str() {
                "target" => {
                    target = self.range(&text, &text, at, &what);
                    bad |= target.is_none();
                }
                "published" if !text.is_empty() && text != "0" => {
                    published = self.range(&text, &text, at, &what);
                    bad |= published.is_none();
                }
                "host_ip" if !text.is_empty() => {
                    bare.host_ip = self.address(&text, at, &what);
                    bad |= bare.host_ip.is_none();
                }
                "protocol" => match self.kind(&text, at, &what) {
                    Some(kind) => bare.protocol = kind,
                    None => bad = true,
                },
                "app_protocol" => bare.app_protocol = Some(text),
                "name" => bare.name = Some(text),
                "mode" if !matches!(text.as_str(), "host" | "ingress") => {
                    self.bad(at, &what, &text, "write `ingress` or `host`");
                }
                _ => {}
            }
        }
        match target {
            Some(target) if !bad => self.spelled_out(&bare, published, target, node.at, "the port"),
            None if !bad && node.get("target").is_none() => {
                self.report.error(
                    "bad-port",
                    node.at,
                    format!("{named} has no `target`"),
                    "it is the port that the service listens on",
                    "add `target: 8080`",
                );
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// One port for each of a range, the host's going along.
    fn spelled_out(
        &mut self,
        bare: &Port,
        published: Option<Range>,
        target: Range,
        at: At,
        text: &str,
    ) -> Vec<Port> {
        let size = |r: Range| usize::from(r.1 - r.0) + 1;
        if size(target) > PORTS_MAX {
            self.bad(at, "a range of ports", text, format!("name at most {PORTS_MAX} ports"));
            return Vec::new();
        }
        if let Some(range) = published.filter(|p| size(*p) != size(target)) {
            if size(target) > 1 {
                self.bad(at, "a pair of port ranges", text, "make both ranges equally long");
                return Vec::new();
            }
            self.report.warn(
                "key-partly",
                at,
                format!("`{text}` publishes one port out of a range"),
                "all instances are behind one published port",
                format!("write `{}`; that one is used", range.0),
            );
        }
        let each = (target.0..=target.1).zip(0u16..);
        each.map(|(target, i)| Port {
            target,
            published: published.map(|p| p.0.saturating_add(i)),
            ..bare.clone()
        })
        .collect()
    }

    fn with_protocol<'t>(
        &mut self,
        text: &'t str,
        at: At,
        named: &str,
    ) -> Option<(&'t str, PortKind)> {
        match text.split_once('/') {
            Some((ports, protocol)) => Some((ports, self.kind(protocol, at, named)?)),
            None => Some((text, PortKind::Tcp)),
        }
    }

    fn kind(&mut self, text: &str, at: At, named: &str) -> Option<PortKind> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Some(PortKind::Tcp),
            "udp" => Some(PortKind::Udp),
            _ => {
                self.bad(at, &format!("the protocol of {named}"), text, "write `tcp` or `udp`");
                None
            }
        }
    }

    fn range(&mut self, part: &str, text: &str, at: At, named: &str) -> Option<Range> {
        let read = port_range(part);
        if read.is_none() {
            self.bad(at, named, text, "ports are numbers from 1 to 65535, as in `8080:80`");
        }
        read
    }

    fn address(&mut self, text: &str, at: At, named: &str) -> Option<IpAddr> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        match inner.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                let what = format!("the address of {named}");
                self.bad(at, &what, text, "write an IP address, as in `127.0.0.1:8080:80`");
                None
            }
        }
    }
}

/// `80` or `8000-8005`.
pub(crate) fn port_range(text: &str) -> Option<Range> {
    let one = |t: &str| {
        let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        t.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (one(first)?, one(last)?),
        None => (one(text)?, one(text)?),
    };
    (first <= last).then_some((first, last))
}
