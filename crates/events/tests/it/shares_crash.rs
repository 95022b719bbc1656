//! A share group over a disk that crashes and fails: what members were told of their verdicts holds.
//!
//! Checked at every delivery and in the end: a record is out with one member at a time; one that
//! was accepted or rejected, as far as the member was told, never comes again; every record that
//! was acknowledged to its producer is accepted in the end or has a dead letter, whatever happened
//! in between; whatever was rejected has one, and nothing has one that nobody may have given up on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::engine::batch::{Batch, Builder};
use events::engine::groups::letters::Address;
use events::engine::groups::rules::{Begin, Rules};
use events::engine::groups::share::{Terms, Verdict};
use events::engine::groups::shares::{Held, Wanted};
use events::engine::log::Topic;
use testkit::{CrashDisk, Random};

use crate::crash::{World, drive, open};

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const LETTERS: &str = "dlq.jobs";

fn rules() -> Rules {
    Rules {
        terms: Terms { lock_ms: 30_000, deliveries_max: 4, live_max: 20 },
        begin: Begin::Earliest,
        committed_only: false,
        letters_to: Some(Address { topic: LETTERS.into(), copies_records: true }),
    }
}

#[derive(Default)]
struct Model {
    count: u64,
    /// Offset and value of what was acknowledged.
    produced: BTreeMap<i64, String>,
    /// What members have, in this life.
    out: BTreeMap<i64, usize>,
    /// Failed writes that it knows of, in this life.
    setbacks: u64,
    /// Told to be done with.
    accepted: BTreeSet<i64>,
    rejected: BTreeSet<i64>,
    /// Was accepted, and that was not answered.
    unsure: BTreeSet<i64>,
    /// Was rejected, or delivered several times, answered or not.
    may_be_dead: BTreeSet<i64>,
    told: u64,
}

impl Model {
    async fn produce(&mut self, disk: &CrashDisk, world: &World, topic: &Topic, n: u64) {
        let partition = topic.partition(0).unwrap();
        let mut builder = Builder::new(1);
        let mut values = Vec::new();
        for _ in 0..n {
            self.count += 1;
            values.push(format!("job {}", self.count));
            builder = builder.record(1, None, values.last().map(String::as_bytes), &[]);
        }
        let appended = world.log.append(topic, &partition, builder.build());
        if let Some(Ok(appending)) = drive(disk, &world.store, appended).await {
            let base = appending.base_offset;
            if let Some(Ok(())) = drive(disk, &world.store, appending.durable()).await {
                self.produced.extend((base..).zip(values));
            }
        }
    }

    async fn take(&mut self, disk: &CrashDisk, world: &World, held: &Arc<Held>, who: usize) {
        let member = MEMBERS[who].into();
        if std::mem::replace(&mut self.setbacks, held.setbacks()) != held.setbacks() {
            self.out.clear();
        }
        let wanted = Wanted { records: 7, bytes: 1 << 20 };
        let rules = rules();
        let taking = world.groups.shares.take(held, &member, wanted, &rules);
        let Some(Ok(taken)) = drive(disk, &world.store, taking).await else { return };
        let inside: BTreeSet<i64> = Batch::each(&taken.batches)
            .flat_map(|batch| batch.head.base_offset..batch.head.end_offset())
            .collect();
        let each = Batch::each(&taken.batches).map(|batch| batch.head.base_offset);
        assert!(each.is_sorted_by(|a, b| a < b), "batches come in their order, each once");
        for one in &taken.acquired {
            for offset in one.first..=one.last {
                assert!(inside.contains(&offset), "{offset} is told of and not there");
                assert!(!self.accepted.contains(&offset), "{offset} was accepted");
                assert!(!self.rejected.contains(&offset), "{offset} was rejected");
                assert_eq!(self.out.insert(offset, who), None, "{offset} is with another");
                assert!(one.count <= rules.terms.deliveries_max);
                if one.count == rules.terms.deliveries_max {
                    self.may_be_dead.insert(offset);
                }
            }
        }
    }

