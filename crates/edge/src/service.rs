//! A service as one thread sees it: choosing an endpoint, connecting, waiting while there is none.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::ServiceName;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::balance;
use crate::conns::TICK;
use crate::endpoint::LocalEndpoint;
use crate::http::Refusal;
use crate::metrics::{self, CallStats};
use crate::shared::{Held, LoadGuard, Service};
use crate::socket::Socket;
use crate::worker::{LocalListener, Worker};
use crate::{Balance, Upstream};

/// A service and its ready endpoints.
pub(crate) struct LocalService {
    pub(crate) name: ServiceName,
    service: Arc<Service>,
    ready: Vec<Rc<LocalEndpoint>>,
    turn: Cell<usize>,
    stats: RefCell<Vec<(u32, Rc<CallStats>)>>,
}

/// An endpoint with a connection to it, counted as in flight or as a session.
pub(crate) struct Target {
    pub(crate) endpoint: Rc<LocalEndpoint>,
    pub(crate) guard: LoadGuard,
    pub(crate) stream: Socket,
    pub(crate) dialled: SocketAddr,
}

/// Why there is no target, for the client.
#[derive(Debug)]
pub(crate) struct Unavailable {
    pub(crate) refusal: Refusal,
    pub(crate) why: String,
}

impl LocalService {
    pub(crate) fn new(
        name: ServiceName,
        service: Arc<Service>,
        ready: Vec<Rc<LocalEndpoint>>,
    ) -> LocalService {
        LocalService { name, service, ready, turn: Cell::new(0), stats: RefCell::default() }
    }

    /// What stands for a service that the table names but does not have.
    pub(crate) fn missing(name: ServiceName) -> LocalService {
        let upstream = Upstream {
            balance: Balance::LeastRequests,
            endpoints: Vec::new(),
            hold: Duration::ZERO,
            datagrams_from: None,
            unavailable_why: format!("the app has no service `{name}`"),
        };
        let service =
            Service { upstream: Arc::new(upstream), loads: Vec::new(), held: Arc::default() };
        LocalService::new(name, Arc::new(service), Vec::new())
    }

    /// The address that datagrams to its instances come from.
    pub(crate) fn datagrams_from(&self) -> Option<IpAddr> {
        self.service.upstream.datagrams_from
    }

    fn pick(&self, tick: u64) -> Option<Rc<LocalEndpoint>> {
        let may = |endpoint: &Rc<LocalEndpoint>| endpoint.is_available(tick);
        let at = match self.service.upstream.balance {
            Balance::LeastRequests => {
                let turn = self.turn.get().wrapping_add(1);
                self.turn.set(turn);
                balance::least_requests(&self.ready, turn, may)
            }
            Balance::RoundRobin => balance::round_robin(&self.ready, may),
        };
        Some(Rc::clone(&self.ready[at?]))
    }

    /// The series of a caller that reached no instance.
    pub(crate) fn stats(&self, caller: u32, worker: &Worker) -> Rc<CallStats> {
        let mut stats = self.stats.borrow_mut();
        if let Some((_, known)) = stats.iter().find(|(id, _)| *id == caller) {
            return Rc::clone(known);
        }
        let name = worker.caller_name(caller);
        let name = name.as_ref().map_or("", ServiceName::as_str);
        let new =
            Rc::new(CallStats::new(worker.registry(), name, self.name.as_str(), String::new()));
        stats.push((caller, Rc::clone(&new)));
        new
    }
}

/// An endpoint to connect to, counted as in flight.
pub(crate) type Chosen = (Rc<LocalEndpoint>, LoadGuard);

/// An idle connection to the endpoint whose turn it is, idle since tick `after` at the latest;
/// else the endpoint, for `connect_or_hold`. `None` wants a new connection. Does not wait.
pub(crate) fn choose(
    worker: &Worker,
    listener: &LocalListener,
    after: Option<u64>,
) -> Option<Result<Target, Chosen>> {
    let endpoint = listener.service.borrow().pick(worker.now())?;
    let guard = LoadGuard::new(&endpoint.load, &worker.shared);
    let dialled = endpoint.address.dial(listener.target_port());
    match after.and_then(|after| endpoint.take_idle(dialled, after)) {
        Some(stream) => Some(Ok(Target { endpoint, guard, stream, dialled })),
        None => Some(Err((endpoint, guard))),
    }
}

