//! Addresses of their own: several instances on one port, known to whom they call.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use agent::{Addressing, Mode, ProcessSpec, View};

use crate::harness::{FULL, House, Test, id, spec, with_house};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "replicas_share_a_port", modes: FULL, body: replicas_share_a_port },
        Test { name: "either_family_comes_first", modes: FULL, body: either_family_comes_first },
        Test { name: "runtimes_share_a_port", modes: FULL, body: runtimes_share_a_port },
        Test { name: "the_callee_sees_who_calls", modes: FULL, body: the_callee_sees_who_calls },
        Test { name: "the_hosts_loopback_is_out_of_reach", modes: FULL, body: hosts_loopback },
        Test { name: "the_host_is_found_where_it_is", modes: FULL, body: host_listeners },
        Test { name: "some_stay_inside", modes: FULL, body: some_stay_inside },
        Test { name: "localhost_is_the_instance", modes: FULL, body: localhost_is_the_instance },
    ]
}

/// Two addresses that no other run of these tests has.
fn own_pair() -> [Ipv4Addr; 2] {
    let [_, high, third, low] = std::process::id().to_be_bytes();
    [
        Ipv4Addr::new(127, 96 + (high & 15), third, low),
        Ipv4Addr::new(127, 112 + (high & 15), third, low),
    ]
}

fn has_addresses(house: &House) -> bool {
    let isolation = house.agent.isolation();
    if isolation.addressing != Addressing::Own {
        eprintln!("skip: {:?}", isolation.missing);
    }
    isolation.addressing == Addressing::Own
}

/// Serves `hello from ARG` on a port: at an address, and as its last argument says by IPv4 (4), by
/// IPv6 alone (6), in this order, or by a socket that was let go at once (x).
const PYTHON: &str = "
import http.server, socket, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(('hello from %s to %s' % (sys.argv[2], self.client_address[0])).encode())
class Six(http.server.HTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
port, servers = int(sys.argv[1]), []
for which in sys.argv[4]:
    if which == '4': servers.append(http.server.HTTPServer((sys.argv[3], port), H, False))
    else: servers.append(Six(('::1' if sys.argv[3] == '127.0.0.1' else '::', port), H, False))
    servers[-1].server_bind()
    if which == 'x':
        servers[-1].server_activate()
        servers.pop().server_close()
# As asyncio does: bound all of them before any listens.
for server in servers: server.server_activate()
for server in servers[1:]: threading.Thread(target=server.serve_forever).start()
servers[0].serve_forever()
";

fn python(name: &str, port: u16, bind: &str, own: Ipv4Addr) -> ProcessSpec {
    python_by("46", name, port, bind, own)
}

fn python_by(families: &str, name: &str, port: u16, bind: &str, own: Ipv4Addr) -> ProcessSpec {
    let port_text = port.to_string();
    let argv = ["/usr/bin/python3", "-c", PYTHON, &port_text, name, bind, families];
    let mut spec = spec(name, &argv);
    spec.address = Some(own);
    spec.ports = vec![port];
    spec
}

async fn get(address: Ipv4Addr, port: u16) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect((address, port)).await.unwrap();
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

/// Tries every way outside to an address that nobody answers at, and one inside.
const WAYS_OUT: &str = "
import errno, socket, sys
def attempt(name, family, kind, how, to):
    try:
        s = socket.socket(family, *kind)
        s.settimeout(60)
        how(s, to)
        print(name, 'ok', flush=True)
    except OSError as e:
        print(name, errno.errorcode.get(e.errno, e), flush=True)
connect, send = (lambda s, to: s.connect(to)), (lambda s, to: s.sendto(b'x', to))
four, six = socket.AF_INET, socket.AF_INET6
stream, datagram, raw = (socket.SOCK_STREAM,), (socket.SOCK_DGRAM,), (socket.SOCK_RAW, 253)
attempt('inside', four, stream, connect, (sys.argv[1], int(sys.argv[2])))
attempt('datagram', four, datagram, send, ('198.51.100.1', 53))
attempt('raw', four, raw, send, ('198.51.100.1', 0))
# Outside nobody answers.
if sys.argv[3:]:
    attempt('connect', four, stream, connect, ('198.51.100.1', 80))
    attempt('mapped', six, stream, connect, ('::ffff:198.51.100.1', 80))
    attempt('six', six, stream, connect, ('2001:db8::1', 80))
    attempt('resolver', four, stream, connect, ('198.51.100.1', 53))
";

fn some_stay_inside(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let listener = TcpListener::bind("127.64.77.9:0").unwrap();
        let to = listener.local_addr().unwrap();
        let port = to.port().to_string();
        let argv = ["/usr/bin/python3", "-c", WAYS_OUT, "127.64.77.9", &port];
        for (inside, sent) in [(false, "ok"), (true, "EPERM")] {
            let mut spec = spec("a.1", &argv);
            spec.address = Some(own_pair()[0]);
            spec.rights.cap_add.insert("NET_RAW".to_owned());
            spec.inside = inside;
            spec.argv.extend(inside.then(|| "all".to_owned()));
            house.run(spec).await;
            let said = house.output(&id("a.1"));
            let has = |line: &str| said.iter().any(|l| l == line);
            if !inside && said.iter().any(|line| line.ends_with("ENETUNREACH")) {
                eprintln!("skip: this machine has no way outside");
                continue;
            }
            assert!(has("inside ok"), "{said:?}");
            assert!(has(&format!("datagram {sent}")) && has(&format!("raw {sent}")), "{said:?}");
            let refused = |way: &&str| has(&format!("{way} EPERM"));
            let ways = ["connect", "mapped", "six", "resolver"];
            assert!(!inside || ways.iter().all(refused), "{said:?}");
        }
    });
}

