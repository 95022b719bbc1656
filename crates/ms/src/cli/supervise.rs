//! The supervisor: runs the engine in a child and brings it back when it dies.
//!
//! Not here: anything that could fail in interesting ways. No runtime, no sockets, no state.
//! Invariants: at most one engine at a time; an engine that ends in order, or that never came
//! up, is not brought back; a signal to end reaches the engine.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::stop::FAILED;

/// First pause before an engine is brought back.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// An engine that ran this long starts with the shortest pause again.
const RAN_WELL: Duration = Duration::from_mins(1);
/// How Rust ends a process that panicked.
const PANICKED: i32 = 101;

/// Process id of the engine, zero while there is none.
static ENGINE: AtomicI32 = AtomicI32::new(0);
/// A signal to end has come.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Runs the engine with these arguments until it ends for good; its exit code.
pub(crate) fn run(state: &Path, arguments: &[OsString], clock: &dyn base::Clock) -> i32 {
    // Fails when we lead a process group already: then somebody else detached us.
    _ = rustix::process::setsid();
    forward_signals();
    let socket = state.join("engine.sock");
    let path = console::socket::SocketPath::new(&socket);
    if path.and_then(|path| UnixStream::connect(path.as_path())).is_err() {
        // Left behind by an engine that was killed; while it lies there, "came up" means nothing.
        _ = std::fs::remove_file(&socket);
    }
    let mut pause = PAUSE_MIN;
    loop {
        let started = clock.monotonic();
        let Ok(child) = start(arguments) else { return FAILED };
        let ended = wait(child);
        match verdict(ended, socket.exists(), ENDING.load(Ordering::SeqCst)) {
            Some(code) => return code,
            None if clock.monotonic() - started >= RAN_WELL => pause = PAUSE_MIN,
            None => {}
        }
        sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
        if ENDING.load(Ordering::SeqCst) {
            return FAILED;
        }
    }
}

/// The exit code to end with, or `None` to bring the engine back.
///
/// An engine takes its socket away when it ends in order, and one that never came up has made
/// none: a code without a socket is the engine's own word, and trying again would not change it.
fn verdict(ended: Option<ExitStatus>, socket: bool, ending: bool) -> Option<i32> {
    let code = ended.and_then(|status| status.code());
    match code {
        _ if ending => Some(code.unwrap_or(FAILED)),
        // Another engine has the folder, and a supervisor of its own.
        Some(crate::engine::RUNS_ALREADY) => code,
        Some(0) => Some(0),
        Some(PANICKED) | None => None,
        Some(_) if socket => None,
        Some(code) => Some(code),
    }
}

fn start(arguments: &[OsString]) -> std::io::Result<Child> {
    let child = Command::new(std::env::current_exe()?).arg("engine").args(arguments).spawn()?;
    ENGINE.store(i32::try_from(child.id()).unwrap_or_default(), Ordering::SeqCst);
    if ENDING.load(Ordering::SeqCst) {
        // The signal came before there was anybody to forward it to.
        end_engine(libc::SIGTERM);
    }
    Ok(child)
}

/// Waits for the engine's end. Its id is forgotten before it is reaped, and so cannot have gone
/// to another process when a signal is forwarded.
fn wait(mut child: Child) -> Option<ExitStatus> {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(
            rustix::process::waitid(WaitId::Pid(pid), peek),
            Err(rustix::io::Errno::INTR)
        ) {}
    }
    ENGINE.store(0, Ordering::SeqCst);
    child.wait().ok().filter(|status| status.code().is_some() || status.signal().is_some())
}

/// Sleeps in slices, so that a signal to end is noticed.
fn sleep(pause: Duration) {
    let slices = pause.as_millis().div_ceil(50);
    for _ in 0..slices {
        if ENDING.load(Ordering::SeqCst) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    ENDING.store(true, Ordering::SeqCst);
    end_engine(signal);
}

#[expect(unsafe_code, reason = "a signal handler may call kill(2) and little else")]
fn end_engine(signal: libc::c_int) {
    let engine = ENGINE.load(Ordering::SeqCst);
    if engine > 0 {
        // SAFETY: kill is async-signal-safe and takes no pointers; a gone process is an error
        // that changes nothing.
        unsafe { libc::kill(engine, signal) };
    }
}

#[expect(unsafe_code, reason = "installing a signal handler without a runtime")]
fn forward_signals() {
    let handler = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler is an `extern "C" fn(c_int)` that only touches atomics and calls
        // kill; both are async-signal-safe. Exec resets it in the engine.
        unsafe { libc::signal(signal, handler) };
    }
    // SAFETY: ignoring a signal runs no code of ours. A closed terminal must not end the engine.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brings_back_what_died_and_nothing_else() {
        let exited = |code: i32| Some(ExitStatus::from_raw(code << 8));
        let killed = Some(ExitStatus::from_raw(9));
        for (ended, socket, ending, expected) in [
            (exited(0), false, false, Some(0)),
            (exited(0), true, false, Some(0)),
            (exited(2), false, false, Some(2)),
            (exited(1), true, false, None),
            (exited(75), true, false, Some(75)),
            (exited(101), false, false, None),
            (killed, true, false, None),
            (killed, false, false, None),
            (killed, true, true, Some(FAILED)),
            (exited(0), true, true, Some(0)),
        ] {
            assert_eq!(verdict(ended, socket, ending), expected, "{ended:?} {socket} {ending}");
        }
    }
}
