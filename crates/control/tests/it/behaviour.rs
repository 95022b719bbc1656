//! Behaviour, one situation at a time.

use std::time::Duration;

use control::{Command, Event, Exit, Health, Intent, ReleaseState, ReportedState};
use spec::model::{FailureAction, Restart, UpdateConfig, UpdateOrder};

use crate::rig::Rig;
use crate::support::{id, name, service, up, version};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn first_up_starts_all_at_once_and_serves() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask(up([service("web", 2)])), ["start web.1#1 r1", "start web.2#1 r1"]);
    assert_eq!(rig.health("web"), (Health::Starting, "web.1 is being started".to_owned()));
    assert_eq!(rig.plan.services[&name("web")].why, "web.1 is being started");
    rig.settle();
    assert_eq!(rig.health("web"), (Health::Healthy, String::new()));
    assert_eq!(rig.routed("web"), "web.1 web.2");
    assert_eq!(rig.release("web"), Some(1));
    let service = &rig.state.services[&name("web")];
    assert_eq!(service.address.to_string(), "127.64.0.1");
    let instance = &rig.state.instances[&id("web.2")];
    assert_eq!(instance.address.to_string(), "127.64.0.129");
    assert_eq!(rig.plan.callers[&instance.address], name("web"));
}

#[test]
fn the_same_file_again_changes_nothing() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    let before = rig.state.clone();
    assert!(rig.up([service("web", 2)]).is_empty());
    assert_eq!(rig.state.services, before.services);
    assert_eq!(rig.state.releases, before.releases);
}

#[test]
fn replicas_alone_are_a_scale() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    assert_eq!(rig.up([service("web", 3)]), ["start web.2#1 r1", "start web.3#1 r1"]);
    assert_eq!(rig.release("web"), Some(1));
    // A scale by hand holds while the file says the same, and gives way when it says another.
    rig.ask(Command::Scale { service: name("web"), replicas: 2 });
    rig.settle();
    assert!(rig.up([service("web", 3)]).is_empty());
    assert_eq!(rig.up([service("web", 4)]), ["start web.3#1 r1", "start web.4#1 r1"]);
}

#[test]
fn a_redeploy_goes_one_by_one_beside_the_old() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    rig.eager = false;
    assert_eq!(rig.ask(up([version(service("web", 2), "b")])), ["start web.3#1 r2"]);
    assert!(rig.look().is_empty());
    assert_eq!(rig.health("web"), (Health::Updating, "release 2: 0 of 2 healthy".to_owned()));
    assert_eq!(rig.routed("web"), "web.1 web.2");
    // Healthy: it gets traffic, and the old one with the highest slot drains.
    rig.set("web.3", ReportedState::Healthy);
    rig.edge_follows = false;
    assert!(rig.look().is_empty());
    assert_eq!(rig.routed("web"), "web.1 (web.2) web.3");
    // Not stopped before the edge has followed and answered what it had.
    assert!(rig.look().is_empty());
    rig.seen.edge.applied_version = rig.plan.version;
    rig.seen.edge.inflight.insert(id("web.2"), 1);
    assert!(rig.look().is_empty());
    rig.seen.edge.inflight.clear();
    assert_eq!(rig.look(), ["stop web.2 SIGTERM 10s"]);
    rig.edge_follows = true;
    assert_eq!(rig.look(), ["remove web.2"]);
    assert_eq!(rig.look(), ["start web.2#1 r2"], "numbers stay small");
    rig.set("web.2", ReportedState::Healthy);
    rig.settle();
    assert_eq!(rig.routed("web"), "web.2 web.3");
    assert_eq!(rig.release("web"), Some(2));
    assert_eq!(rig.word("web"), Health::Healthy);
    let state = |n| rig.state.release(&name("web"), n).unwrap().state;
    assert_eq!((state(1), state(2)), (ReleaseState::Old, ReleaseState::Serving));
    assert_eq!(rig.state.release(&name("web"), 2).unwrap().change, "command");
}

