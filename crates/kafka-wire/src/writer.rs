//! Writing messages: a list of pieces, so that large data is not copied.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::EncodeError;
use crate::text::{Str, Uuid};

/// Data from this size on stays where it is: a copy of less costs less than one more piece.
const PIECE_BYTES: usize = 1024;

/// What is being written.
#[derive(Debug, Default)]
pub struct Writer {
    pieces: Vec<Bytes>,
    pieces_bytes: usize,
    tail: BytesMut,
}

/// Tagged fields of one structure.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    fields: Vec<(u32, Writer)>,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.pieces_bytes + self.tail.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, in order.
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.freeze());
        }
        self.pieces
    }

    /// All of it in one.
    pub fn into_bytes(self) -> Bytes {
        let length = self.len();
        let mut pieces = self.into_pieces();
        if pieces.len() == 1 {
            return pieces.pop().unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(length);
        for piece in pieces {
            whole.put(piece);
        }
        whole.freeze()
    }

    /// Adds bytes; large ones are not copied.
    pub fn put(&mut self, bytes: &Bytes) {
        if bytes.len() < PIECE_BYTES {
            self.tail.put_slice(bytes);
            return;
        }
        if !self.tail.is_empty() {
            let before = self.tail.split().freeze();
            self.pieces_bytes += before.len();
            self.pieces.push(before);
        }
        self.pieces_bytes += bytes.len();
        self.pieces.push(bytes.clone());
    }

    fn append(&mut self, other: Writer) {
        for piece in other.into_pieces() {
            self.put(&piece);
        }
    }

    pub(crate) fn bool(&mut self, value: &bool) -> Result<(), EncodeError> {
        self.tail.put_u8(u8::from(*value));
        Ok(())
    }

    pub(crate) fn i8(&mut self, value: &i8) -> Result<(), EncodeError> {
        self.tail.put_i8(*value);
        Ok(())
    }

    pub(crate) fn i16(&mut self, value: &i16) -> Result<(), EncodeError> {
        self.tail.put_i16(*value);
        Ok(())
    }

    pub(crate) fn u16(&mut self, value: &u16) -> Result<(), EncodeError> {
        self.tail.put_u16(*value);
        Ok(())
    }

    pub(crate) fn i32(&mut self, value: &i32) -> Result<(), EncodeError> {
        self.tail.put_i32(*value);
        Ok(())
    }

    pub(crate) fn i64(&mut self, value: &i64) -> Result<(), EncodeError> {
        self.tail.put_i64(*value);
        Ok(())
    }

    pub(crate) fn f64(&mut self, value: &f64) -> Result<(), EncodeError> {
        self.tail.put_f64(*value);
        Ok(())
    }

    pub(crate) fn uuid(&mut self, value: &Uuid) -> Result<(), EncodeError> {
        self.tail.put_slice(&value.0);
        Ok(())
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value.to_le_bytes()[0]);
    }

    /// A length in tagged fields, which are small.
    fn size(&mut self, length: usize) -> Result<(), EncodeError> {
        self.varint(u32::try_from(length).map_err(|_| EncodeError::TooLong { length })?);
        Ok(())
    }

    fn length(&mut self, compact: bool, wide: bool, length: usize) -> Result<(), EncodeError> {
        let too_long = EncodeError::TooLong { length };
        let number = i32::try_from(length).ok().filter(|number| *number < i32::MAX);
        let number = number.ok_or(too_long)?;
        match (compact, wide) {
            (true, _) => self.varint(number.unsigned_abs() + 1),
            (false, true) => self.tail.put_i32(number),
            (false, false) => self.tail.put_i16(i16::try_from(number).map_err(|_| too_long)?),
        }
        Ok(())
    }

    fn null(
        &mut self,
        compact: bool,
        wide: bool,
        allowed: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match (allowed, compact, wide) {
            (false, ..) => return Err(EncodeError::Null { field }),
            (true, true, _) => self.varint(0),
            (true, false, true) => self.tail.put_i32(-1),
            (true, false, false) => self.tail.put_i16(-1),
        }
        Ok(())
    }

    pub(crate) fn string(&mut self, compact: bool, value: &Str) -> Result<(), EncodeError> {
        self.length(compact, false, value.len())?;
        self.tail.put_slice(value.as_bytes());
        Ok(())
    }

    pub(crate) fn string_or_null(
        &mut self,
        compact: bool,
        null: bool,
        field: &'static str,
        value: Option<&Str>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.string(compact, value),
            None => self.null(compact, false, null, field),
        }
    }

    pub(crate) fn bytes(&mut self, compact: bool, value: &Bytes) -> Result<(), EncodeError> {
        self.length(compact, true, value.len())?;
        self.put(value);
        Ok(())
    }

    pub(crate) fn bytes_or_null(
        &mut self,
        compact: bool,
        null: bool,
        field: &'static str,
        value: Option<&Bytes>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(compact, value),
            None => self.null(compact, true, null, field),
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        compact: bool,
        all: &[T],
        mut one: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(compact, true, all.len())?;
        all.iter().try_for_each(|value| one(self, value))
    }

    pub(crate) fn array_or_null<T>(
        &mut self,
        compact: bool,
        null: bool,
        field: &'static str,
        all: Option<&[T]>,
        one: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match all {
            Some(all) => self.array(compact, all, one),
            None => self.null(compact, true, null, field),
        }
    }

    pub(crate) fn structure_or_null<T>(
        &mut self,
        value: Option<&T>,
        one: impl FnOnce(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.tail.put_i8(if value.is_some() { 1 } else { -1 });
        value.map_or(Ok(()), |value| one(self, value))
    }

    pub(crate) fn no_tags(&mut self) {
        self.tail.put_u8(0);
    }
}

impl Tags {
    pub(crate) fn add(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut field = Writer::new();
        write(&mut field)?;
        self.fields.push((tag, field));
        Ok(())
    }

    pub(crate) fn write(mut self, out: &mut Writer) -> Result<(), EncodeError> {
        self.fields.sort_by_key(|(tag, _)| *tag);
        out.size(self.fields.len())?;
        for (tag, field) in self.fields {
            out.varint(tag);
            out.size(field.len())?;
            out.append(field);
        }
        Ok(())
    }
}
