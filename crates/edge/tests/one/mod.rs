//! One service with one instance behind an edge, for tests that are alone in their binaries.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::metrics::Registry;
use base::{InstanceId, ServiceName, SystemClock};
use edge::{
    Balance, Edge, EdgeConfig, Endpoint, EndpointAddress, EndpointState, Listener, Protocol,
    RouteTable, Upstream,
};
use tokio::sync::watch;

/// An edge that listens.
pub(crate) struct One {
    pub(crate) edge: Edge,
    pub(crate) addr: SocketAddr,
    _tables: watch::Sender<Arc<RouteTable>>,
}

/// A loopback address that other test processes do not use.
pub(crate) fn ip(last: u8) -> IpAddr {
    let pid = std::process::id().to_be_bytes();
    IpAddr::from(Ipv4Addr::new(127, 192 | pid[1] & 0x3f, pid[2], pid[3] ^ last))
}

/// Starts an edge that leads from `ip(1)` to this instance.
pub(crate) fn edge(instance: SocketAddr, threads: usize) -> One {
    let addr = SocketAddr::new(ip(1), 8000);
    let service: ServiceName = "web".parse().unwrap();
    let endpoint = Endpoint {
        instance: InstanceId::new(service.clone(), 1),
        address: EndpointAddress::Fixed(instance),
        weight: 1,
        state: EndpointState::Ready,
    };
    let upstream = Upstream {
        balance: Balance::LeastRequests,
        endpoints: vec![endpoint],
        hold: Duration::from_secs(30),
        datagrams_from: None,
        unavailable_why: String::new(),
    };
    let listener = Listener {
        addr,
        service: service.clone(),
        target_port: 0,
        protocol: Protocol::Http,
        published: true,
    };
    let table = RouteTable {
        version: 1,
        listeners: vec![listener],
        services: [(service, Arc::new(upstream))].into(),
        callers: [].into(),
    };
    let (tables, following) = watch::channel(Arc::new(table));
    let config =
        EdgeConfig { threads, ..EdgeConfig::new(Arc::new(SystemClock), Registry::default()) };
    let edge = Edge::start(config, following).unwrap();
    let mut status = edge.status();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(status.wait_for(|status| status.version == 1)).unwrap();
    One { edge, addr, _tables: tables }
}
