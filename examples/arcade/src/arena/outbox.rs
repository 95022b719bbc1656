//! Points on their way to the scores service: kept until it acknowledges them, over its restarts.
//!
//! They go through the event log where there is one ([`crate::feed`]), else straight to the service.
//! The table keeps only each name's best, so the outbox does too, and sending again is harmless.
//! Bound: [`WAITING_MAX`] results wait; beyond that the lowest score goes, and it is said.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::sync::Notify;

use crate::client::{self, Target};
use crate::feed::{Feed, Meal};
use crate::game::Speed;
use crate::scores::RESULTS_MAX;
use crate::scores::table::Outcome;
use crate::settings::say;

const WAITING_MAX: usize = 2000;

/// Waits between tries, doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// How often it is looked whether anything came that waits as well.
const FLUSH_TURN: Duration = Duration::from_millis(200);

type Waiting = BTreeMap<(String, Speed), Outcome>;

/// Results that wait for the scores service.
pub(crate) struct Outbox {
    scores: Target,
    feed: Option<Feed>,
    waiting: Mutex<Waiting>,
    news: Notify,
}

impl Outbox {
    pub(crate) fn new(scores: Target, feed: Option<Feed>) -> Outbox {
        Outbox { scores, feed, waiting: Mutex::default(), news: Notify::new() }
    }

    /// Takes a result to be sent.
    pub(crate) fn put(&self, outcome: Outcome) {
        if let Some(feed) = &self.feed {
            feed.played(&outcome);
        } else if outcome.score > 0 {
            keep(&mut self.lock(), outcome);
            self.news.notify_one();
        }
    }

    /// Takes food that was eaten: news for the event log, where there is one.
    pub(crate) fn eaten(&self, meal: &Meal<'_>) {
        if let Some(feed) = &self.feed {
            feed.eaten(meal);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.feed.as_ref().map_or(0, Feed::waiting) + self.lock().len()
    }

    /// Sends what comes, for ever.
    pub(crate) async fn run(&self) {
        loop {
            self.flush().await;
            self.news.notified().await;
        }
    }

    /// Sends until nothing waits.
    pub(crate) async fn flush(&self) {
        if let Some(feed) = &self.feed {
            while feed.waiting() > 0 {
                feed.flush(FLUSH_TURN).await;
            }
        }
        let mut pause = RETRY_FIRST;
        loop {
            let batch: Vec<Outcome> = self.lock().values().take(RESULTS_MAX).cloned().collect();
            if batch.is_empty() {
                return;
            }
            match self.send(&batch).await {
                Ok(()) => {
                    self.forget(&batch);
                    pause = RETRY_FIRST;
                }
                Err(why) => {
                    say(format_args!("{} results wait, trying again: {why}", self.len()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_LAST);
                }
            }
        }
    }

    async fn send(&self, batch: &[Outcome]) -> Result<(), String> {
        let body = serde_json::to_vec(batch).map_err(|error| error.to_string())?;
        let answer = client::call(&self.scores, Method::POST, "/results", Bytes::from(body)).await;
        match answer.map_err(|error| error.to_string())? {
            (StatusCode::OK, _) => Ok(()),
            (status, body) => Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim())),
        }
    }

    /// Drops what was acknowledged, unless a better result came in meanwhile.
    fn forget(&self, batch: &[Outcome]) {
        let mut waiting = self.lock();
        for sent in batch {
            let key = (sent.name.clone(), sent.speed);
            if waiting.get(&key) == Some(sent) {
                waiting.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(waiting: &mut Waiting, outcome: Outcome) {
    let key = (outcome.name.clone(), outcome.speed);
    if waiting.get(&key).is_some_and(|kept| kept.score >= outcome.score) {
        return;
    }
    waiting.insert(key, outcome);
    if waiting.len() > WAITING_MAX
        && let Some(lowest) = waiting.iter().min_by_key(|(_, o)| o.score).map(|(k, _)| k.clone())
    {
        say(format_args!("{WAITING_MAX} results wait: letting the lowest go, of {}", lowest.0));
        waiting.remove(&lowest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, score: u32) -> Outcome {
        let (name, speed) = (name.to_owned(), Speed::FASTEST);
        Outcome { name, colour: 0, score, speed, replica: String::new() }
    }

    #[test]
    fn keeps_the_best_of_a_name_and_the_highest_when_full() {
        let mut waiting = Waiting::new();
        for score in [3, 9, 4] {
            keep(&mut waiting, outcome("Ada", score));
        }
        assert_eq!(waiting.values().map(|o| o.score).collect::<Vec<_>>(), [9]);
        for n in 0..WAITING_MAX {
            keep(&mut waiting, outcome(&format!("{n}"), 10));
        }
        assert_eq!(waiting.len(), WAITING_MAX);
        assert!(waiting.values().all(|o| o.score == 10), "the lowest went");
    }

    #[test]
    fn forgets_only_what_was_sent() {
        let outbox = Outbox::new("http://scores:1".parse().unwrap(), None);
        outbox.put(outcome("Ada", 1));
        outbox.put(outcome("Ada", 0));
        let batch = [outcome("Ada", 1)];
        outbox.put(outcome("Ada", 2));
        outbox.forget(&batch);
        assert_eq!(outbox.len(), 1);
        outbox.forget(&[outcome("Ada", 2)]);
        assert_eq!(outbox.len(), 0);
    }
}
