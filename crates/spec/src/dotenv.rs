//! Environment files: `.env`, `--env-file` and `env_file`.
//!
//! Not here: which of them win. Quoting, comments, `export`, values over several lines and
//! interpolation follow Compose; `raw` files are `KEY=value` to the end of the line.

use std::collections::BTreeMap;

use crate::interpolate::{InterpolateError, interpolate};

/// Reading ends after so many bad lines.
const BAD_MAX: usize = 20;
const VALUES_BYTES_MAX: usize = 4 << 20;

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// Reads an environment file. `lookup` is the environment around it, which wins when a value
/// refers to a variable. Variables that had no value go into `unset`.
pub(crate) fn parse(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, Vec<BadLine>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut values = BTreeMap::new();
    let mut bad = Vec::new();
    let mut rest = text.as_str();
    let mut line = 1;
    let mut size = 0;
    while !rest.is_empty() {
        let start = line;
        let before = rest;
        match entry(&mut rest, lookup, &values, unset) {
            Ok(Some((key, value))) => {
                size += value.len();
                values.insert(key, value);
                if size > VALUES_BYTES_MAX {
                    let what = "all values together are longer than 4 MiB".to_owned();
                    return Err(vec![BadLine { line: start, what }]);
                }
            }
            Ok(None) => {}
            Err(what) => {
                bad.push(BadLine { line: start, what });
                if bad.len() >= BAD_MAX {
                    return Err(bad);
                }
                // Read on at the next line, so that every bad line is told.
                rest = before.split_once('\n').map_or("", |(_, tail)| tail);
            }
        }
        line += before[..before.len() - rest.len()].matches('\n').count();
    }
    if bad.is_empty() { Ok(values) } else { Err(bad) }
}

/// Reads a file of the `raw` format: no quotes, no comments after values, no interpolation.
pub(crate) fn parse_raw(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    let pairs = lines.filter_map(|l| l.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.to_owned())).collect()
}

/// Takes one entry, a comment or an empty line off the front of `rest`.
fn entry(
    rest: &mut &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    earlier: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
) -> Result<Option<(String, String)>, String> {
    let (first, tail) = rest.split_once('\n').unwrap_or((rest, ""));
    let trimmed = first.trim_start();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        *rest = tail;
        return Ok(None);
    }
    let after_export = match trimmed.strip_prefix("export") {
        Some(word) if word.starts_with([' ', '\t']) => word.trim_start(),
        _ => trimmed,
    };
    let key_len = after_export
        .find(|c: char| !(c.is_ascii_alphanumeric() || "_.-[]".contains(c)))
        .unwrap_or(after_export.len());
    let key = &after_export[..key_len];
    if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`{}` is not KEY=value", first.trim()));
    }
    let behind = after_export[key_len..].trim_start();
    let find = |name: &str| lookup(name).or_else(|| earlier.get(name).cloned());
    let Some(value) = behind.strip_prefix(['=', ':']) else {
        *rest = tail;
        return match behind {
            "" => Ok(lookup(key).map(|value| (key.to_owned(), value))),
            _ if behind.starts_with('#') => Ok(None),
            _ => Err(format!("`=` is missing behind `{key}`")),
        };
    };
    let value = value.trim_start_matches([' ', '\t']);
    let value_start = first.len() - value.len();
    let (text, used) = match value.chars().next() {
        Some('\'') => {
            let (text, used) = quoted(&rest[value_start..], '\'')
                .ok_or_else(|| format!("the quote behind `{key}` does not end"))?;
            (text, used)
        }
        Some('"') => {
            let (raw, used) = quoted(&rest[value_start..], '"')
                .ok_or_else(|| format!("the quote behind `{key}` does not end"))?;
            (fill(&raw, &find, unset, key)?, used)
        }
        _ => {
            let end = comment_start(value).unwrap_or(value.len());
            (fill(value[..end].trim_end(), &find, unset, key)?, value.len())
        }
    };
    let behind = &rest[value_start + used..];
    let (junk, tail) = behind.split_once('\n').unwrap_or((behind, ""));
    if !junk.trim().is_empty() && !junk.trim_start().starts_with('#') {
        return Err(format!("something stands behind the quoted value of `{key}`"));
    }
    *rest = tail;
    Ok(Some((key.to_owned(), text)))
}

