//! The store: what its users hold.
//!
//! Not here: the work itself (`commit`, `recover`, `get`, `settle`). Lock order, each before
//! the next: keeper, commit, catalog, index or volumes or tail, queue.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use base::Clock;

use crate::batch::{BATCH_BYTES_MAX, Batch, Owner};
use crate::catalog::{Catalog, Volume};
use crate::commit::{Commit, Ended};
use crate::disk::Disk;
use crate::error::{AppendError, OpenError};
use crate::format::BLOCK;
use crate::index::{Bounds, Index};
use crate::queue::{Queue, Receipt, Reservation};
use crate::settle::{Judge, Keeper};
use crate::sync::{lock, read, write};
use crate::tail::Tail;

/// Bounds of a store, all in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A volume takes no further group beyond this. At most 2 GiB.
    pub volume_bytes: u32,
    /// A group takes no further batch beyond this; a larger batch is a group of its own.
    pub group_bytes: usize,
    /// Batches that wait for a group or are being written, 16 MiB at least.
    pub queue_bytes: usize,
    /// Newest groups kept in memory for readers.
    pub tail_bytes: usize,
    /// Run blocks kept in memory for readers.
    pub directory_bytes: usize,
    /// Volumes that wait to be settled: when there are as many, they are written again, sorted by
    /// owner.
    pub settle_volumes: usize,
    /// Bytes that settling and scrubbing move in a second while writers are busy; 0 for no bound.
    pub settle_bytes_per_second: u64,
    /// How long it takes until every sealed volume was read again and verified; zero for never.
    pub scrub_every: Duration,
    /// Space that records leave free, for trims and for settling, which frees more.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            volume_bytes: 256 << 20,
            group_bytes: 8 << 20,
            queue_bytes: 32 << 20,
            tail_bytes: 8 << 20,
            directory_bytes: 8 << 20,
            settle_volumes: 2,
            settle_bytes_per_second: 64 << 20,
            scrub_every: Duration::from_secs(7 * 24 * 3600),
            reserve_bytes: 64 << 20,
        }
    }
}

impl Options {
    /// Within what the format allows.
    pub(crate) fn bounded(mut self) -> Options {
        self.volume_bytes = self.volume_bytes.clamp(64 << 10, 2 << 30);
        self.group_bytes = self.group_bytes.clamp(BLOCK, BATCH_BYTES_MAX);
        self
    }
}

/// Something on disk that is not what was written: reported, never served, never cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The volume.
    pub volume: u32,
    /// Its file.
    pub file: String,
    /// Position in the file.
    pub at: u32,
    /// Length, as far as it is known.
    pub bytes: u32,
    /// What is wrong.
    pub what: String,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Volumes whose footers were read.
    pub footers: usize,
    /// Volumes that were scanned group by group.
    pub scanned: usize,
    /// Bytes of them.
    pub scanned_bytes: u64,
    /// Bytes of torn groups at the end that were cut: never acknowledged.
    pub cut_bytes: u64,
    /// What was acknowledged and is not there as it was.
    pub damage: Vec<Damage>,
}

/// What happened since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) settled: AtomicU64,
    pub(crate) flush_micros: AtomicU64,
}

/// Is told what became durable: a class of owners has one.
pub trait Listener: Send + Sync {
    /// An owner's records end there now. Called by the committer, once a group and owner, after
    /// readers see them and before receipts resolve; must not block.
    fn committed(&self, owner: Owner, end: u64);
}

/// Figures of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Groups written, each with one flush.
    pub groups: u64,
    /// How long those flushes took in sum, their writes included, in microseconds.
    pub flush_micros: u64,
    /// Batches in them.
    pub batches: u64,
    /// Bytes of them, padding included.
    pub bytes: u64,
    /// Bytes written by settling.
    pub settled_bytes: u64,
    /// Volumes that hold something.
    pub volumes: usize,
    /// Owners that hold something or did.
    pub owners: usize,
}

pub(crate) struct Inner {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) commit: Mutex<Commit>,
    pub(crate) catalog: Mutex<Catalog>,
    pub(crate) index: RwLock<Index>,
    pub(crate) volumes: RwLock<HashMap<u32, Arc<Volume>>>,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) blocks: Mutex<crate::get::Blocks>,
    /// Volumes that take no more groups and have no footer yet, oldest first.
    pub(crate) ended: Mutex<VecDeque<Ended>>,
    pub(crate) keeper: Mutex<Keeper>,
    pub(crate) judges: RwLock<HashMap<u8, Arc<dyn Judge>>>,
    pub(crate) listeners: RwLock<HashMap<u8, Arc<dyn Listener>>>,
    pub(crate) recovered: Recovered,
    pub(crate) damage: Mutex<Vec<Damage>>,
    pub(crate) counters: Counters,
}

