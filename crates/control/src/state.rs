//! State: every record, and what was seen last.
//!
//! Records are behind `Arc`, so that a snapshot costs pointers. What is in [`Live`] is lost with
//! the process on purpose: it is found again from the next observation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use base::{InstanceId, Ipv4Cidr, ServiceName, SteadyNanos, UnixNanos};

use crate::action::{Action, Record, RecordKey, RoutePlan};
use crate::event::Observation;
use crate::place::Node;
use crate::record::{AppRecord, InstanceRecord, Phase, Release, ServiceRecord};
use crate::view::Health;

/// What should be and what is.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Where addresses come from.
    pub pool: Ipv4Cidr,
    /// Source of jitter.
    pub seed: u64,
    /// The node that everything runs on.
    pub node: Node,
    /// The app, once there is one.
    pub app: Option<Arc<AppRecord>>,
    /// Its services.
    pub services: BTreeMap<ServiceName, Arc<ServiceRecord>>,
    /// Their releases.
    pub releases: BTreeMap<(ServiceName, u64), Arc<Release>>,
    /// Their instances.
    pub instances: BTreeMap<InstanceId, Arc<InstanceRecord>>,
    /// What was seen last; `None` until the first observation of this life of the engine.
    pub observed: Option<Arc<Observation>>,
    /// What is known only since this engine runs.
    pub live: Live,
}

/// What is known only since this engine runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// The plan that was last sent to the edge.
    pub plan: Option<Arc<RoutePlan>>,
    /// Since which plan an instance gets no new requests.
    pub out_since: BTreeMap<InstanceId, u64>,
    /// Instances whose check fails now: since when.
    pub unhealthy_since: BTreeMap<InstanceId, SteadyNanos>,
    /// Instances that were to be healthy by now and never were.
    pub late: BTreeSet<InstanceId>,
    /// Instances whose `post_start` steps failed: why.
    pub broken: BTreeMap<InstanceId, String>,
    /// Since when a service has had its present health, by the wall clock: it is only shown.
    pub health_since: BTreeMap<ServiceName, (Health, UnixNanos)>,
    /// The machine was restarted since the records were written, and nobody has looked yet.
    pub rebooted: bool,
    /// What the agent was asked last for an instance, so that it is not asked again at once.
    pub asked: BTreeMap<InstanceId, Asked>,
    /// No address was free for one more instance.
    pub pool_empty: bool,
    /// Changes of health that were told lately: since when, how many, and how many were not.
    pub told: BTreeMap<String, Told>,
    /// What was said of a release of a service that could not be done as its file asks.
    pub warned: BTreeMap<ServiceName, (u64, BTreeSet<String>)>,
}

/// What was told of one instance or service in the present minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When the minute began.
    pub since: SteadyNanos,
    /// Events told in it.
    pub count: u32,
    /// Events that were not told any more.
    pub kept_back: u32,
}

/// A wish that the agent was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What.
    pub what: Wish,
    /// For which attempt.
    pub attempt: u32,
    /// When.
    pub at: SteadyNanos,
}

/// Kinds of wishes to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Start it.
    Start,
    /// Run its `post_start` steps.
    PostStart,
    /// Stop it.
    Stop,
    /// Clear it away.
    Remove,
}

impl State {
    /// Nothing runs and nothing should.
    pub fn new(pool: Ipv4Cidr, seed: u64) -> State {
        State {
            pool,
            seed,
            node: Node::default(),
            app: None,
            services: BTreeMap::new(),
            releases: BTreeMap::new(),
            instances: BTreeMap::new(),
            observed: None,
            live: Live::default(),
        }
    }

    /// The instances of a service, by slot.
    pub fn instances_of<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> impl Iterator<Item = &'a Arc<InstanceRecord>> + 'a {
        // They lie together: an id sorts by its service first.
        let from = InstanceId::new(service.clone(), 0);
        self.instances.range(from..).map(|(_, i)| i).take_while(move |i| i.service() == service)
    }

    /// A release.
    pub fn release(&self, service: &ServiceName, number: u64) -> Option<&Arc<Release>> {
        self.releases.get(&(service.clone(), number))
    }

    /// The release that a service's instances should be of.
    pub fn goal(&self, service: &ServiceName) -> Option<&Arc<Release>> {
        self.release(service, self.services.get(service)?.goal()?)
    }

    /// Is it of the release that its service moves to, and made since the last restart?
    pub(crate) fn is_new(&self, service: &ServiceRecord, instance: &InstanceRecord) -> bool {
        Some(instance.release) == service.goal() && instance.nonce >= service.restart_nonce
    }

    /// A replacement is under way and everything that it is to bring is healthy: what it replaces
    /// gets no new requests any more, and stands by as long as the new ones are watched.
    pub(crate) fn has_moved(&self, service: &ServiceRecord) -> bool {
        let moves = service.rollout.as_ref().is_some_and(|r| r.paused.is_none() && !r.gated);
        let ready = |r: &&Arc<InstanceRecord>| {
            r.then.is_none() && self.is_new(service, r) && self.phase(r) == Phase::Healthy
        };
        let wanted = self.wanted(service) as usize;
        moves && wanted > 0 && self.instances_of(&service.name).filter(ready).count() >= wanted
    }

