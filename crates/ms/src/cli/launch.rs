//! Starting the engine of a state folder, detached, when none answers.
//!
//! Invariant: on success something listens on the socket of the state folder.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base::Problem;

use super::api::Client;
use super::args::Shared;
use super::interrupt::Interrupt;
use super::stop::{FAILED, Outcome, Stop, TIMED_OUT, USAGE};

/// The engine's own log, in the state folder.
const LOG: &str = "engine.log";
/// A longer log is moved aside when an engine starts.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// With less room on its disk no engine is started, in bytes.
const ROOM_BYTES_MIN: u64 = 1 << 20;
/// How much of the log an error quotes.
const TAIL_LINES: usize = 12;

/// How often, and how long apart, an engine that shall not start after all is told so.
const ENDING_TRIES: u32 = 200;
const ENDING_PAUSE: Duration = Duration::from_millis(50);

/// Where the console listens unless told otherwise.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7700);

/// Where the console shall listen: an address and port, a port alone on 127.0.0.1, or `off`.
pub(crate) fn console(shared: &Shared) -> Outcome<Option<SocketAddr>> {
    let Some(text) = &shared.console else { return Ok(Some(CONSOLE)) };
    if text == "off" {
        return Ok(None);
    }
    let port = text.parse().map(|port| SocketAddr::new(CONSOLE.ip(), port)).ok();
    port.or_else(|| text.parse().ok()).map(Some).ok_or_else(|| {
        let problem = Problem::new("bad-usage", format!("the console cannot listen on `{text}`"))
            .with_cause("it is not an address and a port")
            .with_next("write it as in --console 127.0.0.1:7700, or --console off");
        Stop::usage(problem)
    })
}

/// Makes sure that an engine answers. Tells whether it was started now. An engine that was started
/// is ended again when the person does not want to wait for it.
pub(crate) async fn ensure(
    state: &Path,
    shared: &Shared,
    timeout: Duration,
    interrupt: &mut Interrupt,
) -> Outcome<bool> {
    let client = Client::new(state);
    if client.answers().await {
        return Ok(false);
    }
    // Said now and not in the engine's log.
    console(shared)?;
    let (log, from) = open_log(state).and_then(has_room(state)).map_err(|e| {
        let next = match e.kind() {
            std::io::ErrorKind::StorageFull => "make room on its disk, then the same command again",
            _ => "give a folder that you may write to with --state",
        };
        Stop::usage(
            Problem::new("state-folder", format!("cannot use `{}`", state.display()))
                .with_cause(e.to_string())
                .with_next(next),
        )
    })?;
    let start = |scoped: bool| {
        spawn(state, shared, log.try_clone()?, scoped).map_err(|e| {
            let next = "check that the file of this program is still there and may be run";
            std::io::Error::other(format!("{e}; {next}"))
        })
    };
    let mut child = None;
    let wait = until_it_answers(state, &client, from, start, &mut child);
    let waited = tokio::select! {
        waited = tokio::time::timeout(timeout, wait) => Some(waited),
        () = interrupt.next() => None,
    };
    let Some(waited) = waited else {
        if let Some(child) = child {
            end(child).await;
        }
        return Err(Stop::Interrupted);
    };
    match waited {
        Ok(Ok(None)) => Ok(true),
        Ok(Ok(Some(ended))) => Err(not_started(state, from, ended)),
        Ok(Err(e)) => {
            let problem = Problem::new("engine-start", "cannot start the engine")
                .with_cause(e.to_string())
                .with_next("see that this program's file is there and processes may be started");
            Err(Stop::new(FAILED, problem))
        }
        Err(_) => {
            let problem = Problem::new("timed-out", "the engine was started and does not answer")
                .with_cause(tail(state, from))
                .with_next(format!("see {}", state.join(LOG).display()));
            Err(Stop::new(TIMED_OUT, problem))
        }
    }
}

