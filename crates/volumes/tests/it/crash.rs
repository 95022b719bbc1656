//! Power cuts at every step, failed writes and full disks, under a model.

use testkit::{CrashDisk, Random};

use crate::model::{Model, open};

const OWNERS: u64 = 5;

/// One life of a disk: several openings, each ended by a power cut, a kill or a bad sector.
fn life(seed: u64) -> (usize, u64) {
    let mut random = Random::new(seed);
    let mut disk = CrashDisk::new(seed);
    let mut model = Model::default();
    let mut settled = 0;
    for _ in 0..4 {
        let store = loop {
            if random.chance(1, 3) {
                disk.crash_after(random.below(10));
            }
            match open(&disk) {
                Ok(store) if !disk.is_down() => break store,
                _ => disk = disk.reboot(),
            }
        };
        disk.behave();
        assert_eq!(store.recovered().damage, [], "a crash is no damage");
        model.check(&store, OWNERS);
        if random.chance(4, 5) {
            disk.crash_after(random.below(120));
        }
        if random.chance(1, 3) {
            // One bad sector, or a disk that fails for a while.
            let from = random.below(60);
            (from..=from + random.below(8)).for_each(|step| disk.fail_after(step));
        }
        if random.chance(1, 3) {
            disk.set_capacity(disk.used() + random.below(100 << 10));
        }
        for _ in 0..random.below(150) {
            if random.chance(1, 40) {
                disk.set_capacity(u64::MAX);
            }
            match random.below(10) {
                0..6 => model.append(&store, &mut random, OWNERS),
                6..9 => drop(store.turn()),
                _ => drop(store.tend()),
            }
            model.look();
            if disk.is_down() {
                break;
            }
        }
        settled += store.stats().settled_bytes;
        store.close();
        drop(store);
        // A kill leaves what the system holds in memory; a power cut does not.
        if disk.is_down() || random.chance(1, 2) {
            disk = disk.reboot();
        }
        disk.behave();
        disk.set_capacity(u64::MAX);
    }
    let store = open(&disk).expect("nothing stands in the way");
    model.check(&store, OWNERS);
    (model.durable(), settled)
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_else_is_made_up() {
    let seeds: u64 = std::env::var("MS_CRASH_SEEDS").map_or(300, |n| n.parse().expect("a number"));
    let from: u64 = std::env::var("MS_CRASH_FROM").map_or(0, |n| n.parse().expect("a number"));
    let (mut durable, mut settled) = (0, 0);
    for seed in from..from + seeds {
        let lived = std::panic::catch_unwind(|| life(seed));
        let lived = lived.unwrap_or_else(|_| panic!("MS_CRASH_FROM={seed} MS_CRASH_SEEDS=1"));
        durable += lived.0;
        settled += lived.1;
    }
    // The canary: a test that acknowledges nothing proves nothing.
    assert!(durable as u64 > seeds * 20, "{durable} batches were acknowledged");
    assert!(seeds < 100 || settled > seeds << 10, "{settled} bytes were settled");
}