    /// Stands by in case what replaced it fails.
    pub(crate) fn stands_by(&self, instance: &InstanceRecord) -> bool {
        let service = self.services.get(instance.service());
        service.is_some_and(|s| self.has_moved(s) && !self.is_new(s, instance))
    }

    /// Where an instance stands, its present health included.
    pub fn phase(&self, instance: &InstanceRecord) -> Phase {
        let unhealthy = self.live.unhealthy_since.contains_key(&instance.id)
            || self.live.late.contains(&instance.id)
            || self.live.broken.contains_key(&instance.id);
        match instance.phase {
            Phase::Healthy | Phase::Starting if unhealthy => Phase::Unhealthy,
            phase => phase,
        }
    }

    /// Applies the records that a step wants written.
    pub fn apply(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Put(Record::App(app)) => self.app = Some(app.clone()),
                Action::Put(Record::Service(service)) => {
                    self.services.insert(service.name.clone(), service.clone());
                }
                Action::Put(Record::Release(release)) => {
                    let key = (release.service.clone(), release.number);
                    self.releases.insert(key, release.clone());
                }
                Action::Put(Record::Instance(instance)) => {
                    self.instances.insert(instance.id.clone(), instance.clone());
                }
                Action::Delete(RecordKey::App) => self.app = None,
                Action::Delete(RecordKey::Service(name)) => {
                    self.services.remove(name);
                }
                Action::Delete(RecordKey::Release(name, number)) => {
                    self.releases.remove(&(name.clone(), *number));
                }
                Action::Delete(RecordKey::Instance(id)) => {
                    self.instances.remove(id);
                }
                _ => {}
            }
        }
    }

    /// Makes the most of records that another run of the machine wrote: its steady moments mean
    /// nothing in this one. What was running for a while counts from now, what waited is due.
    pub fn rebase(&mut self, now: SteadyNanos) {
        for record in self.instances.values_mut() {
            let record = Arc::make_mut(record);
            let began = [&mut record.launched_at, &mut record.healthy_at, &mut record.stop_at];
            began.into_iter().flatten().for_each(|at| *at = now);
            (record.backoff_until, record.drain_until) = (None, None);
        }
        self.live.rebooted = true;
    }

    /// Moves addresses into the pool when it is another than before. Whatever the records say, nothing
    /// runs then: the pool before may be another engine's by now.
    pub(crate) fn readdress(&mut self) {
        let pool = self.pool;
        let mut taken = self.addresses();
        for service in self.services.values_mut().filter(|s| !pool.contains(s.address)) {
            if let Some(address) = crate::address::for_service(pool, &taken) {
                taken.insert(address);
                Arc::make_mut(service).address = address;
            }
        }
        for instance in self.instances.values_mut().filter(|r| !pool.contains(r.address)) {
            if let Some(address) = crate::address::for_instance(pool, &taken) {
                taken.insert(address);
                Arc::make_mut(instance).address = address;
            }
        }
    }

    /// Addresses that somebody holds.
    pub(crate) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        let services = self.services.values().map(|s| s.address);
        let instances = self.instances.values().map(|i| i.address);
        let seen = self.observed.iter().flat_map(|o| o.instances.values());
        services.chain(instances).chain(seen.filter_map(|r| r.address)).collect()
    }
}

/// The records that differ from `before` to `after`, as the actions that write them.
pub(crate) fn difference(before: &State, after: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    match (&before.app, &after.app) {
        (Some(_), None) => actions.push(Action::Delete(RecordKey::App)),
        (old, Some(new)) if old.as_ref() != Some(new) => {
            actions.push(Action::Put(Record::App(new.clone())));
        }
        _ => {}
    }
    let key = |name: &ServiceName| RecordKey::Service(name.clone());
    compare(&before.services, &after.services, Record::Service, key, &mut actions);
    let key = |(name, number): &(ServiceName, u64)| RecordKey::Release(name.clone(), *number);
    compare(&before.releases, &after.releases, Record::Release, key, &mut actions);
    let key = |id: &InstanceId| RecordKey::Instance(id.clone());
    compare(&before.instances, &after.instances, Record::Instance, key, &mut actions);
    actions
}

fn compare<K: Ord, V: PartialEq>(
    before: &BTreeMap<K, Arc<V>>,
    after: &BTreeMap<K, Arc<V>>,
    record: impl Fn(Arc<V>) -> Record,
    name: impl Fn(&K) -> RecordKey,
    actions: &mut Vec<Action>,
) {
    for (key, new) in after {
        let same = before.get(key).is_some_and(|old| Arc::ptr_eq(old, new) || old == new);
        if !same {
            actions.push(Action::Put(record(new.clone())));
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(key)) {
        actions.push(Action::Delete(name(key)));
    }
}
