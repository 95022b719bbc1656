//! Strings that are slices of what was read, and identifiers.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use bytes::Bytes;

/// A string: a slice of the bytes that it came in, which lives as long as any slice of them. Copy
/// what is kept for long.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str(Bytes);

impl Str {
    /// One that is in the program.
    pub const fn from_static(text: &'static str) -> Str {
        Str(Bytes::from_static(text.as_bytes()))
    }

    /// `None` if the bytes are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Option<Str> {
        std::str::from_utf8(&bytes).is_ok().then_some(Str(bytes))
    }

    /// As a string slice.
    pub fn as_str(&self) -> &str {
        // Checked when it was made; a second check would cost more than the read itself.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// One that keeps nothing else alive.
    #[must_use]
    pub fn detached(&self) -> Str {
        Str(Bytes::copy_from_slice(&self.0))
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl std::borrow::Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(Bytes::from(text))
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// Sixteen bytes that name a topic, say. Written as Kafka does: URL-safe base64 without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Nobody's.
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// Whether it is nobody's.
    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        for digit in 0..22_u32 {
            let six = if digit < 21 { number >> (122 - 6 * digit) } else { number << 4 };
            write!(f, "{}", char::from(DIGITS[(six & 63) as usize]))?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = ();

    fn from_str(text: &str) -> Result<Uuid, ()> {
        if text.len() != 22 {
            return Err(());
        }
        let mut number = 0_u128;
        for (at, letter) in text.bytes().enumerate() {
            let six = DIGITS.iter().position(|digit| *digit == letter).ok_or(())? as u128;
            number = if at < 21 { number << 6 | six } else { number << 2 | six >> 4 };
        }
        Ok(Uuid(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_as_the_protocol_does() {
        let id = Uuid([
            0xb0, 0x7f, 0xf1, 0x6d, 0x1a, 0x2e, 0x4c, 0x8e, 0x9f, 0x01, 0x23, 0x45, 0x67, 0x89,
            0xab, 0xcd,
        ]);
        assert_eq!(id.to_string(), "sH_xbRouTI6fASNFZ4mrzQ");
        assert_eq!("sH_xbRouTI6fASNFZ4mrzQ".parse(), Ok(id));
        assert!("sH_xbRouTI6fASNFZ4mrz".parse::<Uuid>().is_err());
    }
}
