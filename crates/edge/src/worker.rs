//! A serving thread: its table, its listeners, its connections.
//!
//! Invariant: everything here belongs to one thread. The table is replaced in one step between two
//! polls, so code that does not await sees one table.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use base::metrics::{Counter, Gauge};
use base::{InstanceId, ServiceName};
use net::ConnectionLimit;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::buffer::Buffers;
use crate::conns::{Conn, Conns, TICK, ticks};
use crate::endpoint::LocalEndpoint;
use crate::exchange::Work;
use crate::metrics;
use crate::service::LocalService;
use crate::shared::{Bound, Compiled, Listening, Phase, Shared};
use crate::socket::Socket;
use crate::table::Door;
use crate::{EndpointAddress, EndpointState, Limits, Protocol};

/// Works that a thread keeps ready.
const WORKS_MAX: usize = 128;

pub(crate) struct Worker {
    index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) ticks: TickLimits,
    pub(crate) buffers: Buffers,
    /// Holds one datagram while it is passed on.
    pub(crate) datagram: RefCell<Box<[u8]>>,
    pub(crate) conns: Conns,
    #[expect(clippy::vec_box, reason = "lent as boxes, so that connections stay small")]
    works: RefCell<Vec<Box<Work>>>,
    limit: ConnectionLimit,
    tick: Cell<u64>,
    /// Wakes the main loop: ticks are needed again, or the last connection ended.
    pub(crate) stir: Notify,
    /// Wakes whoever waits for an endpoint.
    pub(crate) table_changed: Notify,
    draining: Cell<bool>,
    generation: Cell<u64>,
    services: RefCell<HashMap<ServiceName, Rc<LocalService>>>,
    endpoints: RefCell<HashMap<(InstanceId, EndpointAddress), Rc<LocalEndpoint>>>,
    listeners: RefCell<HashMap<Door, Rc<LocalListener>>>,
    callers: RefCell<HashMap<IpAddr, u32>>,
    caller_names: RefCell<Vec<ServiceName>>,
    connections: Gauge,
    panics: Counter,
}

/// The time limits in ticks.
pub(crate) struct TickLimits {
    pub(crate) head: u64,
    pub(crate) idle: u64,
    pub(crate) stall: u64,
    pub(crate) pool_idle: u64,
}

impl TickLimits {
    fn new(limits: &Limits) -> TickLimits {
        TickLimits {
            head: ticks(limits.head_timeout),
            idle: ticks(limits.idle_timeout),
            stall: ticks(limits.stall_timeout),
            pool_idle: ticks(limits.pool_idle_timeout),
        }
    }
}

/// A listener as one thread sees it.
pub(crate) struct LocalListener {
    id: u64,
    pub(crate) route: RefCell<Arc<Bound>>,
    pub(crate) service: RefCell<Rc<LocalService>>,
    accepting: Cell<Option<AbortHandle>>,
}

impl LocalListener {
    pub(crate) fn target_port(&self) -> u16 {
        self.route.borrow().route.target_port
    }

    pub(crate) fn is_published(&self) -> bool {
        self.route.borrow().route.published
    }

    /// An instance has answered in HTTP here.
    pub(crate) fn speaks_http(&self) -> bool {
        self.route.borrow().speaks_http.load(Ordering::Relaxed)
    }

    /// The route in force when it is yet to be found out what is spoken there.
    pub(crate) fn unknown_route(&self) -> Option<Arc<Bound>> {
        let route = self.route.borrow();
        let unknown = route.route.protocol == Protocol::Detect && !self.speaks_http();
        unknown.then(|| Arc::clone(&route))
    }
}

