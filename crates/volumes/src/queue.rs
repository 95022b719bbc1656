//! Batches that wait for the next group.
//!
//! Not here: writing. Invariants: batches leave in the order that they came; of every owner what
//! leaves is in order, and after one of its batches failed none follows until it resumes, so what
//! is on disk is always a prefix of what the owner appended since.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::batch::{BATCH_BYTES_MAX, Batch, Operation, Owner};
use crate::error::AppendError;
use crate::sync::lock;

/// Space for one batch among those that wait.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
}

/// Resolves when a batch is durable, or is known not to be. Dropping it changes nothing for the
/// batch.
#[derive(Debug)]
#[must_use = "a batch is durable once its receipt says so"]
pub struct Receipt(oneshot::Receiver<Result<(), AppendError>>);

impl Receipt {
    /// Waits on a thread that runs no async code.
    ///
    /// # Errors
    /// When the batch is not durable.
    pub fn wait(self) -> Result<(), AppendError> {
        self.0.blocking_recv().unwrap_or(Err(AppendError::Closed))
    }

    /// What is known now: `None` while the batch waits.
    pub fn now(&mut self) -> Option<Result<(), AppendError>> {
        match self.0.try_recv() {
            Ok(done) => Some(done),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(AppendError::Closed)),
        }
    }
}

impl Future for Receipt {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(done.unwrap_or(Err(AppendError::Closed)))
    }
}

/// A batch under way.
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    done: oneshot::Sender<Result<(), AppendError>>,
    _space: Reservation,
}

impl Pending {
    /// Tells whoever waits, if anybody does.
    pub(crate) fn done(self, result: Result<(), AppendError>) {
        let _ = self.done.send(result);
    }
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Pending>,
    /// One past the highest sequence taken of each owner, durable or not.
    ends: HashMap<Owner, u64>,
    /// With the end of what still waits of each.
    fenced: HashMap<Owner, u64>,
    closed: bool,
}

pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    space: Arc<Semaphore>,
}

impl Queue {
    /// A queue for so many bytes, at least one batch.
    pub(crate) fn new(bytes: usize) -> Queue {
        let space = Arc::new(Semaphore::new(bytes.max(BATCH_BYTES_MAX)));
        Queue { waiting: Mutex::default(), arrived: Condvar::new(), space }
    }

    /// Sets where an owner's next record may begin.
    pub(crate) fn set_end(&self, owner: Owner, end: u64) {
        lock(&self.waiting).ends.insert(owner, end);
    }

    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation, AppendError> {
        let permits = permits(bytes)?;
        let permit = Arc::clone(&self.space).acquire_many_owned(permits).await;
        permit.map(|permit| Reservation { permit }).map_err(|_| AppendError::Closed)
    }

    pub(crate) fn try_reserve(&self, bytes: usize) -> Result<Option<Reservation>, AppendError> {
        let permit = Arc::clone(&self.space).try_acquire_many_owned(permits(bytes)?);
        match permit {
            Ok(permit) => Ok(Some(Reservation { permit })),
            Err(tokio::sync::TryAcquireError::NoPermits) => Ok(None),
            Err(tokio::sync::TryAcquireError::Closed) => Err(AppendError::Closed),
        }
    }

    /// Takes a batch. It is ordered when this returns.
    pub(crate) fn push(&self, space: Reservation, batch: Batch) -> Result<Receipt, AppendError> {
        batch.check()?;
        if batch.cost() > space.permit.num_permits() {
            let (bytes, most) = (batch.cost(), space.permit.num_permits());
            return Err(AppendError::TooLarge { what: "batch", bytes, most });
        }
        let mut waiting = lock(&self.waiting);
        waiting.admit(&batch)?;
        let (done, receipt) = oneshot::channel();
        waiting.batches.push_back(Pending { batch, done, _space: space });
        // The committer looks again after each group, so only the first has to wake it.
        if waiting.batches.len() == 1 {
            self.arrived.notify_one();
        }
        Ok(Receipt(receipt))
    }

