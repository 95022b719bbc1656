//! How a session, one accepted connection, ended.

/// How a session ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has not ended.
    #[default]
    Open,
    /// Both sides were done.
    Finished,
    /// What the client sent was refused.
    Refused,
    /// A time limit passed.
    TimedOut,
    /// The other side, or the upstream, broke off.
    Broken,
    /// Ended by a drain.
    Drained,
}

impl Outcome {
    /// The outcome as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Open => "open",
            Outcome::Finished => "finished",
            Outcome::Refused => "refused",
            Outcome::TimedOut => "timed-out",
            Outcome::Broken => "broken",
            Outcome::Drained => "drained",
        }
    }
}
