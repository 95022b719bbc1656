//! The search grammar: `service:web level>=warn "timeout" -path:/healthz since:15m`. Pure.
//!
//! Words are separated by spaces and all must match; `-` before a word turns it round.
//!
//! | word | passes |
//! |---|---|
//! | `timeout`, `"read timeout"` | the text; without capitals the case does not matter |
//! | `/time(d )?out/` | the regular expression |
//! | `service:web`, `instance:web.2` | lines of these; several with commas or words |
//! | `stream:stderr` | one stream |
//! | `level>=warn`, `level:error` | at least, exactly this level |
//! | `since:15m`, `until:14:05` | a span of time, as `crate::when` reads it |
//! | `path:/healthz` | a field of a JSON or `key=value` line that holds the value |

use base::{InstanceId, Problem, ServiceName};

use crate::logs::{Level, LogFilter, Match, MatchError, Stream};
use crate::when::{self, Here};

/// A search has this many words at most.
const WORDS_MAX: usize = 64;

/// Reads a search.
///
/// # Errors
/// A problem that names the word, with the code `bad-search` or `bad-time`.
pub fn parse(text: &str, here: Here) -> Result<LogFilter, Problem> {
    let mut filter = LogFilter::default();
    for (count, word) in words(text)?.into_iter().enumerate() {
        if count == WORDS_MAX {
            return Err(bad(text, format!("it has more than {WORDS_MAX} words")));
        }
        apply(&mut filter, &word, here)?;
    }
    Ok(filter)
}

/// One word of a search, its quotes taken away.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    not: bool,
    /// `service` in `service:web`, with its operator.
    key: Option<(String, &'static str)>,
    value: String,
    expression: bool,
}

fn words(text: &str) -> Result<Vec<Word>, Problem> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let after = rest.strip_prefix('-').filter(|after| !after.starts_with([' ', '-']));
        let not = after.is_some_and(|after| !after.is_empty());
        let body = if not { &rest[1..] } else { rest };
        let (word, left) = word(body, not)?;
        found.push(word);
        rest = left.trim_start();
    }
    Ok(found)
}

/// The first word of `text` and what follows it.
fn word(text: &str, not: bool) -> Result<(Word, &str), Problem> {
    if let Some(rest) = text.strip_prefix('"') {
        let (value, left) = quoted(rest).ok_or_else(|| bad(text, "its quote is not closed"))?;
        return Ok((Word { not, key: None, value, expression: false }, left));
    }
    if let Some((value, left)) = text.strip_prefix('/').and_then(expression) {
        return Ok((Word { not, key: None, value, expression: true }, left));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    if let Some((name, operator)) = key(&text[..end]) {
        let from = name.len() + operator.len();
        let key = Some((name.to_owned(), operator));
        if let Some(rest) = text[from..].strip_prefix('"') {
            let (value, left) = quoted(rest).ok_or_else(|| bad(text, "its quote is not closed"))?;
            return Ok((Word { not, key, value, expression: false }, left));
        }
        let value = text[from..end].to_owned();
        return Ok((Word { not, key, value, expression: false }, &text[end..]));
    }
    Ok((Word { not, key: None, value: text[..end].to_owned(), expression: false }, &text[end..]))
}

/// The name and operator at the head of `service:web` or `level>=warn`.
fn key(word: &str) -> Option<(&str, &'static str)> {
    let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)))?;
    let (name, rest) = word.split_at(end);
    let operator = ["<=", ">=", ":"].into_iter().find(|each| rest.starts_with(each))?;
    let value = &rest[operator.len()..];
    // A URL, a clock time and a bare `error:` are texts.
    let text = value.is_empty() || value.starts_with("//");
    (name.starts_with(|c: char| c.is_ascii_alphabetic()) && !text).then_some((name, operator))
}

/// What stands before the closing quote, and what after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(c),
        }
    }
    None
}

