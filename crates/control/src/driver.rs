//! The driver: makes what a step decided durable, and only then hands out what is to be done.
//!
//! Not here: doing it. `ms` carries the side effects out and reports back with observations.
//!
//! One commit per step that changes records; a step that changes none writes nothing, except that
//! events waiting to be written go along at the latest after a few seconds. The events of the last
//! few seconds may be lost with the process; records never are.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Clock, Ipv4Cidr, Problem, ServiceName};
use tokio::sync::watch;

use crate::action::{Action, Record};
use crate::command;
use crate::embedded::Embedded;
use crate::event::Event;
use crate::journal::Journal;
use crate::keys;
use crate::place::Node;
use crate::record::EventRecord;
use crate::state::{State, difference};
use crate::step;
use crate::store::{Committed, Op, Store, StoreError, Txn};

/// What went wrong with an event. The state is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The command cannot be carried out.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another engine has taken the state over.
    #[error("another engine has taken over the state of this one; this one must end")]
    Fenced,
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handled {
    /// The store's revision that carries it.
    pub revision: u64,
    /// Side effects to carry out, in order: no `Put` and no `Delete`.
    pub actions: Vec<Action>,
    /// Services of which something was written.
    pub changed: Vec<ServiceName>,
}

/// Declared truth and the steps on it. Share it behind an `Arc`; events are handled one by one.
pub struct Control {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    snapshot: Mutex<Arc<State>>,
    changes: watch::Sender<u64>,
}

struct Inner {
    store: Box<dyn Store>,
    journal: Journal,
    revision: u64,
    /// Revision of our mark at [`keys::OWNER`]; when it moves, somebody else has taken over.
    owner: u64,
    /// A commit failed: nobody knows whether the store has it.
    doubtful: bool,
}

