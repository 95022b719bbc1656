//! Clients that write down what they do: librdkafka, as its users have it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use testkit::Random;

use crate::PARTITIONS;
use crate::checker::{Outcome, Place, Sent, Transaction};

const TOPIC: &str = "history";

/// How long a client waits for a log that is started again.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all clients share.
pub(crate) struct World {
    address: String,
    /// Counts what happens.
    clock: AtomicU64,
    /// Messages that were acknowledged, and who waits for more.
    acknowledged: Mutex<u64>,
    more: Condvar,
    enough: AtomicBool,
    written: AtomicBool,
}

impl World {
    pub(crate) fn new(address: &str) -> World {
        World {
            address: address.to_owned(),
            clock: AtomicU64::new(0),
            acknowledged: Mutex::new(0),
            more: Condvar::new(),
            enough: AtomicBool::new(false),
            written: AtomicBool::new(false),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("retry.backoff.ms", "20")
            .set("log_level", "0");
        config
    }

    pub(crate) fn make_topic(&self, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let topic = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1));
        let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        made.into_iter().for_each(|one| drop(one.unwrap()));
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Until so many more messages were acknowledged.
    pub(crate) fn wait_for(&self, more: u64) {
        let mut now = self.acknowledged.lock().unwrap();
        let until = *now + more;
        while *now < until {
            now = self.more.wait(now).unwrap();
        }
    }

    /// Nobody begins anything new.
    pub(crate) fn enough(&self) {
        self.enough.store(true, Ordering::SeqCst);
    }

    /// Readers end when they have all.
    pub(crate) fn all_is_written(&self) {
        self.written.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.enough.load(Ordering::SeqCst)
    }

    fn reader(&self) -> BaseConsumer {
        let config = [
            ("group.id", "nobody"),
            ("enable.auto.commit", "false"),
            ("isolation.level", "read_committed"),
            ("fetch.wait.max.ms", "50"),
            ("auto.offset.reset", "error"),
        ];
        let mut all = self.config();
        for (name, value) in config {
            all.set(name, value);
        }
        let reader: BaseConsumer = all.create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
        }
        reader.assign(&list).unwrap();
        reader
    }
}

/// Where messages of one producer were said to be, and when.
#[derive(Clone, Default)]
struct Delivered(Arc<Mutex<HashMap<String, (i64, u64)>>>);

/// What a producer calls back to.
struct Context {
    delivered: Delivered,
    world: Arc<World>,
}

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<String>;

    fn delivery(&self, result: &DeliveryResult<'_>, value: Box<String>) {
        let Ok(message) = result else { return };
        let at = (message.offset(), self.world.tick());
        self.delivered.0.lock().unwrap().insert(*value, at);
        *self.world.acknowledged.lock().unwrap() += 1;
        self.world.more.notify_all();
    }
}

/// A producer, and what is known of its messages.
struct Sender {
    producer: ThreadedProducer<Context>,
    delivered: Delivered,
}

impl Sender {
    fn new(world: &Arc<World>, transactional: Option<&str>) -> Sender {
        let mut config = world.config();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "110000");
        if let Some(name) = transactional {
            config.set("transactional.id", name).set("transaction.timeout.ms", "110000");
        }
        let delivered = Delivered::default();
        let context = Context { delivered: delivered.clone(), world: Arc::clone(world) };
        Sender { producer: config.create_with_context(context).unwrap(), delivered }
    }

    /// Sends a message; whether it was taken.
    fn send(&self, world: &World, partition: i32, value: &str) -> Option<Sent> {
        let began = world.tick();
        let opaque = Box::new(value.to_owned());
        let record = BaseRecord::<(), str, _>::with_opaque_to(TOPIC, opaque);
        self.producer.send(record.payload(value).partition(partition)).ok()?;
        Some(Sent { partition, value: value.to_owned(), offset: None, began, ended: None })
    }

    /// Fills in what is known by now.
    fn fill(&self, sent: &mut [Sent]) {
        let delivered = self.delivered.0.lock().unwrap();
        for one in sent {
            if let Some((offset, ended)) = delivered.get(&one.value) {
                (one.offset, one.ended) = (Some(*offset), Some(*ended));
            }
        }
    }
}

