//! Turning a forked child into a program: the instance's own, or a command beside it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode as Bits, OFlags};

use super::user::{self, Ids};
use super::{failed, failure};
use crate::isolation::Mode;
use crate::spec::ProcessSpec;
use crate::sys::{self, Forked};
use crate::wire::{Command, Failure, Step};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What root in an instance may do: Docker's default set without MKNOD and `NET_RAW`, since devices
/// and the network are the host's.
const KEPT_CAPABILITIES: u64 = 1 << 0 // CHOWN
    | 1 << 1 // DAC_OVERRIDE
    | 1 << 3 // FOWNER
    | 1 << 4 // FSETID
    | 1 << 5 // KILL
    | 1 << 6 // SETGID
    | 1 << 7 // SETUID
    | 1 << 8 // SETPCAP
    | 1 << 10 // NET_BIND_SERVICE
    | 1 << 18 // SYS_CHROOT
    | 1 << 29 // AUDIT_WRITE
    | 1 << 31; // SETFCAP

/// What all programs of one instance have in common.
#[derive(Clone)]
pub(super) struct Surroundings {
    env: Vec<CString>,
    path: String,
    working_dir: PathBuf,
    ids: Option<Ids>,
    mode: Mode,
}

/// What a program reads and writes.
pub(super) struct Streams<'a> {
    /// Nothing to read when `None`.
    pub(super) stdin: Option<BorrowedFd<'a>>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    /// They are a terminal, which the program shall control.
    pub(super) terminal: bool,
}

