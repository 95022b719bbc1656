//! The subject of a certificate as text, in the form of RFC 2253 that Java gives too.
//!
//! Not here: whether the certificate is any good, which the handshake decided. Any bytes give an
//! answer or none.

use std::fmt::{self, Write};

/// A distinguished name such as `CN=alice,O=Example`, the most special part first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    /// The subject of a certificate (DER); `None` when the bytes are no certificate.
    pub fn of(certificate: &[u8]) -> Option<Subject> {
        let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
        let (SEQUENCE, mut rest, _) = element(certificate)? else { return None };
        if let (VERSION, _, after) = element(rest)? {
            rest = after;
        }
        // Serial number, algorithm, issuer, validity.
        for _ in 0..4 {
            (_, _, rest) = element(rest)?;
        }
        let (SEQUENCE, mut names, _) = element(rest)? else { return None };
        let mut parts = Vec::new();
        while !names.is_empty() {
            let (SET, mut set, after) = element(names)? else { return None };
            let mut together = Vec::new();
            while !set.is_empty() {
                let (SEQUENCE, pair, after) = element(set)? else { return None };
                let (OID, kind, value) = element(pair)? else { return None };
                together.push(part(kind, value)?);
                set = after;
            }
            parts.push(together.join("+"));
            names = after;
        }
        parts.reverse();
        Some(Subject(parts.join(",")))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Splits the first element off: tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            let value = digits.iter().fold(0u64, |value, digit| value << 8 | u64::from(*digit));
            (usize::try_from(value).ok()?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// One attribute; `value` is a whole element.
fn part(kind: &[u8], value: &[u8]) -> Option<String> {
    let (tag, content, _) = element(value)?;
    let text = match tag {
        // UTF8String, PrintableString, IA5String; T61String is mostly Latin 1.
        0x0c | 0x13 | 0x16 => String::from_utf8(content.to_vec()).ok(),
        0x14 => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString, UniversalString.
        0x1e => {
            let units: Vec<u16> = content
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    };
    let known = match kind {
        [0x55, 4, 3] => Some("CN"),
        [0x55, 4, 6] => Some("C"),
        [0x55, 4, 7] => Some("L"),
        [0x55, 4, 8] => Some("ST"),
        [0x55, 4, 9] => Some("STREET"),
        [0x55, 4, 10] => Some("O"),
        [0x55, 4, 11] => Some("OU"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => Some("UID"),
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => Some("DC"),
        _ => None,
    };
    if let (Some(known), Some(text)) = (known, text) {
        return Some(format!("{known}={}", escaped(&text)));
    }
    let mut said = known.map_or_else(|| dotted(kind), |known| Some(known.to_owned()))?;
    said.push_str("=#");
    for byte in value {
        let _ = write!(said, "{byte:02x}");
    }
    Some(said)
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut said = String::with_capacity(text.len());
    for (at, letter) in text.chars().enumerate() {
        let special = matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let at_an_end = letter == ' ' && (at == 0 || at == last) || letter == '#' && at == 0;
        if special || at_an_end {
            said.push('\\');
        }
        said.push(letter);
    }
    said
}

/// An object identifier in digits and dots.
fn dotted(kind: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number: u64 = 0;
    for byte in kind {
        number = number.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let (first, rest) = numbers.split_first()?;
    let root = (*first / 40).min(2);
    let mut said = format!("{root}.{}", first - root * 40);
    for number in rest {
        let _ = write!(said, ".{number}");
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_letters_are_escaped_and_others_are_not() {
        assert_eq!(escaped("a,b"), "a\\,b");
        assert_eq!(escaped(" #a "), "\\ #a\\ ");
        assert_eq!(escaped("#a b#"), "\\#a b#");
    }

    #[test]
    fn identifiers_are_numbers() {
        let email = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
        assert_eq!(dotted(&email).as_deref(), Some("1.2.840.113549.1.9.1"));
        let value = [0x16, 1, b'a'];
        assert_eq!(part(&email, &value).as_deref(), Some("1.2.840.113549.1.9.1=#160161"));
        assert_eq!(part(&[0x55, 4, 3], &value).as_deref(), Some("CN=a"));
    }

    #[test]
    fn lengths_that_lie_give_none() {
        assert!(element(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).is_none());
        assert!(element(&[SEQUENCE, 0x80]).is_none());
        assert!(Subject::of(&[SEQUENCE, 2, SEQUENCE, 0]).is_none());
        assert!(Subject::of(&[]).is_none());
    }
}
