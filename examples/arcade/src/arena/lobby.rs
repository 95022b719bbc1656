//! Finds players a room: the first of their speed with a free seat, or a new one.
//!
//! A room lives while somebody holds a [`Seat`] in it; the last one to leave takes it off the
//! list, so nobody can enter a room that is ending.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::outbox::Outbox;
use super::room::{self, Order};
use crate::game::{SnakeId, Speed};

/// Rooms in one copy of the arena, players and watchers in one room.
pub(crate) const ROOMS_MAX: usize = 64;
pub(crate) const PLAYERS_MAX: usize = 8;
pub(crate) const WATCHERS_MAX: usize = 32;

/// Orders to a room that wait; beyond that those who give them wait.
const ORDERS_MAX: usize = 256;

/// What every room needs to know.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) replica: String,
    pub(crate) bots: usize,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) stop: watch::Receiver<bool>,
}

pub(crate) struct Lobby {
    config: Config,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    rooms: BTreeMap<u32, Entry>,
    tasks: JoinSet<()>,
    rooms_ever: u32,
    members_ever: u32,
}

struct Entry {
    speed: Speed,
    players: usize,
    watchers: usize,
    orders: mpsc::Sender<Order>,
}

/// What somebody wants a seat for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Play(Speed),
    Watch(Speed),
}

/// A place in a room, given back when dropped.
pub(crate) struct Seat {
    pub(crate) member: SnakeId,
    pub(crate) orders: mpsc::Sender<Order>,
    room: u32,
    plays: bool,
    lobby: Arc<Lobby>,
}

/// A room as `GET /rooms` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    room: u32,
    speed: Speed,
    players: usize,
    watchers: usize,
}

impl Lobby {
    pub(crate) fn new(config: Config) -> Lobby {
        Lobby { config, list: Mutex::default() }
    }

    /// A seat, or nothing when every room is full and no more may be opened.
    pub(crate) fn seat(self: &Arc<Self>, wish: Wish) -> Option<Seat> {
        let mut list = self.lock();
        while list.tasks.try_join_next().is_some() {}
        let room = match list.find(wish) {
            Some(room) => room,
            None => list.open(wish, &self.config)?,
        };
        list.members_ever = list.members_ever.wrapping_add(1) % room::BOTS_FROM;
        let member = SnakeId(list.members_ever);
        let entry = list.rooms.get_mut(&room)?;
        let plays = matches!(wish, Wish::Play(_));
        *(if plays { &mut entry.players } else { &mut entry.watchers }) += 1;
        let orders = entry.orders.clone();
        Some(Seat { member, orders, room, plays, lobby: Arc::clone(self) })
    }

    pub(crate) fn overview(&self) -> Vec<Overview> {
        let list = self.lock();
        let row = |(room, entry): (&u32, &Entry)| Overview {
            room: *room,
            speed: entry.speed,
            players: entry.players,
            watchers: entry.watchers,
        };
        list.rooms.iter().map(row).collect()
    }

    /// Waits for every room's end; they end when `stop` is true or nobody is left.
    pub(crate) async fn ended(&self) {
        let mut tasks = std::mem::take(&mut self.lock().tasks);
        while tasks.join_next().await.is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn find(&self, wish: Wish) -> Option<u32> {
        let fits = |entry: &Entry| match wish {
            Wish::Play(speed) => entry.speed == speed && entry.players < PLAYERS_MAX,
            Wish::Watch(_) => entry.watchers < WATCHERS_MAX,
        };
        let wanted = |entry: &Entry| match wish {
            Wish::Play(_) => (true, 0),
            Wish::Watch(speed) => (entry.speed == speed, entry.players),
        };
        let rooms = self.rooms.iter().rev().filter(|(_, entry)| fits(entry));
        rooms.max_by_key(|(_, entry)| wanted(entry)).map(|(room, _)| *room)
    }

    fn open(&mut self, wish: Wish, config: &Config) -> Option<u32> {
        if self.rooms.len() >= ROOMS_MAX {
            return None;
        }
        let (Wish::Play(speed) | Wish::Watch(speed)) = wish;
        self.rooms_ever = self.rooms_ever.wrapping_add(1);
        let room = self.rooms_ever;
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        // The keys of a new hasher are random, which is chance enough for a game.
        let seed = RandomState::new().build_hasher().finish();
        self.tasks.spawn(room::Room::new(room, speed, seed, config.clone()).play(inbox));
        self.rooms.insert(room, Entry { speed, players: 0, watchers: 0, orders });
        Some(room)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut list = self.lobby.lock();
        let Some(entry) = list.rooms.get_mut(&self.room) else { return };
        *(if self.plays { &mut entry.players } else { &mut entry.watchers }) -= 1;
        if entry.players + entry.watchers == 0 {
            list.rooms.remove(&self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lobby() -> (Arc<Lobby>, watch::Sender<bool>) {
        let (sender, stop) = watch::channel(false);
        let outbox = Arc::new(Outbox::new("http://127.0.0.1:9".parse().unwrap(), None));
        let config = Config { replica: "arena.1".to_owned(), bots: 0, outbox, stop };
        (Arc::new(Lobby::new(config)), sender)
    }

    #[tokio::test]
    async fn rooms_fill_before_new_ones_open_and_end_when_empty() {
        let (lobby, _stop) = lobby();
        let nine = Wish::Play(Speed::FASTEST);
        let mut seats: Vec<Seat> = (0..=PLAYERS_MAX).map(|_| lobby.seat(nine).unwrap()).collect();
        assert!(seats[..PLAYERS_MAX].iter().all(|seat| seat.room == seats[0].room));
        assert_ne!(seats[PLAYERS_MAX].room, seats[0].room);
        let other = lobby.seat(Wish::Play(Speed::SLOWEST)).unwrap();
        assert_eq!(lobby.overview().len(), 3);
        // A watcher gets the fullest room of the wished speed, or another speed's.
        let watcher = lobby.seat(Wish::Watch(Speed::FASTEST)).unwrap();
        assert_eq!(watcher.room, seats[0].room);
        // A free seat is taken again.
        let freed = seats.remove(0).room;
        let again = lobby.seat(nine).unwrap();
        assert_eq!(again.room, freed);
        drop((seats, other, watcher, again));
        assert!(lobby.overview().is_empty());
        lobby.ended().await;
    }

    #[tokio::test]
    async fn the_number_of_rooms_is_bounded() {
        let (lobby, _stop) = lobby();
        let wish = Wish::Play(Speed::SLOWEST);
        let mut seats: Vec<Seat> =
            (0..ROOMS_MAX * PLAYERS_MAX).map(|_| lobby.seat(wish).unwrap()).collect();
        assert!(lobby.seat(wish).is_none() && lobby.seat(Wish::Play(Speed::FASTEST)).is_none());
        seats.pop();
        assert!(lobby.seat(wish).is_some());
    }
}
