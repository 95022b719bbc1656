//! Turning a forked child into a program: the instance's own, or a command beside it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode as Bits, OFlags};

use super::limits;
use super::user::{self, Ids};
use super::{failed, failure};
use crate::isolation::Mode;
use crate::rights::{self, Capabilities};
use crate::seccomp::Program;
use crate::sys::{self, Forked};
use crate::wire::{Command, Failure, ShimSpec, Step};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What all programs of one instance have in common.
#[derive(Clone)]
pub(super) struct Surroundings {
    env: Vec<CString>,
    path: String,
    working_dir: PathBuf,
    ids: Option<Ids>,
    /// There is one user, who has whichever number is asked for.
    anybody: bool,
    mode: Mode,
    capabilities: Capabilities,
    filters: Vec<Program>,
    /// Programs may not gain rights by being run.
    no_new_rights: bool,
    limits: Vec<(u32, u64, u64)>,
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
        whole: &ShimSpec,
        filters: Vec<Program>,
        warnings: &mut Vec<String>,
    ) -> Result<Surroundings, Failure> {
        let (spec, mode, anybody) = (&whole.process, whole.mode, whole.is_anybody());
        let env: Result<_, _> =
            spec.env.iter().map(|(name, value)| CString::new(format!("{name}={value}"))).collect();
        let env = env.map_err(|_| bad("an environment variable holds a NUL byte"))?;
        let path = spec.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value).to_owned();
        let own = rustix::process::geteuid().as_raw().to_string();
        // Further groups need a user to be in them.
        let user = spec.user.as_ref().or((!spec.rights.group_add.is_empty()).then_some(&own));
        let ids =
            match user {
                None => None,
                Some(text) => {
                    let ids = user::look_up(text, &spec.rights.group_add)
                        .map_err(|what| Failure { step: Step::User, what, errno: 0 })?;
                    let own = rustix::process::geteuid().as_raw();
                    let may_change = anybody || user::may_become(&ids);
                    if anybody && !spec.rights.group_add.is_empty() {
                        warnings.push("it is in no further groups: not root".to_owned());
                    }
                    if !may_change && own != ids.uid {
                        let why = if own == 0 { "this root may not" } else { "not root" };
                        warnings.push(format!("runs as uid {own}, not as `{text}`: {why}"));
                    }
                    may_change.then_some(ids)
                }
            };
        let rights = &spec.rights;
        let (capabilities, has) = (rights::of(rights), sys::bounding_capabilities());
        let asked = rights.cap_add.iter().fold(0, |sum, name| sum | rights::named(name)) & !has;
        if asked != 0 && !rights.cap_add.contains("ALL") {
            let names = rights::names_of(asked);
            warnings.push(format!("it does without {names}: the engine has not got that either"));
        }
        if rights.privileged {
            warnings.push("privileged: it may do what the engine may, to this machine too".into());
        }
        let may_manage = mode != Mode::None || rustix::process::geteuid().is_root();
        let no_new_rights = match rights.no_new_privileges {
            Some(false) if !may_manage && !filters.is_empty() => {
                warnings.push("its programs gain no rights by being run: not root".to_owned());
                true
            }
            asked => asked.unwrap_or(!rights.privileged),
        };
        let limits = limits::of(&spec.kernel.ulimits, warnings);
        limits::prefer(spec.kernel.oom_score_adj, warnings);
        Ok(Surroundings {
            env,
            path,
            working_dir: spec.working_dir.clone(),
            ids,
            anybody,
            mode,
            capabilities,
            filters,
            no_new_rights,
            limits,
        })
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
        if let Some(ids) = &self.ids {
            let (uid, gid) =
                (rustix::fs::Uid::from_raw(ids.uid), rustix::fs::Gid::from_raw(ids.gid));
            for end in [&stdout_end, &stderr_end] {
                // Many images log to /dev/stdout by name. Where there is one user alone it is the
                // owner already.
                let _only_by_name = rustix::fs::fchown(end, Some(uid), Some(gid));
            }
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
        if command.privileged {
            other.capabilities = rights::named("ALL");
            other.filters.clear();
            other.no_new_rights = false;
        }
        if let Some(user) = &command.user {
            let refused = |what| Failure { step: Step::User, what, errno: 0 };
            let ids = user::look_up(user, &[]).map_err(refused)?;
            let own = rustix::process::geteuid();
            let may_change = self.anybody || user::may_become(&ids);
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
            for (resource, soft, hard) in &self.limits {
                let named = format!("limit {resource} of a process");
                sys::limit(*resource, *soft, *hard).map_err(failed(Step::Setup, &named))?;
            }
            if let Some(ids) = self.ids.as_ref().filter(|_| self.anybody) {
                sys::be_called(ids.uid, ids.gid)
                    .map_err(failed(Step::User, &format!("uid {} gid {}", ids.uid, ids.gid)))?;
            }
            let filters = || {
                let each = self.filters.iter().try_for_each(|filter| sys::filter_calls(filter));
                each.map_err(failed(Step::Setup, "its seccomp filter"))
            };
            if !self.no_new_rights {
                // Whoever may gain rights later must have them to be filtered.
                filters()?;
            }
            sys::bound_capabilities(self.capabilities);
            if let Some(ids) = &self.ids {
                if !self.anybody {
                    sys::keep_capabilities();
                    sys::become_user(ids.uid, ids.gid, &ids.groups)
                        .map_err(failed(Step::User, &format!("uid {} gid {}", ids.uid, ids.gid)))?;
                }
                if ids.uid != 0 {
                    // In a network of its own it could listen on any port.
                    let kept = self.capabilities & rights::NET_BIND_SERVICE;
                    let kept = kept & sys::bounding_capabilities();
                    sys::only_capabilities(kept)
                        .map_err(failed(Step::User, "keeping NET_BIND_SERVICE"))?;
                }
            }
            // After the user, who may see less than root does.
            rustix::process::chdir(&self.working_dir).map_err(|e| {
                failure(Step::WorkingDir, &self.working_dir.display().to_string(), e.into())
            })?;
            if self.no_new_rights {
                rustix::thread::set_no_new_privs(true).map_err(setup)?;
                filters()?;
            }
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
