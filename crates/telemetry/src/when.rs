//! Moments as people write them: `10m`, `14:05`, `2026-11-22`, RFC 3339. Pure.
//!
//! Not here: the time zone database. What local time is ahead of UTC comes in, and is taken to be
//! the same on the day that is meant.

use base::{Problem, UnixNanos};

const NANOS: i128 = 1_000_000_000;
const DAY: i64 = 86_400;

/// The moment and the place from which a time is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here {
    /// Now.
    pub now: UnixNanos,
    /// What local time is ahead of UTC, in seconds.
    pub offset_seconds: i32,
}

/// Reads a moment.
///
/// `10m` and `1h30m` are that long ago; `14:05` and `14:05:30` the last time it was so, local;
/// `2026-11-22` and `2026-11-22T14:05` local; RFC 3339 as it says; a number Unix seconds.
///
/// # Errors
/// A problem with the code `bad-time`.
pub fn parse(text: &str, here: Here) -> Result<UnixNanos, Problem> {
    let text = text.trim();
    read(text, here).ok_or_else(|| {
        Problem::new("bad-time", format!("`{text}` is not a time"))
            .with_cause("a time is a duration before now, a clock time, a date or Unix seconds")
            .with_next("write it as 10m, 1h30m, 14:05, 2026-11-22 or 2026-11-22T14:05:00Z")
    })
}

fn read(text: &str, here: Here) -> Option<UnixNanos> {
    if text == "now" {
        return Some(here.now);
    }
    if let Some(unix) = unix_seconds(text) {
        return Some(unix);
    }
    if let Some(days) = text.strip_suffix('d').and_then(digits) {
        let nanos = u64::try_from(days).ok()?.checked_mul(86_400 * 1_000_000_000)?;
        return Some(UnixNanos(here.now.0.saturating_sub(nanos)));
    }
    if let Some(ago) = base::units::parse_duration(text) {
        let nanos = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        return Some(UnixNanos(here.now.0.saturating_sub(nanos)));
    }
    if let Some(of_day) = clock(text) {
        return last_time(of_day, here);
    }
    rfc3339(text, Some(here.offset_seconds))
}

/// Reads RFC 3339; without an offset in it, the local one is meant, if there is one.
pub(crate) fn rfc3339(text: &str, offset_local: Option<i32>) -> Option<UnixNanos> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let mut days = 0;
    let mut parts = date.split('-');
    if let (Some(y), Some(m), Some(d), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    {
        let (4, 2, 2) = (y.len(), m.len(), d.len()) else { return None };
        days += days_of(digits(y)?, digits(m)?, digits(d)?)?;
    } else {
        return None;
    }
    let (of_day, offset) = if rest.is_empty() {
        (0, offset_local?)
    } else {
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
        let offset = match &rest[end..] {
            "" => offset_local?,
            "Z" | "z" => 0,
            signed => offset_of(signed)?,
        };
        (clock(&rest[..end])?, offset)
    };
    nanos(i128::from(days * DAY - i64::from(offset)) * NANOS + i128::from(of_day))
}

/// `+02:00` in seconds.
fn offset_of(text: &str) -> Option<i32> {
    let (sign, rest) = text.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let (2, 2) = (hours.len(), minutes.len()) else { return None };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    Some(if sign == "-" { -seconds } else { seconds })
}

/// `14:05`, `14:05:30` or `14:05:30.25` in nanoseconds of the day.
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next());
    let (None, 1..=2, 2) = (parts.next(), hours.len(), minutes.len()) else { return None };
    let (whole, fraction) =
        seconds.unwrap_or("00").split_once('.').unwrap_or((seconds.unwrap_or("00"), "0"));
    if whole.len() != 2 || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let scale = 10i64.pow(9 - u32::try_from(fraction.len()).ok()?);
    let (h, m, s) = (digits(hours)?, digits(minutes)?, digits(whole)?);
    // 60 is a leap second, which Unix time counts as the second after.
    let ok = h < 24 && m < 60 && s <= 60;
    ok.then_some(((h * 60 + m) * 60 + s) * 1_000_000_000 + digits(fraction)? * scale)
}

