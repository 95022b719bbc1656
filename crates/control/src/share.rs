//! Instances that share the network of another service's: `network_mode: service:NAME`.
//!
//! Such an instance has the address of one that it is paired with, chosen anew at each of its
//! starts: that of the same slot where there is one. When that one goes, as with a new release, and
//! there is another to join, it is started again with that one's address. Without another it stays:
//! what went may come back to its slot, where the address is the same.

use std::net::Ipv4Addr;
use std::sync::Arc;

use base::ServiceName;

use crate::record::{InstanceRecord, Level, Phase, Then};
use crate::state::State;
use crate::supervise;
use crate::work::Work;

/// Services may share in a row; what the file lets through is no circle.
const ROW_MAX: usize = 64;

/// The service whose network an instance has, when that is not its own.
fn owner(state: &State, record: &InstanceRecord) -> Option<ServiceName> {
    let definition = &state.release(record.service(), record.release)?.definition;
    let mut owner = definition.shares_with()?;
    for _ in 0..ROW_MAX {
        match state.services.get(owner).and_then(|s| s.definition.shares_with()) {
            Some(next) => owner = next,
            None => break,
        }
    }
    Some(owner.clone())
}

/// Whether its address is another's.
pub(crate) fn borrows(state: &State, record: &InstanceRecord) -> bool {
    let release = state.release(record.service(), record.release);
    release.is_some_and(|release| release.definition.shares_with().is_some())
}

/// What there is to join, the best first.
fn hosts(state: &State, record: &InstanceRecord, owner: &ServiceName) -> Vec<Arc<InstanceRecord>> {
    let there = |r: &&Arc<InstanceRecord>| {
        r.then.is_none() && matches!(r.phase, Phase::Starting | Phase::Healthy)
    };
    let mut hosts: Vec<_> = state.instances_of(owner).filter(there).cloned().collect();
    hosts
        .sort_by_key(|r| (r.phase != Phase::Healthy, r.id.slot() != record.id.slot(), r.id.slot()));
    hosts
}

/// The address for its next start: `Ok(None)` when it has its own, `Err` while there is nobody to
/// join.
pub(crate) fn address(state: &State, record: &InstanceRecord) -> Result<Option<Ipv4Addr>, String> {
    let Some(owner) = owner(state, record) else { return Ok(None) };
    match hosts(state, record, &owner).first() {
        Some(host) => Ok(Some(host.address)),
        None => Err(format!("waits for an instance of {owner}, whose network it shares")),
    }
}

/// Moves what shares the network of an instance that is gone, or on its way, to another.
pub(crate) fn follow(work: &mut Work, service: &ServiceName) {
    let live = work.state.instances_of(service).filter(|r| r.then.is_none() && r.phase.is_live());
    let live: Vec<_> = live.cloned().collect();
    for record in live {
        let Some(owner) = owner(&work.state, &record) else { return };
        let hosts = hosts(&work.state, &record, &owner);
        let Some(next) =
            hosts.first().filter(|_| hosts.iter().all(|h| h.address != record.address))
        else {
            continue;
        };
        let why = format!("moves to the network of {}", next.id);
        work.tell(Level::Info, "instance-moving", &record.id, format!("{} {why}", record.id));
        let release = work.state.release(service, record.release).cloned();
        let grace = release.map(|r| r.definition.stop_grace_period).unwrap_or_default();
        work.leave(&record.id, Then::Restart, grace, &why);
    }
}

/// Whether it was stopped to be moved, which is no failure of its own.
pub(crate) fn moves(record: &InstanceRecord) -> bool {
    record.why.starts_with("moves to the network of ")
}

/// The address that it starts with, when it may start now.
pub(crate) fn join(work: &mut Work, record: &InstanceRecord) -> bool {
    match address(&work.state, record) {
        Ok(None) => true,
        Ok(Some(address)) => {
            work.instance(&record.id, |r| r.address = address);
            true
        }
        Err(why) => {
            work.instance(&record.id, |r| r.why = why);
            false
        }
    }
}

/// Nobody waits before it is started again for its own sake.
pub(crate) fn at_once(work: &mut Work, record: &InstanceRecord) {
    work.instance(&record.id, |r| {
        supervise::next_attempt(r);
        r.why = "starts again in another network".to_owned();
    });
}
