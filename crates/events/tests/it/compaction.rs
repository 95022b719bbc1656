//! Compaction under a model: whatever is written, aborted, deleted and compacted in whatever order,
//! the newest record of each key stays where it was, and numbered producers go on.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use base::ManualClock;
use bytes::Bytes;
use events::engine::batch::{Batch, Builder};
use events::engine::log::{Log, Options, Topic};
use events::engine::transactions::Transactions;
use testkit::{CrashDisk, Random};
use volumes::Volumes;

const RETENTION_MS: u64 = 60_000;

struct World {
    store: Volumes,
    log: Arc<Log>,
    transactions: Arc<Transactions>,
}

async fn open(disk: &CrashDisk, clock: &Arc<ManualClock>) -> World {
    let options = volumes::Options {
        volume_bytes: 64 << 10,
        reserve_bytes: 0,
        tail_bytes: 8 << 10,
        ..volumes::Options::default()
    };
    let store = Volumes::open(Arc::new(disk.clone()), clock.clone(), options).unwrap();
    let opened = Log::open(store.clone(), clock.clone(), 7, Options::default());
    let log = drive(&store, opened).await.unwrap();
    let transactions = Transactions::open(&log);
    World { store, log, transactions }
}

/// Polls a future and writes what waits, until it is ready.
async fn drive<T>(store: &Volumes, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        let ready = std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(value) = ready.await {
            return value;
        }
        if !store.turn() {
            // Something is done on another thread.
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
    }
}

/// A record that is there: its key and value.
type Kept = BTreeMap<i64, (String, Option<String>)>;

/// What was written for good, by offset, and who wrote last.
#[derive(Default)]
struct Model {
    written: Kept,
    sequences: BTreeMap<i64, i32>,
    count: usize,
}

impl Model {
    /// The newest record of each key.
    fn newest(&self) -> BTreeMap<&str, (i64, Option<&str>)> {
        let each = self.written.iter();
        each.map(|(offset, (key, value))| (key.as_str(), (*offset, value.as_deref()))).collect()
    }
}

/// A batch of a few records, in any codec; what is in it, and its bytes.
fn batch(
    model: &mut Model,
    random: &mut Random,
    now_ms: i64,
) -> (Vec<(String, Option<String>)>, Builder) {
    let mut records = Vec::new();
    let mut built = Builder::new(now_ms);
    for _ in 0..=random.below(5) {
        model.count += 1;
        let key = format!("key {}", random.below(40));
        let value =
            (random.below(5) > 0).then(|| format!("value {} {}", model.count, "x".repeat(60)));
        built =
            built.record(now_ms, Some(key.as_bytes()), value.as_ref().map(String::as_bytes), &[]);
        records.push((key, value));
    }
    (records, built)
}

async fn append(world: &World, topic: &Arc<Topic>, batch: Batch) -> i64 {
    let partition = topic.partition(0).unwrap();
    let appended = drive(&world.store, world.log.append(topic, &partition, batch)).await.unwrap();
    let base = appended.base_offset;
    drive(&world.store, appended.durable()).await.unwrap();
    base
}

/// All committed records that the partition has, as a reader of committed data sees them.
fn read(topic: &Topic) -> Kept {
    let partition = topic.partition(0).unwrap();
    partition.learn().unwrap();
    let stable = partition.stable_offset().unwrap();
    let (mut kept, mut next) = (Kept::new(), partition.start_offset());
    loop {
        let pieces = partition.read(next, 1 << 20, stable).unwrap();
        if pieces.is_empty() {
            return kept;
        }
        let mut bytes = Bytes::from(pieces.concat());
        // As clients do: whoever aborted is passed over from where that began up to the marker.
        let mut ahead = partition.aborted(next, stable).unwrap();
        ahead.sort_by_key(|aborted| aborted.first);
        ahead.reverse();
        let mut aborting = BTreeSet::new();
        while !bytes.is_empty() {
            let length = i32::from_be_bytes(bytes[8..12].try_into().unwrap());
            let one = Batch::kept(bytes.split_to(12 + usize::try_from(length).unwrap())).unwrap();
            let (base, producer) = (one.head.base_offset, one.head.producer_id);
            assert!(base >= next, "offsets go up");
            next = one.head.end_offset();
            while let Some(aborted) = ahead.pop_if(|aborted| aborted.first < next) {
                aborting.insert(aborted.producer);
            }
            if one.head.is_control() {
                let marker = one.records().unwrap().next().unwrap().unwrap();
                if marker.key.unwrap()[..] == [0, 0, 0, 0] {
                    aborting.remove(&producer);
                }
                continue;
            }
            if one.head.is_transactional() && aborting.contains(&producer) {
                continue;
            }
            for record in one.records().unwrap() {
                let record = record.unwrap();
                let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                let offset = base + i64::from(record.offset_delta);
                kept.insert(offset, (text(record.key.unwrap()), record.value.map(text)));
            }
        }
    }
}

