//! The control socket: one request per connection, one reply.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections (more wait in the kernel), one message of
//! [`wire::MESSAGE_BYTES_MAX`] bytes each, [`IDLE`] to say it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::program::{Running, Streams, Surroundings};
use crate::descriptors;
use crate::sys;
use crate::wire::{self, Command, Ended, ExecOutput, Reply, Request};

pub(super) const CONNECTIONS_MAX: usize = 16;

/// Commands that may run on their callers' streams; the other connections are for health checks.
pub(super) const ATTACHED_MAX: usize = 8;

/// Descriptors that may come with a message: a command's three streams.
const STREAMS: usize = 3;

/// How long a connection may take to say what it wants.
const IDLE: Duration = Duration::from_secs(10);

/// Opens `shim.sock` in the instance folder. The path goes through the descriptor because a
/// socket's path is at most 107 bytes long.
pub(super) fn listen(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let _first = rustix::fs::unlinkat(folder, "shim.sock", rustix::fs::AtFlags::empty());
    rustix::net::bind(&socket, &SocketAddrUnix::new(super::path_of(folder).join("shim.sock"))?)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}

/// A command that runs for somebody.
pub(super) struct Exec {
    pub(super) running: Running,
    deadline: Duration,
    output: Vec<u8>,
    output_bytes_max: usize,
    truncated: bool,
    timed_out: bool,
    /// Whether it closed its output, which is no longer looked at then.
    pub(super) silent: bool,
}

impl Exec {
    pub(super) fn new(running: Running, deadline: Duration, output_bytes_max: usize) -> Exec {
        let output_bytes_max = output_bytes_max.min(wire::EXEC_OUTPUT_BYTES_MAX);
        let output = Vec::new();
        let (truncated, timed_out, silent) = (false, false, false);
        Exec { running, deadline, output, output_bytes_max, truncated, timed_out, silent }
    }

    /// Reads what is there; what is over the bound is read and forgotten.
    pub(super) fn read(&mut self) {
        let mut bytes = [0u8; 4096];
        for _ in 0..64 {
            match rustix::io::read(&self.running.stdout, &mut bytes) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Ok(0) | Err(_) => {
                    self.silent = true;
                    return;
                }
                Ok(length) => {
                    let room = self.output_bytes_max - self.output.len();
                    self.truncated |= length > room;
                    self.output.extend_from_slice(&bytes[..length.min(room)]);
                }
            }
        }
    }

    /// Kills the command when its time is over; says how long it still has.
    fn check(&mut self, now: Duration) -> Duration {
        if now >= self.deadline && !self.timed_out {
            self.timed_out = true;
            self.kill();
        }
        if self.timed_out { Duration::MAX } else { self.deadline - now }
    }

    fn kill(&self) {
        sys::kill(-self.running.pid, libc::SIGKILL);
        sys::kill(self.running.pid, libc::SIGKILL);
    }
}

/// One caller.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    since: Duration,
    pub(super) exec: Option<Exec>,
    /// The pid of a command that runs on the caller's own streams.
    pub(super) attached: Option<i32>,
    /// Descriptors that came with the message, three at most.
    streams: Vec<OwnedFd>,
    over: bool,
}

