//! The process that holds one instance: it starts the program, keeps its output, runs checks
//! beside it, ends it, and records how it ended.
//!
//! Not here: any decision. A shim never restarts anything and never asks the engine for anything.
//!
//! Life: the engine runs this executable again with the spec on its standard input. That process
//! (the *midwife*) makes namespaces, gives birth to the *shim* in them, writes `run.json`, lets the
//! program go, and ends. The shim stays, as PID 1 of the instance.
//!
//! Invariants: one thread; the program does not run before `run.json` says who it is; `exit.json`
//! is written, whole, before the shim ends by itself; it needs no engine at any time.

mod control;
mod init;
mod limits;
mod output;
mod program;
mod user;
pub(crate) mod view;

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base::{Clock, SystemClock};
use rustix::fs::{Mode as Bits, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::descriptors;
use crate::isolation::Mode;
use crate::spec::Logging;
use crate::sys::{self, Forked};
use crate::wire::{self, Birth, Failure, RunRecord, ShimSpec, Step};

/// `argv[0]` of a shim; also what process lists show.
const NAME: &str = "ms-shim";

/// `argv[0]` of a process that only tries whether an instance can be set up.
const TRIAL: &str = "ms-shim-trial";

/// How much output of an instance is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A log file that reaches this size is put aside, in bytes.
    pub file_bytes: u64,
    /// How many files put aside are kept.
    pub files_kept: u32,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { file_bytes: 8 << 20, files_kept: 4 }
    }
}

impl LogLimits {
    /// With what a spec asks for instead; `None` keeps nothing.
    pub(crate) fn with(self, asked: &Logging) -> Option<LogLimits> {
        (!asked.none).then(|| LogLimits {
            file_bytes: asked.file_bytes.unwrap_or(self.file_bytes),
            files_kept: asked.files.map_or(self.files_kept, |files| files.saturating_sub(1)),
        })
    }
}

/// Whether this process was started to hold an instance.
pub fn requested() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME || name == TRIAL)
}

/// Holds one instance. Call it first thing in `main`, before any thread exists, when
/// [`requested`] says so.
pub fn main() -> ! {
    let is_trial = std::env::args_os().next().is_some_and(|name| name == TRIAL);
    let birth = sys::take_stdin();
    // Standard input is the birth channel only for this process, never for the program.
    let code = match if is_trial { try_out(&birth) } else { run(&birth) } {
        Ok(()) => 0,
        Err(failure) => {
            tell(birth.as_fd(), &Birth::Failed(failure));
            1
        }
    };
    sys::exit_now(code)
}

/// The command that becomes a shim; the caller gives it its standard input.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0(NAME).env_clear().current_dir("/");
    command
}

/// The command that tells how a shim would fare with the same spec, and leaves nothing behind.
pub(crate) fn trial(program: &Path) -> Command {
    let mut command = command(program);
    command.arg0(TRIAL);
    command
}

/// Does what a birth does up to the program.
fn try_out(birth: &OwnedFd) -> Result<(), Failure> {
    let (spec, _kept) = receive_spec(birth).map_err(failed(Step::Setup, "the spec"))?;
    let cgroup = spec.cgroup.as_ref().map(|path| open_folder(path, Step::Cgroup)).transpose()?;
    match sys::clone_into(namespaces(&spec), cgroup.as_ref().map(OwnedFd::as_fd)) {
        Ok(Forked::Child) => {
            let mut warnings = Vec::new();
            let fared = match view::enter(&spec, &mut warnings) {
                Ok(()) => Birth::Started { warnings },
                Err(why) => Birth::Failed(why),
            };
            tell(birth.as_fd(), &fared);
            sys::exit_now(0)
        }
        Ok(Forked::Parent(_)) => sys::reap(true).map(drop).map_err(failed(Step::Setup, "waitpid")),
        Err(e) => Err(failed(Step::Setup, "its own namespaces")(e)),
    }
}

/// The namespaces of an instance.
fn namespaces(spec: &ShimSpec) -> i32 {
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let own = if spec.process.offline { own | libc::CLONE_NEWNET } else { own };
    match spec.mode {
        Mode::Full => own,
        Mode::User => own | libc::CLONE_NEWUSER,
        Mode::None => 0,
    }
}

/// Open before the view changes, so that they stay reachable from inside.
struct Handles {
    folder: OwnedFd,
    logs: OwnedFd,
    control: OwnedFd,
    oom: Option<OwnedFd>,
    /// The engine's, held for as long as the instance lives.
    kept: Vec<OwnedFd>,
}

