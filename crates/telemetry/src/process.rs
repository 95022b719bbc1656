//! What the engine itself uses, and what instances use, as metrics.
//!
//! Not here: reading the cgroups of instances; whoever runs them gives their figures.
//!
//! Invariants: a figure that cannot be read keeps its last value; an instance that is forgotten
//! has no series left. The counter of an instance's CPU time follows its cgroup: when that starts
//! again from zero, what it then shows is added.

use std::collections::HashMap;
use std::fs;

use base::InstanceId;
use base::metrics::{Counter, Family, Gauge, Labels, Registry};

const RESIDENT: Family =
    Family { name: "process_resident_memory_bytes", help: "Resident memory of the engine." };
const CPU: Family = Family {
    name: "process_cpu_microseconds_total",
    help: "CPU time of the engine, user and system, in microseconds.",
};
const FDS: Family = Family { name: "process_open_fds", help: "Open file descriptors." };
const THREADS: Family = Family { name: "process_threads", help: "Threads of the engine." };
const NEVER: Family = Family {
    name: "ms_never_total",
    help: "Times that something happened which cannot; each is a bug worth reporting.",
};

/// CPU time of an instance, in microseconds; labels `service`, `instance`.
pub const INSTANCE_CPU: Family = Family {
    name: "ms_instance_cpu_microseconds_total",
    help: "CPU time of an instance, in microseconds.",
};
/// Memory of an instance; labels `service`, `instance`.
pub const INSTANCE_MEMORY: Family =
    Family { name: "ms_instance_memory_bytes", help: "Memory that an instance uses." };
/// Processes and threads of an instance; labels `service`, `instance`.
pub const INSTANCE_TASKS: Family =
    Family { name: "ms_instance_tasks", help: "Processes and threads of an instance." };

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

#[derive(Debug)]
struct InstanceSeries {
    cpu: Counter,
    cpu_micros_seen: u64,
    memory: Gauge,
    tasks: Gauge,
}

/// Measures the engine's own process and takes the usage of instances.
pub struct ProcessMetrics {
    registry: Registry,
    resident: Gauge,
    cpu: Counter,
    fds: Gauge,
    threads: Gauge,
    never: Counter,
    instances: HashMap<InstanceId, InstanceSeries>,
}

impl ProcessMetrics {
    /// Makes the series in `registry`.
    pub fn new(registry: &Registry) -> ProcessMetrics {
        ProcessMetrics {
            resident: registry.gauge(RESIDENT, vec![]),
            cpu: registry.counter(CPU, vec![]),
            fds: registry.gauge(FDS, vec![]),
            threads: registry.gauge(THREADS, vec![]),
            never: registry.counter(NEVER, vec![]),
            instances: HashMap::new(),
            registry: registry.clone(),
        }
    }

    /// Reads `/proc/self` into the series. Figures that cannot be read keep their value.
    pub fn sample(&mut self) {
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            if let Some(kib) = field(&status, "VmRSS:") {
                self.resident.set(signed(kib.saturating_mul(1024)));
            }
            if let Some(threads) = field(&status, "Threads:") {
                self.threads.set(signed(threads));
            }
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            // One of them is the descriptor that lists them.
            self.fds.set(signed(fds.count().saturating_sub(1) as u64));
        }
        raise(&self.cpu, cpu_micros());
        raise(&self.never, base::never_count());
    }

    /// Resident memory of the engine at the last sample, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        u64::try_from(self.resident.get()).unwrap_or(0)
    }

    /// CPU time of the engine at the last sample, in microseconds.
    pub fn cpu_micros(&self) -> u64 {
        self.cpu.get()
    }

    /// Takes what an instance uses now.
    pub fn instance(&mut self, id: &InstanceId, usage: &Usage) {
        if !self.instances.contains_key(id) {
            let made = InstanceSeries {
                cpu: self.registry.counter(INSTANCE_CPU, labels(id)),
                cpu_micros_seen: 0,
                memory: self.registry.gauge(INSTANCE_MEMORY, labels(id)),
                tasks: self.registry.gauge(INSTANCE_TASKS, labels(id)),
            };
            self.instances.insert(id.clone(), made);
        }
        let Some(series) = self.instances.get_mut(id) else { return };
        let more = usage.cpu_micros.checked_sub(series.cpu_micros_seen);
        series.cpu.add(more.unwrap_or(usage.cpu_micros));
        series.cpu_micros_seen = usage.cpu_micros;
        series.memory.set(signed(usage.memory_bytes));
        series.tasks.set(signed(usage.tasks));
    }

    /// Forgets the series of an instance that is gone.
    pub fn forget(&mut self, id: &InstanceId) {
        if self.instances.remove(id).is_none() {
            return;
        }
        let gone = labels(id);
        let ours = [INSTANCE_CPU.name, INSTANCE_MEMORY.name, INSTANCE_TASKS.name];
        self.registry.forget(|family, labels| ours.contains(&family) && *labels == gone);
    }
}

fn labels(id: &InstanceId) -> Labels {
    vec![("service", id.service().to_string()), ("instance", id.to_string())]
}

/// The number after `name` at the start of a line of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_micros() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let micros = spent.tv_sec.saturating_mul(1_000_000).saturating_add(spent.tv_nsec / 1000);
    u64::try_from(micros).unwrap_or(0)
}

/// Moves a counter up to a total kept elsewhere.
fn raise(counter: &Counter, total: u64) {
    counter.add(total.saturating_sub(counter.get()));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::metrics::Handle;

    fn values(registry: &Registry) -> HashMap<(String, String), i64> {
        let each = registry.series().into_iter().map(|series| {
            let value = match &series.handle {
                Handle::Counter(counter) => signed(counter.get()),
                Handle::Gauge(gauge) => gauge.get(),
                Handle::Histogram(_) => unreachable!("no histogram was made"),
            };
            let instance = series.labels.iter().find(|(name, _)| *name == "instance");
            let instance = instance.map(|(_, value)| value.clone()).unwrap_or_default();
            ((series.family.to_owned(), instance), value)
        });
        each.collect()
    }

    #[test]
    fn measures_this_process() {
        let registry = Registry::default();
        let mut metrics = ProcessMetrics::new(&registry);
        metrics.sample();
        let seen = values(&registry);
        let get = |family: &str| seen[&(family.to_owned(), String::new())];
        assert!(get("process_resident_memory_bytes") > 100_000);
        assert!(get("process_cpu_microseconds_total") > 0);
        assert!(get("process_open_fds") >= 3);
        assert!(get("process_threads") >= 1);
        assert_eq!(metrics.resident_bytes(), get("process_resident_memory_bytes") as u64);
    }

    #[test]
    fn instances_come_restart_and_go() {
        let registry = Registry::default();
        let mut metrics = ProcessMetrics::new(&registry);
        let (web, db): (InstanceId, InstanceId) =
            ("web.1".parse().unwrap(), "db.1".parse().unwrap());
        let usage = |cpu_micros| Usage { cpu_micros, memory_bytes: 7, tasks: 2 };
        metrics.instance(&db, &usage(5));
        for cpu_micros in [100, 150, 30] {
            metrics.instance(&web, &usage(cpu_micros));
        }
        let cpu = |id: &str| (INSTANCE_CPU.name.to_owned(), id.to_owned());
        assert_eq!(values(&registry)[&cpu("web.1")], 180);
        metrics.forget(&web);
        let left = values(&registry);
        assert!(!left.contains_key(&cpu("web.1")));
        assert_eq!(left[&cpu("db.1")], 5);
    }
}
