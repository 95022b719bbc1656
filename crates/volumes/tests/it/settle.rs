//! Sealing, settling and space that comes back.

use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, UnixNanos};
use bytes::Bytes;
use testkit::CrashDisk;
use volumes::{Batch, Judge, Owner, Record, Verdict, Volumes};

use crate::model::{all, append, open, open_at, owner};

fn record(sequence: u64) -> Record {
    let payload = Bytes::from(vec![u8::try_from(sequence % 251).expect("below 251"); 1000]);
    Record { sequence, span: 1, time: sequence, payload, ..Record::default() }
}

/// Does all there is to do.
fn tend(store: &Volumes) {
    let rounds = (0..1000).find(|_| !store.tend());
    assert!(rounds.is_some(), "the background does not come to rest");
}

/// Appends a record for each of `owners` owners in each of `groups` groups.
fn fill(store: &Volumes, owners: u64, from: u64, groups: u64) {
    for sequence in from..from + groups {
        for number in 0..owners {
            drop(
                append(store, Batch::new().put(owner(number), record(sequence)))
                    .expect("it is in order"),
            );
        }
        while store.turn() {}
    }
}

#[test]
fn what_is_settled_lies_together_and_is_the_same() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    fill(&store, 10, 0, 40);
    let before: Vec<_> = (0..10).map(|number| all(&store, owner(number))).collect();
    assert!(store.read(owner(3), 0, 1 << 20).unwrap().len() >= 40, "a run for each group");
    tend(&store);
    assert!(store.stats().settled_bytes > 0);
    assert!(store.read(owner(3), 0, 1 << 20).unwrap().len() < 20, "long runs");
    let after: Vec<_> = (0..10).map(|number| all(&store, owner(number))).collect();
    assert_eq!(before, after);
    drop(store);
    let store = open(&disk.reboot()).unwrap();
    assert_eq!(store.recovered().damage, []);
    let recovered: Vec<_> = (0..10).map(|number| all(&store, owner(number))).collect();
    assert_eq!(before, recovered);
    // Footers are read and not scanned: what is scanned is one volume at most.
    assert!(store.recovered().footers > 1, "{:?}", store.recovered());
    assert!(store.recovered().scanned <= 1);
}

#[test]
fn what_is_given_up_is_space_again() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    let mut most = 0;
    for round in 0..30 {
        fill(&store, 5, round * 20, 20);
        for number in 0..5 {
            let keep = (round * 20).saturating_sub(20);
            drop(append(&store, Batch::new().trim(owner(number), keep)).unwrap());
        }
        while store.turn() {}
        tend(&store);
        most = most.max(disk.used());
    }
    // 3 MB went through, 200 KB are wanted.
    assert!(most < 1_200_000, "{most} bytes");
    let store = open(&disk.reboot()).unwrap();
    assert_eq!(all(&store, owner(4)).len(), 40);
}

#[test]
fn an_owner_that_is_given_up_leaves_nothing() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    fill(&store, 3, 0, 60);
    for number in 0..3 {
        drop(append(&store, Batch::new().trim(owner(number), u64::MAX)).unwrap());
    }
    while store.turn() {}
    fill(&store, 1, u64::MAX, 0);
    // Another owner ends the volumes that remember the others.
    for sequence in 0..200 {
        drop(append(&store, Batch::new().put(owner(7), record(sequence))).unwrap());
        store.turn();
        store.tend();
    }
    tend(&store);
    assert_eq!(store.owners(1).into_keys().collect::<Vec<_>>(), [owner(7)]);
    assert_eq!(store.stats().owners, 1);
}

/// Keeps even sequences, and marks them.
struct Even;

impl Judge for Even {
    fn judge(&self, _: Owner, record: &Record) -> Verdict {
        if record.sequence % 2 == 1 {
            return Verdict::Drop;
        }
        Verdict::Replace(Record { payload: Bytes::from_static(b"even"), ..record.clone() })
    }
}

#[test]
fn a_judge_compacts() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    store.set_judge(1, Arc::new(Even));
    fill(&store, 2, 0, 200);
    tend(&store);
    let store = open(&disk.reboot()).unwrap();
    let records = all(&store, owner(1));
    let settled = records.iter().take_while(|record| record.payload == "even").count();
    assert!(settled > 50 && records[..settled].iter().all(|record| record.sequence % 2 == 0));
    assert!(records[settled..].iter().all(|record| record.payload.len() == 1000));
    assert_eq!(store.bounds(owner(1)).unwrap().end, 200);
}

#[test]
fn what_is_good_is_saved_from_a_bad_volume() {
    let disk = CrashDisk::new(1);
    let store = open(&disk).unwrap();
    fill(&store, 2, 0, 60);
    tend(&store);
    drop(store);
    let names: Vec<String> = volumes::Disk::names(&disk).unwrap();
    // One that settling wrote, as its header says.
    let settled = |name: &&String| name.starts_with("volume-") && disk.content(name)[10] == 1;
    let name = names.iter().find(settled).unwrap();
    // The payload of the first record of the first group.
    disk.flip(name, 4096 + 200, 1);
    let store = open(&disk).unwrap();
    let count = |store: &Volumes| {
        let mut good = 0;
        for number in 0..2 {
            for sequence in 0..60 {
                let span = store.read(owner(number), sequence, 1);
                good += usize::from(span.is_ok_and(|s| s[0].records[0] == record(sequence)));
            }
        }
        good
    };
    assert_eq!(count(&store), 119);
    assert_eq!(store.damage().len(), 1, "{:?}", store.damage());
    fill(&store, 2, 60, 100);
    tend(&store);
    assert_eq!(count(&store), 119);
    let store = open(&disk.reboot()).unwrap();
    assert_eq!(count(&store), 119);
}

#[test]
fn a_disk_that_forgets_is_noticed_by_scrubbing() {
    let disk = CrashDisk::new(1);
    let clock = Arc::new(ManualClock::new(UnixNanos(1)));
    let store = open_at(&disk, &clock).unwrap();
    fill(&store, 2, 0, 150);
    tend(&store);
    let names: Vec<String> = volumes::Disk::names(&disk).unwrap();
    let settled = |name: &&String| name.starts_with("volume-") && disk.content(name)[10] == 1;
    let name = names.iter().find(settled).unwrap();
    // The first group's header: whose records are in it cannot be told from it.
    disk.flip(name, 4096 + 30, 1);
    assert_eq!(store.damage(), []);
    for _ in 0..20 {
        clock.advance(Duration::from_secs(60));
        tend(&store);
    }
    assert_eq!(store.damage().len(), 1, "{:?}", store.damage());
    // The footer knew where everything is: nothing is lost, and it lies elsewhere now.
    let records: Vec<_> = (0..2).map(|number| all(&store, owner(number)).len()).collect();
    assert_eq!(records, [150, 150]);
    let store = open(&disk.reboot()).unwrap();
    assert_eq!(all(&store, owner(0)).len(), 150);
}
