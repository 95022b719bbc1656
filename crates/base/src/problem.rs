//! The one form of an error that a person reads: where, what, cause, next step.
//!
//! Not here: error types of operations. Those are enums in their own crates; a `Problem` is made
//! from them at the edge where a person is told.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A place in a file that a person wrote. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The file, as the person named it.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What went wrong, on what, why, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable short name in kebab case, such as `port-taken`.
    pub code: String,
    /// What went wrong, on what: one sentence, no final stop.
    pub message: String,
    /// Where in the person's own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Why, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do next, often a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Problem {
    /// A problem with a code and a message; add the rest with the `with_` methods.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { code: code.into(), message: message.into(), place: None, cause: None, next: None }
    }

    /// Says where.
    #[must_use]
    pub fn with_place(mut self, place: Place) -> Problem {
        self.place = Some(place);
        self
    }

    /// Says why.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Problem {
        self.cause = Some(cause.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Problem {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]: {}", self.code, self.message)?;
        if let Some(place) = &self.place {
            write!(f, "\n  --> {place}")?;
        }
        for (label, text) in [("cause: ", &self.cause), ("next:  ", &self.next)] {
            if let Some(text) = text {
                let mut lines = text.lines();
                write!(f, "\n  {label}{}", lines.next().unwrap_or_default())?;
                for line in lines {
                    write!(f, "\n         {line}")?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_where_cause_next() {
        let problem = Problem::new("port-taken", "cannot start `web`: 127.0.0.1:8080 is in use")
            .with_place(Place { file: "compose.yaml".into(), line: 14, column: 9 })
            .with_cause("nginx (pid 812) has listened there for 3 h\nand still does")
            .with_next("ms up --publish web=8081");
        assert_eq!(
            problem.to_string(),
            "[port-taken]: cannot start `web`: 127.0.0.1:8080 is in use\n  \
             --> compose.yaml:14:9\n  \
             cause: nginx (pid 812) has listened there for 3 h\n         and still does\n  \
             next:  ms up --publish web=8081"
        );
    }
}
