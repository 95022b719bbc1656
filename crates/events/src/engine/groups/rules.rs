//! What the settings of a share group say, as far as its records are concerned.
//!
//! Not here: the settings themselves, which have their protocol's names (`kafka::settings`).

use super::letters::Address;
use super::share::Terms;

/// Where a group begins in a partition that it did not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the first record.
    Earliest,
    /// After the last one.
    Latest,
    /// At the first record that is not older, in milliseconds.
    Since(u64),
}

impl Begin {
    /// `earliest`, `latest`, or `by_duration:` and days to seconds as ISO 8601 has them.
    pub fn parse(text: &str) -> Option<Begin> {
        match text.trim() {
            "earliest" => Some(Begin::Earliest),
            "latest" => Some(Begin::Latest),
            text => duration_ms(text.strip_prefix("by_duration:")?).map(Begin::Since),
        }
    }
}

/// Milliseconds of a duration such as `P1DT2H3M4.5S`.
fn duration_ms(text: &str) -> Option<u64> {
    const UNITS: [(char, bool, f64); 4] = [
        ('D', false, 86_400_000.0),
        ('H', true, 3_600_000.0),
        ('M', true, 60_000.0),
        ('S', true, 1000.0),
    ];
    let mut rest = text.strip_prefix('P')?;
    let (mut units, mut in_time, mut total) = (UNITS.iter(), false, None);
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T').filter(|time| !in_time && !time.is_empty()) {
            (rest, in_time) = (time, true);
            continue;
        }
        let at = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, unit) = rest.split_at(at);
        let letter = unit.chars().next()?;
        // Units come in their order, each once, and only seconds have a fraction.
        let (_, of_time, ms) = units.find(|(name, ..)| *name == letter)?;
        if *of_time != in_time || (number.contains('.') && letter != 'S') {
            return None;
        }
        let number: f64 = number.parse().ok()?;
        total = Some(total.unwrap_or(0.0) + number * ms);
        rest = &unit[1..];
    }
    let total = total.filter(|total| (0.0..1e18).contains(total))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Some(total as u64)
}

/// What a group's settings say.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Of its partitions.
    pub terms: Terms,
    /// Where it begins.
    pub begin: Begin,
    /// Whether records of transactions that did not end well are left out.
    pub committed_only: bool,
    /// Where records go that nobody gets again though nobody accepted them.
    pub letters_to: Option<Address>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_group_begins_is_read() {
        assert_eq!(Begin::parse("earliest"), Some(Begin::Earliest));
        assert_eq!(Begin::parse(" latest "), Some(Begin::Latest));
        let since = |text: &str| Begin::parse(&format!("by_duration:{text}"));
        assert_eq!(since("P1DT2H3M4.5S"), Some(Begin::Since(93_784_500)));
        assert_eq!(since("PT0S"), Some(Begin::Since(0)));
        assert_eq!(since("P2D"), Some(Begin::Since(172_800_000)));
        for bad in
            ["", "P", "PT", "1H", "P1H", "PT1D", "PT1M1H", "PT1H1H", "PT1.5H", "-PT1S", "PT.S"]
        {
            assert_eq!(since(bad), None, "{bad}");
        }
        assert_eq!(Begin::parse("soon"), None);
    }
}
