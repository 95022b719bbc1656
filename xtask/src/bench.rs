//! `cargo xtask bench`: measures against what a user would otherwise pick, in one run.
//!
//! Not here: gates. A benchmark prints versions, settings and spread; nothing fails by its figures,
//! since machines are shared and noisy.

mod compose;
mod edge;
mod events;
mod up;
mod volumes;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::run;

pub(crate) fn run(what: &str, rest: &[&str]) -> Result<()> {
    let (rounds, parts) = match rest {
        [] => (5, rest),
        [rounds, parts @ ..] => (rounds.parse().context("the number of rounds")?, parts),
    };
    ensure!(parts.is_empty() || what == "events", "one number at most: how many rounds");
    machine();
    match what {
        "up" => up::run(rounds),
        "edge" => edge::run(rounds),
        "events" => events::run(rounds, parts),
        "compose" => compose::run(rounds),
        "volumes" => volumes::run(rounds),
        _ => bail!("no benchmark `{what}`: there are up, edge, events, compose and volumes"),
    }
}

fn machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("\t: unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println_err(&format!(
        "machine: {cores} cores,{}, Linux {}, load before the run {}",
        model.trim_start_matches(['\t', ':']),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    ));
}

fn println_err(text: &str) {
    eprintln!("{text}");
}

/// A child that is killed when it goes out of scope.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already; either way nothing is left behind.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program quietly, pinned to a core.
fn pinned(core: &str, program: &Path, args: &[&str], log: &Path) -> Result<Killed> {
    let log = std::fs::File::create(log)?;
    let child = Command::new("taskset")
        .args(["-c", core])
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(Killed(child))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Runs a command of `ms` in `folder` on an engine of its own.
fn call(ms: &Path, state: &Path, folder: &Path, args: &[&str]) -> Result<()> {
    let out = Command::new(ms)
        .args(args)
        .env("MS_STATE", state)
        .env("MS_CONSOLE", "127.0.0.1:0")
        .current_dir(folder)
        .output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "ms {} failed: {said}", args.join(" "));
    Ok(())
}

/// CPU time of a process and its children's threads so far, in microseconds.
fn cpu_micros(pid: u32) -> u64 {
    let mut total = 0;
    for pid in tree(pid) {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        for task in tasks.flatten() {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanos: u64 = stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            total += nanos / 1000;
        }
    }
    total
}

/// A process and its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", all[at])).into_iter().flatten();
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            all.extend(
                children.unwrap_or_default().split(' ').filter_map(|p| p.parse::<u32>().ok()),
            );
        }
        at += 1;
    }
    all
}

/// Resident memory of one process in KiB: all of it, and the part that no file backs.
fn memory_kib(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    (field("VmRSS:"), field("RssAnon:"))
}

/// Lowest, median and highest of some figures.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values.get((values.len().saturating_sub(1)) * share / 2).copied();
    (at(0).unwrap_or(0.0), at(1).unwrap_or(0.0), at(2).unwrap_or(0.0))
}

fn release_binary(package: &str, example: Option<&str>) -> Result<std::path::PathBuf> {
    let mut args = vec!["build", "--release", "--quiet", "--package", package];
    if let Some(example) = example {
        args.extend(["--example", example]);
    }
    run::cargo(&args)?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| run::root().join("target"), |dir| run::root().join(dir));
    Ok(match example {
        Some(example) => target.join("release/examples").join(example),
        None => target.join("release").join(package),
    })
}