/// A target for a session, of the table in force; `None` when there was none in time, which is
/// counted. From here on it is a session and not in flight: a drain waits while one connects, not
/// for what follows, so nothing may follow that the table does not have any more.
pub(crate) async fn acquire_session(worker: &Worker, listener: &LocalListener) -> Option<Target> {
    loop {
        match connect_or_hold(worker, listener, None).await {
            // The table changed while it was being connected to.
            Ok(target) if target.endpoint.retired.get() => {}
            Ok(mut target) => {
                target.guard.become_session();
                return Some(target);
            }
            Err(unavailable) => {
                let service = listener.service.borrow().name.clone();
                metrics::refused(worker.registry(), service.as_str(), unavailable.refusal);
                return None;
            }
        }
    }
}

/// A new connection to the chosen endpoint, or to another one: waits while there is none.
pub(crate) async fn connect_or_hold(
    worker: &Worker,
    listener: &LocalListener,
    mut chosen: Option<Chosen>,
) -> Result<Target, Unavailable> {
    let mut held: Option<HeldGuard> = None;
    let mut until: Option<Instant> = None;
    let mut failed: Option<String> = None;
    loop {
        let service = Rc::clone(&listener.service.borrow());
        if let Some((endpoint, guard)) = chosen.take() {
            let dialled = endpoint.address.dial(listener.target_port());
            match connect(worker, dialled).await {
                Ok(stream) => {
                    endpoint.answers();
                    return Ok(Target { endpoint, guard, stream, dialled });
                }
                Err(why) => {
                    endpoint.set_aside(worker.now());
                    metrics::retried(worker.registry(), service.name.as_str(), "connect");
                    failed = Some(format!("{} at {dialled}: {why}", endpoint.instance));
                }
            }
        }
        let upstream = &service.service.upstream;
        let hold = upstream.hold;
        let end = *until.get_or_insert_with(|| Instant::now() + hold);
        match choose(worker, listener, None) {
            Some(Err(next)) if failed.is_none() || Instant::now() < end || held.is_none() => {
                chosen = Some(next);
                // The last endpoints are tried even when the hold is over, each of them once:
                // those that fail are set aside.
                continue;
            }
            _ => {}
        }
        let why = || match &failed {
            Some(failed) if upstream.unavailable_why.is_empty() => failed.clone(),
            Some(failed) => format!("{} ({failed})", upstream.unavailable_why),
            None => upstream.unavailable_why.clone(),
        };
        if held.is_none() {
            let max = worker.limits().hold_requests_max;
            match HeldGuard::new(&service.service.held, max) {
                Some(guard) => held = Some(guard),
                None => return Err(Unavailable { refusal: Refusal::HoldFull, why: why() }),
            }
        }
        let now = Instant::now();
        if now >= end {
            return Err(Unavailable { refusal: Refusal::HoldTimeout, why: why() });
        }
        // An endpoint that was set aside comes back with a tick, a new one with a table.
        let changed = worker.table_changed.notified();
        let _ = tokio::time::timeout_at(end.min(now + TICK), changed).await;
        if let Some(Err(next)) = choose(worker, listener, None) {
            chosen = Some(next);
        }
    }
}

async fn connect(worker: &Worker, to: SocketAddr) -> Result<Socket, String> {
    let limit = worker.limits().connect_timeout;
    match tokio::time::timeout(limit, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => Ok(Socket::new(stream)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {limit:?}")),
    }
}

/// A place in the queue of a service.
struct HeldGuard(Arc<Held>);

impl HeldGuard {
    fn new(held: &Arc<Held>, max: u32) -> Option<HeldGuard> {
        let room = |count: u32| (count < max).then_some(count + 1);
        held.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        held.gauge.add(1);
        Some(HeldGuard(Arc::clone(held)))
    }
}

impl Drop for HeldGuard {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.add(-1);
    }
}