#[test]
fn the_drain_deadline_ends_long_requests() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    rig.ask(up([version(service("web", 1), "b")]));
    rig.seen.edge.inflight.insert(id("web.1"), 3);
    assert!(rig.settle().is_empty());
    assert_eq!(rig.wake, Some(rig.now.plus(10 * SECOND)));
    rig.wait(10 * SECOND);
    assert_eq!(rig.hand(&Event::Tick), ["stop web.1 SIGTERM 10s"]);
}

#[test]
fn parallelism_delay_and_monitor_are_kept() {
    let mut file = service("web", 4);
    file.update.parallelism = 2;
    file.update.monitor = 5 * SECOND;
    file.update.delay = 3 * SECOND;
    let mut rig = Rig::new();
    rig.up([file.clone()]);
    assert_eq!(rig.ask(up([version(file, "b")])), ["start web.5#1 r2", "start web.6#1 r2"]);
    assert!(rig.settle().is_empty());
    assert_eq!(rig.routed("web"), "web.1 web.2 web.3 web.4 web.5 web.6");
    assert_eq!(rig.wake, Some(rig.now.plus(5 * SECOND)), "the watched time");
    rig.wait(5 * SECOND);
    let said = rig.settle();
    assert_eq!(said[..2], ["stop web.3 SIGTERM 10s", "stop web.4 SIGTERM 10s"]);
    assert_eq!(rig.wake, Some(rig.now.plus(3 * SECOND)), "the delay between batches");
    rig.wait(3 * SECOND);
    assert_eq!(rig.hand(&Event::Tick), ["start web.3#1 r2", "start web.4#1 r2"]);
}

#[test]
fn stop_first_makes_room_before_it_starts() {
    let mut file = service("db", 2);
    file.update.order = UpdateOrder::StopFirst;
    let mut rig = Rig::new();
    rig.up([file.clone()]);
    let said = rig.up([version(file, "b")]);
    let wanted = [
        "stop db.2 SIGTERM 10s",
        "remove db.2",
        "start db.2#1 r2",
        "stop db.1 SIGTERM 10s",
        "remove db.1",
        "start db.1#1 r2",
    ];
    assert_eq!(said, wanted);
}

#[test]
fn a_release_that_crashes_leaves_the_old_one_serving() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    rig.eager = false;
    rig.ask(up([version(service("web", 2), "broken")]));
    let said = rig.exit("web.3", 1);
    assert_eq!(said, ["remove web.3"]);
    rig.settle();
    assert_eq!(rig.routed("web"), "web.1 web.2");
    assert_eq!(rig.release("web"), Some(1));
    let failed = rig.state.release(&name("web"), 2).unwrap();
    assert_eq!(failed.state, ReleaseState::Failed);
    assert_eq!(failed.why, "web.3 exited with code 1\n  last words");
    let (word, why) = rig.health("web");
    assert_eq!(word, Health::Degraded);
    assert!(
        why.starts_with("release 2 did not make it, release 1 serves on: web.3 exited"),
        "{why}"
    );
    // The same file again is another try, and a file that works clears it.
    rig.eager = true;
    rig.up([version(service("web", 2), "broken")]);
    assert_eq!((rig.release("web"), rig.word("web")), (Some(3), Health::Healthy));
}

#[test]
fn a_release_that_is_not_healthy_in_time_fails() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    rig.eager = false;
    rig.ask(up([version(service("web", 1), "slow")]));
    rig.settle();
    assert_eq!(rig.wake, Some(rig.now.plus(120 * SECOND)));
    rig.wait(120 * SECOND);
    rig.hand(&Event::Tick);
    let why = &rig.state.release(&name("web"), 2).unwrap().why;
    assert_eq!(why, "web.2 was not healthy within 2 min");
    rig.settle();
    assert_eq!(rig.routed("web"), "web.1");
    assert!(!rig.has(&id("web.2")));
}

#[test]
fn a_server_that_just_ends_is_a_failure() {
    let mut file = service("web", 1);
    file.restart = Restart::No;
    let mut rig = Rig::new();
    rig.up([file.clone()]);
    rig.eager = false;
    rig.ask(up([version(file, "b")]));
    rig.exit("web.2", 0);
    rig.settle();
    assert_eq!((rig.release("web"), rig.routed("web")), (Some(1), "web.1".to_owned()));
}

