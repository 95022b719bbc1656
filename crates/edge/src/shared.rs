//! What the director and the serving threads share: the compiled table, counts, the phase.
//!
//! Invariant: a thread raises an instance's count before it gives up the table that made it choose
//! that instance, and reports a table as applied after it gave up the one before. So whoever sees
//! a table applied everywhere, and then a count of zero, knows that nothing more is coming.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, TcpListener};
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
    pub(crate) sockets: Arc<[Mutex<Option<TcpListener>>]>,
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

/// Requests under way to one instance, over all threads.
#[derive(Default)]
pub(crate) struct Load {
    inflight: AtomicU32,
    /// The newest table has no ready endpoint of this instance.
    leaving: AtomicBool,
}

impl Load {
    pub(crate) fn inflight(&self) -> u32 {
        self.inflight.load(Ordering::SeqCst)
    }

    pub(crate) fn set_leaving(&self, leaving: bool) {
        self.leaving.store(leaving, Ordering::SeqCst);
    }
}

/// One request under way to an instance; counted until it is dropped.
pub(crate) struct LoadGuard {
    load: Arc<Load>,
    shared: Arc<Shared>,
}

impl LoadGuard {
    pub(crate) fn new(load: &Arc<Load>, shared: &Arc<Shared>) -> LoadGuard {
        load.inflight.fetch_add(1, Ordering::SeqCst);
        LoadGuard { load: Arc::clone(load), shared: Arc::clone(shared) }
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        let before = self.load.inflight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.load.leaving.load(Ordering::SeqCst) {
            self.shared.changed.notify_one();
        }
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
        assert_eq!(load.inflight(), 2);
        load.set_leaving(true);
        drop(first);
        let mut woken = Box::pin(shared.changed.notified());
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(woken.as_mut().poll(cx)));
        assert!(polled.await.is_pending(), "one is still under way");
        drop(last);
        woken.await;
        assert_eq!(load.inflight(), 0);
    }
}
