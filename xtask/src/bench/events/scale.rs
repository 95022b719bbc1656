//! Many partitions and much data: creating them, what they weigh, coming back after `kill -9`, and
//! reading one that no memory holds.
//!
//! Of our log alone: these are figures to be held to, not ratios to another server; the cold read is
//! one to the disk itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Bench, mib, number, whole};
use crate::bench::{Killed, now, pinned, println_err};

const PARTITIONS: u32 = 10_000;
const COLD_PARTITIONS: u32 = 20;

impl Bench {
    pub(super) fn scale(&mut self, serve: &Path) -> Result<()> {
        let data = self.dir.join("scale");
        let started = self.start(serve, &data)?;
        let (process, at) = (started.process, started.at);
        let idle = mib(process.0.id());
        self.note("scale", "idle without partitions, resident MiB", idle);
        let count = format!("partitions={PARTITIONS}");
        let made = self.load(&["create", &at, "many", &count])?;
        self.note("scale", "creating 10,000 partitions, s", number(&made["seconds"]));
        let each = (mib(process.0.id()) - idle) * 1024.0 / f64::from(PARTITIONS);
        self.note("scale", "an idle partition, KiB", each);
        whole(&self.load(&["produce", &at, "many", &count, "seconds=10"])?)?;
        let cold = format!("partitions={COLD_PARTITIONS}");
        self.load(&["create", &at, "cold", &cold])?;
        let words = ["seconds=20", "batch=1000000", "linger_ms=20"];
        let filled = self.load(&[&["produce", &at, "cold", &cold][..], &words].concat())?;
        whole(&filled)?;
        settle(&data);
        drop(process);
        let files = files(&data)?;
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let all = format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
        println_err(&format!("scale: {all} in {} files", files.len()));
        let again = self.start(serve, &data)?;
        self.note("scale", "ready after kill -9, s", again.seconds);
        drop(again);
        self.note("disk", "reading one file after the other, MiB/s", sequential(&files)?);
        forget(&files)?;
        let again = self.start(serve, &data)?;
        let messages = number(&filled["acked"]) / f64::from(COLD_PARTITIONS);
        let messages = format!("messages={}", messages.floor());
        let read = self.load(&["consume", &again.at, "cold", &cold, "only=3", &messages])?;
        if number(&read["wrong"]) > 0.0 {
            bail!("what was read is wrong: {read}");
        }
        self.note("scale", "reading one partition cold, MiB/s", number(&read["mib_per_second"]));
        drop(again);
        std::fs::remove_dir_all(&data)?;
        Ok(())
    }

    /// A server of ours, and how long it took until it took connections.
    fn start(&self, serve: &Path, data: &Path) -> Result<Started> {
        let at = super::free_address()?;
        let log = self.dir.join("scale.log");
        let began = now();
        let process = pinned("0", serve, &[&at, &data.to_string_lossy()], &log)?;
        for _ in 0..60_000 {
            if std::net::TcpStream::connect(&at).is_ok() {
                return Ok(Started { process, at, seconds: began.elapsed().as_secs_f64() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("it does not listen: {}", std::fs::read_to_string(log).unwrap_or_default())
    }
}

struct Started {
    process: Killed,
    at: String,
    seconds: f64,
}

fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path())?),
            false => found.push((entry.path(), entry.metadata()?.len())),
        }
    }
    Ok(found)
}

/// Until nothing is moved any more, or for two minutes.
fn settle(data: &Path) {
    let (mut before, mut quiet) = (Vec::new(), 0);
    for _ in 0..120 {
        std::thread::sleep(Duration::from_secs(1));
        let now: Vec<_> = files(data).unwrap_or_default();
        quiet = if now == before { quiet + 1 } else { 0 };
        if quiet >= 8 {
            return;
        }
        before = now;
    }
}

/// Takes files out of the system's memory.
fn forget(files: &[(PathBuf, u64)]) -> Result<()> {
    for (file, _) in files {
        let file = format!("if={}", file.display());
        Command::new("dd").args([&file, "iflag=nocache", "count=0", "status=none"]).status()?;
    }
    Ok(())
}

/// What the disk gives, file by file, a MiB at a time.
fn sequential(files: &[(PathBuf, u64)]) -> Result<f64> {
    forget(files)?;
    let (began, mut bytes) = (now(), 0);
    for (file, length) in files.iter().filter(|(_, length)| *length > 1 << 20).take(4) {
        let file = format!("if={}", file.display());
        let words = [&file, "of=/dev/null", "bs=1M", "iflag=nocache", "status=none"];
        Command::new("dd").args(words).status()?;
        bytes += length;
    }
    Ok(bytes as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64())
}