#[test]
fn failures_in_a_later_batch_return_to_the_old_release() {
    let mut rig = Rig::new();
    rig.up([service("web", 3)]);
    rig.ask(up([version(service("web", 3), "b")]));
    // The first new one takes over from web.3; the second crashes.
    while !rig.look().contains(&"start web.3#1 r2".to_owned()) {}
    rig.exit("web.3", 7);
    rig.settle();
    assert_eq!(rig.release("web"), Some(1));
    assert_eq!(rig.state.instances.len(), 3);
    assert!(rig.state.instances.values().all(|r| r.release == 1));
    assert_eq!(rig.routed("web").split(' ').count(), 3);
}

#[test]
fn pause_and_continue_do_as_they_say() {
    for (action, word) in
        [(FailureAction::Pause, Health::Degraded), (FailureAction::Continue, Health::Updating)]
    {
        let mut file = service("web", 2);
        file.update.failure_action = action;
        let mut rig = Rig::new();
        rig.up([file.clone()]);
        rig.eager = false;
        rig.ask(up([version(file, "b")]));
        rig.exit("web.3", 1);
        rig.settle();
        assert_eq!(rig.word("web"), word, "{action:?}: {}", rig.health("web").1);
        let pauses = rig.health("web").1.starts_with("the update to release 2 is paused: web.3");
        assert_eq!(pauses, action == FailureAction::Pause);
        assert!(rig.routed("web").starts_with("web.1"), "the old one goes on");
    }
}

#[test]
fn a_newer_up_overtakes_a_rollout() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    rig.eager = false;
    rig.ask(up([version(service("web", 2), "b")]));
    rig.eager = true;
    rig.up([version(service("web", 2), "c")]);
    assert_eq!(rig.release("web"), Some(3));
    assert!(rig.state.instances.values().all(|r| r.release == 3));
    assert_eq!(rig.state.release(&name("web"), 2).unwrap().state, ReleaseState::Old);
    // Back to what serves while another is on its way is no new release.
    rig.eager = false;
    rig.ask(up([version(service("web", 2), "d")]));
    rig.eager = true;
    rig.up([version(service("web", 2), "c")]);
    assert_eq!((rig.release("web"), rig.word("web")), (Some(3), Health::Healthy));
    assert_eq!(rig.state.services[&name("web")].last_release, 4);
}

#[test]
fn rollback_goes_to_the_newest_that_served() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    rig.up([version(service("web", 1), "b")]);
    rig.ask(Command::Rollback { service: name("web"), release: None });
    rig.settle();
    assert_eq!(rig.release("web"), Some(1));
    let none = Command::Rollback { service: name("web"), release: None };
    assert!(rig.refuse(&none).contains("no earlier release to go back to"));
    let same = Command::Rollback { service: name("web"), release: Some(1) };
    assert!(rig.refuse(&same).contains("runs release 1 already"));
    let missing = Command::Rollback { service: name("web"), release: Some(9) };
    assert!(rig.refuse(&missing).contains("no release 9"));
    // Forward again, by number; then by the file, which is a new release.
    rig.ask(Command::Rollback { service: name("web"), release: Some(2) });
    rig.settle();
    assert_eq!(rig.release("web"), Some(2));
    rig.up([service("web", 1)]);
    assert_eq!(rig.release("web"), Some(3));
}

#[test]
fn restart_replaces_every_instance_within_the_release() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    rig.ask(Command::Restart { services: vec![name("web")] });
    assert_eq!(rig.word("web"), Health::Updating);
    let said = rig.settle();
    assert_eq!(said.iter().filter(|s| s.starts_with("stop")).count(), 2, "{said:?}");
    assert_eq!((rig.release("web"), rig.word("web")), (Some(1), Health::Healthy));
    assert_eq!(rig.routed("web").split(' ').count(), 2);
    // One that does not come back leaves the others alone.
    rig.eager = false;
    rig.ask(Command::Restart { services: vec![name("web")] });
    let new: Vec<_> =
        rig.state.instances.values().filter(|r| r.nonce == 2).map(|r| r.id.to_string()).collect();
    rig.exit(&new[0], 1);
    rig.settle();
    assert_eq!(rig.routed("web").split(' ').count(), 2);
    assert!(rig.events.iter().any(|e| e.starts_with("restart-failed")), "{:?}", rig.events);
}

