//! The open connections of a thread: their deadlines, and how they are told to end.
//!
//! Deadlines are ticks of a quarter of a second, looked at by one sweep for all connections, so
//! that a request sets one with a store instead of a timer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Length of a tick.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Ticks that cover a time, at least one.
pub(crate) fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What the rest of the thread knows of a connection.
#[derive(Default)]
pub(crate) struct Conn {
    /// Tick at which it expires; 0 for never.
    deadline: Cell<u64>,
    expired: Cell<bool>,
    /// Tick at which it is to be woken; 0 for never.
    look_again: Cell<u64>,
    /// It is to end as soon as it has nothing under way.
    leaving: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Conn {
    /// Sets the tick at which this connection expires, 0 for never.
    pub(crate) fn set_deadline(&self, tick: u64) {
        self.deadline.set(tick);
        self.expired.set(false);
    }

    /// Wakes it at this tick; it has been polled with `watch` or `poll_expired`, or will be.
    pub(crate) fn look_again_at(&self, tick: u64) {
        self.look_again.set(tick);
    }

    /// The connection is to end when it has nothing under way.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Remembers whom to wake when the deadline passes or the connection is to end.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// `Ready` once the deadline has passed.
    pub(crate) fn poll_expired(&self, cx: &Context<'_>) -> Poll<()> {
        if self.expired.get() {
            return Poll::Ready(());
        }
        self.watch(cx);
        Poll::Pending
    }

    pub(crate) fn leave(&self) {
        self.leaving.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The listener that a connection came in through, and the connection.
type Slot = (u64, Rc<Conn>);

/// Every connection of a thread.
#[derive(Default)]
pub(crate) struct Conns {
    slots: RefCell<Vec<Option<Slot>>>,
    free: RefCell<Vec<usize>>,
    open: Cell<usize>,
}

impl Conns {
    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Adds a connection that came in through `listener`.
    pub(crate) fn add(&self, listener: u64) -> (usize, Rc<Conn>) {
        let conn = Rc::new(Conn::default());
        let slot = Some((listener, Rc::clone(&conn)));
        let mut slots = self.slots.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or(slots.len());
        if at == slots.len() {
            slots.push(slot);
        } else {
            slots[at] = slot;
        }
        self.open.set(self.open.get() + 1);
        (at, conn)
    }

    /// Forgets a connection.
    pub(crate) fn remove(&self, at: usize) {
        let mut slots = self.slots.borrow_mut();
        if slots.get_mut(at).and_then(Option::take).is_some() {
            self.free.borrow_mut().push(at);
            self.open.set(self.open.get() - 1);
        }
        if self.open.get() == 0 {
            // Nothing is open: give back what a burst of connections took.
            slots.clear();
            slots.shrink_to(64);
            self.free.borrow_mut().clear();
        }
    }

    /// Wakes every connection whose deadline is at or before `tick`.
    pub(crate) fn expire(&self, tick: u64) {
        for (_, conn) in self.slots.borrow().iter().flatten() {
            let deadline = conn.deadline.get();
            if deadline != 0 && deadline <= tick && !conn.expired.replace(true) {
                conn.wake();
            }
            if (1..=tick).contains(&conn.look_again.get()) {
                conn.look_again.set(0);
                conn.wake();
            }
        }
    }

    /// Tells the connections of a listener (or all) to end when they have nothing under way.
    pub(crate) fn leave(&self, listener: Option<u64>) {
        for (from, conn) in self.slots.borrow().iter().flatten() {
            if listener.is_none_or(|listener| listener == *from) {
                conn.leave();
            }
        }
    }
}