/// A program that was started, and the other ends of its streams.
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Surroundings {
    /// Looks everything up in the view that this process has now.
    pub(super) fn new(
        spec: &ProcessSpec,
        mode: Mode,
        warnings: &mut Vec<String>,
    ) -> Result<Surroundings, Failure> {
        let env: Result<_, _> =
            spec.env.iter().map(|(name, value)| CString::new(format!("{name}={value}"))).collect();
        let env = env.map_err(|_| bad("an environment variable holds a NUL byte"))?;
        let path = spec.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value).to_owned();
        let ids = match &spec.user {
            None => None,
            Some(text) => {
                let ids = user::look_up(text).map_err(|what| Failure {
                    step: Step::User,
                    what,
                    errno: 0,
                })?;
                let own = rustix::process::geteuid().as_raw();
                let may_change = user::may_become(&ids);
                if !may_change && own != ids.uid {
                    let why = if own == 0 { "this root may not" } else { "not root" };
                    warnings.push(format!("runs as uid {own}, not as `{text}`: {why}"));
                }
                may_change.then_some(ids)
            }
        };
        Ok(Surroundings { env, path, working_dir: spec.working_dir.clone(), ids, mode })
    }

    /// Starts `argv`. `ready` runs in the child as the last thing before the program; an error
    /// there, or an early `false`, ends the child.
    pub(super) fn start(
        &self,
        argv: &[String],
        one_stream: bool,
        ready: impl FnOnce() -> bool,
    ) -> Result<Running, Failure> {
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        for end in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true)
                .map_err(|e| failure(Step::Setup, "pipe", e.into()))?;
        }
        let streams = Streams {
            stdin: None,
            stdout: stdout_end.as_fd(),
            stderr: if one_stream { &stdout_end } else { &stderr_end }.as_fd(),
            terminal: false,
        };
        let pid = self.start_on(&streams, argv, ready)?;
        Ok(Running { pid, stdout, stderr })
    }

    /// The same with what somebody else has asked for on top.
    pub(super) fn with(&self, command: &Command) -> Result<Surroundings, Failure> {
        let mut other = self.clone();
        for (name, value) in &command.env {
            let entry = CString::new(format!("{name}={value}"))
                .map_err(|_| bad("an environment variable holds a NUL byte"))?;
            let start = format!("{name}=");
            other.env.retain(|entry| !entry.as_bytes().starts_with(start.as_bytes()));
            other.env.push(entry);
            if name == "PATH" {
                value.clone_into(&mut other.path);
            }
        }
        if let Some(folder) = &command.working_dir {
            other.working_dir.clone_from(folder);
        }
        if let Some(user) = &command.user {
            let refused = |what| Failure { step: Step::User, what, errno: 0 };
            let ids = user::look_up(user).map_err(refused)?;
            let own = rustix::process::geteuid();
            let may_change = own.is_root() && self.mode != Mode::User;
            if !may_change && own.as_raw() != ids.uid {
                return Err(refused(format!("`{user}`: only root's engine changes the user")));
            }
            other.ids = may_change.then_some(ids);
        }
        Ok(other)
    }

    /// Starts `argv` on these streams; its pid.
    pub(super) fn start_on(
        &self,
        streams: &Streams<'_>,
        argv: &[String],
        ready: impl FnOnce() -> bool,
    ) -> Result<i32, Failure> {
        let program = self.find(argv.first().map_or("", String::as_str))?;
        let strings: Result<Vec<_>, _> = argv.iter().map(|a| CString::new(a.as_str())).collect();
        let strings = strings.map_err(|_| bad("an argument holds a NUL byte"))?;
        let (verdict, verdict_end) = pipe()?;
        match sys::fork().map_err(failed(Step::Setup, "fork"))? {
            Forked::Child => {
                let why = self.become_program(&program, &strings, streams, ready);
                if let Some(why) = why {
                    let text = serde_json::to_vec(&why).unwrap_or_default();
                    let _unread = rustix::io::write(&verdict_end, &text);
                }
                sys::exit_now(127)
            }
            Forked::Parent(pid) => {
                drop(verdict_end);
                let mut text = Vec::new();
                io::Read::read_to_end(&mut std::fs::File::from(verdict), &mut text)
                    .map_err(failed(Step::Setup, "pipe"))?;
                match serde_json::from_slice(&text) {
                    Ok(why) => Err(why),
                    Err(_) => Ok(pid),
                }
            }
        }
    }

    /// Returns only why it could not; `None` when it was not let go.
    fn become_program(
        &self,
        program: &Path,
        argv: &[CString],
        streams: &Streams<'_>,
        ready: impl FnOnce() -> bool,
    ) -> Option<Failure> {
        let prepared = || -> Result<CString, Failure> {
            let setup = |e: rustix::io::Errno| failure(Step::Setup, "streams", e.into());
            // Own session and group, so that a command that is over time can be killed whole.
            let _leads = rustix::process::setsid();
            match streams.stdin {
                Some(stdin) => rustix::stdio::dup2_stdin(stdin),
                None => {
                    let flags = OFlags::RDWR | OFlags::CLOEXEC;
                    let null = rustix::fs::open("/dev/null", flags, Bits::empty());
                    null.and_then(rustix::stdio::dup2_stdin)
                }
            }
            .map_err(setup)?;
            rustix::stdio::dup2_stdout(streams.stdout).map_err(setup)?;
            rustix::stdio::dup2_stderr(streams.stderr).map_err(setup)?;
            if streams.terminal {
                let stdin = rustix::stdio::stdin();
                rustix::process::ioctl_tiocsctty(stdin).map_err(setup)?;
            }
            sys::close_on_exec_from(3);
            if self.mode == Mode::Full {
                sys::bound_capabilities(KEPT_CAPABILITIES);
            }
            if let Some(ids) = &self.ids {
                sys::become_user(ids.uid, ids.gid, &ids.groups)
                    .map_err(failed(Step::User, &format!("uid {} gid {}", ids.uid, ids.gid)))?;
            }
            // After the user, who may see less than root does.
            rustix::process::chdir(&self.working_dir).map_err(|e| {
                failure(Step::WorkingDir, &self.working_dir.display().to_string(), e.into())
            })?;
            rustix::thread::set_no_new_privs(true).map_err(setup)?;
            if self.mode == Mode::None {
                // Changing the user clears it, so it comes last.
                let kill = Some(rustix::process::Signal::KILL);
                rustix::process::set_parent_process_death_signal(kill).map_err(setup)?;
            }
            sys::reset_signals();
            CString::new(program.as_os_str().as_bytes()).map_err(|_| bad("NUL in the program"))
        };
        let program = match prepared() {
            Ok(program) => program,
            Err(why) => return Some(why),
        };
        if !ready() {
            return None;
        }
        let error = sys::execve(&program, argv, &self.env);
        // The kernel says ENOENT for a missing interpreter as well.
        let mut what = program.to_string_lossy().into_owned();
        if error.raw_os_error() == Some(libc::ENOENT)
            && let Some(interpreter) = interpreter(Path::new(&what))
        {
            what = format!("{what}, whose first line asks for {interpreter}");
        }
        Some(failure(Step::Exec, &what, error))
    }

    fn find(&self, name: &str) -> Result<PathBuf, Failure> {
        if name.is_empty() {
            return Err(bad("the command is empty"));
        }
        if name.contains('/') {
            return Ok(PathBuf::from(name));
        }
        let mut refused = None;
        for folder in self.path.split(':') {
            let path = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
            let is_file = std::fs::metadata(&path).is_ok_and(|m| m.is_file());
            match rustix::fs::access(&path, rustix::fs::Access::EXEC_OK) {
                Ok(()) if is_file => return Ok(path),
                Err(rustix::io::Errno::ACCESS) if is_file => refused = Some(path),
                _ => {}
            }
        }
        match refused {
            Some(path) => Err(Failure {
                step: Step::Exec,
                what: path.display().to_string(),
                errno: libc::EACCES,
            }),
            None => Err(Failure { step: Step::Search, what: self.path.clone(), errno: 0 }),
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| failure(Step::Setup, "pipe", e.into()))
}

fn bad(what: &str) -> Failure {
    Failure { step: Step::Setup, what: what.to_owned(), errno: 0 }
}

/// What the first line of a script asks for.
fn interpreter(program: &Path) -> Option<String> {
    let mut start = [0u8; 256];
    let file = std::fs::File::open(program).ok()?;
    let length = rustix::io::read(&file, &mut start).ok()?;
    let line = start[..length].strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim().replace('\r', "\\r"))
}
