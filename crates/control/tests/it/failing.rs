//! A disk that refuses now and then: what control says is what the store has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Clock, ManualClock, UnixNanos};
use control::store::{Committed, Entry, LeaseId, Listing, Store, StoreError, Txn, Watch};
use control::{
    Action, Command, Control, ControlError, Embedded, Event, Observation, Reported, ReportedState,
};

use crate::support::{Chance, name, pool, service, up, version};

/// What the disk does with commits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Temper {
    Fine,
    /// Every commit fails, and some are in the file all the same.
    Failing,
}

/// A store on a disk with a temper.
struct Moody {
    store: Embedded,
    temper: Arc<Mutex<Temper>>,
    chance: Mutex<Chance>,
    failures: Arc<AtomicU64>,
}

impl Store for Moody {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key)
    }

    fn range(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.store.range(prefix)
    }

    fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        if *self.temper.lock().unwrap() == Temper::Fine {
            return self.store.commit(txn);
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.chance.lock().unwrap().one_in(2) {
            self.store.commit(txn)?;
        }
        Err(StoreError::Disk { path: "state".into(), cause: "it is full".to_owned() })
    }

    fn watch(&self, prefix: &str, from_revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        self.store.watch(prefix, from_revision)
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease)
    }
}

/// An agent that does at once what it is asked.
fn carry_out(seen: &mut Observation, actions: &[Action], now: UnixNanos) {
    for action in actions {
        match action {
            Action::StartInstance(record) => {
                let reported = Reported {
                    attempt: record.attempt,
                    state: ReportedState::Healthy,
                    detail: String::new(),
                    started_at: Some(now),
                    address: Some(record.address),
                    port_env: None,
                    post_start: None,
                    warnings: Vec::new(),
                };
                seen.instances.insert(record.id.clone(), reported);
            }
            Action::StopInstance { id, .. } | Action::RemoveInstance { id } => {
                seen.instances.remove(id);
            }
            Action::Route(plan) => seen.edge.applied_version = plan.version,
            _ => {}
        }
    }
}

fn command(chance: &mut Chance) -> Command {
    match chance.below(6) {
        0 => Command::Down,
        1 => Command::Scale { service: name("web"), replicas: chance.below(4).try_into().unwrap() },
        2 => Command::Restart { services: Vec::new() },
        3 => Command::Stop { services: vec![name("db")] },
        _ => {
            let of = chance.below(4).to_string();
            up([version(service("web", 2), &of), service("db", 1)])
        }
    }
}

fn play(seed: u64) -> u64 {
    // Memory where there is some: nothing here is about what a power loss leaves.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let clock = Arc::new(ManualClock::new(UnixNanos(1_000_000_000_000_000_000)));
    let store = Embedded::open(&dir.path().join("state"), clock.clone()).unwrap();
    let (temper, failures) = (Arc::new(Mutex::new(Temper::Fine)), Arc::default());
    let moody = Moody {
        store: store.clone(),
        temper: temper.clone(),
        chance: Mutex::new(Chance(seed ^ 0xd15c)),
        failures: Arc::clone(&failures),
    };
    let control = Control::with_store(Box::new(moody), clock.clone(), 7, pool()).unwrap();
    let mut chance = Chance(seed);
    let mut seen = Observation::default();
    for _ in 0..120 {
        if chance.one_in(8) {
            let other = *chance.pick(&[Temper::Fine, Temper::Fine, Temper::Failing]);
            *temper.lock().unwrap() = other;
        }
        if chance.one_in(10)
            && let Some(reported) = seen.instances.values_mut().next()
        {
            reported.state = ReportedState::Exited(control::Exit::default());
        }
        let event = match chance.one_in(4) {
            true => Event::Command(command(&mut chance)),
            false => Event::Observed(seen.clone()),
        };
        let before = control.state();
        match control.handle(&event) {
            Ok(handled) => carry_out(&mut seen, &handled.actions, clock.now()),
            Err(ControlError::Refused(_)) => {}
            Err(ControlError::Store(StoreError::Disk { .. })) => {
                assert_eq!(control.state(), before, "seed {seed}: nothing has changed");
            }
            Err(other) => panic!("seed {seed}: {other:?}"),
        }
        clock.advance(chance.millis(10, 900));
    }
    *temper.lock().unwrap() = Temper::Fine;
    for _ in 0..50 {
        let handled = control.handle(&Event::Observed(seen.clone())).unwrap();
        carry_out(&mut seen, &handled.actions, clock.now());
        clock.advance(Duration::from_millis(500));
    }
    control.flush().unwrap();
    let (state, events) = (control.state(), control.events(1, usize::MAX).unwrap());
    // Whoever opens the file next finds what this one said, and every event once.
    let next = Control::with_store(Box::new(store), clock, 7, pool()).unwrap();
    let found = next.state();
    assert_eq!(found.app, state.app, "seed {seed}");
    assert_eq!(found.services, state.services, "seed {seed}");
    assert_eq!(found.releases, state.releases, "seed {seed}");
    assert_eq!(found.instances, state.instances, "seed {seed}");
    assert_eq!(next.events(1, usize::MAX).unwrap(), events, "seed {seed}");
    failures.load(Ordering::Relaxed)
}

#[test]
fn a_disk_that_refuses_loses_nothing_and_leaves_nothing() {
    let failures: u64 = (0..12).map(play).sum();
    assert!(failures > 60, "the disk hardly fails: {failures}");
}
