//! What the director and the serving threads share: the compiled table, counts, the phase.
//!
//! Invariant: a thread counts what it sends to an instance as in flight before it gives up the
//! table that made it choose that instance, and reports a table as applied after it gave up the one
//! before. What becomes a session has been connected to by then, and goes from one count to the
//! other in one step. So whoever sees a table applied everywhere, and then nothing in flight, knows
//! that nothing more is coming, neither a request nor a session.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{InstanceId, ServiceName};
use tokio::sync::{Notify, watch};

use crate::buffer::BUFFER_BYTES;
use crate::{EdgeConfig, Listener, Upstream};

/// A table as the threads apply it.
#[derive(Default)]
pub(crate) struct Compiled {
    pub(crate) version: u64,
    pub(crate) listeners: Vec<Arc<Bound>>,
    pub(crate) services: BTreeMap<ServiceName, Arc<Service>>,
    pub(crate) callers: HashMap<IpAddr, ServiceName>,
}

/// A listener with a socket for each thread.
pub(crate) struct Bound {
    /// Tells a socket from an earlier one at the same address.
    pub(crate) id: u64,
    pub(crate) route: Listener,
    pub(crate) sockets: Arc<[Mutex<Option<Listening>>]>,
    /// An instance has answered in HTTP here; see `detect`. All threads tell each other.
    pub(crate) speaks_http: AtomicBool,
}

/// A bound socket on its way to the thread that uses it.
pub(crate) enum Listening {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// A service with the counts of its instances, in the order of its endpoints.
pub(crate) struct Service {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) loads: Vec<Arc<Load>>,
    pub(crate) held: Arc<Held>,
}

/// How many requests of a service wait for an endpoint, over all threads.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) count: AtomicU32,
    pub(crate) gauge: base::metrics::Gauge,
}

/// What is under way to one instance, over all threads.
#[derive(Default)]
pub(crate) struct Load {
    /// In flight in the lower half, sessions in the upper, so that one step can change both.
    counts: AtomicU64,
    /// The newest table has no ready endpoint of this instance.
    leaving: AtomicBool,
}

/// What is under way to one instance at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that are not answered yet, and connections that are not established yet.
    pub(crate) inflight: u32,
    /// Upgraded connections, TCP and UDP sessions.
    pub(crate) sessions: u32,
}

const ONE_INFLIGHT: u64 = 1;
const ONE_SESSION: u64 = 1 << 32;

impl Counts {
    fn of(packed: u64) -> Counts {
        // Connections are limited far below what either half can hold.
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Counts { inflight: half(packed), sessions: half(packed >> 32) }
    }

    pub(crate) fn total(self) -> u32 {
        self.inflight.saturating_add(self.sessions)
    }
}

impl Load {
    pub(crate) fn counts(&self) -> Counts {
        Counts::of(self.counts.load(Ordering::SeqCst))
    }

    pub(crate) fn set_leaving(&self, leaving: bool) {
        self.leaving.store(leaving, Ordering::SeqCst);
    }
}

/// One request or connection under way to an instance; counted until it is dropped.
pub(crate) struct LoadGuard {
    load: Arc<Load>,
    shared: Arc<Shared>,
    is_session: bool,
}

impl LoadGuard {
    pub(crate) fn new(load: &Arc<Load>, shared: &Arc<Shared>) -> LoadGuard {
        load.counts.fetch_add(ONE_INFLIGHT, Ordering::SeqCst);
        LoadGuard { load: Arc::clone(load), shared: Arc::clone(shared), is_session: false }
    }

    /// What was a request or an attempt to connect goes on as a session.
    pub(crate) fn become_session(&mut self) {
        if !self.is_session {
            self.is_session = true;
            let before = self.load.counts.fetch_add(ONE_SESSION - ONE_INFLIGHT, Ordering::SeqCst);
            self.tell(Counts::of(before).inflight);
        }
    }

    /// Wakes the director when the last of its kind is gone from a leaving instance.
    fn tell(&self, before: u32) {
        if before == 1 && self.load.leaving.load(Ordering::SeqCst) {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        let one = if self.is_session { ONE_SESSION } else { ONE_INFLIGHT };
        let before = Counts::of(self.load.counts.fetch_sub(one, Ordering::SeqCst));
        self.tell(if self.is_session { before.sessions } else { before.inflight });
    }
}

/// Where the edge is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serves.
    Serving,
    /// Accepts nothing new, finishes what it has.
    Draining,
    /// Ends at once.
    Stopped,
}

