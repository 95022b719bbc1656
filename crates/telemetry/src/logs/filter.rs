//! Which lines pass. Pure.
//!
//! Not here: the grammar in which people write filters (`crate::query`).
//!
//! Invariants: a filter costs time in proportion to a line's length, whatever the pattern, because
//! expressions run without backtracking and in bounded memory.

use base::{InstanceId, UnixNanos};
use regex::{Regex, RegexBuilder};

use super::Stream;
use super::level::Level;

/// A pattern's length, in bytes, at most.
const PATTERN_BYTES_MAX: usize = 4096;
/// Memory of a compiled expression, at most.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` cannot be searched for: {why}")]
pub struct MatchError {
    /// What was given, cut to 80 characters.
    pub pattern: String,
    /// Why not.
    pub why: String,
}

/// What a line's text must hold.
#[derive(Clone, Debug)]
pub enum Match {
    /// A text or an expression, found anywhere in the line.
    Regex(Regex),
    /// A field whose value holds a text: in a JSON line, as `name=value` or as `name:value`.
    Field(FieldMatch),
}

/// A field by name, and part of its value.
#[derive(Clone, Debug)]
pub struct FieldMatch {
    name: String,
    value: String,
    plain: Regex,
}

impl Match {
    /// Reads what `--grep` takes: a regular expression between slashes, else a text.
    ///
    /// # Errors
    /// When the expression is wrong or too big.
    pub fn parse(pattern: &str) -> Result<Match, MatchError> {
        match pattern.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(expression) if !expression.is_empty() => Match::expression(expression),
            _ => Match::text(pattern),
        }
    }

    /// A text, taken as it is. Without capital letters in it, the case does not matter.
    ///
    /// # Errors
    /// When it is too long.
    pub fn text(text: &str) -> Result<Match, MatchError> {
        let any_case = !text.chars().any(char::is_uppercase);
        Ok(Match::Regex(compile(text, &regex::escape(text), any_case)?))
    }

    /// A regular expression.
    ///
    /// # Errors
    /// When it is wrong or too big.
    pub fn expression(expression: &str) -> Result<Match, MatchError> {
        Ok(Match::Regex(compile(expression, expression, false)?))
    }

    /// A field `name` whose value holds `value`.
    ///
    /// # Errors
    /// When they are too long.
    pub fn field(name: &str, value: &str) -> Result<Match, MatchError> {
        let (n, v) = (regex::escape(name), regex::escape(value));
        // An unquoted value ends at a space, a quoted one at its quote.
        let plain = format!(r#"(?:^|[^\w.-]){n}[=:](?:"[^"]*{v}|[^"\s]*{v}|{v})"#);
        let plain = compile(&format!("{name}:{value}"), &plain, false)?;
        Ok(Match::Field(FieldMatch { name: name.to_owned(), value: value.to_owned(), plain }))
    }

    /// Whether a line's text matches.
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Match::Regex(regex) => regex.is_match(text),
            Match::Field(field) => field.is_match(text),
        }
    }
}

impl FieldMatch {
    fn is_match(&self, text: &str) -> bool {
        self.plain.is_match(text) || self.in_json(text)
    }

    fn in_json(&self, text: &str) -> bool {
        use serde_json::Value;
        if !text.starts_with('{') || memchr::memmem::find(text.as_bytes(), self.last()).is_none() {
            return false;
        }
        let Ok(line) = serde_json::from_str::<Value>(text) else { return false };
        let direct = line.get(&self.name);
        let found = direct.or_else(|| self.name.split('.').try_fold(&line, |at, key| at.get(key)));
        match found {
            Some(Value::String(value)) => value.contains(&self.value),
            Some(Value::Number(value)) => value.to_string() == self.value,
            Some(Value::Bool(value)) => self.value.parse() == Ok(*value),
            _ => false,
        }
    }

    /// The last key of a dotted name, which the line's text must hold.
    fn last(&self) -> &[u8] {
        self.name.rsplit('.').next().unwrap_or(&self.name).as_bytes()
    }
}

