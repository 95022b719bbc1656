//! What lasts is counted while it lasts, not when it is over.

use base::ServiceName;
use edge::Protocol;

use crate::rig::{Backend, Client, Options, Rig, address, get, ready};

const OPEN: &str = "ms_edge_sessions_open";
const RECEIVED: &str = "ms_edge_received_bytes_total";
const SENT: &str = "ms_edge_sent_bytes_total";
const WHO: &[(&str, &str)] = &[("caller", "jobs"), ("service", "web"), ("instance", "web.1")];

/// A client that is the service `jobs`.
fn caller(rig: &Rig) -> Client {
    use socket2::{Domain, Socket, Type};
    let jobs: ServiceName = "jobs".parse().unwrap();
    let from = address();
    let version = rig.change(|table| {
        table.callers.insert(from, jobs);
    });
    rig.wait(|status| status.version == version);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&rig.addr.into()).unwrap();
    Client::over(socket.into())
}

/// Sends back what comes, until the end.
fn echo(mut client: Client) {
    while let Some(line) = client.until("\n") {
        client.send(line);
    }
}

#[test]
fn an_open_tcp_session_and_its_bytes_are_seen_while_it_lasts() {
    let backend = Backend::raw(|client, _| echo(client));
    let options = Options { protocol: Protocol::Tcp, ..Options::default() };
    let rig = Rig::with(options, vec![ready(1, backend.addr)]);
    let mut client = caller(&rig);
    for at in 1..4 {
        client.send("12345\n");
        assert_eq!(client.until("\n").unwrap(), "12345\n");
        rig.wait_count(OPEN, WHO, 1);
        rig.wait_count(RECEIVED, WHO, 6 * at);
        rig.wait_count(SENT, WHO, 6 * at);
    }
    assert_eq!(rig.count("ms_edge_sessions_total", &[]), 0);
    client.end();
    assert!(client.is_over());
    rig.wait_count(OPEN, WHO, 0);
    rig.wait_count("ms_edge_sessions_total", WHO, 1);
    assert_eq!(rig.count(RECEIVED, &[]), 18);
}

#[test]
fn an_upgraded_connection_and_its_bytes_are_seen_while_it_lasts() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    let backend = Backend::raw(move |mut client, _| {
        client.message(false).unwrap();
        client.send(answer);
        echo(client);
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = caller(&rig);
    client.send("GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.response("GET"), answer);
    rig.wait_count(OPEN, WHO, 1);
    let head = rig.count(SENT, WHO);
    assert_eq!(head, answer.len() as u64);
    client.send("12345\n");
    assert_eq!(client.until("\n").unwrap(), "12345\n");
    rig.wait_count(SENT, WHO, head + 6);
    rig.wait_count("ms_edge_requests_total", WHO, 1);
    client.end();
    assert!(client.is_over());
    rig.wait_count(OPEN, WHO, 0);
    assert_eq!(rig.count(SENT, &[]), head + 6);
}

#[test]
fn the_bytes_of_a_body_are_seen_while_it_lasts() {
    let backend = Backend::raw(|mut client, _| {
        client.message(false).unwrap();
        client.send("HTTP/1.1 200 OK\r\n\r\n");
        client.send("data: 1\n\n");
        client.rest();
    });
    let rig = Rig::new(vec![ready(1, backend.addr)]);
    let mut client = caller(&rig);
    client.send(get("/events"));
    assert!(client.until("data: 1\n\n").is_some());
    // The response goes on; the edge has said that it ends with the connection.
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".len();
    rig.wait_count(SENT, WHO, (head + 9) as u64);
    assert_eq!(rig.count("ms_edge_requests_total", &[]), 0);
}
