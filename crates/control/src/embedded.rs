//! The embedded store: one file, through redb.
//!
//! Every commit is one durable redb transaction that holds the entries, the history row of its
//! revision, and the counters. History is bounded by count and bytes; older rows are cut in the
//! same transaction.
//!
//! Leases are timed by the steady clock and not written on every sign of life: when the file is
//! opened, every lease starts with its full time again, as after a change of leader in etcd.
//!
//! One engine has the file open at a time; redb holds a lock on it that the kernel lets go with
//! the process.
//!
//! A disk that fails once (because it is full) must not end the store: redb refuses everything
//! after that, so the file is closed and opened again by whoever asks next. Whether a commit that
//! failed is in the file is known only then: [`crate::Control`] compares. What the file has of the
//! disk it keeps, so that its records can be written when others have filled the disk.

pub(crate) mod codec;

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Clock;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    TableDefinition,
};
use rustix::fs::{FallocateFlags, fallocate};
use tokio::sync::watch;

use crate::store::{Change, Committed, Entry, LeaseId, Listing, Op, Store, StoreError, Txn, Watch};

const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 256 << 10;
const HISTORY_ROWS_MAX: u64 = 1000;
const HISTORY_BYTES_MAX: u64 = 2 << 20;

/// A store in one file. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// `None` after it failed, until it is opened again.
    database: Mutex<Option<Arc<Database>>>,
    /// The file itself, and how much of it is sure to have its place on the disk, in bytes.
    reserved: Mutex<(File, u64)>,
    clock: Arc<dyn Clock>,
    /// Lease → when it ends by the steady clock, and its time to live.
    leases: Mutex<BTreeMap<LeaseId, (Duration, Duration)>>,
    revision: watch::Sender<u64>,
}

impl Embedded {
    /// Opens the file, made when it is new.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another engine has it open, [`StoreError::Format`] when a newer
    /// version wrote it, [`StoreError::Damaged`] when it holds other bytes than were written,
    /// [`StoreError::Disk`] when it cannot be read or written.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Embedded, StoreError> {
        let database = open(path)?;
        let disk = |e: std::io::Error| disk(path, e);
        let file = File::options().write(true).open(path).map_err(disk)?;
        let (revision, _) = watch::channel(0);
        let leases = Mutex::default();
        let database = Mutex::new(Some(Arc::new(database)));
        let reserved = Mutex::new((file, 0));
        let path = path.to_owned();
        let inner = Inner { path, database, reserved, clock, leases, revision };
        inner.prepare()?;
        inner.reserve();
        Ok(Embedded { inner: Arc::new(inner) })
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        *self.inner.revision.borrow()
    }
}

/// Opens the file, made when it is new, and mends what a crash left.
fn open(path: &Path) -> Result<Database, StoreError> {
    let opened = catch_unwind(|| {
        let mut database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        // Reads everything and compares checksums: redb panics on a page that makes no sense.
        // What it can mend it does, by going back to the commit before.
        database.check_integrity()?;
        Ok(database)
    });
    let damaged = |cause| StoreError::Damaged { path: path.to_owned(), cause };
    let opened = opened.map_err(|_| damaged("redb cannot make sense of it".to_owned()))?;
    opened.map_err(|error| match error {
        DatabaseError::Storage(StorageError::Corrupted(cause)) => damaged(cause),
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        DatabaseError::UpgradeRequired(found) => {
            StoreError::Format { path: path.to_owned(), found: u64::from(found), wanted: FORMAT }
        }
        other => disk(path, other),
    })
}

fn disk(path: &Path, cause: impl std::fmt::Display) -> StoreError {
    StoreError::Disk { path: path.to_owned(), cause: cause.to_string() }
}

/// What a transaction in progress has of the counters.
struct Counters {
    revision: u64,
    compacted: u64,
    history_bytes: u64,
}

impl Inner {
    fn disk(&self, cause: impl std::fmt::Display) -> StoreError {
        disk(&self.path, cause)
    }

