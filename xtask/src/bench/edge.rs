//! The edge against nginx and HAProxy as proxies of one backend, one core each, in one run.
//!
//! Backend (nginx) and client (wrk) share core 0; the proxy under test has core 1. Rounds are
//! interleaved, so that noise hits all alike, and ratios are taken within a round. The half of the
//! rounds in which others took least of the proxies' core counts; figures are medians with their
//! range.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Killed, cpu_micros, pinned, println_err, release_binary, spread};
use crate::run;

const BACKEND: u16 = 18_080;
const SECONDS: u32 = 2;
const CONNECTIONS: u32 = 64;
/// What ratios are taken against.
const PEER: &str = "haproxy";
/// What is asked for: its path at the backend, and its name.
const BODIES: [(&str, &str); 2] = [("small", "138 B"), ("large", "64 KiB")];

struct Proxy {
    name: &'static str,
    port: u16,
    process: Killed,
}

/// One measurement of one proxy.
#[derive(Clone, Copy)]
struct Figures {
    requests_per_second: f64,
    /// Processor time of the proxy; per request in microseconds, which is per million in seconds.
    cpu_seconds_per_million: f64,
    /// Share of the proxy's core that others took.
    foreign_percent: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) fn run(rounds: usize) -> Result<()> {
    for program in ["nginx", "haproxy", "wrk", "taskset"] {
        run::need(program, &[program])?;
    }
    let dir = std::env::temp_dir().join(format!("ms-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, rounds.max(1));
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path, rounds: usize) -> Result<()> {
    let nginx = PathBuf::from("nginx");
    let body = "x".repeat(138);
    // As a file, since a configuration has no room for it.
    std::fs::write(dir.join("large"), "x".repeat(64 << 10))?;
    let root = dir.display();
    let backend_conf = nginx_conf(
        dir,
        "backend",
        &format!(
            "sendfile on; open_file_cache max=8;
             server {{ listen 127.0.0.1:{BACKEND} backlog=4096;
               location = /small {{ return 200 \"{body}\"; }}
               location = /large {{ root {root}; }} }}"
        ),
    )?;
    let _backend = pinned("0", &nginx, &["-c", &backend_conf], &dir.join("backend.log"))?;
    let mut proxies = start(dir)?;
    for name in ["nginx", "haproxy"] {
        let out = Command::new(name).arg("-v").output()?;
        let text = [out.stdout, out.stderr].concat();
        println_err(String::from_utf8_lossy(&text).lines().next().unwrap_or_default());
    }
    println_err(&format!(
        "HTTP/1.1, {CONNECTIONS} kept-alive connections, no logs, one core per proxy; the \
         {rounds} quietest of {} interleaved rounds of {SECONDS} s: median (lowest to highest)",
        2 * rounds
    ));
    for proxy in &mut proxies {
        wait_for(proxy.port).with_context(|| format!("{} does not answer", proxy.name))?;
        // Somebody else may have answered.
        let ended = proxy.process.0.try_wait()?;
        ensure!(ended.is_none(), "{} ended: is port {} taken?", proxy.name, proxy.port);
    }
    for (path, body) in BODIES {
        let mut all: Vec<Vec<Figures>> = Vec::new();
        for _ in 0..=2 * rounds {
            all.push(proxies.iter().map(|proxy| proxy.measure(path)).collect::<Result<_>>()?);
        }
        // The first has warmed up caches, pools and the branch predictor.
        all.remove(0);
        let noise = |round: &[Figures]| round.iter().map(|f| f.foreign_percent).fold(0.0, f64::max);
        all.sort_by(|one, other| noise(one).total_cmp(&noise(other)));
        all.truncate(rounds);
        report(body, &proxies, &all);
    }
    Ok(())
}

impl Proxy {
    fn measure(&self, path: &str) -> Result<Figures> {
        let pid = self.process.0.id();
        let (cpu_before, core_before) = (cpu_micros(pid), core_micros());
        let seen = wrk(self.port, path)?;
        let cpu = float(cpu_micros(pid).saturating_sub(cpu_before));
        let core = float(core_micros().saturating_sub(core_before));
        Ok(Figures {
            requests_per_second: seen.requests / f64::from(SECONDS),
            cpu_seconds_per_million: cpu / seen.requests,
            foreign_percent: ((core - cpu) / f64::from(SECONDS) / 10_000.0).max(0.0),
            p50_ms: seen.p50_ms,
            p99_ms: seen.p99_ms,
        })
    }
}

/// Prints a table; each round has the figures of the proxies in their order.
fn report(body: &str, proxies: &[Proxy], rounds: &[Vec<Figures>]) {
    println_err(&format!(
        "\n{:<9}{:<28}{:<26}{:<26}{:>8}{:>8}{:>8}",
        body,
        "requests/s",
        "CPU-s per 1M requests",
        format!("requests/CPU-s : {PEER}"),
        "p50 ms",
        "p99 ms",
        "others",
    ));
    let peer = proxies.iter().position(|proxy| proxy.name == PEER).unwrap_or(0);
    for (at, proxy) in proxies.iter().enumerate() {
        let each =
            |of: fn(&Figures) -> f64| spread(rounds.iter().map(|round| of(&round[at])).collect());
        let cost = |round: &[Figures], at: usize| round[at].cpu_seconds_per_million;
        let ratios = rounds.iter().map(|round| cost(round, peer) / cost(round, at));
        let ranged = |(low, mid, high): (f64, f64, f64), digits: usize| {
            format!("{mid:.digits$} ({low:.digits$} to {high:.digits$})")
        };
        println_err(&format!(
            "{:<9}{:<28}{:<26}{:<26}{:>8.2}{:>8.2}{:>7.0}%",
            proxy.name,
            ranged(each(|f| f.requests_per_second), 0),
            ranged(each(|f| f.cpu_seconds_per_million), 1),
            ranged(spread(ratios.collect()), 2),
            each(|f| f.p50_ms).1,
            each(|f| f.p99_ms).1,
            each(|f| f.foreign_percent).1,
        ));
    }
    println_err("others: share of the proxy's core that other processes and interrupts took");
}

/// Microseconds for which core 1 has been busy, in the kernel's grain of a hundredth of a second.
fn core_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu1 ")).unwrap_or_default();
    let fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
    // user nice system idle iowait irq softirq steal; guests are part of user.
    let busy = fields.take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    busy.map(|(_, ticks)| ticks * 10_000).sum()
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
fn float(micros: u64) -> f64 {
    micros as f64
}

fn start(dir: &Path) -> Result<Vec<Proxy>> {
    let nginx_proxy = nginx_conf(
        dir,
        "proxy",
        &format!(
        "upstream b {{ server 127.0.0.1:{BACKEND}; keepalive 256; keepalive_requests 1000000; }}
         server {{ listen 127.0.0.1:18081 backlog=4096; location / {{ proxy_pass http://b;
         proxy_buffers 16 8k; proxy_max_temp_file_size 0;
         proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
    ),
    )?;
    let haproxy_conf = dir.join("haproxy.cfg");
    std::fs::write(
        &haproxy_conf,
        format!(
            "global\n nbthread 1\n maxconn 8000\ndefaults\n mode http\n timeout client 30s\n \
         timeout server 30s\n timeout connect 5s\n http-reuse always\nfrontend f\n \
         bind 127.0.0.1:18082\n default_backend b\nbackend b\n server s 127.0.0.1:{BACKEND}\n"
        ),
    )?;
    let edge = release_binary("edge", Some("edge_bench"))?;
    let haproxy_conf = haproxy_conf.display().to_string();
    let upstream = format!("127.0.0.1:{BACKEND}");
    let each: [(&str, u16, PathBuf, Vec<&str>); 3] = [
        ("edge", 18_083, edge, vec!["127.0.0.1:18083", &upstream]),
        ("nginx", 18_081, "nginx".into(), vec!["-c", &nginx_proxy]),
        ("haproxy", 18_082, "haproxy".into(), vec!["-db", "-f", &haproxy_conf]),
    ];
    each.into_iter()
        .map(|(name, port, program, args)| {
            let process = pinned("1", &program, &args, &dir.join(format!("{name}.log")))?;
            Ok(Proxy { name, port, process })
        })
        .collect()
}

/// One process without a master: what a master leaves behind when it is killed would go on serving.
fn nginx_conf(dir: &Path, name: &str, http: &str) -> Result<String> {
    let path = dir.join(format!("{name}.conf"));
    let at = dir.display();
    std::fs::write(
        &path,
        format!(
            "master_process off; daemon off; pid {at}/{name}.pid; error_log {at}/{name}.err;
         events {{ worker_connections 8000; }}
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {at}/{name}-b;
         proxy_temp_path {at}/{name}-p; fastcgi_temp_path {at}/{name}-f;
         uwsgi_temp_path {at}/{name}-u; scgi_temp_path {at}/{name}-s; {http} }}"
        ),
    )?;
    Ok(path.display().to_string())
}

fn wait_for(port: u16) -> Result<()> {
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::net::TcpStream::connect(("127.0.0.1", port)).map(|_| ()).map_err(Into::into)
}

/// What the client saw.
struct Seen {
    requests: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn wrk(port: u16, path: &str) -> Result<Seen> {
    let out = Command::new("taskset")
        .args(["-c", "0", "wrk", "-t1", "--latency"])
        .arg(format!("-c{CONNECTIONS}"))
        .arg(format!("-d{SECONDS}s"))
        .arg(format!("http://127.0.0.1:{port}/{path}"))
        .output()?;
    let text = String::from_utf8(out.stdout)?;
    ensure!(out.status.success(), "wrk failed: {text}");
    ensure!(!text.contains("Socket errors"), "wrk saw errors: {text}");
    ensure!(!text.contains("Non-2xx"), "wrk saw failures: {text}");
    let line = |has: &str, at: usize| {
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|words| words.get(at) == Some(&has)).unwrap_or_default();
        (line.first().copied().unwrap_or_default(), line.last().copied().unwrap_or_default())
    };
    Ok(Seen {
        requests: line("requests", 1).0.parse()?,
        p50_ms: millis(line("50%", 0).1)?,
        p99_ms: millis(line("99%", 0).1)?,
    })
}

fn millis(text: &str) -> Result<f64> {
    let (number, scale) = match text {
        t if t.ends_with("us") => (t.trim_end_matches("us"), 0.001),
        t if t.ends_with("ms") => (t.trim_end_matches("ms"), 1.0),
        t => (t.trim_end_matches('s'), 1000.0),
    };
    Ok(number.parse::<f64>().with_context(|| format!("wrk printed `{text}`"))? * scale)
}
