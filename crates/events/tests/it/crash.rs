//! Power cuts, kills, failed writes and full disks, under a model of what producers were told.
//!
//! Checked after every life: what was acknowledged is there, once and where it was said to be, in
//! the order in which its producer sent it; offsets have no gaps; of a transaction all is seen or
//! nothing, and what was acknowledged as committed or aborted is; committed offsets are what was
//! acknowledged last, or what was asked for since.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use base::ManualClock;
use bytes::Bytes;
use events::engine::batch::{Batch, Builder};
use events::engine::groups::Groups;
use events::engine::groups::offsets::{Committed, commit};
use events::engine::log::{Log, Options, Topic};
use events::engine::transactions::{Identity, Transactions};
use testkit::{CrashDisk, Random};
use volumes::Volumes;

const PARTITIONS: i32 = 3;
const PRODUCERS: usize = 3;

/// What a producer sent to a partition, by its number: where it was said to be.
#[derive(Default)]
struct Model {
    acknowledged: BTreeMap<(i32, String), i64>,
    /// By producer and partition, in the order of sending.
    sent: BTreeMap<(usize, i32), Vec<String>>,
    /// How transactions were said to have ended; those of which that is not known are in neither.
    committed: BTreeSet<String>,
    aborted: BTreeSet<String>,
    /// Of each transaction, what it wrote.
    members: BTreeMap<String, BTreeSet<(i32, String)>>,
    offset_acknowledged: Option<i64>,
    offsets_asked: Vec<i64>,
    topic: bool,
    count: usize,
}

/// A producer: its numbers, and what it has not been told of yet.
struct Producer {
    id: i64,
    next: BTreeMap<i32, i32>,
    /// Sent again after a crash, with the same numbers, before anything else.
    unsure: Vec<(i32, i32, String)>,
}

pub(crate) struct World {
    pub(crate) store: Volumes,
    pub(crate) log: Arc<Log>,
    pub(crate) groups: Arc<Groups>,
    transactions: Arc<Transactions>,
}

