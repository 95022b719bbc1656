//! Why a build failed, and what a person reads of it.

use base::{Place, Problem};
use spec::Finding;

use crate::tree::TreeError;

/// Why a build failed. Nothing of the step that failed is left.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile cannot be read.
    #[error("the Dockerfile cannot be read")]
    Dockerfile(Vec<Finding>),
    /// Nobody wants it any more.
    #[error("the build was cancelled")]
    Cancelled,
    /// A step failed.
    #[error("{}", .0.message)]
    Step(Box<Problem>),
    /// Layers could not be kept.
    #[error(transparent)]
    Files(#[from] TreeError),
}

impl BuildError {
    /// What a person reads.
    pub fn problem(self) -> Problem {
        match self {
            BuildError::Dockerfile(findings) => {
                let worst =
                    findings.into_iter().max_by_key(|f| f.severity == spec::Severity::Error);
                worst.map_or_else(|| Problem::new("dockerfile", "cannot be read"), |f| f.problem)
            }
            BuildError::Cancelled => Problem::new("build-cancelled", "the build was cancelled")
                .with_cause("whoever asked for it has gone")
                .with_next("start it again with `ms build`; finished steps are kept"),
            BuildError::Step(problem) => *problem,
            BuildError::Files(error) => Problem::new("build-files", "the build cannot keep files")
                .with_cause(error.to_string())
                .with_next("make room in the state folder, or give another with --state"),
        }
    }
}

/// What is wrong with one step.
pub(crate) fn step(
    code: &str,
    what: String,
    place: &Place,
    cause: String,
    next: String,
) -> BuildError {
    let problem = Problem::new(code, what).with_place(place.clone());
    BuildError::Step(Box::new(problem.with_cause(cause).with_next(next)))
}
