//! `cargo xtask bench compose`: what Compose files of some size cost.
//!
//! Reading and checking a file of 5,000 lines is measured in `crates/spec/examples/check_cost.rs`,
//! in one process, without the program's own start. The rest runs the built `ms`: 20 small services
//! and 500, each of one instance that sleeps, and a service beside one that fills its log.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{call, memory_kib, now, println_err, release_binary, spread};

const SMALL: usize = 20;
const LARGE: usize = 500;
const IDLE_SECONDS: u64 = 20;
const LOOKS: usize = 50;

pub(super) fn run(rounds: usize) -> Result<()> {
    let example = release_binary("spec", Some("check_cost"))?;
    println_err("\nreading and checking a Compose file of 5,000 lines (asked: under 50 ms)");
    let status = std::process::Command::new(example).arg((rounds * 10).to_string()).status()?;
    if !status.success() {
        bail!("the measurement ended with {status}");
    }
    let ms = release_binary("ms", None)?;
    let dir = std::env::temp_dir().join(format!("ms-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = small(&ms, &dir.join("small"), rounds)
        .and_then(|()| large(&ms, &dir.join("large")))
        .and_then(|()| loud(&ms, &dir.join("loud"), rounds));
    std::fs::remove_dir_all(&dir)?;
    measured
}

/// A folder with a Compose file, and the engine that runs it.
struct App<'a> {
    ms: &'a Path,
    folder: PathBuf,
}

impl App<'_> {
    fn new<'a>(ms: &'a Path, folder: &Path, compose: &str) -> Result<App<'a>> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("compose.yaml"), compose)?;
        Ok(App { ms, folder: folder.to_owned() })
    }

    fn state(&self) -> PathBuf {
        self.folder.join(".ms")
    }

    /// Runs a command; how long it took, in milliseconds.
    fn ms(&self, args: &[&str]) -> Result<f64> {
        let began = now();
        call(self.ms, &self.state(), &self.folder, args)?;
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }

    fn engine(&self) -> Result<u32> {
        Ok(std::fs::read_to_string(self.state().join("engine.pid"))?.trim().parse()?)
    }

    /// How long the API takes to answer, in milliseconds, and the answer's bytes.
    fn ask(&self, path: &str) -> Result<(f64, usize)> {
        let began = now();
        let mut stream = UnixStream::connect(self.state().join("engine.sock"))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path} is refused");
        Ok((began.elapsed().as_secs_f64() * 1000.0, answer.len()))
    }
}

impl Drop for App<'_> {
    fn drop(&mut self) {
        // Also after a measurement that failed; when all went well nothing runs any more.
        let _ = self.ms(&["down"]);
    }
}

fn sleepers(count: usize) -> String {
    let mut text = String::from("services:\n");
    for i in 0..count {
        let _ = write!(
            text,
            "  s{i}:\n    image: example/s\n    x-mainspring: {{native: true}}\n    \
             command: sleep 100000\n"
        );
    }
    text
}

fn ranged(values: Vec<f64>, digits: usize) -> String {
    let (low, mid, high) = spread(values);
    format!("{mid:.digits$} ms ({low:.digits$} to {high:.digits$})")
}

fn small(ms: &Path, folder: &Path, rounds: usize) -> Result<()> {
    println_err(&format!(
        "\n{SMALL} services of one sleeping instance each, engine included; {rounds} rounds, \
         medians with their range (one without port or check is healthy after 500 ms)"
    ));
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let app = App::new(ms, folder, &sleepers(SMALL))?;
        ups.push(app.ms(&["up", "-d"])?);
        downs.push(app.ms(&["down"])?);
    }
    println_err(&format!("ms up -d    {}", ranged(ups, 0)));
    println_err(&format!("ms down     {}", ranged(downs, 0)));
    Ok(())
}

