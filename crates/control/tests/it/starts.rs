//! Starts: until when they may last, what is watched after them, and who waits for that.

use std::time::Duration;

use control::{Command, Health, ReportedState};
use spec::model::{FailureAction, Restart};

use crate::rig::Rig;
use crate::support::{id, name, service, up, version};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_restart_is_over_when_the_traffic_has_moved_and_watched_none_the_less() {
    for dies in [false, true] {
        let mut file = service("web", 1);
        file.update.monitor = 5 * SECOND;
        let mut rig = Rig::new();
        rig.up([file]);
        rig.ask(Command::Restart { services: vec![name("web")] });
        assert!(rig.settle().is_empty());
        assert_eq!(rig.health("web"), (Health::Healthy, String::new()));
        assert_eq!(rig.routed("web"), "(web.1) web.2");
        let view = control::view::service(&rig.state, &name("web")).unwrap();
        assert_eq!(view.healthy, 1);
        assert_eq!(view.instances[0].why, "stands by while those that replaced it are watched");
        if dies {
            rig.exit("web.2", 1);
            assert_eq!(rig.routed("web"), "web.1", "it serves again at once");
            rig.settle();
            assert!(rig.events.iter().any(|e| e.starts_with("restart-failed")));
            assert!(rig.has(&id("web.1")) && !rig.has(&id("web.2")));
        } else {
            rig.wait(5 * SECOND);
            assert_eq!(rig.settle(), ["stop web.1 SIGTERM 10s", "remove web.1"]);
            assert_eq!(rig.routed("web"), "web.2");
        }
        assert_eq!(rig.word("web"), Health::Healthy);
    }
}

#[test]
fn a_release_that_dies_while_it_is_watched_goes_and_the_old_one_serves_again() {
    for (action, word) in
        [(FailureAction::Rollback, Health::Degraded), (FailureAction::Pause, Health::Degraded)]
    {
        let mut file = service("web", 1);
        file.update.monitor = 5 * SECOND;
        file.update.failure_action = action;
        let mut rig = Rig::new();
        rig.up([file.clone()]);
        rig.up([version(file, "b")]);
        // Whoever waits for a new release waits until it has proved itself.
        assert_eq!(
            (rig.word("web"), rig.routed("web")),
            (Health::Updating, "(web.1) web.2".into())
        );
        rig.wait(4 * SECOND);
        rig.exit("web.2", 1);
        assert_eq!(rig.routed("web"), "web.1");
        rig.settle();
        assert_eq!((rig.word("web"), rig.release("web")), (word, Some(1)), "{action:?}");
    }
}

#[test]
fn an_instance_that_nobody_can_reach_in_time_is_unhealthy_and_left_alone() {
    let nobody = |rig: &mut Rig| {
        rig.seen.instances.get_mut(&id("web.1")).unwrap().detail =
            "nothing listens on port 8080".to_owned();
        rig.settle();
    };
    let mut rig = Rig::new();
    rig.eager = false;
    rig.ask(up([service("web", 1)]));
    nobody(&mut rig);
    assert_eq!(rig.word("web"), Health::Starting);
    assert_eq!(rig.wake, Some(rig.now.plus(120 * SECOND)));
    rig.wait(120 * SECOND);
    assert!(rig.look().is_empty());
    let why = "web.1 was not healthy within 2 min: nothing listens on port 8080";
    assert_eq!(rig.health("web"), (Health::Failed, why.to_owned()));
    assert!(rig.events.contains(&format!("instance-late: {why}")), "{:?}", rig.events);
    // It is not begun anew, also by another engine, and is welcome when it comes.
    rig.wait(3600 * SECOND);
    assert!(rig.settle().is_empty());
    rig.restart_engine();
    assert!(rig.settle().is_empty());
    assert_eq!(rig.word("web"), Health::Failed);
    rig.set("web.1", ReportedState::Healthy);
    rig.settle();
    assert_eq!((rig.word("web"), rig.routed("web")), (Health::Healthy, "web.1".to_owned()));
    // The file says how long it may take.
    let mut file = service("web", 1);
    let check = spec::model::Healthcheck { start_period: 7 * SECOND, ..Default::default() };
    file.healthcheck = Some(check);
    let mut rig = Rig::new();
    rig.eager = false;
    rig.ask(up([file]));
    nobody(&mut rig);
    assert_eq!(rig.wake, Some(rig.now.plus(7 * SECOND)));
}

