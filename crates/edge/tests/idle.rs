//! Ten thousand open connections cost little while they are silent, and nobody notices them.
//!
//! Alone in its binary, since it measures the memory of the process and needs its descriptors.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

mod one;

const CONNECTIONS: usize = 10_000;
/// What each may cost here beside the kernel's part: 2 KiB, and the client's place in a vector.
const BYTES_EACH_MAX: usize = 2 << 10;
/// Clients that stop within a head each hold a small buffer.
const HALF_HEADS: usize = 1_000;
const HALF_HEAD_BYTES_MAX: usize = 20 << 10;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Answers whoever asks.
fn instance(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                seen.extend_from_slice(&bytes[..count]);
                if seen.ends_with(b"\r\n\r\n") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                    seen.clear();
                }
            }
        });
    }
}

fn ask(client: &mut TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    finish(client);
}

/// The rest of a request, and its answer.
fn finish(client: &mut TcpStream) {
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(b"Host: w\r\n\r\n").unwrap();
    let mut answer = [0; 40];
    client.read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(b"\r\n\r\nok"), "{}", answer.escape_ascii());
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
    let half_heads = HALF_HEADS.min(connections / 10);

    let backend = TcpListener::bind((one::ip(0), 8000)).unwrap();
    let upstream = backend.local_addr().unwrap();
    std::thread::spawn(move || instance(&backend));
    let one::One { edge, addr, .. } = &one::edge(upstream, 2);
    let addr = *addr;
    let wait_open = |count: usize| {
        while edge.connections() != count {
            std::thread::sleep(Duration::from_millis(5));
        }
    };

    // Everything that comes with first use has come, and room for what is measured here.
    let mut one = TcpStream::connect(addr).unwrap();
    ask(&mut one);
    let mut clients: Vec<TcpStream> = vec![one];
    clients.reserve(connections);
    let before = resident_bytes();
    while clients.len() < connections {
        clients.push(TcpStream::connect(addr).unwrap());
    }
    wait_open(connections);
    let each = resident_bytes().saturating_sub(before) / connections;
    eprintln!("{each} bytes for each of {connections} silent connections");
    assert!(each <= BYTES_EACH_MAX, "{each} bytes for each silent connection");

    ask(&mut clients[0]);
    ask(&mut clients[connections - 1]);

    // Buffers are for those that have said something, and come back.
    let before = resident_bytes();
    for client in &mut clients[..half_heads] {
        client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    }
    ask(&mut clients[connections - 1]);
    let each = resident_bytes().saturating_sub(before) / half_heads;
    eprintln!("{each} bytes for each of {half_heads} half heads");
    assert!(each <= HALF_HEAD_BYTES_MAX, "{each} bytes for each half head");
    clients[..half_heads].iter_mut().for_each(finish);

    drop(clients);
    wait_open(0);
    ask(&mut TcpStream::connect(addr).unwrap());
}
