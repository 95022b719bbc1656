//! Why a command ends early, and the exit code that says so.
//!
//! Invariant: this is the only place that turns an outcome into an exit code.

use std::io;

use base::Problem;

/// Done.
pub(crate) const DONE: i32 = 0;
/// The operation failed: unhealthy, rolled back, findings.
pub(crate) const FAILED: i32 = 1;
/// Wrong usage, or a file that cannot be used.
pub(crate) const USAGE: i32 = 2;
/// No engine answers.
pub(crate) const UNREACHABLE: i32 = 3;
/// The engine does not allow it.
pub(crate) const FORBIDDEN: i32 = 4;
/// It took longer than was allowed.
pub(crate) const TIMED_OUT: i32 = 5;
/// Ctrl-C.
pub(crate) const INTERRUPTED: i32 = 130;

/// Why a command ends before its work is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever read our output has had enough, as in `ms logs | head`.
    ClosedPipe,
    /// Ctrl-C.
    Interrupted,
    /// Something went wrong; say it, then exit with this code.
    Failed {
        /// The exit code.
        exit: i32,
        /// What to say, most important first.
        problems: Vec<Problem>,
    },
}

/// The exit code of a command that ran to its end, or why it did not.
pub(crate) type Outcome<T = i32> = Result<T, Stop>;

impl Stop {
    /// One problem and its exit code.
    pub(crate) fn new(exit: i32, problem: Problem) -> Stop {
        Stop::Failed { exit, problems: vec![problem] }
    }

    /// Wrong usage, or a file that cannot be used.
    pub(crate) fn usage(problem: Problem) -> Stop {
        Stop::new(USAGE, problem)
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> i32 {
        match self {
            Stop::ClosedPipe => DONE,
            Stop::Interrupted => INTERRUPTED,
            Stop::Failed { exit, .. } => *exit,
        }
    }
}

impl From<io::Error> for Stop {
    /// An error of writing output, the one thing that every command does.
    fn from(error: io::Error) -> Stop {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Stop::ClosedPipe;
        }
        Stop::new(
            FAILED,
            Problem::new("output-failed", "cannot write the output")
                .with_cause(error.to_string())
                .with_next("check the disk or terminal that the output goes to"),
        )
    }
}
