//! Control: what should be and what is, and the steps from one to the other.
//!
//! Not here: processes (agent), sockets (edge), Compose files (spec), and the loop that carries
//! actions out (`ms`). Not here either: what was measured (telemetry).
//!
//! Vocabulary: a record is declared truth in the store; an [`Observation`] is what agent and edge
//! report; [`step`] compares both and says what to do; [`Control`] makes the records durable
//! before anybody acts on them.
//!
//! Invariants: `step` is pure, and level-triggered: after a crash at any instruction the next
//! observation leads to the same place. Every address and every instance id has one holder. An
//! instance is not asked to stop while the edge may still send it new requests, unless its drain
//! deadline has passed.

pub mod action;
pub mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod place;
pub mod record;
pub mod store;
pub mod view;

mod address;
mod backoff;
mod change;
mod command;
mod drain;
mod driver;
mod embedded;
mod gate;
mod journal;
mod keys;
mod observe;
mod rollout;
mod route;
mod share;
mod state;
mod step;
mod supervise;
mod why;
mod work;

pub use action::{Action, Endpoint, Record, RecordKey, RoutePlan, ServiceRoute};
pub use command::{REPLICAS_MAX, check};
pub use driver::{Control, ControlError, Handled};
pub use embedded::Embedded;
pub use event::{Command, EdgeReport, Event, Note, Observation, Reported, ReportedState};
pub use place::Node;
pub use record::{
    AppRecord, EventRecord, Exit, InstanceRecord, Intent, Level, Phase, Release, ReleaseState,
    Rollout, RolloutKind, ServiceRecord, Then,
};
pub use state::{Asked, Live, State, Told, Wish};
pub use step::{advance, step};
pub use view::{Health, InstanceView, ServiceView};