/// Polls a future and writes what waits, until it is ready or the disk is gone.
pub(crate) async fn drive<T>(
    disk: &CrashDisk,
    store: &Volumes,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    for _ in 0..100_000 {
        let ready = std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(value) = ready.await {
            return Some(value);
        }
        if disk.is_down() {
            return None;
        }
        if !store.turn() {
            // Something is done on another thread.
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
    }
    panic!("it never ends");
}

pub(crate) async fn open(disk: &CrashDisk) -> Option<World> {
    let options = volumes::Options {
        volume_bytes: 64 << 10,
        reserve_bytes: 0,
        tail_bytes: 8 << 10,
        ..volumes::Options::default()
    };
    let clock = Arc::new(ManualClock::default());
    let store = Volumes::open(Arc::new(disk.clone()), clock.clone(), options).ok()?;
    let opened = Log::open(store.clone(), clock, 7, Options::default());
    let log = drive(disk, &store, opened).await?.ok()?;
    let groups = Groups::open(&log, std::time::Duration::ZERO);
    let transactions = Transactions::open(&log);
    Some(World { store, log, groups, transactions })
}

fn batch(id: i64, epoch: i16, sequence: i32, value: &str, transactional: bool) -> Batch {
    let built = Builder::new(1).producer(id, epoch, sequence);
    let built = if transactional { built.transactional() } else { built };
    built.record(1, None, Some(value.as_bytes()), &[]).build()
}

impl Model {
    fn name(&mut self) -> String {
        self.count += 1;
        format!("value {}", self.count)
    }

    /// Sends numbered batches to several partitions at once, as a producer with several requests
    /// under way does. What fails or is not answered is sent again, first, with its numbers.
    async fn produce(
        &mut self,
        disk: &CrashDisk,
        world: &World,
        topic: &Arc<Topic>,
        who: usize,
        producer: &mut Producer,
        random: &mut Random,
    ) {
        let mut wanted = std::mem::take(&mut producer.unsure);
        if wanted.is_empty() {
            for _ in 0..=random.below(3) {
                let partition = i32::try_from(random.below(PARTITIONS as u64)).unwrap();
                let sequence = producer.next.entry(partition).or_default();
                let value = self.name();
                wanted.push((partition, *sequence, value.clone()));
                *sequence += 1;
                self.sent.entry((who, partition)).or_default().push(value);
            }
        }
        let mut under_way = Vec::new();
        for (index, sequence, value) in wanted {
            let partition = topic.partition(index).unwrap();
            let one = batch(producer.id, 0, sequence, &value, false);
            let appended =
                drive(disk, &world.store, world.log.append(topic, &partition, one)).await;
            match appended {
                Some(Ok(appending)) => under_way.push((index, sequence, value, Some(appending))),
                _ => under_way.push((index, sequence, value, None)),
            }
        }
        for (index, sequence, value, appending) in under_way {
            let mut done = false;
            if let Some(appending) = appending {
                let offset = appending.base_offset;
                if let Some(Ok(())) = drive(disk, &world.store, appending.durable()).await {
                    let before = self.acknowledged.insert((index, value.clone()), offset);
                    assert!(before.is_none_or(|before| before == offset), "{value} moved");
                    done = true;
                }
            }
            if !done {
                producer.unsure.push((index, sequence, value));
            }
        }
    }

    /// A transaction over several partitions, of which the end may not be heard.
    async fn transact(
        &mut self,
        disk: &CrashDisk,
        world: &World,
        topic: &Arc<Topic>,
        random: &mut Random,
    ) -> Option<()> {
        let store = &world.store;
        let begun = world.transactions.begin_name("transactions", 60_000, None);
        let mut identity = drive(disk, store, begun).await?.ok()?;
        while random.chance(1, 2) {
            // The producer goes on with another epoch.
            let commits = self.write(disk, world, topic, identity, random).await?;
            let ended = world.transactions.end_and_go_on("transactions", identity, commits);
            let next = drive(disk, store, ended).await?.ok()?;
            assert_ne!(next, identity);
            self.ended(identity, commits);
            // Asked again, it says the same; an older one is told that it is.
            let again = world.transactions.end_and_go_on("transactions", identity, commits);
            assert_eq!(drive(disk, store, again).await?.ok()?, next);
            let other = world.transactions.end_and_go_on("transactions", identity, !commits);
            assert!(drive(disk, store, other).await?.is_err());
            identity = next;
        }
        let commits = self.write(disk, world, topic, identity, random).await?;
        let ended = world.transactions.end("transactions", identity, commits);
        drive(disk, store, ended).await?.ok()?;
        self.ended(identity, commits);
        Some(())
    }

    fn ended(&mut self, by: Identity, commits: bool) {
        let name = format!("transaction {}/{}", by.producer, by.epoch);
        if commits { &mut self.committed } else { &mut self.aborted }.insert(name);
    }

    /// Writes a transaction, and says whether it is to be committed; `None` if it is left open.
    async fn write(
        &mut self,
        disk: &CrashDisk,
        world: &World,
        topic: &Arc<Topic>,
        identity: Identity,
        random: &mut Random,
    ) -> Option<bool> {
        let (store, Identity { producer, epoch }) = (&world.store, identity);
        let name = format!("transaction {producer}/{epoch}");
        let all: Vec<(String, i32)> = (0..PARTITIONS).map(|at| (topic.name.clone(), at)).collect();
        drive(disk, store, world.transactions.add_partitions("transactions", identity, all))
            .await?
            .ok()?;
        for index in 0..PARTITIONS {
            let value = self.name();
            self.members.entry(name.clone()).or_default().insert((index, value.clone()));
            let partition = topic.partition(index).unwrap();
            let one = batch(producer, epoch, 0, &value, true);
            let appended =
                drive(disk, store, world.log.append(topic, &partition, one)).await?.ok()?;
            drive(disk, store, appended.durable()).await?.ok()?;
        }
        if random.chance(1, 4) {
            // Left open: whoever comes next aborts it.
            return None;
        }
        Some(random.chance(2, 3))
    }

    async fn check(&self, disk: &CrashDisk, world: &World) {
        let Some(topic) = world.log.topic("topic") else {
            assert!(!self.topic, "the topic is gone");
            return;
        };
        let mut seen: BTreeMap<(i32, String), i64> = BTreeMap::new();
        let mut committed: BTreeSet<(i32, String)> = BTreeSet::new();
        for index in 0..PARTITIONS {
            let partition = topic.partition(index).unwrap();
            let learned = drive(disk, &world.store, events::engine::log::learn(&partition)).await;
            learned.unwrap().unwrap();
            let end = partition.end_offset();
            let stable = partition.stable_offset().unwrap();
            let aborted = partition.aborted(0, end).unwrap();
            let mut next = partition.start_offset();
            while next < end {
                let pieces = partition.read(next, 1 << 20, end).unwrap();
                for mut piece in pieces {
                    while !piece.is_empty() {
                        let length =
                            12 + u32::from_be_bytes(piece[8..12].try_into().unwrap()) as usize;
                        let bytes: Bytes = piece.split_to(length);
                        let one = Batch::kept(bytes).unwrap();
                        let (head, offset) = (one.head, one.head.base_offset);
                        assert_eq!(offset, next, "offsets have no gaps");
                        next = head.end_offset();
                        if head.is_control() {
                            continue;
                        }
                        let record = one.records().unwrap().next().unwrap().unwrap();
                        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                        let key = (index, value);
                        assert!(
                            seen.insert(key.clone(), offset).is_none(),
                            "{key:?} is there twice"
                        );
                        let gone = aborted.iter().any(|aborted| {
                            aborted.producer == head.producer_id
                                && (aborted.first..aborted.marker).contains(&offset)
                        });
                        if offset < stable && !gone {
                            committed.insert(key);
                        }
                    }
                }
            }
        }
        for (key, offset) in &self.acknowledged {
            assert_eq!(seen.get(key), Some(offset), "{key:?} was acknowledged");
        }
        for ((_, index), values) in &self.sent {
            let offsets: Vec<i64> = values
                .iter()
                .filter_map(|value| seen.get(&(*index, value.clone())).copied())
                .collect();
            assert!(offsets.is_sorted(), "a producer's order");
        }
        for (name, members) in &self.members {
            let there = members.iter().filter(|member| committed.contains(*member)).count();
            if self.committed.contains(name) {
                assert_eq!(there, members.len(), "{name} was committed");
            } else if self.aborted.contains(name) {
                assert_eq!(there, 0, "{name} was aborted");
            } else {
                assert!(there == 0 || there == members.len(), "{name} is seen in part");
            }
        }
        let offset = world.groups.committed("group", "topic", 0).map(|committed| committed.offset);
        let since = self.offset_acknowledged;
        let fits =
            offset == since || offset.is_some_and(|offset| self.offsets_asked.contains(&offset));
        assert!(fits, "committed {offset:?}, acknowledged {since:?}");
    }
}

/// One life of a disk: several openings, each ended by a power cut, a kill or a bad sector.
async fn life(seed: u64) -> (usize, usize) {
    let mut random = Random::new(seed);
    let mut disk = CrashDisk::new(seed);
    let mut model = Model::default();
    let mut producers: Vec<Producer> = Vec::new();
    for _ in 0..4 {
        let world = loop {
            if random.chance(1, 4) {
                disk.crash_after(random.below(15));
            }
            match open(&disk).await {
                Some(world) if !disk.is_down() => break world,
                _ => disk = disk.reboot(),
            }
        };
        disk.behave();
        model.check(&disk, &world).await;
        if random.chance(4, 5) {
            disk.crash_after(20 + random.below(200));
        }
        if random.chance(1, 3) {
            let from = random.below(80);
            (from..=from + random.below(6)).for_each(|step| disk.fail_after(step));
        }
        if random.chance(1, 4) {
            disk.set_capacity(disk.used() + (64 << 10) + random.below(200 << 10));
        }
        if world.log.topic("topic").is_none() {
            let made = world.log.create("topic", 42, PARTITIONS, BTreeMap::new());
            model.topic |= matches!(drive(&disk, &world.store, made).await, Some(Ok(_)));
        }
        while producers.len() < PRODUCERS {
            let new = drive(&disk, &world.store, world.transactions.new_producer()).await;
            let Some(Ok(id)) = new else { break };
            producers.push(Producer { id, next: BTreeMap::new(), unsure: Vec::new() });
        }
        for _ in 0..random.below(60) {
            let Some(topic) = world.log.topic("topic") else { break };
            if random.chance(1, 30) {
                disk.set_capacity(u64::MAX);
            }
            match random.below(10) {
                0..7 if !producers.is_empty() => {
                    let who = usize::try_from(random.below(producers.len() as u64)).unwrap();
                    let producer = &mut producers[who];
                    model.produce(&disk, &world, &topic, who, producer, &mut random).await;
                }
                7 => {
                    let _ = model.transact(&disk, &world, &topic, &mut random).await;
                }
                8 => {
                    let offset = i64::try_from(model.count).unwrap();
                    let committed = Committed { offset, epoch: -1, ..Committed::default() };
                    model.offsets_asked.push(offset);
                    let asked = world.groups.commit(vec![commit("group", "topic", 0, &committed)]);
                    if let Some(Ok(())) = drive(&disk, &world.store, asked).await {
                        model.offset_acknowledged = Some(offset);
                        model.offsets_asked.clear();
                    }
                }
                _ => {
                    let _ = world.store.tend();
                }
            }
            if disk.is_down() {
                break;
            }
        }
        world.store.close();
        drop(world);
        if disk.is_down() || random.chance(1, 2) {
            disk = disk.reboot();
        }
        disk.behave();
        disk.set_capacity(u64::MAX);
    }
    let world = open(&disk).await.expect("nothing stands in the way");
    model.check(&disk, &world).await;
    (model.acknowledged.len(), model.committed.len())
}

#[test]
fn what_producers_were_told_holds_after_every_crash() {
    let seeds: u64 = std::env::var("MS_CRASH_SEEDS").map_or(60, |n| n.parse().expect("a number"));
    let from: u64 = std::env::var("MS_CRASH_FROM").map_or(0, |n| n.parse().expect("a number"));
    let (mut acknowledged, mut committed) = (0, 0);
    for seed in from..from + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lived = std::panic::catch_unwind(|| runtime.block_on(life(seed)));
        let lived = lived.unwrap_or_else(|_| panic!("MS_CRASH_FROM={seed} MS_CRASH_SEEDS=1"));
        acknowledged += lived.0;
        committed += lived.1;
    }
    // The canary: a test that acknowledges nothing proves nothing.
    assert!(acknowledged as u64 > seeds * 20, "{acknowledged} batches were acknowledged");
    assert!(committed as u64 > seeds / 2, "{committed} transactions were committed");
}

