//! One room as a task: keeps the ticks, hands inputs to the world, tells watchers what changed.
//!
//! Ticks are due at multiples of the period since the room's start, so being late once does not
//! shift those that follow. A watcher that does not take its messages misses ticks and gets the
//! whole state when it can take it; one that misses [`MISSED_MAX`] in a row is let go.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::lobby::Config;
use super::wire::{Row, State, Tick, Welcome, text};
use crate::feed::Meal;
use crate::game::grid::Grid;
use crate::game::world::WALL_GRACE;
use crate::game::{Direction, Input, SnakeId, Speed, Step, World, bot};
use crate::scores::table::Outcome;
use crate::settings::stopped;

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;

/// The board of every room, in cells.
const BOARD: Grid = Grid { width: 44, height: 28 };

/// Messages to one watcher that wait.
pub(crate) const MESSAGES_MAX: usize = 16;

/// Ticks in a row that a watcher may miss.
const MISSED_MAX: u32 = 200;

/// Inputs that wait for a tick; more are ignored. A session may send far fewer in that time.
const INPUTS_MAX: usize = 512;

/// Ticks before a bot that ended starts anew.
const BOT_PAUSE: u64 = 12;

/// Snake ids from here on are bots'.
pub(crate) const BOTS_FROM: u32 = 4_000_000_000;

const BOTS: [(&str, u8); 6] =
    [("Boa", 2), ("Mamba", 5), ("Adder", 1), ("Python", 6), ("Taipan", 3), ("Krait", 7)];

/// Who plays: name and colour, both cleaned.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) name: String,
    pub(crate) colour: u8,
}

/// What sessions tell a room.
pub(crate) enum Order {
    Enter { member: SnakeId, player: Option<Player>, messages: mpsc::Sender<Utf8Bytes> },
    Turn { member: SnakeId, direction: Direction, at: Instant },
    Again { member: SnakeId },
    Leave { member: SnakeId },
}

struct Member {
    player: Option<Player>,
    messages: mpsc::Sender<Utf8Bytes>,
    /// On the board or waiting for a free place on it.
    playing: bool,
    /// Ticks missed in a row; above zero the next message is the whole state.
    missed: u32,
}

struct Bot {
    id: SnakeId,
    player: Player,
    start_at: u64,
}

pub(crate) struct Room {
    number: u32,
    speed: Speed,
    config: Config,
    world: World,
    members: BTreeMap<SnakeId, Member>,
    bots: Vec<Bot>,
    inputs: Vec<Input>,
    start: Instant,
    tick: u64,
}

impl Room {
    pub(crate) fn new(number: u32, speed: Speed, seed: u64, config: Config) -> Room {
        let bot = |(n, (name, colour)): (u32, &(&str, u8))| Bot {
            id: SnakeId(BOTS_FROM + n),
            player: Player { name: (*name).to_owned(), colour: *colour },
            start_at: u64::from(n) * BOT_PAUSE,
        };
        let bots = (0..).zip(&BOTS).take(config.bots).map(bot).collect();
        let world = World::new(BOARD, seed);
        Room {
            number,
            speed,
            config,
            world,
            members: BTreeMap::new(),
            bots,
            inputs: Vec::new(),
            start: Instant::now(),
            tick: 0,
        }
    }

