//! What a plain scalar means where Compose wants a text: numbers lose their spelling.
//!
//! `VERSION: 1.10` is the number 1.1 in YAML, and Compose passes on `1.1`; so do we, because the
//! same file must give the same environment. Quoted values and interpolated ones stay.

use crate::tree::Scalar;

impl Scalar {
    /// The text that Compose passes on.
    pub(crate) fn shown(&self) -> String {
        match self.plain {
            true => canonical(&self.text).unwrap_or_else(|| self.text.clone()),
            false => self.text.clone(),
        }
    }
}

/// The canonical text of a boolean or number, `None` when it is neither.
fn canonical(text: &str) -> Option<String> {
    match text {
        "true" | "True" | "TRUE" => return Some("true".to_owned()),
        "false" | "False" | "FALSE" => return Some("false".to_owned()),
        _ => {}
    }
    let first = text.trim_start_matches(['+', '-']).chars().next()?;
    if !(first.is_ascii_digit() || first == '.') {
        return None;
    }
    integer(text).or_else(|| float(text))
}

fn integer(text: &str) -> Option<String> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let digits = digits.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(_) if lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    let sign = if negative && value != 0 { "-" } else { "" };
    Some(format!("{sign}{value}"))
}

fn float(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    let shape = |c: char| c.is_ascii_digit() || ".eE+-".contains(c);
    if !plain.chars().all(shape) || !plain.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value: f64 = plain.parse().ok().filter(|v: &f64| v.is_finite())?;
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return Some(format!("{mantissa}e{sign}{digits:0>2}"));
    }
    Some(format!("{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_compose_passes_them_on() {
        for (written, passed) in [
            ("8080", "8080"),
            ("1.10", "1.1"),
            ("1.0", "1"),
            ("010", "8"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("1_000", "1000"),
            ("-5", "-5"),
            ("+5", "5"),
            ("1e3", "1000"),
            ("1e21", "1e+21"),
            ("0.00001", "1e-05"),
            (".5", "0.5"),
            ("TRUE", "true"),
            ("False", "false"),
            ("yes", "yes"),
            ("1.2.3", "1.2.3"),
            ("09", "9"),
            ("0", "0"),
            ("12h", "12h"),
            ("2020-01-01", "2020-01-01"),
            ("a", "a"),
            ("-", "-"),
            ("1000000.0", "1e+06"),
            ("18446744073709551616", "1.8446744073709552e+19"),
        ] {
            let scalar = Scalar { text: written.to_owned(), plain: true, literal: true };
            assert_eq!(scalar.shown(), passed, "{written}");
        }
    }
}
