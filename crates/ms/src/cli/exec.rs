//! `ms exec`: a command inside an instance, on this terminal or these streams.
//!
//! Not here: running it, which the instance's shim does. The engine is asked only which instances
//! run. Invariant: the terminal is as it was when this ends, however it ends.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent::{Attached, Ended, OpError};
use base::{InstanceId, Problem};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::api::Client;
use super::args::Exec;
use super::interrupt::Interrupt;
use super::stop::{FAILED, Outcome, Stop};

/// Exit code of a command that a signal ended, less the signal, as shells have it.
const SIGNALLED: i32 = 128;

/// Runs the command; its exit code.
pub(crate) async fn run(exec: &Exec, client: &Client) -> Outcome {
    let id = instance(exec, client).await?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let is_terminal = |fd: BorrowedFd<'_>| rustix::termios::isatty(fd);
    let terminal = !exec.no_tty && is_terminal(stdin.as_fd()) && is_terminal(stdout.as_fd());
    let mut env: Vec<(String, String)> = exec.env.clone();
    if terminal && let Ok(kind) = std::env::var("TERM") {
        env.insert(0, ("TERM".to_owned(), kind));
    }
    let command = agent::Command {
        argv: exec.command.clone(),
        env,
        working_dir: exec.workdir.clone(),
        user: exec.user.clone(),
        terminal,
        privileged: false,
    };
    let mut interrupt = Interrupt::listen()?;
    if !terminal {
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let mut attached =
            agent::attach(client.state(), &id, command, streams).await.map_err(stop)?;
        return tokio::select! {
            ended = attached.ended() => Ok(exit_code(ended.map_err(stop)?)),
            () = interrupt.next() => Err(Stop::Interrupted),
        };
    }
    let (ours, theirs) = open_pty().map_err(|e| no_terminal(&e))?;
    copy_size(ours.as_fd());
    let streams = [theirs.as_fd(), theirs.as_fd(), theirs.as_fd()];
    let attached = agent::attach(client.state(), &id, command, streams).await.map_err(stop)?;
    drop(theirs);
    on_terminal(attached, ours, &mut interrupt).await
}

/// Passes what is typed and shown through until the command ends.
async fn on_terminal(mut attached: Attached, ours: OwnedFd, interrupt: &mut Interrupt) -> Outcome {
    let _raw = Raw::enter();
    let mut resized = signal(SignalKind::window_change())?;
    let relayed = ours.try_clone()?;
    let mut relay = JoinSet::new();
    // It ends when nobody inside holds the terminal any more.
    relay.spawn_blocking(move || relay_all(relayed.as_fd()));
    let ended = loop {
        tokio::select! {
            ended = attached.ended() => break ended.map_err(stop)?,
            _ = resized.recv() => copy_size(ours.as_fd()),
            () = interrupt.next() => return Err(Stop::Interrupted),
        }
    };
    drop(ours);
    // What was written last is still shown, unless something left behind goes on writing.
    let last = std::time::Duration::from_millis(200);
    _ = tokio::time::timeout(last, relay.join_next()).await;
    Ok(exit_code(ended))
}

/// The named instance, or the first of the service that runs.
async fn instance(exec: &Exec, client: &Client) -> Outcome<InstanceId> {
    let overview = client.overview().await?;
    let named = std::slice::from_ref(&exec.service);
    super::names::instances(client, named).await?;
    let of_it =
        |id: &InstanceId| id.to_string() == exec.service || id.service().as_str() == exec.service;
    let all = overview.services.iter().flat_map(|service| &service.instances);
    let running = |state: &str| matches!(state, "healthy" | "unhealthy" | "starting" | "draining");
    let mut found = all.filter(|i| of_it(&i.id) && i.pid.is_some() && running(&i.state));
    found.next().map(|instance| instance.id.clone()).ok_or_else(|| {
        let problem = Problem::new("not-running", format!("nothing of `{}` runs", exec.service))
            .with_cause("a command runs inside an instance that runs")
            .with_next("ms ps   |   ms start");
        Stop::new(FAILED, problem)
    })
}

fn exit_code(ended: Ended) -> i32 {
    ended.code.unwrap_or_else(|| SIGNALLED + ended.signal.unwrap_or_default())
}

fn stop(error: OpError) -> Stop {
    let (code, next) = match &error {
        OpError::Unknown(_) | OpError::NotRunning(_) => ("not-running", "ms ps"),
        OpError::Refused { .. } => ("exec-refused", "check the command, its folder and its user"),
        _ => ("internal", "see engine.log in the state folder"),
    };
    Stop::new(FAILED, Problem::new(code, error.to_string()).with_next(next))
}

fn no_terminal(error: &std::io::Error) -> Stop {
    let problem = Problem::new("internal", "cannot open a terminal")
        .with_cause(error.to_string())
        .with_next("run it with --no-tty");
    Stop::new(FAILED, problem)
}

/// Our end of a new terminal, and the command's.
fn open_pty() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    Ok((ours, theirs))
}

/// Makes the command's terminal as large as this one.
fn copy_size(ours: BorrowedFd<'_>) {
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout()) {
        // A command that ends now has no use for it.
        _ = rustix::termios::tcsetwinsize(ours, size);
    }
}

/// Copies both ways until the command's end is closed.
fn relay_all(ours: BorrowedFd<'_>) {
    let (stdin, mut stdout) = (std::io::stdin(), std::io::stdout());
    let mut typing = true;
    let mut bytes = [0u8; 8 << 10];
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(ours, PollFlags::IN)];
        if typing {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            match rustix::io::read(ours, &mut bytes) {
                Ok(length) if length > 0 => {
                    let shown = stdout.write_all(&bytes[..length]).and_then(|()| stdout.flush());
                    if shown.is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
        if ready.get(1) == Some(&true) {
            match rustix::io::read(stdin.as_fd(), &mut bytes) {
                Ok(length) if length > 0 => {
                    let mut rest = &bytes[..length];
                    while !rest.is_empty() {
                        match rustix::io::write(ours, rest) {
                            Ok(written) => rest = &rest[written..],
                            Err(rustix::io::Errno::INTR) => {}
                            Err(_) => return,
                        }
                    }
                }
                _ => typing = false,
            }
        }
    }
}

/// Keys go through as they are, Ctrl-C included, while this lives.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter() -> Raw {
        let stdin = std::io::stdin();
        let before = rustix::termios::tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            // A terminal that went away will show as such when it is read.
            _ = rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &raw);
        }
        Raw { before }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may be gone; there is nothing to put back then.
            _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        }
    }
}
