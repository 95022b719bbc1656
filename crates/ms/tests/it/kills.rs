//! `kill -9` of the engine or of a shim at seeded moments of deploys.
//!
//! `MS_KILLS=50` kills so many times, `MS_KILL_SEED=17` begins with another seed. Whatever was
//! killed, the next `ms up` leads to what the file says: no instance too few, none too many, and
//! no process without an instance.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Project, free_port, get_json, root, texts, until};

/// Kills where nobody says how many.
const KILLS: u64 = 5;

fn compose(port: u16, mark: &str, version: u64) -> String {
    format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: web, MARK: '{mark}', VERSION: '{version}'}}
    ports: ['127.0.0.1:{port}:8080']
    restart: always
    deploy:
      replicas: 2
      update_config: {{monitor: 100ms}}
"
    )
}

/// The versions that processes with this mark run, whoever knows of them.
fn versions(mark: &str) -> Vec<String> {
    let mark = format!("MARK={mark}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(environ) = std::fs::read(entry.path().join("environ")) else { continue };
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let program = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = program.split(|byte| *byte == 0).next().unwrap_or_default();
        if environ.split('\0').any(|v| v == mark) && program.ends_with(b"python3") {
            let version = environ.split('\0').find_map(|v| v.strip_prefix("VERSION="));
            found.push(version.unwrap_or_default().to_owned());
        }
    }
    found.sort();
    found
}

/// The shim that holds a program: its parent.
fn shim(pid: u64) -> Option<u32> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.ok()?.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Kills what may be gone already.
fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process id is a small number above zero");
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Chance from a seed (splitmix64).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn a_kill_at_any_moment_of_a_deploy_loses_and_doubles_nothing() {
    if !root() {
        eprintln!("not run: the processes of other namespaces are counted by root");
        return;
    }
    let port = free_port();
    let mut seed = number("MS_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("MS_KILL_SEED={seed}");
    let mark = format!("kills-{port}-{seed}");
    let project = Project::new(&compose(port, &mark, 0));
    project.ok(&["up", "-d"]);
    for version in 1..=number("MS_KILLS").unwrap_or(KILLS) {
        project.write("compose.yaml", &compose(port, &mark, version));
        let pids = project.pids("web");
        let engine = project.engine_pid();
        let mut deploy = project.command(&["up", "-d"]);
        let mut deploy = deploy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(next(&mut seed) % 1200));
        // Two of three times the engine, else what holds an instance from before.
        match next(&mut seed) % 3 {
            0 => pids.iter().take(1).filter_map(|pid| shim(*pid)).for_each(kill),
            _ => kill(engine),
        }
        deploy.wait().unwrap();
        until("the file is in force", || {
            let out = project.ms(&["up", "-d"]);
            (out.status.success(), texts(&out))
        });
        let wanted = vec![version.to_string(); 2];
        until("nothing else runs", || {
            let found = versions(&mark);
            (found == wanted && project.pids("web").len() == 2, found)
        });
        assert_eq!(get_json(port, "/")["version"], version.to_string());
    }
    project.ok(&["down"]);
    assert!(versions(&mark).is_empty(), "something outlived `ms down`");
}