/// Which service a connection comes from; looked up again when the table changed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Caller {
    generation: u64,
    id: u32,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, limit: ConnectionLimit) -> Worker {
        let registry = &shared.config.registry;
        Worker {
            index,
            ticks: TickLimits::new(&shared.config.limits),
            connections: metrics::connections(registry),
            panics: metrics::panics(registry),
            shared,
            buffers: Buffers::default(),
            datagram: RefCell::default(),
            conns: Conns::default(),
            works: RefCell::default(),
            limit,
            tick: Cell::new(1),
            stir: Notify::new(),
            table_changed: Notify::new(),
            draining: Cell::new(false),
            generation: Cell::new(0),
            services: RefCell::default(),
            endpoints: RefCell::default(),
            listeners: RefCell::default(),
            callers: RefCell::default(),
            caller_names: RefCell::default(),
        }
    }

    /// The thread's main loop: until the edge stops, or has drained.
    pub(crate) async fn run(self: Rc<Self>, mut tables: watch::Receiver<Arc<Compiled>>) {
        let mut phase = self.shared.phase.subscribe();
        // The phase may have changed before this thread came to look.
        phase.mark_changed();
        self.apply(&tables.borrow_and_update().clone());
        let mut ticker = tokio::time::interval(TICK);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reported = false;
        loop {
            if self.draining.get() && self.conns.open() == 0 && !reported {
                reported = true;
                self.shared.drained.send_modify(|drained| *drained += 1);
            }
            let ticking = self.conns.open() > 0 || self.has_idle();
            tokio::select! {
                biased;
                changed = phase.changed() => {
                    let now = *phase.borrow_and_update();
                    match now {
                        _ if changed.is_err() => return,
                        Phase::Serving => {}
                        Phase::Draining => self.start_draining(),
                        Phase::Stopped => return,
                    }
                }
                Ok(()) = tables.changed() => {
                    let table = tables.borrow_and_update().clone();
                    if !self.draining.get() {
                        self.apply(&table);
                    }
                }
                _ = ticker.tick(), if ticking => self.sweep(),
                () = self.stir.notified() => {}
            }
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    pub(crate) fn registry(&self) -> &base::metrics::Registry {
        &self.shared.config.registry
    }

    /// The present tick; begins at 1.
    pub(crate) fn now(&self) -> u64 {
        self.tick.get()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(crate) fn take_work(&self) -> Box<Work> {
        let known = self.works.borrow_mut().pop();
        let mut work = known.unwrap_or_default();
        work.down = self.buffers.take();
        work
    }

    pub(crate) fn put_work(&self, mut work: Box<Work>) {
        self.buffers.put(std::mem::take(&mut work.down));
        self.buffers.put(std::mem::take(&mut work.up));
        let mut works = self.works.borrow_mut();
        if works.len() < WORKS_MAX {
            works.push(work);
        }
    }

    /// Which service has this address; 0 is outside the app.
    pub(crate) fn caller(&self, peer: IpAddr, known: &mut Caller) -> u32 {
        if known.generation != self.generation.get() {
            let id = self.callers.borrow().get(&peer).copied().unwrap_or(0);
            *known = Caller { generation: self.generation.get(), id };
        }
        known.id
    }

    /// The name of a caller, empty for 0.
    pub(crate) fn caller_name(&self, id: u32) -> Option<ServiceName> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        self.caller_names.borrow().get(at).cloned()
    }

    /// The series of a caller at an endpoint.
    pub(crate) fn stats(&self, endpoint: &LocalEndpoint, caller: u32) -> Rc<metrics::CallStats> {
        endpoint.stats(caller, || {
            let name = self.caller_name(caller);
            let name = name.as_ref().map_or("", ServiceName::as_str);
            let (service, instance) = (endpoint.service.as_str(), endpoint.instance.to_string());
            metrics::CallStats::new(self.registry(), name, service, instance)
        })
    }

    fn has_idle(&self) -> bool {
        self.endpoints.borrow().values().any(|endpoint| endpoint.has_idle())
    }

    fn sweep(&self) {
        self.tick.set(self.tick.get() + 1);
        self.conns.expire(self.tick.get());
        for endpoint in self.endpoints.borrow().values() {
            endpoint.sweep(self.tick.get());
        }
    }

    fn start_draining(&self) {
        self.draining.set(true);
        for listener in self.listeners.borrow_mut().drain().map(|(_, listener)| listener) {
            stop_accepting(&listener);
        }
        self.conns.leave(None);
    }

    /// Puts a table in force. Does not wait, so no request sees half of it.
    fn apply(self: &Rc<Self>, table: &Compiled) {
        self.generation.set(self.generation.get() + 1);
        self.apply_services(table);
        self.apply_callers(table);
        self.apply_listeners(table);
        self.shared.applied[self.index].store(table.version, Ordering::SeqCst);
        self.shared.changed.notify_one();
        self.table_changed.notify_waiters();
    }

    fn apply_services(&self, table: &Compiled) {
        let old = self.endpoints.take();
        let mut endpoints = HashMap::new();
        let mut services = HashMap::new();
        for (name, service) in &table.services {
            let mut ready = Vec::new();
            for (endpoint, load) in service.upstream.endpoints.iter().zip(&service.loads) {
                if endpoint.state != EndpointState::Ready {
                    continue;
                }
                let key = (endpoint.instance.clone(), endpoint.address);
                let local = old.get(&key).cloned().unwrap_or_else(|| {
                    let (instance, address) = key.clone();
                    let load = Arc::clone(load);
                    Rc::new(LocalEndpoint::new(name.clone(), instance, address, load))
                });
                local.weight.set(endpoint.weight);
                endpoints.insert(key, Rc::clone(&local));
                ready.push(local);
            }
            let local = LocalService::new(name.clone(), Arc::clone(service), ready);
            services.insert(name.clone(), Rc::new(local));
        }
        for (key, endpoint) in old {
            if !endpoints.contains_key(&key) {
                endpoint.retire();
            }
        }
        self.endpoints.replace(endpoints);
        self.services.replace(services);
    }

    fn apply_callers(&self, table: &Compiled) {
        let mut names = self.caller_names.borrow_mut();
        let mut callers = self.callers.borrow_mut();
        callers.clear();
        for (address, name) in &table.callers {
            let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            });
            callers.insert(*address, u32::try_from(at + 1).unwrap_or(0));
        }
    }

    fn apply_listeners(self: &Rc<Self>, table: &Compiled) {
        let mut old = self.listeners.take();
        let mut listeners = HashMap::new();
        for bound in &table.listeners {
            let door = bound.route.door();
            let name = &bound.route.service;
            let service = self.services.borrow().get(name).cloned();
            let service = service.unwrap_or_else(|| Rc::new(LocalService::missing(name.clone())));
            let same = old.get(&door).is_some_and(|known| known.id == bound.id);
            let listener = match old.remove(&door).filter(|_| same) {
                Some(known) => {
                    known.route.replace(Arc::clone(bound));
                    known.service.replace(service);
                    known
                }
                None => match self.listen(bound, service) {
                    Some(new) => new,
                    None => continue,
                },
            };
            listeners.insert(door, listener);
        }
        for listener in old.into_values() {
            stop_accepting(&listener);
            self.conns.leave(Some(listener.id));
        }
        self.listeners.replace(listeners);
    }

    fn listen(
        self: &Rc<Self>,
        bound: &Arc<Bound>,
        service: Rc<LocalService>,
    ) -> Option<Rc<LocalListener>> {
        let place = bound.sockets.get(self.index)?;
        let socket = place.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let socket = match socket {
            Listening::Tcp(socket) => TcpListener::from_std(socket).map(Ok),
            Listening::Udp(socket) => UdpSocket::from_std(socket).map(Err),
        };
        if base::never!(socket.is_err(), "a listener cannot join the event queue") {
            return None;
        }
        let listener = Rc::new(LocalListener {
            id: bound.id,
            route: RefCell::new(Arc::clone(bound)),
            service: RefCell::new(service),
            accepting: Cell::new(None),
        });
        let (worker, serving) = (Rc::clone(self), Rc::clone(&listener));
        let accepting = match socket.ok()? {
            Ok(socket) => tokio::task::spawn_local(accept(worker, serving, socket)),
            Err(socket) => tokio::task::spawn_local(crate::udp::serve(worker, serving, socket)),
        };
        listener.accepting.set(Some(accepting.abort_handle()));
        Some(listener)
    }
}

