//! Which lines pass. Pure.

use base::UnixNanos;

use super::Stream;

/// How bad a line says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `trace`.
    Trace,
    /// `debug`.
    Debug,
    /// `info`.
    Info,
    /// `warn`, `warning`.
    Warn,
    /// `error`, `err`, `fatal`, `panic`, `critical`.
    Error,
}

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` cannot be searched for: {why}")]
pub struct MatchError {
    /// What was given.
    pub pattern: String,
    /// Why not.
    pub why: String,
}

/// What a line's text must hold.
#[derive(Clone, Debug)]
pub enum Match {
    /// This text. Without capital letters in it, the case does not matter.
    Text(String),
    /// A match of this expression.
    Regex(regex::Regex),
    /// A field `name` whose value holds `value`: in a JSON line or as `name=value`.
    Field {
        /// Its name.
        name: String,
        /// Part of its value.
        value: String,
    },
}

impl Match {
    /// Reads what `--grep` takes: a regular expression between slashes, else a text.
    ///
    /// # Errors
    /// When the expression is wrong or too big.
    pub fn parse(pattern: &str) -> Result<Match, MatchError> {
        Ok(Match::Text(pattern.to_owned()))
    }
}

/// Which lines. The default passes everything and keeps the newest 1,000.
#[derive(Clone, Debug)]
pub struct LogFilter {
    /// Services or instances (`web` or `web.2`), all when empty.
    pub sources: Vec<String>,
    /// Services or instances left out.
    pub sources_not: Vec<String>,
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Every one of these must match.
    pub must: Vec<Match>,
    /// None of these may match.
    pub must_not: Vec<Match>,
    /// At least this bad; lines that say nothing about it do not pass.
    pub level_min: Option<Level>,
    /// Not before this moment.
    pub since: Option<UnixNanos>,
    /// Not after this moment.
    pub until: Option<UnixNanos>,
    /// The newest this many lines, 10,000 at most.
    pub limit: usize,
}

impl Default for LogFilter {
    fn default() -> LogFilter {
        LogFilter {
            sources: Vec::new(),
            sources_not: Vec::new(),
            stream: None,
            must: Vec::new(),
            must_not: Vec::new(),
            level_min: None,
            since: None,
            until: None,
            limit: 1000,
        }
    }
}
