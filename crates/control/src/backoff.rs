//! Back-off: how long a slot waits before it is started again.

use std::time::Duration;

use base::InstanceId;

/// The shortest wait.
pub(crate) const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// A run that was healthy this long clears the count of failures.
pub(crate) const HEALTHY_RUN: Duration = Duration::from_secs(10);

/// The same for one that is restarted because its health check fails. It is only restarted after a
/// while of that, so that the shorter run would clear the count each time.
pub(crate) const LONG_HEALTHY_RUN: Duration = Duration::from_secs(600);

/// The wait after `failures` failures in a row: 100 ms, doubled each time up to 30 s, and up to a
/// fifth more or less, so that instances that failed together do not return together.
pub(crate) fn wait(seed: u64, id: &InstanceId, attempt: u32, failures: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    let bytes = id.service().as_str().bytes().chain(id.slot().to_le_bytes());
    for byte in bytes.chain(attempt.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // FNV leaves the low bits of near inputs alike; one multiply and shift spreads them.
    hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let permille = 800 + u32::try_from((hash >> 32) % 401).unwrap_or(200);
    doubled * permille / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_bound_and_spreads() {
        let id = InstanceId::new("web".parse().unwrap(), 1);
        for (failures, millis) in [(1, 100), (2, 200), (5, 1600), (9, 25_600), (10, 30_000)] {
            let wait = wait(7, &id, failures, failures).as_millis();
            assert!((millis * 8 / 10..=millis * 12 / 10).contains(&wait), "{failures}: {wait}");
        }
        assert!(wait(7, &id, 1, u32::MAX) <= LONGEST * 12 / 10);
        let spread: std::collections::BTreeSet<_> = (1..=20)
            .map(|slot| wait(7, &InstanceId::new("web".parse().unwrap(), slot), 1, 8))
            .collect();
        assert!(spread.len() > 15, "{spread:?}");
        assert!(
            spread.last().unwrap().as_secs_f64() > 1.15 * spread.first().unwrap().as_secs_f64()
        );
    }
}