    /// The oldest batches, up to `bytes`, at least one if there is any.
    pub(crate) fn take(&self, bytes: usize) -> Vec<Pending> {
        let mut waiting = lock(&self.waiting);
        let mut total = 0;
        let fits = waiting.batches.iter().take_while(|pending| {
            total += pending.batch.cost();
            total <= bytes
        });
        let count = fits.count().max(1).min(waiting.batches.len());
        waiting.batches.drain(..count).collect()
    }

    /// Waits until there is a batch or the queue is closed, `timeout` at most; false when it is
    /// closed and empty.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let waiting = lock(&self.waiting);
        let idle = |waiting: &mut Waiting| waiting.batches.is_empty() && !waiting.closed;
        let waited = self.arrived.wait_timeout_while(waiting, timeout, idle);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !(waiting.closed && waiting.batches.is_empty())
    }

    /// Fails batches that were taken, and all that wait behind them with an owner in common.
    pub(crate) fn fail(&self, taken: Vec<Pending>, error: &AppendError) {
        let mut failed = taken;
        {
            let mut waiting = lock(&self.waiting);
            let waiting = &mut *waiting;
            let mut fenced: HashSet<Owner> = waiting.fenced.keys().copied().collect();
            fenced.extend(failed.iter().flat_map(|pending| pending.batch.owners()));
            for pending in std::mem::take(&mut waiting.batches) {
                if pending.batch.owners().any(|owner| fenced.contains(&owner)) {
                    fenced.extend(pending.batch.owners());
                    failed.push(pending);
                } else {
                    waiting.batches.push_back(pending);
                }
            }
            for owner in fenced {
                waiting.fenced.entry(owner).or_insert(0);
            }
            // An owner that is fenced by a later batch may have earlier ones that are good.
            for pending in &waiting.batches {
                for (owner, end) in pending.batch.ends() {
                    waiting.fenced.entry(owner).and_modify(|before| *before = end.max(*before));
                }
            }
        }
        for pending in failed {
            pending.done(Err(error.clone()));
        }
    }

    /// Takes batches of an owner again, from the end of what is durable or still waits. Returns
    /// that end.
    pub(crate) fn resume(&self, owner: Owner, durable: u64) -> u64 {
        let mut waiting = lock(&self.waiting);
        if let Some(waits) = waiting.fenced.remove(&owner) {
            waiting.ends.insert(owner, durable.max(waits));
        }
        waiting.ends.get(&owner).copied().unwrap_or(0)
    }

    /// Gives up what waits; their receipts say that the store is closed.
    pub(crate) fn drop_all(&self) {
        lock(&self.waiting).batches.clear();
    }

    /// Takes no more batches; those that wait are still written.
    pub(crate) fn close(&self) {
        lock(&self.waiting).closed = true;
        self.space.close();
        self.arrived.notify_all();
    }
}

impl Waiting {
    fn admit(&mut self, batch: &Batch) -> Result<(), AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        if !self.fenced.is_empty() {
            let fenced = batch.owners().find(|owner| self.fenced.contains_key(owner));
            if let Some(owner) = fenced {
                return Err(AppendError::Fenced(owner));
            }
        }
        // Checked before anything changes: a batch is taken whole or not at all.
        let mut ends: HashMap<Owner, u64> = HashMap::new();
        for (owner, operation) in &batch.operations {
            let known = || self.ends.get(owner).copied().unwrap_or(0);
            let end = ends.entry(*owner).or_insert_with(known);
            match operation {
                Operation::Put(record, _) => {
                    let (sequence, owner) = (record.sequence, *owner);
                    let next = sequence.checked_add(record.span.into());
                    let next = next.filter(|_| sequence >= *end && record.span > 0);
                    *end = next.ok_or(AppendError::OutOfOrder { owner, sequence, end: *end })?;
                }
                Operation::Trim(start) => *end = (*end).max(*start),
            }
        }
        self.ends.extend(ends);
        Ok(())
    }
}

fn permits(bytes: usize) -> Result<u32, AppendError> {
    let most = BATCH_BYTES_MAX;
    let fits = u32::try_from(bytes).ok().filter(|_| bytes <= most);
    fits.ok_or(AppendError::TooLarge { what: "batch", bytes, most })
}
