//! The live stream: server-sent events for the topics that a page shows.
//!
//! Not here: what a topic holds; that is asked of the engine.
//!
//! Invariants: figures go out once a second and only when they differ; a change of state goes
//! out within [`SETTLE`] and takes along what came meanwhile; a client that does not read holds
//! up nobody, since a piece is made only when the last one was taken.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base::Problem;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::config::TOPICS_MAX;
use crate::engine::Engine;
use crate::query::{self, Query};
use crate::reply::{self, Reply};
use crate::routes::Shared;
use crate::stream::{Follow, keep_newest, permit, stopped};
use crate::wire::{LiveBody, LiveEvents, LiveLogs, LiveMessage, LogLine, LogQuery};

/// How long a change waits for others to go out with it.
const SETTLE: Duration = Duration::from_millis(80);
/// Between two readings of the figures.
const TICK: Duration = Duration::from_secs(1);
/// A comment after so many silent ticks, so that a client that is gone is noticed.
const SILENT_TICKS_MAX: u32 = 10;
/// Events of a first message, and of one message.
const EVENTS_FIRST: usize = 200;
/// Log lines of a first message when the query names no number.
const LINES_FIRST: usize = 500;
/// Log lines of one message; older ones of the same message are counted and left out.
const LINES_MAX: usize = 500;

enum Topic {
    Overview { sent: u64 },
    Service { name: String, sent: u64 },
    Events { after: u64, fresh: bool },
    Logs { follow: Option<Follow>, waiting: VecDeque<LogLine>, skipped: u64, fresh: bool },
}

struct Live {
    engine: Arc<dyn Engine>,
    topics: Vec<(String, Topic)>,
    changes: watch::Receiver<u64>,
    shutdown: watch::Receiver<bool>,
    tick: Interval,
    silent_ticks: u32,
    started: bool,
    _permit: OwnedSemaphorePermit,
}

