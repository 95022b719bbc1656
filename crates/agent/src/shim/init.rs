//! The shim proper: PID 1 of the instance. One thread, one poll loop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use base::{Clock, SystemClock};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::control::{ATTACHED_MAX, CONNECTIONS_MAX, Connection, Exec};
use super::output::{Lines, Log, Stream};
use super::program::{Running, Surroundings};
use super::{Handles, failed, tell, view, write_whole};
use crate::exit::Exit;
use crate::isolation::Mode;
use crate::sys::{self, Reaped};
use crate::wire::{Birth, Failure, Reply, Request, ShimSpec, Step};

/// How much output of a program that ended is still read, in bytes per stream: more than a pipe
/// holds.
const DRAIN_BYTES_MAX: usize = 2 << 20;

/// How many programs that were left running are named.
const LEFT_MAX: usize = 3;

/// Sets up, starts the program, and stays until it ends.
pub(super) fn main(spec: ShimSpec, handles: Handles, birth: &OwnedFd, midwife: OwnedFd) -> ! {
    let mut warnings = Vec::new();
    let born = prepare(&spec, midwife, &mut warnings);
    let (surroundings, running, signals) = match born {
        Ok(born) => born,
        Err(why) => {
            tell(birth.as_fd(), &Birth::Failed(why));
            end_others(spec.mode);
            sys::exit_now(1);
        }
    };
    tell(birth.as_fd(), &Birth::Started { warnings });
    let shut = rustix::net::shutdown(birth, rustix::net::Shutdown::Both);
    let _already = shut;
    let mode = spec.mode;
    let log = Log::open(handles.logs, spec.log_limits);
    drop(spec);
    let clock = SystemClock;
    let mut init = Init {
        mode,
        surroundings,
        program: running.pid,
        streams: [
            Some((running.stdout, Lines::new(Stream::Stdout))),
            Some((running.stderr, Lines::new(Stream::Stderr))),
        ],
        log,
        signals,
        listener: handles.control,
        connections: Vec::new(),
        kept: handles.kept,
        kill_at: None,
        told_to_stop: false,
        clock,
        begun: clock.monotonic(),
    };
    let end = init.stay();
    let went_away = end.code == Some(0) && !init.told_to_stop;
    let left = if went_away { init.others() } else { Vec::new() };
    end_others(mode);
    for stream in 0..2 {
        init.pump(stream, DRAIN_BYTES_MAX);
        init.close_stream(stream);
    }
    let out_of_memory = end.code != Some(0) && handles.oom.as_ref().is_some_and(oom_killed);
    let exit = Exit {
        code: end.code,
        signal: end.signal,
        out_of_memory,
        left,
        last_lines: init.log.last_lines(),
        at: clock.now(),
        ran_for: clock.monotonic().saturating_sub(init.begun),
    };
    let recorded = write_whole(handles.folder.as_fd(), "exit.json", &exit);
    sys::exit_now(i32::from(recorded.is_err()))
}

fn prepare(
    spec: &ShimSpec,
    midwife: OwnedFd,
    warnings: &mut Vec<String>,
) -> Result<(Surroundings, Running, OwnedFd), Failure> {
    if spec.mode == Mode::None {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|e| super::failure(Step::Setup, "subreaper", e.into()))?;
    }
    if spec.process.offline && spec.mode != Mode::None {
        sys::loopback_up().map_err(failed(Step::Setup, "its loopback"))?;
    }
    view::enter(spec, warnings)?;
    let filters = spec.filters.clone();
    let surroundings = Surroundings::new(spec, filters, warnings)?;
    if spec.mode != Mode::None && !spec.process.rights.privileged {
        // What the program could do to this process it could do to the state folder.
        sys::refuse_tracing();
        // Not for one program but for all of an instance, which are then among themselves.
        let _kernel_is_older = sys::scope_abstract_sockets();
    }
    for warning in warnings.iter() {
        let cut = &warning.as_bytes()[..warning.len().min(2048)];
        let _gone = rustix::io::write(&midwife, cut);
    }
    let signals = sys::signalfd().map_err(failed(Step::Setup, "signalfd"))?;
    let ready = || {
        // The kernel adds who sends this, which is how the midwife learns the program's pid.
        let mut go = [0u8; 1];
        rustix::io::write(&midwife, b"r").is_ok() && rustix::io::read(&midwife, &mut go) == Ok(1)
    };
    let running = surroundings.start(&spec.process.argv, false, ready)?;
    Ok((surroundings, running, signals))
}

