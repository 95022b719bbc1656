//! The event log, for whoever wants to know what is played: finished games and food eaten.
//!
//! A finished game is kept until the log has it, over the log's restarts, and is written once
//! however often it is sent. Food is only news: what does not fit is left out, and counted.
//! Not here: what becomes of games (`scores`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{CommitMode, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde::Serialize;

use crate::game::Speed;
use crate::scores::table::Outcome;
use crate::settings::say;

/// The topic of finished games: an [`Outcome`] each, by the player's name.
const GAMES: &str = "games";

/// The topic of food eaten: a [`Meal`] each, by the player's name.
const FOOD: &str = "food";

/// Who takes games to the table of best scores.
const GROUP: &str = "scores";

/// Most messages that wait for the log, and most of them that may be food.
const WAITING_MAX: i32 = 20_000;
const FOOD_WAITING_MAX: i32 = WAITING_MAX / 2;

/// Food that somebody ate.
#[derive(Debug, Serialize)]
pub(crate) struct Meal<'a> {
    pub(crate) name: &'a str,
    pub(crate) speed: Speed,
    pub(crate) room: u32,
    pub(crate) replica: &'a str,
    pub(crate) x: u8,
    pub(crate) y: u8,
}

/// Says what goes wrong on the way; the library tries again by itself.
struct Log;

impl ClientContext for Log {
    fn error(&self, error: KafkaError, reason: &str) {
        // Whoever subscribes to what was not written to yet is told so, and finds it later.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) {
            return;
        }
        say(format_args!("event log: {error}: {reason}"));
    }
}

impl ProducerContext for Log {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            say(format_args!("not in topic {}: {error}", message.topic()));
        }
    }
}

impl ConsumerContext for Log {}

/// Where what happens is written to.
pub(crate) struct Feed {
    producer: Arc<ThreadedProducer<Log>>,
    food_left_out: AtomicU64,
}

impl Feed {
    /// Finds the log at `brokers` (`HOST:PORT,…`) when it is there.
    pub(crate) fn new(brokers: &str) -> KafkaResult<Feed> {
        let waiting = WAITING_MAX.to_string();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("client.id", "arcade-arena")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("queue.buffering.max.messages", &waiting)
            .set("linger.ms", "20")
            .set("reconnect.backoff.max.ms", "1000")
            .create_with_context(Log)?;
        Ok(Feed { producer: Arc::new(producer), food_left_out: AtomicU64::new(0) })
    }

    /// Takes a finished game.
    pub(crate) fn played(&self, outcome: &Outcome) {
        let Ok(text) = serde_json::to_vec(outcome) else { return };
        if let Err(error) = self.send(GAMES, &outcome.name, &text) {
            say(format_args!("a game of {} is not written down: {error}", outcome.name));
        }
    }

    /// Takes a meal.
    pub(crate) fn eaten(&self, meal: &Meal<'_>) {
        let Ok(text) = serde_json::to_vec(meal) else { return };
        let fits = self.producer.in_flight_count() < FOOD_WAITING_MAX;
        if !fits || self.send(FOOD, meal.name, &text).is_err() {
            let left_out = self.food_left_out.fetch_add(1, Ordering::Relaxed) + 1;
            if left_out.is_power_of_two() {
                say(format_args!("{left_out} meals were not written down: the log is behind"));
            }
        }
    }

    fn send(&self, topic: &str, key: &str, text: &[u8]) -> KafkaResult<()> {
        let record = BaseRecord::to(topic).key(key).payload(text);
        self.producer.send(record).map_err(|(error, _)| error)
    }

    /// Messages that the log has not got yet.
    pub(crate) fn waiting(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Waits until the log has everything, for `within` at most.
    pub(crate) async fn flush(&self, within: Duration) {
        let producer = Arc::clone(&self.producer);
        // What is still waiting then is told by whoever asked.
        let _ = tokio::task::spawn_blocking(move || producer.flush(within)).await;
    }
}

/// Finished games as they come, each at least once.
pub(crate) struct Games {
    consumer: StreamConsumer<Log>,
}

impl Games {
    /// Joins the group that takes games from the log at `brokers`.
    pub(crate) fn new(brokers: &str) -> KafkaResult<Games> {
        let consumer: StreamConsumer<Log> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("client.id", "arcade-scores")
            .set("group.id", GROUP)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            // There is one copy: who comes after one that was killed shall not wait long for its share.
            .set("session.timeout.ms", "6000")
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("reconnect.backoff.max.ms", "1000")
            .create_with_context(Log)?;
        consumer.subscribe(&[GAMES])?;
        Ok(Games { consumer })
    }

    /// The next game. None for a message that is no game, which is said.
    pub(crate) async fn next(&self) -> (BorrowedMessage<'_>, Option<Outcome>) {
        loop {
            match self.consumer.recv().await {
                Ok(message) => {
                    let payload = message.payload().unwrap_or_default();
                    let game = serde_json::from_slice(payload);
                    if let Err(error) = &game {
                        let at = (message.partition(), message.offset());
                        say(format_args!("{GAMES} {at:?} is no game: {error}"));
                    }
                    return (message, game.ok());
                }
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition)) => {
                    // Nothing was played yet.
                }
                Err(error) => say(format_args!("games are late: {error}")),
            }
        }
    }

    /// Says that everything up to this message is taken care of.
    pub(crate) fn took(&self, message: &BorrowedMessage<'_>) {
        if let Err(error) = self.consumer.commit_message(message, CommitMode::Async) {
            // They come again, which changes nothing.
            say(format_args!("games will come again: {error}"));
        }
    }
}