fn run(birth: &OwnedFd) -> Result<(), Failure> {
    let (spec, kept) = receive_spec(birth).map_err(failed(Step::Setup, "the spec"))?;
    rustix::process::umask(Bits::from_raw_mode(0o022));
    // Its own session: a Ctrl-C at the engine's terminal is not for instances.
    let _already_leader = rustix::process::setsid();
    let handles = open_handles(&spec, kept)?;
    for file in &spec.join {
        let join = std::fs::OpenOptions::new().write(true).open(file);
        join.and_then(|mut file| file.write_all(b"0"))
            .map_err(failed(Step::Cgroup, &file.display().to_string()))?;
    }
    let cgroup = spec.cgroup.as_ref().map(|path| open_folder(path, Step::Cgroup)).transpose()?;
    let setup =
        |what: &'static str| move |e: rustix::io::Errno| failure(Step::Setup, what, e.into());
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(setup("socketpair"))?;
    rustix::net::sockopt::set_socket_passcred(&ours, true).map_err(setup("SO_PASSCRED"))?;
    match sys::clone_into(namespaces(&spec), cgroup.as_ref().map(OwnedFd::as_fd)) {
        Ok(Forked::Child) => {
            drop((ours, cgroup));
            init::main(spec, handles, birth, theirs)
        }
        Ok(Forked::Parent(shim)) => {
            drop(theirs);
            deliver(&spec, &handles, &ours, shim)
        }
        Err(e) => Err(failed(Step::Setup, "clone3")(e)),
    }
}

/// Waits until the program stands ready in the child, records who is who, and lets it go.
///
/// When the child fails first, it has told the engine itself.
fn deliver(spec: &ShimSpec, handles: &Handles, from: &OwnedFd, shim: i32) -> Result<(), Failure> {
    let Some((program, warnings)) = await_ready(from) else { return Ok(()) };
    let shim_pid = shim.cast_unsigned();
    let record = RunRecord {
        boot: crate::procfs::boot_id(),
        shim_pid,
        shim_start: crate::procfs::mark(shim_pid).unwrap_or(0),
        program_pid: program,
        started_at: SystemClock.now(),
        warnings,
    };
    let folder = handles.folder.as_fd();
    if let Err(e) = write_whole(folder, "run.json", &record) {
        sys::kill(shim, libc::SIGKILL);
        return Err(failed(Step::Setup, &spec.folder.join("run.json").display().to_string())(e));
    }
    let _gone = rustix::io::write(from, b"g");
    Ok(())
}

/// The program's pid as this process sees it, and the warnings, when the child gets that far.
fn await_ready(from: &OwnedFd) -> Option<(u32, Vec<String>)> {
    let mut warnings = Vec::new();
    loop {
        let mut bytes = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let got = rustix::net::recvmsg(from, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let length = got.ok()?.bytes;
        let who = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(who) => Some(who.pid),
            _ => None,
        });
        match bytes.get(..length)? {
            [] => return None,
            b"r" => return Some((who?.as_raw_nonzero().get().cast_unsigned(), warnings)),
            warning => warnings.push(String::from_utf8_lossy(warning).into_owned()),
        }
    }
}

fn receive_spec(birth: &OwnedFd) -> io::Result<(ShimSpec, Vec<OwnedFd>)> {
    // The descriptors come with the first byte, so that byte is read with room for them.
    let mut first = [0u8; 1];
    // Close-on-exec keeps them from the program; the shim itself never executes anything.
    let (_, kept) = descriptors::receive(birth, &mut first)?;
    let spec = wire::receive(first.as_slice().chain(File::from(birth.try_clone()?)))?;
    Ok((spec, kept))
}

fn open_handles(spec: &ShimSpec, kept: Vec<OwnedFd>) -> Result<Handles, Failure> {
    let folder = open_folder(&spec.folder, Step::Setup)?;
    let logs = open_folder(&spec.logs, Step::Setup)?;
    let control = control::listen(folder.as_fd())
        .map_err(failed(Step::Setup, &spec.folder.join("shim.sock").display().to_string()))?;
    let oom = spec.oom.as_ref().and_then(|path| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Bits::empty()).ok()
    });
    Ok(Handles { folder, logs, control, oom, kept })
}

fn open_folder(path: &Path, step: Step) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Bits::empty())
        .map_err(|e| failure(step, &path.display().to_string(), e.into()))
}

/// Writes a JSON file under a second name and renames it, so that a reader sees all or nothing.
fn write_whole<T: Serialize>(folder: BorrowedFd<'_>, name: &str, value: &T) -> io::Result<()> {
    let aside = format!(".{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &aside, flags, Bits::from_raw_mode(0o600))?;
    File::from(file).write_all(&serde_json::to_vec(value)?)?;
    rustix::fs::renameat(folder, &aside, folder, name)?;
    Ok(())
}

fn tell(birth: BorrowedFd<'_>, message: &Birth) {
    if let Ok(birth) = birth.try_clone_to_owned() {
        // Nobody listens when the engine died meanwhile; the instance goes on.
        let _unheard = wire::send(File::from(birth), message);
    }
}

fn failure(step: Step, what: &str, error: io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(0);
    let what = if errno == 0 { format!("{what}: {error}") } else { what.to_owned() };
    Failure { step, what, errno }
}

fn failed(step: Step, what: &str) -> impl FnOnce(io::Error) -> Failure {
    move |error| failure(step, what, error)
}

/// A path to whatever this descriptor shows, for calls that take only paths.
fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