#[tokio::test]
async fn a_topic_that_was_deleted_leaves_nothing() {
    let mut gone = 0;
    for step in 0..40 {
        let mut disk = CrashDisk::new(step);
        let world = open(&disk).await.unwrap();
        let creating = world.log.create("topic", 1, PARTITIONS, BTreeMap::new());
        let topic = drive(&disk, &world.store, creating).await.unwrap().unwrap();
        for partition in &*topic.partitions() {
            let appending = world.log.append(&topic, partition, batch(-1, -1, -1, "value", false));
            let appending = drive(&disk, &world.store, appending).await.unwrap().unwrap();
            drive(&disk, &world.store, appending.durable()).await.unwrap().unwrap();
        }
        disk.crash_after(step);
        let _ = drive(&disk, &world.store, world.log.delete(&topic)).await;
        drop((topic, world));
        disk = disk.reboot();
        let world = open(&disk).await.unwrap();
        while world.store.turn() {}
        let held = world.store.owners(1).values().filter(|bounds| bounds.bytes > 0).count();
        let wanted = match world.log.topic("topic") {
            Some(_) => 1 + usize::try_from(PARTITIONS).unwrap(),
            None => 1,
        };
        assert_eq!(held, wanted, "with the journal, after {step} steps");
        gone += usize::from(wanted == 1);
    }
    assert!((1..40).contains(&gone), "both were tried: {gone}");
}