fn check(model: &Model, topic: &Topic) -> usize {
    let kept = read(topic);
    for (offset, record) in &kept {
        assert_eq!(model.written.get(offset), Some(record), "at {offset} is what was written");
    }
    for (key, (offset, value)) in model.newest() {
        let found = kept.get(&offset).map(|(_, value)| value.as_deref());
        // A deletion may be gone in the end, with all that it deleted.
        let gone = value.is_none() && kept.values().all(|(other, _)| other != key);
        assert!(found == Some(value) || gone, "{key}: {found:?} at {offset} for {value:?}");
    }
    kept.len()
}

async fn life(seed: u64) -> (usize, usize) {
    let mut random = Random::new(seed);
    let random = &mut random;
    let (mut disk, clock) = (CrashDisk::new(seed), Arc::new(ManualClock::default()));
    let mut world = open(&disk, &clock).await;
    let config = [
        ("cleanup.policy", "compact".to_owned()),
        ("delete.retention.ms", RETENTION_MS.to_string()),
        ("min.cleanable.dirty.ratio", "0.1".to_owned()),
    ];
    let config = config.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let made = drive(&world.store, world.log.create("log", 1, 1, config)).await;
    let mut topic = made.unwrap();
    let mut model = Model::default();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(drive(&world.store, world.transactions.new_producer()).await.unwrap());
    }
    let mut left = 0;
    for _ in 0..600 {
        let now = world.log.now_ms();
        let (records, built) = batch(&mut model, random, now);
        match random.below(40) {
            0..16 => {
                let base = append(&world, &topic, built.build()).await;
                model.written.extend((base..).zip(records));
            }
            16..24 => {
                let id = ids[usize::try_from(random.below(3)).unwrap()];
                let sequence = model.sequences.entry(id).or_default();
                let one = built.producer(id, 0, *sequence).build();
                *sequence += i32::try_from(records.len()).unwrap();
                let base = append(&world, &topic, one.clone()).await;
                model.written.extend((base..).zip(records));
                assert_eq!(append(&world, &topic, one).await, base, "sent again, written once");
            }
            24..34 => {
                let began = world.transactions.begin_name("name", 60_000, None);
                let who = drive(&world.store, began).await.unwrap();
                let taking =
                    world.transactions.add_partitions("name", who, vec![("log".to_owned(), 0)]);
                drive(&world.store, taking).await.unwrap();
                let one = built.producer(who.producer, who.epoch, 0).transactional().build();
                let base = append(&world, &topic, one).await;
                let commit = random.below(2) == 0;
                let ending = world.transactions.end("name", who, commit);
                drive(&world.store, ending).await.unwrap();
                if commit {
                    model.written.extend((base..).zip(records));
                }
            }
            34..39 => {
                clock.advance(std::time::Duration::from_millis(random.below(2 * RETENTION_MS)));
                // Sometimes the power goes in the middle.
                let cut = random.chance(1, 4);
                if cut {
                    disk.crash_after(random.below(30));
                }
                while world.store.tend() {}
                while drive(&world.store, world.log.compact()).await {}
                if cut {
                    drop((topic, world));
                    disk = disk.reboot();
                    world = open(&disk, &clock).await;
                    topic = world.log.topic("log").unwrap();
                }
            }
            _ => {
                drop((topic, world));
                disk = disk.reboot();
                world = open(&disk, &clock).await;
                topic = world.log.topic("log").unwrap();
            }
        }
        left = check(&model, &topic);
    }
    (model.written.len(), left)
}

#[tokio::test]
async fn the_newest_of_each_key_stays() {
    for seed in 0..6 {
        let (written, left) = life(seed).await;
        assert!(left < written / 3, "seed {seed}: {left} of {written}");
    }
}
