//! What must hold for any bytes of `/proc/net/tcp`, and of certificates.
//!
//! Not here: the making of bytes, which `fuzz/` does. Only compiled for tests and under
//! `cfg(fuzzing)`.

use std::net::{Ipv4Addr, SocketAddr};

use crate::holder::{listener_inode, parse_address};

/// Lines of `/proc/net/tcp`, and addresses as they stand there.
///
/// # Panics
/// Never; that is the property.
pub fn host_files(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        parse_address(line);
        listener_inode(line, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080));
    }
}

/// Certificates, of which the subject is read.
///
/// # Panics
/// Never; that is the property.
pub fn subjects(bytes: &[u8]) {
    let _ = crate::Subject::of(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
        for (target, run) in [("host_files", host_files as fn(&[u8])), ("certificate", subjects)] {
            for seed in std::fs::read_dir(format!("{folder}/{target}")).unwrap() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