/// Starts an engine, whose log begins at `from`, and waits for the socket; `Some` when it ended
/// instead.
///
/// Another engine may hold the folder for a moment: one that its supervisor just brought back,
/// which will answer soon, or one that is ending, after which ours is started again.
async fn until_it_answers(
    state: &Path,
    client: &Client,
    from: u64,
    start: impl Fn(bool) -> std::io::Result<Child>,
    started: &mut Option<Child>,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    // In a scope of its own first, and once without: a system manager may refuse, or not answer.
    let mut scoped = true;
    let mut child = started.insert(start(scoped)?);
    let mut other_had_it = false;
    let mut pause = Duration::from_millis(1);
    loop {
        if client.answers().await {
            return Ok(None);
        }
        if let Some(ended) = child.try_wait()? {
            if crate::engine::is_locked(state) {
                other_had_it = true;
            } else if client.answers().await {
                return Ok(None);
            } else if std::mem::take(&mut other_had_it) || said_it_runs(ended) {
                child = started.insert(start(scoped)?);
            } else if scoped && super::scope::refused(&tail(state, from)) {
                scoped = false;
                child = started.insert(start(scoped)?);
            } else {
                return Ok(Some(ended));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

/// Ends an engine that is starting: its supervisor forwards the signal.
async fn end(mut child: Child) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) else {
        return;
    };
    for _ in 0..ENDING_TRIES {
        // Said again, since a supervisor that has just begun may not listen yet for its engine.
        _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        tokio::time::sleep(ENDING_PAUSE).await;
    }
    _ = child.kill();
}

/// Whether an engine ended because another one held its folder.
fn said_it_runs(ended: std::process::ExitStatus) -> bool {
    ended.code() == Some(crate::engine::RUNS_ALREADY)
}

fn not_started(state: &Path, from: u64, ended: std::process::ExitStatus) -> Stop {
    let exit = if ended.code() == Some(USAGE) { USAGE } else { FAILED };
    let problem = Problem::new("engine-start", "the engine did not start")
        .with_cause(format!("it ended with {ended} and said:\n{}", tail(state, from)))
        .with_next("put right what it names, then the same command again");
    Stop::new(exit, problem)
}

/// Opens the log for appending; also tells where the new part begins.
fn open_log(state: &Path) -> std::io::Result<(File, u64)> {
    // Private when it is made here; a folder that is there already may be one that others use.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let path = state.join(LOG);
    if std::fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
        std::fs::rename(&path, state.join("engine.log.1"))?;
    }
    let log = File::options().create(true).append(true).open(&path)?;
    let from = log.metadata()?.len();
    Ok((log, from))
}

/// Passes on what it is given, unless the disk is so full that an engine could say nothing.
fn has_room<T>(state: &Path) -> impl FnOnce(T) -> std::io::Result<T> {
    move |opened| {
        let disk = rustix::fs::statvfs(state)?;
        match disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES_MIN {
            true => Err(rustix::io::Errno::NOSPC.into()),
            false => Ok(opened),
        }
    }
}

fn spawn(state: &Path, shared: &Shared, log: File, scoped: bool) -> std::io::Result<Child> {
    let program = std::env::current_exe()?;
    let scope = if scoped { super::scope::command(&program, state) } else { None };
    let mut command = scope.unwrap_or_else(|| Command::new(&program));
    command.arg("supervise").arg("--state").arg(state);
    for (flag, value) in [("--console", &shared.console), ("--addresses", &shared.addresses)] {
        if let Some(value) = value {
            command.arg(format!("{flag}={value}"));
        }
    }
    command.current_dir(state).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// The last lines of the log's new part.
fn tail(state: &Path, from: u64) -> String {
    let path = state.join(LOG);
    let read = || -> std::io::Result<String> {
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(64 << 10))))?;
        let mut bytes = Vec::new();
        file.take(64 << 10).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n") {
        said if said.trim().is_empty() => "nothing".to_owned(),
        said => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_an_address_a_port_or_off() {
        let at = |text: Option<&str>| {
            console(&Shared { console: text.map(str::to_owned), ..Shared::default() })
        };
        assert_eq!(at(None).unwrap(), Some("127.0.0.1:7700".parse().unwrap()));
        assert_eq!(at(Some("off")).unwrap(), None);
        assert_eq!(at(Some("7701")).unwrap(), Some("127.0.0.1:7701".parse().unwrap()));
        assert_eq!(at(Some("[::1]:80")).unwrap(), Some("[::1]:80".parse().unwrap()));
        for bad in ["", "on", "127.0.0.1", "70000", "localhost:80"] {
            assert!(at(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_quotes_only_what_this_engine_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOG), "of yesterday\n").unwrap();
        let (_log, from) = open_log(dir.path()).unwrap();
        assert_eq!(tail(dir.path(), from), "nothing");
        let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
        std::fs::write(dir.path().join(LOG), format!("of yesterday\n{lines}")).unwrap();
        let said = tail(dir.path(), from);
        assert!(said.starts_with("line 8\n") && said.ends_with("line 19"), "{said}");
    }
}
