//! What must hold for any bytes in records, messages, files of the kernel and names.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.

use std::net::IpAddr;

use base::{InstanceId, Ipv4Cidr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::shim::view::root;
use crate::wire::{self, Birth, Reply, Request, RunRecord, ShimSpec};
use crate::{Exit, ProcessSpec, cgroup, hosts, listen, procfs};

/// A record of an instance folder, or a message between agent and shim behind its length.
///
/// # Panics
/// When what was read is another after it was written and read again, or the two readers of a
/// message disagree.
pub fn instance_record(bytes: &[u8]) {
    record::<Exit>(bytes);
    record::<RunRecord>(bytes);
    record::<ProcessSpec>(bytes);
    record::<ShimSpec>(bytes);
    message::<Request>(bytes);
    message::<Reply>(bytes);
    message::<Birth>(bytes);
}

fn record<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<T>(bytes) {
        same_again(&record);
    }
}

fn message<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let decoded = wire::decode::<T>(bytes);
    let received = wire::receive::<T>(bytes);
    // Who reads from a stream finds an end where the other waits for more.
    match (&decoded, &received) {
        (Ok(Some(_)), Ok(_)) | (Err(_) | Ok(None), Err(_)) => {}
        _ => panic!("decoded: {}, received: {}", decoded.is_ok(), received.is_ok()),
    }
    if let Ok(Some(message)) = decoded {
        same_again(&message);
    }
}

fn same_again<T: Serialize + DeserializeOwned>(first: &T) {
    // Longer messages are not sent.
    let Ok(written) = wire::encode(first) else { return };
    let again = match wire::decode::<T>(&written) {
        Ok(Some(again)) => again,
        _ => panic!("cannot be read: {}", written.escape_ascii()),
    };
    let again = wire::encode(&again).unwrap_or_default();
    // A fraction may be rounded each time.
    assert!(again == written || written.contains(&b'.'), "{}", written.escape_ascii());
}

/// What the kernel says about processes, mounts, cgroups and sockets; and names for `/etc/hosts`,
/// one a line.
///
/// # Panics
/// When a name gives `/etc/hosts` a line, or a line a name, that nobody asked for.
pub fn host_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    procfs::parse_stat(&text);
    for controller in [None, Some("memory")] {
        if let Some(found) = cgroup::find(&text, &text, controller, "mainspring") {
            assert!(!found.own.as_os_str().is_empty());
        }
    }
    root::v1_hierarchies(&text);
    for line in text.lines() {
        root::disk_mount(line);
        listen::listener(line, "0A", listen::ipv4);
        listen::listener(line, "07", listen::ipv6);
        if let Ok(range) = line.parse::<Ipv4Cidr>() {
            assert_eq!(range.to_string().parse(), Ok(range));
        }
        if let Ok(id) = line.parse::<InstanceId>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
    let names: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let entries = [(IpAddr::from([127, 64, 0, 1]), names.clone())];
    let written = hosts::text(names.first().map(String::as_str), None, &entries);
    assert!(written.lines().count() <= 4, "{written}");
    for line in written.lines().skip(2) {
        let mut words = line.split_whitespace();
        assert!(words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok()), "{written}");
        assert!(words.all(|word| names.iter().any(|name| name == word)), "{written}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for (target, run) in
            [("instance_record", instance_record as fn(&[u8])), ("host_files", host_files)]
        {
            let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(folder).unwrap() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
