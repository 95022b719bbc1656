//! The API's log queries, asked of `telemetry`; also of the files of an engine that does not run.

use std::path::Path;
use std::sync::Arc;

use base::{Problem, SystemClock};
use console::wire::{LogLine, LogPage, LogQuery};
use telemetry::logs::{Line, LogError, Match, Page};
use telemetry::{LogFilter, LogStore};
use tokio::sync::mpsc;

/// Lines already written.
pub(super) async fn search(store: &LogStore, query: LogQuery) -> Result<LogPage, Problem> {
    let Page { lines, more } = store.search(filter(query)?).await.map_err(unreadable)?;
    Ok(LogPage { lines: lines.into_iter().map(wire).collect(), more })
}

/// Lines that were written while an engine ran in this state folder.
pub(crate) async fn without_engine(state: &Path, query: LogQuery) -> Result<LogPage, Problem> {
    let store = LogStore::open(state.join("logs"), Arc::new(SystemClock)).map_err(unreadable)?;
    search(&store, query).await
}

/// Lines as they are written.
pub(super) fn follow(
    store: &LogStore,
    query: LogQuery,
    tasks: &mut tokio::task::JoinSet<()>,
) -> Result<mpsc::Receiver<Vec<LogLine>>, Problem> {
    let mut lines = store.follow(filter(query)?).map_err(unreadable)?;
    let (to, from) = mpsc::channel(16);
    tasks.spawn(async move {
        while let Some(batch) = lines.recv().await {
            if to.send(batch.into_iter().map(wire).collect()).await.is_err() {
                break;
            }
        }
    });
    Ok(from)
}

fn filter(query: LogQuery) -> Result<LogFilter, Problem> {
    let must = query.grep.as_deref().map(Match::parse).transpose();
    let must = must.map_err(|e| {
        Problem::new("bad-pattern", e.to_string())
            .with_next("give a plain text, or a regular expression between slashes: /time ?out/")
    })?;
    let default = LogFilter::default();
    Ok(LogFilter {
        sources: query.services,
        must: must.into_iter().collect(),
        since: query.since,
        until: query.until,
        limit: query.limit.unwrap_or(default.limit),
        skip: query.skip.unwrap_or_default(),
        ..default
    })
}

fn unreadable(error: LogError) -> Problem {
    let next = "look at the folder `logs` in the state folder";
    Problem::new("internal", error.to_string()).with_next(next)
}

fn wire(line: Line) -> LogLine {
    LogLine {
        at: line.at,
        instance: line.instance,
        stream: line.stream.as_str().to_owned(),
        text: line.text,
    }
}