fn stop_accepting(listener: &LocalListener) {
    if let Some(accepting) = listener.accepting.take() {
        accepting.abort();
    }
}

/// Accepts until aborted. Past the connection limit one connection waits here, the others in the
/// kernel's queue.
async fn accept(worker: Rc<Worker>, listener: Rc<LocalListener>, socket: TcpListener) {
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                // Out of file descriptors or memory: what is open has to end first.
                tokio::time::sleep(TICK).await;
                continue;
            }
        };
        let permit = worker.limit.acquire().await;
        let guard = ConnGuard::new(&worker, &listener, permit);
        let stream = Socket::new(stream);
        let protocol = listener.route.borrow().route.protocol;
        let (worker, listener) = (Rc::clone(&worker), Rc::clone(&listener));
        // The runtime of this thread owns the task: it ends with the thread.
        match protocol {
            Protocol::Http => {
                tokio::task::spawn_local(crate::http_conn::serve(
                    worker, listener, guard, stream, peer,
                ));
            }
            Protocol::Tcp | Protocol::Udp => {
                tokio::task::spawn_local(crate::tcp::serve(worker, listener, guard, stream, peer));
            }
            Protocol::Detect => {
                tokio::task::spawn_local(crate::detect::serve(
                    worker, listener, guard, stream, peer,
                ));
            }
        }
    }
}

/// Counts a connection for as long as its task lives.
pub(crate) struct ConnGuard {
    worker: Rc<Worker>,
    at: usize,
    pub(crate) conn: Rc<Conn>,
    _permit: net::ConnectionPermit,
}

impl ConnGuard {
    fn new(worker: &Rc<Worker>, listener: &LocalListener, permit: net::ConnectionPermit) -> Self {
        let (at, conn) = worker.conns.add(listener.id);
        worker.connections.add(1);
        worker.shared.open.fetch_add(1, Ordering::SeqCst);
        if worker.conns.open() == 1 {
            worker.stir.notify_one();
        }
        ConnGuard { worker: Rc::clone(worker), at, conn, _permit: permit }
    }
}

impl Drop for ConnGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.panics.add(1);
        }
        self.worker.conns.remove(self.at);
        self.worker.connections.add(-1);
        self.worker.shared.open.fetch_sub(1, Ordering::SeqCst);
        if self.worker.conns.open() == 0 {
            self.worker.stir.notify_one();
        }
    }
}
