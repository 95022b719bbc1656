//! A session: one accepted connection from accept to close, and what is known about it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use base::UnixNanos;

/// Names a session; unique in this process, grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// A name that no session had before.
    pub fn next() -> SessionId {
        static LAST: AtomicU64 = AtomicU64::new(0);
        SessionId(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has not ended.
    #[default]
    Open,
    /// Both sides were done.
    Finished,
    /// What the client sent was refused.
    Refused,
    /// A time limit passed.
    TimedOut,
    /// The other side, or the upstream, broke off.
    Broken,
    /// Ended by a drain.
    Drained,
}

impl Outcome {
    /// The outcome as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Open => "open",
            Outcome::Finished => "finished",
            Outcome::Refused => "refused",
            Outcome::TimedOut => "timed-out",
            Outcome::Broken => "broken",
            Outcome::Drained => "drained",
        }
    }
}

/// One accepted connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Who connected.
    pub peer: SocketAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
    /// When it was accepted.
    pub started_at: UnixNanos,
    /// Bytes from the peer so far.
    pub received_bytes: u64,
    /// Bytes to the peer so far.
    pub sent_bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Session {
    /// A session that begins at `started_at`.
    pub fn new(peer: SocketAddr, local: SocketAddr, started_at: UnixNanos) -> Session {
        Session {
            id: SessionId::next(),
            peer,
            local,
            started_at,
            received_bytes: 0,
            sent_bytes: 0,
            outcome: Outcome::Open,
        }
    }
}
