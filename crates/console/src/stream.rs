//! Followed logs: lines already written, then lines as they come, without a gap or a repeat.
//!
//! Not here: the live stream of a browser, which uses [`Follow`] too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, Problem, UnixNanos};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::engine::Engine;
use crate::reply::{self, Reply};
use crate::routes::Shared;
use crate::wire::{LogLine, LogQuery};

/// A blank line after so much silence, so that a client that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Lines to come, less those that the page before them held.
pub(crate) struct Follow {
    receiver: mpsc::Receiver<Vec<LogLine>>,
    /// Newest line of each instance on the page.
    seen: BTreeMap<InstanceId, UnixNanos>,
}

impl Follow {
    /// Starts to follow, then reads what was written before; lines of the overlap come once.
    pub(crate) async fn start(
        engine: &Arc<dyn Engine>,
        query: LogQuery,
    ) -> Result<(Vec<LogLine>, Follow), Problem> {
        if query.skip.is_some() {
            return Err(Problem::new("bad-query", "lines as they come have none to leave out")
                .with_next("use `skip` for lines already written"));
        }
        let receiver = engine.follow_logs(query.clone())?;
        let lines = match query.limit {
            Some(0) => Vec::new(),
            _ => engine.logs(query).await?.lines,
        };
        let seen = lines.iter().map(|line| (line.instance.clone(), line.at)).collect();
        Ok((lines, Follow { receiver, seen }))
    }

    /// The next batch; `None` when the engine ended the stream.
    pub(crate) async fn next(&mut self) -> Option<Vec<LogLine>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// As [`Follow::next`].
    pub(crate) fn poll(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Vec<LogLine>>> {
        self.receiver.poll_recv(context).map(|batch| batch.map(|batch| self.unseen(batch)))
    }

    /// A batch that is there already.
    pub(crate) fn ready(&mut self) -> Option<Vec<LogLine>> {
        let batch = self.receiver.try_recv().ok()?;
        Some(self.unseen(batch))
    }

    fn unseen(&self, mut batch: Vec<LogLine>) -> Vec<LogLine> {
        batch.retain(|line| self.seen.get(&line.instance).is_none_or(|seen| line.at > *seen));
        batch
    }
}

struct State {
    first: Option<Vec<LogLine>>,
    follow: Follow,
    shutdown: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

/// Newline-delimited JSON, one log line each; blank lines mean nothing.
pub(crate) async fn follow(shared: &Arc<Shared>, query: LogQuery) -> Result<Reply, Problem> {
    let permit = permit(shared)?;
    let (lines, follow) = Follow::start(&shared.engine, query).await?;
    let shutdown = shared.shutdown.clone();
    // The first piece goes out at once, even when empty, so that the client knows it follows.
    let state = State { first: Some(lines), follow, shutdown, _permit: permit };
    Ok(reply::stream("application/x-ndjson", state, |mut state| async move {
        let lines = match state.first.take() {
            Some(lines) => lines,
            None => tokio::select! {
                () = stopped(&mut state.shutdown) => return None,
                batch = state.follow.next() => batch?,
                () = tokio::time::sleep(HEARTBEAT) => Vec::new(),
            },
        };
        Some((ndjson(&lines), state))
    }))
}

fn ndjson(lines: &[LogLine]) -> Bytes {
    let each = lines.iter().filter_map(|line| serde_json::to_string(line).ok());
    let mut text = each.fold(String::new(), |text, line| text + &line + "\n");
    if text.is_empty() {
        text.push('\n');
    }
    text.into()
}

/// A place among the streams, or a problem when all are taken.
pub(crate) fn permit(shared: &Shared) -> Result<OwnedSemaphorePermit, Problem> {
    shared.streams.clone().try_acquire_owned().map_err(|_| {
        Problem::new("too-busy", "too many live streams are open").with_next("close some pages")
    })
}

/// Returns when the console shuts down, or when whoever could say so is gone.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which says the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Puts lines at the end of `kept` and drops the oldest above `max`; returns how many.
pub(crate) fn keep_newest(kept: &mut VecDeque<LogLine>, batch: Vec<LogLine>, max: usize) -> u64 {
    kept.extend(batch);
    let excess = kept.len().saturating_sub(max);
    kept.drain(..excess);
    excess as u64
}
