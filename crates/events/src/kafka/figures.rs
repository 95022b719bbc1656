//! What went through the log, for the engine that runs it.
//!
//! Not here: what of it becomes a metric (whoever asks). The one request here that is not Kafka's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_wire::RequestHeader;
use kafka_wire::event_figures::{Request, Response, TopicFigures};

use super::{Front, Session};

pub(crate) async fn figures(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    _: Request,
) -> Response {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let of = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
    let topics = front.log.topics().into_iter().map(|topic| TopicFigures {
        name: topic.name.as_str().into(),
        messages_in: of(&topic.traffic.records_in),
        bytes_in: of(&topic.traffic.bytes_in),
        messages_out: of(&topic.traffic.records_out),
        bytes_out: of(&topic.traffic.bytes_out),
    });
    let stats = front.log.store.stats();
    Response {
        flushes: number(stats.groups),
        flush_micros: number(stats.flush_micros),
        topics: topics.collect(),
        ..Response::default()
    }
}
