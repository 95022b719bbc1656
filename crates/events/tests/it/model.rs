//! The log beside a model that is a list of records for each partition: whatever is done to both,
//! both say the same. What crashes do is in `crash`.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::engine::batch::{Batch, Builder};
use events::engine::groups::offsets::{Committed, commit};
use events::engine::log::Topic;
use events::engine::partition::AppendError;
use proptest::prelude::*;
use testkit::CrashDisk;

use crate::crash::{World, drive, open};

const TOPICS: [&str; 3] = ["a", "b", "c"];
const PRODUCER: i64 = 7;

#[derive(Clone, Debug)]
enum Step {
    Create(usize, i32),
    Grow(usize, i32),
    Delete(usize),
    /// So many records, the first at that time; by a producer that numbers them, or by nobody.
    Append(usize, usize, usize, i64, bool),
    /// The producer sends its last batch again.
    Again(usize, usize),
    Trim(usize, usize, usize),
    Read(usize, usize, usize, u64),
    Find(usize, usize, i64),
    Commit(usize, usize, i64),
    Reopen,
}

/// A record: its time and value.
type One = (i64, String);

/// A partition: all that was ever written, where it begins, and what the producer knows.
#[derive(Clone, Debug, Default)]
struct List {
    /// By offset, with the offset at which its batch begins.
    all: Vec<(usize, One)>,
    start: usize,
    next_sequence: i32,
    /// Sequence, first offset and records of its last batch.
    last: Option<(i32, usize, Vec<One>)>,
}

#[derive(Default)]
struct Model {
    topics: BTreeMap<&'static str, Vec<List>>,
    committed: BTreeMap<(&'static str, i32), i64>,
    /// No two topics have one, in all lives.
    ids: u128,
    values: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (topic, partition) = (0..TOPICS.len(), 0..4_usize);
    let at = (topic.clone(), partition.clone());
    let step = prop_oneof![
        2 => (topic.clone(), 1..3_i32).prop_map(|(t, n)| Step::Create(t, n)),
        1 => (topic.clone(), 1..5_i32).prop_map(|(t, n)| Step::Grow(t, n)),
        1 => topic.prop_map(Step::Delete),
        9 => (at.clone(), 1..5_usize, 0..100_i64, any::<bool>())
            .prop_map(|((t, p), n, time, numbered)| Step::Append(t, p, n, time, numbered)),
        2 => at.clone().prop_map(|(t, p)| Step::Again(t, p)),
        2 => (at.clone(), 0..30_usize).prop_map(|((t, p), to)| Step::Trim(t, p, to)),
        5 => (at.clone(), 0..30_usize, 1..400_u64)
            .prop_map(|((t, p), from, bytes)| Step::Read(t, p, from, bytes)),
        3 => (at.clone(), 0..110_i64).prop_map(|((t, p), time)| Step::Find(t, p, time)),
        2 => (at, 0..30_i64).prop_map(|((t, p), offset)| Step::Commit(t, p, offset)),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..60)
}

fn built(records: &[One], sequence: Option<i32>) -> Batch {
    let mut builder = Builder::new(records[0].0);
    if let Some(sequence) = sequence {
        builder = builder.producer(PRODUCER, 0, sequence);
    }
    for (time, value) in records {
        builder = builder.record(*time, None, Some(value.as_bytes()), &[]);
    }
    builder.build()
}

struct Both {
    disk: CrashDisk,
    world: World,
    model: Model,
}

impl Both {
    async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        drive(&self.disk, &self.world.store, work).await.expect("the disk does not fail")
    }

