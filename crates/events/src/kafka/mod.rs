//! The Kafka protocol in front of the log.
//!
//! Not here: what an offset or a group is (`engine`); who may connect (`net`). Frames come in
//! through [`serve`]; [`dispatch`] has the one table of what is served.

mod cluster;
mod configs;
mod connection;
mod dispatch;
mod errors;
mod fetch;
mod groups;
mod offsets;
mod produce;
mod records;
mod sessions;
mod topics;
mod transactions;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kafka_wire::{Str, Uuid};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::engine::groups::Groups;
use crate::engine::log::{Log, Topic};
use crate::engine::transactions::Transactions;

/// The number of the one node.
pub(crate) const NODE: i32 = 1;

/// Who a client is told to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertised {
    /// The address that the client connected to: whoever got here by it gets here again.
    AsConnected,
    /// A name and port.
    As(String, u16),
}

/// What all connections share.
pub struct Front {
    pub(crate) log: Arc<Log>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) shared: connection::Shared,
    pub(crate) counts: Counts,
    random: Box<dyn Fn() -> u128 + Send + Sync>,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests by API.
    requests: Mutex<HashMap<i16, u64>>,
    /// Open connections.
    pub connections: AtomicU64,
    /// Connections that ended because the client sent what is no request.
    pub malformed: AtomicU64,
    /// Bytes of records that came.
    pub bytes_in: AtomicU64,
    /// Bytes of records that were given out.
    pub bytes_out: AtomicU64,
    /// Records that came.
    pub records_in: AtomicU64,
}

/// One connection as handlers see it.
#[derive(Debug)]
pub struct Session {
    /// Where the client is.
    pub peer: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
    /// What it is told to connect to.
    pub advertised: Advertised,
    software: Mutex<(String, String)>,
}

impl Front {
    /// A front of a log. `random` gives numbers that nobody guesses or gets twice.
    pub fn new(
        log: Arc<Log>,
        groups: Arc<Groups>,
        transactions: Arc<Transactions>,
        random: Box<dyn Fn() -> u128 + Send + Sync>,
    ) -> Arc<Front> {
        Arc::new(Front {
            log,
            groups,
            transactions,
            sessions: sessions::Sessions::default(),
            shared: connection::Shared::default(),
            counts: Counts::default(),
            random,
        })
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn counted(&self, key: i16) {
        let mut requests = self.counts.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(key).or_default() += 1;
    }

    pub(crate) fn random(&self) -> u128 {
        (self.random)()
    }

    /// An id that no topic has: neither nobody's, nor one that begins with a dash, which tools
    /// would take for an option.
    pub(crate) fn new_id(&self) -> u128 {
        loop {
            let id = self.random();
            let starts_with_dash = id >> 122 == 62;
            if id > u128::from(u64::MAX) && !starts_with_dash {
                return id;
            }
        }
    }

    /// A topic by id if one is said, else by name.
    pub(crate) fn topic(&self, name: &Str, id: Uuid) -> Option<Arc<Topic>> {
        match id.is_zero() {
            true => self.log.topic(name),
            false => self.log.topic_by_id(u128::from_be_bytes(id.0)),
        }
    }
}

impl Counts {
    /// Requests by name of their API.
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let named = requests.iter().filter_map(|(key, count)| {
            let api = kafka_wire::APIS.iter().find(|api| api.key == *key)?;
            Some((api.name, *count))
        });
        named.collect()
    }
}

impl Session {
    /// A connection.
    pub fn new(peer: SocketAddr, local: SocketAddr, advertised: Advertised) -> Session {
        Session { peer, local, advertised, software: Mutex::default() }
    }

    pub(crate) fn software(&self, name: &str, version: &str) {
        let mut software = self.software.lock().unwrap_or_else(PoisonError::into_inner);
        *software = (name.to_owned(), version.to_owned());
    }

    /// Host and port that clients of this connection reach the node at.
    pub(crate) fn advertised(&self) -> (Str, i32) {
        match &self.advertised {
            Advertised::As(host, port) => (host.as_str().into(), i32::from(*port)),
            Advertised::AsConnected => {
                (self.local.ip().to_canonical().to_string().into(), i32::from(self.local.port()))
            }
        }
    }
}

/// Accepts connections until the drain begins, and serves them until they end or it is over.
pub async fn serve(
    listener: TcpListener,
    advertised: Advertised,
    front: Arc<Front>,
    limit: net::ConnectionLimit,
    mut drain: net::Drain,
) {
    let mut connections = JoinSet::new();
    loop {
        let permit = limit.acquire().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.begun() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, say: room comes when connections end.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let _ = stream.set_nodelay(true);
        let session = Session::new(peer, local, advertised.clone());
        let front = Arc::clone(&front);
        connections.spawn(async move {
            let _permit = permit;
            front.counts.connections.fetch_add(1, Ordering::Relaxed);
            let ended = connection::serve(Arc::clone(&front), session, stream).await;
            front.counts.connections.fetch_sub(1, Ordering::Relaxed);
            if matches!(ended, connection::Ended::Malformed(_)) {
                front.counts.malformed.fetch_add(1, Ordering::Relaxed);
            }
            ended
        });
    }
    drop(listener);
    // Clients go elsewhere when they are hung up on; nothing acknowledged is lost by it.
    connections.shutdown().await;
}
