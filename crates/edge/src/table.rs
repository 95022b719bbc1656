//! What the edge is given: which addresses to listen on and where their traffic goes.
//!
//! Not here: how a table is applied (`director`), and who makes it (the binary does).
//!
//! A table is whole: each one replaces the one before. Versions grow; what a version changed is
//! found by comparison, so that sending an equal table again costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, ServiceName};

/// Everything that the edge of this node serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteTable {
    /// Grows with every change; [`crate::EdgeStatus::version`] tells which one is in force.
    pub version: u64,
    /// Where to listen. Of two listeners at one address the first counts; TCP and UDP are apart.
    pub listeners: Vec<Listener>,
    /// Where the traffic of each service goes.
    pub services: BTreeMap<ServiceName, Arc<Upstream>>,
    /// Which service calls from an address; other peers are outside the app.
    pub callers: HashMap<IpAddr, ServiceName>,
}

/// One address that the edge listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address and port.
    pub addr: SocketAddr,
    /// The service that it leads to.
    pub service: ServiceName,
    /// The port of an instance, for endpoints with [`EndpointAddress::AnyPort`].
    pub target_port: u16,
    /// What is spoken here.
    pub protocol: Protocol,
    /// Reached from outside the app (`ports:`): forwarding headers of the client are not believed
    /// but replaced.
    pub published: bool,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 and 1.0: each request is balanced.
    Http,
    /// Bytes: each connection is balanced.
    Tcp,
    /// Found out for each connection; see `detect` for how.
    Detect,
    /// Datagrams: those of one client address go to one instance.
    Udp,
}

/// What a listener takes: an address, over TCP or over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) is_udp: bool,
}

impl Listener {
    pub(crate) fn door(&self) -> Door {
        Door { addr: self.addr, is_udp: self.protocol == Protocol::Udp }
    }
}

/// Where the traffic of a service goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Its instances.
    pub endpoints: Vec<Endpoint>,
    /// How long a request or connection waits while no endpoint can take it.
    pub hold: Duration,
    /// The address that datagrams to its instances come from; `None` leaves it to the kernel.
    pub datagrams_from: Option<IpAddr>,
    /// Why no endpoint is ready, one sentence that a person can act on; told to clients whose wait
    /// is over. Empty when there is nothing to say.
    pub unavailable_why: String,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    /// The endpoint with the smallest (requests under way + 1) / weight; ties rotate.
    #[default]
    LeastRequests,
    /// Smooth weighted round robin.
    RoundRobin,
}

/// One instance as a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The instance.
    pub instance: InstanceId,
    /// Where it listens.
    pub address: EndpointAddress,
    /// Its share of the traffic against the other endpoints; 0 takes none.
    pub weight: u32,
    /// Whether it takes new requests.
    pub state: EndpointState,
}

/// Where an instance listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An address of its own: dial the listener's `target_port` there.
    AnyPort(IpAddr),
    /// One address and port, whatever port was asked for.
    Fixed(SocketAddr),
}

impl EndpointAddress {
    /// The address to dial for a listener with this target port.
    pub fn dial(self, target_port: u16) -> SocketAddr {
        match self {
            EndpointAddress::AnyPort(ip) => SocketAddr::new(ip, target_port),
            EndpointAddress::Fixed(addr) => addr,
        }
    }
}

/// Whether an endpoint takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// Takes new requests.
    Ready,
    /// Finishes what it has; takes nothing new.
    Draining,
}
