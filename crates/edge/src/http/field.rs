//! Field lines (`Name: value`), and the character classes of RFC 9110.

use super::Refusal;

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;

/// What each byte may be part of.
static CLASS: [u8; 256] = {
    let mut class = [0u8; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        let alnum = byte.is_ascii_alphanumeric();
        if alnum || is_one_of(byte, b"!#$%&'*+-.^_`|~") {
            class[at] |= TOKEN;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            class[at] |= VALUE;
        }
        if byte > b' ' && byte != 0x7f && byte != b'#' {
            class[at] |= TARGET;
        }
        if alnum || is_one_of(byte, b"-._~%!$&'()*+,;=:[]") {
            class[at] |= HOST;
        }
        at += 1;
    }
    class
};

const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

pub(super) fn is_token(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

pub(super) fn is_value(byte: u8) -> bool {
    CLASS[usize::from(byte)] & VALUE != 0
}

pub(super) fn is_target(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TARGET != 0
}

pub(super) fn is_host(byte: u8) -> bool {
    CLASS[usize::from(byte)] & HOST != 0
}

/// A span of a head. Heads are at most 16 KiB, so 16 bits are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Span {
        let short = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        Span { start: short(start), end: short(end) }
    }

    pub(crate) fn of(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// What a field means to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing: it is passed on.
    Other,
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Connection`.
    Connection,
    /// `Upgrade`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// `Keep-Alive`.
    KeepAlive,
    /// Other fields of one hop: never passed on.
    OneHop,
    /// `X-Forwarded-…`, `Forwarded` and `X-Real-IP`.
    Forwarded,
}

/// One field line of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// The whole line with its CRLF.
    pub(crate) line: Span,
    /// Its name.
    pub(crate) name: Span,
    /// Its value without the blanks around it.
    pub(crate) value: Span,
    /// What it means.
    pub(crate) meaning: Meaning,
}

/// The members of a comma-separated list without blanks; empty members are left out.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Reads the field lines of `head` from `at` to the empty line that ends it.
pub(super) fn fields(
    head: &[u8],
    mut at: usize,
    fields_max: usize,
    fields: &mut Vec<Field>,
) -> Result<(), Refusal> {
    fields.clear();
    loop {
        match head.get(at..) {
            Some([b'\r', b'\n', ..]) => return Ok(()),
            Some([b' ' | b'\t', ..]) => return Err(Refusal::ObsFold),
            _ if fields.len() == fields_max => return Err(Refusal::TooManyFields),
            _ => {}
        }
        let field = field(head, at)?;
        at = usize::from(field.line.end);
        fields.push(field);
    }
}

/// Reads the line at `start`, each byte once.
fn field(head: &[u8], start: usize) -> Result<Field, Refusal> {
    let line = head.get(start..).unwrap_or_default();
    let colon = line.iter().position(|&byte| !is_token(byte)).ok_or(Refusal::FieldName)?;
    if colon == 0 || line[colon] != b':' {
        return Err(Refusal::FieldName);
    }
    let value = &line[colon + 1..];
    let len = value_len(value).ok_or(Refusal::FieldValue)?;
    if !value[len..].starts_with(b"\r\n") {
        return Err(Refusal::FieldValue);
    }
    let raw = &value[..len];
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let first = raw.iter().position(|byte| !blank(byte)).unwrap_or(len);
    let last = raw.iter().rposition(|byte| !blank(byte)).map_or(first, |last| last + 1);
    let value_at = start + colon + 1;
    Ok(Field {
        line: Span::new(start, value_at + len + 2),
        name: Span::new(start, start + colon),
        value: Span::new(value_at + first, value_at + last),
        meaning: meaning(&line[..colon])?,
    })
}

/// How many bytes of a value `bytes` begins with; `None` when they do not end within. Eight at a
/// time, since values are most of a head.
fn value_len(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        // A subtraction leaves the high bit of each byte that was too small; what it borrows can
        // mislead about the bytes after the first of those, which are not looked at.
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let others = word ^ (ONES * 0x7f);
        let is_delete = others.wrapping_sub(ONES) & !others;
        let ends = (below_space | is_delete) & (ONES * 0x80);
        if ends == 0 {
            at += 8;
            continue;
        }
        at += ends.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return Some(at);
        }
        at += 1;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|&byte| !is_value(byte)).map(|len| at + len)
}

/// What the field of this name means. Names in which `_` stands for `-` are read as the other by
/// gateways that turn fields into variables (CGI, WSGI): those that frame a message are refused.
fn meaning(name: &[u8]) -> Result<Meaning, Refusal> {
    // In a token this bit tells apart the cases of letters and nothing else that is looked for.
    let is = |lower: &[u8]| name.iter().zip(lower).all(|(&byte, &want)| byte | 0x20 == want);
    let found = match name.len() {
        2 if is(b"te") => Meaning::OneHop,
        4 if is(b"host") => Meaning::Host,
        6 if is(b"expect") => Meaning::Expect,
        7 if is(b"upgrade") => Meaning::Upgrade,
        9 if is(b"forwarded") => Meaning::Forwarded,
        9 if same_variable(name, b"x-real-ip") => Meaning::Forwarded,
        10 if is(b"connection") => Meaning::Connection,
        10 if is(b"keep-alive") => Meaning::KeepAlive,
        14 if is(b"content-length") => Meaning::ContentLength,
        14 if same_variable(name, b"content-length") => return Err(Refusal::FieldName),
        14 if is(b"http2-settings") => Meaning::OneHop,
        16 if is(b"proxy-connection") => Meaning::OneHop,
        17 if is(b"transfer-encoding") => Meaning::TransferEncoding,
        17 if same_variable(name, b"transfer-encoding") => return Err(Refusal::FieldName),
        18 if is(b"proxy-authenticate") => Meaning::OneHop,
        19 if is(b"proxy-authorization") => Meaning::OneHop,
        len if len > 12 && same_variable(&name[..12], b"x-forwarded-") => Meaning::Forwarded,
        _ => Meaning::Other,
    };
    Ok(found)
}

fn same_variable(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len()
        && name.iter().zip(lower).all(|(&byte, &want)| {
            let byte = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
            byte == want
        })
}

/// The number of a `Content-Length` value: plain digits, no sign, list or leading zero.
pub(super) fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let plain = (1..=18).contains(&value.len())
        && value.iter().all(u8::is_ascii_digit)
        && (value.len() == 1 || value[0] != b'0');
    if !plain {
        return Err(Refusal::ContentLength);
    }
    Ok(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_ends_where_a_byte_by_byte_reader_ends_it(
            bytes in prop::collection::vec(
                prop_oneof![8 => 0x20u8..0x7f, 1 => any::<u8>(), 1 => Just(b'\t'), 1 => Just(0x7f)],
                0..64,
            ),
        ) {
            let want = bytes.iter().position(|&byte| !is_value(byte));
            prop_assert_eq!(value_len(&bytes), want, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_no_others() {
        let names: [(&[u8], Meaning); 6] = [
            (b"te", Meaning::OneHop),
            (b"host", Meaning::Host),
            (b"connection", Meaning::Connection),
            (b"content-length", Meaning::ContentLength),
            (b"http2-settings", Meaning::OneHop),
            (b"transfer-encoding", Meaning::TransferEncoding),
        ];
        for (name, want) in names {
            assert_eq!(meaning(name), Ok(want));
            assert_eq!(meaning(&name.to_ascii_uppercase()), Ok(want));
            for at in 0..name.len() {
                for byte in (0..=255).filter(|&byte| is_token(byte)) {
                    let mut other = name.to_vec();
                    other[at] = byte;
                    let same = other.eq_ignore_ascii_case(name);
                    let found = meaning(&other);
                    assert_eq!(found == Ok(want), same, "{}", other.escape_ascii());
                }
            }
        }
    }
}
