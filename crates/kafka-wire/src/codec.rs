//! What all messages have in common.

use crate::reader::Reader;
use crate::writer::Writer;

/// Something with a form in bytes that depends on a version.
pub trait Codec: Sized + Default {
    /// Fewest bytes that it takes: bounds how many an array can hold.
    const LEAST_BYTES: usize;

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are not one, or claim more than there is.
    fn decode(input: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes it.
    ///
    /// # Errors
    /// When it says something that the version has no place for.
    fn encode(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// Says how long the client is to be silent, where an answer has a place for that.
    fn throttle(&mut self, _wait_ms: i32) {}
}

/// A request, and what answers it.
pub trait Request: Codec {
    /// Its answer.
    type Response: Codec;
    /// Which API.
    const API: Api;
}

/// An API and the versions that its messages have here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// The number on the wire.
    pub key: i16,
    /// As the protocol calls it.
    pub name: &'static str,
    /// First version.
    pub min: i16,
    /// Last version.
    pub max: i16,
    /// First flexible version: compact lengths and tagged fields.
    pub flexible: i16,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early, or a length inside says so.
    #[error("the message ends before its {0} does")]
    Short(&'static str),
    /// A length below what it may be.
    #[error("a {what} has length {length}")]
    Length {
        /// Of what.
        what: &'static str,
        /// What was said.
        length: i64,
    },
    /// Something is null that may not be.
    #[error("a {0} is null that may not be")]
    Null(&'static str),
    /// A string that is no UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A variable-length number that does not end.
    #[error("a number takes more than five bytes")]
    Varint,
    /// It would take far more memory than its bytes.
    #[error("its arrays take too much memory")]
    TooLarge,
    /// More bytes than the message has.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// Why a value has no form in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The version has no such field, and it is set.
    #[error("version {version} has no `{field}`, which is set")]
    Absent {
        /// Which.
        field: &'static str,
        /// Which version.
        version: i16,
    },
    /// The version knows no null there.
    #[error("`{field}` is null, which this version does not know")]
    Null {
        /// Which.
        field: &'static str,
    },
    /// Longer than its length can say.
    #[error("{length} bytes or elements are too many")]
    TooLong {
        /// How long.
        length: usize,
    },
}
