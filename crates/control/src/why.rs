//! Sentences: why something is as it is, for people.

use std::time::Duration;

use crate::record::{Exit, InstanceRecord};
use crate::state::State;

/// `was not healthy within 2 min: nothing listens on port 8080`
pub(crate) fn late(state: &State, record: &InstanceRecord, within: Duration) -> String {
    let reported = state.observed.as_ref().and_then(|seen| seen.instances.get(&record.id));
    let detail = reported.map(|r| detail(&r.detail)).unwrap_or_default();
    format!("was not healthy within {}{detail}", base::units::show_duration(within))
}

/// `exited with code 1`, `was killed by SIGKILL at its memory limit`, …
pub(crate) fn ended(exit: &Exit) -> String {
    if let Some(error) = &exit.start_error {
        return format!("could not be started: {error}");
    }
    if exit.lost {
        return "was gone when the engine looked: nobody saw how it ended".to_owned();
    }
    let limit = if exit.out_of_memory { " at its memory limit" } else { "" };
    match (exit.signal, exit.code) {
        (Some(signal), _) => format!("was killed by {}{limit}", signal_name(signal)),
        (None, Some(code)) => format!("exited with code {code}{limit}{}", left(&exit.left)),
        (None, None) => format!("ended{limit}"),
    }
}

/// Of a program that goes into the background, as daemons do when nobody tells them not to.
fn left(programs: &[String]) -> String {
    if programs.is_empty() {
        return String::new();
    }
    let names: Vec<_> = programs.iter().map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    format!(" and left {names} running, which ended with it: let it run in the foreground")
}

/// The last lines of output below a sentence; nothing when there are none.
pub(crate) fn lines(exit: &Exit) -> String {
    exit.last_lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// `: LAST WORDS` or nothing.
pub(crate) fn detail(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// `1st`, `2nd`, `3rd`, `11th`.
pub(crate) fn ordinal(n: u32) -> String {
    let suffix = match (n % 10, n % 100) {
        (1, r) if r != 11 => "st",
        (2, r) if r != 12 => "nd",
        (3, r) if r != 13 => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_it_ended() {
        let exit =
            |code, signal, out_of_memory| Exit { code, signal, out_of_memory, ..Exit::default() };
        let daemon = Exit { left: vec!["nginx".into()], ..exit(Some(0), None, false) };
        assert_eq!(
            ended(&daemon),
            "exited with code 0 and left `nginx` running, which ended with it: let it run in the \
             foreground"
        );
        for (exit, text) in [
            (exit(Some(1), None, false), "exited with code 1"),
            (exit(None, Some(9), true), "was killed by SIGKILL at its memory limit"),
            (exit(None, Some(64), false), "was killed by signal 64"),
            (
                Exit { start_error: Some("no node".into()), ..Exit::default() },
                "could not be started: no node",
            ),
        ] {
            assert_eq!(ended(&exit), text);
        }
        let spoken: Vec<_> = [1, 2, 3, 4, 11, 12, 21, 113].map(ordinal).into();
        assert_eq!(spoken, ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "113th"]);
    }
}