#[test]
fn scaling_down_drains_the_highest_slots_but_unhealthy_ones_first() {
    let mut rig = Rig::new();
    rig.up([service("web", 4)]);
    rig.set("web.2", ReportedState::Unhealthy);
    rig.look();
    rig.ask(Command::Scale { service: name("web"), replicas: 2 });
    assert_eq!(rig.routed("web"), "web.1 (web.2) web.3 (web.4)");
    rig.settle();
    assert_eq!(rig.routed("web"), "web.1 web.3");
    rig.ask(Command::Scale { service: name("web"), replicas: 0 });
    rig.settle();
    assert_eq!(rig.health("web"), (Health::Stopped, "scaled to zero".to_owned()));
    rig.ask(Command::Scale { service: name("web"), replicas: 1 });
    assert_eq!(rig.settle(), Vec::<String>::new());
    assert_eq!(rig.word("web"), Health::Healthy);
    let much = Command::Scale { service: name("web"), replicas: 127 + 1 };
    assert!(rig.refuse(&much).contains("not enough addresses"));
    assert!(rig.refuse(&Command::Scale { service: name("web"), replicas: 1001 }).contains("1001"));
}

#[test]
fn restart_policies() {
    // Policy, exit code, restarted?
    let table = [
        (Restart::No, 0, false),
        (Restart::No, 1, false),
        (Restart::Always, 0, true),
        (Restart::Always, 1, true),
        (Restart::UnlessStopped, 0, true),
        (Restart::OnFailure { max_retries: None }, 0, false),
        (Restart::OnFailure { max_retries: None }, 1, true),
        (Restart::OnFailure { max_retries: Some(0) }, 1, false),
    ];
    for (policy, code, restarted) in table {
        let mut file = service("job", 1);
        file.restart = policy;
        let mut rig = Rig::new();
        rig.up([file]);
        rig.exit("job.1", code);
        rig.wait(SECOND);
        let said = rig.hand(&Event::Tick);
        assert_eq!(said == ["start job.1#2 r1"], restarted, "{policy:?} {code} {said:?}");
        if !restarted {
            let word = if code == 0 { Health::Completed } else { Health::Failed };
            assert_eq!(rig.word("job"), word, "{policy:?} {code}");
        }
    }
}

#[test]
fn retries_end_with_a_reason_and_up_tries_again() {
    let mut file = service("job", 1);
    file.restart = Restart::OnFailure { max_retries: Some(2) };
    let mut rig = Rig::new();
    rig.eager = false;
    rig.up([file.clone()]);
    for _ in 0..2 {
        rig.exit("job.1", 3);
        rig.wait(SECOND);
        rig.hand(&Event::Tick);
    }
    rig.exit("job.1", 3);
    let why = "job.1 exited with code 3 and was restarted 2 times, as often as `restart` allows";
    assert_eq!(rig.health("job"), (Health::Failed, why.to_owned()));
    assert!(rig.events.last().unwrap().starts_with("service-failed"), "{:?}", rig.events);
    assert_eq!(rig.up([file]), ["start job.1#4 r1"]);
    assert_eq!(rig.state.instances[&id("job.1")].attempt, 4);
}

#[test]
fn a_pace_that_the_file_says_is_kept() {
    let mut file = service("job", 1);
    file.restart = Restart::OnFailure { max_retries: Some(2) };
    file.restart_pace.delay = Some(5 * SECOND);
    file.restart_pace.window = Some(60 * SECOND);
    let mut rig = Rig::new();
    rig.up([file]);
    let crash_after = |rig: &mut Rig, lasted: u32| {
        rig.wait(lasted * SECOND);
        rig.exit("job.1", 3);
        let wait = rig.wake.map(|at| at.since(rig.now));
        rig.wait(5 * SECOND);
        rig.hand(&Event::Tick);
        wait
    };
    // One that lasted for the window is a success, and the count begins anew.
    for lasted in [1, 60, 59, 75, 2] {
        assert_eq!(crash_after(&mut rig, lasted), Some(5 * SECOND), "{lasted}");
    }
    assert_eq!(crash_after(&mut rig, 3), None);
    assert_eq!(rig.word("job"), Health::Failed);
    assert_eq!(rig.state.instances[&id("job.1")].restarts, 5);
}

