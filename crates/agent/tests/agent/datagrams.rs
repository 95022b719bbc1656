//! Datagrams: several instances on one port, localhost that is the instance, answers that come
//! from where they were asked for.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use agent::{Addressing, Mode, ProcessSpec};

use crate::harness::{FULL, House, Test, id, spec, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "datagrams_find_each_replica", modes: FULL, body: replicas },
        Test { name: "datagrams_to_localhost_stay", modes: FULL, body: localhost },
        Test { name: "datagrams_say_who_sends", modes: FULL, body: who_sends },
        Test { name: "the_machines_resolver_is_reached", modes: FULL, body: resolver },
        Test { name: "datagrams_leave_the_machine", modes: FULL, body: leave },
    ]
}

/// Two addresses that no other run of these tests has.
fn own_pair() -> [Ipv4Addr; 2] {
    let [_, high, third, low] = std::process::id().to_be_bytes();
    [
        Ipv4Addr::new(127, 128 + (high & 15), third, low),
        Ipv4Addr::new(127, 144 + (high & 15), third, low),
    ]
}

fn has_addresses(house: &House) -> bool {
    house.agent.isolation().addressing == Addressing::Own
}

/// A port of UDP that nobody uses now.
fn free_port() -> u16 {
    UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn python(name: &str, own: Ipv4Addr, script: &str, args: &[&str]) -> ProcessSpec {
    let mut spec = spec(name, &["/usr/bin/python3", "-u", "-c", script]);
    spec.argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    spec.address = Some(own);
    spec
}

/// Answers datagrams at HOST PORT with its name, what came, and who sent it.
const ECHO: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[4:]: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
print('bound')
while True:
    got, who = s.recvfrom(2048)
    s.sendto(('%s %s %s' % (sys.argv[3], got.decode(), who[0])).encode(), who)
";

fn replicas(mode: Mode) {
    with_house(mode, async |house| {
        if !has_addresses(&house) {
            return;
        }
        let port = free_port().to_string();
        // As the edge asks: from an address of the pool, since localhost is the instance's.
        let edge = UdpSocket::bind("127.64.77.6:0").unwrap();
        edge.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let binds: [&[&str]; 5] =
            [&["0.0.0.0"], &["127.0.0.1"], &["::"], &["::1"], &["::", "only"]];
        for (at, bind) in binds.into_iter().enumerate() {
            for (slot, own) in own_pair().into_iter().enumerate() {
                let name = format!("names.{}", 2 * at + slot + 1);
                let args = [&[bind[0], &port, &name], &bind[1..]].concat();
                house.agent.start(python(&name, own, ECHO, &args)).await.unwrap();
                house.printed(&id(&name), "bound").await;
                let to = SocketAddr::from((own, port.parse().unwrap()));
                edge.send_to(b"hello", to).unwrap();
                let mut room = [0; 100];
                let answer = edge.recv_from(&mut room);
                let (len, from) = answer.unwrap_or_else(|e| panic!("{bind:?}: {e}"));
                let said = String::from_utf8_lossy(&room[..len]);
                assert!(said.starts_with(&format!("{name} hello ")), "{said}");
                assert!(said.ends_with("127.64.77.6"), "{said}");
                assert_eq!(from, to, "{bind:?}");
                let found = &house.agent.listening_ports()[&id(&name)];
                // Unless the kernel gives it to clients too, as it did here.
                assert!(found.udp.is_empty(), "{found:?}");
            }
            for instance in house.agent.instances() {
                house.agent.kill(&instance.id).await.unwrap();
            }
        }
    });
}

/// Asks each address in its arguments in every way that there is, and prints who answered. The
/// kernel tells a connected socket nothing of others, so what it gets is from whom it asked.
const ASK_EACH: &str = "
import socket, sys
port = int(sys.argv[1])
for host in sys.argv[2:]:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    for way in ('sendto', 'connect', 'bound'):
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.settimeout(20)
        try:
            if way == 'bound': s.bind(('::1' if ':' in host else '127.0.0.1', 0))
            if way == 'connect':
                s.connect((host, port)); s.send(b'?')
            else: s.sendto(b'?', (host, port))
            what, who = s.recvfrom(2048)
            print(host, way, what.decode().split()[0], 'from', who[0])
        except OSError as e:
            print(host, way, type(e).__name__)
";

fn localhost(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let own = own_pair()[0];
        let port = free_port().to_string();
        // What listens on the host's loopback, or on all of its addresses, is not the instance's.
        for host in ["127.0.0.1", "0.0.0.0"] {
            let host = UdpSocket::bind((host, port.parse().unwrap())).unwrap();
            host.set_nonblocking(true).unwrap();
            let mut caller = python("caller.1", own, ASK_EACH, &[&port, "127.0.0.1", "::1"]);
            // Nobody answers at all.
            caller.argv[3] = ASK_EACH.replace("settimeout(20)", "settimeout(0.3)");
            let exit = house.run(caller).await;
            for line in &exit.last_lines {
                let refused = ["TimeoutError", "RefusedError", "PermissionError", " OSError"];
                assert!(refused.iter().any(|error| line.ends_with(error)), "{line}");
            }
            assert_eq!(exit.last_lines.len(), 6, "{:?}", exit.last_lines);
            assert!(host.recv(&mut [0; 9]).is_err(), "the host heard it");
        }

        house.agent.start(python("names.1", own, ECHO, &["::", &port, "echo"])).await.unwrap();
        house.printed(&id("names.1"), "bound").await;
        let own = own.to_string();
        let hosts = ["127.0.0.1", "127.0.0.2", &own, "::ffff:127.0.0.1"];
        let mut argv =
            ["/usr/bin/python3", "-u", "-c", ASK_EACH, &port].map(str::to_owned).to_vec();
        argv.extend(hosts.map(str::to_owned));
        argv.push("::1".to_owned());
        let said = house.agent.exec(&id("names.1"), argv, Duration::from_secs(50)).await.unwrap();
        let mut expected = String::new();
        for host in hosts {
            for way in ["sendto", "connect", "bound"] {
                expected.push_str(&format!("{host} {way} echo from {host}\n"));
            }
        }
        // The kernel cannot be told to send these elsewhere.
        expected.push_str("::1 sendto PermissionError\n::1 connect echo from ::1\n");
        expected.push_str("::1 bound PermissionError\n");
        assert_eq!(said.output, expected, "{said:?}");
    });
}

