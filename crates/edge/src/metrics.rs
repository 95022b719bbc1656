//! Every metric family of the edge, and handles to its series that are looked up once.
//!
//! Label orders are fixed: `caller` (empty: outside the app), `service`, `method`, `instance`
//! (empty: none was reached), `code_class` (`2xx`).

use std::cell::OnceCell;

use base::metrics::{Counter, Family, Gauge, Histogram, Registry};

use crate::http::{Method, Refusal};

/// Requests that were answered. Success is a class below `5xx`; a response that the instance
/// broke off counts as `5xx`.
pub const REQUESTS: Family = Family {
    name: "ms_edge_requests_total",
    help: "Requests answered, by caller, service, method, instance and class of status.",
};
/// Time from the last byte of the request head to the last byte of the response.
pub const REQUEST_DURATION: Family = Family {
    name: "ms_edge_request_duration_seconds",
    help: "Time from the request head to the end of the response; recorded in microseconds.",
};
/// Bytes from clients to instances, counted while they pass.
pub const RECEIVED_BYTES: Family = Family {
    name: "ms_edge_received_bytes_total",
    help: "Bytes sent on to instances, heads included.",
};
/// Bytes from instances to clients.
pub const SENT_BYTES: Family =
    Family { name: "ms_edge_sent_bytes_total", help: "Bytes sent to clients, heads included." };
/// Open client connections.
pub const CONNECTIONS: Family =
    Family { name: "ms_edge_connections", help: "Open client connections." };
/// TCP and UDP sessions and upgraded connections that are open.
pub const SESSIONS_OPEN: Family = Family {
    name: "ms_edge_sessions_open",
    help: "Open TCP and UDP sessions and upgraded connections, by caller, service and instance.",
};
/// TCP and UDP sessions that ended, by outcome.
pub const SESSIONS: Family = Family {
    name: "ms_edge_sessions_total",
    help: "TCP and UDP sessions that ended, by caller, service, instance and outcome.",
};
/// Attempts that were repeated.
pub const RETRIES: Family = Family {
    name: "ms_edge_retries_total",
    help: "Attempts repeated at an endpoint, by service and reason: connect or stale.",
};
/// Requests that were refused.
pub const REFUSED: Family = Family {
    name: "ms_edge_refused_total",
    help: "Requests refused or failed by the edge itself, by service and reason.",
};
/// Datagrams that went nowhere.
pub const DROPPED: Family = Family {
    name: "ms_edge_datagrams_dropped_total",
    help: "Datagrams that were not passed on, by service and reason: unavailable, no-socket, full.",
};
/// Requests waiting for an endpoint.
pub const HELD: Family = Family {
    name: "ms_edge_held",
    help: "Requests and connections waiting for an endpoint, by service.",
};
/// Tasks that panicked; each took one connection with it.
pub const PANICS: Family =
    Family { name: "ms_edge_panics_total", help: "Connections ended by a panic of the edge." };

/// Series of one caller at one endpoint (or at none).
pub(crate) struct CallStats {
    registry: Registry,
    caller: String,
    service: String,
    instance: String,
    methods: [OnceCell<MethodStats>; Method::COUNT],
    bytes: OnceCell<(Counter, Counter)>,
    open: OnceCell<Gauge>,
}

/// A session that is open; counted until it is dropped.
pub(crate) struct OpenSession(Gauge);

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Bytes of one message or session that are on their way, counted as they pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    received: u64,
    sent: u64,
}

impl Passed {
    /// Counts what has passed since it was last told; both are totals.
    pub(crate) fn count(&mut self, stats: &CallStats, received: u64, sent: u64) {
        if received > self.received || sent > self.sent {
            stats.bytes(received.saturating_sub(self.received), sent.saturating_sub(self.sent));
            *self = Passed { received, sent };
        }
    }
}

struct MethodStats {
    classes: [OnceCell<Counter>; 5],
    duration: Histogram,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl CallStats {
    pub(crate) fn new(
        registry: &Registry,
        caller: &str,
        service: &str,
        instance: String,
    ) -> CallStats {
        CallStats {
            registry: registry.clone(),
            caller: caller.to_owned(),
            service: service.to_owned(),
            instance,
            methods: [const { OnceCell::new() }; Method::COUNT],
            bytes: OnceCell::new(),
            open: OnceCell::new(),
        }
    }

    /// Counts an answered request.
    pub(crate) fn request(&self, method: Method, status: u16, micros: u64) {
        let stats = self.methods[method as usize].get_or_init(|| MethodStats {
            classes: [const { OnceCell::new() }; 5],
            duration: self.registry.histogram(
                REQUEST_DURATION,
                vec![
                    ("caller", self.caller.clone()),
                    ("service", self.service.clone()),
                    ("method", method.label().to_owned()),
                    ("instance", self.instance.clone()),
                ],
            ),
        });
        stats.duration.record(micros);
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        let counter = stats.classes[class].get_or_init(|| {
            self.registry.counter(
                REQUESTS,
                vec![
                    ("caller", self.caller.clone()),
                    ("service", self.service.clone()),
                    ("method", method.label().to_owned()),
                    ("instance", self.instance.clone()),
                    ("code_class", CLASSES[class].to_owned()),
                ],
            )
        });
        counter.add(1);
    }

    /// Counts bytes from the client and to it.
    pub(crate) fn bytes(&self, received: u64, sent: u64) {
        let (from, to) = self.bytes.get_or_init(|| {
            (
                self.registry.counter(RECEIVED_BYTES, self.labels()),
                self.registry.counter(SENT_BYTES, self.labels()),
            )
        });
        from.add(received);
        to.add(sent);
    }

    fn labels(&self) -> Vec<(&'static str, String)> {
        vec![
            ("caller", self.caller.clone()),
            ("service", self.service.clone()),
            ("instance", self.instance.clone()),
        ]
    }

    /// Counts a session or an upgraded connection as open.
    pub(crate) fn open(&self) -> OpenSession {
        let gauge =
            self.open.get_or_init(|| self.registry.gauge(SESSIONS_OPEN, self.labels())).clone();
        gauge.add(1);
        OpenSession(gauge)
    }

    /// Counts a TCP session that ended.
    pub(crate) fn session(&self, outcome: net::Outcome) {
        let mut labels = self.labels();
        labels.push(("outcome", outcome.label().to_owned()));
        self.registry.counter(SESSIONS, labels).add(1);
    }
}

/// Counts a refusal.
pub(crate) fn refused(registry: &Registry, service: &str, why: Refusal) {
    let labels = vec![("service", service.to_owned()), ("reason", why.label().to_owned())];
    registry.counter(REFUSED, labels).add(1);
}

/// Counts a repeated attempt.
pub(crate) fn retried(registry: &Registry, service: &str, reason: &str) {
    let labels = vec![("service", service.to_owned()), ("reason", reason.to_owned())];
    registry.counter(RETRIES, labels).add(1);
}

/// Counts a datagram that went nowhere.
pub(crate) fn dropped(registry: &Registry, service: &str, reason: &str) {
    let labels = vec![("service", service.to_owned()), ("reason", reason.to_owned())];
    registry.counter(DROPPED, labels).add(1);
}

/// The gauge of open connections.
pub(crate) fn connections(registry: &Registry) -> Gauge {
    registry.gauge(CONNECTIONS, Vec::new())
}

/// The gauge of held requests of a service.
pub(crate) fn held(registry: &Registry, service: &str) -> Gauge {
    registry.gauge(HELD, vec![("service", service.to_owned())])
}

/// The counter of panics.
pub(crate) fn panics(registry: &Registry) -> Counter {
    registry.counter(PANICS, Vec::new())
}
