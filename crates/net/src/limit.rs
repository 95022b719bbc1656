//! A bound on open connections: who accepts waits for a permit first, so that what is past the
//! bound stays in the kernel's listen queue.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections may be open at once. Clones share the bound.
#[derive(Clone, Debug)]
pub struct ConnectionLimit(Arc<Semaphore>);

/// The right to have one connection open; dropping it makes room for another.
#[derive(Debug)]
pub struct ConnectionPermit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl ConnectionLimit {
    /// At most `max` connections.
    pub fn new(max: usize) -> ConnectionLimit {
        ConnectionLimit(Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))))
    }

    /// Waits until there is room for one more.
    pub async fn acquire(&self) -> ConnectionPermit {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        ConnectionPermit(permit.expect("the semaphore is never closed"))
    }

    /// How many more connections there is room for.
    pub fn room(&self) -> usize {
        self.0.available_permits()
    }
}