fn replicas_share_a_port(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let port = agent::free_port([127, 0, 0, 1].into()).unwrap();
        for (bind, name) in [("0.0.0.0", "any"), ("127.0.0.1", "local")] {
            for (slot, own) in own_pair().into_iter().enumerate() {
                let name = format!("{name}.{}", slot + 1);
                house.agent.start(python(&name, port, bind, own)).await.unwrap();
                house.healthy(&id(&name)).await;
                assert!(get(own, port).await.ends_with(&format!("hello from {name} to 127.0.0.1")));
                assert_eq!(house.agent.listening(&id(&name)), [(own, port).into()]);
                // Localhost is the instance, by both families' names.
                for local in ["http://127.0.0.1", "http://localhost", "http://[::1]"] {
                    let url = format!("{local}:{port}/");
                    let argv = ["/usr/bin/curl", "-s", "-S", &url].map(str::to_owned).to_vec();
                    let wait = Duration::from_secs(20);
                    let said = house.agent.exec(&id(&name), argv, wait).await.unwrap();
                    assert!(said.output.starts_with(&format!("hello from {name}")), "{said:?}");
                }
            }
            for instance in house.agent.instances() {
                house.agent.kill(&instance.id).await.unwrap();
            }
        }
    });
}

fn either_family_comes_first(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let port = agent::free_port([127, 0, 0, 1].into()).unwrap();
        for families in ["6", "64", "46", "x4", "x46", "4x"] {
            for bind in ["0.0.0.0", "127.0.0.1"] {
                for (slot, own) in own_pair().into_iter().enumerate() {
                    let name = format!("web.{}", slot + 1);
                    let spec = python_by(families, &name, port, bind, own);
                    house.agent.start(spec).await.unwrap();
                    house.healthy(&id(&name)).await;
                    assert!(get(own, port).await.contains(&name), "{families} {bind}");
                    assert_eq!(house.agent.listening(&id(&name)), [(own, port).into()]);
                }
                for instance in house.agent.instances() {
                    house.agent.kill(&instance.id).await.unwrap();
                    house.exit_of(&instance.id).await;
                }
            }
        }
    });
}

