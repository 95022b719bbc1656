//! What instances use: by their cgroup where that counts, else by their processes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::InstanceId;

use crate::cgroup::Cgroups;
use crate::event::Usage;
use crate::instance::Instance;
use crate::procfs;

/// Instances that are measured at a time.
const MEASURED_MAX: usize = 100;

/// What was measured, and what is to be measured next.
#[derive(Default)]
pub(crate) struct Measured {
    /// When, if ever.
    pub(crate) at: Option<Duration>,
    /// What instances used when each was last looked at.
    pub(crate) usage: HashMap<InstanceId, Usage>,
    /// Place of the next one among the instances.
    turn: usize,
}

impl Measured {
    /// Measures those of `running` whose turn it is, new ones first.
    pub(crate) fn look(&mut self, now: Duration, running: &[Arc<Instance>], cgroups: &Cgroups) {
        let is_new = |i: &&Arc<Instance>| !self.usage.contains_key(i.id());
        let new = running.iter().filter(is_new);
        let from = if running.is_empty() { 0 } else { self.turn % running.len() };
        let old = running[from..].iter().chain(&running[..from]).filter(|i| !is_new(i));
        let chosen: Vec<_> = new.chain(old).take(MEASURED_MAX).cloned().collect();
        let mut usage = of(cgroups, &chosen);
        for instance in running {
            if let Some(before) = self.usage.get(instance.id()) {
                usage.entry(instance.id().clone()).or_insert(*before);
            }
        }
        let turn = from + chosen.iter().filter(|i| !is_new(i)).count();
        *self = Measured { at: Some(now), usage, turn };
    }
}

fn of(cgroups: &Cgroups, instances: &[Arc<Instance>]) -> HashMap<InstanceId, Usage> {
    // Only read when some instance needs it, and then once for all.
    let mut all = None;
    let each = instances.iter().map(|instance| {
        let name = instance.id().to_string();
        let processes = cgroups.processes(&name).unwrap_or_else(|| {
            let all = all.get_or_insert_with(procfs::all);
            let shim = instance.shim_pid();
            shim.map(|shim| procfs::tree(all, shim).into_iter().collect()).unwrap_or_default()
        });
        let (cpu, memory) = (cgroups.cpu_micros(&name), cgroups.memory_bytes(&name));
        let mut sum = (0, 0);
        if cpu.is_none() || memory.is_none() {
            for stat in processes.iter().filter_map(|pid| procfs::stat(*pid)) {
                sum.0 += stat.cpu_ticks * 1_000_000 / ticks_per_second();
                sum.1 += stat.resident_pages * rustix::param::page_size() as u64;
            }
        }
        let usage = Usage {
            cpu_micros: cpu.unwrap_or(sum.0),
            memory_bytes: memory.unwrap_or(sum.1),
            processes: u32::try_from(processes.len()).unwrap_or(u32::MAX),
        };
        (instance.id().clone(), usage)
    });
    each.collect()
}

/// Every process of an instance, its shim included.
pub(crate) fn processes(cgroups: &Cgroups, instance: &Instance) -> Vec<u32> {
    let by_cgroup = cgroups.processes(&instance.id().to_string());
    by_cgroup.unwrap_or_else(|| match instance.shim_pid() {
        Some(shim) => procfs::tree(&procfs::all(), shim).into_iter().collect(),
        None => Vec::new(),
    })
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}
