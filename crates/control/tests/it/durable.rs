//! The driver over a real file: what is answered is there after the engine is gone.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, ManualClock, UnixNanos};
use control::store::{Store, Txn};
use control::{
    Action, Command, Control, ControlError, Embedded, Event, Observation, Reported, ReportedState,
};

use crate::support::{name, pool, service, up, version};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(UnixNanos(1_000_000_000_000_000_000)))
}

/// What an agent would report after these actions.
fn carry_out(seen: &mut Observation, actions: &[Action], clock: &ManualClock) {
    for action in actions {
        match action {
            Action::StartInstance(record) => {
                let reported = Reported {
                    attempt: record.attempt,
                    state: ReportedState::Healthy,
                    detail: String::new(),
                    started_at: Some(clock.now()),
                    address: Some(record.address),
                    port_env: Some(4000),
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

fn settle(control: &Control, seen: &mut Observation, clock: &ManualClock) {
    for _ in 0..50 {
        let handled = control.handle(&Event::Observed(seen.clone())).unwrap();
        carry_out(seen, &handled.actions, clock);
        clock.advance(Duration::from_millis(100));
    }
}

#[test]
fn answers_survive_and_looks_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let clock = clock();
    let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
    let mut seen = Observation::default();
    control.handle(&Event::Observed(seen.clone())).unwrap();
    let handled = control.handle(&Event::Command(up([service("web", 2)]))).unwrap();
    assert_eq!(handled.changed, [name("web")]);
    assert!(!handled.actions.iter().any(|a| matches!(a, Action::Put(_) | Action::Delete(_))));
    carry_out(&mut seen, &handled.actions, &clock);
    settle(&control, &mut seen, &clock);
    control.flush().unwrap();
    let quiet = control.revision();
    for _ in 0..200 {
        control.handle(&Event::Observed(seen.clone())).unwrap();
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(control.revision(), quiet, "observations that change nothing write nothing");
    let id = seen.instances.keys().next().unwrap().clone();
    for n in 0..100 {
        let state = if n % 2 == 0 { ReportedState::Unhealthy } else { ReportedState::Healthy };
        seen.instances.get_mut(&id).unwrap().state = state;
        control.handle(&Event::Observed(seen.clone())).unwrap();
        clock.advance(Duration::from_millis(100));
    }
    assert!(control.revision() <= quiet + 10, "health that flaps writes a storm");
    // Gone without a word, and opened again: the records are the same, and nothing is restarted.
    let before = control.state();
    drop(control);
    let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
    let state = control.state();
    assert_eq!(state.services, before.services);
    assert_eq!(state.releases, before.releases);
    assert_eq!(state.instances, before.instances);
    assert_eq!(state.instances[&id].port_env, Some(4000));
    let handled = control.handle(&Event::Observed(seen.clone())).unwrap();
    let touched = handled
        .actions
        .iter()
        .any(|a| matches!(a, Action::StartInstance(_) | Action::StopInstance { .. }));
    assert!(!touched, "{:?}", handled.actions);
    // Down leaves nothing but the journal.
    let handled = control.handle(&Event::Command(Command::Down)).unwrap();
    carry_out(&mut seen, &handled.actions, &clock);
    settle(&control, &mut seen, &clock);
    drop(control);
    let store = Embedded::open(&path, clock).unwrap();
    assert_eq!(store.range("/apps/").unwrap().entries, []);
}

#[test]
fn events_are_numbered_without_gaps_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let clock = clock();
    for round in 0..3 {
        let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
        control.handle(&Event::Observed(Observation::default())).unwrap();
        let file = version(service("web", 1), &round.to_string());
        control.handle(&Event::Command(up([file]))).unwrap();
        control.flush().unwrap();
    }
    let control = Control::open(&path, clock, 7, pool()).unwrap();
    let events = control.events(0, 1000).unwrap();
    assert!(events.len() >= 3);
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "{events:?}");
    assert_eq!(control.events(1, 1).unwrap()[0].seq, 2);
}

#[test]
fn a_refused_command_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(&dir.path().join("state"), clock(), 7, pool()).unwrap();
    let before = (control.state(), control.revision());
    let scale = Command::Scale { service: name("web"), replicas: 2 };
    let refused = control.handle(&Event::Command(scale)).unwrap_err();
    let ControlError::Refused(problem) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.code, "not-found");
    assert_eq!((control.state(), control.revision()), before);
}

#[test]
fn an_engine_that_was_replaced_may_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let store = Embedded::open(&dir.path().join("state"), clock.clone()).unwrap();
    let old = Control::with_store(Box::new(store.clone()), clock.clone(), 7, pool()).unwrap();
    old.handle(&Event::Observed(Observation::default())).unwrap();
    let _new = Control::with_store(Box::new(store), clock, 7, pool()).unwrap();
    let before = old.state();
    let fenced = old.handle(&Event::Command(up([service("web", 1)]))).unwrap_err();
    assert!(matches!(fenced, ControlError::Fenced), "{fenced:?}");
    assert_eq!(old.state(), before);
}