impl Connection {
    pub(super) fn accept(listener: &OwnedFd, now: Duration) -> Option<Connection> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(listener, flags).ok()?;
        let (inbox, outbox) = (Vec::new(), Vec::new());
        let (exec, attached, streams) = (None, None, Vec::new());
        Some(Connection { socket, inbox, outbox, since: now, exec, attached, streams, over: false })
    }

    /// Reads; gives the request once it is there whole.
    pub(super) fn read(&mut self) -> Option<Request> {
        let mut bytes = [0u8; 4096];
        loop {
            match self.receive(&mut bytes) {
                Ok(0) => {
                    self.hang_up();
                    return None;
                }
                Ok(_) if !self.outbox.is_empty() || self.is_busy() => {}
                Ok(length) => self.inbox.extend_from_slice(&bytes[..length]),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.hang_up();
                    return None;
                }
            }
            if self.inbox.len() > wire::MESSAGE_BYTES_MAX + 4 {
                break;
            }
        }
        match wire::decode(&self.inbox) {
            Ok(request) => {
                if request.is_some() {
                    self.inbox.clear();
                }
                request
            }
            Err(e) => {
                self.inbox.clear();
                self.reply(&Reply::Refused(e.to_string()));
                None
            }
        }
    }

    /// Answers with copies of these descriptors. They go out with the first byte, for which a new
    /// connection has room.
    pub(super) fn hand_over(&mut self, kept: &[OwnedFd]) {
        let kept: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
        let answer = wire::encode(&Reply::Done).unwrap_or_default();
        // Who hung up wants nothing any more.
        let sent = descriptors::send(&self.socket, &answer, &kept).unwrap_or(0);
        self.outbox = answer.get(sent..).unwrap_or_default().to_vec();
        self.over = sent == 0 || self.outbox.is_empty();
    }

    /// Reads bytes, and keeps the descriptors that come with them.
    fn receive(&mut self, bytes: &mut [u8]) -> rustix::io::Result<usize> {
        let (length, descriptors) = descriptors::receive(&self.socket, bytes)?;
        self.streams.extend(descriptors);
        self.streams.truncate(STREAMS);
        Ok(length)
    }

    /// Starts a command on the streams that came with the message.
    pub(super) fn attach(&mut self, surroundings: &Surroundings, command: &Command) {
        let fds = std::mem::take(&mut self.streams);
        let [stdin, stdout, stderr] = fds.as_slice() else {
            return self.reply(&Reply::Refused("a command needs three streams".to_owned()));
        };
        let streams = Streams {
            stdin: Some(stdin.as_fd()),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
            terminal: command.terminal,
        };
        let surroundings = surroundings.with(command);
        match surroundings.and_then(|its| its.start_on(&streams, &command.argv, || true)) {
            Ok(pid) => self.attached = Some(pid),
            Err(why) => self.reply(&Reply::Refused(why.to_string())),
        }
    }

    /// Whether a command runs for this caller.
    fn is_busy(&self) -> bool {
        self.exec.is_some() || self.attached.is_some()
    }

    /// The process of the caller's command.
    pub(super) fn runs_now(&self) -> Option<i32> {
        self.attached.or_else(|| Some(self.exec.as_ref()?.running.pid))
    }

    /// Whether this process is the caller's command.
    pub(super) fn runs(&self, pid: i32) -> bool {
        self.attached == Some(pid) || self.exec.as_ref().is_some_and(|e| e.running.pid == pid)
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        self.outbox = wire::encode(reply).unwrap_or_default();
        self.over = self.outbox.is_empty();
        self.write();
    }

    pub(super) fn write(&mut self) {
        while !self.outbox.is_empty() {
            match rustix::io::write(&self.socket, &self.outbox) {
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.outbox.clear(),
            }
            self.over = self.outbox.is_empty();
        }
    }

    /// The command ended: answers with what it did.
    pub(super) fn ended(&mut self, reaped: sys::Reaped) {
        if self.attached.take().is_some() {
            return self.reply(&Reply::Ended(Ended { code: reaped.code, signal: reaped.signal }));
        }
        let Some(mut exec) = self.exec.take() else { return };
        exec.read();
        self.reply(&Reply::Output(ExecOutput {
            code: reaped.code,
            signal: reaped.signal,
            timed_out: exec.timed_out,
            output: String::from_utf8_lossy(&exec.output).into_owned(),
            truncated: exec.truncated,
        }));
    }

    /// Nobody waits any more.
    fn hang_up(&mut self) {
        if let Some(exec) = &self.exec {
            exec.kill();
        }
        if let Some(pid) = self.attached {
            // As a terminal does that goes away; a command without one gets the polite signal too.
            for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCONT] {
                sys::kill(-pid, signal);
            }
        }
        self.over = true;
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether it is done with.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Enforces deadlines; says how long until the next one.
    pub(super) fn check(&mut self, now: Duration) -> Duration {
        match &mut self.exec {
            Some(exec) => exec.check(now),
            None if self.attached.is_some() => Duration::MAX,
            None if now.saturating_sub(self.since) >= IDLE => {
                self.over = true;
                Duration::ZERO
            }
            None => IDLE - now.saturating_sub(self.since),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