    /// The open file; opens it again if it failed before.
    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*database {
            return Ok(open.clone());
        }
        let opened = open(&self.path).map_err(|error| match error {
            StoreError::InUse { .. } => self.disk("it is being closed after a failure"),
            other => other,
        });
        let opened = Arc::new(opened?);
        {
            let transaction = opened.begin_read().map_err(|e| self.disk(e))?;
            let meta = transaction.open_table(META).map_err(|e| self.disk(e))?;
            self.revision.send_replace(self.counters(&meta)?.revision);
        }
        *database = Some(opened.clone());
        Ok(opened)
    }

    /// Does something with the open file, which is closed if that fails.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database()?;
        let done = work(&database);
        if matches!(done, Err(StoreError::Disk { .. })) {
            *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        done
    }

    /// Takes the place on the disk that the file has in its length only: redb makes a file longer
    /// before it writes there. Where the file system cannot, the file does without.
    fn reserve(&self) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, known) = &mut *reserved;
        let Ok(length) = file.metadata().map(|stat| stat.len()) else { return };
        if length != *known {
            let _or_not = fallocate(&*file, FallocateFlags::KEEP_SIZE, 0, length);
            *known = length;
        }
    }

    /// Makes the tables of a new file, and takes up the leases of an old one.
    fn prepare(&self) -> Result<(), StoreError> {
        let database = self.database()?;
        let transaction = database.begin_write().map_err(|e| self.disk(e))?;
        {
            let mut meta = transaction.open_table(META).map_err(|e| self.disk(e))?;
            let found = meta.get("format").map_err(|e| self.disk(e))?.map(|v| v.value());
            match found {
                None => {
                    meta.insert("format", FORMAT).map_err(|e| self.disk(e))?;
                }
                Some(FORMAT) => {}
                Some(found) => {
                    let path = self.path.clone();
                    return Err(StoreError::Format { path, found, wanted: FORMAT });
                }
            }
            let revision = meta.get("revision").map_err(|e| self.disk(e))?.map(|v| v.value());
            self.revision.send_replace(revision.unwrap_or(0));
            transaction.open_table(ENTRIES).map_err(|e| self.disk(e))?;
            transaction.open_table(HISTORY).map_err(|e| self.disk(e))?;
            let leases = transaction.open_table(LEASES).map_err(|e| self.disk(e))?;
            let now = self.clock.monotonic();
            for row in leases.iter().map_err(|e| self.disk(e))? {
                let (id, ttl) = row.map_err(|e| self.disk(e))?;
                let ttl = Duration::from_millis(ttl.value());
                self.leases().insert(LeaseId(id.value()), (now + ttl, ttl));
            }
        }
        transaction.commit().map_err(|e| self.disk(e))
    }

    fn leases(&self) -> MutexGuard<'_, BTreeMap<LeaseId, (Duration, Duration)>> {
        // Nothing panics while it holds the lock; if something did, the map is still whole.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the leases whose time is over. Called before anything is read or written, so that
    /// nobody sees what an ended lease held.
    fn expire(&self) -> Result<(), StoreError> {
        let now = self.clock.monotonic();
        let over: Vec<_> = {
            let leases = self.leases();
            leases.iter().filter(|(_, (end, _))| *end <= now).map(|(id, _)| *id).collect()
        };
        over.into_iter().try_for_each(|lease| self.end(lease))
    }

    fn end(&self, lease: LeaseId) -> Result<(), StoreError> {
        let held = self.list("/")?.entries.into_iter().filter(|e| e.lease == Some(lease));
        let ops: Vec<_> = held.map(|e| Op::Delete { key: e.key }).collect();
        self.write(&Txn { compares: Vec::new(), ops }, Some((lease, None)))?;
        self.leases().remove(&lease);
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.with(|database| self.list_in(database, prefix))
    }

    fn list_in(&self, database: &Database, prefix: &str) -> Result<Listing, StoreError> {
        let transaction = database.begin_read().map_err(|e| self.disk(e))?;
        let meta = transaction.open_table(META).map_err(|e| self.disk(e))?;
        let revision = meta.get("revision").map_err(|e| self.disk(e))?.map_or(0, |v| v.value());
        let table = transaction.open_table(ENTRIES).map_err(|e| self.disk(e))?;
        let mut entries = Vec::new();
        for row in table.range(prefix..).map_err(|e| self.disk(e))? {
            let (key, bytes) = row.map_err(|e| self.disk(e))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            entries.push(codec::entry(key.value(), bytes.value())?);
        }
        Ok(Listing { revision, entries })
    }

    /// Does a transaction; `lease` is written (or deleted) along with it.
    fn write(
        &self,
        txn: &Txn,
        lease: Option<(LeaseId, Option<Duration>)>,
    ) -> Result<Committed, StoreError> {
        let committed = self.with(|database| self.write_in(database, txn, lease))?;
        self.reserve();
        Ok(committed)
    }

    fn write_in(
        &self,
        database: &Database,
        txn: &Txn,
        lease: Option<(LeaseId, Option<Duration>)>,
    ) -> Result<Committed, StoreError> {
        let transaction = database.begin_write().map_err(|e| self.disk(e))?;
        let changes;
        let counters;
        {
            let mut table = transaction.open_table(ENTRIES).map_err(|e| self.disk(e))?;
            let mut meta = transaction.open_table(META).map_err(|e| self.disk(e))?;
            for (key, expected) in &txn.compares {
                let found = self.find(&table, key)?;
                if found.as_ref().map_or(0, |e| e.modified) != *expected {
                    return Ok(Committed::Conflict { key: key.clone(), found });
                }
            }
            let mut count = self.counters(&meta)?;
            changes = self.apply(&mut table, count.revision + 1, &txn.ops)?;
            if !changes.is_empty() {
                count.revision += 1;
                let mut history = transaction.open_table(HISTORY).map_err(|e| self.disk(e))?;
                self.remember(&mut history, &changes, &mut count)?;
                for (name, value) in [
                    ("revision", count.revision),
                    ("compacted", count.compacted),
                    ("history_bytes", count.history_bytes),
                ] {
                    meta.insert(name, value).map_err(|e| self.disk(e))?;
                }
            }
            if let Some((id, ttl)) = lease {
                let mut leases = transaction.open_table(LEASES).map_err(|e| self.disk(e))?;
                match ttl {
                    Some(ttl) => {
                        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                        leases.insert(id.0, millis).map_err(|e| self.disk(e))?;
                        meta.insert("lease", id.0).map_err(|e| self.disk(e))?;
                    }
                    None => {
                        leases.remove(id.0).map_err(|e| self.disk(e))?;
                    }
                }
            }
            counters = count;
        }
        if changes.is_empty() && lease.is_none() {
            transaction.abort().map_err(|e| self.disk(e))?;
        } else {
            transaction.commit().map_err(|e| self.disk(e))?;
        }
        if !changes.is_empty() {
            self.revision.send_replace(counters.revision);
        }
        Ok(Committed::Done { revision: counters.revision })
    }

    fn find(
        &self,
        table: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let found = table.get(key).map_err(|e| self.disk(e))?;
        found.map(|bytes| codec::entry(key, bytes.value())).transpose()
    }

    fn counters(
        &self,
        meta: &impl ReadableTable<&'static str, u64>,
    ) -> Result<Counters, StoreError> {
        let read = |name: &str| {
            let found = meta.get(name).map_err(|e| self.disk(e))?;
            Ok::<u64, StoreError>(found.map_or(0, |v| v.value()))
        };
        Ok(Counters {
            revision: read("revision")?,
            compacted: read("compacted")?,
            history_bytes: read("history_bytes")?,
        })
    }

    fn apply(
        &self,
        table: &mut redb::Table<'_, &'static str, &'static [u8]>,
        revision: u64,
        ops: &[Op],
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for op in ops {
            let before = self.find(table, op.key())?;
            let entry = match op {
                Op::Put { key, value, lease } => {
                    let created = before.as_ref().map_or(revision, |e| e.created);
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        created,
                        modified: revision,
                        lease: *lease,
                    };
                    let bytes = codec::entry_bytes(&entry);
                    table.insert(key.as_str(), bytes.as_slice()).map_err(|e| self.disk(e))?;
                    Some(entry)
                }
                Op::Delete { key } => {
                    if before.is_none() {
                        continue;
                    }
                    table.remove(key.as_str()).map_err(|e| self.disk(e))?;
                    None
                }
            };
            changes.push(Change { revision, key: op.key().to_owned(), entry });
        }
        Ok(changes)
    }

    /// Writes the history row of a revision, and cuts what is over the bounds.
    fn remember(
        &self,
        history: &mut redb::Table<'_, u64, &'static [u8]>,
        changes: &[Change],
        count: &mut Counters,
    ) -> Result<(), StoreError> {
        let row = codec::row_bytes(changes);
        history.insert(count.revision, row.as_slice()).map_err(|e| self.disk(e))?;
        count.history_bytes += row.len() as u64;
        while history.len().map_err(|e| self.disk(e))? > HISTORY_ROWS_MAX
            || (count.history_bytes > HISTORY_BYTES_MAX && count.compacted + 1 < count.revision)
        {
            let Some((revision, row)) = history.pop_first().map_err(|e| self.disk(e))? else {
                break;
            };
            count.compacted = revision.value();
            count.history_bytes = count.history_bytes.saturating_sub(row.value().len() as u64);
        }
        Ok(())
    }
}

