//! What stands beside the services at the top of a file: volumes and networks.

use std::collections::BTreeMap;

use crate::keys::Scope;
use crate::model::{NetworkDef, VolumeDef};
use crate::read::Reader;
use crate::tree::{Entry, Node};

/// The named volumes.
pub(super) fn volumes(
    reader: &mut Reader<'_>,
    node: &Node,
    app: &str,
) -> BTreeMap<String, VolumeDef> {
    let mut volumes = BTreeMap::new();
    for entry in node.entries().iter().filter(|e| !e.key.starts_with("x-")) {
        let owner = format!("volume `{}`", entry.key);
        let (name, external) = named(reader, entry, app, &owner);
        let mut def = VolumeDef {
            name,
            external,
            labels: BTreeMap::new(),
            place: reader.report.place(entry.at),
        };
        for inner in reader.entries(Scope::Volume, &owner, &entry.node) {
            let what = format!("`{}` of {owner}", inner.key);
            match inner.key.as_str() {
                "name" | "external" => {}
                "labels" => def.labels = reader.labels(&inner.node, &what),
                _ => {
                    let driver = reader.text(&inner.node, &what);
                    if driver.is_some_and(|d| d != "local") {
                        reader.report.warn(
                            "key-ignored",
                            inner.at,
                            format!("{what} has no effect"),
                            "volumes are folders of the engine's state",
                            "remove it, or leave it for Docker",
                        );
                    }
                }
            }
        }
        volumes.insert(entry.key.clone(), def);
    }
    volumes
}

/// The networks.
pub(super) fn networks(
    reader: &mut Reader<'_>,
    node: &Node,
    app: &str,
) -> BTreeMap<String, NetworkDef> {
    let mut networks = BTreeMap::new();
    for entry in node.entries().iter().filter(|e| !e.key.starts_with("x-")) {
        let owner = format!("network `{}`", entry.key);
        let (name, external) = named(reader, entry, app, &owner);
        let mut def = NetworkDef {
            name,
            external,
            internal: false,
            labels: BTreeMap::new(),
            place: reader.report.place(entry.at),
        };
        for inner in reader.entries(Scope::Network, &owner, &entry.node) {
            let what = format!("`{}` of {owner}", inner.key);
            match inner.key.as_str() {
                "name" | "external" => {}
                "internal" => def.internal = reader.boolean(&inner.node, &what).unwrap_or_default(),
                "labels" => def.labels = reader.labels(&inner.node, &what),
                _ => match reader.text(&inner.node, &what).as_deref() {
                    None | Some("bridge" | "default" | "overlay" | "") => {}
                    Some(other) => {
                        let cause = "networks keep names apart and have no addresses of their own";
                        reader.report.warn(
                            "key-partly",
                            inner.at,
                            format!("{what} is `{}`, which has no effect", other.escape_debug()),
                            cause,
                            "remove it, or leave it for Docker",
                        );
                    }
                },
            }
        }
        networks.insert(entry.key.clone(), def);
    }
    networks
}

/// What something is called outside of the app, and whether it is there already. What is external
/// keeps the name that it has in the file.
fn named(reader: &mut Reader<'_>, entry: &Entry, app: &str, owner: &str) -> (String, bool) {
    let (mut name, mut external) = (None, false);
    for inner in entry.node.entries() {
        let what = format!("`{}` of {owner}", inner.key);
        match (inner.key.as_str(), inner.node.get("name")) {
            ("name", _) => name = reader.text(&inner.node, &what).or(name),
            ("external", Some(node)) => {
                external = true;
                name = reader.text(node, &what).or(name);
            }
            ("external", None) => {
                external = reader.boolean(&inner.node, &what).unwrap_or_default();
            }
            _ => {}
        }
    }
    let own = || if external { entry.key.clone() } else { format!("{app}_{}", entry.key) };
    (name.unwrap_or_else(own), external)
}