/// One per edge.
pub(crate) struct Shared {
    pub(crate) config: EdgeConfig,
    /// The table that each thread has applied.
    pub(crate) applied: Box<[AtomicU64]>,
    /// Client connections that are open, over all threads.
    pub(crate) open: AtomicUsize,
    /// Wakes the director: a thread applied a table, or a leaving instance has nothing left.
    pub(crate) changed: Notify,
    pub(crate) phase: watch::Sender<Phase>,
    /// How many threads have nothing left after `Phase::Draining`.
    pub(crate) drained: watch::Sender<usize>,
    loads: Mutex<HashMap<InstanceId, Arc<Load>>>,
}

impl Shared {
    pub(crate) fn new(mut config: EdgeConfig, threads: usize) -> Shared {
        let head_bytes_max = &mut config.limits.head_bytes_max;
        *head_bytes_max = (*head_bytes_max).min(BUFFER_BYTES);
        Shared {
            config,
            applied: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            open: AtomicUsize::new(0),
            changed: Notify::new(),
            phase: watch::Sender::new(Phase::Serving),
            drained: watch::Sender::new(0),
            loads: Mutex::default(),
        }
    }

    /// The counts of every known instance.
    pub(crate) fn loads(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Load>>> {
        // Nothing panics while it holds the lock.
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table that every thread has applied.
    pub(crate) fn version(&self) -> u64 {
        self.applied.iter().map(|applied| applied.load(Ordering::SeqCst)).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::SystemClock;
    use base::metrics::Registry;

    use super::*;

    fn shared(threads: usize) -> Arc<Shared> {
        let config = EdgeConfig::new(Arc::new(SystemClock), Registry::default());
        Arc::new(Shared::new(config, threads))
    }

    #[test]
    fn the_slowest_thread_decides_which_table_is_in_force() {
        let shared = shared(3);
        for (thread, version) in [(0, 5), (1, 4), (2, 6)] {
            shared.applied[thread].store(version, Ordering::SeqCst);
        }
        assert_eq!(shared.version(), 4);
    }

    #[tokio::test]
    async fn the_last_request_of_a_leaving_instance_wakes_the_director() {
        let shared = shared(1);
        let load = Arc::new(Load::default());
        let first = LoadGuard::new(&load, &shared);
        let last = LoadGuard::new(&load, &shared);
        assert_eq!(load.counts(), Counts { inflight: 2, sessions: 0 });
        load.set_leaving(true);
        drop(first);
        let mut woken = Box::pin(shared.changed.notified());
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(woken.as_mut().poll(cx)));
        assert!(polled.await.is_pending(), "one is still under way");
        drop(last);
        woken.await;
        assert_eq!(load.counts(), Counts { inflight: 0, sessions: 0 });
    }

    #[tokio::test]
    async fn a_session_is_not_in_flight_and_wakes_the_director_twice() {
        let shared = shared(1);
        let load = Arc::new(Load::default());
        load.set_leaving(true);
        let mut session = LoadGuard::new(&load, &shared);
        for _ in 0..2 {
            session.become_session();
            assert_eq!(load.counts(), Counts { inflight: 0, sessions: 1 });
        }
        shared.changed.notified().await;
        drop(session);
        shared.changed.notified().await;
        assert_eq!(load.counts(), Counts { inflight: 0, sessions: 0 });
    }

    #[test]
    fn nobody_sees_a_request_vanish_that_becomes_a_session() {
        let shared = shared(1);
        let load = Arc::new(Load::default());
        std::thread::scope(|scope| {
            let turns = scope.spawn(|| {
                let mut kept = LoadGuard::new(&load, &shared);
                for _ in 0..20_000 {
                    kept.become_session();
                    let next = LoadGuard::new(&load, &shared);
                    drop(std::mem::replace(&mut kept, next));
                }
                kept
            });
            while load.counts().total() == 0 {
                std::thread::yield_now();
            }
            while !turns.is_finished() {
                assert!((1..=2).contains(&load.counts().total()));
            }
            drop(turns.join());
        });
    }
}