struct Init {
    mode: Mode,
    surroundings: Surroundings,
    program: i32,
    streams: [Option<(OwnedFd, Lines)>; 2],
    log: Log,
    signals: OwnedFd,
    listener: OwnedFd,
    connections: Vec<Connection>,
    kept: Vec<OwnedFd>,
    /// When the grace period of a stop is over.
    kill_at: Option<Duration>,
    told_to_stop: bool,
    clock: SystemClock,
    begun: Duration,
}

impl Init {
    /// Until the program ends.
    fn stay(&mut self) -> Reaped {
        loop {
            let wait = self.deadlines();
            let ready = self.poll(wait);
            if ready.signals
                && let Some(end) = self.signalled()
            {
                return end;
            }
            for (stream, is_ready) in ready.streams.into_iter().enumerate() {
                if is_ready && !self.pump(stream, 256 << 10) {
                    self.close_stream(stream);
                }
            }
            for (at, is_ready) in ready.connections.into_iter().enumerate() {
                if is_ready {
                    self.converse(at);
                }
            }
            if ready.listener && self.connections.len() < CONNECTIONS_MAX {
                let accepted = Connection::accept(&self.listener, self.clock.monotonic());
                self.connections.extend(accepted);
            }
            self.connections.retain(|connection| !connection.is_over());
        }
    }

    /// Acts on what is due; says how long to wait at most.
    fn deadlines(&mut self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let mut wait = Duration::MAX;
        if let Some(at) = self.kill_at {
            if now >= at {
                self.kill_at = None;
                kill_others(self.mode);
            } else {
                wait = at - now;
            }
        }
        for connection in &mut self.connections {
            wait = wait.min(connection.check(now));
        }
        (wait < Duration::MAX).then_some(wait)
    }