#[test]
fn a_rollback_goes_as_rollback_config_says() {
    let mut file = service("web", 2);
    let quick = UpdateConfig { parallelism: 0, monitor: Duration::ZERO, ..file.update.clone() };
    file.rollback = Some(UpdateConfig { failure_action: FailureAction::Pause, ..quick });
    let mut rig = Rig::new();
    rig.up([file.clone()]);
    rig.up([version(file.clone(), "b")]);
    rig.eager = false;
    let said = rig.ask(Command::Rollback { service: name("web"), release: None });
    assert_eq!(said.len(), 2, "both at once: {said:?}");
    let first = said[0].split(['#', ' ']).nth(1).unwrap().to_owned();
    rig.exit(&first, 1);
    rig.settle();
    assert!(rig.health("web").1.contains("is paused"), "{:?}", rig.health("web"));
}

#[test]
fn a_global_service_has_one_instance_here() {
    let mut file = service("web", 1);
    file.global = true;
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    rig.ask(Command::Scale { service: name("web"), replicas: 3 });
    rig.settle();
    rig.up([file]);
    assert_eq!(rig.state.services[&name("web")].desired_replicas, 1);
    let scale = Command::Scale { service: name("web"), replicas: 2 };
    assert!(rig.refuse(&scale).contains("one instance runs on every node"));
}

#[test]
fn back_off_doubles_and_a_healthy_run_resets_it() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    let mut waits = Vec::new();
    for _ in 0..5 {
        rig.exit("web.1", 1);
        let wait = rig.wake.unwrap().since(rig.now);
        waits.push(wait.as_millis());
        rig.wait(wait);
        rig.hand(&Event::Tick);
        rig.look();
    }
    for (wait, nominal) in waits.iter().zip([100, 200, 400, 800, 1600]) {
        assert!((nominal * 8 / 10..=nominal * 12 / 10).contains(wait), "{waits:?}");
    }
    assert_eq!(rig.state.instances[&id("web.1")].restarts, 5);
    rig.wait(10 * SECOND);
    rig.exit("web.1", 1);
    assert!(rig.wake.unwrap().since(rig.now) <= Duration::from_millis(120));
    let record = &rig.state.instances[&id("web.1")];
    assert_eq!((record.failures, record.restarts), (1, 6));
    assert_eq!(rig.health("web").0, Health::Failed);
    assert_eq!(rig.health("web").1, "none is healthy: web.1 exited with code 1; starts again");
}

#[test]
fn unhealthy_ones_get_nothing_while_others_are_healthy_and_are_restarted() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    rig.set("web.1", ReportedState::Unhealthy);
    rig.look();
    assert_eq!(rig.routed("web"), "(web.1) web.2");
    assert_eq!(rig.health("web").1, "1 of 2 healthy: web.1 fails its health check");
    // All of them: rather a wrong answer than none.
    rig.set("web.2", ReportedState::Unhealthy);
    rig.look();
    assert_eq!(rig.routed("web"), "web.1 web.2");
    rig.set("web.2", ReportedState::Healthy);
    rig.look();
    rig.wait(30 * SECOND);
    assert_eq!(rig.look(), ["stop web.1 SIGTERM 10s"]);
    rig.look();
    rig.wait(SECOND);
    assert_eq!(rig.hand(&Event::Tick), ["start web.1#2 r1"]);
    rig.settle();
    assert_eq!(rig.word("web"), Health::Healthy);
    // Again and again is ever more rarely, until it has been well for long.
    let mut waits = Vec::new();
    for _ in 0..6 {
        rig.wait(60 * SECOND);
        rig.set("web.1", ReportedState::Unhealthy);
        rig.look();
        rig.wait(30 * SECOND);
        rig.settle();
        waits.push(rig.wake.unwrap().since(rig.now));
        rig.wait(30 * SECOND);
        rig.settle();
    }
    assert!(waits.is_sorted() && waits[5] > 4 * SECOND, "{waits:?}");
    rig.wait(600 * SECOND);
    rig.set("web.1", ReportedState::Unhealthy);
    rig.look();
    rig.wait(30 * SECOND);
    rig.settle();
    assert!(rig.wake.unwrap().since(rig.now) < SECOND);
    // Not with `restart: no`.
    let mut file = service("once", 1);
    file.restart = Restart::No;
    let mut rig = Rig::new();
    rig.up([file]);
    rig.set("once.1", ReportedState::Unhealthy);
    rig.look();
    rig.wait(3600 * SECOND);
    assert!(rig.hand(&Event::Tick).is_empty());
}

