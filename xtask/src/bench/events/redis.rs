//! Redis Streams, each entry flushed before it is answered, under its own load: many clients that wait
//! for each message. The one thing that both can be asked for in the same words.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Bench;
use crate::bench::{cpu_micros, now, pinned};
use crate::run;

/// As long as the others have it, as far as one can say before.
const SECONDS: f64 = 8.0;
/// To see how fast it is.
const FIRST: u32 = 5000;

impl Bench {
    /// 64 clients, 100 bytes, one in flight: as `one_by_one` of the others.
    pub(super) fn redis(&mut self) -> Result<()> {
        run::need("redis-server", &["redis-server"])?;
        let at = super::free_address()?;
        let port = at.rsplit(':').next().unwrap_or_default().to_owned();
        let data = self.dir.join("redis");
        std::fs::create_dir_all(&data)?;
        let words =
            ["--port", &port, "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        let folder = data.to_string_lossy().into_owned();
        let words = [&words[..], &["--dir", &folder, "--daemonize", "no"]].concat();
        let log = self.dir.join("redis.log");
        let process = pinned("0", Path::new("redis-server"), &words, &log)?;
        for _ in 0..600 {
            if std::net::TcpStream::connect(&at).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let began = now();
        xadd(&port, FIRST)?;
        let per_second = f64::from(FIRST) / began.elapsed().as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few million"
        )]
        let count = (per_second * SECONDS) as u32;
        let cpu = cpu_micros(process.0.id());
        let [rate, p50, p99] = xadd(&port, count)?;
        let cpu = super::seconds(cpu_micros(process.0.id()) - cpu);
        self.note("redis", "64 producers one by one, messages/s", rate);
        self.note("redis", "64 producers one by one, p50 ms", p50);
        self.note("redis", "64 producers one by one, p99 ms", p99);
        self.note(
            "redis",
            "64 producers one by one, CPU s per million",
            cpu / f64::from(count) * 1e6,
        );
        drop(process);
        Ok(std::fs::remove_dir_all(&data)?)
    }
}

/// Adds so many entries; how many a second, and how late half and all but one of a hundred were.
fn xadd(port: &str, count: u32) -> Result<[f64; 3]> {
    let value = "x".repeat(100);
    let count = count.to_string();
    let words = ["-p", port, "-c", "64", "-n", &count, "--csv", "XADD", "load", "*", "v", &value];
    let out = Command::new("taskset").args(["-c", "1", "redis-benchmark"]).args(words).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let row = text.lines().last().unwrap_or_default();
    // test, rps, average, lowest, p50, p95, p99, highest; the test has commas of its own.
    let cells: Vec<f64> =
        row.rsplit("\",\"").filter_map(|cell| cell.trim_matches('"').parse().ok()).collect();
    match cells[..] {
        [_, p99, _, p50, _, _, rate, ..] => Ok([rate, p50, p99]),
        _ => bail!("redis-benchmark said {text}"),
    }
}
