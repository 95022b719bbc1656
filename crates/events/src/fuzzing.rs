//! What must hold for any bytes of a login.
//!
//! Not here: the making of bytes, which `fuzz/` does. Only compiled for tests and under
//! `cfg(fuzzing)`.

use crate::security::credentials::plain_message;
use crate::security::scram::{Credential, First, Mechanism};

/// A client's first message and, after a line break, its last.
///
/// # Panics
/// When somebody who is nobody is let in.
pub fn login(bytes: &[u8]) {
    let _ = plain_message(bytes);
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let first = parts.next().unwrap_or_default();
    let last = parts.next().unwrap_or_default();
    if let Ok(first) = First::parse(first) {
        let nobody = Credential::of_nobody(Mechanism::Sha256, &first.user, b"secret");
        let exchange = first.challenge(Mechanism::Sha256, nobody, b"random");
        assert!(exchange.finish(last).is_err(), "nobody was let in");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/login");
        for seed in std::fs::read_dir(folder).unwrap() {
            login(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
