//! The codecs of batches, where their records have to be looked at: everywhere else batches stay
//! as they came.
//!
//! Invariant: no more than the bound is ever unpacked, whatever the bytes claim.

use std::io::{Read, Write};

use bytes::{Buf, Bytes, BytesMut};

use super::batch::BatchError;

/// What the Java client writes around blocks of Snappy.
const XERIAL: &[u8] = b"\x82SNAPPY\0";

/// Bytes of a block that it writes.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// The records of a batch, plain.
pub(crate) fn unpack(codec: i16, packed: Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    let bad = BatchError::Invalid("its records cannot be decompressed");
    match codec {
        0 => Ok(packed),
        1 => bounded(flate2::read::MultiGzDecoder::new(packed.reader()), bytes_max),
        2 => snappy(packed, bytes_max).ok_or(bad),
        3 => bounded(lz4_flex::frame::FrameDecoder::new(packed.reader()), bytes_max),
        4 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed.reader());
            bounded(decoder.map_err(|_| bad)?, bytes_max)
        }
        other => Err(BatchError::Compression(other)),
    }
}

/// Records packed again by the same codec; none when it does not get smaller by it, or does not come
/// back as it was.
pub(crate) fn pack(codec: i16, plain: &[u8]) -> Option<Bytes> {
    let packed = match codec {
        1 => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()?
        }
        2 => {
            // Version 1, which can be read by version 1.
            let mut packed = [XERIAL, &1_u32.to_be_bytes(), &1_u32.to_be_bytes()].concat();
            for block in plain.chunks(XERIAL_BLOCK_BYTES) {
                let block = snap::raw::Encoder::new().compress_vec(block).ok()?;
                packed.extend_from_slice(&u32::try_from(block.len()).ok()?.to_be_bytes());
                packed.extend_from_slice(&block);
            }
            packed
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()?
        }
        4 => ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest),
        _ => return None,
    };
    let packed = Bytes::from(packed);
    let same = unpack(codec, packed.clone(), plain.len()).is_ok_and(|again| again == plain);
    (same && packed.len() < plain.len()).then_some(packed)
}

fn bounded(reader: impl Read, bytes_max: usize) -> Result<Bytes, BatchError> {
    let mut plain = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(limit).read_to_end(&mut plain);
    if read.is_err() || plain.len() > bytes_max {
        return Err(BatchError::Invalid("its records cannot be decompressed, or are too large"));
    }
    Ok(plain.into())
}

fn snappy(mut packed: Bytes, bytes_max: usize) -> Option<Bytes> {
    if !packed.starts_with(XERIAL) {
        return snappy_block(&packed, bytes_max).map(Bytes::from);
    }
    // Magic, version and the oldest version that can read it.
    packed = packed.slice(16.min(packed.len())..);
    let mut plain = BytesMut::new();
    while !packed.is_empty() {
        let length = usize::try_from(packed.try_get_i32().ok()?).ok()?;
        if length > packed.len() {
            return None;
        }
        plain.extend_from_slice(&snappy_block(&packed.split_to(length), bytes_max - plain.len())?);
    }
    Some(plain.freeze())
}

fn snappy_block(packed: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let claimed = snap::raw::decompress_len(packed).ok()?;
    if claimed > bytes_max {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(packed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_too_large_is_not_unpacked() {
        let mut packed = Vec::new();
        let mut encoder =
            flate2::read::GzEncoder::new(&[0_u8; 100_000][..], flate2::Compression::best());
        encoder.read_to_end(&mut packed).unwrap();
        assert!(packed.len() < 1000);
        assert_eq!(unpack(1, packed.clone().into(), 100_000).unwrap().len(), 100_000);
        assert!(unpack(1, packed.into(), 99_999).is_err());
    }

    #[test]
    fn what_was_packed_comes_back() {
        let plain = b"the same words again and again, ".repeat(5000);
        for codec in 1..=4 {
            let packed = pack(codec, &plain).unwrap();
            assert!(packed.len() < plain.len() / 4, "{codec}: {}", packed.len());
            assert_eq!(unpack(codec, packed, plain.len()).unwrap(), plain);
        }
        assert_eq!(pack(1, b"x"), None);
        assert_eq!(pack(0, &plain), None);
    }

    #[test]
    fn no_bytes_panic() {
        for codec in 0..9 {
            for bytes in [
                &b""[..],
                b"\x82SNAPPY\0",
                b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff",
                &[0xff; 40],
            ] {
                let _ = unpack(codec, Bytes::from(bytes), 1000);
            }
        }
    }
}
