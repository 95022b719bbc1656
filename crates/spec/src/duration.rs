//! Durations of a Compose file: read, rounded to microseconds, and written back exactly.
//!
//! Used with `#[serde(with = "crate::duration")]`, so that JSON reads as the file does: `"30s"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Longest duration that a file may say: a hundred years.
const SECONDS_MAX: u64 = 100 * 366 * 24 * 3600;

/// Reads a Compose duration, `None` when it is none or longer than a hundred years. A bare number
/// is seconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let read = match bare {
        true => Duration::from_secs(text.parse().ok()?),
        false => base::units::parse_duration(text)?,
    };
    if read > Duration::from_secs(SECONDS_MAX) {
        return None;
    }
    // The parser goes through floating point; below a microsecond it may be off by a little.
    let micros = (read.as_nanos() + 500) / 1000;
    u64::try_from(micros).ok().map(Duration::from_micros)
}

/// The shortest exact form with one unit: `90s`, `1500ms`, `2h`.
pub(crate) fn show(duration: Duration) -> String {
    const UNITS: [(&str, u128); 5] =
        [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];
    let micros = duration.as_micros();
    let unit = UNITS.iter().find(|(_, size)| micros.is_multiple_of(*size));
    match unit {
        Some((name, size)) if micros > 0 => format!("{}{name}", micros / size),
        _ => "0s".to_owned(),
    }
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let bad = || serde::de::Error::custom(format!("`{text}` is not a duration such as `30s`"));
    parse(&text).ok_or_else(bad)
}

/// The same for a duration that may be missing.
pub(crate) mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let read = text.map(|text| {
            let bad = || serde::de::Error::custom(format!("`{text}` is not a duration"));
            super::parse(&text).ok_or_else(bad)
        });
        read.transpose()
    }
}