    /// A partition in both; `None` when both have none.
    fn find(&mut self, topic: usize, at: usize) -> Option<(Arc<Topic>, usize, &mut List)> {
        let found = self.world.log.topic(TOPICS[topic]);
        let lists = self.model.topics.get_mut(TOPICS[topic]);
        assert_eq!(found.is_some(), lists.is_some());
        let (found, lists) = found.zip(lists)?;
        assert_eq!(found.partitions().len(), lists.len());
        let at = at % lists.len();
        Some((found, at, &mut lists[at]))
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Create(topic, count) => {
                self.model.ids += 1;
                let id = self.model.ids;
                let made = self.world.log.create(TOPICS[topic], id, count, BTreeMap::new());
                let is_new = self.drive(made).await.is_ok();
                assert_eq!(is_new, !self.model.topics.contains_key(TOPICS[topic]));
                let lists = vec![List::default(); usize::try_from(count).unwrap()];
                self.model.topics.entry(TOPICS[topic]).or_insert(lists);
            }
            Step::Grow(topic, count) => {
                let done = self.drive(self.world.log.add_partitions(TOPICS[topic], count)).await;
                let count = usize::try_from(count).unwrap();
                match self.model.topics.get_mut(TOPICS[topic]) {
                    Some(lists) if count > lists.len() => {
                        lists.resize(count, List::default());
                        done.unwrap();
                    }
                    _ => assert!(done.is_err()),
                }
            }
            Step::Delete(topic) => {
                if let Some((found, _, _)) = self.find(topic, 0) {
                    self.drive(self.world.log.delete(&found)).await.unwrap();
                    self.model.topics.remove(TOPICS[topic]);
                    self.model.committed.retain(|(name, _), _| *name != TOPICS[topic]);
                }
            }
            Step::Append(topic, at, count, time, numbered) => {
                self.model.values += count;
                let first = self.model.values;
                let record = |n| (time + n, format!("{first}/{n}"));
                let records: Vec<One> = (0..i64::try_from(count).unwrap()).map(record).collect();
                let Some((found, at, list)) = self.find(topic, at) else { return };
                let sequence = numbered.then_some(list.next_sequence);
                let base = list.all.len();
                list.all.extend(records.iter().map(|one| (base, one.clone())));
                if let Some(sequence) = sequence {
                    list.last = Some((sequence, base, records.clone()));
                    list.next_sequence += i32::try_from(count).unwrap();
                }
                let told = self.append(&found, at, built(&records, sequence)).await;
                assert_eq!(told.unwrap(), base);
            }
            Step::Again(topic, at) => {
                let Some((found, at, list)) = self.find(topic, at) else { return };
                let Some((sequence, base, records)) = list.last.clone() else { return };
                let is_gone = base + records.len() <= list.start;
                let told = self.append(&found, at, built(&records, Some(sequence))).await;
                // Of a producer whose records are all deleted nothing may be known.
                if !is_gone {
                    assert_eq!(told.unwrap(), base, "it is there already");
                } else if told.is_ok_and(|told| told != base) {
                    let (_, _, list) = self.find(topic, at).unwrap();
                    let base = list.all.len();
                    list.all.extend(records.iter().map(|one| (base, one.clone())));
                    list.last = Some((sequence, base, records));
                }
            }
            Step::Trim(topic, at, to) => {
                let Some((found, at, list)) = self.find(topic, at) else { return };
                let to = to.min(list.all.len());
                list.start = list.start.max(to);
                let start = list.start;
                let partition = &found.partitions()[at];
                let trim = self.world.log.trim(partition, i64::try_from(to).unwrap());
                let told = self.drive(trim).await.unwrap();
                assert_eq!(usize::try_from(told).unwrap(), start);
            }
            Step::Read(topic, at, from, bytes) => self.read(topic, at, from, bytes),
            Step::Find(topic, at, time) => {
                let Some((found, at, list)) = self.find(topic, at) else { return };
                let rest = list.all.iter().enumerate().skip(list.start);
                let mut rest = rest.map(|(at, (_, one))| (i64::try_from(at).unwrap(), one.0));
                let expected = rest.find(|(_, own)| *own >= time);
                let told = found.partitions()[at].find_time(time).unwrap();
                assert_eq!(told, expected);
            }
            Step::Commit(topic, at, offset) => {
                let index = i32::try_from(at).unwrap();
                let committed =
                    Committed { offset, epoch: -1, metadata: String::new(), time_ms: 1 };
                let change = commit("group", TOPICS[topic], index, &committed);
                self.drive(self.world.groups.commit(vec![change])).await.unwrap();
                self.model.committed.insert((TOPICS[topic], index), offset);
            }
            Step::Reopen => {
                self.world.store.close();
                self.world = open(&self.disk).await.expect("nothing stands in the way");
            }
        }
    }

    async fn append(&self, topic: &Topic, at: usize, batch: Batch) -> Result<usize, AppendError> {
        let partition = &topic.partitions()[at];
        let appending = self.drive(self.world.log.append(topic, partition, batch)).await?;
        let base = usize::try_from(appending.base_offset).unwrap();
        self.drive(appending.durable()).await?;
        Ok(base)
    }

    /// Whole batches from the one that holds an offset on, at least one, and no more than asked for.
    fn read(&mut self, topic: usize, at: usize, from: usize, bytes: u64) {
        let Some((found, at, list)) = self.find(topic, at) else { return };
        let from = from.min(list.all.len());
        let partition = &found.partitions()[at];
        let end = partition.end_offset();
        let read = partition.read(i64::try_from(from).unwrap(), bytes, end);
        if from < list.start {
            assert!(read.is_err(), "{from} is deleted");
            return;
        }
        let read = read.unwrap();
        let size: usize = read.iter().map(bytes::Bytes::len).sum();
        let batches: Vec<Batch> = read.iter().flat_map(Batch::each).collect();
        assert!(size as u64 <= bytes || batches.len() == 1, "{size} bytes of {bytes}");
        let Some((base, _)) = list.all.get(from) else {
            assert!(batches.is_empty());
            return;
        };
        let mut next = *base;
        for batch in &batches {
            assert_eq!(usize::try_from(batch.head.base_offset).unwrap(), next);
            for record in batch.records().unwrap().map(Result::unwrap) {
                let time = batch.head.base_time_ms + record.time_delta_ms;
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                assert_eq!(list.all[next].1, (time, value), "at {next}");
                next += 1;
            }
        }
        assert!(next > from, "at least the batch that holds it");
    }

    fn check(&mut self) {
        let names: Vec<String> =
            self.world.log.topics().iter().map(|topic| topic.name.clone()).collect();
        assert!(names.iter().eq(self.model.topics.keys()), "{names:?}");
        for (name, lists) in &self.model.topics {
            let partitions = self.world.log.topic(name).unwrap().partitions();
            for (partition, list) in partitions.iter().zip(lists) {
                let bounds = [partition.start_offset(), partition.end_offset()];
                let bounds = bounds.map(|offset| usize::try_from(offset).unwrap());
                assert_eq!(bounds, [list.start, list.all.len()], "{name}");
            }
        }
        let told = self.world.groups.all_committed("group");
        let told = told.into_iter().map(|(topic, at, one)| ((topic, at), one.offset));
        let expected = self.model.committed.iter();
        let expected = expected.map(|((name, at), offset)| (((*name).to_owned(), *at), *offset));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), expected.collect());
    }
}

proptest! {
    #[test]
    fn the_log_is_as_its_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let disk = CrashDisk::new(1);
            let world = open(&disk).await.expect("an empty disk");
            let mut both = Both { disk, world, model: Model::default() };
            for step in steps {
                both.step(step).await;
                both.check();
            }
        });
    }
}
