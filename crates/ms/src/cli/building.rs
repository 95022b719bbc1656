//! What builds say, as lines on the terminal while somebody waits for them.
//!
//! Not here: waiting. A step that was done before is one line; another is named when it begins, its
//! output follows, and how long it took when that is worth a word.

use base::Clock;
use base::units::parse_duration;
use console::wire::BuildLine;

use super::api::Client;
use super::style::{Style, clean, cut, paint};

/// Most lines of one look; more follow with the next.
const LINES_MAX: usize = 1000;
/// How much of a step is said that was done before.
const COLUMNS_MAX: usize = 90;
/// A step that took less is done when the next begins.
const QUICK: std::time::Duration = std::time::Duration::from_secs(1);

/// What was shown so far.
pub(super) struct Building {
    after: u64,
    /// A step that may yet turn out to be done before.
    open: Option<String>,
    /// What is done now, for one line that is drawn over.
    pub(super) now: Option<String>,
}

impl Building {
    /// Shows what is said from now on.
    pub(super) fn new(clock: &dyn Clock) -> Building {
        Building { after: clock.now().0, open: None, now: None }
    }

    /// Lines that are new, ready to be shown.
    pub(super) async fn look(&mut self, client: &Client, color: bool) -> Vec<String> {
        // An engine that cannot say what it builds builds all the same.
        let said = client.builds(self.after, LINES_MAX).await.unwrap_or_default();
        let mut shown = Vec::new();
        for line in &said {
            self.after = line.seq;
            self.line(line, color, &mut shown);
        }
        // Nothing more is known of a step that goes on.
        shown.extend(self.open.take());
        shown
    }

    fn line(&mut self, line: &BuildLine, color: bool, shown: &mut Vec<String>) {
        let text = clean(&line.text, color);
        let dim = |text: &str| paint(color, Style::Dim, text);
        match line.kind.as_str() {
            "step" => {
                shown.extend(self.open.take());
                let text = format!("{} {text}", line.service);
                self.now = Some(text.clone());
                self.open = Some(text);
            }
            "cached" => {
                shown.push(match self.open.take() {
                    Some(step) => dim(&format!("{}  (done before)", cut(&step, COLUMNS_MAX))),
                    // Named already, since it took a while to tell.
                    None => dim(&format!("{} done before", line.service)),
                });
            }
            "done" => {
                shown.extend(self.open.take());
                if parse_duration(&text.replace(' ', "")).is_none_or(|took| took >= QUICK) {
                    shown.push(dim(&format!("{} done in {text}", line.service)));
                }
            }
            "note" => shown.push(format!("{} {text}", line.service)),
            _ => {
                shown.extend(self.open.take());
                shown.push(dim(&format!("{} | {text}", line.service)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::{ManualClock, UnixNanos};

    use super::*;

    fn shown(said: &[(&str, &str)]) -> Vec<String> {
        let mut building = Building::new(&ManualClock::new(UnixNanos(0)));
        let mut shown = Vec::new();
        for (seq, (kind, text)) in (1..).zip(said) {
            let (kind, text) = ((*kind).to_owned(), (*text).to_owned());
            let line = BuildLine { seq, service: "web".parse().unwrap(), kind, text };
            building.line(&line, false, &mut shown);
        }
        shown.extend(building.open.take());
        let line = BuildLine {
            seq: 99,
            service: "web".parse().unwrap(),
            kind: "cached".to_owned(),
            text: String::new(),
        };
        building.line(&line, false, &mut shown);
        shown
    }

    #[test]
    fn steps_are_told_apart_by_what_became_of_them() {
        let said = [
            ("note", "python:3.12: this machine has Python 3.11.2"),
            (
                "step",
                "[1/4] RUN ten chars ten chars ten chars ten chars ten chars ten chars ten chars ten chars x",
            ),
            ("cached", ""),
            ("step", "[2/4] RUN quick"),
            ("done", "12 ms"),
            ("step", "[3/4] RUN slow"),
            ("output", "\u{1b}[31mred\u{1b}[0m"),
            ("done", "3.2 s"),
            ("step", "[4/4] RUN on"),
        ];
        assert_eq!(
            shown(&said),
            [
                "web python:3.12: this machine has Python 3.11.2",
                "web [1/4] RUN ten chars ten chars ten chars ten chars ten chars ten chars ten chars ten c…  (done before)",
                "web [2/4] RUN quick",
                "web [3/4] RUN slow",
                "web | red",
                "web done in 3.2 s",
                "web [4/4] RUN on",
                "web done before",
            ]
        );
    }
}