#[test]
fn stopping_does_not_wait_long_for_open_connections() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    rig.seen.edge.inflight.insert(id("web.1"), 1);
    rig.ask(Command::Stop { services: vec![] });
    assert!(rig.settle().is_empty());
    assert_eq!(rig.wake, Some(rig.now.plus(SECOND)));
    rig.wait(SECOND);
    assert_eq!(rig.hand(&Event::Tick), ["stop web.1 SIGTERM 10s"]);
    rig.settle();
    assert_eq!(rig.health("web"), (Health::Stopped, "stopped by hand".to_owned()));
    // It stays so across a restart of the engine, until it is started.
    rig.restart_engine();
    assert!(rig.settle().is_empty());
    assert_eq!(rig.state.services[&name("web")].intent, Intent::Stop);
    assert_eq!(rig.ask(Command::Start { services: vec![] }), ["start web.1#1 r1"]);
}

#[test]
fn services_that_the_file_lacks_go() {
    let mut rig = Rig::new();
    rig.up([service("web", 1), service("old", 1)]);
    let said = rig.up([service("web", 1)]);
    assert_eq!(said, ["stop old.1 SIGTERM 10s", "remove old.1"]);
    assert!(!rig.state.services.contains_key("old"));
    // Its address is free again.
    rig.up([service("web", 1), service("new", 1)]);
    assert_eq!(rig.state.services["new"].address.to_string(), "127.64.0.1");
    // Named services leave the others as they are.
    let Command::Up { app, .. } = up([version(service("web", 1), "b")]) else { unreachable!() };
    rig.ask(Command::Up {
        app,
        services: vec![name("web")],
        recreate: false,
        prepared: Default::default(),
    });
    rig.settle();
    assert!(rig.state.services.contains_key("new"));
    assert_eq!(rig.release("web"), Some(2));
}

#[test]
fn a_new_engine_adopts_what_runs_and_restarts_what_does_not() {
    let mut rig = Rig::new();
    let mut quiet = service("quiet", 1);
    quiet.restart = Restart::No;
    rig.up([service("web", 3), quiet]);
    rig.restart_engine();
    // Meanwhile one has ended, one is gone without a word, and somebody else's is there.
    rig.set(
        "web.2",
        ReportedState::Exited(Exit { at: rig.wall, code: Some(1), ..Exit::default() }),
    );
    rig.seen.instances.remove(&id("web.3"));
    let stranger = rig.seen.instances[&id("web.1")].clone();
    rig.seen.instances.insert(id("ghost.1"), stranger);
    assert_eq!(rig.look(), ["stop ghost.1 SIGTERM 10s"]);
    assert_eq!(rig.routed("web"), "web.1");
    assert_eq!(rig.word("quiet"), Health::Healthy);
    assert!(
        rig.events.iter().any(|e| e == "instances-adopted: found running and kept: quiet.1, web.1")
    );
    rig.wait(SECOND);
    let said = rig.look();
    assert_eq!(said, ["remove ghost.1", "start web.2#2 r1", "start web.3#2 r1"]);
    rig.settle();
    assert_eq!(rig.word("web"), Health::Healthy);
}