    /// Plays until nobody can give orders any more, or the arena stops.
    pub(crate) async fn play(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut stop = self.config.stop.clone();
        self.start = Instant::now();
        let mut ticks = interval_at(self.start + self.speed.period(), self.speed.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let grace_over = self.world.settle_due();
            let settle_at = self.start + grace_over.unwrap_or(Duration::ZERO);
            tokio::select! {
                // In this order, a turn that arrived in time counts before time is looked at.
                biased;
                () = stopped(&mut stop) => break,
                order = inbox.recv() => match order {
                    Some(order) => self.take(order),
                    None => break,
                },
                () = sleep_until(settle_at), if grace_over.is_some() => self.settle(),
                _ = ticks.tick() => self.tick(),
            }
        }
        // Whoever still plays keeps the points so far.
        let playing: Vec<SnakeId> = self.world.snakes().keys().copied().collect();
        playing.into_iter().for_each(|id| self.take_off(id));
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Enter { member, player, messages } => self.enter(member, player, messages),
            Order::Turn { member, direction, at } => {
                if self.inputs.len() < INPUTS_MAX {
                    let at = at.saturating_duration_since(self.start);
                    self.inputs.push(Input { snake: member, direction, at });
                }
            }
            Order::Again { member } => {
                if let Some(member) = self.members.get_mut(&member)
                    && member.player.is_some()
                {
                    member.playing = true;
                }
            }
            Order::Leave { member } => {
                self.take_off(member);
                self.members.remove(&member);
                self.tell_state();
            }
        }
    }

    fn enter(&mut self, id: SnakeId, player: Option<Player>, out: mpsc::Sender<Utf8Bytes>) {
        let welcome = text(&Welcome {
            you: player.as_ref().map(|_| id),
            replica: &self.config.replica,
            room: self.number,
            speed: self.speed,
            period_ms: millis(self.speed.period()),
            grace_ms: millis(WALL_GRACE),
            width: BOARD.width,
            height: BOARD.height,
        });
        // The queue is new and empty.
        let _ = out.try_send(welcome);
        let playing = player.is_some();
        self.members.insert(id, Member { player, messages: out, playing, missed: 0 });
        self.tell_state();
    }

    fn settle(&mut self) {
        let now = self.start.elapsed();
        let inputs = std::mem::take(&mut self.inputs);
        let step = self.world.settle(&inputs, now);
        self.finish(&step);
    }

    fn tick(&mut self) {
        self.tick += 1;
        let came = self.spawn_waiting();
        let now = self.start.elapsed();
        let mut inputs = std::mem::take(&mut self.inputs);
        for bot in &self.bots {
            if let Some(direction) = bot::steer(&self.world, bot.id) {
                inputs.push(Input { snake: bot.id, direction, at: now });
            }
        }
        let step = self.world.tick(&inputs, now);
        inputs.clear();
        self.inputs = inputs;
        self.finish(&step);
        if came {
            self.tell_state();
        }
    }

    /// Puts those on the board who wait for it. True when somebody came.
    fn spawn_waiting(&mut self) -> bool {
        let mut came = false;
        let waiting = |(id, m): (&SnakeId, &Member)| m.playing.then_some(*id);
        let waiting: Vec<SnakeId> = self.members.iter().filter_map(waiting).collect();
        for id in waiting {
            came |= self.world.spawn(id);
        }
        let players = self.members.values().filter(|m| m.player.is_some()).count();
        let wanted = self.config.bots.saturating_sub(players.saturating_sub(1));
        for bot in self.bots.iter().take(wanted).filter(|bot| bot.start_at <= self.tick) {
            came |= self.world.spawn(bot.id);
        }
        came
    }

    /// Banks the points of those who ended and tells everyone what changed.
    fn finish(&mut self, step: &Step) {
        for death in &step.deaths {
            self.bank(death.snake, death.score);
            if let Some(member) = self.members.get_mut(&death.snake) {
                member.playing = false;
            }
            if let Some(bot) = self.bots.iter_mut().find(|bot| bot.id == death.snake) {
                bot.start_at = self.tick + BOT_PAUSE;
            }
        }
        self.tell_meals(step);
        let changed = !step.eaten.is_empty() || !step.deaths.is_empty();
        let points = if changed {
            self.world.snakes().iter().map(|(id, snake)| (*id, snake.score)).collect()
        } else {
            Vec::new()
        };
        self.tell(&text(&Tick::new(self.tick, step, points)));
    }

    fn tell_meals(&self, step: &Step) {
        for (id, cell, _) in step.moves.iter().filter(|(_, cell, _)| step.eaten.contains(cell)) {
            let member = self.members.get(id).and_then(|member| member.player.as_ref());
            let bot = self.bots.iter().find(|bot| bot.id == *id).map(|bot| &bot.player);
            let Some(player) = member.or(bot) else { continue };
            self.config.outbox.eaten(&Meal {
                name: &player.name,
                speed: self.speed,
                room: self.number,
                replica: &self.config.replica,
                x: cell.0,
                y: cell.1,
            });
        }
    }

    fn take_off(&mut self, id: SnakeId) {
        if let Some(snake) = self.world.remove(id) {
            self.bank(id, snake.score);
        }
    }

    fn bank(&self, id: SnakeId, score: u32) {
        let Some(player) = self.members.get(&id).and_then(|m| m.player.clone()) else { return };
        self.config.outbox.put(Outcome {
            name: player.name,
            colour: player.colour,
            score,
            speed: self.speed,
            replica: self.config.replica.clone(),
        });
    }

    fn tell_state(&mut self) {
        let state = self.state();
        self.tell(&state);
    }

    /// Gives every member a message, or the whole state to those who missed some.
    fn tell(&mut self, message: &Utf8Bytes) {
        let mut state = None;
        if self.members.values().any(|member| member.missed > 0) {
            state = Some(self.state());
        }
        let mut gone = Vec::new();
        for (id, member) in &mut self.members {
            let message = state.as_ref().filter(|_| member.missed > 0).unwrap_or(message);
            if member.messages.try_send(message.clone()).is_ok() {
                member.missed = 0;
            } else {
                member.missed += 1;
                if member.missed > MISSED_MAX || member.messages.is_closed() {
                    gone.push(*id);
                }
            }
        }
        for id in gone {
            self.take_off(id);
            self.members.remove(&id);
        }
    }

    fn state(&self) -> Utf8Bytes {
        let row = |id: SnakeId, player: &'_ Player, bot| {
            let snake = self.world.snakes().get(&id);
            (id, player.name.clone(), player.colour, bot, snake)
        };
        let members = self.members.iter().filter_map(|(id, m)| Some((*id, m.player.as_ref()?)));
        let rows: Vec<_> = members.map(|(id, player)| row(id, player, false)).collect();
        let alive = |bot: &&Bot| self.world.snakes().contains_key(&bot.id);
        let bots = self.bots.iter().filter(alive).map(|bot| row(bot.id, &bot.player, true));
        let rows: Vec<_> = rows.into_iter().chain(bots).collect();
        let players = rows.iter().map(|(id, name, colour, bot, snake)| Row {
            id: *id,
            name,
            colour: *colour,
            bot: *bot,
            score: snake.map_or(0, |s| s.score),
            heading: snake.map_or(Direction::Up, |s| s.heading),
            cells: snake.map_or_else(Vec::new, |s| s.body.iter().copied().collect()),
        });
        let watchers = self.members.values().filter(|m| m.player.is_none()).count();
        let food = self.world.food().iter().copied().collect();
        text(&State { tick: self.tick, watchers, players: players.collect(), food })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