fn who_sends(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let own = own_pair()[1];
        let edge = UdpSocket::bind("127.64.77.7:0").unwrap();
        edge.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let to = edge.local_addr().unwrap();
        let (ip, port) = (to.ip().to_string(), to.port());
        for (family, host) in [("AF_INET", ip.clone()), ("AF_INET6", format!("::ffff:{ip}"))] {
            for call in ["s.sendto(b'?', to)", "s.connect(to); s.send(b'?')"] {
                let script = format!(
                    "import socket; to = ('{host}', {port})
s = socket.socket(socket.{family}, socket.SOCK_DGRAM); {call}
s.settimeout(20); print(s.recvfrom(9)[1][0])"
                );
                house.agent.start(python("caller.1", own, &script, &[])).await.unwrap();
                let (_, from) = edge.recv_from(&mut [0; 9]).unwrap();
                assert_eq!(from.ip(), own, "{family} {call}");
                edge.send_to(b"!", from).unwrap();
                let exit = house.exit_of(&id("caller.1")).await;
                assert_eq!(exit.last_lines, [host.as_str()], "{call}");
            }
        }
    });
}

fn resolver(mode: Mode) {
    with_house(mode, async |mut house| {
        // Where systemd-resolved answers; if it does so here, it is left alone.
        let Ok(host) = UdpSocket::bind("127.0.0.53:53") else {
            eprintln!("skip: somebody has 127.0.0.53:53");
            return;
        };
        if !has_addresses(&house) {
            return;
        }
        host.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for call in ["s.sendto(b'?', to)", "s.connect(to); s.send(b'?')"] {
            let script = format!(
                "import socket; to = ('127.0.0.53', 53)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); {call}
s.settimeout(20); print(s.recvfrom(9)[1])"
            );
            house.agent.start(python("caller.1", own_pair()[1], &script, &[])).await.unwrap();
            let (_, from) = host.recv_from(&mut [0; 9]).unwrap();
            host.send_to(b"!", from).unwrap();
            let exit = house.exit_of(&id("caller.1")).await;
            assert_eq!(exit.last_lines, ["('127.0.0.53', 53)"], "{call}");
        }
    });
}

fn leave(mode: Mode) {
    with_house(mode, async |mut house| {
        // Any address of this machine that is not loopback's stands for the world.
        let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
        let outside = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
        let Some(outside) = outside.ok().filter(|at| !at.ip().is_loopback()) else {
            eprintln!("skip: this machine has no address but loopback's");
            return;
        };
        if !has_addresses(&house) {
            return;
        }
        let listener = UdpSocket::bind((outside.ip(), 0)).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let to = listener.local_addr().unwrap();
        // Also from a socket that has a port of its own, as syslog's do.
        for bind in ["pass", "s.bind(('0.0.0.0', 0))", "s.bind(('0.0.0.0', 2951))"] {
            let script = format!(
                "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
{bind}; s.sendto(b'?', ('{}', {}))",
                to.ip(),
                to.port()
            );
            let exit = house.run(python("caller.1", own_pair()[0], &script, &[])).await;
            assert!(exit.success(), "{bind}: {:?}", exit.last_lines);
            let (_, from) = listener.recv_from(&mut [0; 9]).unwrap();
            assert_eq!(from.ip(), outside.ip(), "{bind}");
        }
    });
}