#[test]
fn a_start_or_stop_that_got_lost_in_a_crash_is_asked_for_again() {
    let mut rig = Rig::new();
    rig.ask(up([service("web", 1)]));
    rig.seen.instances.clear();
    rig.restart_engine();
    assert_eq!(rig.look(), ["start web.1#1 r1"]);
    rig.settle();
    rig.obedient = false;
    rig.ask(Command::Stop { services: vec![] });
    assert_eq!(rig.look(), ["stop web.1 SIGTERM 10s"]);
    rig.wait(4 * SECOND);
    rig.restart_engine();
    assert_eq!(rig.look(), ["stop web.1 SIGTERM 6s"], "what is left of the grace");
    assert!(rig.look().is_empty(), "but not at every look");
}

#[test]
fn nothing_is_touched_before_the_first_look() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    rig.restart_engine();
    assert!(rig.hand(&Event::Tick).is_empty());
    assert!(rig.ask(up([version(service("web", 1), "b")])).is_empty());
    assert_eq!(rig.look(), ["start web.2#1 r2"]);
}

#[test]
fn commands_that_cannot_be_are_refused_and_change_nothing() {
    let mut rig = Rig::new();
    let unknown = Command::Stop { services: vec![name("web")] };
    assert!(rig.refuse(&unknown).starts_with("[not-found]: there is no service `web`"));
    rig.up([service("web", 1)]);
    let Command::Up { mut app, .. } = up([service("web", 1)]) else { unreachable!() };
    app.name = "other".to_owned();
    let other =
        Command::Up { app, services: vec![], recreate: false, prepared: Default::default() };
    assert!(rig.refuse(&other).contains("this engine runs `demo`"));
}

#[test]
fn what_was_prepared_makes_a_release_too() {
    let mut rig = Rig::new();
    let with = |layer: &str| {
        let Command::Up { app, services, recreate, .. } = up([service("web", 1)]) else {
            unreachable!()
        };
        let prepared = [(name("web"), serde_json::json!({ "layer": layer }))].into();
        Command::Up { app, services, recreate, prepared }
    };
    rig.ask(with("a"));
    rig.settle();
    rig.ask(with("a"));
    assert_eq!(rig.state.services[&name("web")].last_release, 1);
    rig.ask(with("b"));
    let release = rig.state.release(&name("web"), 2).unwrap();
    assert_eq!(release.change, "contents");
    assert_eq!(release.prepared["layer"], "b");
}

#[test]
fn what_holds_at_once_is_no_release() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    let mut file = service("web", 1);
    file.update.parallelism = 3;
    assert!(rig.up([file]).is_empty());
    assert_eq!(rig.release("web"), Some(1));
    assert_eq!(rig.state.services[&name("web")].definition.update.parallelism, 3);
    assert!(rig.events.contains(&"service-changed: web: update_config".to_owned()));
}

#[test]
fn old_releases_are_forgotten_in_time() {
    let mut rig = Rig::new();
    for n in 0..40 {
        rig.up([version(service("web", 1), &n.to_string())]);
    }
    let numbers: Vec<_> = rig.state.releases.keys().map(|(_, n)| *n).collect();
    assert!(numbers.len() <= 23 && numbers.contains(&40), "{numbers:?}");
}

#[test]
fn health_that_flaps_does_not_flood_the_journal() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    let before = rig.events.len();
    for n in 0..200 {
        let bad = n % 2 == 0;
        rig.set("web.1", if bad { ReportedState::Unhealthy } else { ReportedState::Healthy });
        rig.look();
        rig.wait(Duration::from_millis(500));
    }
    let told = &rig.events[before..];
    assert!((12..=24).contains(&told.len()), "{}", told.len());
    assert!(told.iter().any(|e| e.contains("more changes were not noted")), "{told:?}");
}

#[test]
fn releases_have_a_word() {
    let mut rig = Rig::new();
    rig.up([service("web", 2)]);
    rig.eager = false;
    rig.ask(up([version(service("web", 2), "b")]));
    let words = |rig: &Rig| -> Vec<String> {
        let of = control::view::releases(&rig.state, &name("web"));
        of.iter().map(|(r, word)| format!("{} {word}", r.number)).collect()
    };
    assert_eq!(words(&rig), ["2 arriving", "1 serving"]);
    rig.exit("web.3", 1);
    rig.settle();
    assert_eq!(words(&rig), ["2 failed", "1 serving"]);
    rig.eager = true;
    rig.up([version(service("web", 2), "c")]);
    assert_eq!(words(&rig), ["3 serving", "2 failed", "1 old"]);
}

