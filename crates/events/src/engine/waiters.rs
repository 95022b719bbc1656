//! Who waits for a partition to grow: long polls, and answers to batches that are on their way.
//!
//! A waiter is put on every partition that it waits for, looks once more, and then sleeps. It is
//! woken by the first that changes, and put there again if that was not enough.
//!
//! Invariant: a change after a waiter was put on is never missed.

use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

use super::sync::lock;

/// Waiters of a partition that are looked through for dead ones, at least.
const SWEEP: usize = 16;

/// Somebody who waits.
#[derive(Debug, Default)]
pub struct Waiter(Notify);

impl Waiter {
    /// One that waits for nothing yet.
    pub fn new() -> Arc<Waiter> {
        Arc::default()
    }

    /// Sleeps until something changed since the last sleep.
    pub async fn woken(&self) {
        self.0.notified().await;
    }

    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }
}

/// Those who wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<(Vec<Weak<Waiter>>, usize)>);

impl Waiters {
    pub(crate) fn put(&self, waiter: &Arc<Waiter>) {
        let mut held = lock(&self.0);
        let (all, sweep_at) = &mut *held;
        if all.len() >= (*sweep_at).max(SWEEP) {
            all.retain(|waiter| waiter.strong_count() > 0);
            *sweep_at = all.len() * 2;
        }
        all.push(Arc::downgrade(waiter));
    }

    pub(crate) fn wake(&self) {
        let woken = std::mem::take(&mut lock(&self.0).0);
        for waiter in woken {
            if let Some(waiter) = waiter.upgrade() {
                waiter.wake();
            }
        }
    }
}
