//! Questions over real sockets, with a made-up server behind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::*;

/// Only a defect takes as long.
const PATIENCE: Duration = Duration::from_secs(20);
const ASKER: Ipv4Addr = Ipv4Addr::new(127, 86, 1, 1);
const SCORES: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 5);

fn question(id: u8, name: &str, kind: u8) -> Vec<u8> {
    let mut message = vec![7, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, kind, 0, 1]);
    message
}

/// The question with a byte behind it that no responder of ours would add.
fn far_answer(mut question: Vec<u8>) -> Vec<u8> {
    question[2] |= 0x80;
    question.push(99);
    question
}

/// A server of other names. It first says something else, as whoever guesses would.
fn far_server(addr: std::net::SocketAddr) {
    let udp = UdpSocket::bind(addr).unwrap();
    let tcp = TcpListener::bind(addr).unwrap();
    thread::spawn(move || {
        let mut room = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut room) {
            udp.send_to(b"noise", from).unwrap();
            udp.send_to(&far_answer(question(0, "guessed", 1)), from).unwrap();
            udp.send_to(&far_answer(room[..length].to_vec()), from).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let answer = far_answer(tcp_message(&mut stream));
            stream.write_all(&framed(&answer)).unwrap();
        }
    });
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn tcp_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn table(servers: &[IpAddr], with_localhost: bool) -> Arc<Table> {
    let names = [("scores".to_owned(), vec![SCORES.into()])].into();
    let scope =
        Scope { names, search: vec!["lan".to_owned()], servers: servers.to_vec(), inside: false };
    let scope = Arc::new(scope);
    let localhost = with_localhost.then(|| Arc::clone(&scope));
    Arc::new(Table { callers: [(IpAddr::V4(ASKER), scope)].into(), localhost })
}

/// Runs what asks beside a responder, on a thread of its own since it blocks.
fn with_responder(
    table: Arc<Table>,
    resolver: &str,
    asks: impl FnOnce(std::net::SocketAddr) + Send + 'static,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, resolver).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let responder = bind_at("127.86.0.1:0".parse().unwrap(), path).unwrap();
        let at = responder.udp.local_addr().unwrap();
        let (_kept, table) = watch::channel(table);
        let asking = tokio::task::spawn_blocking(move || asks(at));
        tokio::select! {
            () = responder.serve(table) => unreachable!(),
            asked = asking => asked.unwrap(),
        }
    });
}

fn socket(ip: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, at: std::net::SocketAddr, message: &[u8]) -> Vec<u8> {
    socket.send_to(message, at).unwrap();
    let mut room = [0; 4096];
    let (length, from) = socket.recv_from(&mut room).unwrap();
    assert_eq!(from, at);
    room[..length].to_vec()
}

#[test]
fn known_names_are_answered_to_those_who_are_known() {
    with_responder(table(&[], false), "", |at| {
        let socket = socket(ASKER);
        for name in ["scores", "SCORES.lan"] {
            let answer = ask(&socket, at, &question(1, name, 1));
            assert!(answer.ends_with(&SCORES.octets()), "{name}: {answer:?}");
            let answer = ask(&socket, at, &question(2, name, 28));
            assert_eq!((answer[3] & 15, answer[7]), (0, 0), "no address of that family");
        }
        // Nobody is asked for others, and a stranger is told nothing.
        assert_eq!(ask(&socket, at, &question(3, "example.com", 1))[3] & 15, 2);
        assert_eq!(
            ask(&self::socket([127, 86, 1, 9].into()), at, &question(4, "scores", 1))[3] & 15,
            5
        );

        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(&framed(&question(5, "scores", 1))).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // From localhost, which is nobody's here.
        assert_eq!(tcp_message(&mut stream)[3] & 15, 5);
    });
}

#[test]
fn who_is_to_stay_inside_hears_of_no_other_names() {
    let mut table = Arc::unwrap_or_clone(table(&[[127, 86, 2, 9].into()], false));
    for scope in table.callers.values_mut() {
        Arc::make_mut(scope).inside = true;
    }
    with_responder(Arc::new(table), "", |at| {
        let socket = socket(ASKER);
        assert!(ask(&socket, at, &question(1, "scores", 1)).ends_with(&SCORES.octets()));
        assert_eq!(ask(&socket, at, &question(2, "secret.example.com", 1))[3] & 15, 3);
    });
}

#[test]
fn other_names_are_passed_on_and_back_as_they_are() {
    // Port 53 is for root alone as a rule.
    let far: IpAddr = [127, 86, 2, 1].into();
    let probe = UdpSocket::bind((far, PORT));
    if let Err(e) = probe.map(drop) {
        eprintln!("not run: port 53: {e}");
        return;
    }
    far_server((far, PORT).into());
    // The first of them does not answer.
    let resolver = format!("nameserver 127.86.2.9\nnameserver {far}\n");
    for servers in [&[][..], &[far]] {
        let resolver = if servers.is_empty() { resolver.as_str() } else { "" };
        with_responder(table(servers, true), resolver, |at| {
            let asked = question(6, "Example.com", 16);
            assert_eq!(ask(&socket(ASKER), at, &asked), far_answer(asked.clone()));
            let mut stream = TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            for _ in 0..2 {
                stream.write_all(&framed(&asked)).unwrap();
                assert_eq!(tcp_message(&mut stream), far_answer(asked.clone()));
            }
            stream.write_all(&framed(&question(7, "scores", 1))).unwrap();
            assert!(tcp_message(&mut stream).ends_with(&SCORES.octets()));
        });
    }
}
