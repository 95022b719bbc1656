//! The Kafka protocol in front of the log.
//!
//! Not here: what an offset or a group is (`engine`); TLS (`net`); how rules are decided
//! (`security`). Frames come in through [`serve`]; [`dispatch`] has the one table of what is
//! served, [`access`] the one of who may ask for it.

mod access;
mod acls;
mod cluster;
mod configs;
mod connection;
mod dispatch;
mod errors;
mod features;
mod fetch;
mod figures;
mod groups;
mod guard;
mod listener;
mod members;
mod node_settings;
mod offsets;
mod produce;
mod quotas;
mod records;
mod sasl;
mod scram;
mod screens;
mod sessions;
mod settings;
mod share;
mod speech;
mod topics;
mod transactions;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kafka_wire::{Str, Uuid};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::engine::groups::Groups;
use crate::engine::log::{Log, OpenError, Topic};
use crate::engine::transactions::Transactions;

pub(crate) use errors::meaning;
pub use guard::{Guard, Security};
pub use listener::{Advertised, Listener};
pub use sasl::Mechanism;
pub use settings::Settings;

/// The number of the one node.
pub(crate) const NODE: i32 = 1;

/// What all connections share.
pub struct Front {
    pub(crate) log: Arc<Log>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) share_sessions: share::sessions::ShareSessions,
    pub(crate) shared: connection::Shared,
    pub(crate) counts: Counts,
    pub(crate) guard: Guard,
    pub(crate) settings: Settings,
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
    /// Connections that ended in their TLS handshake.
    pub handshakes_failed: AtomicU64,
    /// Logins with a wrong user or password.
    pub logins_failed: AtomicU64,
}

/// One connection as handlers see it.
#[derive(Debug)]
pub struct Session {
    /// Where the client is.
    pub peer: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
    /// What it came in by.
    pub listener: Arc<Listener>,
    software: Mutex<(String, String)>,
    pub(crate) login: sasl::Login,
}

impl Front {
    /// A front of a log. `random` gives numbers that nobody guesses or gets twice.
    ///
    /// # Errors
    /// When what the log has of rules and credentials cannot be read: rather nothing is served than
    /// something to the wrong people.
    pub async fn open(
        log: Arc<Log>,
        groups: Arc<Groups>,
        transactions: Arc<Transactions>,
        random: Box<dyn Fn() -> u128 + Send + Sync>,
        security: Security,
    ) -> Result<Arc<Front>, OpenError> {
        let guard = Guard::open(&log, security, &random)?;
        let settings = Settings::open(&log)?;
        settings.follow().await;
        groups.set_speech(&speech::SPEECH);
        Ok(Arc::new(Front {
            log,
            groups,
            transactions,
            sessions: sessions::Sessions::default(),
            share_sessions: share::sessions::ShareSessions::default(),
            shared: connection::Shared::default(),
            counts: Counts::default(),
            guard,
            settings,
            random,
        }))
    }

    /// Its groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Who may do what.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What was said of the node and of groups at run time.
    pub fn settings(&self) -> &Settings {
        &self.settings
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
    /// A connection; `subject` is of the certificate that it showed.
    pub fn new(
        peer: SocketAddr,
        local: SocketAddr,
        listener: Arc<Listener>,
        subject: Option<&net::Subject>,
    ) -> Session {
        let login = sasl::Login::new(&listener, subject);
        Session { peer, local, listener, software: Mutex::default(), login }
    }

    pub(crate) fn software(&self, name: &str, version: &str) {
        let mut software = self.software.lock().unwrap_or_else(PoisonError::into_inner);
        *software = (name.to_owned(), version.to_owned());
    }

    /// Host and port that clients of this connection reach the node at.
    pub(crate) fn advertised(&self) -> (Str, i32) {
        match &self.listener.advertised {
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
    by: impl Into<Listener>,
    front: Arc<Front>,
    limit: net::ConnectionLimit,
    mut drain: net::Drain,
) {
    let by = Arc::new(by.into());
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
        let (front, by) = (Arc::clone(&front), Arc::clone(&by));
        connections.spawn(async move {
            let _permit = permit;
            front.counts.connections.fetch_add(1, Ordering::Relaxed);
            let ended = serve_one(&front, &by, stream, peer).await;
            front.counts.connections.fetch_sub(1, Ordering::Relaxed);
            if matches!(ended, Some(connection::Ended::Malformed(_))) {
                front.counts.malformed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    drop(listener);
    // Clients go elsewhere when they are hung up on; nothing acknowledged is lost by it.
    connections.shutdown().await;
}

/// `None` when it never came to requests.
async fn serve_one(
    front: &Arc<Front>,
    by: &Arc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<connection::Ended> {
    let local = stream.local_addr().ok()?;
    let _ = stream.set_nodelay(true);
    let wait = front.guard.connected(peer.ip());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let Some(tls) = &by.tls else {
        let session = Session::new(peer, local, Arc::clone(by), None);
        return Some(connection::serve(Arc::clone(front), session, stream).await);
    };
    match tls.accept(stream).await {
        Ok(stream) => {
            let session = Session::new(peer, local, Arc::clone(by), stream.subject().as_ref());
            Some(connection::serve(Arc::clone(front), session, stream).await)
        }
        Err(_) => {
            front.counts.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}
