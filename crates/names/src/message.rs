//! The little of a DNS message that is looked at: its header and its one question.
//!
//! Pure. What follows the question (EDNS options among it) is nobody's business here: an answer
//! without options is one of a server that has none.

use std::net::IpAddr;

/// Bytes before the question.
const HEADER_BYTES: usize = 12;
/// A name that refers to the one right behind the header.
const NAME_OF_QUESTION: [u8; 2] = [0xc0, 12];
/// Longest name, as it is sent.
const NAME_BYTES_MAX: usize = 255;
/// Most addresses in an answer, which then fits any datagram.
const ADDRESSES_MAX: usize = 16;
/// Seconds for which an answer may be kept.
const KEEP_SECONDS: u32 = 10;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

/// How an answer says what became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Fine = 0,
    Malformed = 1,
    Failed = 2,
    NoSuchName = 3,
    Unknown = 4,
    Refused = 5,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question<'a> {
    /// The whole message.
    message: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// In lower case; `None` when it is none that a host can have.
    name: Option<String>,
    kind: u16,
    class: u16,
}

/// Reads a question; `Err` with the answer, if it deserves one.
pub(crate) fn read(message: &[u8]) -> Result<Question<'_>, Option<Vec<u8>>> {
    let Some(header) = message.first_chunk::<HEADER_BYTES>() else { return Err(None) };
    // An answer to an answer would go round.
    if header[2] & 0x80 != 0 {
        return Err(None);
    }
    if header[2] & 0x78 != 0 {
        return Err(Some(bare(header, Code::Unknown)));
    }
    let malformed = || Err(Some(bare(header, Code::Malformed)));
    if header[4..6] != [0, 1] {
        return malformed();
    }
    let Some((name, at)) = read_name(message) else { return malformed() };
    let Some([k0, k1, c0, c1]) = message.get(at..).and_then(|rest| rest.first_chunk()) else {
        return malformed();
    };
    let (kind, class) = (u16::from_be_bytes([*k0, *k1]), u16::from_be_bytes([*c0, *c1]));
    Ok(Question { message, end: at + 4, name, kind, class })
}

/// The name of the question and where it ends; `None` when there is none.
fn read_name(message: &[u8]) -> Option<(Option<String>, usize)> {
    let mut at = HEADER_BYTES;
    let mut name = String::new();
    let mut usual = true;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // Nothing stands before a question that it could refer to.
        if length > 63 || at + length - HEADER_BYTES >= NAME_BYTES_MAX {
            return None;
        }
        let label = message.get(at..at + length)?;
        at += length;
        usual &= label.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    Some((usual.then_some(name), at))
}

impl Question<'_> {
    /// The name, when addresses of it may be asked for.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.class == CLASS_IN || self.class == TYPE_ANY)
    }

    /// Whether `message` answers this very question.
    pub(crate) fn is_answered_by(&self, message: &[u8]) -> bool {
        message.get(..2) == self.message.get(..2)
            && message.get(2).is_some_and(|flags| flags & 0x80 != 0)
            && message.get(HEADER_BYTES..self.end) == self.message.get(HEADER_BYTES..self.end)
    }

    /// The answer with those of these addresses that were asked for.
    pub(crate) fn answer(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let wanted = |ip: &&IpAddr| match (self.kind, ip) {
            (TYPE_ANY, _) => true,
            (TYPE_A, ip) => ip.is_ipv4(),
            (TYPE_AAAA, ip) => ip.is_ipv6(),
            _ => false,
        };
        let found: Vec<&IpAddr> = addresses.iter().filter(wanted).take(ADDRESSES_MAX).collect();
        let mut answer = self.head(Code::Fine);
        answer[2] |= 0x04; // it knows
        answer[7] = u8::try_from(found.len()).unwrap_or_default();
        for ip in found {
            let (kind, length, bytes) = match ip {
                IpAddr::V4(ip) => (TYPE_A, 4, ip.octets().to_vec()),
                IpAddr::V6(ip) => (TYPE_AAAA, 16, ip.octets().to_vec()),
            };
            answer.extend(NAME_OF_QUESTION);
            answer.extend(kind.to_be_bytes());
            answer.extend(CLASS_IN.to_be_bytes());
            answer.extend(KEEP_SECONDS.to_be_bytes());
            answer.extend([0, length]);
            answer.extend(bytes);
        }
        answer
    }

    /// An answer that says only what became of the question.
    pub(crate) fn head(&self, code: Code) -> Vec<u8> {
        let mut answer = self.message[..self.end].to_vec();
        answer[..HEADER_BYTES].copy_from_slice(&header(&self.message[..HEADER_BYTES], code));
        answer[5] = 1;
        answer
    }
}

/// An answer without the question, which could not be read.
fn bare(question: &[u8; HEADER_BYTES], code: Code) -> Vec<u8> {
    header(question, code).to_vec()
}

fn header(question: &[u8], code: Code) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&question[..2]);
    // An answer, to what was asked, which wanted it looked up or not.
    header[2] = 0x80 | question[2] & 0x79;
    // It is looked up.
    header[3] = 0x80 | code as u8;
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn an_address_of_the_other_family_is_an_empty_answer() {
        let addresses = [IpAddr::from([127, 64, 0, 5])];
        for (kind, records) in [(TYPE_A, 1), (TYPE_AAAA, 0), (15, 0), (TYPE_ANY, 1)] {
            let message = question("Scores", kind);
            let question = read(&message).unwrap();
            assert_eq!(question.name(), Some("scores"));
            let answer = question.answer(&addresses);
            assert!(question.is_answered_by(&answer));
            assert_eq!(answer[2..8], [0x85, 0x80, 0, 1, 0, records], "{kind}");
            assert_eq!(answer.ends_with(&[0, 4, 127, 64, 0, 5]), records == 1, "{kind}");
        }
    }

    #[test]
    fn what_is_no_question_is_told_so_or_ignored() {
        let fine = question("a.b", TYPE_A);
        let with = |at: usize, byte: u8| {
            let mut message = fine.clone();
            message[at] = byte;
            message
        };
        let code = |message: &[u8]| read(message).err().map(|answer| answer.map(|a| a[3] & 15));
        assert_eq!(code(&fine), None);
        assert_eq!(code(&fine[..11]), Some(None), "too short for an answer");
        assert_eq!(code(&with(2, 0x80)), Some(None), "an answer");
        assert_eq!(code(&with(2, 0x28)), Some(Some(4)), "an update");
        assert_eq!(code(&with(5, 2)), Some(Some(1)), "two questions");
        assert_eq!(code(&with(12, 0xc0)), Some(Some(1)), "a name that refers to itself");
        assert_eq!(code(&fine[..fine.len() - 1]), Some(Some(1)), "no class");
        assert_eq!(read(&with(13, b' ')).unwrap().name(), None, "no name of a host");
        assert_eq!(read(&with(fine.len() - 1, 3)).unwrap().name(), None, "of another class");
        let long = question(&vec!["x".repeat(63); 4].join("."), TYPE_A);
        assert_eq!(code(&long), Some(Some(1)), "too long a name");
    }
}
