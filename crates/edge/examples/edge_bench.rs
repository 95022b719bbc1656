//! An edge alone, to be measured: `edge_bench LISTEN UPSTREAM…` on one thread.
//!
//! Not a product: no health, no deploys. `THREADS` in the environment changes the thread count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::metrics::Registry;
use base::{InstanceId, ServiceName, SystemClock};
use edge::{
    Balance, Edge, EdgeConfig, Endpoint, EndpointAddress, EndpointState, Listener, Protocol,
    RouteTable, Upstream,
};
use tokio::sync::watch;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let addr: SocketAddr = args.next().ok_or("usage: edge_bench LISTEN UPSTREAM...")?.parse()?;
    let upstreams: Vec<SocketAddr> = args.map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    let service: ServiceName = "bench".parse()?;
    let protocol = match std::env::var("PROTOCOL").as_deref() {
        Ok("tcp") => Protocol::Tcp,
        Ok("detect") => Protocol::Detect,
        _ => Protocol::Http,
    };
    let endpoints = (1..).zip(upstreams).map(|(slot, upstream)| Endpoint {
        instance: InstanceId::new(service.clone(), slot),
        address: EndpointAddress::Fixed(upstream),
        weight: 1,
        state: EndpointState::Ready,
    });
    let upstream = Upstream {
        balance: Balance::LeastRequests,
        endpoints: endpoints.collect(),
        hold: Duration::from_secs(5),
        datagrams_from: None,
        unavailable_why: String::new(),
    };
    let listener =
        Listener { addr, service: service.clone(), target_port: 0, protocol, published: true };
    let table = RouteTable {
        version: 1,
        listeners: vec![listener],
        services: [(service, Arc::new(upstream))].into(),
        callers: [].into(),
    };
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let config =
        EdgeConfig { threads, ..EdgeConfig::new(Arc::new(SystemClock), Registry::default()) };
    let (_tables, following) = watch::channel(Arc::new(table));
    let edge = Edge::start(config, following)?;
    let mut status = edge.status();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        while status.changed().await.is_ok() {
            eprintln!("{:?}", status.borrow_and_update());
        }
    });
    Ok(())
}