    async fn judge(
        &mut self,
        disk: &CrashDisk,
        world: &World,
        held: &Arc<Held>,
        said: (usize, Verdict),
        random: &mut Random,
    ) {
        let (who, verdict) = said;
        let own: Vec<i64> =
            self.out.iter().filter(|(_, one)| **one == who).map(|(offset, _)| *offset).collect();
        let Some(at) = usize::try_from(random.below(1 + own.len() as u64)).ok() else { return };
        let Some(first) = own.get(at).copied() else { return };
        let last = own[at..].iter().zip(first..).take_while(|(a, b)| *a == b).count();
        let last = first + i64::try_from(last).unwrap() - 1;
        let last = last.min(first + i64::try_from(random.below(4)).unwrap());
        if verdict == Verdict::Reject {
            self.may_be_dead.extend(first..=last);
        }
        let verdicts = [((first, last), vec![verdict])];
        let Ok(promise) = world.groups.shares.judge(held, MEMBERS[who], &verdicts, &rules()) else {
            assert_ne!(held.setbacks(), self.setbacks, "it has them");
            return;
        };
        self.out.retain(|offset, _| !(first..=last).contains(offset));
        match drive(disk, &world.store, world.groups.shares.kept(promise)).await {
            Some(Ok(())) => {
                self.told += 1;
                match verdict {
                    Verdict::Accept => self.accepted.extend(first..=last),
                    Verdict::Reject => self.rejected.extend(first..=last),
                    _ => {}
                }
            }
            _ if verdict == Verdict::Accept => self.unsure.extend(first..=last),
            _ => {}
        }
    }

    /// Letters are of records that may have been given up, and of all that were.
    fn check_letters(&self, world: &World) -> BTreeSet<i64> {
        let letters = world.log.topic(LETTERS).unwrap();
        let mut found = BTreeSet::new();
        for partition in letters.partitions().iter() {
            let end = partition.end_offset();
            for batch in partition.read(0, 1 << 30, end).unwrap().iter().flat_map(Batch::each) {
                for record in batch.records().unwrap().map(Result::unwrap) {
                    let said = |name: &str| {
                        let mut headers = record.headers.iter();
                        let one = headers.find(|(own, _)| own == name.as_bytes()).unwrap();
                        String::from_utf8(one.1.as_ref().unwrap().to_vec()).unwrap()
                    };
                    assert_eq!(said("__dlq.errors.topic"), "jobs");
                    assert_eq!(said("__dlq.errors.group"), "group");
                    let offset: i64 = said("__dlq.errors.offset").parse().unwrap();
                    if let Some(value) = self.produced.get(&offset) {
                        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
                    }
                    found.insert(offset);
                }
            }
        }
        assert!(found.is_subset(&self.may_be_dead), "{found:?} of {:?}", self.may_be_dead);
        assert!(self.rejected.is_subset(&found), "{:?} of {found:?}", self.rejected);
        found
    }
}

async fn topics(disk: &CrashDisk, world: &World) -> Option<Arc<Topic>> {
    for (name, id, takes) in [("jobs", 42, "false"), (LETTERS, 43, "true")] {
        if world.log.topic(name).is_none() {
            let takes = ("errors.deadletterqueue.group.enable".to_owned(), takes.to_owned());
            let made = world.log.create(name, id, 1, [takes].into());
            drive(disk, &world.store, made).await?.ok()?;
        }
    }
    world.log.topic("jobs")
}

