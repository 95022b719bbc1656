//! The table of best scores: for each speed, the best of each name. Pure; adding is idempotent and
//! its order does not matter.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::game::Speed;

/// Rows kept for each speed.
pub(crate) const ROWS_MAX: usize = 20;

/// Longest name, in characters.
pub(crate) const NAME_MAX: usize = 16;

/// Colours that a player can choose from.
pub(crate) const COLOURS: u8 = 8;

/// A finished game. Which arena it was played in is for curiosity only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) colour: u8,
    pub(crate) score: u32,
    pub(crate) speed: Speed,
    #[serde(default)]
    pub(crate) replica: String,
}

/// The best scores, best first within a speed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    scores: Vec<Outcome>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    /// Takes a result in. True when the table changed.
    pub(crate) fn add(&mut self, outcome: &Outcome) -> bool {
        let outcome = Outcome {
            name: clean_name(&outcome.name),
            colour: outcome.colour % COLOURS,
            replica: outcome.replica.chars().take(40).collect(),
            ..outcome.clone()
        };
        if outcome.score == 0 {
            return false;
        }
        let before = self.scores.clone();
        let same = |row: &Outcome| row.speed == outcome.speed && row.name == outcome.name;
        match self.scores.iter_mut().find(|row| same(row)) {
            Some(row) if row.score >= outcome.score => return false,
            Some(row) => *row = outcome,
            None => self.scores.push(outcome),
        }
        let order = |row: &Outcome| (row.speed, Reverse(row.score), row.name.clone());
        self.scores.sort_by_cached_key(order);
        let mut rows = [0; 10];
        self.scores.retain(|row| {
            let rows = &mut rows[usize::from(u8::from(row.speed))];
            *rows += 1;
            *rows <= ROWS_MAX
        });
        self.scores != before
    }
}

/// A name as it may be shown: one line, without control characters, at most [`NAME_MAX`] long.
pub(crate) fn clean_name(name: &str) -> String {
    let visible = name.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    // Marks that reorder text could make one name look like another.
    let hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let kept: String = visible.filter(|c| !c.is_control() && !hidden(*c)).collect();
    let words: Vec<&str> = kept.split(' ').filter(|word| !word.is_empty()).collect();
    let name: String = words.join(" ").chars().take(NAME_MAX).collect();
    let name = name.trim_end();
    if name.is_empty() { "Anonymous".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        ("[a-c]{1,2}", 0..60_u32, 1..=9_u8).prop_map(|(name, score, speed)| Outcome {
            name,
            colour: 1,
            score,
            speed: Speed::try_from(speed).unwrap(),
            replica: String::new(),
        })
    }

    fn table(outcomes: &[Outcome]) -> Table {
        let mut table = Table::default();
        for outcome in outcomes {
            table.add(outcome);
        }
        table
    }

    proptest! {
        #[test]
        fn repeating_and_reordering_change_nothing(
            outcomes in prop::collection::vec(outcome(), 0..60),
        ) {
            let once = table(&outcomes);
            let mut twice = outcomes.clone();
            twice.extend(outcomes.iter().rev().cloned());
            prop_assert_eq!(&once, &table(&twice));
            let reversed: Vec<_> = outcomes.iter().rev().cloned().collect();
            prop_assert_eq!(&once, &table(&reversed));
        }

        #[test]
        fn the_best_of_a_speed_is_first_and_names_are_once(
            outcomes in prop::collection::vec(outcome(), 1..60),
        ) {
            let table = table(&outcomes);
            for speed in (1..=9).map(|n| Speed::try_from(n).unwrap()) {
                let rows: Vec<_> = table.scores.iter().filter(|r| r.speed == speed).collect();
                let best = outcomes.iter().filter(|o| o.speed == speed).map(|o| o.score).max();
                prop_assert_eq!(rows.first().map_or(0, |r| r.score), best.unwrap_or(0));
                prop_assert!(rows.len() <= ROWS_MAX);
                prop_assert!(rows.windows(2).all(|p| p[0].score >= p[1].score));
                let mut names: Vec<_> = rows.iter().map(|r| &r.name).collect();
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), rows.len());
            }
        }

        #[test]
        fn names_are_short_visible_and_stay_as_they_are(name in ".{0,40}") {
            let clean = clean_name(&name);
            prop_assert!(!clean.is_empty() && clean.chars().count() <= NAME_MAX);
            prop_assert!(!clean.chars().any(char::is_control));
            prop_assert_eq!(clean_name(&clean), clean);
        }
    }
}
