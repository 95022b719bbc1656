//! Durations and sizes as people write and read them.
//!
//! Not here: rates and axis labels, which belong to whoever draws them.

use std::time::Duration;

/// Reads a Compose duration: `1h5m30s20ms`, `1.5s`, `90s`, units `us`, `ms`, `s`, `m`, `h`.
///
/// A bare number is not a duration, except `0`. Returns `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        nanos += value
            * match &rest[..letters] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(nanos / 1e9).ok())?
}

/// Reads a Compose size in bytes: `1024`, `64k`, `512m`, `1.5gb`; units are powers of 1024.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let value: f64 = lower[..digits].parse().ok()?;
    let scale: u64 = match lower[digits..].trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    #[expect(clippy::cast_precision_loss, reason = "sizes below 2^53 are exact")]
    let bytes = value * scale as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked against the range on the line above"
    )]
    (bytes <= 9e15).then_some(bytes as u64)
}

/// A size for people: `512 B`, `1.5 MiB`.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with at most four digits")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 100.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A duration for people, two units at most: `0.4 s`, `12 ms`, `3 h 20 min`.
pub fn show_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0 if duration < Duration::from_millis(1) => format!("{} µs", duration.as_micros()),
        0 if duration < Duration::from_millis(100) => format!("{} ms", duration.as_millis()),
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{secs} s"),
        60..3600 => two(secs / 60, "min", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs % 3600 / 60, "min"),
        _ => two(secs / 86_400, "d", secs % 86_400 / 3600, "h"),
    }
}

fn two(big: u64, big_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_compose_writes_them() {
        for (text, millis) in
            [("0", 0), ("10s", 10_000), ("1m30s", 90_000), ("1.5s", 1500), ("2h5m20ms", 7_500_020)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "1x", "-1s", "1s2", "1..2s", "1e400h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_as_compose_writes_them() {
        for (text, bytes) in [("0", 0), ("1024", 1024), ("64k", 65_536), ("1.5GB", 3 << 29)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in ["", "k", "12q", "-1", "1 2", "99999999t"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn shows_two_units_at_most() {
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_duration(Duration::from_secs(12_000)), "3 h 20 min");
        assert_eq!(show_duration(Duration::from_millis(420)), "0.4 s");
    }
}
