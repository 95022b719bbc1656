//! The two threads of a store: one commits, one tends.
//!
//! Not here: what they do. Invariant: when the committer is gone nothing is taken any more, so
//! nobody waits for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::store::Volumes;
use crate::sync::lock;

/// How often the background looks for work when it had none.
const TEND_EVERY: Duration = Duration::from_millis(500);

/// The threads of a store; they end when this is dropped, after what was appended is written.
pub struct Workers {
    store: Volumes,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(store: &Volumes) -> io::Result<Workers> {
        let mut workers =
            Workers { store: store.clone(), stop: Arc::default(), threads: Vec::new() };
        let (committer, keeper) = (store.clone(), store.clone());
        let stop = Arc::clone(&workers.stop);
        let commit = Builder::new().name("volumes-commit".to_owned());
        workers.threads.push(commit.spawn(move || commit_all(&committer))?);
        let tend = Builder::new().name("volumes-tend".to_owned());
        workers.threads.push(tend.spawn(move || tend_all(&keeper, &stop))?);
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.store.close();
        *lock(&self.stop.stopped) = true;
        self.stop.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was dealt with where it happened.
            let _ = thread.join();
        }
    }
}

fn commit_all(store: &Volumes) {
    while store.inner.queue.wait(Duration::from_secs(60)) {
        let turn = catch_unwind(AssertUnwindSafe(|| store.turn()));
        if turn.is_err() {
            store.close();
            store.inner.queue.drop_all();
            return;
        }
    }
}

fn tend_all(store: &Volumes, stop: &Stop) {
    loop {
        let more = catch_unwind(AssertUnwindSafe(|| store.tend()));
        let stopped = lock(&stop.stopped);
        if *stopped || more.is_err() {
            return;
        }
        if matches!(more, Ok(false)) {
            let waited = stop.changed.wait_timeout_while(stopped, TEND_EVERY, |stopped| !*stopped);
            let (stopped, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if *stopped {
                return;
            }
        }
    }
}
