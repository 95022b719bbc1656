//! What every crate shares: names, address ranges, time, units, problems, metric handles and soft assertions.
//!
//! Not here: I/O, async, configuration, and anything that only one crate needs. This crate stays
//! small on purpose; a thing moves in only when two crates that may not see each other need it.
//!
//! Vocabulary: [`ServiceName`] and [`InstanceId`] name things, [`Clock`] tells the time,
//! [`Problem`] is the one form of an error that a person reads, [`metrics::Registry`] holds what
//! is counted.

pub mod cidr;
pub mod clock;
pub mod metrics;
pub mod name;
pub mod problem;
pub mod units;

mod never;

pub use cidr::Ipv4Cidr;
pub use clock::{Clock, ManualClock, Now, SteadyNanos, SystemClock, UnixNanos};
pub use name::{InstanceId, NameError, ServiceName};
pub use never::never_count;
#[doc(hidden)]
pub use never::never_seen;
pub use problem::{Place, Problem};
