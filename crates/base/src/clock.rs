//! Time as an argument: the only place where the workspace reads a clock.
//!
//! Not here: timers and sleeping, which belong to the runtime of whoever waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// Whole seconds since the epoch.
    pub fn secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Whole milliseconds since the epoch.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time from `earlier` to `self`, zero when the clock stepped back.
    pub fn since(self, earlier: UnixNanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved later by `by`, saturating.
    pub fn plus(self, by: Duration) -> UnixNanos {
        UnixNanos(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A reading of the clock that nobody sets, in nanoseconds since the machine started, time asleep
/// left out as in every timer of the programs that are waited for. Only readings of one
/// [`Clock::boot`] can be compared.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SteadyNanos(pub u64);

impl SteadyNanos {
    /// The time from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: SteadyNanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved later by `by`, saturating.
    pub fn plus(self, by: Duration) -> SteadyNanos {
        SteadyNanos(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One moment by both clocks: the wall's to be shown, the steady one to be reckoned with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What people read.
    pub wall: UnixNanos,
    /// What durations are measured by.
    pub steady: SteadyNanos,
}

/// Tells the time. Everything that needs it is given one, so that tests own it.
pub trait Clock: Send + Sync {
    /// Wall time, for what people read. It may step either way at any moment.
    fn now(&self) -> UnixNanos;

    /// A reading that only goes on; for deciding whether a time is over.
    fn steady(&self) -> SteadyNanos;

    /// Names the run of the machine that [`Clock::steady`] counts in; empty when nobody knows. The
    /// next run has another name, and other programs of this one have the same.
    fn boot(&self) -> String;

    /// The steady reading, for measuring durations.
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.steady().0)
    }

    /// Both readings.
    fn both(&self) -> Now {
        Now { wall: self.now(), steady: self.steady() }
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> UnixNanos {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }

    fn steady(&self) -> SteadyNanos {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = at.tv_sec.saturating_mul(1_000_000_000).saturating_add(at.tv_nsec);
        SteadyNanos(u64::try_from(nanos).unwrap_or_default())
    }

    fn boot(&self) -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    }
}

/// A clock that moves only when told to. Both of its readings begin at the same number.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicU64,
    steady: AtomicU64,
    boots: AtomicU64,
}

impl ManualClock {
    /// A clock that reads `start` until it is moved.
    pub fn new(start: UnixNanos) -> ManualClock {
        let (wall, steady) = (AtomicU64::new(start.0), AtomicU64::new(start.0));
        ManualClock { wall, steady, boots: AtomicU64::new(1) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.wall.fetch_add(by, Ordering::Relaxed);
        self.steady.fetch_add(by, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub fn set(&self, wall: UnixNanos) {
        self.wall.store(wall.0, Ordering::Relaxed);
    }

    /// The machine is started anew: the steady clock begins at zero.
    pub fn reboot(&self) {
        self.steady.store(0, Ordering::Relaxed);
        self.boots.fetch_add(1, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixNanos {
        UnixNanos(self.wall.load(Ordering::Relaxed))
    }

    fn steady(&self) -> SteadyNanos {
        SteadyNanos(self.steady.load(Ordering::Relaxed))
    }

    fn boot(&self) -> String {
        self.boots.load(Ordering::Relaxed).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_is_the_same_for_every_program_of_a_boot() {
        let clock = SystemClock;
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        // Time asleep is in one and not in the other.
        assert!(clock.monotonic().as_secs_f64() <= uptime + 1.0);
        assert!(clock.steady() <= clock.steady());
        assert_eq!(clock.boot().len(), 36);
    }

    #[test]
    fn setting_the_wall_clock_moves_no_duration() {
        let clock = ManualClock::new(UnixNanos(7));
        let before = clock.both();
        clock.set(UnixNanos(1));
        clock.advance(Duration::from_nanos(2));
        assert_eq!(clock.now(), UnixNanos(3));
        assert_eq!(clock.steady().since(before.steady), Duration::from_nanos(2));
        let boot = clock.boot();
        clock.reboot();
        assert_eq!(clock.steady(), SteadyNanos(0));
        assert_ne!(clock.boot(), boot);
    }
}
