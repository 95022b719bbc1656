//! States, figures and moments as text: the words that every command shares. Pure.

use base::UnixNanos;
use base::units::{show_bytes, show_duration};
use console::wire::{Health, ServiceView};

use super::style::{Style, paint};

/// The word for a state.
pub(crate) fn health_word(health: Health) -> &'static str {
    match health {
        Health::Waiting => "waiting",
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Updating => "updating",
        Health::Degraded => "degraded",
        Health::Failed => "failed",
        Health::Completed => "completed",
        Health::Stopped => "stopped",
    }
}

/// The mark for a state; shape and word say it without colour.
pub(crate) fn health_mark(health: Health) -> &'static str {
    match health {
        Health::Healthy | Health::Completed => "✔",
        Health::Waiting | Health::Starting | Health::Updating => "…",
        Health::Degraded => "!",
        Health::Failed => "✘",
        Health::Stopped => "■",
    }
}

/// The colour of a state, which is also that of an instance's.
pub(crate) fn state_style(word: &str) -> Style {
    match word {
        "healthy" | "completed" => Style::Green,
        "starting" | "updating" | "pending" => Style::Cyan,
        "degraded" | "draining" | "unhealthy" => Style::Yellow,
        "failed" => Style::Red,
        _ => Style::Dim,
    }
}

/// A state in its colour.
pub(crate) fn state(color: bool, word: &str) -> String {
    paint(color, state_style(word), word)
}

/// How a service is, in a few words: `2 of 2 healthy`, `completed`, `failed, 0 of 2 healthy`.
pub(crate) fn service_state(service: &ServiceView) -> String {
    // While a release replaces another, instances of both are healthy.
    let healthy = service.healthy.min(service.desired);
    let count = format!("{healthy} of {} healthy", service.desired);
    let ended = |state: &str| matches!(state, "stopped" | "failed");
    match service.health {
        Health::Healthy => count,
        Health::Stopped if !service.instances.iter().all(|i| ended(&i.state)) => {
            "stopping".to_owned()
        }
        Health::Completed | Health::Stopped | Health::Waiting => {
            health_word(service.health).to_owned()
        }
        _ => format!("{}, {count}", health_word(service.health)),
    }
}

/// How long ago in whole seconds, from a minute on in whole minutes; `-` when it is not known.
pub(crate) fn ago(at: Option<UnixNanos>, now: UnixNanos) -> String {
    match at.map(|at| now.since(at).as_secs()) {
        None => "-".to_owned(),
        Some(secs @ 0..60) => format!("{secs} s"),
        Some(secs) => show_duration(std::time::Duration::from_secs(secs / 60 * 60)),
    }
}

/// Cores in use.
pub(crate) fn cores(value: f64) -> String {
    format!("{value:.2}")
}

/// A size, `-` for nothing.
pub(crate) fn memory(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { show_bytes(bytes) }
}

/// A rate a second.
pub(crate) fn rate(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if value < 10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A share of one as a percentage, `-` when it is not known. Only a full share is shown as 100.
pub(crate) fn share(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 1.0 => "100%".to_owned(),
        Some(value) => format!("{:.2}%", (value * 1e4).floor() / 100.0),
    }
}

/// A latency, `-` when it is not known.
pub(crate) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 1.0 => format!("{ms:.2} ms"),
        Some(ms) if ms < 100.0 => format!("{ms:.1} ms"),
        Some(ms) if ms < 10_000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.0} s", ms / 1000.0),
    }
}

/// A moment as `2026-01-31T12:00:00.123Z`.
pub(crate) fn moment(at: UnixNanos) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0))
        .map_or_else(|_| at.0.to_string(), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_counts_no_more_than_there_shall_be() {
        let mut service = super::super::testing::service("web");
        (service.health, service.healthy) = (Health::Updating, 2);
        assert_eq!(service_state(&service), "updating, 1 of 1 healthy");
        service.health = Health::Stopped;
        assert_eq!(service_state(&service), "stopping");
        service.instances[0].state = "stopped".to_owned();
        assert_eq!(service_state(&service), "stopped");
    }

    #[test]
    fn figures_are_short_and_never_round_up_to_perfect() {
        assert_eq!(share(Some(0.999_999)), "99.99%");
        assert_eq!(share(Some(1.0)), "100%");
        assert_eq!(share(None), "-");
        assert_eq!([0.0, 0.25, 9.94, 1234.4].map(rate), ["0", "0.2", "9.9", "1234"]);
        let shown = [None, Some(0.123), Some(5.0), Some(250.4), Some(12_345.0)].map(latency);
        assert_eq!(shown, ["-", "0.12 ms", "5.0 ms", "250 ms", "12 s"]);
        assert_eq!(moment(UnixNanos(1_700_000_000_123_456_789)), "2023-11-14T22:13:20.123Z");
        assert_eq!(ago(Some(UnixNanos(0)), UnixNanos(900_000_000)), "0 s");
        assert_eq!(ago(None, UnixNanos(1)), "-");
        for (secs, shown) in [(59, "59 s"), (60, "1 min"), (239, "3 min"), (7_555, "2 h 5 min")] {
            assert_eq!(ago(Some(UnixNanos(0)), UnixNanos(secs * 1_000_000_000)), shown);
        }
    }
}
