//! What an isolated instance costs on top of its program: `cargo run --release -p agent --example
//! start_cost [ROUNDS]`. Prints the time from asking until the program was executed, beside a plain
//! spawn of the same program, and what a shim keeps in memory.

use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentConfig, Limits, Mode, ProcessSpec, View, What};
use base::{Clock, SystemClock};

fn main() {
    if agent::shim::requested() {
        agent::shim::main();
    }
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(measure(rounds));
}

async fn measure(rounds: usize) {
    let clock = SystemClock;
    let mut plain = Vec::new();
    for _ in 0..rounds {
        let begun = clock.monotonic();
        let child = std::process::Command::new("/bin/true").spawn();
        plain.push(clock.monotonic().saturating_sub(begun));
        let _ended = child.expect("/bin/true").wait();
    }
    show("plain spawn", plain);
    let (memory_bytes, cpus, pids) = (Some(256 << 20), Some(1.0), Some(100));
    let limits = Limits { memory_bytes, cpus, pids, ..Limits::default() };
    let overlay = View::Overlay { layers: Vec::new() };
    let address = Some([127, 65, 99, 1].into());
    for (name, mode, view, address, limits) in [
        ("plain process", Mode::None, View::Host, None, Limits::default()),
        ("namespaces, host's files", Mode::Full, View::Host, None, Limits::default()),
        ("+ overlay", Mode::Full, overlay.clone(), None, Limits::default()),
        ("+ address by BPF", Mode::Full, overlay.clone(), address, Limits::default()),
        ("+ limits in cgroups", Mode::Full, overlay, address, limits),
    ] {
        let folder = std::env::temp_dir().join(format!("start-cost-{}", std::process::id()));
        let pool = "127.64.0.0/16".parse().expect("a range");
        let mut config = AgentConfig::new(folder.clone(), pool, Arc::new(clock));
        config.mode = Some(mode);
        let (agent, mut events) = Agent::open(config).expect("an agent");
        let mut times = Vec::new();
        for attempt in 0..rounds {
            let argv = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
            let mut spec = ProcessSpec::new("a.1".parse().expect("a name"), argv);
            spec.attempt = u32::try_from(attempt).unwrap_or(0);
            spec.view = view.clone();
            spec.hostname = Some("a".to_owned());
            spec.address = address;
            spec.limits = limits.clone();
            let id = spec.id.clone();
            let begun = clock.monotonic();
            if let Err(e) = agent.start(spec).await {
                eprintln!("{name}: {e}");
                break;
            }
            times.push(clock.monotonic().saturating_sub(begun));
            if attempt + 1 == rounds {
                eprintln!("  shim keeps {}", shim_memory(&folder));
            }
            let _ended = agent.kill(&id).await;
            // Outside the measurement, as the engine does it.
            while !matches!(events.recv().await.map(|event| event.what), Some(What::Exited(_))) {}
            let _removed = agent.remove(&id).await;
        }
        show(name, times);
        let _left = std::fs::remove_dir_all(folder);
    }
}

fn shim_memory(folder: &std::path::Path) -> String {
    let read = || {
        let run = std::fs::read_to_string(folder.join("instances/a.1/run.json")).ok()?;
        let run: serde_json::Value = serde_json::from_str(&run).ok()?;
        let path = format!("/proc/{}/smaps_rollup", run["shim_pid"]);
        let text = std::fs::read_to_string(path).ok()?;
        let lines = text.lines().filter(|l| l.starts_with("Private") || l.starts_with("Pss:"));
        Some(lines.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>())
    };
    read().unwrap_or_default().join(", ")
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return };
    let at = |percent: usize| times[last * percent / 100];
    eprintln!("{name:28} p10 {:?}  median {:?}  p90 {:?}", at(10), at(50), at(90));
}
