//! The edge against nginx and HAProxy as proxies of one backend, one core each, in one run.
//!
//! Backend (nginx) and client (wrk) share core 0; the proxy under test has core 1. Rounds are
//! interleaved, so that noise hits all alike; figures are medians with their range.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Killed, cpu_micros, pinned, println_err, release_binary, spread};
use crate::run;

const BACKEND: u16 = 18_080;
const SECONDS: u32 = 3;
const CONNECTIONS: u32 = 64;

struct Proxy {
    name: &'static str,
    port: u16,
    process: Killed,
    requests_per_second: Vec<f64>,
    cpu_seconds_per_million: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
}

pub(super) fn run(rounds: usize) -> Result<()> {
    for program in ["nginx", "haproxy", "wrk"] {
        run::need(program, &[program])?;
    }
    let dir = std::env::temp_dir().join(format!("ms-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, rounds);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path, rounds: usize) -> Result<()> {
    let nginx = PathBuf::from("nginx");
    let body = "x".repeat(138);
    let backend_conf = nginx_conf(
        dir,
        "backend",
        &format!(
            "server {{ listen 127.0.0.1:{BACKEND} backlog=4096 reuseport; location / {{ return 200 \"{body}\"; }} }}"
        ),
    )?;
    let _backend = pinned("0", &nginx, &["-c", &backend_conf], &dir.join("backend.log"))?;
    let mut proxies = start(dir)?;
    for (name, args) in [("nginx", ["-v"]), ("haproxy", ["-v"])] {
        let out = Command::new(name).args(args).output()?;
        let text = [out.stdout, out.stderr].concat();
        println_err(String::from_utf8_lossy(&text).lines().next().unwrap_or_default());
    }
    println_err(&format!(
        "HTTP/1.1, 138 B body, {CONNECTIONS} kept-alive connections, {SECONDS} s x {rounds} \
         interleaved rounds, one core per proxy, no logs"
    ));
    for proxy in &proxies {
        wait_for(proxy.port).with_context(|| format!("{} does not answer", proxy.name))?;
    }
    for round in 0..=rounds {
        for proxy in &mut proxies {
            let before = cpu_micros(proxy.process.0.id());
            let figures = wrk(proxy.port)?;
            let cpu = cpu_micros(proxy.process.0.id()) - before;
            if round == 0 {
                continue; // Warms up caches, pools and the branch predictor.
            }
            proxy.requests_per_second.push(figures.requests / f64::from(SECONDS));
            #[expect(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
            proxy.cpu_seconds_per_million.push(cpu as f64 / figures.requests);
            proxy.p50_ms.push(figures.p50_ms);
            proxy.p99_ms.push(figures.p99_ms);
        }
    }
    report(proxies);
    Ok(())
}

fn report(proxies: Vec<Proxy>) {
    println_err(
        "\nproxy     req/s (range)            CPU-s per 1M (range)   p50 ms  p99 ms  per CPU-s against HAProxy",
    );
    let base = proxies.iter().find(|p| p.name == "haproxy");
    let base = base.map_or(1.0, |p| spread(p.cpu_seconds_per_million.clone()).1);
    for proxy in proxies {
        let (low, mid, high) = spread(proxy.requests_per_second);
        let (cpu_low, cpu, cpu_high) = spread(proxy.cpu_seconds_per_million);
        println_err(&format!(
            "{:<9} {mid:>7.0} ({low:.0} to {high:.0}){:>4} {cpu:>6.1} ({cpu_low:.1} to {cpu_high:.1})      {:>6.2}  {:>6.2}  {:.2}",
            proxy.name,
            "",
            spread(proxy.p50_ms).1,
            spread(proxy.p99_ms).1,
            base / cpu
        ));
    }
}

fn start(dir: &Path) -> Result<Vec<Proxy>> {
    let nginx_proxy = nginx_conf(
        dir,
        "proxy",
        &format!(
        "upstream b {{ server 127.0.0.1:{BACKEND}; keepalive 256; keepalive_requests 1000000; }}
         server {{ listen 127.0.0.1:18081 backlog=4096; location / {{ proxy_pass http://b;
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
            Ok(Proxy {
                name,
                port,
                process,
                requests_per_second: Vec::new(),
                cpu_seconds_per_million: Vec::new(),
                p50_ms: Vec::new(),
                p99_ms: Vec::new(),
            })
        })
        .collect()
}

fn nginx_conf(dir: &Path, name: &str, http: &str) -> Result<String> {
    let path = dir.join(format!("{name}.conf"));
    let at = dir.display();
    std::fs::write(
        &path,
        format!(
            "worker_processes 1; daemon off; pid {at}/{name}.pid; error_log {at}/{name}.err;
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

struct Figures {
    requests: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn wrk(port: u16) -> Result<Figures> {
    let out = Command::new("taskset")
        .args(["-c", "0", "wrk", "-t1", "--latency"])
        .arg(format!("-c{CONNECTIONS}"))
        .arg(format!("-d{SECONDS}s"))
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()?;
    let text = String::from_utf8(out.stdout)?;
    ensure!(out.status.success(), "wrk failed: {text}");
    ensure!(!text.contains("Socket errors"), "wrk saw errors: {text}");
    ensure!(!text.contains("Non-2xx"), "wrk saw failures: {text}");
    let word = |line: &str, at: usize| {
        let line = text.lines().find(|l| l.contains(line)).unwrap_or_default();
        line.split_whitespace().nth(at).unwrap_or_default().to_owned()
    };
    Ok(Figures {
        requests: word("requests in", 0).parse()?,
        p50_ms: millis(&word("50%", 1))?,
        p99_ms: millis(&word("99%", 1))?,
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