impl Store for Embedded {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let inner = &self.inner;
        inner.expire()?;
        inner.with(|database| {
            let transaction = database.begin_read().map_err(|e| inner.disk(e))?;
            let table = transaction.open_table(ENTRIES).map_err(|e| inner.disk(e))?;
            inner.find(&table, key)
        })
    }

    fn range(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.inner.expire()?;
        self.inner.list(prefix)
    }

    fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        txn.verify()?;
        self.inner.expire()?;
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && !self.inner.leases().contains_key(lease)
            {
                return Err(StoreError::LeaseGone(*lease));
            }
        }
        self.inner.write(txn, None)
    }

    fn watch(&self, prefix: &str, from_revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        let mut position = Position {
            inner: self.inner.clone(),
            prefix: prefix.to_owned(),
            next: from_revision.max(1),
        };
        // Says at once when the start is gone.
        position.rows(0)?;
        Ok(Box::new(position))
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let inner = &self.inner;
        inner.expire()?;
        let last = inner.with(|database| {
            let transaction = database.begin_read().map_err(|e| inner.disk(e))?;
            let meta = transaction.open_table(META).map_err(|e| inner.disk(e))?;
            Ok(meta.get("lease").map_err(|e| inner.disk(e))?.map_or(0, |v| v.value()))
        });
        // Two grants at once may read the same number: the map below has seen both.
        let held = inner.leases().keys().next_back().map_or(0, |lease| lease.0);
        let id = LeaseId(last?.max(held) + 1);
        let end = inner.clock.monotonic() + ttl;
        inner.leases().insert(id, (end, ttl));
        inner.write(&Txn::new(), Some((id, Some(ttl))))?;
        Ok(id)
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.expire()?;
        let now = self.inner.clock.monotonic();
        let mut leases = self.inner.leases();
        let (end, ttl) = leases.get_mut(&lease).ok_or(StoreError::LeaseGone(lease))?;
        *end = now + *ttl;
        Ok(())
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.expire()?;
        if !self.inner.leases().contains_key(&lease) {
            return Err(StoreError::LeaseGone(lease));
        }
        self.inner.end(lease)
    }
}