/// A store of records on one disk. Clones are the same store.
#[derive(Clone)]
pub struct Volumes {
    pub(crate) inner: Arc<Inner>,
}

impl Volumes {
    /// Opens a store, or begins one in an empty folder. Nothing is written but by
    /// [`Volumes::turn`] and [`Volumes::tend`], which [`crate::Workers`] call on threads of
    /// their own.
    ///
    /// # Errors
    /// When the folder cannot be used. Damage to volumes is no error: see
    /// [`Volumes::recovered`].
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Volumes, OpenError> {
        let inner = crate::recover::open(disk, clock, options)?;
        Ok(Volumes { inner: Arc::new(inner) })
    }

    /// Sets who is told of a class.
    pub fn set_listener(&self, class: u8, listener: Arc<dyn Listener>) {
        write(&self.inner.listeners).insert(class, listener);
    }

    /// What opening found.
    pub fn recovered(&self) -> &Recovered {
        &self.inner.recovered
    }

    /// Waits for space for a batch of that [`Batch::cost`]. This is where writers are slowed
    /// down: reserve first, then give out sequences.
    ///
    /// # Errors
    /// When it is more than a batch may be, or the store is closed.
    pub async fn reserve(&self, bytes: usize) -> Result<Reservation, AppendError> {
        self.inner.queue.reserve(bytes).await
    }

    /// Space for a batch if there is some now.
    ///
    /// # Errors
    /// As of [`Volumes::reserve`].
    pub fn try_reserve(&self, bytes: usize) -> Result<Option<Reservation>, AppendError> {
        self.inner.queue.try_reserve(bytes)
    }

    /// Takes a batch into the next group. Never blocks. Batches are written in the order of these
    /// calls; call it under the lock that gives out the owner's sequences.
    ///
    /// # Errors
    /// When the batch cannot be taken as it is; then none of it is, and no owner is fenced.
    pub fn append(&self, space: Reservation, batch: Batch) -> Result<Receipt, AppendError> {
        self.inner.queue.push(space, batch)
    }

    /// Takes batches of an owner again after one failed. Returns the lowest sequence that is
    /// taken next: the end of what is durable, or of earlier batches that still wait and did not
    /// fail. Without a failure before, this changes nothing.
    pub fn resume(&self, owner: Owner) -> u64 {
        let end = read(&self.inner.index).bounds(owner).unwrap_or_default().end;
        self.inner.queue.resume(owner, end)
    }

    /// Where an owner's durable records begin and end; `None` for one that never appended.
    pub fn bounds(&self, owner: Owner) -> Option<Bounds> {
        read(&self.inner.index).bounds(owner)
    }

    /// Every owner of a class that was not given up for good.
    pub fn owners(&self, class: u8) -> BTreeMap<Owner, Bounds> {
        let mut owners = read(&self.inner.index).owners();
        owners.retain(|owner, _| owner.class() == class);
        owners
    }

    /// All damage known, from opening, reading and scrubbing.
    pub fn damage(&self) -> Vec<Damage> {
        lock(&self.inner.damage).clone()
    }

    /// Figures since the store was opened.
    pub fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.inner.counters;
        Stats {
            groups: of(&counters.groups),
            flush_micros: of(&counters.flush_micros),
            batches: of(&counters.batches),
            bytes: of(&counters.bytes),
            settled_bytes: of(&counters.settled),
            volumes: read(&self.inner.volumes).len(),
            owners: read(&self.inner.index).count(),
        }
    }

    /// Takes no more batches. What was taken is still written by whoever calls
    /// [`Volumes::turn`].
    pub fn close(&self) {
        self.inner.queue.close();
    }
}

impl Inner {
    pub(crate) fn volume(&self, id: u32) -> Option<Arc<Volume>> {
        read(&self.volumes).get(&id).cloned()
    }

    pub(crate) fn report_count(&self) -> usize {
        lock(&self.damage).len()
    }

    /// Adds to what is known to be damaged, once.
    pub(crate) fn report(&self, damage: Damage) {
        /// A disk that dies must not fill the memory.
        const MOST: usize = 1000;
        let mut known = lock(&self.damage);
        if known.len() < MOST && !known.contains(&damage) {
            known.push(damage);
        }
    }
}
