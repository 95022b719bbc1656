//! What a build says while it goes on.

use std::time::Duration;

use base::Place;

/// Something to tell whoever waits for a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step begins.
    Step {
        /// Its number, from 1.
        number: usize,
        /// How many steps there are.
        total: usize,
        /// The instruction, on one line.
        text: &'a str,
        /// Where it stands.
        place: &'a Place,
    },
    /// The step was done before.
    Cached,
    /// The step is done.
    Done {
        /// How long it took.
        took: Duration,
    },
    /// A line that the step's command wrote.
    Output(&'a str),
    /// What is worth knowing.
    Note(&'a str),
}

/// Who waits for a build.
pub trait Watch {
    /// Takes what is said; it must not wait.
    fn told(&mut self, progress: &Progress<'_>);
    /// Whether nobody wants the build any more.
    fn is_unwanted(&self) -> bool;
}