fn large(ms: &Path, folder: &Path) -> Result<()> {
    println_err(&format!("\n{LARGE} services of one sleeping instance each, once"));
    let app = App::new(ms, folder, &sleepers(LARGE))?;
    let took = app.ms(&["up", "-d", "--timeout", "10m"])? / 1000.0;
    let pid = app.engine()?;
    let cpu = cpu_seconds(pid)?;
    println_err(&format!(
        "ms up -d                 {took:.1} s, of which {cpu:.1} s CPU of the engine (asked: 30 s)"
    ));
    std::thread::sleep(Duration::from_secs(3));
    let looks: Vec<_> = (0..LOOKS).map(|_| app.ask("/api/overview")).collect::<Result<_>>()?;
    let bytes = looks.first().map_or(0, |(_, bytes)| *bytes) / 1024;
    let looks = looks.into_iter().map(|(took, _)| took).collect();
    println_err(&format!(
        "GET /api/overview        {}, {bytes} KiB, {LOOKS} times (asked: 100 ms)",
        ranged(looks, 1)
    ));
    let before = cpu_seconds(pid)?;
    std::thread::sleep(Duration::from_secs(IDLE_SECONDS));
    let idle = (cpu_seconds(pid)? - before) * 100.0 / f64::from(u32::try_from(IDLE_SECONDS)?);
    let (resident, anonymous) = memory_kib(pid);
    println_err(&format!(
        "the engine, idle         {idle:.2} % of a core over {IDLE_SECONDS} s (asked: 2 %)"
    ));
    println_err(&format!(
        "its memory               {} KiB a service: {resident} KiB resident, {anonymous} KiB of it \
         not file pages (asked: 200 KB)",
        resident / LARGE as u64
    ));
    let took = app.ms(&["down", "--timeout", "10m"])? / 1000.0;
    println_err(&format!("ms down                  {took:.1} s"));
    Ok(())
}

/// Prints lines of 100 bytes, so many MB in a second; the highest that goes without a number.
const LOUD: &str = "import os, sys, time
rate = float(sys.argv[1]) * 1e6 if len(sys.argv) > 1 else 0
text = (b'x' * 99 + b'\\n') * 10000
begun, said = time.monotonic(), 0
while True:
    left = memoryview(text)
    while left:
        left = left[os.write(1, left):]
    said += len(text)
    if rate:
        time.sleep(max(0, begun + said / rate - time.monotonic()))
";

const ANSWERS: &str = "import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = 65536
    def do_GET(self):
        self.send_response(200)
        self.send_header('content-length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(('0.0.0.0', 8080), Handler).serve_forever()
";

/// Requests to a service while another one fills its log.
fn loud(ms: &Path, folder: &Path, rounds: usize) -> Result<()> {
    println_err(&format!(
        "\nrequests to one service, one after the other with 2 ms between, while another prints; \
         {rounds} rounds of 3 s each in turn: median latency and its range over the rounds"
    ));
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let app = App::new(
        ms,
        folder,
        &format!(
            "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 answers.py
    ports: ['127.0.0.1:{port}:8080']
  steady: &loud
    image: example/loud
    x-mainspring: {{native: true}}
    command: python3 loud.py 100
  most:
    <<: *loud
    command: python3 loud.py
"
        ),
    )?;
    std::fs::write(folder.join("loud.py"), LOUD)?;
    std::fs::write(folder.join("answers.py"), ANSWERS)?;
    app.ms(&["up", "-d"])?;
    app.ms(&["stop", "steady", "most"])?;
    let mut all = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (at, service) in [None, Some("steady"), Some("most")].into_iter().enumerate() {
            if let Some(service) = service {
                app.ms(&["start", service])?;
            }
            all[at].push(latency(port)?);
            if let Some(service) = service {
                app.ms(&["stop", service])?;
            }
        }
    }
    for (what, values) in ["nothing", "100 MB/s", "all it can"].into_iter().zip(all) {
        println_err(&format!("{what:<12}{}", ranged(values, 3)));
    }
    let logs = app.state().join("logs");
    for service in ["steady.1", "most.1"] {
        let files = std::fs::read_dir(logs.join(service))?.flatten();
        let bytes: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        println_err(&format!("the log of {service} takes {} MiB", bytes >> 20));
    }
    Ok(())
}

/// The median latency of requests over one connection for 3 s, in milliseconds.
fn latency(port: u16) -> Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let (begun, mut times) = (now(), Vec::new());
    let mut answer = [0; 1024];
    while begun.elapsed() < Duration::from_secs(3) {
        let asked = now();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n")?;
        let mut read = 0;
        while !answer[..read].ends_with(b"\r\n\r\nok") {
            let more = stream.read(&mut answer[read..])?;
            ensure!(more > 0, "the connection ended");
            read += more;
        }
        times.push(asked.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(spread(times).1)
}

/// CPU time of a process, with that of threads that have ended, in the kernel's grain of a hundredth.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u32> = fields.skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    Ok(ticks.iter().copied().map(f64::from).sum::<f64>() / 100.0)
}