#[test]
fn a_slot_that_a_stranger_holds_is_not_used() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    let ghost = rig.seen.instances[&id("web.1")].clone();
    rig.ask(Command::Down);
    rig.settle();
    rig.obedient = false;
    rig.seen.instances.insert(id("web.1"), ghost);
    assert_eq!(rig.look(), ["stop web.1 SIGTERM 10s"]);
    assert_eq!(rig.ask(up([service("web", 1)])), ["start web.2#1 r1"]);
    let address = rig.state.instances[&id("web.2")].address;
    assert_eq!(address.to_string(), "127.64.0.129", "the stranger has the first one");
}

#[test]
fn an_earlier_life_ends_before_the_next_begins() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    // The agent loses sight of it, and finds it again.
    let life = rig.seen.instances.remove(&id("web.1")).unwrap();
    rig.look();
    rig.obedient = false;
    rig.seen.instances.insert(id("web.1"), life);
    assert_eq!(rig.look(), ["stop web.1 SIGTERM 10s"]);
    rig.wait(SECOND);
    assert!(rig.look().is_empty(), "the first attempt still runs");
    rig.exit("web.1", 0);
    assert_eq!(rig.seen.instances[&id("web.1")].attempt, 2, "started by the exit");
}

#[test]
fn a_paused_rollout_goes_on_when_the_same_file_comes_again() {
    let mut file = service("web", 2);
    file.update.failure_action = FailureAction::Pause;
    let mut rig = Rig::new();
    rig.up([file.clone()]);
    rig.eager = false;
    rig.ask(up([version(file.clone(), "b")]));
    rig.exit("web.3", 1);
    rig.settle();
    rig.wait(SECOND);
    rig.settle();
    assert_eq!(rig.word("web"), Health::Degraded);
    // Still not healthy: nothing old may go for it.
    rig.ask(up([version(file.clone(), "b")]));
    rig.settle();
    assert_eq!((rig.word("web"), rig.routed("web")), (Health::Updating, "web.1 web.2".to_owned()));
    rig.eager = true;
    rig.set("web.3", ReportedState::Healthy);
    rig.settle();
    assert_eq!((rig.release("web"), rig.word("web")), (Some(2), Health::Healthy));
}

#[test]
fn a_file_that_becomes_stricter_ends_what_it_tolerated() {
    let mut file = service("web", 3);
    file.update.failure_action = FailureAction::Continue;
    let mut rig = Rig::new();
    rig.up([file.clone()]);
    rig.eager = false;
    rig.ask(up([version(file.clone(), "b")]));
    rig.exit("web.4", 1);
    file.update.failure_action = FailureAction::Rollback;
    rig.eager = true;
    rig.ask(up([version(file, "b")]));
    rig.settle();
    assert_eq!((rig.release("web"), rig.word("web")), (Some(1), Health::Degraded));
    assert_eq!(rig.state.release(&name("web"), 2).unwrap().why, "1 of its instances failed");
}

#[test]
fn what_is_still_being_started_is_stopped_once_it_is_there() {
    let mut rig = Rig::new();
    rig.ask(up([service("web", 1)]));
    // The agent has not heard of it yet when it is not wanted any more.
    let started = std::mem::take(&mut rig.seen.instances);
    rig.look();
    rig.ask(Command::Stop { services: vec![] });
    assert!(rig.look().is_empty());
    assert!(rig.has(&id("web.1")));
    rig.seen.instances = started;
    assert_eq!(rig.look(), ["stop web.1 SIGTERM 10s"]);
    rig.settle();
    assert!(rig.state.instances.is_empty() && rig.seen.instances.is_empty());
    // One that was given up for lost and turns up late is stopped too.
    rig.ask(Command::Start { services: vec![] });
    let started = std::mem::take(&mut rig.seen.instances);
    rig.ask(Command::Stop { services: vec![] });
    rig.wait(6 * SECOND);
    rig.look();
    assert!(rig.state.instances.is_empty());
    rig.seen.instances = started;
    assert_eq!(rig.settle(), ["stop web.1 SIGTERM 10s", "remove web.1"]);
}
