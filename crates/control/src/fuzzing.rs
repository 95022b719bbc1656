//! What must hold for any bytes in the store.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use base::{Ipv4Cidr, ManualClock};

use crate::embedded::codec;
use crate::keys;
use crate::record::EventRecord;
use crate::store::{Entry, Listing, Store, StoreError, Txn};
use crate::{Embedded, State, view};

/// Records, each a line of its key, a tab and its JSON. All of it is a row of history too.
///
/// # Panics
/// When what was read is another after it was written and read again.
pub fn store_record(bytes: &[u8]) {
    if let Ok(changes) = codec::row(7, bytes) {
        let again = codec::row(7, &codec::row_bytes(&changes));
        assert_eq!(again.ok(), Some(changes));
    }
    if let Ok(entry) = codec::entry("/k", bytes) {
        assert_eq!(codec::entry_bytes(&entry), bytes);
    }
    let lines = std::str::from_utf8(bytes).unwrap_or_default().lines();
    let entries = lines.filter_map(|line| line.split_once('\t')).map(|(key, value)| Entry {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
        created: 1,
        modified: 1,
        lease: None,
    });
    let entries: Vec<_> = entries.collect();
    for entry in entries.iter().filter(|entry| entry.key.starts_with(keys::EVENTS)) {
        let _ = keys::read::<Vec<EventRecord>>(entry);
    }
    let pool = Ipv4Cidr::new(Ipv4Addr::new(127, 64, 0, 0), 16).expect("16 bits are a prefix");
    if let Ok(mut state) = keys::load(&entries, State::new(pool, 1)) {
        state.readdress();
        for service in view::services(&state) {
            let _ = view::releases(&state, &service.name);
        }
        for instance in state.instances.values() {
            let _ = view::instance(&state, instance);
        }
        for service in state.services.values() {
            let json = keys::json(&**service).expect("a record can be written");
            let entry = |value| Entry { value, ..entries[0].clone() };
            assert_eq!(keys::read(&entry(json)).ok().as_ref(), Some(&**service));
        }
    }
}

/// Damage to a good store: each five bytes are a place and what its byte is changed by.
///
/// # Panics
/// When the damage is not noticed and something else is read than one of the commits left.
pub fn store_file(bytes: &[u8]) {
    static GOOD: OnceLock<(Vec<u8>, Listing)> = OnceLock::new();
    let (good, want) = GOOD.get_or_init(good);
    let mut file = good.clone();
    for edit in bytes.chunks_exact(5) {
        let place = u32::from_le_bytes([edit[0], edit[1], edit[2], edit[3]]) as usize;
        let place = place % file.len();
        file[place] ^= edit[4];
    }
    let dir = tempfile::tempdir().expect("the folder for temporary files can be written to");
    let path = dir.path().join("store");
    std::fs::write(&path, &file).expect("a temporary file can be written");
    let read = || -> Result<Listing, StoreError> {
        let store = Embedded::open(&path, Arc::new(ManualClock::default()))?;
        let listing = store.range("/")?;
        store.watch("/", 1)?.poll()?;
        store.commit(&Txn::new().put("/later", "1"))?;
        Ok(listing)
    };
    if let Ok(found) = read() {
        // Each commit made one entry; redb may have gone back by one.
        let kept = want.entries.iter().filter(|entry| entry.modified <= found.revision);
        assert_eq!(found.entries, kept.cloned().collect::<Vec<_>>());
    }
}

fn good() -> (Vec<u8>, Listing) {
    let dir = tempfile::tempdir().expect("the folder for temporary files can be written to");
    let path = dir.path().join("store");
    let store = Embedded::open(&path, Arc::new(ManualClock::default()));
    let store = store.expect("a new store can be opened");
    for number in 0..20 {
        let txn = Txn::new().put(format!("/apps/a/{number}"), vec![number; 300]);
        store.commit(&txn).expect("a small change can be written");
    }
    let listing = store.range("/").expect("what was written can be read");
    drop(store);
    (std::fs::read(path).expect("what was written can be read"), listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for (target, run) in
            [("store_record", store_record as fn(&[u8])), ("store_file", store_file)]
        {
            let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(folder).unwrap() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
