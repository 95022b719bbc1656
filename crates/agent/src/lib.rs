//! Starts, isolates, watches and stops instances on this node.
//!
//! Not here: when to start, restart or stop something (`control`), who gets traffic (`edge`),
//! reading Compose files (`spec`).
//!
//! Entry points: [`Agent::open`] for the engine, [`shim::main`] for the process that holds one
//! instance. A [`ProcessSpec`] says what to run; an [`InstanceEvent`] says what became of it.
//!
//! Invariants:
//! - An instance outlives the engine: its [`shim`] needs nobody, keeps its output and
//!   records its end.
//! - An instance is known by its shim's pid *and* start time in this boot, never by a pid alone.
//! - The agent acts and never decides: nothing is restarted here.
//! - What could not be isolated as asked is said, in [`Isolation::missing`] or
//!   [`InstanceStatus::warnings`].

mod agent;
mod attach;
mod bpf;
mod cgroup;
mod descriptors;
mod device;
mod event;
mod exit;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod hosts;
mod instance;
mod isolation;
mod kept;
mod left;
mod listen;
mod procfs;
mod rights;
mod seccomp;
pub mod shim;
mod spec;
mod start;
mod step;
mod sys;
mod trash;
mod usage;
mod wire;

pub use agent::{Agent, AgentConfig, AgentError, OpError, free_port};
pub use attach::{Attached, attach};
pub use event::{InstanceEvent, InstanceStatus, Phase, Usage, What};
pub use exit::Exit;
pub use isolation::{Addressing, Isolation, Mode};
pub use kept::kept;
pub use left::{Left, left};
pub use listen::{Ports, listens_in};
pub use shim::LogLimits;
pub use spec::{
    Base, Device, HealthSpec, HealthTest, Kernel, Limits, Logging, Mount, MountSource, ProcessSpec,
    Resolver, Rights, Seccomp, View,
};
pub use start::{StartError, host_address};
pub use step::{StepEnd, StepWatch};
pub use wire::{Command, Ended, ExecOutput};
