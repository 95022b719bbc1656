//! Moments as people type them: how long ago, or a date and time.

use std::time::Duration;

use base::{Problem, UnixNanos};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

use super::stop::{Outcome, Stop};

/// Reads `15m` (ago), `2d`, `10:30` (today), `2026-01-31`, `2026-01-31 10:30` (local time) or a
/// time with its offset, `2026-01-31T10:30:00Z`.
pub(crate) fn parse(text: &str, now: UnixNanos) -> Outcome<UnixNanos> {
    parse_in(text, now, &TimeZone::system()).ok_or_else(|| {
        let problem = Problem::new("bad-usage", format!("`{text}` is not a time")).with_next(
            "write how long ago, as in 15m, or a time, as in 10:30 or 2026-01-31T10:30:00Z",
        );
        Stop::usage(problem)
    })
}

fn parse_in(text: &str, now: UnixNanos, zone: &TimeZone) -> Option<UnixNanos> {
    if let Some(ago) = ago(text) {
        let nanos = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        return Some(UnixNanos(now.0.saturating_sub(nanos)));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return nanos(at);
    }
    let date_time: DateTime = match text.parse::<Time>() {
        // jiff reads a bare time only with its seconds or minutes: `10:30`.
        Ok(time) if text.contains(':') && !text.contains('-') => {
            let now = jiff::Timestamp::from_nanosecond(i128::from(now.0)).ok()?;
            now.to_zoned(zone.clone()).date().to_datetime(time)
        }
        _ => text.parse().ok()?,
    };
    nanos(date_time.to_zoned(zone.clone()).ok()?.timestamp())
}

/// A Compose duration, or days.
fn ago(text: &str) -> Option<Duration> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let days = days.map(|days| Duration::from_secs(86_400) * days);
    days.or_else(|| base::units::parse_duration(text))
}

fn nanos(at: jiff::Timestamp) -> Option<UnixNanos> {
    u64::try_from(at.as_nanosecond()).ok().map(UnixNanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ago_and_points_in_time() {
        const SECOND: u64 = 1_000_000_000;
        // 2023-11-14T22:13:20Z, a day later at 00:13:20 two hours east.
        let now = UnixNanos(1_700_000_000 * SECOND);
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, secs) in [
            ("15m", 1_700_000_000 - 900),
            ("2d", 1_700_000_000 - 172_800),
            ("0", 1_700_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000),
            ("2023-11-15T00:13:20", 1_700_000_000),
            ("2023-11-15 00:13:20", 1_700_000_000),
            ("2023-11-15 00:13", 1_699_999_980),
            ("2023-11-15", 1_699_999_200),
            ("00:13:20", 1_700_000_000),
            ("00:13", 1_699_999_980),
        ] {
            assert_eq!(parse_in(text, now, &zone), Some(UnixNanos(secs * SECOND)), "{text}");
        }
        for bad in ["", "15", "yesterday", "25:00", "2023-13-01", "-5m", "1800-01-01T00:00:00Z"] {
            assert_eq!(parse_in(bad, now, &zone), None, "{bad}");
        }
    }
}