impl Control {
    /// Opens the embedded store at `path`, made when it is new, and loads the state. `seed` is
    /// the source of jitter. `pool` is the same as before while anything of before runs: the names
    /// that were resolved must go on leading there.
    ///
    /// # Errors
    /// [`ControlError::Store`] when the file is in use, unreadable, or holds what this version
    /// does not understand.
    pub fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        seed: u64,
        pool: Ipv4Cidr,
    ) -> Result<Control, ControlError> {
        let store = Embedded::open(path, clock.clone())?;
        Control::with_store(Box::new(store), clock, seed, pool)
    }

    /// Loads the state from any store and takes it over from whoever had it.
    ///
    /// # Errors
    /// As [`Control::open`].
    pub fn with_store(
        store: Box<dyn Store>,
        clock: Arc<dyn Clock>,
        seed: u64,
        pool: Ipv4Cidr,
    ) -> Result<Control, ControlError> {
        let stored = keys::load(&store.range("/")?.entries, State::new(pool, seed))?;
        let mut state = stored.clone();
        state.readdress();
        let boot = clock.boot();
        let same = store.get(keys::BOOT)?.is_some_and(|entry| entry.value == boot.as_bytes());
        if !same || boot.is_empty() {
            state.rebase(clock.steady());
        }
        let mut journal = Journal::load(store.as_ref())?;
        journal.forget_all_but(|name| state.services.contains_key(name));
        let mut txn = Txn::new().put(keys::OWNER, clock.now().0.to_string());
        txn = txn.put(keys::BOOT, boot);
        for action in difference(&stored, &state) {
            txn.ops.extend(keys::op(app_name(&state), &action)?);
        }
        let Committed::Done { revision } = store.commit(&txn)? else {
            return Err(ControlError::Fenced);
        };
        let inner = Inner { store, journal, revision, owner: revision, doubtful: false };
        Ok(Control {
            clock,
            inner: Mutex::new(inner),
            snapshot: Mutex::new(Arc::new(state)),
            changes: watch::channel(revision).0,
        })
    }

    /// The same for a node of which this is true. Call it before the first event.
    pub fn on(self, node: Node) -> Control {
        Arc::make_mut(&mut *lock(&self.snapshot)).node = node;
        self
    }

    /// Handles one event: decides, writes, and returns what is to be done.
    ///
    /// # Errors
    /// On any error nothing has changed and nothing is to be done. [`ControlError::Refused`] is
    /// the caller's doing; after a [`ControlError::Store`] the same event may be tried again.
    pub fn handle(&self, event: &Event) -> Result<Handled, ControlError> {
        let mut inner = lock(&self.inner);
        let state = self.state();
        if let Event::Command(command) = event {
            command::check(&state, command).map_err(|p| ControlError::Refused(Box::new(p)))?;
        }
        let now = self.clock.both();
        let (next, actions) = step::advance(&state, event, now);
        // The step that forgets the app deletes its last records too.
        let app = if next.app.is_some() { app_name(&next) } else { app_name(&state) };
        let mut txn = Txn::new().expect(keys::OWNER, inner.owner);
        let mut handled = Handled::default();
        let mut events = Vec::new();
        if inner.doubtful {
            txn.ops = mend(inner.store.as_ref(), &state, &next)?;
        }
        for action in actions {
            // What mends the records is all of their difference.
            if !inner.doubtful {
                txn.ops.extend(keys::op(app, &action)?);
            }
            match action {
                Action::Put(record) => handled.changed.extend(service_of(&record)),
                Action::Delete(_) => {}
                Action::Emit(event) => {
                    let event = EventRecord { seq: inner.journal.next_seq(events.len()), ..event };
                    events.push(event.clone());
                    handled.actions.push(Action::Emit(event));
                }
                effect => handled.actions.push(effect),
            }
        }
        handled.changed.sort();
        handled.changed.dedup();
        inner.journal.add(events.clone(), now.steady);
        let waits = !txn.ops.is_empty() || inner.journal.is_due(now.steady);
        if waits || inner.doubtful {
            let ops = match inner.doubtful {
                true => inner.journal.mend_ops(),
                false => inner.journal.flush_ops(),
            };
            let written = ops.and_then(|ops| {
                txn.ops.extend(ops);
                inner.store.commit(&txn)
            });
            match written {
                Ok(Committed::Done { revision }) => inner.revision = revision,
                Ok(Committed::Conflict { .. }) => {
                    inner.journal.take_back(&events);
                    return Err(ControlError::Fenced);
                }
                Err(error) => {
                    inner.journal.take_back(&events);
                    inner.doubtful = true;
                    return Err(error.into());
                }
            }
            inner.journal.flushed();
        }
        inner.doubtful = false;
        inner.journal.remember(&events);
        if next.services.len() != state.services.len() {
            inner.journal.forget_all_but(|name| next.services.contains_key(name));
        }
        handled.revision = inner.revision;
        *lock(&self.snapshot) = Arc::new(next);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(handled)
    }

    /// Writes the events that wait. For a clean end.
    ///
    /// # Errors
    /// When the store fails.
    pub fn flush(&self) -> Result<(), ControlError> {
        let mut inner = lock(&self.inner);
        let ops = inner.journal.flush_ops()?;
        if ops.is_empty() {
            return Ok(());
        }
        let txn = Txn { ops, ..Txn::new().expect(keys::OWNER, inner.owner) };
        let committed = inner.store.commit(&txn);
        // The same events go into the same entry once more.
        match committed.inspect_err(|_| inner.doubtful = true)? {
            Committed::Done { revision } => inner.revision = revision,
            Committed::Conflict { .. } => return Err(ControlError::Fenced),
        }
        inner.journal.flushed();
        Ok(())
    }

    /// The state as of the last event that was handled.
    pub fn state(&self) -> Arc<State> {
        lock(&self.snapshot).clone()
    }

    /// The store's revision as of the last event that was handled.
    pub fn revision(&self) -> u64 {
        lock(&self.inner).revision
    }

    /// Events after `after`, oldest first, `limit` at most; the newest ones when `after` is 0.
    ///
    /// # Errors
    /// When the store fails: only what is older than the last thousand is read from it.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRecord>, ControlError> {
        let inner = lock(&self.inner);
        Ok(inner.journal.read(inner.store.as_ref(), after, limit)?)
    }

    /// What happened to a service, oldest first: decisions, exits, failed checks. The newest 50 of
    /// what the journal has, and since this engine runs the newest 50 in any case.
    pub fn history(&self, service: &ServiceName) -> Vec<EventRecord> {
        lock(&self.inner).journal.history(service)
    }

    /// Moves with every event that was handled.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// The operations that make the records those of `next`, whatever became of the commit before.
fn mend(store: &dyn Store, state: &State, next: &State) -> Result<Vec<Op>, StoreError> {
    let empty = State::new(state.pool, state.seed);
    let stored = keys::load(&store.range("/")?.entries, empty)?;
    let app = [next, &stored, state].map(app_name).into_iter().find(|name| !name.is_empty());
    let app = app.unwrap_or_default();
    let actions = difference(&stored, next);
    actions.iter().filter_map(|action| keys::op(app, action).transpose()).collect()
}

fn app_name(state: &State) -> &str {
    state.app.as_ref().map_or("", |app| &app.name)
}

fn service_of(record: &Record) -> Option<ServiceName> {
    match record {
        Record::App(_) => None,
        Record::Service(service) => Some(service.name.clone()),
        Record::Release(release) => Some(release.service.clone()),
        Record::Instance(instance) => Some(instance.service().clone()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a step leaves the state before it in place: everything here is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
