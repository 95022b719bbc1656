//! Ending in good order: one trigger, many watchers, a deadline.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Starts a drain and waits for its end.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<Option<Instant>>);

/// Held by everything that must finish before a drain is over.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Option<Instant>>);

/// A trigger and what it drains.
pub fn drain() -> (DrainTrigger, Drain) {
    let (sender, receiver) = watch::channel(None);
    (DrainTrigger(sender), Drain(receiver))
}

impl DrainTrigger {
    /// Tells every holder of a [`Drain`] to finish by `within` from now, and waits until all of
    /// them are dropped. `false` when some were left at the deadline.
    pub async fn drain(self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.0.send_replace(Some(deadline));
        tokio::time::timeout_at(deadline, self.0.closed()).await.is_ok()
    }
}

impl Drain {
    /// Waits until the drain begins; returns the moment by which to be done. Never returns when
    /// the trigger was dropped without a drain.
    pub async fn begun(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await.map(|deadline| *deadline) {
            Ok(Some(deadline)) => deadline,
            _ => std::future::pending().await,
        }
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.0.borrow().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_with_the_last_holder() {
        let (trigger, mut held) = drain();
        let other = held.clone();
        drop(other);
        assert!(!held.has_begun());
        let waiter = async {
            held.begun().await;
            drop(held);
        };
        let (all_ended, ()) = tokio::join!(trigger.drain(Duration::from_secs(5)), waiter);
        assert!(all_ended);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_deadline() {
        let (trigger, held) = drain();
        assert!(!trigger.drain(Duration::from_secs(5)).await);
        assert!(held.has_begun());
    }
}