async fn life(seed: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let mut disk = CrashDisk::new(seed);
    let mut model = Model::default();
    for _ in 0..4 {
        let world = loop {
            match open(&disk).await {
                Some(world) if !disk.is_down() => break world,
                _ => disk = disk.reboot(),
            }
        };
        model.out.clear();
        model.setbacks = 0;
        if random.chance(3, 4) {
            disk.crash_after(5 + random.below(120));
        }
        if random.chance(1, 2) {
            let from = random.below(60);
            (from..=from + random.below(6)).for_each(|step| disk.fail_after(step));
        }
        let mut held = None;
        for _ in 0..random.below(70) {
            if disk.is_down() {
                break;
            }
            let Some(topic) = topics(&disk, &world).await else { continue };
            let rules = rules();
            let Some(held) = &held else {
                let opened = world.groups.shares.open("group", &topic, 0, &rules);
                held = drive(&disk, &world.store, opened).await.and_then(Result::ok);
                continue;
            };
            let who = usize::try_from(random.below(MEMBERS.len() as u64)).unwrap();
            match random.below(10) {
                0..2 => model.produce(&disk, &world, &topic, 1 + random.below(5)).await,
                2..5 => model.take(&disk, &world, held, who).await,
                5..7 => {
                    let said = (who, Verdict::Accept);
                    model.judge(&disk, &world, held, said, &mut random).await;
                }
                7 => {
                    let said = (who, Verdict::Reject);
                    model.judge(&disk, &world, held, said, &mut random).await;
                }
                8 => {
                    let said = (who, Verdict::Release);
                    model.judge(&disk, &world, held, said, &mut random).await;
                }
                _ => {
                    let tick = world.groups.shares.tick(&|_| self::rules());
                    let _ = drive(&disk, &world.store, tick).await;
                }
            }
        }
        world.store.close();
        drop(world);
        if disk.is_down() || random.chance(1, 2) {
            disk = disk.reboot();
        }
        disk.behave();
    }
    let world = open(&disk).await.expect("nothing stands in the way");
    model.out.clear();
    model.setbacks = 0;
    let topic = topics(&disk, &world).await.unwrap();
    let rules = rules();
    let opened = world.groups.shares.open("group", &topic, 0, &rules);
    let held = drive(&disk, &world.store, opened).await.unwrap().unwrap();
    let tick = world.groups.shares.tick(&|_| self::rules());
    drive(&disk, &world.store, tick).await.unwrap();
    // What was given up in a write that failed has its letter by now, or comes again.
    loop {
        let before = model.accepted.len();
        model.take(&disk, &world, &held, 0).await;
        for offset in std::mem::take(&mut model.out).into_keys() {
            let verdicts = [((offset, offset), vec![Verdict::Accept])];
            let promise = world.groups.shares.judge(&held, MEMBERS[0], &verdicts, &rules).unwrap();
            let kept = world.groups.shares.kept(promise);
            drive(&disk, &world.store, kept).await.unwrap().unwrap();
            model.accepted.insert(offset);
        }
        if model.accepted.len() == before {
            break;
        }
    }
    assert_eq!(held.progress().lag, 0);
    // What was given up on just now.
    let tick = world.groups.shares.tick(&|_| self::rules());
    drive(&disk, &world.store, tick).await.unwrap();
    let letters = model.check_letters(&world);
    for offset in model.produced.keys() {
        let is_done = [&model.accepted, &model.unsure, &letters];
        assert!(is_done.iter().any(|done| done.contains(offset)), "{offset} is lost");
    }
    (model.told, letters.len() as u64)
}

#[test]
fn what_was_said_of_records_holds_after_every_crash() {
    let seeds: u64 = std::env::var("MS_CRASH_SEEDS").map_or(12, |n| n.parse().expect("a number"));
    let from: u64 = std::env::var("MS_CRASH_FROM").map_or(0, |n| n.parse().expect("a number"));
    let (mut told, mut letters) = (0, 0);
    for seed in from..from + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lived = std::panic::catch_unwind(|| runtime.block_on(life(seed)));
        let lived = lived.unwrap_or_else(|_| panic!("MS_CRASH_FROM={seed} MS_CRASH_SEEDS=1"));
        told += lived.0;
        letters += lived.1;
    }
    // The canary: of a group that is told nothing, nothing is proved.
    assert!(told > seeds * 5 && letters > seeds, "{told} verdicts, {letters} letters");
}