/// What stands between the quotes, and how many bytes they and it take. Escapes are resolved in
/// double quotes, where an escaped `$` stays one through interpolation.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            c if c == quote => return Some((out, i + c.len_utf8())),
            '\\' if quote == '\'' => match text[i + 1..].starts_with('\'') {
                true => {
                    chars.next();
                    out.push('\'');
                }
                false => out.push('\\'),
            },
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                '$' => out.push_str("$$"),
                c @ ('"' | '\\') => out.push(c),
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
    None
}

fn comment_start(value: &str) -> Option<usize> {
    if value.starts_with('#') {
        return Some(0);
    }
    value.find(" #").or_else(|| value.find("\t#"))
}

fn fill(
    text: &str,
    find: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    key: &str,
) -> Result<String, String> {
    interpolate(text, find, unset).map_err(|error| match error {
        InterpolateError::Syntax(near) => {
            format!("`{near}` behind `{key}` is not a variable; single quotes keep a `$`")
        }
        InterpolateError::Required { name, message } if message.is_empty() => {
            format!("`{name}`, which `{key}` needs, is not set")
        }
        InterpolateError::Required { name, message } => {
            format!("`{name}`, which `{key}` needs, is not set: {message}")
        }
        InterpolateError::Bound(why) => format!("`{key}`: {why}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "SHELL_VAR").then(|| "outer".to_owned())
    }

    fn run(text: &str) -> Result<Vec<(String, String)>, Vec<BadLine>> {
        parse(text, &lookup, &mut Vec::new()).map(|m| m.into_iter().collect())
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("A=1", "1"),
            ("A = 1 ", "1"),
            ("A: 1", "1"),
            ("export A=1", "1"),
            ("# c\n\nA=1 # c", "1"),
            ("A=1#2", "1#2"),
            ("A=", ""),
            ("A=#c", ""),
            ("A=a b c", "a b c"),
            ("A='a $B # c'", "a $B # c"),
            ("A='it\\'s'", "it's"),
            ("A=\"a\\n\\\"b\\\" \\$X\"", "a\n\"b\" $X"),
            ("A=\"one\ntwo\" # c", "one\ntwo"),
            ("A='one\ntwo'", "one\ntwo"),
            ("A=\"-----BEGIN\nKEY=x\n-----END\"\n", "-----BEGIN\nKEY=x\n-----END"),
            ("A=$SHELL_VAR/x", "outer/x"),
            ("A=${NONE:-d}", "d"),
            ("A=\"${SHELL_VAR}\"", "outer"),
            ("A=1\r\n", "1"),
            ("\u{feff}A=1", "1"),
            ("A=1\nA=2", "2"),
            ("A=a=b", "a=b"),
        ] {
            assert_eq!(run(text), Ok(vec![("A".to_owned(), expected.to_owned())]), "{text:?}");
        }
        let two = run("A=1\nB=${A}2").unwrap();
        assert_eq!(two[1].1, "12");
        assert_eq!(run("SHELL_VAR\nNONE").unwrap(), [("SHELL_VAR".into(), "outer".into())]);
    }

    #[test]
    fn bad_lines_are_all_told_with_their_numbers() {
        let bad = run("A=1\n=x\nB=2\nC='open\n\nD x\nE=$1").unwrap_err();
        let lines: Vec<usize> = bad.iter().map(|b| b.line).collect();
        assert_eq!(lines, [2, 4, 6, 7]);
        assert!(run("A='x' y").is_err());
    }

    #[test]
    fn raw_keeps_everything() {
        let raw = parse_raw("A='x' # y\n#B=1\nC=$D\nnothing");
        assert_eq!(raw["A"], "'x' # y");
        assert_eq!(raw["C"], "$D");
        assert_eq!(raw.len(), 2);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[A-C=:'\"\\\\ #$\\{\\}\n\r\tä-]{0,60}") {
            let _ = run(&text);
        }

        #[test]
        fn single_quotes_keep_a_value(value in "[^'\\\\\r]{0,40}") {
            let read = run(&format!("K='{value}'\nL=2")).unwrap();
            prop_assert_eq!(&read[0].1, &value);
            prop_assert_eq!(&read[1].1, "2");
        }
    }
}
