//! Share sessions (KIP-932): a member names its partitions once, and then only what changes.
//!
//! Not here: what it gets of them (`records`). Invariants: sessions and the partitions in them are
//! bounded; one ends with its connection, and is told so afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use kafka_wire::Uuid;

use crate::kafka::errors::code;

/// Most sessions, as Kafka has them.
const SESSIONS_MAX: usize = 2000;

/// Most partitions of a session.
const PARTITIONS_MAX: usize = 20_000;

/// Epoch of a request that begins a session, and of one that ends it.
pub(crate) const BEGIN: i32 = 0;
pub(crate) const END: i32 = -1;

/// A partition: its topic's id and its number.
pub(crate) type Place = (Uuid, i32);

/// Whose session it is: a group and a member of it.
pub(crate) type Owner = (String, String);

/// Sessions of all members.
#[derive(Debug, Default)]
pub(crate) struct ShareSessions(Mutex<HashMap<Owner, Held>>);

#[derive(Debug)]
struct Held {
    /// The epoch of its next request.
    epoch: i32,
    connection: usize,
    /// In the order in which they are served.
    places: Vec<Place>,
}

impl ShareSessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Owner, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one anew. Returns what the session that it replaces had.
    pub(crate) fn begin(&self, owner: Owner, connection: usize) -> Result<Vec<Place>, i16> {
        let mut all = self.lock();
        if all.len() >= SESSIONS_MAX && !all.contains_key(&owner) {
            return Err(code::SHARE_SESSION_LIMIT_REACHED);
        }
        let before = all.insert(owner, Held { epoch: 1, connection, places: Vec::new() });
        Ok(before.map(|held| held.places).unwrap_or_default())
    }

    /// Whether there is one.
    pub(crate) fn find(&self, owner: &Owner) -> Result<(), i16> {
        self.lock().get(owner).map(|_| ()).ok_or(code::SHARE_SESSION_NOT_FOUND)
    }

    /// The next request of a session.
    pub(crate) fn go_on(&self, owner: &Owner, epoch: i32) -> Result<(), i16> {
        let mut all = self.lock();
        let held = all.get_mut(owner).ok_or(code::SHARE_SESSION_NOT_FOUND)?;
        if held.epoch != epoch {
            return Err(code::INVALID_SHARE_SESSION_EPOCH);
        }
        held.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        Ok(())
    }

    /// Changes which partitions it has; what it has then, those that come first that were served
    /// longest ago.
    pub(crate) fn change(
        &self,
        owner: &Owner,
        more: impl Iterator<Item = Place>,
        less: &[Place],
    ) -> Vec<Place> {
        let mut all = self.lock();
        let Some(held) = all.get_mut(owner) else { return Vec::new() };
        held.places.retain(|place| !less.contains(place));
        let mut known: HashSet<Place> = held.places.iter().copied().collect();
        for place in more {
            if held.places.len() < PARTITIONS_MAX && known.insert(place) {
                held.places.push(place);
            }
        }
        held.places.clone()
    }

    /// These got something: others come first the next time.
    pub(crate) fn served(&self, owner: &Owner, served: &[Place]) {
        let mut all = self.lock();
        let Some(held) = all.get_mut(owner).filter(|_| !served.is_empty()) else { return };
        let (behind, mut order): (Vec<Place>, Vec<Place>) =
            held.places.drain(..).partition(|place| served.contains(place));
        order.extend(behind);
        held.places = order;
    }

    /// Ends one; what it had.
    pub(crate) fn end(&self, owner: &Owner) -> Result<Vec<Place>, i16> {
        let held = self.lock().remove(owner).ok_or(code::SHARE_SESSION_NOT_FOUND)?;
        Ok(held.places)
    }

    /// Ends those of a connection; what they had.
    pub(crate) fn end_of(&self, connection: usize) -> Vec<(Owner, Vec<Place>)> {
        let mut all = self.lock();
        let own = all.extract_if(|_, held| held.connection == connection);
        own.map(|(owner, held)| (owner, held.places)).collect()
    }
}
