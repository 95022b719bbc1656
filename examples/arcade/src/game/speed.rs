//! Speeds 1 to 9 and the tick period of each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest tick: what speed 9 runs at, with no delay added.
pub(crate) const TICK_MIN: Duration = Duration::from_millis(50);

/// What each step below 9 adds to a tick.
const ADDED_PER_STEP: Duration = Duration::from_millis(20);

/// A room's speed, 1 (slow) to 9 (nothing added to the shortest tick).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) struct Speed(u8);

impl Speed {
    pub(crate) const SLOWEST: Speed = Speed(1);
    pub(crate) const FASTEST: Speed = Speed(9);

    /// The time from one tick to the next.
    pub(crate) fn period(self) -> Duration {
        TICK_MIN + ADDED_PER_STEP * u32::from(Self::FASTEST.0 - self.0)
    }
}

impl TryFrom<u8> for Speed {
    type Error = String;

    fn try_from(speed: u8) -> Result<Speed, String> {
        if (Self::SLOWEST.0..=Self::FASTEST.0).contains(&speed) {
            Ok(Speed(speed))
        } else {
            Err(format!("speed {speed} is not one of 1 to 9"))
        }
    }
}

impl From<Speed> for u8 {
    fn from(speed: Speed) -> u8 {
        speed.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faster_speeds_tick_more_often_and_nine_adds_nothing() {
        let all: Vec<Speed> = (1..=9).map(|n| Speed::try_from(n).unwrap()).collect();
        assert!(all.windows(2).all(|pair| pair[0].period() > pair[1].period()));
        assert_eq!(all[8].period(), TICK_MIN);
        assert!(Speed::try_from(0).is_err() && Speed::try_from(10).is_err());
    }
}
