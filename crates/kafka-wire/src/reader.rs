//! Reading bytes from outside.
//!
//! Invariants: nothing is allocated for an array before it is known that the bytes for it are
//! there, and all arrays of a message together take no more memory than its size allows; slices
//! are of the bytes that were given.

use bytes::{Buf, Bytes};

use crate::codec::DecodeError;
use crate::text::{Str, Uuid};

/// Memory that arrays of a small message may take.
const BUDGET_LEAST_BYTES: usize = 1 << 20;

/// Memory for each byte of a message: an element of a few bytes becomes a structure of a hundred.
const BUDGET_FACTOR: usize = 16;

/// No message gets more than this for its arrays.
const BUDGET_MOST_BYTES: usize = 64 << 20;

/// Where decoding is.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    budget: usize,
}

/// Tagged fields that are still to come.
#[derive(Debug)]
pub(crate) struct TagsIn {
    left: u32,
    /// Length of the one that is read.
    length: usize,
    /// What is left to read behind it.
    rest: usize,
}

impl Reader {
    /// Reads `bytes` from the first on.
    pub fn new(bytes: Bytes) -> Reader {
        let wanted = bytes.len().saturating_mul(BUDGET_FACTOR);
        Reader { budget: wanted.clamp(BUDGET_LEAST_BYTES, BUDGET_MOST_BYTES), bytes }
    }

    /// What was not read.
    pub fn rest(self) -> Bytes {
        self.bytes
    }

    /// Says that all should have been read.
    ///
    /// # Errors
    /// When something was not.
    pub fn end(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if length > self.bytes.len() {
            return Err(DecodeError::Short(what));
        }
        Ok(self.bytes.split_to(length))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, DecodeError> {
        self.bytes.try_get_i8().map_err(|_| DecodeError::Short("number"))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.bytes.try_get_i16().map_err(|_| DecodeError::Short("number"))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.bytes.try_get_u16().map_err(|_| DecodeError::Short("number"))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.bytes.try_get_i32().map_err(|_| DecodeError::Short("number"))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.bytes.try_get_i64().map_err(|_| DecodeError::Short("number"))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, DecodeError> {
        self.bytes.try_get_f64().map_err(|_| DecodeError::Short("number"))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        let mut id = [0; 16];
        self.bytes.try_copy_to_slice(&mut id).map_err(|_| DecodeError::Short("identifier"))?;
        Ok(Uuid(id))
    }

    fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.bytes.try_get_u8().map_err(|_| DecodeError::Short("number"))?;
            if shift == 28 && byte > 15 {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// A length; `None` for null.
    fn length(
        &mut self,
        compact: bool,
        wide: bool,
        what: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        let length = match (compact, wide) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::Length { what, length }),
        }
    }

    pub(crate) fn string(&mut self, compact: bool) -> Result<Str, DecodeError> {
        self.string_or_null(compact, false)?.ok_or(DecodeError::Null("string"))
    }

    pub(crate) fn string_or_null(
        &mut self,
        compact: bool,
        may_be_null: bool,
    ) -> Result<Option<Str>, DecodeError> {
        let Some(length) = self.length(compact, false, "string")? else {
            return if may_be_null { Ok(None) } else { Err(DecodeError::Null("string")) };
        };
        let bytes = self.take(length, "string")?;
        Str::from_utf8(bytes).map(Some).ok_or(DecodeError::Utf8)
    }

    pub(crate) fn bytes(&mut self, compact: bool) -> Result<Bytes, DecodeError> {
        self.bytes_or_null(compact, false)?.ok_or(DecodeError::Null("byte string"))
    }

    pub(crate) fn bytes_or_null(
        &mut self,
        compact: bool,
        may_be_null: bool,
    ) -> Result<Option<Bytes>, DecodeError> {
        match self.length(compact, true, "byte string")? {
            Some(length) => self.take(length, "byte string").map(Some),
            None if may_be_null => Ok(None),
            None => Err(DecodeError::Null("byte string")),
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        compact: bool,
        least_bytes: usize,
        one: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.array_or_null(compact, false, least_bytes, one)?.ok_or(DecodeError::Null("array"))
    }

    pub(crate) fn array_or_null<T>(
        &mut self,
        compact: bool,
        may_be_null: bool,
        least_bytes: usize,
        mut one: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(compact, true, "array")? else {
            return if may_be_null { Ok(None) } else { Err(DecodeError::Null("array")) };
        };
        if count > self.bytes.len() / least_bytes.max(1) {
            return Err(DecodeError::Short("array"));
        }
        let memory = count.saturating_mul(size_of::<T>());
        self.budget = self.budget.checked_sub(memory).ok_or(DecodeError::TooLarge)?;
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(one(self)?);
        }
        Ok(Some(all))
    }

    pub(crate) fn structure_or_null<T>(
        &mut self,
        one: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 { Ok(None) } else { one(self).map(Some) }
    }

    pub(crate) fn tags(&mut self) -> Result<TagsIn, DecodeError> {
        let left = self.varint()?;
        Ok(TagsIn { left, length: 0, rest: self.bytes.len() })
    }

    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        let mut tags = self.tags()?;
        while tags.next(self)?.is_some() {
            tags.skip(self)?;
        }
        Ok(())
    }
}

impl TagsIn {
    /// The number of the next tagged field, which is read next.
    pub(crate) fn next(&mut self, input: &mut Reader) -> Result<Option<u32>, DecodeError> {
        if input.bytes.len() != self.rest {
            let length = i64::try_from(self.length).unwrap_or(i64::MAX);
            return Err(DecodeError::Length { what: "tagged field", length });
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let tag = input.varint()?;
        self.length = input.varint()? as usize;
        let rest = input.bytes.len().checked_sub(self.length);
        self.rest = rest.ok_or(DecodeError::Short("tagged field"))?;
        Ok(Some(tag))
    }

    /// Leaves out one that is not known.
    pub(crate) fn skip(&mut self, input: &mut Reader) -> Result<(), DecodeError> {
        input.take(self.length, "tagged field").map(|_| ())
    }
}
