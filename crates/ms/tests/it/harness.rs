//! A project in a temporary folder, the built `ms` to run on it, and an HTTP client.
#![expect(clippy::unwrap_used, reason = "a test harness: what fails here fails the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Longest that a test waits for anything; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A project with its own state folder; its engine ends with it.
pub(crate) struct Project {
    dir: tempfile::TempDir,
    /// Runs `ms` as this user instead of root.
    uid: Option<u32>,
}

/// A Python service that answers with its name, its release and who asked, and logs each request.
pub(crate) const ECHO: &str = r#"
import http.server, json, os, signal, socketserver, sys, threading, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/crash":
            os._exit(3)
        if self.path.startswith("/call/"):
            body = urllib.request.urlopen("http://" + self.path[6:], timeout=20).read()
        else:
            body = json.dumps({"name": os.environ.get("NAME", "?"), "instance": os.environ.get("HOSTNAME"),
                               "version": os.environ.get("VERSION", "1"),
                               "peer": self.client_address[0]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        print("GET", self.path, flush=True)

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

server = Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler)
def stop(*_):
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, stop)
print("listening", flush=True)
server.serve_forever()
"#;

/// One that calls, published on `port`, and two instances that are called; `more` is said of those.
pub(crate) fn front_and_back(port: u16, more: &str) -> String {
    let needs = if more.is_empty() { "[back]" } else { "{back: {condition: service_healthy}}" };
    format!(
        "services:
  front:
    image: example/front
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: front}}
    ports: ['127.0.0.1:{port}:8080']
    depends_on: {needs}
  back:
    image: example/back
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: back}}
    expose: ['8080']
    deploy: {{replicas: 2}}{more}
"
    )
}

impl Project {
    /// A project with this Compose file and `echo.py` beside it.
    pub(crate) fn new(compose: &str) -> Project {
        let project = Project { dir: tempfile::tempdir().unwrap(), uid: None };
        project.write("compose.yaml", compose);
        project.write("echo.py", ECHO);
        project
    }

    /// The same, run by an ordinary user.
    pub(crate) fn as_user(compose: &str, uid: u32) -> Project {
        let project = Project { dir: tempfile::tempdir().unwrap(), uid: Some(uid) };
        project.write("compose.yaml", compose);
        project.write("echo.py", ECHO);
        for path in ["", "compose.yaml", "echo.py"] {
            std::os::unix::fs::chown(project.path(path), Some(uid), Some(uid)).unwrap();
        }
        project
    }

    /// A path in the project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `ms` with these arguments, to be run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("MS_CONSOLE", "127.0.0.1:0")
            .env("NO_COLOR", "1")
            .env_remove("MS_STATE")
            .stdin(Stdio::null());
        if let Some(uid) = self.uid {
            use std::os::unix::process::CommandExt;
            command.uid(uid).gid(uid).env("HOME", self.dir.path());
            // Root's own folders, where its tools may be, are closed to others.
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }

    /// Runs `ms` and waits for its end.
    pub(crate) fn ms(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The built `ms`, where the user who runs it may read it.
    fn binary(&self) -> PathBuf {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_ms"));
        if self.uid.is_none() {
            return built;
        }
        let copy = self.path("ms-for-user");
        if !copy.exists() {
            std::fs::copy(built, &copy).unwrap();
        }
        copy
    }

    /// Runs `ms`, which must succeed, and returns what it printed on standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let out = self.ms(args);
        let (stdout, stderr) = texts(&out);
        assert!(
            out.status.success(),
            "ms {args:?} failed:\n{stdout}\n{stderr}\n{}",
            self.engine_log()
        );
        stdout
    }

    /// `GET path` over the engine's socket.
    pub(crate) fn api(&self, path: &str) -> Value {
        let mut stream =
            std::os::unix::net::UnixStream::connect(self.path(".ms/engine.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let body = body_of(&text);
        serde_json::from_slice(&body)
            .unwrap_or_else(|e| panic!("{path}: {}: {e}", String::from_utf8_lossy(&text)))
    }

    /// The process ids of a service's programs, sorted.
    pub(crate) fn pids(&self, service: &str) -> Vec<u64> {
        let view = self.api(&format!("/api/services/{service}"));
        let instances = view["service"]["instances"].as_array().unwrap().clone();
        let mut pids: Vec<u64> = instances.iter().filter_map(|i| i["pid"].as_u64()).collect();
        pids.sort_unstable();
        pids
    }

    /// The engine's process id.
    pub(crate) fn engine_pid(&self) -> u32 {
        // An engine that begins empties the file before it writes.
        until("an engine says who it is", || {
            let text = std::fs::read_to_string(self.path(".ms/engine.pid")).unwrap_or_default();
            let pid = text.trim().parse().ok();
            (pid.is_some(), pid)
        })
        .unwrap()
    }

    /// What the engine itself printed, for messages of failed tests.
    pub(crate) fn engine_log(&self) -> String {
        std::fs::read_to_string(self.path(".ms/engine.log")).unwrap_or_default()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.path(".ms").exists() {
            let out = self.ms(&["down", "--volumes"]);
            if !out.status.success() && !std::thread::panicking() {
                panic!("ms down failed: {:?}\n{}", texts(&out), self.engine_log());
            }
        }
    }
}

/// What a program printed, as text.
pub(crate) fn texts(out: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&out.stdout), text(&out.stderr))
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether the tests run as root.
pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One GET on a connection of its own: status and body.
pub(crate) fn get(port: u16, path: &str) -> (u16, String) {
    try_get(port, path).unwrap_or_else(|e| panic!("GET :{port}{path}: {e}"))
}

/// One GET that may fail.
pub(crate) fn try_get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let head = String::from_utf8_lossy(&text);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status in {head:?}")))?;
    Ok((status, String::from_utf8_lossy(&body_of(&text)).into_owned()))
}

/// The JSON that a GET answers with.
pub(crate) fn get_json(port: u16, path: &str) -> Value {
    let (status, body) = get(port, path);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{body}: {e}"))
}

/// The body of a whole response, chunks joined.
fn body_of(response: &[u8]) -> Vec<u8> {
    let Some(at) = response.windows(4).position(|w| w == b"\r\n\r\n") else { return Vec::new() };
    let head = String::from_utf8_lossy(&response[..at]).to_ascii_lowercase();
    let mut rest = &response[at + 4..];
    if !head.contains("transfer-encoding: chunked") {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

/// Tries until it is true, or fails the test with what was last seen.
pub(crate) fn until<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> (bool, T)) -> T {
    let tries = PATIENCE.as_millis() / 50;
    let mut last = None;
    for _ in 0..tries {
        let (done, seen) = look();
        if done {
            return seen;
        }
        last = Some(seen);
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain until {what}; last seen: {last:?}");
}

/// Kills a process without a chance to clean up.
pub(crate) fn kill_9(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Whether a process is there and not a zombie.
pub(crate) fn alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|s| !s.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