/// An expression up to a slash that ends its word; `/healthz` alone is none.
fn expression(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        let left = &text[at + c.len_utf8()..];
        if c == '/' && !escaped && at > 0 && left.chars().next().is_none_or(char::is_whitespace) {
            return Some((text[..at].replace("\\/", "/"), left));
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn apply(filter: &mut LogFilter, word: &Word, here: Here) -> Result<(), Problem> {
    let value = word.value.as_str();
    let refuse = |why: &str| bad(&shown(word), why);
    let found = match &word.key {
        None if word.expression => Match::expression(value),
        None => Match::text(value),
        Some((name, operator)) => match (name.as_str(), *operator) {
            ("level", operator) => return level(filter, word, operator),
            ("service" | "instance", ":") => return source(filter, word, name),
            ("stream", ":") => {
                let stderr = match value {
                    "stdout" => false,
                    "stderr" => true,
                    _ => return Err(refuse("a stream is stdout or stderr")),
                };
                let stderr = stderr != word.not;
                filter.stream = Some(if stderr { Stream::Stderr } else { Stream::Stdout });
                return Ok(());
            }
            ("since" | "until", ":") if word.not => {
                return Err(refuse("a time cannot be turned round; use since: or until:"));
            }
            ("since", ":") => {
                filter.since = Some(when::parse(value, here)?);
                return Ok(());
            }
            ("until", ":") => {
                filter.until = Some(when::parse(value, here)?);
                return Ok(());
            }
            (_, ":") => Match::field(name, value),
            (name, operator) => Match::text(&format!("{name}{operator}{value}")),
        },
    };
    let found = found.map_err(|MatchError { why, .. }| bad(&shown(word), why))?;
    if word.not {
        filter.must_not.push(found)
    } else {
        filter.must.push(found)
    }
    Ok(())
}

fn level(filter: &mut LogFilter, word: &Word, operator: &str) -> Result<(), Problem> {
    let named = Level::named(&word.value);
    let level =
        named.ok_or_else(|| bad(&shown(word), "a level is trace, debug, info, warn or error"))?;
    if word.not {
        return Err(bad(&shown(word), "a level cannot be turned round; use level>= or level<="));
    }
    if operator != "<=" {
        filter.level_min = Some(level);
    }
    if operator != ">=" {
        filter.level_max = Some(level);
    }
    Ok(())
}

fn source(filter: &mut LogFilter, word: &Word, name: &str) -> Result<(), Problem> {
    for each in word.value.split(',') {
        let valid = match name {
            "service" => each.parse::<ServiceName>().map(drop),
            _ => each.parse::<InstanceId>().map(drop),
        };
        valid.map_err(|error| bad(&shown(word), error.to_string()))?;
        let list = if word.not { &mut filter.sources_not } else { &mut filter.sources };
        list.push(each.to_owned());
    }
    Ok(())
}

fn shown(word: &Word) -> String {
    let key = word.key.as_ref().map(|(name, operator)| format!("{name}{operator}"));
    let not = if word.not { "-" } else { "" };
    format!("{not}{}{}", key.unwrap_or_default(), word.value)
}

fn bad(word: &str, why: impl Into<String>) -> Problem {
    let word: String = word.chars().take(80).collect();
    Problem::new("bad-search", format!("cannot search for `{word}`"))
        .with_cause(why)
        .with_next("write it as in: service:web level>=warn \"timeout\" -path:/healthz since:15m")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::UnixNanos;
    use proptest::prelude::*;

    const HERE: Here = Here { now: UnixNanos(1_795_321_578_000_000_000), offset_seconds: 0 };

    fn read(text: &str) -> LogFilter {
        parse(text, HERE).unwrap()
    }

    #[test]
    fn reads_the_page_s_example() {
        let filter = read("service:web level>=warn \"timeout\" -path:/healthz since:15m");
        assert_eq!(filter.sources, ["web"]);
        assert_eq!(filter.level_min, Some(Level::Warn));
        assert_eq!(filter.level_max, None);
        assert_eq!(filter.since, Some(UnixNanos(HERE.now.0 - 900_000_000_000)));
        assert!(filter.passes(Stream::Stdout, "WARN read Timeout path=/api"));
        assert!(!filter.passes(Stream::Stdout, "WARN read timeout path=/healthz"));
        assert!(!filter.passes(Stream::Stdout, "INFO read timeout"));
    }

    #[test]
    fn every_kind_of_word() {
        let one = |text: &str, line: &str| read(text).passes(Stream::Stderr, line);
        assert!(one("two words", "words, two") && !one("two words", "two"));
        assert!(one("\"two words\"", "has two words") && !one("\"two words\"", "words two"));
        assert!(one(r#""a \"b\" \\c""#, r#"a "b" \c"#));
        assert!(one("/t[a-z]+t/ x", "text x") && one("/a b/", "a b") && !one("/a b/", "b a"));
        assert!(
            one("/healthz", "GET /healthz") && one("a/b", "a/b") && one("http://x", "http://x")
        );
        assert!(one("12:30", "at 12:30") && one("error:", "error: x") && one("- x", "- x"));
        assert!(!one("-gone", "Gone") && one("-gone", "here") && one("--", "a -- b"));
        assert!(one("stream:stderr", "") && !one("stream:stdout", "") && one("-stream:stdout", ""));
        assert!(one("level:warn", "WARN x") && !one("level:warn", "ERROR x"));
        assert!(one("level<=info", "INFO x") && !one("level<=info", "WARN x"));
        assert!(one("a>=3", "when a>=3"));
        assert!(one("msg:\"two words\"", "msg=\"two words\""));
        let many = read("service:web,db instance:api.2 -service:x limit");
        assert_eq!(many.sources, ["web", "db", "api.2"]);
        assert_eq!(many.sources_not, ["x"]);
        assert!(read("  ").must.is_empty());
        let until = read("until:\"2026-11-22 04:00\"").until;
        assert_eq!(until, Some(UnixNanos(1_795_320_000_000_000_000)));
    }

    #[test]
    fn says_which_word_is_wrong() {
        for (text, named) in [
            ("a \"b", "\"b"),
            ("x /a(b/", "a(b"),
            ("level>=loud", "level>=loud"),
            ("-level:warn", "-level:warn"),
            ("stream:up", "stream:up"),
            ("service:a b service:-", "service:-"),
            ("instance:web", "instance:web"),
            ("-since:5m", "-since:5m"),
            ("since:soon", "soon"),
            (&"x ".repeat(65), "x x"),
        ] {
            let problem = parse(text, HERE).expect_err(text);
            assert!(problem.message.contains(named), "{text}: {problem}");
            assert!(problem.cause.is_some() && problem.next.is_some());
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}", close in "[-\"/\\\\:a> =é]{0,30}") {
            let _ = parse(&text, HERE);
            let _ = parse(&close, HERE);
        }

        #[test]
        fn a_quoted_text_is_found_in_itself(text in "\\PC{1,20}") {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = read(&format!("\"{quoted}\""));
            prop_assert!(filter.passes(Stream::Stdout, &text));
        }
    }
}
