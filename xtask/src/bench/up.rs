//! `ms up` of the arcade: time until everything is healthy, the engine's own start, what it costs
//! while nothing happens, and what isolation adds to the start of an instance.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{call, cpu_micros, memory_kib, now, println_err, release_binary, spread};
use crate::run;

const IDLE_SECONDS: u64 = 20;

pub(super) fn run(rounds: usize) -> Result<()> {
    let ms = release_binary("ms", None)?;
    release_binary("arcade", None)?;
    let start_cost = release_binary("agent", Some("start_cost"))?;
    let dir = std::env::temp_dir().join(format!("ms-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&ms, &dir, rounds);
    std::fs::remove_dir_all(&dir)?;
    result?;
    println_err(
        "\nan instance, from asking for it to its program's first instruction, by isolation:",
    );
    run::run_in(&run::root(), start_cost.to_str().context("the path is not UTF-8")?, &[])
}

fn measure(ms: &Path, dir: &Path, rounds: usize) -> Result<()> {
    println_err(&format!("{rounds} rounds; medians with their range"));
    let mut starts = Vec::new();
    for round in 0..=rounds {
        let took = engine_start(ms, &dir.join(format!("e{round}")))?;
        if round > 0 {
            starts.push(took);
        }
    }
    let (low, mid, high) = spread(starts);
    println_err(&format!("engine start, no services:   {mid:.1} ms ({low:.1} to {high:.1})"));

    let mut ups = Vec::new();
    for round in 0..=rounds {
        let state = dir.join(format!("u{round}"));
        let began = now();
        let came_up = up(ms, &state);
        let took = began.elapsed().as_secs_f64() * 1000.0;
        if came_up.is_err() {
            // An engine without its app is not left behind.
            arcade(ms, &state, &["down"])?;
        }
        came_up?;
        if round > 0 {
            ups.push(took);
        }
        if round == rounds {
            idle(&state)?;
        }
        arcade(ms, &state, &["down"])?;
    }
    let (low, mid, high) = spread(ups);
    println_err(&format!("ms up -d to all healthy:     {mid:.0} ms ({low:.0} to {high:.0})"));
    Ok(())
}

/// Time from `ms engine` to its first answer, in milliseconds.
fn engine_start(ms: &Path, state: &Path) -> Result<f64> {
    let began = now();
    let child = Command::new(ms)
        .args(["engine", "--console", "off", "--state"])
        .arg(state)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let mut child = super::Killed(child);
    let socket = state.join("engine.sock");
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        ensure!(began.elapsed() < Duration::from_secs(20), "the engine does not answer");
        ensure!(child.0.try_wait()?.is_none(), "the engine ended");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

fn up(ms: &Path, state: &Path) -> Result<()> {
    let file = run::root().join("examples/arcade/compose.yaml");
    let file = file.to_str().context("the path is not UTF-8")?;
    arcade(ms, state, &["up", "-d", file])
}

fn arcade(ms: &Path, state: &Path, args: &[&str]) -> Result<()> {
    call(ms, state, &run::root().join("examples/arcade"), args)
}

fn idle(state: &Path) -> Result<()> {
    let pid = std::fs::read_to_string(state.join("engine.pid"))?;
    let pid: u32 = pid.trim().parse()?;
    std::thread::sleep(Duration::from_secs(3));
    let before = own_cpu(pid);
    std::thread::sleep(Duration::from_secs(IDLE_SECONDS));
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
    let share = (own_cpu(pid) - before) as f64 / (IDLE_SECONDS as f64 * 1e6);
    let (rss, anon) = memory_kib(pid);
    println_err(&format!(
        "engine, arcade idle:         {:.1} MB resident ({:.1} MB of it not file pages), {:.2} % \
         of a core over {IDLE_SECONDS} s",
        f64::from(u32::try_from(rss)?) / 1024.0,
        f64::from(u32::try_from(anon)?) / 1024.0,
        share * 100.0
    ));
    Ok(())
}

/// CPU time of the engine alone: instances are not its children.
fn own_cpu(pid: u32) -> u64 {
    cpu_micros(pid)
}
