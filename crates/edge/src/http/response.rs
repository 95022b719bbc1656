//! A response head: its status and how its body is framed, or why it is not passed on.

use super::field::{self, Field, Meaning, Span};
use super::{Chunked, Framing, Method, Refusal, Version};

/// What the head of a response says.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Status and reason: what follows the version in the first line.
    pub(crate) status_text: Span,
    pub(crate) framing: Framing,
    /// The instance goes on using the connection afterwards.
    pub(crate) keep_alive: bool,
    /// How long it says it keeps an idle connection, in seconds.
    pub(crate) keep_alive_seconds: Option<u32>,
    /// `Connection` names fields of its own that end here.
    pub(crate) nominates: bool,
}

impl Response {
    /// Reads a whole head, as `HeadScan` found it, of the answer to a request of this method.
    pub(crate) fn parse(
        head: &[u8],
        method: Method,
        fields_max: usize,
        fields: &mut Vec<Field>,
    ) -> Result<Response, Refusal> {
        let line_end = memchr::memchr(b'\n', head).ok_or(Refusal::StatusLine)?;
        let line = head[..line_end].strip_suffix(b"\r").ok_or(Refusal::StatusLine)?;
        let (version, status) = status_line(line)?;
        field::fields(head, line_end + 1, fields_max, fields)?;
        let mut response = Response {
            status,
            status_text: Span::new(9, line.len()),
            framing: Framing::UntilClose,
            keep_alive: false,
            keep_alive_seconds: None,
            nominates: false,
        };
        response.read_fields(head, version, method, fields)?;
        Ok(response)
    }

    /// An interim answer: another one follows.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    fn read_fields(
        &mut self,
        head: &[u8],
        version: Version,
        method: Method,
        fields: &[Field],
    ) -> Result<(), Refusal> {
        let (mut length, mut chunked) = (None, false);
        let (mut close, mut keep) = (false, false);
        for field in fields {
            let value = field.value.of(head);
            match field.meaning {
                Meaning::ContentLength if length.is_some() => return Err(Refusal::ContentLength),
                Meaning::ContentLength => length = Some(field::content_length(value)?),
                Meaning::TransferEncoding => {
                    if chunked || version == Version::Http10 {
                        return Err(Refusal::TwoTransferEncodings);
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::TransferEncoding);
                    }
                    chunked = true;
                }
                Meaning::Connection => {
                    for option in field::list(value) {
                        if option.eq_ignore_ascii_case(b"close") {
                            close = true;
                        } else if option.eq_ignore_ascii_case(b"keep-alive") {
                            keep = true;
                        } else if !option.eq_ignore_ascii_case(b"upgrade") {
                            self.nominates = true;
                        }
                    }
                }
                Meaning::KeepAlive => self.keep_alive_seconds = keep_alive_seconds(value),
                _ => {}
            }
        }
        let bodiless = method == Method::Head || matches!(self.status, 100..=199 | 204 | 304);
        self.framing = match (length, chunked) {
            (Some(_), true) => return Err(Refusal::LengthAndChunked),
            _ if bodiless => Framing::None,
            (None, true) => Framing::Chunked(Chunked::default()),
            (Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
            (None, false) => Framing::UntilClose,
        };
        self.keep_alive =
            !close && (version == Version::Http11 || keep) && self.framing != Framing::UntilClose;
        Ok(())
    }
}

fn status_line(line: &[u8]) -> Result<(Version, u16), Refusal> {
    let version = line.get(..8).and_then(Version::of).ok_or(Refusal::StatusLine)?;
    let digits = match &line[8..] {
        [b' ', a, b, c] => [a, b, c],
        [b' ', a, b, c, b' ', reason @ ..] if reason.iter().all(|&b| field::is_value(b)) => {
            [a, b, c]
        }
        _ => return Err(Refusal::StatusLine),
    };
    if !digits.iter().all(|digit| digit.is_ascii_digit()) {
        return Err(Refusal::StatusLine);
    }
    let status = digits.iter().fold(0, |number, &&digit| number * 10 + u16::from(digit - b'0'));
    if (100..=599).contains(&status) { Ok((version, status)) } else { Err(Refusal::StatusLine) }
}

fn keep_alive_seconds(value: &[u8]) -> Option<u32> {
    let timeout = field::list(value).find_map(|member| member.strip_prefix(b"timeout="))?;
    std::str::from_utf8(timeout).ok()?.parse().ok()
}
