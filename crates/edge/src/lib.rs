//! The edge: accepts the traffic of services and sends each request to one of their instances.
//!
//! Not here: what a service is, which instances are healthy, and why. The edge is told through a
//! watch of [`RouteTable`] and tells back through a watch of [`EdgeStatus`].
//!
//! What it adds to a request: nothing for callers of the app; for clients of published listeners
//! `x-forwarded-for`, `-proto` and `-host` in place of what they said themselves. No `Via`, and no
//! `x-request-id`: an id that nothing records would only look like one. A client's own passes.
//!
//! What it does not forward: CONNECT, and TRACE of clients of published listeners (405, as nginx
//! answers it): its answer would show them the fields that only instances should see.
//!
//! Invariants: a request is forwarded only when it has exactly one reading; a request is sent to
//! an endpoint, and a session begun with it, only while the table in force says that it is ready;
//! no request allocates once its connection is warm; every wait has a limit.
//!
//! UDP goes by client address: see `udp`.
//!
//! Taking an endpoint out waits for its requests, not for its sessions (upgraded connections and
//! TCP), which may last for days: see [`EdgeStatus`].

mod answer;
mod balance;
mod buffer;
mod config;
mod conns;
mod detect;
mod director;
mod edge;
mod endpoint;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod http_conn;
pub mod metrics;
mod pump;
mod service;
mod shared;
mod socket;
mod status;
mod table;
mod tcp;
mod tunnel;
mod udp;
mod worker;

pub use config::{EdgeConfig, Limits};
pub use edge::{Edge, EdgeError};
pub use status::{BindProblem, EdgeStatus};
pub use table::{
    Balance, Endpoint, EndpointAddress, EndpointState, Listener, Protocol, RouteTable, Upstream,
};
