//! What `step` wants done: records to write in one transaction, then side effects.
//!
//! Every side effect may be asked for again after a crash and must be harmless when it was done
//! already: starting the same id and attempt twice, stopping what is stopping (the earlier
//! deadline holds), removing what is gone, routing a plan once more.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, ServiceName, SteadyNanos};

use crate::record::{AppRecord, EventRecord, InstanceRecord, Release, ServiceRecord};

/// One thing to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write a record.
    Put(Record),
    /// Delete a record.
    Delete(RecordKey),
    /// Start this attempt of an instance, after its `pre_start` steps; an earlier attempt of it has
    /// ended and may be cleared.
    StartInstance(Arc<InstanceRecord>),
    /// Run the `post_start` steps of this attempt inside it, unless that is under way or done, and
    /// report how they went.
    RunPostStart(Arc<InstanceRecord>),
    /// Ask it to stop, after its `pre_stop` steps, which take of the same time; kill its whole tree
    /// when `grace` has passed. One whose `pre_start` steps run is not started any more.
    StopInstance {
        /// Which.
        id: InstanceId,
        /// The signal's name, such as `SIGTERM`.
        signal: String,
        /// From asking to killing.
        grace: Duration,
    },
    /// Clear away an instance that has ended; its logs stay.
    RemoveInstance {
        /// Which.
        id: InstanceId,
    },
    /// Route by this plan from now on.
    Route(Arc<RoutePlan>),
    /// Note an event.
    Emit(EventRecord),
    /// Send `Event::Tick` then, unless something else happens before. It replaces the wish of the
    /// step before; a step without it wants none.
    WakeAt(SteadyNanos),
}

/// A record of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The app.
    App(Arc<AppRecord>),
    /// A service.
    Service(Arc<ServiceRecord>),
    /// A release.
    Release(Arc<Release>),
    /// An instance.
    Instance(Arc<InstanceRecord>),
}

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// The app.
    App,
    /// A service.
    Service(ServiceName),
    /// A release.
    Release(ServiceName, u64),
    /// An instance.
    Instance(InstanceId),
}

/// Who gets traffic. Complete: what it does not name gets none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePlan {
    /// Grows with every change within one life of the engine; starts again at 1 with the next,
    /// as the edge does.
    pub version: u64,
    /// Every service, those without endpoints included.
    pub services: BTreeMap<ServiceName, ServiceRoute>,
    /// Who calls from which address: every instance that exists.
    pub callers: BTreeMap<Ipv4Addr, ServiceName>,
}

/// Traffic of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRoute {
    /// Where its name leads.
    pub address: Ipv4Addr,
    /// The release whose ports the service has: the serving one, else the first. What the host
    /// publishes is in the service's record.
    pub release: u64,
    /// By instance.
    pub endpoints: Vec<Endpoint>,
    /// What to tell a caller while no endpoint is ready; empty when one is.
    pub why: String,
}

/// One place to send requests to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The instance.
    pub instance: InstanceId,
    /// Its release.
    pub release: u64,
    /// Its address.
    pub address: Ipv4Addr,
    /// The one port that it listens on, when it was told one.
    pub port_env: Option<u16>,
    /// May it get new requests?
    pub ready: bool,
    /// Why not; empty when ready.
    pub why: String,
}
