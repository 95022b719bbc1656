//! Chunked framing, checked byte by byte and passed on as it is.
//!
//! Invariant: what it accepts is the grammar of RFC 9112 section 7.1 with CRLF everywhere, sizes
//! of at most 15 digits, and no field in the trailer that frames or routes a message.

use super::field::{is_token, is_value};
use super::{Refusal, Run};

/// Bytes of extensions after one chunk size.
const EXTENSION_BYTES_MAX: u16 = 256;
/// Bytes of the whole trailer section.
const TRAILER_BYTES_MAX: u16 = 8 << 10;
/// Longest name that a trailer field may not have.
const NAME: usize = 18;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Where a chunked body stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    size: u64,
    digits: u8,
    extension_bytes: u16,
    trailer_bytes: u16,
    name: [u8; NAME],
    name_len: u8,
}

impl Chunked {
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The next run at the start of `bytes`: framing up to the next content, or content.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Run, Refusal> {
        if self.state == State::Data {
            let len = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len());
            self.size -= len as u64;
            if self.size == 0 {
                self.state = State::DataCr;
            }
            return Ok(Run { len, content: true });
        }
        let mut len = 0;
        for &byte in bytes {
            if matches!(self.state, State::Data | State::Done) {
                break;
            }
            self.framing_byte(byte)?;
            len += 1;
        }
        Ok(Run { len, content: false })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Refusal::ChunkSize)?;
                self.digits += 1;
                if self.digits > 15 {
                    return Err(Refusal::ChunkSize);
                }
                self.size = self.size << 4 | u64::from(digit);
                State::Size
            }
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) => {
                self.extension_bytes += 1;
                if !is_value(byte) || self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(match byte {
                        b'\n' => Refusal::BareLf,
                        _ => Refusal::ChunkExtension,
                    });
                }
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                (self.digits, self.extension_bytes) = (0, 0);
                if self.size == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::SizeLf | State::DataCr | State::DataLf, _) => return Err(Refusal::ChunkEnd),
            (State::EndLf, b'\n') => State::Done,
            _ => self.trailer_byte(byte)?,
        };
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Refusal::Trailer);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                if self.state == State::TrailerStart {
                    self.name_len = 0;
                }
                if let Some(place) = self.name.get_mut(usize::from(self.name_len)) {
                    *place = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
                }
                self.name_len = self.name_len.saturating_add(1);
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') if self.name_is_allowed() => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_value(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(Refusal::Trailer),
        }
    }

    fn name_is_allowed(&self) -> bool {
        let whole = self.name.get(..usize::from(self.name_len));
        let named = |names: &[&[u8]]| whole.is_some_and(|name| names.contains(&name));
        !named(&[
            b"host",
            b"content-length",
            b"transfer-encoding",
            b"connection",
            b"authorization",
            b"cookie",
        ]) && !self.name.starts_with(b"x-forwarded-")
    }
}
