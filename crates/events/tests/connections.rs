//! Ten thousand open connections cost little while they are silent, and nobody notices them.
//!
//! Alone in its binary, since it measures the memory of the process and needs its descriptors.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base::SystemClock;
use events::kafka::{Advertised, Listener};
use events::{Config, Part};
use kafka_wire::{Request, api_versions, frame_request, metadata};

const CONNECTIONS: usize = 10_000;
/// What each may cost here beside the kernel's part.
const BYTES_EACH_MAX: usize = 10 << 10;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn ask<R: Request>(client: &mut TcpStream, request: &R, version: i16) -> usize {
    client.write_all(&frame_request(request, version, 1, "one of many").unwrap()).unwrap();
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    client.read_exact(&mut answer).unwrap();
    answer.len()
}

/// A client that has asked what every client asks first.
fn connected(addr: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(addr).unwrap();
    assert!(ask(&mut client, &api_versions::Request::default(), 3) > 100);
    client
}

#[test]
fn ten_thousand_silent_clients_cost_little_and_hinder_nobody() {
    // Both ends of each are in this process.
    let allowed = usize::try_from(net::descriptors(2 * CONNECTIONS as u64 + 500)).unwrap();
    let connections = CONNECTIONS.min(allowed.saturating_sub(500) / 2);
    if connections < CONNECTIONS {
        eprintln!("{connections} connections: {allowed} descriptors are all that is allowed");
    }
    assert!(connections > 200, "too few descriptors to show anything: {allowed}");
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (part, bound) = runtime.block_on(async {
        let config = Config { folder: folder.path().to_owned(), ..Config::default() };
        let part = Part::open(&config, Arc::new(SystemClock)).await.unwrap();
        (Arc::new(part), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
    });
    let addr = bound.local_addr().unwrap();
    let serving = Arc::clone(&part);
    let mut tasks = tokio::task::JoinSet::new();
    let serve = async move {
        let ways = vec![(bound, Listener::from(Advertised::AsConnected))];
        let limit = net::ConnectionLimit::new(2 * CONNECTIONS);
        serving.serve(ways, limit, std::future::pending()).await;
    };
    tasks.spawn_on(serve, runtime.handle());

    // Everything that comes with first use has come.
    let mut clients: Vec<TcpStream> = Vec::with_capacity(connections);
    clients.extend((0..100).map(|_| connected(addr)));
    let before = resident_bytes();
    clients.extend((100..connections).map(|_| connected(addr)));
    let each = resident_bytes().saturating_sub(before) / (connections - 100);
    eprintln!("{connections} connections of {each} bytes each");
    assert!(each <= BYTES_EACH_MAX, "{each} bytes each");

    // Whoever comes now is served, and so is each of them.
    let mut late = connected(addr);
    let all = metadata::Request { topics: None, ..metadata::Request::default() };
    assert!(ask(&mut late, &all, 12) > 20);
    for at in [0, connections / 2, connections - 1] {
        assert!(ask(&mut clients[at], &all, 12) > 20);
    }
    drop(clients);
    runtime.shutdown_background();
}
