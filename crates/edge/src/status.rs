//! What the edge says about itself: which table is in force, what is bound, what is under way.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base::InstanceId;
pub use net::BindError as BindProblem;

/// The state of the edge after a change of it.
///
/// The promise that a drain rests on: once `version` is at least V, no thread sends a new request
/// or connection to an endpoint that table V lacks or marks as draining, and `inflight` was read
/// after that. So when `version >= V` and such an instance has nothing in `inflight`, no request is
/// on its way to it and none will be, nor will a session begin, until a later table makes it ready
/// again. It may still have `sessions`: their bytes go on both ways until either side closes. They
/// may last for as long as they like, so a drain does not wait for them: the program is asked to
/// stop and ends them, or hands them over, in its own grace period.
///
/// The counts of leaving instances are published when they reach zero, those of other instances
/// only along with other changes: [`crate::Edge::inflight`] and [`crate::Edge::sessions`] read the
/// present numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeStatus {
    /// Every thread has applied this table.
    pub version: u64,
    /// TCP listeners of the newest table: bound, or why not (binding is retried).
    pub listeners: BTreeMap<SocketAddr, Result<(), BindProblem>>,
    /// The same for UDP.
    pub udp_listeners: BTreeMap<SocketAddr, Result<(), BindProblem>>,
    /// HTTP requests that are not answered yet and connections that are not established yet, by
    /// instance; an instance with none is absent.
    pub inflight: BTreeMap<InstanceId, u32>,
    /// Upgraded connections (WebSocket), TCP and UDP sessions, by instance; one with none is absent.
    pub sessions: BTreeMap<InstanceId, u32>,
}
