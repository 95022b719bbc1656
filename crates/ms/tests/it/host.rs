//! What of the host an instance reaches, and where.

use std::net::TcpListener;

use crate::harness::{Project, root, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// Connects to each HOST:PORT in its arguments and says what came of it.
const CALLS: &str = "
import socket, sys
for to in sys.argv[1:]:
    host, port = to.split(':')
    try:
        socket.create_connection((host, int(port)), 30).close()
        print(to, 'reached', flush=True)
    except OSError as e:
        print(to, type(e).__name__, flush=True)
print('done', flush=True)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).recv(1)
";

/// What a caller is told of the host's listeners on any address and on loopback alone.
fn told(project: impl Fn(&str) -> Project, calls: &[&str]) -> Vec<String> {
    // Beside each other, so that neither gets the other's port.
    let bind = |host| TcpListener::bind((host, 0)).expect("a port is free");
    let listeners = [bind("0.0.0.0"), bind("127.0.0.1")];
    let ports = listeners.each_ref().map(|l| l.local_addr().expect("it is bound").port());
    let number = |call: &str| {
        call.replace("ANY", &ports[0].to_string()).replace("LOCAL", &ports[1].to_string())
    };
    let project = project(&format!(
        "services:
  calls:
    image: example/calls
    x-mainspring: {{native: true}}
    command: python3 calls.py {}
    extra_hosts: ['host.docker.internal:host-gateway']
",
        calls.iter().map(|call| number(call)).collect::<Vec<_>>().join(" ")
    ));
    project.write("calls.py", CALLS);
    project.ok(&["up", "-d"]);
    let said = until("it has called all of them", || {
        let said = project.ok(&["logs", "calls"]);
        (said.contains("done"), said)
    });
    let found = calls.iter().map(|call| {
        let prefix = format!("{} ", number(call));
        let line = said.lines().find_map(|line| Some(line.split_once(&prefix)?.1));
        format!("{call} {}", line.unwrap_or("is not told"))
    });
    found.collect()
}

#[test]
fn the_host_is_reached_at_its_gateway_alone() {
    if !root() {
        eprintln!("not run: addresses of their own need root");
        return;
    }
    let gateway = ["host.docker.internal:ANY", "host.docker.internal:LOCAL"];
    let others = ["localhost:ANY", "localhost:LOCAL", "calls:ANY", "calls:LOCAL"];
    let told = told(Project::new, &[&gateway[..], &others[..]].concat());
    assert_eq!(told[0], "host.docker.internal:ANY reached");
    for told in &told[1..] {
        assert!(told.ends_with(" ConnectionRefusedError"), "{told}");
    }
}

#[test]
fn without_root_the_hosts_loopback_is_everybodys() {
    let calls = ["host.docker.internal:ANY", "localhost:ANY", "localhost:LOCAL"];
    let told = match root() {
        true => told(|compose| Project::as_user(compose, NOBODY), &calls),
        false => told(Project::new, &calls),
    };
    assert_eq!(told, calls.map(|call| format!("{call} reached")));
}