/// A watch: it reads the kept history, so nothing is queued for it.
struct Position {
    inner: Arc<Inner>,
    prefix: String,
    next: u64,
}

/// Most revisions read by one poll.
const POLL_ROWS_MAX: usize = 100;

impl Position {
    fn rows(&mut self, max: usize) -> Result<Vec<Change>, StoreError> {
        let inner = self.inner.clone();
        inner.with(|database| self.rows_in(database, max))
    }

    fn rows_in(&mut self, database: &Database, max: usize) -> Result<Vec<Change>, StoreError> {
        let inner = &self.inner;
        let transaction = database.begin_read().map_err(|e| inner.disk(e))?;
        let meta = transaction.open_table(META).map_err(|e| inner.disk(e))?;
        let count = inner.counters(&meta)?;
        if self.next <= count.compacted {
            let from = self.next;
            return Err(StoreError::Compacted { from, compacted: count.compacted });
        }
        let history = transaction.open_table(HISTORY).map_err(|e| inner.disk(e))?;
        let mut changes = Vec::new();
        for row in history.range(self.next..).map_err(|e| inner.disk(e))?.take(max) {
            let (revision, bytes) = row.map_err(|e| inner.disk(e))?;
            let row = codec::row(revision.value(), bytes.value())?;
            changes.extend(row.into_iter().filter(|c| c.key.starts_with(&self.prefix)));
            self.next = revision.value() + 1;
        }
        Ok(changes)
    }
}

impl Watch for Position {
    fn poll(&mut self) -> Result<Vec<Change>, StoreError> {
        self.inner.expire()?;
        loop {
            let before = self.next;
            let changes = self.rows(POLL_ROWS_MAX)?;
            if !changes.is_empty() || self.next == before {
                return Ok(changes);
            }
        }
    }

    fn revisions(&self) -> watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }
}
