//! Under which names a service is found, and which names it finds: the model's network types.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use base::{Place, ServiceName};
use serde::{Deserialize, Serialize};

use super::Service;

/// The network of services that name none.
pub const DEFAULT_NETWORK: &str = "default";

/// A network of the app: services on it find each other by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDef {
    /// Its name outside the file: `app_key` unless the file says another.
    pub name: String,
    /// It is made by somebody else.
    pub external: bool,
    /// Its services are not to reach the world outside.
    pub internal: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is defined.
    pub place: Place,
}

/// How a service is found and what it finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Networking {
    /// Networks that it is on with the further names that it has there, by their names in the
    /// file. Empty is the default network alone.
    pub networks: BTreeMap<String, BTreeSet<String>>,
    /// It is on internal networks alone: it is not to reach the world outside.
    pub inside: bool,
    /// What `network_mode` says.
    pub mode: NetworkMode,
    /// A name for its only instance, which others can call too.
    pub container_name: Option<String>,
    /// Names that it alone calls other services by.
    pub links: BTreeMap<String, ServiceName>,
    /// Names that are no services, in the order of the file.
    pub extra_hosts: Vec<ExtraHost>,
    /// What it asks when it looks a name up.
    pub dns: Dns,
}

/// What a service is on instead of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Networks of the app.
    #[default]
    Networks,
    /// The host's own network.
    Host,
    /// Nothing but its own loopback.
    None,
    /// The network of another service.
    Service(ServiceName),
}

/// A name that is no service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Where it leads; `None` is `host-gateway`, the host itself.
    pub address: Option<IpAddr>,
}

/// What is asked when a name is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers; empty keeps the host's.
    pub servers: Vec<IpAddr>,
    /// Domains that are tried behind a short name; empty keeps the host's.
    pub search: Vec<String>,
    /// Options of the resolver, such as `ndots:2`.
    pub options: Vec<String>,
}

impl Service {
    /// The service whose network it shares.
    pub fn shares_with(&self) -> Option<&ServiceName> {
        match &self.networking.mode {
            NetworkMode::Service(name) => Some(name),
            NetworkMode::Networks | NetworkMode::Host | NetworkMode::None => None,
        }
    }

    /// The networks that it is on, in order of their names.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        let default = self.networking.networks.is_empty().then_some(DEFAULT_NETWORK);
        default.into_iter().chain(self.networking.networks.keys().map(String::as_str))
    }

    /// The names under which `caller` finds this service, its own first: none when they are on no
    /// common network.
    pub fn names_for<'a>(&'a self, caller: &'a Service) -> Vec<&'a str> {
        let (here, there) = (&self.networking, &caller.networking);
        if here.mode != NetworkMode::Networks || there.mode != NetworkMode::Networks {
            return Vec::new();
        }
        let shared: Vec<&str> =
            self.networks().filter(|network| caller.networks().any(|n| n == *network)).collect();
        if shared.is_empty() {
            return Vec::new();
        }
        let aliases = shared.iter().filter_map(|network| here.networks.get(*network)).flatten();
        let links = there.links.iter().filter(|(_, service)| **service == self.name);
        let mut names = vec![self.name.as_str()];
        let more = here.container_name.as_ref().into_iter();
        for name in more.chain(aliases).chain(links.map(|(name, _)| name)) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}
