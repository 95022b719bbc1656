//! Load on a log over the Kafka protocol, by librdkafka whatever the server: what `bench events`
//! runs. Prints one line of JSON.
//!
//!     load produce BROKER TOPIC [KEY=VALUE …]   what was acknowledged, and how late
//!     load consume BROKER TOPIC [KEY=VALUE …]   reads `messages=N` of all partitions, and checks them
//!     load create BROKER TOPIC [KEY=VALUE …]    a topic of `partitions=N`, with `config=NAME=VALUE`
//!     load sync FOLDER [KEY=VALUE …]            how long the disk takes to flush `size` bytes
//!
//! Latency is counted from when a message was meant to be sent (`rate`, in messages a second), so
//! that a server that stops for a while is charged for all that waited. Without a rate, as many are
//! sent as are taken, and latency says little. Every message carries its number in its partition;
//! a reader counts what is missing, doubled or out of order.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures, for people")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (plain, options) = words.iter().copied().partition::<Vec<_>, _>(|word| !word.contains('='));
    let options = Options(options.iter().filter_map(|word| word.split_once('=')).collect());
    match plain.as_slice() {
        ["produce", broker, topic] => produce(broker, topic, &options),
        ["consume", broker, topic] => consume(broker, topic, &options),
        ["create", broker, topic] => create(broker, topic, &options),
        ["sync", folder] => sync(folder, &options),
        _ => Err("load produce|consume|create BROKER TOPIC, or load sync FOLDER".into()),
    }
}

struct Options<'a>(Vec<(&'a str, &'a str)>);

impl Options<'_> {
    fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

/// What became of messages.
#[derive(Default)]
struct Done {
    late_us: Vec<u32>,
    failed: u64,
    last: Option<Instant>,
    why: Option<KafkaError>,
}

#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Done>>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, meant_at: Box<Instant>) {
        let now = Instant::now();
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => {
                let late = now.saturating_duration_since(*meant_at).as_micros();
                done.late_us.push(u32::try_from(late).unwrap_or(u32::MAX));
                done.last = Some(now);
            }
            Err((error, _)) => {
                done.failed += 1;
                done.why = Some(error.clone());
            }
        }
    }
}

