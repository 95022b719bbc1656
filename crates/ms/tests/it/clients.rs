//! Clients of every kind find services by name and get an answer.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;
use std::process::Command;

use crate::harness::{Project, root, texts};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// What the clients are made with, and what they are.
const TOOLS: [&str; 8] = ["gcc", "musl-gcc", "go", "javac", "node", "python3", "curl", "busybox"];

const COMPOSE: &str = "
services:
  scores:
    image: example/scores
    x-mainspring: {native: true}
    command: python3 server.py
    expose: ['8080', '8081/udp']
  six:
    image: example/six
    x-mainspring: {native: true}
    command: node six.js
    expose: ['8080']
  elsewhere:
    image: example/elsewhere
    x-mainspring: {native: true}
    command: sleep 1000
    networks: [other]
  calls:
    image: example/calls
    x-mainspring: {native: true}
    command: sleep 1000
    depends_on: [scores, six]
    # Nobody outside the machine is asked for other names.
    dns: 127.0.0.1
networks: {other: {}}
";

/// Answers GET over TCP and everything over UDP, where it has a port for that.
const SERVER: &str = "
import http.server, os, socket, threading
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('content-length', '5'); self.end_headers()
        self.wfile.write(b'score')
def datagrams():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('0.0.0.0', 8081))
    while True:
        s.sendto(b'score', s.recvfrom(2048)[1])
if os.environ['PORT'] == '8080': threading.Thread(target=datagrams).start()
http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), H).serve_forever()
";

/// By IPv6 alone, except where all share the host's addresses and the edge asks by IPv4.
const SIX: &str = "
const port = +process.env.PORT;
require('http').createServer((q, s) => s.end('score'))
  .listen(port == 8080 ? {host: '::', port, ipv6Only: true} : {host: '0.0.0.0', port});
";

const C: &str = r#"
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **arg) {
    int udp = !strcmp(arg[1], "udp");
    struct addrinfo *found, hint = {.ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM};
    int error = getaddrinfo(arg[2], arg[3], &hint, &found);
    if (error) { puts(gai_strerror(error)); return 1; }
    int s = socket(found->ai_family, hint.ai_socktype, 0);
    char got[4096], *text = "GET / HTTP/1.0\r\n\r\n";
    if (udp) {
        struct sockaddr_storage from; socklen_t len = sizeof from;
        sendto(s, "?", 1, 0, found->ai_addr, found->ai_addrlen);
        int length = recvfrom(s, got, sizeof got, 0, (void *)&from, &len);
        if (len != found->ai_addrlen || memcmp(&from, found->ai_addr, 8)) puts("from elsewhere");
        printf("%.*s\n", length, got);
        return 0;
    }
    if (connect(s, found->ai_addr, found->ai_addrlen)) { perror("connect"); return 1; }
    write(s, text, strlen(text));
    for (int length; (length = read(s, got, sizeof got)) > 0;) printf("%.*s", length, got);
    return 0;
}
"#;

const PYTHON: &str = "
import socket, sys, urllib.request
what, host, port = sys.argv[1:]
if what == 'http': print(urllib.request.urlopen('http://%s:%s/' % (host, port)).read().decode())
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b'?', (host, int(port)))
    print(s.recvfrom(99)[0].decode())
";

const NODE: &str = "
const dns = require('dns').promises, [what, host, port] = process.argv.slice(2);
const doing = {
  http: async () => (await fetch(`http://${host}:${port}/`)).text(),
  lookup: async () => (await dns.lookup(host)).address,
  resolve: async () => (await dns.resolve(host))[0],
  resolve6: () => dns.resolve6(host).catch(e => e.code),
  udp: () => new Promise(done => {
    const s = require('dgram').createSocket('udp4');
    s.on('message', m => { done(m.toString()); s.close(); });
    s.send('?', port, host);
  }),
};
doing[what]().then(console.log, e => { console.log(e); process.exit(1) });
";

const GO: &str = r#"package main
import ("fmt"; "io"; "net"; "os")
func main() {
    to, network := net.JoinHostPort(os.Args[2], os.Args[3]), "tcp"
    if os.Args[1] == "udp" { network = "udp" }
    c, err := net.Dial(network, to)
    if err != nil { fmt.Println(err); os.Exit(1) }
    fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
    if network == "udp" {
        got := make([]byte, 99)
        n, _ := c.Read(got)
        fmt.Println(string(got[:n]))
        return
    }
    got, _ := io.ReadAll(c)
    fmt.Println(string(got))
}
"#;