    fn poll(&self, wait: Option<Duration>) -> Ready {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        // With no room for another connection the listener is not looked at.
        let room = self.connections.len() < CONNECTIONS_MAX;
        let listen = if room { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::new(&self.listener, listen));
        for (fd, _) in self.streams.iter().flatten() {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        for connection in &self.connections {
            let write = connection.wants_to_write();
            let flags = if write { PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::from_borrowed_fd(connection.fd(), flags));
            if let Some(exec) = &connection.exec
                && !exec.silent
            {
                fds.push(PollFd::new(&exec.running.stdout, PollFlags::IN));
            }
        }
        // Rounded up, so that a deadline is over when the wait is.
        let wait = wait.map(|w| w.saturating_add(Duration::from_micros(50)));
        let wait = wait.and_then(|w| Timespec::try_from(w).ok());
        if rustix::event::poll(&mut fds, wait.as_ref()).is_err() {
            return Ready::default();
        }
        let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || events.next().unwrap_or(false);
        Ready {
            signals: next(),
            listener: next(),
            streams: [self.streams[0].is_some() && next(), self.streams[1].is_some() && next()],
            connections: (self.connections.iter())
                .map(|connection| {
                    let own = next();
                    let speaks = connection.exec.as_ref().is_some_and(|exec| !exec.silent);
                    own | (speaks && next())
                })
                .collect(),
        }
    }

    /// Passes signals on and reaps; gives the program's end when it is among them.
    fn signalled(&mut self) -> Option<Reaped> {
        while let Some(signal) = sys::next_signal(self.signals.as_fd()) {
            if signal != libc::SIGCHLD {
                sys::kill(self.program, signal);
            }
        }
        let mut end = None;
        while let Ok(Some(reaped)) = sys::reap(false) {
            if reaped.pid == self.program {
                end = Some(reaped);
            }
            if let Some(connection) = self.connections.iter_mut().find(|c| c.runs(reaped.pid)) {
                connection.ended(reaped);
            }
        }
        end
    }

    /// The names of programs that run beside this process and are nobody's command, a few at most.
    fn others(&self) -> Vec<String> {
        let all = crate::procfs::all();
        let own = rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
        let mut others = match self.mode {
            Mode::Full | Mode::User => all.keys().copied().collect(),
            Mode::None => crate::procfs::tree(&all, own),
        };
        for command in self.connections.iter().filter_map(Connection::runs_now) {
            for pid in crate::procfs::tree(&all, command.cast_unsigned()) {
                others.remove(&pid);
            }
        }
        let lives = |pid: &&u32| **pid != own && all.get(pid).is_some_and(|s| s.state != b'Z');
        let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let names = others.iter().filter(lives).filter_map(name);
        let mut names: Vec<_> = names.map(|name| name.trim_end().to_owned()).collect();
        names.sort();
        names.dedup();
        names.truncate(LEFT_MAX);
        names
    }

    /// Reads what is there, `most` bytes at most; false when the stream is over.
    fn pump(&mut self, stream: usize, most: usize) -> bool {
        let mut buffer = [0u8; 32 << 10];
        let mut read = 0;
        while read < most {
            let Some((fd, lines)) = &mut self.streams[stream] else { return false };
            match rustix::io::read(&*fd, &mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    self.log.take(lines, Some(&buffer[..length]), self.clock.now());
                    read += length;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn close_stream(&mut self, stream: usize) {
        if let Some((_, mut lines)) = self.streams[stream].take() {
            self.log.take(&mut lines, None, self.clock.now());
        }
    }

    fn converse(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        connection.write();
        if let Some(exec) = &mut connection.exec {
            exec.read();
        }
        match connection.read() {
            None => {}
            Some(Request::Signal(signal)) => {
                sys::kill(self.program, signal);
                connection.reply(&Reply::Done);
            }
            Some(Request::Stop { signal, grace }) => {
                let at = self.clock.monotonic().saturating_add(grace);
                // A second stop may shorten the grace, never lengthen it.
                self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
                self.told_to_stop = true;
                sys::kill(self.program, signal);
                connection.reply(&Reply::Done);
            }
            Some(Request::Exec { argv, timeout, output_bytes_max }) => {
                match self.surroundings.start(&argv, true, || true) {
                    Ok(running) => {
                        let deadline = self.clock.monotonic().saturating_add(timeout);
                        connection.exec = Some(Exec::new(running, deadline, output_bytes_max));
                    }
                    Err(why) => connection.reply(&Reply::Refused(why.to_string())),
                }
            }
            Some(Request::Kept) => connection.hand_over(&self.kept),
            Some(Request::Attach(command)) => {
                let attached = self.connections.iter().filter(|c| c.attached.is_some()).count();
                let connection = &mut self.connections[at];
                if attached >= ATTACHED_MAX {
                    let why = format!("{ATTACHED_MAX} commands run in it already");
                    connection.reply(&Reply::Refused(why));
                } else {
                    connection.attach(&self.surroundings, &command);
                }
            }
        }
    }
}

#[derive(Default)]
struct Ready {
    signals: bool,
    listener: bool,
    streams: [bool; 2],
    connections: Vec<bool>,
}

/// Kills everything in the instance but the shim.
fn kill_others(mode: Mode) {
    match mode {
        // In a PID namespace -1 is everything but its PID 1.
        Mode::Full | Mode::User => sys::kill(-1, libc::SIGKILL),
        Mode::None => {
            let own = rustix::process::getpid().as_raw_nonzero().get().cast_unsigned();
            let all = crate::procfs::all();
            for pid in crate::procfs::tree(&all, own) {
                if pid != own {
                    sys::kill(pid.cast_signed(), libc::SIGKILL);
                }
            }
        }
    }
}

/// Kills and reaps everything in the instance but the shim. Whatever a killed process leaves
/// behind becomes a child of the shim, so this ends when there is no child.
fn end_others(mode: Mode) {
    loop {
        kill_others(mode);
        match sys::reap(true) {
            Ok(_) => while matches!(sys::reap(false), Ok(Some(_))) {},
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn oom_killed(file: &OwnedFd) -> bool {
    let mut bytes = [0u8; 1024];
    let length = rustix::io::pread(file, &mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..length]);
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|n| n.trim().parse::<u64>().ok()).is_some_and(|n| n > 0)
}