fn produce(broker: &str, topic: &str, options: &Options<'_>) -> Result<(), Failure> {
    let (size, rate) = (options.number("size", 1024), options.number("rate", 0));
    let seconds = Duration::from_secs(options.number("seconds", 10));
    let partitions = i32::try_from(options.number("partitions", 1))?;
    let producers = usize::try_from(options.number("producers", 1))?;
    let in_flight = i32::try_from(options.number("in_flight", 100_000))?;
    let done = Counting::default();
    let mut clients = Vec::new();
    for _ in 0..producers {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", broker)
            .set("linger.ms", options.text("linger_ms").unwrap_or("5"))
            .set("batch.size", options.text("batch").unwrap_or("16384"))
            .set("acks", options.text("acks").unwrap_or("all"))
            .set("queue.buffering.max.messages", options.text("queue").unwrap_or("100000"))
            .set("sticky.partitioning.linger.ms", "0");
        if let Some(compression) = options.text("compression") {
            config.set("compression.type", compression);
        }
        let client: ThreadedProducer<Counting> = config.create_with_context(done.clone())?;
        // Connected before the clock starts.
        client.client().fetch_metadata(Some(topic), Duration::from_secs(60))?;
        clients.push(client);
    }
    let mut numbers = vec![0u64; usize::try_from(partitions)?];
    let mut payload = vec![b'x'; usize::try_from(size.max(8))?];
    let (cpu_before, began) = (cpu_seconds(), Instant::now());
    let mut sent = 0u64;
    while began.elapsed() < seconds {
        let meant_at = match rate {
            0 => Instant::now(),
            rate => began + Duration::from_nanos(sent.saturating_mul(1_000_000_000) / rate),
        };
        let client = &clients[usize::try_from(sent)? % producers];
        if let Some(early) = meant_at.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        if client.in_flight_count() >= in_flight {
            std::thread::sleep(Duration::from_micros(if producers > 1 { 5 } else { 100 }));
            continue;
        }
        let partition = i32::try_from(sent % u64::try_from(partitions)?)?;
        let number = &mut numbers[usize::try_from(partition)?];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(topic, Box::new(meant_at));
        match client.send(record.payload(&payload[..]).partition(partition)) {
            Ok(()) => {
                *number += 1;
                sent += 1;
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
    for client in &clients {
        client.flush(Duration::from_secs(600))?;
    }
    let mut done = std::mem::take(&mut *done.0.lock().unwrap_or_else(PoisonError::into_inner));
    let took = done.last.map_or(Duration::ZERO, |last| last - began).as_secs_f64();
    let acked = done.late_us.len();
    println!(
        "{}",
        json!({"sent": sent, "acked": acked, "failed": done.failed, "seconds": took,
            "per_second": ratio(acked, took), "latency_ms": shares(&mut done.late_us),
            "cpu_seconds": cpu_seconds() - cpu_before, "why": done.why.map(|e| e.to_string())})
    );
    Ok(())
}

fn consume(broker: &str, topic: &str, options: &Options<'_>) -> Result<(), Failure> {
    let wanted = options.number("messages", 0);
    let partitions = i32::try_from(options.number("partitions", 1))?;
    let only = options.text("only").map(str::parse::<i32>).transpose()?;
    let patience = Duration::from_secs(options.number("patience_s", 30));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "load")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.message.max.bytes", options.text("fetch").unwrap_or("1048576"))
        .set("queued.max.messages.kbytes", "262144")
        .set("check.crcs", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in (0..partitions).filter(|p| only.is_none_or(|only| only == *p)) {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let (cpu_before, began) = (cpu_seconds(), Instant::now());
    consumer.assign(&list)?;
    let mut next: BTreeMap<i32, u64> = BTreeMap::new();
    let (mut read, mut bytes, mut wrong) = (0u64, 0usize, 0u64);
    while read < wanted {
        let Some(message) = consumer.poll(patience) else { break };
        let message = match message {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let payload = message.payload().unwrap_or_default();
        let number = payload.first_chunk::<8>().map(|b| u64::from_be_bytes(*b));
        let next = next.entry(message.partition()).or_default();
        if number != Some(*next) {
            wrong += 1;
        }
        *next = number.unwrap_or(*next) + 1;
        (read, bytes) = (read + 1, bytes + payload.len());
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({"read": read, "bytes": bytes, "wrong": wrong, "seconds": took,
            "mib_per_second": ratio(bytes, took) / 1_048_576.0, "per_second": ratio(read, took),
            "cpu_seconds": cpu_seconds() - cpu_before})
    );
    Ok(())
}

fn create(broker: &str, topic: &str, options: &Options<'_>) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker).create()?;
    let partitions = i32::try_from(options.number("partitions", 1))?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (_, setting) in options.0.iter().filter(|(key, _)| *key == "config") {
        let (name, value) = setting.split_once('=').ok_or("config=NAME=VALUE")?;
        new = new.set(name, value);
    }
    let patience = Some(Duration::from_secs(300));
    let wait = AdminOptions::new().operation_timeout(patience).request_timeout(patience);
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(admin.create_topics([&new], &wait))?;
    for one in made {
        one.map_err(|(name, error)| format!("{name}: {error}"))?;
    }
    println!("{}", json!({"seconds": began.elapsed().as_secs_f64()}));
    Ok(())
}

fn sync(folder: &str, options: &Options<'_>) -> Result<(), Failure> {
    let size = usize::try_from(options.number("size", 16_384))?;
    let seconds = Duration::from_secs(options.number("seconds", 3));
    let path = std::path::Path::new(folder).join("sync");
    let mut file = std::fs::File::create(&path)?;
    let (bytes, began) = (vec![1u8; size], Instant::now());
    let mut took = Vec::new();
    while began.elapsed() < seconds {
        let before = Instant::now();
        std::io::Write::write_all(&mut file, &bytes)?;
        rustix::fs::fdatasync(&file)?;
        took.push(u32::try_from(before.elapsed().as_micros())?);
    }
    std::fs::remove_file(path)?;
    println!("{}", json!({"syncs": took.len(), "latency_ms": shares(&mut took)}));
    Ok(())
}

fn ratio<N: TryInto<u32>>(count: N, seconds: f64) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX)) / seconds.max(1e-9)
}

/// Latencies at some shares of all, in milliseconds.
fn shares(late_us: &mut [u32]) -> serde_json::Value {
    late_us.sort_unstable();
    let at = |per_mille: usize| {
        let place = (late_us.len() * per_mille / 1000).min(late_us.len().saturating_sub(1));
        late_us.get(place).map_or(0.0, |us| f64::from(*us) / 1000.0)
    };
    json!({"p50": at(500), "p99": at(990), "p999": at(999), "max": at(1000)})
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    f64::from(i32::try_from(time.tv_sec).unwrap_or(i32::MAX))
        + f64::from(i32::try_from(time.tv_nsec).unwrap_or(0)) / 1e9
}
