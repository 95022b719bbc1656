//! An event log in this process, and what is in its topics.

use std::sync::Arc;
use std::sync::mpsc;

use base::SystemClock;
use events::kafka::{Advertised, Listener};
use events::{Config, Part};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use serde_json::Value;

use super::{Scratch, WAIT_MAX};

/// A log that ends with the test.
pub(crate) struct Log {
    pub(crate) at: String,
    _folder: Scratch,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Log {
    pub(crate) fn start() -> Log {
        let folder = Scratch::new();
        let config = Config { folder: folder.0.path().to_owned(), ..Config::default() };
        let (told, at) = mpsc::sync_channel(1);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let part = Part::open(&config, Arc::new(SystemClock)).await.unwrap();
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap().to_string()).unwrap();
                let ways = vec![(listener, Listener::from(Advertised::AsConnected))];
                let ended = async {
                    // An error means that the test is over.
                    let _ = ended.await;
                };
                part.serve(ways, net::ConnectionLimit::new(100), ended).await;
            });
        });
        Log { at: at.recv_timeout(WAIT_MAX).unwrap(), _folder: folder, _end: end }
    }

    /// The first messages of a topic, once there are so many.
    pub(crate) fn first(&self, topic: &str, count: usize) -> Vec<Value> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.at)
            .set("group.id", "of the test")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        // A turn ends without a message when something else happened, such as joining.
        let turns = std::iter::repeat_with(|| consumer.poll(WAIT_MAX)).take(100);
        let read = turns.flatten().map(|message| {
            let message = message.unwrap();
            let value: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            assert_eq!(message.key().unwrap(), value["name"].as_str().unwrap().as_bytes());
            value
        });
        read.take(count).collect()
    }
}