/// Does something until it is done or it is said that it will not be.
fn until(mut work: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match work() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// Transactions, one after the other.
pub(crate) fn transact(world: &Arc<World>, who: u64) -> Vec<Transaction> {
    let mut random = Random::new(100 + who);
    let name = format!("producer {who}");
    let reader = world.reader();
    let mut done = Vec::new();
    let mut number = 0;
    'life: while !world.is_over() {
        let sender = Sender::new(world, Some(&name));
        if until(|| sender.producer.init_transactions(PATIENCE)).is_err() {
            continue;
        }
        while !world.is_over() {
            if sender.producer.begin_transaction().is_err() {
                continue 'life;
            }
            let (mut sent, mut read) = (Vec::new(), Vec::new());
            for _ in 0..=random.below(4) {
                let partition = i32::try_from(random.below(PARTITIONS.unsigned_abs().into()));
                let value = format!("{who}/{number}");
                number += 1;
                sent.extend(sender.send(world, partition.unwrap(), &value));
                if let Some(Ok(message)) = reader.poll(Duration::from_millis(2)) {
                    read.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
                }
            }
            let commits = random.chance(3, 4);
            let ended = match commits {
                true => until(|| sender.producer.commit_transaction(PATIENCE)),
                false => until(|| sender.producer.abort_transaction(PATIENCE)),
            };
            let outcome = match &ended {
                Ok(()) if commits => Outcome::Committed,
                Ok(()) => Outcome::Aborted,
                Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                    match until(|| sender.producer.abort_transaction(PATIENCE)) {
                        Ok(()) => Outcome::Aborted,
                        Err(_) => Outcome::Unknown,
                    }
                }
                Err(_) => Outcome::Unknown,
            };
            sender.fill(&mut sent);
            done.push(Transaction { producer: who, sent, read, outcome });
            if outcome == Outcome::Unknown {
                continue 'life;
            }
        }
    }
    done
}

/// Messages alone, several under way at once.
pub(crate) fn send(world: &Arc<World>, who: u64) -> Vec<Transaction> {
    let mut random = Random::new(200 + who);
    let sender = Sender::new(world, None);
    let mut sent = Vec::new();
    let mut number = 0;
    while !world.is_over() {
        for _ in 0..=random.below(5) {
            let partition = i32::try_from(random.below(PARTITIONS.unsigned_abs().into())).unwrap();
            let value = format!("plain {who}/{number}");
            number += 1;
            sent.extend(sender.send(world, partition, &value));
        }
        sender.producer.flush(PATIENCE).unwrap();
    }
    sender.fill(&mut sent);
    let alone = sent.into_iter().map(|one| Transaction {
        producer: 100 + who,
        outcome: if one.offset.is_some() { Outcome::Committed } else { Outcome::Unknown },
        sent: vec![one],
        read: Vec::new(),
    });
    alone.collect()
}

/// Reads all, from the beginning until nothing more can come.
pub(crate) fn read(world: &World) -> Vec<(Place, String)> {
    let reader = world.reader();
    let mut got: Vec<(Place, String)> = Vec::new();
    let mut ends: Option<HashMap<i32, i64>> = None;
    loop {
        if let Some(Ok(message)) = reader.poll(Duration::from_millis(50)) {
            let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
            got.push(((message.partition(), message.offset()), value));
        }
        if !world.written.load(Ordering::SeqCst) {
            continue;
        }
        let ends = ends.get_or_insert_with(|| {
            let end = |partition| {
                let found = reader.fetch_watermarks(TOPIC, partition, PATIENCE);
                (partition, found.unwrap().1)
            };
            (0..PARTITIONS).map(end).collect()
        });
        // A position counts markers, which no message is.
        let position = reader.position().unwrap();
        let there: HashSet<i32> = position
            .elements()
            .iter()
            .filter(|one| one.offset().to_raw().is_some_and(|at| at >= ends[&one.partition()]))
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
            .collect();
        if ends.iter().all(|(partition, end)| *end == 0 || there.contains(partition)) {
            return got;
        }
    }
}
