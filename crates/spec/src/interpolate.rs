//! `${…}` in the values of a file, in all of Compose's forms.
//!
//! Not here: where variables come from. A branch that is not taken is not evaluated, so an error
//! in an unused default is none.

const DEPTH_MAX: usize = 32;
const OUTPUT_MAX: usize = 1 << 20;

/// Why a text could not be interpolated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InterpolateError {
    /// A `$` that begins nothing.
    Syntax(String),
    /// `${name:?message}` of a variable without a value.
    Required { name: String, message: String },
    /// Nested too deeply, or the outcome is too long.
    Bound(&'static str),
}

/// The text with its variables filled in. `unset` collects those that had no value and no
/// default; they become empty.
pub(crate) fn interpolate(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, InterpolateError> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    expand(text, lookup, unset, 0, &mut out)?;
    Ok(out)
}

fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
    out: &mut String,
) -> Result<(), InterpolateError> {
    if depth > DEPTH_MAX {
        return Err(InterpolateError::Bound("variables are nested deeper than 32 levels"));
    }
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        push(out, &rest[..dollar])?;
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            push(out, "$")?;
            rest = tail;
        } else if let Some(inner) = after.strip_prefix('{') {
            let bad = || InterpolateError::Syntax(excerpt(&rest[dollar..]));
            let end = closing(inner).ok_or_else(bad)?;
            let name_len = name_length(inner);
            if name_len == 0 || name_len > end {
                return Err(bad());
            }
            braced(&inner[..name_len], &inner[name_len..end], lookup, unset, depth, out)
                .map_err(|e| e.unwrap_or_else(bad))?;
            rest = &inner[end + 1..];
        } else {
            let name_len = name_length(after);
            if name_len == 0 {
                return Err(InterpolateError::Syntax(excerpt(&rest[dollar..])));
            }
            plain(&after[..name_len], lookup, unset, out)?;
            rest = &after[name_len..];
        }
    }
    push(out, rest)
}

/// `name` with the operator and word that follow it. The error `None` means bad syntax.
fn braced(
    name: &str,
    operation: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
    out: &mut String,
) -> Result<(), Option<InterpolateError>> {
    if operation.is_empty() {
        return plain(name, lookup, unset, out).map_err(Some);
    }
    let (empty_counts_as_unset, operation) = match operation.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, operation),
    };
    let value = lookup(name).filter(|v| !(empty_counts_as_unset && v.is_empty()));
    let Some(operator) = operation.chars().next() else { return Err(None) };
    let word = &operation[operator.len_utf8()..];
    match (operator, value) {
        ('-' | '?', Some(value)) => push(out, &value).map_err(Some),
        ('-', None) | ('+', Some(_)) => expand(word, lookup, unset, depth + 1, out).map_err(Some),
        ('+', None) => Ok(()),
        ('?', None) => {
            let mut message = String::new();
            expand(word, lookup, unset, depth + 1, &mut message).map_err(Some)?;
            Err(Some(InterpolateError::Required { name: name.to_owned(), message }))
        }
        _ => Err(None),
    }
}

fn plain(
    name: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    out: &mut String,
) -> Result<(), InterpolateError> {
    match lookup(name) {
        Some(value) => push(out, &value),
        None => {
            if !unset.iter().any(|u| u == name) {
                unset.push(name.to_owned());
            }
            Ok(())
        }
    }
}

fn push(out: &mut String, text: &str) -> Result<(), InterpolateError> {
    if out.len() + text.len() > OUTPUT_MAX {
        return Err(InterpolateError::Bound("the value is longer than 1 MiB once filled in"));
    }
    out.push_str(text);
    Ok(())
}

fn name_length(text: &str) -> usize {
    let mut bytes = text.bytes();
    if !bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') {
        return 0;
    }
    1 + bytes.take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
}

/// Where the brace that is open before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1usize;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(i);
        }
    }
    None
}

fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        let known = [("A", "a"), ("EMPTY", ""), ("N_1", "one"), ("P", "8080")];
        known.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned())
    }

    fn run(text: &str) -> Result<String, InterpolateError> {
        interpolate(text, &env, &mut Vec::new())
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$A", "a"),
            ("${A}", "a"),
            ("x$A/y${N_1}z", "xa/yonez"),
            ("$$A", "$A"),
            ("$$$A", "$a"),
            ("$$$$", "$$"),
            ("$NONE.", "."),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:-d}", "a"),
            ("${A:+r}", "r"),
            ("${EMPTY:+r}", ""),
            ("${EMPTY+r}", "r"),
            ("${NONE+r}", ""),
            ("${A:?no}", "a"),
            ("${EMPTY?no}", ""),
            ("${NONE:-${EMPTY:-${A}}}", "a"),
            ("${NONE:-x${A}y}", "xay"),
            ("${NONE:-{\"k\":{}}}", "{\"k\":{}}"),
            ("${A:-${NONE:?unused}}", "a"),
            ("${NONE:-}", ""),
            ("${NONE:-a:b-c}", "a:b-c"),
            ("${NONE-:}", ":"),
            ("${P:-80}:80", "8080:80"),
            ("ä$A€", "äa€"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for text in ["$", "a$", "$1", "$(x)", "${", "${}", "${A", "${1A}", "${A!x}", "${A:}", "$ä"]
        {
            assert!(matches!(run(text), Err(InterpolateError::Syntax(_))), "{text}");
        }
        let required = |message: &str| {
            Err(InterpolateError::Required { name: "NONE".into(), message: message.into() })
        };
        assert_eq!(run("${NONE:?set it}"), required("set it"));
        assert_eq!(run("${NONE?}"), required(""));
        assert_eq!(run("${NONE:?see ${A}}"), required("see a"));
        let deep = "${X:-".repeat(100) + &"}".repeat(100);
        assert!(matches!(run(&deep), Err(InterpolateError::Bound(_))));
    }

    #[test]
    fn unset_is_told_once_and_only_when_nothing_else_was_said() {
        let mut unset = Vec::new();
        interpolate("$X${X}${Y:-}${Z-a}$A", &env, &mut unset).unwrap();
        assert_eq!(unset, ["X"]);
    }

    proptest! {
        #[test]
        fn text_without_dollars_stays(text in "[^$]*") {
            prop_assert_eq!(run(&text), Ok(text));
        }

        #[test]
        fn escaped_text_comes_back(text in any::<String>()) {
            prop_assert_eq!(run(&text.replace('$', "$$")), Ok(text));
        }

        #[test]
        fn never_panics(text in "[$A{}:?+ä-]{0,40}") {
            let _ = run(&text);
        }

        #[test]
        fn a_default_is_what_a_set_variable_would_be(word in "[a-z0-9 ./:-]{0,20}") {
            let text = format!("<${{NONE:-{word}}}>");
            prop_assert_eq!(run(&text), Ok(format!("<{word}>")));
        }
    }
}