const JAVA: &str = r#"
import java.net.*;
import java.net.http.*;
class Client {
    public static void main(String[] arg) throws Exception {
        var url = "http://" + arg[1] + ":" + arg[2] + "/";
        System.out.println(new String(new URL(url).openStream().readAllBytes()));
        var request = HttpRequest.newBuilder(URI.create(url)).build();
        var answer = HttpResponse.BodyHandlers.ofString();
        System.out.println(HttpClient.newHttpClient().send(request, answer).body());
        if (!arg[0].equals("udp")) return;
        try (var s = new DatagramSocket()) {
            var got = new DatagramPacket(new byte[9], 9);
            s.send(new DatagramPacket(new byte[1], 1, InetAddress.getByName(arg[1]), 8081));
            s.receive(got);
            System.out.println(new String(got.getData(), 0, got.getLength()));
        }
    }
}
"#;

/// Makes the clients in a folder.
fn make(folder: &Path) {
    for (name, text) in [
        ("server.py", SERVER),
        ("six.js", SIX),
        ("client.c", C),
        ("client.py", PYTHON),
        ("client.js", NODE),
        ("client.go", GO),
        ("Client.java", JAVA),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let run = |program: &str, args: &[&str], env: &[(&str, &str)]| {
        let mut command = Command::new(program);
        command.args(args).current_dir(folder);
        let out = command.envs(env.iter().copied()).output().unwrap();
        assert!(out.status.success(), "{program} {args:?}: {:?}", texts(&out));
    };
    run("javac", &["-nowarn", "Client.java"], &[]);
    run("gcc", &["-w", "-o", "glibc", "client.c"], &[]);
    run("musl-gcc", &["-w", "-o", "musl", "client.c"], &[]);
    run("musl-gcc", &["-w", "-static", "-o", "musl-static", "client.c"], &[]);
    for (cgo, name) in [("0", "go-pure"), ("1", "go-cgo")] {
        let env = [("CGO_ENABLED", cgo), ("GO111MODULE", "off"), ("GOFLAGS", "")];
        run("go", &["build", "-o", name, "client.go"], &env);
    }
}

/// What is run in an instance, and what of it must be in what it prints.
fn calls(address: &str, own: bool) -> Vec<(String, String)> {
    let mut calls = Vec::new();
    let mut call = |line: &str, says: &str| calls.push((line.to_owned(), says.to_owned()));
    let programs = [
        "./glibc",
        "./musl",
        "./musl-static",
        "python3 client.py",
        "node client.js",
        "./go-pure",
        "env GODEBUG=netdns=cgo ./go-cgo",
    ];
    for program in programs {
        call(&format!("{program} http scores 8080"), "score");
        if own {
            call(&format!("{program} http six 8080"), "score");
            call(&format!("{program} udp scores 8081"), "score");
        }
    }
    let java = format!("java Client {} scores 8080", if own { "udp" } else { "" });
    call(&java, "score\nscore");
    call("curl -sS http://scores:8080/", "score");
    call("busybox wget -qO- http://scores:8080/", "score");
    call("node client.js lookup scores", address);
    if own {
        // These look nowhere but over DNS.
        call("node client.js resolve scores", address);
        call("node client.js resolve6 scores", "ENODATA");
        call("busybox nslookup scores", address);
    }
    calls
}

fn has(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap();
    path.split(':').any(|folder| Path::new(folder).join(tool).exists())
}

fn everybody_calls(made: &Path, project: &Project, own: bool) {
    for file in std::fs::read_dir(made).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), project.path(file.file_name().to_str().unwrap())).unwrap();
    }
    project.ok(&["up", "-d"]);
    let address_of = |service: &str| {
        let view = project.api(&format!("/api/services/{service}"));
        view["service"]["address"].as_str().unwrap().to_owned()
    };
    let call = |line: &str| {
        let words: Vec<&str> = ["exec", "calls", "--"].into_iter().chain(line.split(' ')).collect();
        let said = project.ms(&words);
        let (stdout, stderr) = texts(&said);
        (said.status.success(), format!("{stdout}{stderr}"))
    };
    for (line, says) in calls(&address_of("scores"), own) {
        let (success, said) = call(&line);
        assert!(success && said.contains(&says), "{line}: {said}");
    }
    let (success, said) = call("node client.js resolve elsewhere");
    assert!(!success && !said.contains(&address_of("elsewhere")), "on another network: {said}");
}

#[test]
fn clients_of_every_kind_reach_services_by_name() {
    let missing: Vec<_> = TOOLS.into_iter().filter(|tool| !has(tool)).collect();
    if !missing.is_empty() {
        eprintln!("not run: {} missing; `cargo xtask test` installs them", missing.join(", "));
        return;
    }
    let made = tempfile::tempdir().unwrap();
    make(made.path());
    if root() {
        everybody_calls(made.path(), &Project::new(COMPOSE), true);
        everybody_calls(made.path(), &Project::as_user(COMPOSE, NOBODY), false);
    } else {
        everybody_calls(made.path(), &Project::new(COMPOSE), false);
    }
}