#[tokio::test]
async fn an_end_that_is_not_durable_is_not_shown() {
    let disk = CrashDisk::new(1);
    let world = open(&disk).await.unwrap();
    let creating = world.log.create("topic", 1, 1, BTreeMap::new());
    let topic = drive(&disk, &world.store, creating).await.unwrap().unwrap();
    let partition = topic.partition(0).unwrap();
    for commit in [true, false] {
        let began = world.transactions.begin_name("name", 60_000, None);
        let who = drive(&disk, &world.store, began).await.unwrap().unwrap();
        let wanted = vec![("topic".to_owned(), 0)];
        let adding = world.transactions.add_partitions("name", who, wanted);
        drive(&disk, &world.store, adding).await.unwrap().unwrap();
        let one = batch(who.producer, who.epoch, 0, "value", true);
        let appending = world.log.append(&topic, &partition, one);
        let appending = drive(&disk, &world.store, appending).await.unwrap().unwrap();
        let first = appending.base_offset;
        drive(&disk, &world.store, appending.durable()).await.unwrap().unwrap();
        assert_eq!(partition.stable_offset(), Some(first), "it is open");
        let mut ending = pin!(world.transactions.end("name", who, commit));
        // As far as it goes while nothing is written.
        for _ in 0..10 {
            let ready = std::future::poll_fn(|context| {
                Poll::Ready(ending.as_mut().poll(context).is_ready())
            });
            assert!(!ready.await, "nothing was written");
        }
        assert_eq!(partition.stable_offset(), Some(first), "a crash would undo it");
        drive(&disk, &world.store, ending).await.unwrap().unwrap();
        assert_eq!(partition.stable_offset(), Some(first + 2), "with its marker");
    }
}
