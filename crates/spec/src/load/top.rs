//! What stands beside the services at the top of a file: volumes and networks.

use std::collections::BTreeMap;

use crate::keys::Scope;
use crate::model::{NetworkDef, VolumeDef};
use crate::read::Reader;
use crate::tree::Node;

/// The named volumes.
pub(super) fn volumes(
    reader: &mut Reader<'_>,
    node: &Node,
    app: &str,
) -> BTreeMap<String, VolumeDef> {
    let mut volumes = BTreeMap::new();
    for entry in node.entries().iter().filter(|e| !e.key.starts_with("x-")) {
        let owner = format!("volume `{}`", entry.key);
        let mut def = VolumeDef {
            name: format!("{app}_{}", entry.key),
            external: false,
            labels: BTreeMap::new(),
            place: reader.report.place(entry.at),
        };
        let mut named = false;
        for inner in reader.entries(Scope::Volume, &owner, &entry.node) {
            let what = format!("`{}` of {owner}", inner.key);
            match inner.key.as_str() {
                "name" => {
                    if let Some(name) = reader.text(&inner.node, &what) {
                        def.name = name;
                        named = true;
                    }
                }
                "external" => match inner.node.get("name") {
                    Some(name) => {
                        def.external = true;
                        def.name = reader.text(name, &what).unwrap_or(def.name);
                        named = true;
                    }
                    None => {
                        def.external = reader.boolean(&inner.node, &what).unwrap_or_default();
                    }
                },
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
        if def.external && !named {
            def.name.clone_from(&entry.key);
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
        let mut def = NetworkDef {
            name: format!("{app}_{}", entry.key),
            external: false,
            internal: false,
            labels: BTreeMap::new(),
            place: reader.report.place(entry.at),
        };
        let mut named = false;
        for inner in reader.entries(Scope::Network, &owner, &entry.node) {
            let what = format!("`{}` of {owner}", inner.key);
            match inner.key.as_str() {
                "name" => {
                    def.name = reader.text(&inner.node, &what).unwrap_or(def.name);
                    named = true;
                }
                "external" => match inner.node.get("name") {
                    Some(name) => {
                        def.external = true;
                        def.name = reader.text(name, &what).unwrap_or(def.name);
                        named = true;
                    }
                    None => def.external = reader.boolean(&inner.node, &what).unwrap_or_default(),
                },
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
        if def.external && !named {
            def.name.clone_from(&entry.key);
        }
        networks.insert(entry.key.clone(), def);
    }
    networks
}
