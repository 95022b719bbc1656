//! The director: turns tables into what the threads apply, binds listeners, publishes the status.
//!
//! One task on a thread of its own, since looking up who holds a port reads all of `/proc`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{InstanceId, ServiceName};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics;
use crate::shared::{Bound, Compiled, Held, Listening, Load, Phase, Service, Shared};
use crate::table::Door;
use crate::{BindProblem, EdgeStatus, EndpointState, Listener, RouteTable};

/// First and longest pause between attempts to bind.
const BIND_RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

pub(crate) struct Director {
    shared: Arc<Shared>,
    tables: watch::Receiver<Arc<RouteTable>>,
    compiled: watch::Sender<Arc<Compiled>>,
    status: watch::Sender<Arc<EdgeStatus>>,
    table: Arc<RouteTable>,
    bound: HashMap<Door, Arc<Bound>>,
    unbound: BTreeMap<Door, (BindProblem, Duration, Instant)>,
    held: HashMap<ServiceName, Arc<Held>>,
    next_id: u64,
}

impl Director {
    pub(crate) fn new(
        shared: Arc<Shared>,
        tables: watch::Receiver<Arc<RouteTable>>,
        compiled: watch::Sender<Arc<Compiled>>,
        status: watch::Sender<Arc<EdgeStatus>>,
    ) -> Director {
        Director {
            shared,
            tables,
            compiled,
            status,
            table: Arc::default(),
            bound: HashMap::new(),
            unbound: BTreeMap::new(),
            held: HashMap::new(),
            next_id: 0,
        }
    }

