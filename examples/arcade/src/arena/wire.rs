//! What is said over a player's WebSocket: small JSON messages, told apart by `t`.
//!
//! A watcher gets `welcome`, then `state` (the whole room), then a `tick` for each step, which
//! says only what changed. `state` comes again whenever somebody comes, goes or starts anew, and
//! after a watcher was too slow to take every tick.

use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::game::{Cause, Cell, Direction, SnakeId, Speed, Step};

/// Longest message taken from a browser, in bytes.
pub(crate) const MESSAGE_MAX: usize = 512;

/// What a browser may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(crate) enum Said {
    /// Play in a room of this speed, a new one when all are full.
    Join { name: String, colour: u8, speed: Speed },
    /// Watch a room, of this speed if there is one.
    Watch { speed: Speed },
    /// Turn, seen from the board: 0 up, 1 right, 2 down, 3 left.
    Turn { d: Direction },
    /// Start anew after an end.
    Again,
    /// Answered with `pong` and the same number, so that the page can show the way's length.
    Ping { at: u32 },
}

/// What a room says to one who enters.
#[derive(Debug, Serialize)]
#[serde(tag = "t", rename = "welcome")]
pub(crate) struct Welcome<'a> {
    /// The newcomer's snake; none for one who only watches.
    pub(crate) you: Option<SnakeId>,
    pub(crate) replica: &'a str,
    pub(crate) room: u32,
    pub(crate) speed: Speed,
    pub(crate) period_ms: u64,
    pub(crate) grace_ms: u64,
    pub(crate) width: u8,
    pub(crate) height: u8,
}

/// The whole room.
#[derive(Debug, Serialize)]
#[serde(tag = "t", rename = "state")]
pub(crate) struct State<'a> {
    pub(crate) tick: u64,
    pub(crate) watchers: usize,
    pub(crate) players: Vec<Row<'a>>,
    pub(crate) food: Vec<Cell>,
}

/// One player in [`State`]; without cells while not on the board.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    pub(crate) id: SnakeId,
    pub(crate) name: &'a str,
    pub(crate) colour: u8,
    pub(crate) bot: bool,
    pub(crate) score: u32,
    pub(crate) heading: Direction,
    pub(crate) cells: Vec<Cell>,
}

/// What changed since the message before.
#[derive(Debug, Serialize)]
#[serde(tag = "t", rename = "tick")]
pub(crate) struct Tick<'a> {
    pub(crate) tick: u64,
    /// `[id, head, grew]`
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) moves: &'a [(SnakeId, Cell, bool)],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) eaten: &'a [Cell],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) placed: &'a [Cell],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) wall: &'a [SnakeId],
    /// `[id, score, against]`: "wall", "itself" or another's id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dead: Vec<(SnakeId, u32, Against)>,
    /// `[id, score]` of those whose score may have changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) points: Vec<(SnakeId, u32)>,
}

/// What a snake ended against.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Against {
    What(&'static str),
    Snake(SnakeId),
}

impl<'a> Tick<'a> {
    pub(crate) fn new(tick: u64, step: &'a Step, points: Vec<(SnakeId, u32)>) -> Tick<'a> {
        let against = |cause| match cause {
            Cause::Wall => Against::What("wall"),
            Cause::Itself => Against::What("itself"),
            Cause::Other(other) => Against::Snake(other),
        };
        let dead = step.deaths.iter().map(|d| (d.snake, d.score, against(d.cause))).collect();
        Tick {
            tick,
            moves: &step.moves,
            eaten: &step.eaten,
            placed: &step.placed,
            wall: &step.at_wall,
            dead,
            points,
        }
    }
}

/// A message as text. These types hold only numbers and strings, so it cannot fail.
pub(crate) fn text(message: &impl Serialize) -> Utf8Bytes {
    serde_json::to_string(message).unwrap_or_default().into()
}

/// Said to everyone when this copy stops: connect again, another one plays on.
pub(crate) const MOVE: &str = r#"{"t":"move"}"#;

/// Said when no room is left.
pub(crate) const FULL: &str = r#"{"t":"full"}"#;

pub(crate) fn pong(at: u32) -> Utf8Bytes {
    format!(r#"{{"t":"pong","at":{at}}}"#).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::game::world::Death;

    fn said() -> impl Strategy<Value = Said> {
        let speed = || (1..=9_u8).prop_map(|n| Speed::try_from(n).unwrap());
        prop_oneof![
            (".{0,20}", any::<u8>(), speed()).prop_map(|(name, colour, speed)| Said::Join {
                name,
                colour,
                speed
            }),
            speed().prop_map(|speed| Said::Watch { speed }),
            (0..4_u8).prop_map(|d| Said::Turn { d: Direction::try_from(d).unwrap() }),
            Just(Said::Again),
            any::<u32>().prop_map(|at| Said::Ping { at }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_said_is_understood(said in said()) {
            let text = serde_json::to_string(&said).unwrap();
            prop_assert_eq!(serde_json::from_str::<Said>(&text).unwrap(), said);
        }

        #[test]
        fn never_panics_on_any_text(text in ".{0,80}") {
            let _ = serde_json::from_str::<Said>(&text);
        }
    }

    #[test]
    fn messages_look_as_the_page_reads_them() {
        let turn = serde_json::from_str::<Said>(r#"{"t":"turn","d":3}"#).unwrap();
        assert_eq!(turn, Said::Turn { d: Direction::Left });
        for bad in [r#"{"t":"turn","d":4}"#, r#"{"t":"join","name":"A","colour":1,"speed":0}"#] {
            assert!(serde_json::from_str::<Said>(bad).is_err(), "{bad}");
        }
        let (a, b) = (SnakeId(1), SnakeId(2));
        let deaths = vec![
            Death { snake: a, cause: Cause::Other(b), score: 4 },
            Death { snake: b, cause: Cause::Wall, score: 0 },
        ];
        let moves = vec![(a, Cell(3, 4), true)];
        let step = Step { moves, deaths, placed: vec![Cell(0, 9)], ..Step::default() };
        assert_eq!(
            text(&Tick::new(7, &step, vec![(a, 4)])).as_str(),
            r#"{"t":"tick","tick":7,"moves":[[1,[3,4],true]],"placed":[[0,9]],"#.to_owned()
                + r#""dead":[[1,4,2],[2,0,"wall"]],"points":[[1,4]]}"#
        );
    }
}