/// Folder with programs that print who they are; `None` where a runtime is missing.
fn runtimes(folder: &std::path::Path, port: u16) -> Vec<(&'static str, Vec<String>)> {
    let write = |name: &str, text: &str| {
        let path: PathBuf = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let node = write(
        "s.js",
        "require('http').createServer((q, s) => s.end('hello'))\
        .listen(+process.argv[2])",
    );
    let java = write(
        "S.java",
        "import com.sun.net.httpserver.*; import java.net.*;
        class S { public static void main(String[] a) throws Exception {
            var s = HttpServer.create(new InetSocketAddress(Integer.parseInt(a[0])), 0);
            s.createContext(\"/\", x -> { x.sendResponseHeaders(200, 5);
                x.getResponseBody().write(\"hello\".getBytes()); x.close(); });
            s.start(); } }",
    );
    let go = write(
        "s.go",
        "package main\nimport (\"net/http\"; \"os\")\nfunc main() {
        http.HandleFunc(\"/\", func(w http.ResponseWriter, r *http.Request) {
            w.Write([]byte(\"hello\")) })
        panic(http.ListenAndServe(\":\" + os.Args[1], nil)) }",
    );
    // As its packages configure it: both families on one port.
    let nginx = write(
        "nginx.conf",
        &format!(
            "user root; daemon off; events {{}} http {{ access_log off; server {{
                listen {port}; listen [::]:{port}; location / {{ return 200 hello; }} }} }}"
        ),
    );
    let port = port.to_string();
    let built = folder.join("s");
    let build = std::process::Command::new("go")
        .args(["build", "-o"])
        .args([built.display().to_string(), go])
        .env("GO111MODULE", "off")
        .status();
    let mut found = vec![
        ("node", vec!["node".to_owned(), node, port.clone()]),
        ("java", vec!["java".to_owned(), java, port.clone()]),
        ("nginx", ["nginx", "-e", "stderr", "-c", &nginx].map(str::to_owned).to_vec()),
    ];
    found.retain(|(name, _)| {
        let there = ["/usr/bin", "/usr/local/bin", "/usr/sbin"].iter();
        there.map(|dir| format!("{dir}/{name}")).any(|path| std::path::Path::new(&path).exists())
    });
    if build.is_ok_and(|status| status.success()) {
        found.push(("go", vec![built.display().to_string(), port]));
    }
    found
}

fn runtimes_share_a_port(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let port = agent::free_port([127, 0, 0, 1].into()).unwrap();
        for (name, argv) in runtimes(folder.path(), port) {
            eprintln!("     {name}");
            for (slot, own) in own_pair().into_iter().enumerate() {
                let mut spec = spec(&format!("{name}.{}", slot + 1), &[]);
                spec.argv = argv.clone();
                spec.view = View::Overlay { layers: Vec::new() };
                spec.env[0].1.push_str(":/usr/sbin");
                spec.address = Some(own);
                spec.ports = vec![port];
                let id = spec.id.clone();
                house.agent.start(spec).await.unwrap();
                house.healthy(&id).await;
                assert!(get(own, port).await.ends_with("hello"));
            }
            for instance in house.agent.instances() {
                house.agent.kill(&instance.id).await.unwrap();
            }
        }
    });
}

fn the_callee_sees_who_calls(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let edge = TcpListener::bind("127.64.77.5:0").unwrap();
        let from = |listener: &TcpListener| listener.accept().unwrap().1.ip();
        // Plain IPv4, and IPv4 inside an IPv6 socket, as Java does.
        for prefix in ["", "::ffff:"] {
            let to = edge.local_addr().unwrap();
            let call = format!("socket.create_connection(('{prefix}{}', {}))", to.ip(), to.port());
            let script = format!("import socket; {call}");
            let mut caller = spec("caller.1", &["/usr/bin/python3", "-c", &script]);
            caller.address = Some(own_pair()[1]);
            let exit = house.run(caller).await;
            assert!(exit.success(), "{:?}", exit.last_lines);
            assert_eq!(from(&edge), own_pair()[1]);
        }
    });
}

/// Names of localhost; the kernel takes zero for it.
const LOCAL: [&str; 12] = [
    "0.0.0.0",
    "127.0.0.1",
    "127.0.0.2",
    "127.0.1.1",
    "127.66.77.5",
    "127.255.255.254",
    "::",
    "::1",
    "::ffff:0.0.0.0",
    "::ffff:127.0.0.1",
    "::ffff:127.0.0.2",
    "::ffff:127.66.77.5",
];