/// Answers with the stream of the topics asked for.
pub(crate) async fn reply(
    shared: &Arc<Shared>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Reply, Problem> {
    query.only(&["topics", "after"])?;
    let permit = permit(shared)?;
    let changes = shared.engine.changes();
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = resumed.or(query.number("after")?).unwrap_or(0);
    let names: Vec<&str> = query.get("topics").unwrap_or("overview,events").split(',').collect();
    if names.len() > TOPICS_MAX {
        return Err(Problem::new("bad-topic", format!("more than {TOPICS_MAX} topics"))
            .with_next("open a second stream"));
    }
    let mut topics = Vec::new();
    for name in names {
        topics.push((name.to_owned(), open(&shared.engine, name, after).await?));
    }
    let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let live = Live {
        engine: shared.engine.clone(),
        topics,
        changes,
        shutdown: shared.shutdown.clone(),
        tick,
        silent_ticks: 0,
        started: false,
        _permit: permit,
    };
    Ok(reply::stream("text/event-stream", live, Live::next))
}

/// Reads a topic: `overview`, `service:NAME`, `events`, `logs:QUERY`, each part percent-encoded.
async fn open(engine: &Arc<dyn Engine>, name: &str, after: u64) -> Result<Topic, Problem> {
    let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
    Ok(match kind {
        "overview" => Topic::Overview { sent: 0 },
        "service" => Topic::Service { name: query::decode(rest)?, sent: 0 },
        "events" => Topic::Events { after, fresh: after == 0 },
        "logs" => {
            let query = query::log_query(&Query::parse(&query::decode(rest)?)?)?;
            let limit = query.limit.unwrap_or(LINES_FIRST).min(LINES_FIRST);
            let query = LogQuery { limit: Some(limit), ..query };
            let (lines, follow) = Follow::start(engine, query).await?;
            let waiting = lines.into();
            Topic::Logs { follow: Some(follow), waiting, skipped: 0, fresh: true }
        }
        _ => {
            return Err(Problem::new("bad-topic", format!("there is no topic `{name}`"))
                .with_next("use overview, service:NAME, events or logs:QUERY"));
        }
    })
}

impl Live {
    async fn next(mut self) -> Option<(Bytes, Live)> {
        let mut text = String::new();
        if !self.started {
            self.started = true;
            text.push_str("retry: 1000\n\n");
            self.write(&mut text);
        }
        while text.is_empty() {
            self.wait().await?;
            self.write(&mut text);
            if text.is_empty() && self.silent_ticks >= SILENT_TICKS_MAX {
                text.push_str(":\n\n");
            }
        }
        self.silent_ticks = 0;
        Some((text.into(), self))
    }

    /// Waits for something to say; `None` when the console shuts down.
    async fn wait(&mut self) -> Option<()> {
        let Live { topics, changes, shutdown, tick, silent_ticks, .. } = self;
        let moved = tokio::select! {
            () = stopped(shutdown) => return None,
            changed = changes.changed() => { changed.ok()?; true }
            () = any_lines(topics) => true,
            _ = tick.tick() => { *silent_ticks += 1; false }
        };
        if moved {
            tokio::select! {
                () = stopped(shutdown) => return None,
                () = tokio::time::sleep(SETTLE) => {}
            }
            changes.mark_unchanged();
        }
        Some(())
    }

    fn write(&mut self, text: &mut String) {
        for (name, topic) in &mut self.topics {
            match topic {
                Topic::Overview { sent } => {
                    let body = LiveBody::Overview(Box::new(self.engine.overview()));
                    write_changed(text, name, body, sent);
                }
                Topic::Service { name: service, sent } => {
                    let detail = self.engine.service(service).map(Box::new);
                    write_changed(text, name, LiveBody::Service(detail), sent);
                }
                Topic::Events { after, fresh } => {
                    write_events(text, name, self.engine.as_ref(), after, fresh);
                }
                Topic::Logs { follow, waiting, skipped, fresh } => {
                    while let Some(batch) = follow.as_mut().and_then(Follow::ready) {
                        *skipped += keep_newest(waiting, batch, LINES_MAX);
                    }
                    if *fresh || !waiting.is_empty() {
                        let lines = waiting.drain(..).collect();
                        let logs = LiveLogs { fresh: *fresh, lines, skipped: *skipped };
                        (*fresh, *skipped) = (false, 0);
                        write_message(text, None, &message(name, LiveBody::Logs(logs)));
                    }
                }
            }
        }
    }
}

fn message(topic: &str, body: LiveBody) -> LiveMessage {
    LiveMessage { topic: topic.to_owned(), body }
}

fn write_message(text: &mut String, id: Option<u64>, message: &LiveMessage) {
    let Ok(json) = serde_json::to_string(message) else { return };
    write_data(text, id, &json);
}

fn write_data(text: &mut String, id: Option<u64>, json: &str) {
    if let Some(id) = id {
        // Writing to a string does not fail.
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "data: {json}\n\n");
}

/// Writes a message unless it is what was sent last.
fn write_changed(text: &mut String, topic: &str, body: LiveBody, sent: &mut u64) {
    let Ok(json) = serde_json::to_string(&message(topic, body)) else { return };
    let mut hasher = DefaultHasher::new();
    json.hash(&mut hasher);
    let hash = hasher.finish();
    if hash != *sent {
        *sent = hash;
        write_data(text, None, &json);
    }
}

fn write_events(
    text: &mut String,
    topic: &str,
    engine: &dyn Engine,
    after: &mut u64,
    fresh: &mut bool,
) {
    // Numbers below those that the client has seen: these are another engine's events.
    let newest = engine.events(0, 1).last().map_or(0, |event| event.seq);
    if newest < *after {
        (*after, *fresh) = (0, true);
    }
    while *fresh || newest > *after {
        let events = engine.events(*after, EVENTS_FIRST);
        let last = events.last().map_or(newest, |event| event.seq);
        let body = LiveBody::Events(LiveEvents { fresh: *fresh, events });
        write_message(text, Some(last), &message(topic, body));
        (*after, *fresh) = (last, false);
    }
}

/// Waits until a followed log has lines, and takes them in.
async fn any_lines(topics: &mut [(String, Topic)]) {
    std::future::poll_fn(|context| {
        for (_, topic) in topics.iter_mut() {
            let Topic::Logs { follow: slot, waiting, skipped, .. } = topic else { continue };
            while let Some(follow) = slot {
                match follow.poll(context) {
                    Poll::Pending => break,
                    Poll::Ready(None) => *slot = None,
                    Poll::Ready(Some(batch)) if batch.is_empty() => {}
                    Poll::Ready(Some(batch)) => {
                        *skipped += keep_newest(waiting, batch, LINES_MAX);
                        return Poll::Ready(());
                    }
                }
            }
        }
        Poll::Pending
    })
    .await;
}
