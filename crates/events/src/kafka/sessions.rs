//! Fetch sessions (KIP-227): a client names its partitions once, and then only what changes.
//!
//! Invariants: sessions and the partitions in them are bounded; a client whose session is gone is
//! told so and names everything again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kafka_wire::fetch::{FetchPartition, Request};
use kafka_wire::{Str, Uuid};

use super::errors::code;

/// Sessions kept; the one that was used longest ago makes room.
const SESSIONS_MAX: usize = 1000;

/// Partitions of one session; a client with more names all of them each time.
const PARTITIONS_MAX: usize = 20_000;

/// A partition as clients name it.
pub(crate) type Place = (Uuid, Str, i32);

/// What a client wants of a partition, and what it was told last.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) partition: FetchPartition,
    /// High watermark and log start that it knows.
    pub(crate) told: Option<(i64, i64)>,
}

/// One session.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) epoch: i32,
    /// In the order in which they are served; those that were get behind the others.
    pub(crate) order: Vec<Place>,
    pub(crate) wanted: HashMap<Place, Wanted>,
}

/// Sessions of all clients.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    held: HashMap<i32, (u64, Arc<tokio::sync::Mutex<Held>>)>,
    uses: u64,
}

/// How a request is served.
#[derive(Debug)]
pub(crate) enum Kind {
    /// What it names, and nothing is remembered.
    Once,
    /// What a session has.
    Session(i32, Arc<tokio::sync::Mutex<Held>>, bool),
}

impl Sessions {
    /// Finds or makes the session of a request.
    pub(crate) fn of(&self, request: &Request, random: impl Fn() -> u128) -> Result<Kind, i16> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.uses += 1;
        let uses = all.uses;
        match (request.session_id, request.session_epoch) {
            (id, -1) => {
                all.held.remove(&id);
                Ok(Kind::Once)
            }
            (id, 0) => {
                all.held.remove(&id);
                let partitions: usize =
                    request.topics.iter().map(|topic| topic.partitions.len()).sum();
                if partitions > PARTITIONS_MAX || partitions == 0 {
                    return Ok(Kind::Once);
                }
                if all.held.len() >= SESSIONS_MAX {
                    let oldest = all.held.iter().min_by_key(|(_, (used, _))| *used);
                    if let Some(oldest) = oldest.map(|(id, _)| *id) {
                        all.held.remove(&oldest);
                    }
                }
                let id = loop {
                    let id = i32::try_from(random() & 0x7fff_ffff).unwrap_or(1).max(1);
                    if !all.held.contains_key(&id) {
                        break id;
                    }
                };
                let held = Arc::new(tokio::sync::Mutex::new(Held::default()));
                all.held.insert(id, (uses, Arc::clone(&held)));
                Ok(Kind::Session(id, held, true))
            }
            (id, _) => {
                let found = all.held.get_mut(&id).ok_or(code::FETCH_SESSION_ID_NOT_FOUND)?;
                found.0 = uses;
                Ok(Kind::Session(id, Arc::clone(&found.1), false))
            }
        }
    }
}

impl Held {
    /// Takes over what a request says; an error if it is not the next one of its session.
    pub(crate) fn update(&mut self, request: &Request, is_new: bool) -> Result<(), i16> {
        if !is_new && request.session_epoch != self.epoch {
            return Err(code::INVALID_FETCH_SESSION_EPOCH);
        }
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                let place = (topic.topic_id, topic.topic.clone(), *partition);
                self.wanted.remove(&place);
            }
        }
        for topic in &request.topics {
            for partition in &topic.partitions {
                // Detached: the session outlives the frame.
                let place = (topic.topic_id, topic.topic.detached(), partition.partition);
                let told = self.wanted.get(&place).and_then(|wanted| wanted.told);
                let wanted = Wanted { partition: partition.clone(), told };
                if self.wanted.insert(place.clone(), wanted).is_none() {
                    self.order.push(place);
                }
            }
        }
        if self.wanted.len() != self.order.len() {
            let wanted = &self.wanted;
            self.order.retain(|place| wanted.contains_key(place));
        }
        if self.wanted.len() > PARTITIONS_MAX {
            return Err(code::FETCH_SESSION_ID_NOT_FOUND);
        }
        Ok(())
    }
}
