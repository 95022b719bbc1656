//! How bad a line says it is: a guess from its text. Pure.
//!
//! Looked for in this order: a JSON or `key=value` field `level`, `lvl` or `severity`; a word at
//! the head of the line that is in capitals, or is followed by `:` or `]`.

/// How far into a plain line its level is looked for, in bytes.
const HEAD_BYTES: usize = 120;

/// How bad a line says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `trace`.
    Trace,
    /// `debug`.
    Debug,
    /// `info`, `notice`.
    Info,
    /// `warn`, `warning`.
    Warn,
    /// `error`, `err`, `fatal`, `panic`, `critical`, `severe`, `alert`, `emergency`.
    Error,
}

impl Level {
    /// Reads a level's name, in any case.
    pub fn named(name: &str) -> Option<Level> {
        const NAMES: [(&str, Level); 18] = [
            ("trace", Level::Trace),
            ("debug", Level::Debug),
            ("dbg", Level::Debug),
            ("info", Level::Info),
            ("inf", Level::Info),
            ("notice", Level::Info),
            ("warn", Level::Warn),
            ("warning", Level::Warn),
            ("wrn", Level::Warn),
            ("error", Level::Error),
            ("err", Level::Error),
            ("fatal", Level::Error),
            ("panic", Level::Error),
            ("critical", Level::Error),
            ("crit", Level::Error),
            ("severe", Level::Error),
            ("alert", Level::Error),
            ("emergency", Level::Error),
        ];
        NAMES.iter().find(|(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
    }

    /// The level that a line's text gives, if it gives one.
    pub fn of(text: &str) -> Option<Level> {
        Level::of_field(text).or_else(|| Level::of_word(text))
    }

    fn of_field(text: &str) -> Option<Level> {
        ["level", "lvl", "severity"].iter().find_map(|name| {
            let at = memchr::memmem::find(text.as_bytes(), name.as_bytes())?;
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                return None;
            }
            let rest = text[at + name.len()..].trim_start_matches(['"', ' ']);
            let rest = rest.strip_prefix([':', '='])?.trim_start_matches(['"', ' ']);
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            Level::named(&rest[..end]).or_else(|| Level::numbered(&rest[..end]))
        })
    }

    /// The numbers that pino and bunyan write.
    fn numbered(number: &str) -> Option<Level> {
        Some(match number {
            "10" => Level::Trace,
            "20" => Level::Debug,
            "30" => Level::Info,
            "40" => Level::Warn,
            "50" | "60" => Level::Error,
            _ => return None,
        })
    }

    fn of_word(text: &str) -> Option<Level> {
        let end = text.floor_char_boundary(HEAD_BYTES);
        let mut rest = &text[..end];
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            rest = &rest[start..];
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let word = &rest[..end];
            rest = &rest[end..];
            let loud = word.len() > 2 && word.bytes().all(|b| b.is_ascii_uppercase());
            if (loud || rest.starts_with([':', ']']))
                && let Some(level) = Level::named(word)
            {
                return Some(level);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_level() {
        for (text, level) in [
            (r#"{"ts":1,"level":"warn","msg":"x"}"#, Some(Level::Warn)),
            (r#"{"severity": "ERROR"}"#, Some(Level::Error)),
            (r#"{"level":40,"msg":"an ERROR"}"#, Some(Level::Warn)),
            ("time=now lvl=debug msg=hi", Some(Level::Debug)),
            ("2026-11-22 04:26:18,123 ERROR [main] boom", Some(Level::Error)),
            ("[info] started", Some(Level::Info)),
            ("warning: unused", Some(Level::Warn)),
            ("WARNING:root:hello", Some(Level::Warn)),
            ("no error found here", None),
            ("levels=warn", None),
            ("", None),
        ] {
            assert_eq!(Level::of(text), level, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}", tail in "(level|lvl|ERR| |:|=|\"|é){0,20}") {
            let _ = Level::of(&text);
            let _ = Level::of(&tail);
        }
    }
}
