//! HTTP/1 as bytes: where a head ends, what it says, how its body is framed, how it is passed on.
//!
//! Not here: sockets, time, and any state beyond one message. Everything in this module is a pure
//! function over bytes.
//!
//! Invariant: a message is accepted only when every reader that follows RFC 9112 reads it the
//! same way. What is ambiguous is refused, even where the RFC allows to repair it.

mod chunked;
mod field;
mod refusal;
mod request;
mod response;
mod rewrite;
mod scan;
#[cfg(test)]
mod tests;

pub(crate) use chunked::Chunked;
pub(crate) use field::Field;
pub(crate) use refusal::Refusal;
pub(crate) use request::{Method, Request, Version};
pub(crate) use response::Response;
pub(crate) use rewrite::{Ending, Forwarding, request_head, response_head};
pub(crate) use scan::HeadScan;

/// How the end of a body is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none, or it has been read.
    None,
    /// This many bytes (still to come).
    Length(u64),
    /// In chunks.
    Chunked(Chunked),
    /// All that comes until the connection ends.
    UntilClose,
}

/// A run of body bytes, as far as the bytes at hand go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many bytes.
    pub(crate) len: usize,
    /// They are content, not chunk framing.
    pub(crate) content: bool,
}

impl Framing {
    /// The body is complete.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Framing::None | Framing::Length(0) => true,
            Framing::Chunked(chunked) => chunked.is_done(),
            Framing::Length(_) | Framing::UntilClose => false,
        }
    }

    /// Takes the next run of the body from the start of `bytes`; empty when it needs more.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<Run, Refusal> {
        match self {
            Framing::None => Ok(Run { len: 0, content: true }),
            Framing::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= len as u64;
                Ok(Run { len, content: true })
            }
            Framing::Chunked(chunked) => chunked.advance(bytes),
            Framing::UntilClose => Ok(Run { len: bytes.len(), content: true }),
        }
    }
}