/// The latest moment up to now at which local clocks showed `of_day`.
fn last_time(of_day: i64, here: Here) -> Option<UnixNanos> {
    let offset = i128::from(here.offset_seconds) * NANOS;
    let local = i128::from(here.now.0) + offset;
    let day = i128::from(DAY) * NANOS;
    let today = local - local.rem_euclid(day) + i128::from(of_day);
    nanos(if today > local { today - day } else { today } - offset)
}

fn unix_seconds(text: &str) -> Option<UnixNanos> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    // Fewer digits than 9 are before 1973 and more likely a slip than a moment.
    if whole.len() < 9 || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let scale = 10i64.pow(9 - u32::try_from(fraction.len()).ok()?);
    nanos(i128::from(digits(whole)?) * NANOS + i128::from(digits(fraction)? * scale))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let long = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=long).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let in_year = (153 * month + 2) / 5 + day - 1;
    let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between the first of March of year 0 and 1970.
    Some(before + in_year - 719_468)
}

fn digits(text: &str) -> Option<i64> {
    let plain = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

fn nanos(nanos: i128) -> Option<UnixNanos> {
    u64::try_from(nanos).ok().map(UnixNanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // 2026-11-22T04:26:18Z, and clocks an hour ahead.
    const NOW: u64 = 1_795_321_578;
    const HERE: Here = Here { now: UnixNanos(NOW * 1_000_000_000), offset_seconds: 3600 };

    fn secs(text: &str) -> Option<f64> {
        parse(text, HERE).ok().map(|at| at.millis() as f64 / 1e3)
    }

    #[test]
    fn reads_every_form() {
        let now = NOW as f64;
        for (text, want) in [
            ("now", now),
            ("10m", now - 600.0),
            ("1h30m", now - 5400.0),
            ("2d", now - 172_800.0),
            ("1795321578", now),
            ("1795321578.5", now + 0.5),
            ("2026-11-22T04:26:18Z", now),
            ("2026-11-22T04:26:18.250Z", now + 0.25),
            ("2026-11-22t05:26:18+01:00", now),
            ("2026-11-21 23:26:18-05:00", now),
            ("2026-11-22T05:26:18", now),
            ("2026-11-22T05:26", now - 18.0),
            ("2026-11-22", now - 5.0 * 3600.0 - 26.0 * 60.0 - 18.0),
            ("05:26", now - 18.0),
            ("5:26:18", now),
            ("05:27", now + 42.0 - 86_400.0),
            ("1970-01-01T00:00:00Z", 0.0),
            ("2000-02-29T00:00:00Z", 951_782_400.0),
        ] {
            assert_eq!(secs(text), Some(want), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_how() {
        for bad in [
            "",
            "x",
            "10",
            "10x",
            "-5m",
            "25:00",
            "12:60",
            "12:5",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-11-22T",
            "2026-11-22T04:26:18+1",
            "1960-01-01T00:00:00Z",
            "12:00:00.",
            "99999999999999999999",
            "2026-11-22Ä",
            "ÄÄÄÄÄÄÄÄ",
            "9223372036854775807d",
        ] {
            let problem = parse(bad, HERE).expect_err(bad);
            assert_eq!(problem.code, "bad-time");
            assert!(problem.next.is_some());
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,24}", clockish in "[0-9:.TZ+d -]{0,24}") {
            let _ = parse(&text, HERE);
            let _ = parse(&clockish, HERE);
        }

        #[test]
        fn days_follow_one_another(days in 0i64..200_000) {
            // Walk from a date to its number and back by a search over the same function.
            let year = 1970 + days / 366;
            let found = (year..year + 400).find_map(|y| {
                let first = days_of(y, 1, 1)?;
                (first <= days && days < days_of(y + 1, 1, 1)?).then_some((y, days - first))
            });
            let (y, mut left) = found.unwrap();
            let mut month = 1;
            while let Some(length) = (28..=31).rev().find(|&d| days_of(y, month, d).is_some()) {
                if left < length { break; }
                left -= length;
                month += 1;
            }
            prop_assert_eq!(days_of(y, month, left + 1), Some(days));
        }
    }
}
