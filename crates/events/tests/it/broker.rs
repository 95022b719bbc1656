//! A part on a port, and a client that speaks to it in typed messages.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base::ManualClock;
use bytes::Bytes;
use events::engine::batch::Builder;
use events::kafka::{Advertised, Listener};
use events::{Config, Part};
use kafka_wire::{
    Codec, Reader, Request, Uuid, create_topics, fetch, frame_request, metadata, produce,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A part with one listener that asks for no login.
pub(crate) struct Broker {
    runtime: Runtime,
    addr: SocketAddr,
    part: Arc<Part>,
    clock: Arc<ManualClock>,
    end: oneshot::Sender<()>,
    _folder: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Broker {
        let folder = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let clock = Arc::new(ManualClock::default());
        let own: Arc<ManualClock> = Arc::clone(&clock);
        let (part, bound) = runtime.block_on(async {
            let config = Config { folder: folder.path().to_owned(), ..Config::default() };
            let part = Part::open(&config, own).await.unwrap();
            (Arc::new(part), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
        });
        let addr = bound.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let serving = Arc::clone(&part);
        let mut tasks = tokio::task::JoinSet::new();
        let task = async move {
            let way = Listener::from(Advertised::AsConnected);
            let ended = async { drop(ended.await) };
            serving.serve(vec![(bound, way)], net::ConnectionLimit::new(100), ended).await;
        };
        tasks.spawn_on(task, runtime.handle());
        tasks.detach_all();
        Broker { runtime, addr, part, clock, end, _folder: folder }
    }

    pub(crate) fn stop(self) {
        let _ = self.end.send(());
        drop(self.part);
        self.runtime.shutdown_timeout(Duration::from_secs(10));
    }

    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    pub(crate) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Lets old offsets go; how many.
    pub(crate) fn expire_offsets(&self) -> usize {
        self.runtime.block_on(self.part.front().groups().expire_offsets()).unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client(stream)
    }
}

pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Says that nothing more comes.
    pub(crate) fn hang_up(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer, without its length; `None` when the connection is closed instead.
    pub(crate) fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut bytes).ok()?;
        Some(bytes.into())
    }

    /// The next answer, which must be to a request of that number and end where it ends.
    pub(crate) fn answer<R: Request>(&mut self, version: i16, number: i32) -> R::Response {
        let frame = self.frame().expect("an answer");
        assert_eq!(frame[..4], number.to_be_bytes());
        let flexible = version >= R::API.flexible && R::API.name != "ApiVersions";
        let mut reader = Reader::new(frame.slice(if flexible { 5 } else { 4 }..));
        let response = R::Response::decode(&mut reader, version).unwrap();
        reader.end().unwrap();
        response
    }

    pub(crate) fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(&frame_request(request, version, 7, "tests").unwrap());
        self.answer::<R>(version, 7)
    }

    /// Makes a topic; its id.
    pub(crate) fn create(&mut self, name: &str, partitions: i32) -> Uuid {
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..create_topics::CreatableTopic::default()
        };
        let request =
            create_topics::Request { topics: vec![topic], ..create_topics::Request::default() };
        let made = self.ask(&request, 7).topics.remove(0);
        assert_eq!(made.error_code, 0, "{made:?}");
        made.topic_id
    }

    pub(crate) fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> Produced {
        let mut response = self.ask(&produce_of(topic, partition, batch), 9);
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> fetch::PartitionData {
        let mut response = self.ask(&fetch_of(topic, partition, from), 12);
        response.responses.remove(0).partitions.remove(0)
    }

    pub(crate) fn topics(&mut self) -> Vec<String> {
        let request = metadata::Request { topics: None, ..metadata::Request::default() };
        let told = self.ask(&request, 12).topics;
        told.into_iter().map(|topic| topic.name.unwrap_or_default().to_string()).collect()
    }
}

pub(crate) type Produced = produce::PartitionProduceResponse;

pub(crate) fn produce_of(topic: &str, partition: i32, batch: Bytes) -> produce::Request {
    let data = produce::PartitionProduceData { index: partition, records: Some(batch) };
    let topic = produce::TopicProduceData {
        name: topic.into(),
        partition_data: vec![data],
        ..produce::TopicProduceData::default()
    };
    produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..<_>::default() }
}

pub(crate) fn fetch_of(topic: &str, partition: i32, from: i64) -> fetch::Request {
    let wanted = fetch::FetchPartition {
        partition,
        fetch_offset: from,
        partition_max_bytes: 1 << 20,
        ..fetch::FetchPartition::default()
    };
    let topic = fetch::FetchTopic {
        topic: topic.into(),
        partitions: vec![wanted],
        ..fetch::FetchTopic::default()
    };
    fetch::Request { topics: vec![topic], max_bytes: 1 << 20, ..fetch::Request::default() }
}

/// A batch of records with these values, a millisecond after the other.
pub(crate) fn batch(time_ms: i64, values: &[&str]) -> Bytes {
    let mut builder = Builder::new(time_ms);
    for (at, value) in (0..).zip(values) {
        builder = builder.record(time_ms + at, None, Some(value.as_bytes()), &[]);
    }
    builder.build().bytes
}
