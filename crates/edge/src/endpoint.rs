//! An endpoint as one thread sees it: its count, its idle connections, whether it is set aside.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use base::{InstanceId, ServiceName};

use crate::EndpointAddress;
use crate::balance::Candidate;
use crate::metrics::CallStats;
use crate::shared::Load;
use crate::socket::Socket;

/// Ticks for which an endpoint is set aside after the first failure; doubles up to the second.
const ASIDE_TICKS: (u64, u64) = (1, 4);

/// A connection to an instance that waits for the next request.
pub(crate) struct Idle {
    pub(crate) stream: Socket,
    pub(crate) dialled: SocketAddr,
    pub(crate) since: u64,
    pub(crate) until: u64,
}

/// One endpoint. It outlives tables for as long as instance and address stay the same.
pub(crate) struct LocalEndpoint {
    pub(crate) service: ServiceName,
    pub(crate) instance: InstanceId,
    pub(crate) address: EndpointAddress,
    pub(crate) load: Arc<Load>,
    pub(crate) weight: Cell<u32>,
    /// The table in force does not have it as ready.
    pub(crate) retired: Cell<bool>,
    aside_until: Cell<u64>,
    aside_ticks: Cell<u64>,
    credit: Cell<i64>,
    idle: RefCell<Vec<Idle>>,
    stats: RefCell<Vec<(u32, Rc<CallStats>)>>,
}

impl LocalEndpoint {
    pub(crate) fn new(
        service: ServiceName,
        instance: InstanceId,
        address: EndpointAddress,
        load: Arc<Load>,
    ) -> LocalEndpoint {
        LocalEndpoint {
            service,
            instance,
            address,
            load,
            weight: Cell::new(1),
            retired: Cell::new(false),
            aside_until: Cell::new(0),
            aside_ticks: Cell::new(0),
            credit: Cell::new(0),
            idle: RefCell::default(),
            stats: RefCell::default(),
        }
    }

    /// It may be chosen at this tick.
    pub(crate) fn is_available(&self, tick: u64) -> bool {
        self.aside_until.get() <= tick
    }

    /// Sets it aside after a failed attempt to connect.
    pub(crate) fn set_aside(&self, tick: u64) {
        let ticks = (self.aside_ticks.get() * 2).clamp(ASIDE_TICKS.0, ASIDE_TICKS.1);
        self.aside_ticks.set(ticks);
        self.aside_until.set(tick + ticks);
    }

    /// It answers: failures before do not count any more.
    pub(crate) fn answers(&self) {
        self.aside_ticks.set(0);
        self.aside_until.set(0);
    }

    /// The table in force does not have it any more: nothing of it is kept for later.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
    }

    /// A living idle connection, the newest first; none that has been idle since before `after`.
    pub(crate) fn take_idle(&self, to: SocketAddr, after: u64) -> Option<Socket> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let at = idle.iter().rposition(|idle| idle.dialled == to)?;
            if idle[at].since < after {
                return None;
            }
            let taken = idle.swap_remove(at);
            if taken.stream.is_quiet() {
                return Some(taken.stream);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put_idle(&self, new: Idle, idle_max: usize) {
        if self.retired.get() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < idle_max {
            idle.push(new);
        }
    }

    /// Closes idle connections that are over age or that the instance closed.
    pub(crate) fn sweep(&self, tick: u64) {
        self.idle.borrow_mut().retain(|idle| idle.until > tick && idle.stream.is_quiet());
    }

    /// It has idle connections.
    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.borrow().is_empty()
    }

    /// The series of a caller at this endpoint, made when they are new.
    pub(crate) fn stats(&self, caller: u32, make: impl FnOnce() -> CallStats) -> Rc<CallStats> {
        let mut stats = self.stats.borrow_mut();
        if let Some((_, known)) = stats.iter().find(|(id, _)| *id == caller) {
            return Rc::clone(known);
        }
        let new = Rc::new(make());
        stats.push((caller, Rc::clone(&new)));
        new
    }
}

impl Candidate for Rc<LocalEndpoint> {
    fn weight(&self) -> u32 {
        self.weight.get()
    }

    fn under_way(&self) -> u32 {
        self.load.counts().total()
    }

    fn credit(&self) -> i64 {
        self.credit.get()
    }

    fn set_credit(&self, credit: i64) {
        self.credit.set(credit);
    }
}