#[test]
fn a_new_release_of_what_stood_still_is_an_update_and_no_failure() {
    let mut rig = Rig::new();
    rig.up([service("web", 1)]);
    rig.ask(Command::Stop { services: vec![] });
    rig.settle();
    rig.eager = false;
    rig.ask(up([version(service("web", 1), "b")]));
    rig.settle();
    assert_eq!(rig.health("web"), (Health::Updating, "release 2: 0 of 1 healthy".to_owned()));
    rig.exit("web.1", 1);
    assert!(
        rig.health("web").1.starts_with("release 2 did not make it"),
        "{:?}",
        rig.health("web")
    );
}

#[test]
fn nobody_counts_on_an_instance_before_its_post_start_steps_are_done() {
    let mut file = service("web", 1);
    let step = spec::model::Hook {
        command: vec!["warm".to_owned()],
        user: None,
        privileged: false,
        working_dir: None,
        environment: Default::default(),
        image: None,
        per_replica: false,
    };
    file.hooks.post_start = vec![step];
    let ended = |rig: &mut Rig, of: &str, how: Result<(), String>| {
        rig.seen.instances.get_mut(&id(of)).unwrap().post_start = Some(how);
        rig.settle();
    };
    let mut rig = Rig::new();
    rig.ask(up([file.clone()]));
    assert_eq!(rig.look(), ["post_start web.1"]);
    assert!(rig.look().is_empty(), "asked once");
    assert_eq!((rig.word("web"), rig.routed("web")), (Health::Starting, String::new()));
    // Another engine does not know how they went, and lets them run again.
    rig.restart_engine();
    assert_eq!(rig.look(), ["post_start web.1"]);
    ended(&mut rig, "web.1", Ok(()));
    assert_eq!((rig.word("web"), rig.routed("web")), (Health::Healthy, "web.1".to_owned()));
    rig.restart_engine();
    assert!(rig.settle().is_empty(), "done is done");
    // Steps that fail are the end of a new release, and of a first one's hopes.
    rig.ask(up([version(file.clone(), "b")]));
    rig.look();
    ended(&mut rig, "web.2", Err("`warm` exited with code 1".to_owned()));
    assert_eq!((rig.release("web"), rig.word("web")), (Some(1), Health::Degraded));
    let why = "web.2 failed in `post_start`: `warm` exited with code 1";
    assert_eq!(rig.state.release(&name("web"), 2).unwrap().why, why);
    let mut rig = Rig::new();
    rig.ask(up([file]));
    rig.look();
    ended(&mut rig, "web.1", Err("`warm` exited with code 1".to_owned()));
    assert_eq!(rig.health("web"), (Health::Failed, why.replace("web.2", "web.1")));
}

#[test]
fn one_that_fails_its_check_before_it_was_ever_healthy_is_unhealthy() {
    let mut file = service("web", 1);
    file.restart = Restart::No;
    let mut rig = Rig::new();
    rig.eager = false;
    rig.ask(up([file]));
    rig.settle();
    rig.set("web.1", ReportedState::Unhealthy);
    rig.settle();
    let view = control::view::service(&rig.state, &name("web")).unwrap();
    assert_eq!((view.health, view.instances[0].phase), (Health::Failed, control::Phase::Unhealthy));
    assert_eq!(view.why, "web.1 has not been healthy yet: it fails its health check");
}

#[test]
fn steps_before_the_start_take_their_time_and_are_ended_with_their_service() {
    let mut file = service("web", 1);
    file.restart = Restart::No;
    let step = spec::model::Hook {
        command: vec!["migrate".to_owned()],
        user: None,
        privileged: false,
        working_dir: None,
        environment: Default::default(),
        image: None,
        per_replica: false,
    };
    file.hooks.pre_start = vec![step];
    let mut rig = Rig::new();
    rig.eager = false;
    rig.ask(up([file.clone()]));
    rig.set("web.1", ReportedState::Launching);
    rig.settle();
    rig.wait(Duration::from_secs(3600));
    rig.settle();
    assert_eq!(rig.word("web"), Health::Starting, "nobody is late while steps run");
    rig.seen.pre_started.insert((name("web"), 1));
    rig.set("web.1", ReportedState::Running);
    rig.settle();
    assert!(rig.state.release(&name("web"), 1).unwrap().pre_started, "it is written down");
    rig.wait(Duration::from_secs(60));
    rig.settle();
    assert_eq!(rig.word("web"), Health::Starting, "its own time begins after them");
    rig.wait(Duration::from_secs(70));
    rig.settle();
    assert_eq!(rig.word("web"), Health::Failed);
    // One whose steps run can be stopped.
    let mut rig = Rig::new();
    rig.eager = false;
    rig.ask(up([file]));
    rig.set("web.1", ReportedState::Launching);
    rig.settle();
    let said = rig.ask(Command::Stop { services: vec![name("web")] });
    assert_eq!(said, ["stop web.1 SIGTERM 10s"]);
}
