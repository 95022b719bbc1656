//! UDP: a published port and a service's name, asked as `dig` asks.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::harness::{Project, root, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

const SERVER: &str = "
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', int(os.environ['PORT'])))
while True:
    question, client = s.recvfrom(65536)
    s.sendto(os.environ['PORT'].encode() + b' ' + question, client)
";

/// Not connected, so it sees for itself who answers.
const CLIENT: &str = "
import socket
to = (socket.gethostbyname('names'), 5353)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
while True:
    s.sendto(b'inside', to)
    try:
        answer, source = s.recvfrom(65536)
    except TimeoutError:
        continue
    print('answered', answer.split()[1].decode(), 'from', 'it' if source == to else source, flush=True)
    break
s.settimeout(None)
s.recvfrom(1)
";

fn ask(socket: &UdpSocket, to: SocketAddr) -> Option<String> {
    socket.send_to(b"outside", to).expect("a socket takes a datagram");
    let mut bytes = [0; 100];
    let (len, from) = socket.recv_from(&mut bytes).ok()?;
    assert_eq!(from, to, "the answer comes from the address that was asked");
    Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

#[test]
fn datagrams_reach_every_replica_and_come_back_from_where_they_were_sent() {
    let published = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let compose = format!(
        "services:
  names:
    image: example/names
    x-mainspring: {{native: true}}
    command: python3 server.py
    ports: ['{published}:5353/udp']
    deploy: {{replicas: 2}}
  asks:
    image: example/asks
    x-mainspring: {{native: true}}
    command: python3 client.py
    depends_on: [names]
"
    );
    // As root the UDP sockets of instances are the host's; see `agent::Addressing`.
    let project = match root() {
        true => Project::as_user(&compose, NOBODY),
        false => Project::new(&compose),
    };
    project.write("server.py", SERVER);
    project.write("client.py", CLIENT);
    project.ok(&["up", "-d"]);
    let mut instances = std::collections::BTreeSet::new();
    until("both replicas answer, each client hears from one of them", || {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        if let Some(first) = ask(&client, published) {
            assert!(first.ends_with(" outside"), "{first}");
            assert_eq!(ask(&client, published), Some(first.clone()), "the same client again");
            instances.insert(first);
        }
        (instances.len() == 2, instances.clone())
    });
    until("a service reaches it by name", || {
        let said = project.ok(&["logs", "asks"]);
        (said.contains("answered inside from it"), said)
    });
    until("its sessions are seen", || {
        let names = project.api("/api/services/names")["service"].clone();
        assert_eq!(names["published"][0], format!("udp://{published}"));
        assert_eq!(names["ports"][0], serde_json::json!({"port": 5353, "protocol": "udp"}));
        (names["traffic"]["sessions_open"].as_u64().unwrap() > 0, names)
    });
}
