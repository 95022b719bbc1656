//! The messages of the Kafka protocol, as typed data: decode and encode, in every version.
//!
//! Not here: sockets, what a message means, what is inside record batches. Pure: bytes in, values
//! out.
//!
//! A module each message, made by `build.rs` from the files in `schema/`, with a `Request` and a
//! `Response` (both ways for both, since a server, a client and a proxy need them).
//!
//! Invariants: no bytes from outside make it panic, or take memory that is not in proportion to
//! their number ([`Reader`]); data is not copied: strings and records are slices of what was read,
//! and what is written leaves large ones as they are ([`Writer`]).

mod codec;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod headers;
mod reader;
mod text;
mod writer;

pub use codec::{Api, Codec, DecodeError, EncodeError, Request};
pub use headers::{RequestHeader, frame_request, frame_response, parse_response};
pub use messages::*;
pub use reader::Reader;
pub use text::{Str, Uuid};
pub use writer::Writer;

/// What generated code uses.
mod prelude {
    pub(crate) use bytes::Bytes;

    pub(crate) use crate::codec::{Api, Codec, DecodeError, EncodeError};
    pub(crate) use crate::reader::Reader;
    pub(crate) use crate::text::{Str, Uuid};
    pub(crate) use crate::writer::{Tags, Writer};
}

#[allow(
    unused_mut,
    unused_variables,
    unused_imports,
    clippy::all,
    clippy::pedantic,
    clippy::too_many_lines,
    reason = "generated: one form for every field, whether or not a message needs all of it"
)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}