#[test]
fn a_record_that_does_not_read_back_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let store = Embedded::open(&dir.path().join("state"), clock.clone()).unwrap();
    store.commit(&Txn::new().put("/apps/demo/services/web", "{")).unwrap();
    let Err(error) = Control::with_store(Box::new(store), clock, 7, pool()) else {
        panic!("it loads")
    };
    let text = error.to_string();
    assert!(text.starts_with("`/apps/demo/services/web` in the state file does not read back"));
}

/// Many cycles of kill and reopen in the middle of work: `std::mem::forget` keeps redb from its
/// clean close, and a copy of the file is what a killed engine leaves.
#[test]
fn a_killed_engine_leaves_a_file_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut path = dir.path().join("state-0");
    for round in 1..=10u32 {
        let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
        control.handle(&Event::Observed(Observation::default())).unwrap();
        let file = version(service("web", 1), &round.to_string());
        control.handle(&Event::Command(up([file]))).unwrap();
        let answered = control.state();
        let copy = dir.path().join(format!("state-{round}"));
        std::fs::copy(&path, &copy).unwrap();
        drop(control);
        path = copy;
        let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
        assert_eq!(control.state().releases, answered.releases);
        assert_eq!(control.state().services[&name("web")].last_release, u64::from(round));
    }
}

/// What is on its way when the machine goes down is neither frozen nor forgotten in its next run,
/// whose steady clock begins anew.
#[test]
fn moments_of_an_earlier_run_of_the_machine_hold_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let clock = clock();
    let mut seen = Observation::default();
    {
        let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
        control.handle(&Event::Observed(seen.clone())).unwrap();
        let handled = control.handle(&Event::Command(up([service("web", 1)]))).unwrap();
        carry_out(&mut seen, &handled.actions, &clock);
        settle(&control, &mut seen, &clock);
        // It crashes often, so that its next start is far away.
        for _ in 0..12 {
            let reported = seen.instances.values_mut().next().unwrap();
            reported.state = ReportedState::Exited(control::Exit::default());
            let handled = control.handle(&Event::Observed(seen.clone())).unwrap();
            carry_out(&mut seen, &handled.actions, &clock);
            clock.advance(Duration::from_secs(1));
        }
        assert!(control.state().instances.values().any(|r| r.backoff_until.is_some()));
    }
    clock.reboot();
    clock.set(UnixNanos(5));
    seen = Observation::default();
    let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
    settle(&control, &mut seen, &clock);
    let state = control.state();
    let record = state.instances.values().next().unwrap();
    assert_eq!(record.phase, control::Phase::Healthy, "{record:?}");
    // The same run of the machine goes on where it was.
    drop(control);
    let control = Control::open(&path, clock, 7, pool()).unwrap();
    assert_eq!(control.state().instances, state.instances);
}

#[test]
fn in_another_pool_everything_has_another_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let clock = clock();
    let control = Control::open(&path, clock.clone(), 7, pool()).unwrap();
    let mut seen = Observation::default();
    control.handle(&Event::Observed(seen.clone())).unwrap();
    let handled = control.handle(&Event::Command(up([service("web", 2)]))).unwrap();
    carry_out(&mut seen, &handled.actions, &clock);
    settle(&control, &mut seen, &clock);
    control.flush().unwrap();
    drop(control);
    // The power failed while all ran, and somebody else was faster with the old one.
    clock.reboot();
    let other = "127.65.0.0/24".parse().unwrap();
    let control = Control::open(&path, clock.clone(), 7, other).unwrap();
    let mut seen = Observation::default();
    settle(&control, &mut seen, &clock);
    let state = control.state();
    let addresses = seen.instances.values().filter_map(|seen| seen.address);
    let addresses: Vec<_> = addresses.chain(state.services.values().map(|s| s.address)).collect();
    assert_eq!(addresses.len(), 3);
    assert!(addresses.iter().all(|address| other.contains(*address)), "{addresses:?}");
}
