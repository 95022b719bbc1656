//! What must hold for any bytes from outside.

use bytes::Bytes;

use crate::codec::Codec;
use crate::reader::Reader;
use crate::writer::Writer;

/// A message's name, first and last version, and what must hold for it.
pub(crate) type Every = (&'static str, i16, i16, fn(&Bytes, i16));

/// Whatever decodes encodes again, to something that decodes to the same.
pub(crate) fn again<T: Codec + PartialEq + std::fmt::Debug>(bytes: &Bytes, version: i16) {
    let Ok(value) = T::decode(&mut Reader::new(bytes.clone()), version) else { return };
    let mut out = Writer::new();
    // A null that a later version allows cannot come from this one, so all can be written.
    value.encode(&mut out, version).expect("what was read can be written");
    let written = out.into_bytes();
    let mut reader = Reader::new(written);
    let read = T::decode(&mut reader, version).expect("what was written can be read");
    // Not a number is not itself.
    if format!("{value:?}").contains("NaN") {
        return;
    }
    assert_eq!(read, value);
    reader.end().expect("nothing follows");
}

/// A number that chooses a message and one for its version, then its bytes.
pub fn message(data: &[u8]) {
    let [which, version, bytes @ ..] = data else { return };
    let (_, min, max, check) =
        crate::messages::EVERY[*which as usize % crate::messages::EVERY.len()];
    check(&Bytes::copy_from_slice(bytes), min + i16::from(*version) % (max - min + 1));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// What a message says when nothing is said takes little and comes back, in every version.
    #[test]
    fn nothing_comes_back_in_every_version() {
        for (_, min, max, check) in crate::messages::EVERY {
            for version in *min..=*max {
                check(&bytes::Bytes::from(vec![0; 300]), version);
                check(&bytes::Bytes::from(vec![1; 300]), version);
            }
        }
    }

    #[test]
    fn seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/kafka_message");
        for seed in std::fs::read_dir(folder).unwrap() {
            super::message(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn a_count_of_billions_in_twelve_bytes_is_an_error() {
        use crate::{Codec, DecodeError, Reader, produce};
        let mut bytes = vec![0xff, 0xff, 0, 1, 0, 0, 0, 1];
        bytes.extend(i32::MAX.to_be_bytes());
        let decoded = produce::Request::decode(&mut Reader::new(bytes.into()), 3);
        assert_eq!(decoded, Err(DecodeError::Short("array")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(data in prop::collection::vec(0_u8..4, 2..200), which: u8) {
            let mut data = data;
            data[0] = which;
            super::message(&data);
        }
    }
}
