//! Rooms under a clock that moves only when everyone waits.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::arena::outbox::Outbox;
use crate::game::Direction;

struct Stand {
    orders: mpsc::Sender<Order>,
    outbox: Arc<Outbox>,
    stop: watch::Sender<bool>,
    room: JoinSet<()>,
}

impl Stand {
    fn open(speed: Speed, bots: usize) -> Stand {
        let (stop, stopped) = watch::channel(false);
        let outbox = Arc::new(Outbox::new("http://127.0.0.1:9".parse().unwrap(), None));
        let replica = "arena.1".to_owned();
        let config = Config { replica, bots, outbox: Arc::clone(&outbox), stop: stopped };
        let (orders, inbox) = mpsc::channel(16);
        let mut room = JoinSet::new();
        room.spawn(Room::new(1, speed, 5, config).play(inbox));
        Stand { orders, outbox, stop, room }
    }

    async fn enter(&self, id: u32, plays: bool, waiting: usize) -> mpsc::Receiver<Utf8Bytes> {
        let (messages, receiver) = mpsc::channel(waiting);
        let player = plays.then(|| Player { name: format!("P{id}"), colour: 0 });
        let order = Order::Enter { member: SnakeId(id), player, messages };
        self.orders.send(order).await.ok().unwrap();
        receiver
    }
}

async fn next(messages: &mut mpsc::Receiver<Utf8Bytes>) -> Value {
    serde_json::from_str(&messages.recv().await.unwrap()).unwrap()
}

async fn next_of(messages: &mut mpsc::Receiver<Utf8Bytes>, kind: &str) -> Value {
    loop {
        let message = next(messages).await;
        if message["t"] == kind {
            return message;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_keep_their_times_and_lateness_does_not_add_up() {
    for speed in [1_u8, 5, 9].map(|n| Speed::try_from(n).unwrap()) {
        let stand = Stand::open(speed, 0);
        let start = Instant::now();
        let mut messages = stand.enter(1, false, 16).await;
        for n in 1..=200_u32 {
            let tick = next_of(&mut messages, "tick").await;
            assert_eq!(tick["tick"], n);
            // The test's clock and the timer's both step by a millisecond.
            let late = start.elapsed().saturating_sub(speed.period() * n);
            assert!(late <= Duration::from_millis(2), "tick {n} is {late:?} late");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_misses_ticks_gets_the_whole_state_and_one_who_never_reads_is_let_go() {
    let stand = Stand::open(Speed::FASTEST, 2);
    let mut slow = stand.enter(1, false, 4).await;
    let mut steady = stand.enter(2, false, 64).await;
    for _ in 0..20 {
        next_of(&mut steady, "tick").await;
    }
    // The four that waited, then the state instead of what was missed, then ticks again.
    for _ in 0..4 {
        next(&mut slow).await;
    }
    assert_eq!(next(&mut slow).await["t"], "state");
    next_of(&mut slow, "tick").await;
    for _ in 0..=MISSED_MAX + 8 {
        next_of(&mut steady, "tick").await;
    }
    while slow.recv().await.is_some() {}
    next_of(&mut steady, "tick").await;
}

#[tokio::test(start_paused = true)]
async fn a_late_turn_at_the_wall_saves_within_the_grace_only() {
    for (late_ms, saved) in [(5, true), (35, true), (45, false)] {
        let stand = Stand::open(Speed::SLOWEST, 0);
        let mut messages = stand.enter(1, true, 64).await;
        let at_wall = loop {
            let tick = next_of(&mut messages, "tick").await;
            assert!(tick["dead"].is_null(), "it has met nothing yet");
            if !tick["wall"].is_null() {
                break Instant::now();
            }
        };
        tokio::time::sleep_until(at_wall + Duration::from_millis(late_ms)).await;
        // Whichever way is open: those that lead into the wall or back are not taken.
        for direction in Direction::ALL {
            let order = Order::Turn { member: SnakeId(1), direction, at: Instant::now() };
            stand.orders.send(order).await.ok().unwrap();
        }
        let after = next_of(&mut messages, "tick").await;
        assert_eq!(after["dead"].is_null(), saved, "{late_ms} ms late: {after}");
        if !saved {
            let waited = at_wall.elapsed();
            assert!(waited < Speed::SLOWEST.period(), "told at the grace's end, not a tick later");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn points_are_banked_at_a_stop_and_when_a_player_leaves() {
    for leaves in [true, false] {
        let mut stand = Stand::open(Speed::SLOWEST, 0);
        let mut messages = stand.enter(1, true, 64).await;
        // Straight ahead from a random place, as often as it takes to meet some food.
        loop {
            let tick = next_of(&mut messages, "tick").await;
            if tick["points"][0][1].as_u64().is_some_and(|points| points > 0) {
                break;
            }
            if tick["dead"].is_array() {
                stand.orders.send(Order::Again { member: SnakeId(1) }).await.ok().unwrap();
            }
        }
        assert_eq!(stand.outbox.len(), 0, "the game goes on");
        if leaves {
            stand.orders.send(Order::Leave { member: SnakeId(1) }).await.ok().unwrap();
            drop(stand.orders);
        } else {
            stand.stop.send_replace(true);
        }
        while stand.room.join_next().await.is_some() {}
        assert_eq!(stand.outbox.len(), 1);
    }
}
