//! What must hold for any bytes that arrive as a question.
//!
//! Not here: the making of bytes, which `fuzz/` does. Only compiled for tests and under
//! `cfg(fuzzing)`.

use std::net::{IpAddr, Ipv6Addr};

use crate::message::{self, Code};

/// A datagram, or a message of a stream.
///
/// # Panics
/// When an answer is longer than a datagram may be, or is no answer to what was asked.
pub fn dns_question(bytes: &[u8]) {
    let addresses = [IpAddr::from([127, 64, 0, 1]), Ipv6Addr::LOCALHOST.into()];
    match message::read(bytes) {
        Ok(question) => {
            for answer in [question.answer(&addresses), question.head(Code::Refused)] {
                assert!(question.is_answered_by(&answer), "{question:?}: {answer:?}");
                assert!(answer.len() <= 512, "{} bytes", answer.len());
                assert_eq!(message::read(&answer), Err(None), "an answer is no question");
            }
            let name = question.name().unwrap_or_default();
            assert!(name.len() < 255 && !name.contains(char::is_uppercase), "{name}");
        }
        Err(Some(answer)) => assert_eq!(answer[..2], bytes[..2]),
        Err(None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        let folder = format!("{}/../../fuzz/seeds/dns_question", env!("CARGO_MANIFEST_DIR"));
        for seed in std::fs::read_dir(folder).unwrap() {
            let seed = std::fs::read(seed.unwrap().path()).unwrap();
            dns_question(&seed);
            for at in 0..seed.len() {
                dns_question(&seed[..at]);
                for byte in [0, 1, 63, 64, 0xc0, 0xff] {
                    let mut changed = seed.clone();
                    changed[at] = byte;
                    dns_question(&changed);
                }
            }
        }
    }
}
