//! UDP: a published port and a service's name, asked as `dig` asks.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::harness::{Project, root, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// Answers on the port that it is told, or else on one that its file declares and one that it does
/// not.
const SERVER: &str = "
import os, socket, threading
def serve(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((host, port))
    while True:
        question, client = s.recvfrom(65536)
        s.sendto(os.environ['HOSTNAME'].encode() + b' ' + question, client)
if 'PORT' in os.environ: serve('127.0.0.1', int(os.environ['PORT']))
threading.Thread(target=serve, args=('0.0.0.0', 5354)).start()
serve('0.0.0.0', 5353)
";

/// Not connected, so it sees for itself who answers.
const CLIENT: &str = "
import socket, sys
for port in sys.argv[1:]:
    to = (socket.gethostbyname('names'), int(port))
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.5)
    while True:
        s.sendto(b'inside', to)
        try:
            answer, source = s.recvfrom(65536)
        except TimeoutError:
            continue
        print(port, 'answered', answer.split()[1].decode(), 'from', 'it' if source == to else source, flush=True)
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
fn datagrams_reach_every_replica_at_an_address_of_its_own() {
    if root() {
        serves(Project::new, &["5353", "5354"]);
    }
}

#[test]
fn datagrams_reach_every_replica_at_the_port_it_is_told() {
    match root() {
        true => serves(|compose| Project::as_user(compose, NOBODY), &["5353"]),
        false => serves(Project::new, &["5353"]),
    }
}

fn serves(project: impl Fn(&str) -> Project, ports: &[&str]) {
    let published = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let asked = ports.join(" ");
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
    command: python3 client.py {asked}
    depends_on: [names]
"
    );
    let project = project(&compose);
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
    for port in ports {
        until("a service reaches it by name", || {
            let said = project.ok(&["logs", "asks"]);
            (said.contains(&format!("{port} answered inside from it")), said)
        });
    }
    until("its sessions are seen", || {
        let names = project.api("/api/services/names")["service"].clone();
        assert_eq!(names["published"][0], format!("udp://{published}"));
        assert_eq!(names["ports"][0], serde_json::json!({"port": 5353, "protocol": "udp"}));
        (names["traffic"]["sessions_open"].as_u64().unwrap() > 0, names)
    });
}
