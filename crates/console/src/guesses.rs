//! How often an address may give a wrong login: so often within a window, then not at all until
//! the window is over, the right one included, since an answer would tell a guess from a miss.
//!
//! Not here: what a login is (`guard`), and which address a request comes from. A proxy in front of
//! the console is one address, whoever stands behind it.
//!
//! Invariant: at most [`ADDRESSES_MAX`] addresses are remembered. Past that one with the fewest
//! wrong logins is forgotten, so that whoever is refused stays refused while one is remembered who
//! is not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, SteadyNanos};

use crate::config::{ADDRESSES_MAX, WRONG_LOGINS_MAX, WRONG_LOGINS_WINDOW};

/// Addresses that gave wrong logins lately.
pub(crate) struct Guesses {
    clock: Arc<dyn Clock>,
    wrong: Mutex<HashMap<IpAddr, Wrong>>,
}

/// Wrong logins of one address.
#[derive(Clone, Copy)]
struct Wrong {
    count: u32,
    /// When the first one of the window came.
    since: SteadyNanos,
}

impl Wrong {
    /// What is left of the window at that time.
    fn left(self, now: SteadyNanos) -> Duration {
        WRONG_LOGINS_WINDOW.saturating_sub(now.since(self.since))
    }
}

impl Guesses {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Guesses {
        Guesses { clock, wrong: Mutex::default() }
    }

    /// For how long nothing is taken from this address; `None` when it may ask.
    pub(crate) fn refused(&self, address: IpAddr) -> Option<Duration> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let of = wrong.get(&network(address)).filter(|of| of.count >= WRONG_LOGINS_MAX)?;
        Some(of.left(self.clock.steady())).filter(|left| !left.is_zero())
    }

    /// Remembers that a login came from this address, and whether it was right.
    pub(crate) fn given(&self, address: IpAddr, right: bool) {
        let (address, now) = (network(address), self.clock.steady());
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            wrong.remove(&address);
            return;
        }
        if !wrong.contains_key(&address) && wrong.len() >= ADDRESSES_MAX {
            make_room(&mut wrong, now);
        }
        let of = wrong.entry(address).or_insert(Wrong { count: 0, since: now });
        if of.left(now).is_zero() {
            *of = Wrong { count: 0, since: now };
        }
        of.count = of.count.saturating_add(1);
    }
}

/// Forgets those whose window is over; else the one with the fewest, of those the oldest.
fn make_room(wrong: &mut HashMap<IpAddr, Wrong>, now: SteadyNanos) {
    wrong.retain(|_, of| !of.left(now).is_zero());
    if wrong.len() < ADDRESSES_MAX {
        return;
    }
    let least = wrong.iter().min_by_key(|(_, of)| (of.count, of.since)).map(|(ip, _)| *ip);
    if let Some(address) = least {
        wrong.remove(&address);
    }
}

/// Whoever has one IPv6 address has the 2^64 of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use base::{ManualClock, UnixNanos};

    use super::*;

    fn guesses() -> (Guesses, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(UnixNanos(1)));
        (Guesses::new(clock.clone()), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn guess(guesses: &Guesses, address: IpAddr, times: u32) {
        (0..times).for_each(|_| guesses.given(address, false));
    }

    #[test]
    fn so_many_wrong_ones_shut_an_address_out_until_the_window_is_over() {
        let (guesses, clock) = guesses();
        let (bad, good) = (ip("10.0.0.1"), ip("10.0.0.2"));
        guess(&guesses, bad, WRONG_LOGINS_MAX - 1);
        assert_eq!(guesses.refused(bad), None);
        clock.advance(Duration::from_secs(1));
        guess(&guesses, bad, 1);
        let left = WRONG_LOGINS_WINDOW - Duration::from_secs(1);
        assert_eq!(guesses.refused(bad), Some(left));
        assert_eq!(guesses.refused(good), None);
        // Whatever somebody makes of the wall clock.
        clock.set(UnixNanos(u64::MAX));
        assert_eq!(guesses.refused(bad), Some(left));
        clock.advance(left - Duration::from_nanos(1));
        assert_eq!(guesses.refused(bad), Some(Duration::from_nanos(1)));
        clock.advance(Duration::from_nanos(1));
        assert_eq!(guesses.refused(bad), None);
        // The count begins again with the window.
        guess(&guesses, bad, WRONG_LOGINS_MAX - 1);
        assert_eq!(guesses.refused(bad), None);
    }

    #[test]
    fn a_right_one_makes_up_for_those_before() {
        let (guesses, _clock) = guesses();
        let address = ip("10.0.0.1");
        guess(&guesses, address, WRONG_LOGINS_MAX - 1);
        guesses.given(address, true);
        guess(&guesses, address, WRONG_LOGINS_MAX - 1);
        assert_eq!(guesses.refused(address), None);
    }

    #[test]
    fn one_client_is_one_address_however_it_is_written() {
        let (guesses, _clock) = guesses();
        guess(&guesses, ip("2001:db8::1"), WRONG_LOGINS_MAX);
        guess(&guesses, ip("::ffff:10.0.0.1"), WRONG_LOGINS_MAX);
        for (address, refused) in
            [("2001:db8::ffff:2", true), ("2001:db8:0:1::1", false), ("10.0.0.1", true)]
        {
            assert_eq!(guesses.refused(ip(address)).is_some(), refused, "{address}");
        }
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_and_frees_nobody() {
        let (guesses, clock) = guesses();
        let bad = ip("10.0.0.1");
        guess(&guesses, bad, WRONG_LOGINS_MAX);
        let length = || guesses.wrong.lock().unwrap().len();
        for other in 0..u32::try_from(2 * ADDRESSES_MAX).unwrap() {
            guesses.given(IpAddr::from((0x0b00_0000 + other).to_be_bytes()), false);
            assert!(length() <= ADDRESSES_MAX);
        }
        assert!(guesses.refused(bad).is_some());
        clock.advance(WRONG_LOGINS_WINDOW);
        guesses.given(ip("10.0.0.2"), false);
        assert_eq!(length(), 1, "what is over is forgotten");
    }
}