/// Connects to each of the addresses in its arguments, and says to what it got.
const CALL_EACH: &str = "
import socket, sys
for host in sys.argv[2:]:
    try:
        socket.create_connection((host, int(sys.argv[1])), 20)
        print(host, 'reached', flush=True)
    except OSError as e:
        print(host, type(e).__name__, flush=True)
";

fn hosts_loopback(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        // As the console of an engine listens, and anything else that is the host's alone.
        for own in ["127.0.0.1", "127.0.0.2", "127.66.77.5", "::1"] {
            let Ok(host) = TcpListener::bind((own, 0)) else {
                eprintln!("skip: {own} cannot be bound here");
                continue;
            };
            let port = host.local_addr().unwrap().port().to_string();
            let mut caller = spec("caller.1", &["/usr/bin/python3", "-c", CALL_EACH, &port]);
            caller.argv.extend(LOCAL.map(str::to_owned));
            caller.address = Some(own_pair()[0]);
            let exit = house.run(caller).await;
            let refused = LOCAL.map(|local| format!("{local} ConnectionRefusedError"));
            assert_eq!(exit.last_lines, refused, "{own}");
        }
    });
}

/// What listens on any address is found at every address of loopback, but for the programs.
fn host_listeners(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let host = agent::host_address("127.64.0.0/16".parse().unwrap()).to_string();
        for own in ["0.0.0.0", "::", "127.0.0.1"] {
            let Ok(listener) = TcpListener::bind((own, 0)) else {
                eprintln!("skip: {own} cannot be bound here");
                continue;
            };
            let port = listener.local_addr().unwrap().port().to_string();
            let mut caller = spec("caller.1", &["/usr/bin/python3", "-c", CALL_EACH, &port]);
            let mapped = format!("::ffff:{host}");
            let there = [host.as_str(), &mapped];
            // A service's address, where the edge does not listen.
            let service = ["127.64.77.9", "::ffff:127.64.77.9"];
            let each = LOCAL.iter().chain(&service).chain(&there);
            caller.argv.extend(each.clone().map(|host| (*host).to_owned()));
            caller.address = Some(own_pair()[0]);
            let exit = house.run(caller).await;
            let anywhere = own != "127.0.0.1";
            let expected = each.map(|host| match anywhere && there.contains(host) {
                true => format!("{host} reached"),
                false => format!("{host} ConnectionRefusedError"),
            });
            // More lines than an exit's.
            let printed = house.output(&id("caller.1"));
            let expected: Vec<_> = expected.collect();
            assert!(printed.ends_with(&expected), "{own}: {printed:?} {exit:?}");
        }
        // A program's own listener on any port is none of the host's.
        let script = "
import socket
for bound in (True, False):
    s = socket.socket()
    if bound: s.bind(('0.0.0.0', 0))
    s.listen()
    socket.create_connection(('127.0.0.1', s.getsockname()[1]), 20)";
        let mut caller = spec("caller.1", &["/usr/bin/python3", "-c", script]);
        caller.address = Some(own_pair()[0]);
        let exit = house.run(caller).await;
        assert!(exit.success(), "{:?}", exit.last_lines);
    });
}

fn localhost_is_the_instance(mode: Mode) {
    with_house(mode, async |mut house| {
        if !has_addresses(&house) {
            return;
        }
        let port = agent::free_port(own_pair()[0].into()).unwrap();
        // By whichever of its names it listens.
        for bind in ["0.0.0.0", "127.0.0.1", "127.0.1.1"] {
            house.agent.start(python("web.1", port, bind, own_pair()[0])).await.unwrap();
            house.healthy(&id("web.1")).await;
            assert_eq!(house.agent.listening(&id("web.1")), [(own_pair()[0], port).into()]);
            let mut argv = ["/usr/bin/python3", "-c", CALL_EACH].map(str::to_owned).to_vec();
            argv.push(port.to_string());
            argv.extend(LOCAL.map(str::to_owned));
            let said = house.agent.exec(&id("web.1"), argv, Duration::from_secs(20)).await.unwrap();
            let reached: String = LOCAL.map(|local| format!("{local} reached\n")).concat();
            assert_eq!(said.output, reached);
            house.agent.kill(&id("web.1")).await.unwrap();
            house.exit_of(&id("web.1")).await;
        }
    });
}