    /// Follows the tables until the edge stops.
    pub(crate) async fn run(mut self) {
        let mut phase = self.shared.phase.subscribe();
        self.follow();
        let mut tables_end = false;
        loop {
            let retry_at = self.unbound.values().map(|(_, _, at)| *at).min();
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                changed = self.tables.changed(), if !tables_end => match changed {
                    Ok(()) => self.follow(),
                    // Whoever made the tables is gone: the last one stays in force.
                    Err(_) => tables_end = true,
                },
                () = shared.changed.notified() => self.publish(),
                () = tokio::time::sleep_until(retry_at.unwrap_or_else(Instant::now)),
                    if retry_at.is_some() => {
                    self.retry_binds();
                    self.send();
                }
                changed = phase.wait_for(|phase| *phase > Phase::Serving) => {
                    drop(changed);
                    self.bound.clear();
                    self.unbound.clear();
                    break;
                }
            }
        }
        // While the edge drains, only counts change.
        let mut stopped = self.shared.phase.subscribe();
        loop {
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                () = shared.changed.notified() => self.publish(),
                _ = stopped.wait_for(|phase| *phase == Phase::Stopped) => return,
            }
        }
    }

    fn follow(&mut self) {
        self.table = Arc::clone(&self.tables.borrow_and_update());
        let mut wanted: HashMap<Door, &Listener> = HashMap::new();
        for listener in &self.table.listeners {
            wanted.entry(listener.door()).or_insert(listener);
        }
        self.bound.retain(|door, _| wanted.contains_key(door));
        self.unbound.retain(|door, _| wanted.contains_key(door));
        let new: Vec<Listener> = wanted
            .into_values()
            .filter(|listener| !self.unbound.contains_key(&listener.door()))
            .cloned()
            .collect();
        for listener in new {
            self.bind_or_reroute(listener, BIND_RETRY.0);
        }
        self.send();
    }

    fn retry_binds(&mut self) {
        let now = Instant::now();
        let due: Vec<(Door, Duration)> = self
            .unbound
            .iter()
            .filter(|(_, (_, _, at))| *at <= now)
            .map(|(door, (_, pause, _))| (*door, *pause))
            .collect();
        let table = Arc::clone(&self.table);
        for (door, pause) in due {
            if let Some(listener) = table.listeners.iter().find(|l| l.door() == door) {
                self.bind_or_reroute(listener.clone(), (pause * 2).min(BIND_RETRY.1));
            }
        }
    }

    fn bind_or_reroute(&mut self, route: Listener, pause: Duration) {
        let door = route.door();
        if let Some(bound) = self.bound.get(&door) {
            if bound.route != route {
                let (id, sockets) = (bound.id, Arc::clone(&bound.sockets));
                // What was spoken at the old target says nothing about the new one.
                let speaks_http = AtomicBool::new(false);
                let rerouted = Bound { id, route, sockets, speaks_http };
                self.bound.insert(door, Arc::new(rerouted));
            }
            return;
        }
        match bind(door, self.shared.applied.len()) {
            Ok(sockets) => {
                self.unbound.remove(&door);
                self.next_id += 1;
                let sockets = sockets.into_iter().map(|socket| Mutex::new(Some(socket))).collect();
                let (id, speaks_http) = (self.next_id, AtomicBool::new(false));
                self.bound.insert(door, Arc::new(Bound { id, route, sockets, speaks_http }));
            }
            Err(problem) => {
                self.unbound.insert(door, (problem, pause, Instant::now() + pause));
            }
        }
    }

    /// Compiles the table in force and hands it to the threads.
    fn send(&mut self) {
        let table = Arc::clone(&self.table);
        self.held.retain(|name, _| table.services.contains_key(name));
        let mut ready: HashSet<&InstanceId> = HashSet::new();
        let mut services = BTreeMap::new();
        for (name, upstream) in &table.services {
            let endpoints = upstream.endpoints.iter();
            ready.extend(
                endpoints
                    .clone()
                    .filter(|endpoint| endpoint.state == EndpointState::Ready)
                    .map(|endpoint| &endpoint.instance),
            );
            let mut loads = self.shared.loads();
            let loads: Vec<Arc<Load>> = endpoints
                .map(|endpoint| Arc::clone(loads.entry(endpoint.instance.clone()).or_default()))
                .collect();
            let held = self.held.entry(name.clone()).or_insert_with(|| {
                let gauge = metrics::held(&self.shared.config.registry, name.as_str());
                Arc::new(Held { gauge, ..Held::default() })
            });
            let service = Service { upstream: Arc::clone(upstream), loads, held: Arc::clone(held) };
            services.insert(name.clone(), Arc::new(service));
        }
        for (instance, load) in self.shared.loads().iter() {
            load.set_leaving(!ready.contains(instance));
        }
        self.compiled.send_replace(Arc::new(Compiled {
            version: table.version,
            listeners: self.bound.values().cloned().collect(),
            services,
            callers: table.callers.clone(),
        }));
        self.publish();
    }

    fn publish(&mut self) {
        // The order matters: a count read before the version could miss what came in between.
        let version = self.shared.version();
        let known: HashSet<&InstanceId> = self
            .table
            .services
            .values()
            .flat_map(|upstream| &upstream.endpoints)
            .map(|endpoint| &endpoint.instance)
            .collect();
        let (mut inflight, mut sessions) = (BTreeMap::new(), BTreeMap::new());
        self.shared.loads().retain(|instance, load| {
            let counts = load.counts();
            for (of, count) in [(&mut inflight, counts.inflight), (&mut sessions, counts.sessions)]
            {
                if count > 0 {
                    of.insert(instance.clone(), count);
                }
            }
            // Until every thread has the newest table, one may still choose it.
            counts.total() > 0 || known.contains(instance) || version != self.table.version
        });
        let bound = self.bound.keys().map(|door| (door, Ok(())));
        let unbound = self.unbound.iter().map(|(door, (why, ..))| (door, Err(why.clone())));
        let (mut listeners, mut udp_listeners) = (BTreeMap::new(), BTreeMap::new());
        for (door, state) in bound.chain(unbound) {
            let of = if door.is_udp { &mut udp_listeners } else { &mut listeners };
            of.insert(door.addr, state);
        }
        let status = EdgeStatus { version, listeners, udp_listeners, inflight, sessions };
        self.status.send_if_modified(|old| {
            let differs = **old != status;
            if differs {
                *old = Arc::new(status);
            }
            differs
        });
    }
}

/// A socket for each thread.
fn bind(door: Door, sockets: usize) -> Result<Vec<Listening>, BindProblem> {
    if door.is_udp {
        let bound = net::bind_udp(door.addr, sockets)?;
        return Ok(bound.into_iter().map(Listening::Udp).collect());
    }
    let bound = net::bind_tcp(net::TcpBind { sockets, ..net::TcpBind::new(door.addr) })?;
    Ok(bound.into_iter().map(Listening::Tcp).collect())
}
