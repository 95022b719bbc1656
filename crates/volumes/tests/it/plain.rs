//! What a store does when nothing fails, and what it says when something does.

use bytes::Bytes;
use testkit::CrashDisk;
use volumes::{AppendError, Batch, ReadError, Record};

use crate::model::{all, append, open, owner};

fn record(sequence: u64, payload: &str) -> Record {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Record { sequence, span: 1, payload, ..Record::default() }
}

#[test]
fn what_waits_is_one_flush_however_many_owners_it_has() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    assert!(!store.turn());
    append(&store, Batch::new().put(owner(0), record(0, "first"))).unwrap().now();
    assert!(store.turn());
    let before = disk.flushes();
    let receipts: Vec<_> = (1..200)
        .map(|number| append(&store, Batch::new().put(owner(number), record(0, "x"))).unwrap())
        .collect();
    while store.turn() {}
    assert_eq!(store.stats().groups, 2);
    // Beside the group, zeros for the next ones at most.
    assert!(disk.flushes() - before <= 2);
    for receipt in receipts {
        receipt.wait().unwrap();
    }
    assert_eq!(store.stats().batches, 200);
    assert_eq!(all(&store, owner(199)), [record(0, "x")]);
}

#[test]
fn records_that_lie_side_by_side_are_one_piece() {
    let store = open(&CrashDisk::new(1)).unwrap();
    let mut batch = Batch::new();
    for sequence in 0..4 {
        batch.push(owner(2), record(sequence, "two"));
        batch.push(owner(1), record(sequence, "one"));
    }
    let mut receipt = append(&store, batch).unwrap();
    assert_eq!(receipt.now(), None);
    assert!(store.read(owner(1), 0, 100).unwrap().is_empty(), "not durable, not visible");
    store.turn();
    assert_eq!(receipt.now(), Some(Ok(())));
    let spans = store.read(owner(1), 1, 100).unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].payload, "oneoneone");
    assert_eq!(spans[0].records, [record(1, "one"), record(2, "one"), record(3, "one")]);
}

#[test]
fn an_owner_goes_forward_only() {
    let store = open(&CrashDisk::new(1)).unwrap();
    drop(append(&store, Batch::new().put(owner(1), record(5, "a"))).unwrap());
    let back = append(&store, Batch::new().put(owner(1), record(5, "a"))).unwrap_err();
    assert_eq!(back, AppendError::OutOfOrder { owner: owner(1), sequence: 5, end: 6 });
    store.turn();
    drop(append(&store, Batch::new().trim(owner(1), 6)).unwrap());
    store.turn();
    let gone = store.read(owner(1), 5, 1).unwrap_err();
    assert_eq!(gone, ReadError::Trimmed { owner: owner(1), start: 6 });
    assert!(store.read(owner(1), 6, 1).unwrap().is_empty());
}

#[test]
fn a_flipped_byte_in_the_middle_is_told_and_not_served() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    for sequence in 0..3 {
        drop(append(&store, Batch::new().put(owner(1), record(sequence, "payload"))).unwrap());
        store.turn();
    }
    drop(store);
    // Block 0 is the volume's header, each group is one block: the second group's payload.
    let content = disk.content("volume-000000");
    let at = 8192 + 96;
    assert_eq!(&content[at..at + 7], b"payload");
    disk.flip("volume-000000", at, 1);
    let store = open(&disk).unwrap();
    assert_eq!(store.recovered().damage.len(), 1, "{:?}", store.recovered());
    let spans = store.read(owner(1), 0, 100).unwrap();
    assert_eq!(spans.len(), 1, "up to the damage");
    let damaged = store.read(owner(1), 1, 100).unwrap_err();
    assert!(matches!(damaged, ReadError::Damaged { sequence: 1, .. }), "{damaged}");
    assert_eq!(store.read(owner(1), 2, 100).unwrap()[0].records, [record(2, "payload")]);
    let receipt = append(&store, Batch::new().put(owner(1), record(3, "more"))).unwrap();
    store.turn();
    receipt.wait().unwrap();
}

#[test]
fn a_full_disk_refuses_records_and_takes_trims() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    let payload = "x".repeat(3000);
    let mut next = 0;
    disk.set_capacity(disk.used() + (64 << 10));
    let error = loop {
        let receipt = append(&store, Batch::new().put(owner(1), record(next, &payload))).unwrap();
        store.turn();
        if let Err(error) = receipt.wait() {
            break error;
        }
        next += 1;
    };
    assert!(matches!(error, AppendError::Full(_)), "{error}");
    let fenced = append(&store, Batch::new().put(owner(1), record(next, "x"))).unwrap_err();
    assert_eq!(fenced, AppendError::Fenced(owner(1)));
    assert_eq!(store.resume(owner(1)), next);
    assert_eq!(all(&store, owner(1)).len() as u64, next, "what was acknowledged is served");
    disk.set_capacity(u64::MAX);
    let receipt = append(&store, Batch::new().put(owner(1), record(next, &payload))).unwrap();
    store.turn();
    receipt.wait().unwrap();
}

#[test]
fn a_failed_sync_ends_the_volume_and_not_the_writers() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    for sequence in 0..20 {
        if sequence == 10 {
            disk.fail_after(0);
        }
        let receipt =
            append(&store, Batch::new().put(owner(1), record(sequence, "payload"))).unwrap();
        store.turn();
        receipt.wait().unwrap();
    }
    assert_eq!(store.damage().len(), 1);
    assert_eq!(all(&store, owner(1)).len(), 20);
    let after = open(&disk.reboot()).unwrap();
    assert_eq!(after.recovered().damage, []);
    assert_eq!(all(&after, owner(1)).len(), 20);
}

#[test]
fn a_group_that_cannot_be_read_is_no_gap() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    for sequence in 0..3 {
        drop(append(&store, Batch::new().put(owner(1), record(sequence, "payload"))).unwrap());
        drop(append(&store, Batch::new().put(owner(2), record(sequence, "other"))).unwrap());
        store.turn();
    }
    drop(store);
    disk.flip("volume-000000", 8192 + 30, 1);
    for _ in 0..2 {
        let store = open(&disk).unwrap();
        assert_eq!(store.recovered().damage.len(), 1, "{:?}", store.recovered());
        for number in 1..3 {
            assert_eq!(store.read(owner(number), 0, 100).unwrap().len(), 1);
            let lost = store.read(owner(number), 1, 100).unwrap_err();
            assert!(matches!(lost, ReadError::Damaged { sequence: 1, .. }), "{lost}");
            assert_eq!(store.read(owner(number), 2, 100).unwrap().len(), 1);
        }
        // What is good is saved, and what is lost is still not taken for a gap.
        let rounds = (0..100).find(|_| !store.tend());
        assert!(rounds.is_some());
    }
}