fn compile(shown: &str, expression: &str, any_case: bool) -> Result<Regex, MatchError> {
    let refuse = |why: String| MatchError { pattern: shown.chars().take(80).collect(), why };
    if shown.len() > PATTERN_BYTES_MAX {
        return Err(refuse(format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
    }
    let mut builder = RegexBuilder::new(expression);
    builder.case_insensitive(any_case).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX);
    builder.nest_limit(64).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => refuse("it needs more than 1 MiB once compiled".into()),
        // The expression's own message draws the place over several lines; the last one says why.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            refuse(last.trim_start_matches("error: ").to_owned())
        }
    })
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
    /// At most this bad; lines that say nothing about it do not pass.
    pub level_max: Option<Level>,
    /// Not before this moment.
    pub since: Option<UnixNanos>,
    /// Not after this moment.
    pub until: Option<UnixNanos>,
    /// The newest this many lines; more than 10,000 count as 10,000.
    pub limit: usize,
    /// That many of those that pass, the newest, are left out of a search before the limit counts.
    /// Lines have one order, also those of one moment: with `until`, this is where a page goes on.
    pub skip: usize,
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
            level_max: None,
            since: None,
            until: None,
            limit: 1000,
            skip: 0,
        }
    }
}

impl LogFilter {
    /// Whether lines of this instance can pass.
    pub fn wants(&self, instance: &InstanceId) -> bool {
        let name = instance.to_string();
        let is = |source: &String| *source == name || source == instance.service().as_str();
        (self.sources.is_empty() || self.sources.iter().any(is)) && !self.sources_not.iter().any(is)
    }

    /// Whether a line with this stream and text passes; its source and time are not looked at.
    pub fn passes(&self, stream: Stream, text: &str) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
            && self.must.iter().all(|each| each.is_match(text))
            && !self.must_not.iter().any(|each| each.is_match(text))
            && self.level_passes(text)
    }

    fn level_passes(&self, text: &str) -> bool {
        if self.level_min.is_none() && self.level_max.is_none() {
            return true;
        }
        Level::of(text).is_some_and(|level| {
            self.level_min.is_none_or(|min| level >= min)
                && self.level_max.is_none_or(|max| level <= max)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, text: &str) -> bool {
        Match::parse(pattern).unwrap().is_match(text)
    }

    #[test]
    fn texts_without_capitals_ignore_case() {
        assert!(hit("timeout", "Read Timeout on 3"));
        assert!(!hit("Timeout", "read timeout"));
        assert!(hit("a.b(", "x A.B( y") && !hit("a.b", "axb"));
        assert!(hit("/", "a/b") && hit("/healthz", "GET /healthz") && hit("//", "http://x"));
    }

    #[test]
    fn expressions_stand_between_slashes() {
        assert!(hit("/t[io]+me/", "a tioime") && !hit("/^time/", "a time"));
        let error = Match::parse("/a(b/").unwrap_err();
        assert!(error.to_string().contains("a(b") && error.why.contains("unclosed"), "{error}");
    }

    #[test]
    fn bombs_are_refused_or_stay_linear() {
        for bomb in ["/(a{1000}){1000}/", "/\\w{5000}{50}/"] {
            assert!(Match::parse(bomb).is_err(), "{bomb}");
        }
        assert!(Match::parse(&"x".repeat(5000)).is_err());
        assert!(Match::parse(&format!("/{}a{}/", "(".repeat(500), ")".repeat(500))).is_err());
        // Catastrophic where an engine backtracks.
        assert!(!hit("/^(a+)+$/", &format!("{}b", "a".repeat(100_000))));
    }

    #[test]
    fn fields_in_json_and_logfmt() {
        let field = |name, value, text| Match::field(name, value).unwrap().is_match(text);
        assert!(field("path", "/healthz", r#"{"path":"/healthz/live","x":1}"#));
        assert!(field("path", "/healthz", r"t=1 path=/healthz code=200"));
        assert!(field("msg", "two words", r#"msg="has two words" path=/"#));
        assert!(field("user.name", "ann", r#"{"user":{"name":"ann"}}"#));
        assert!(field("code", "20", "code=200") && !field("code", "20", r#"{"code":200}"#));
        assert!(field("code", "200", r#"{"code":200}"#));
        assert!(field("std", ":io", "use std::io"));
        assert!(!field("path", "/healthz", "xpath=/healthz") && !field("a", "c", "a=b c"));
    }

    #[test]
    fn sources_are_services_or_instances() {
        let filter = LogFilter {
            sources: vec!["web".into(), "db.2".into()],
            sources_not: vec!["web.3".into()],
            ..LogFilter::default()
        };
        let wants = |id: &str| filter.wants(&id.parse().unwrap());
        assert!(wants("web.1") && wants("db.2"));
        assert!(!wants("db.1") && !wants("web.3") && !wants("web2.1"));
    }
}
