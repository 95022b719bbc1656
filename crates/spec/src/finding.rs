//! What was noticed in a file: how bad it is, and the problem as a person reads it.

use base::{Place, Problem};
use serde::{Deserialize, Serialize};

/// How bad a finding is; errors sort first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The app cannot run as written.
    Error,
    /// It runs, and something of the file has no effect or is probably not meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing that was noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What, where, why, and what to do next.
    pub problem: Problem,
}

impl Finding {
    /// An error with a code and a message; add the rest with the methods.
    pub fn error(code: &str, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Error, problem: Problem::new(code, message) }
    }

    /// A warning.
    pub fn warning(code: &str, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, problem: Problem::new(code, message) }
    }

    /// A note.
    pub fn note(code: &str, message: impl Into<String>) -> Finding {
        Finding { severity: Severity::Note, problem: Problem::new(code, message) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Finding {
        self.problem.place = Some(place.clone());
        self
    }

    /// Says why.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Finding {
        self.problem.cause = Some(cause.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Finding {
        self.problem.next = Some(next.into());
        self
    }
}
