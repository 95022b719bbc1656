//! What the agent and a shim say to each other: JSON behind a 4-byte little-endian length.
//!
//! Two channels. The *birth channel* is the shim's standard input: one [`ShimSpec`] with kept
//! descriptors goes in, one [`Birth`] comes out. The *control socket* in the instance folder takes
//! one [`Request`] per connection and answers with one [`Reply`].

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use base::UnixNanos;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::isolation::Mode;
use crate::shim::LogLimits;
use crate::spec::{ProcessSpec, View};

/// Longest message, in bytes. A longer one closes the connection.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Most bytes of output that one [`Request::Exec`] may ask for.
pub(crate) const EXEC_OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Everything a shim needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShimSpec {
    pub(crate) process: ProcessSpec,
    pub(crate) mode: Mode,
    /// Whether a view of files of its own can be had.
    pub(crate) own_files: bool,
    /// Who the engine is, kept inside a user namespace.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The instance folder; absolute.
    pub(crate) folder: PathBuf,
    /// Where its output goes; absolute.
    pub(crate) logs: PathBuf,
    /// The state folder, hidden from the instance; absolute.
    pub(crate) state: PathBuf,
    /// How much output is kept; `None` is nothing.
    pub(crate) log_limits: Option<LogLimits>,
    /// What it writes is taken over when it has ended, and must not be kept in memory.
    pub(crate) kept: bool,
    /// cgroup2 directory to be born into.
    pub(crate) cgroup: Option<PathBuf>,
    /// `cgroup.procs` files of cgroup v1 to join.
    pub(crate) join: Vec<PathBuf>,
    /// File with an `oom_kill` count.
    pub(crate) oom: Option<PathBuf>,
    /// What the kernel is to ask about system calls of the program.
    pub(crate) filters: Vec<crate::seccomp::Program>,
}

impl ShimSpec {
    /// Whether it sees files of its own rather than the host's.
    pub(crate) fn has_own_files(&self) -> bool {
        match self.process.view {
            View::Host => false,
            // Without root the host's own files are as they are, and its user's are to be changed.
            View::Overlay { .. } => self.own_files && self.mode == Mode::Full,
            View::Image { .. } => self.own_files,
        }
    }

    /// Whether its one user, who is the engine's, has whichever number is asked for.
    pub(crate) fn is_anybody(&self) -> bool {
        self.mode == Mode::User && self.has_own_files()
    }
}

/// What a shim says once, when the program runs or could not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Birth {
    Started { warnings: Vec<String> },
    Failed(Failure),
}

/// The step that failed while an instance was set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    /// On what: a path, a user, a program.
    pub(crate) what: String,
    /// `errno`, or 0 when `what` says it all.
    pub(crate) errno: i32,
}

/// Which step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Reading the spec, opening files, forking.
    Setup,
    /// Joining a cgroup.
    Cgroup,
    /// Building what the instance sees.
    View,
    /// A mount of the spec.
    Mount,
    /// Looking up or becoming the user.
    User,
    /// Entering the working directory.
    WorkingDir,
    /// The program is in no folder of `PATH`.
    Search,
    /// `execve`.
    Exec,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.step {
            Step::Setup => "setting up",
            Step::Cgroup => "joining the cgroup",
            Step::View => "building its view of the files",
            Step::Mount => "mounting",
            Step::User => "becoming its user",
            Step::WorkingDir => "entering its working directory",
            Step::Search => "looking for the program in PATH",
            Step::Exec => "running",
        };
        write!(f, "{doing}: {}", self.what)?;
        if self.errno != 0 {
            write!(f, ": {}", crate::sys::error_text(self.errno))?;
        }
        Ok(())
    }
}

/// Who holds and who is the program; written by the shim before the program may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) boot: String,
    pub(crate) shim_pid: u32,
    /// What tells the shim from others of its pid.
    pub(crate) shim_start: u64,
    pub(crate) program_pid: u32,
    pub(crate) started_at: UnixNanos,
    pub(crate) warnings: Vec<String>,
}

/// What may be asked of a running shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Signal(i32),
    /// Signals the program; when `grace` is over, everything is killed.
    Stop {
        signal: i32,
        grace: Duration,
    },
    /// Runs a command inside the instance, in its environment.
    Exec {
        argv: Vec<String>,
        timeout: Duration,
        output_bytes_max: usize,
    },
    /// Runs a command inside the instance on the three descriptors that come with this message,
    /// until it ends or the caller hangs up.
    Attach(Command),
    /// Asks for the descriptors that came with the spec; they come back with the reply.
    Kept,
}

/// A command to run inside an instance on somebody's own streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables on top of the instance's own.
    pub env: Vec<(String, String)>,
    /// Where it starts; the instance's working directory when `None`.
    pub working_dir: Option<PathBuf>,
    /// `user`, `uid`, `user:group` or `uid:gid`; the instance's own when `None`.
    pub user: Option<String>,
    /// Whether the streams are a terminal that it shall control.
    pub terminal: bool,
    /// With every capability that the engine has, and every system call.
    #[serde(default)]
    pub privileged: bool,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, when one did.
    pub signal: Option<i32>,
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Output(ExecOutput),
    Ended(Ended),
    Refused(String),
}

/// What a command that ran inside an instance did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutput {
    /// Its exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, when one did.
    pub signal: Option<i32>,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
    /// Both streams as they came, cut at the asked size; not UTF-8 is replaced.
    pub output: String,
    /// Whether output was cut.
    pub truncated: bool,
}

pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "message over 1 MiB");
    if length > MESSAGE_BYTES_MAX {
        return Err(too_long());
    }
    let length = u32::try_from(length).map_err(|_| too_long())?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// The message at the start of `bytes`, when it is there whole.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<T>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message over 1 MiB"));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    Ok(Some(serde_json::from_slice(body)?))
}

/// Writes one message, blocking.
pub(crate) fn send<T: Serialize>(mut to: impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Reads one message, blocking.
pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut bytes = vec![0; 4];
    from.read_exact(&mut bytes)?;
    // A length over the limit is refused here, before it allocates.
    decode::<serde_json::Value>(&bytes)?;
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    bytes.resize(4 + length, 0);
    from.read_exact(&mut bytes[4..])?;
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "message cut short");
    decode(&bytes)?.ok_or_else(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_a_part_of_it_does_not() {
        let whole = encode(&Reply::Refused("no".to_owned())).unwrap();
        for cut in 0..whole.len() {
            assert!(decode::<Reply>(&whole[..cut]).unwrap().is_none(), "{cut}");
        }
        assert!(matches!(decode::<Reply>(&whole).unwrap(), Some(Reply::Refused(_))));
        assert!(matches!(receive::<Reply>(whole.as_slice()).unwrap(), Reply::Refused(_)));
    }

    #[test]
    fn a_huge_length_is_refused_before_it_allocates() {
        let bytes = u32::MAX.to_le_bytes();
        assert!(decode::<Reply>(&bytes).is_err());
        assert!(receive::<Reply>(bytes.as_slice()).is_err());
    }
}
