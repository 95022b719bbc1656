//! Settings of an edge: threads, clock, where it counts, and every limit in one place.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use base::metrics::Registry;

/// What an edge is started with.
#[derive(Clone)]
pub struct EdgeConfig {
    /// Threads that serve, 0 for one per core.
    pub threads: usize,
    /// Tells the time for durations and sessions.
    pub clock: Arc<dyn Clock>,
    /// Where requests are counted.
    pub registry: Registry,
    /// Limits.
    pub limits: Limits,
}

impl EdgeConfig {
    /// One thread per core and the limits' defaults.
    pub fn new(clock: Arc<dyn Clock>, registry: Registry) -> EdgeConfig {
        EdgeConfig { threads: 0, clock, registry, limits: Limits::default() }
    }
}

/// Bounds on what clients and instances can make the edge hold, and for how long.
///
/// Times are kept with a grain of a quarter of a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections in all; past it new ones wait in the listen queue.
    pub connections_max: usize,
    /// Length of a request or response head, 16 KiB at most; past it 431 (or 414), or 502.
    pub head_bytes_max: usize,
    /// Fields of a head; past it 431, or 502.
    pub header_fields_max: usize,
    /// Requests and connections of one service that may wait for an endpoint; past it 503.
    pub hold_requests_max: u32,
    /// From the first byte of a request head to its last; past it 408.
    pub head_timeout: Duration,
    /// An idle client connection is closed after this.
    pub idle_timeout: Duration,
    /// One attempt to connect to an instance.
    pub connect_timeout: Duration,
    /// No byte moved in either direction of an exchange; past it 504, 408 when the client's body is
    /// what is missing, or an early end. An upgraded
    /// connection or a TCP session may be silent for as long as it likes.
    pub stall_timeout: Duration,
    /// Idle connections kept to one endpoint by one thread.
    pub pool_idle_max: usize,
    /// How long an idle connection to an instance is kept.
    pub pool_idle_timeout: Duration,
    /// UDP sessions, one for each client address, of one listener and thread; past it the one that
    /// has been silent longest ends.
    pub udp_sessions_max: usize,
    /// A UDP session in which neither side has sent anything for so long ends.
    pub udp_idle_timeout: Duration,
    /// How long a `Detect` listener waits for the client before it lets the server speak first.
    pub detect_wait: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 16_384,
            head_bytes_max: 16 << 10,
            header_fields_max: 100,
            hold_requests_max: 100,
            head_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(75),
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(300),
            pool_idle_max: 128,
            pool_idle_timeout: Duration::from_secs(30),
            udp_sessions_max: 1024,
            udp_idle_timeout: Duration::from_secs(60),
            detect_wait: Duration::from_millis(10),
        }
    }
}
