//! Order: who waits for whom, who goes along with whom, and who is left alone.

use std::time::Duration;

use control::{Command, Event, Health, ReportedState};
use spec::model::{Condition, Restart};

use crate::rig::Rig;
use crate::support::{depends, id, name, service, up, version};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn first_starts_wait_for_what_they_depend_on() {
    for (condition, opens_at) in [
        (Condition::ServiceStarted, 1),
        (Condition::ServiceHealthy, 2),
        (Condition::ServiceCompletedSuccessfully, 3),
    ] {
        let mut web = service("web", 1);
        depends(&mut web, "db", condition);
        let mut db = service("db", 1);
        db.restart = Restart::No;
        let mut rig = Rig::new();
        rig.eager = false;
        assert_eq!(rig.ask(up([web, db])), ["start db.1#1 r1"]);
        assert_eq!(rig.word("web"), Health::Waiting);
        let mut opened = Vec::new();
        opened.push(rig.look());
        rig.set("db.1", ReportedState::Healthy);
        opened.push(rig.look());
        opened.push(rig.exit("db.1", 0));
        let at = opened.iter().position(|said| *said == ["start web.1#1 r1"]);
        assert_eq!(at, Some(opens_at - 1), "{condition:?}: {opened:?}");
    }
}

#[test]
fn a_dependency_that_fails_is_named() {
    let mut web = service("web", 1);
    depends(&mut web, "migrate", Condition::ServiceCompletedSuccessfully);
    let mut migrate = service("migrate", 1);
    migrate.restart = Restart::No;
    let mut rig = Rig::new();
    rig.ask(up([web.clone(), migrate.clone()]));
    rig.exit("migrate.1", 1);
    let why = "waits for migrate to complete: migrate.1 exited with code 1 and `restart` is `no`";
    assert_eq!(rig.health("web"), (Health::Failed, why.to_owned()));
    // Not required: it goes on without.
    web.depends_on[0].required = false;
    let mut rig = Rig::new();
    rig.ask(up([web, migrate]));
    assert_eq!(rig.exit("migrate.1", 1), ["start web.1#1 r1"]);
}

#[test]
fn dependents_are_left_alone_when_a_dependency_changes_or_falls() {
    let mut web = service("web", 1);
    depends(&mut web, "db", Condition::ServiceHealthy);
    let mut rig = Rig::new();
    rig.up([web.clone(), service("db", 1)]);
    let said = rig.up([web, version(service("db", 1), "b")]);
    assert!(said.iter().all(|s| !s.contains("web")), "{said:?}");
    rig.exit("db.2", 1);
    assert!(rig.state.services[&name("web")].release == Some(1));
    // A crash of web while db is down restarts at once: the gate is for first starts.
    rig.exit("web.1", 1);
    rig.wait(SECOND);
    assert!(rig.hand(&Event::Tick).contains(&"start web.1#2 r1".to_owned()));
}

#[test]
fn down_stops_dependents_first_and_forgets_everything() {
    let mut web = service("web", 1);
    depends(&mut web, "db", Condition::ServiceHealthy);
    let mut rig = Rig::new();
    rig.up([web, service("db", 1)]);
    rig.ask(Command::Down);
    let said = rig.settle();
    let wanted = ["stop web.1 SIGTERM 10s", "remove web.1", "stop db.1 SIGTERM 10s", "remove db.1"];
    assert_eq!(said, wanted);
    assert!(rig.state.app.is_none() && rig.state.services.is_empty());
    assert!(rig.state.releases.is_empty() && rig.state.instances.is_empty());
}

#[test]
fn restart_takes_along_what_says_so() {
    let mut web = service("web", 1);
    depends(&mut web, "db", Condition::ServiceStarted);
    web.depends_on[0].restart = true;
    let mut rig = Rig::new();
    rig.up([web, service("db", 1), service("other", 1)]);
    rig.ask(Command::Restart { services: vec![name("db")] });
    let nonces: Vec<_> = rig.state.services.values().map(|s| s.restart_nonce).collect();
    assert_eq!(nonces, [1, 0, 1]);
}

/// web waits for a healthy db.
fn pair() -> [spec::Service; 2] {
    let mut web = service("web", 1);
    depends(&mut web, "db", Condition::ServiceHealthy);
    [web, service("db", 1)]
}

#[test]
fn a_restart_goes_in_order_and_waits_for_health() {
    let mut rig = Rig::new();
    rig.up(pair());
    rig.eager = false;
    assert_eq!(
        rig.ask(Command::Restart { services: vec![] }),
        ["start db.2#1 r1"],
        "web waits for the fresh db"
    );
    assert_eq!(rig.health("web").1, "its restart waits for db, which is being restarted");
    assert!(rig.look().is_empty());
    rig.set("db.2", ReportedState::Healthy);
    assert_eq!(rig.look(), ["start web.2#1 r1"]);
    // How its dependency fares otherwise holds up no restart.
    let mut rig = Rig::new();
    rig.up(pair());
    rig.ask(Command::Stop { services: vec![name("db")] });
    rig.settle();
    let said = rig.ask(Command::Restart { services: vec![name("web")] });
    assert_eq!(said, ["start web.2#1 r1"]);
}

#[test]
fn an_update_waits_for_that_of_what_it_depends_on() {
    let mut rig = Rig::new();
    rig.up(pair());
    rig.eager = false;
    let [web, db] = pair();
    assert_eq!(rig.ask(up([version(web, "b"), version(db, "b")])), ["start db.2#1 r2"]);
    assert_eq!(rig.health("web").1, "release 2 waits for db, which is being updated");
    rig.set("db.2", ReportedState::Healthy);
    assert_eq!(rig.look(), ["start web.2#1 r2"]);
}

#[test]
fn what_ran_before_a_reboot_comes_back_in_order_and_nothing_else() {
    let mut rig = Rig::new();
    let [mut web, db] = pair();
    web.restart = Restart::No;
    let mut job = service("job", 1);
    job.restart = Restart::No;
    rig.up([web, db, job, service("idle", 1)]);
    rig.exit("job.1", 0);
    rig.ask(Command::Stop { services: vec![name("idle")] });
    rig.settle();
    rig.restart_machine();
    rig.eager = false;
    assert_eq!(rig.look(), ["start db.1#2 r1"]);
    assert_eq!(rig.health("web"), (Health::Waiting, "waits for db to be healthy".to_owned()));
    rig.set("db.1", ReportedState::Healthy);
    assert_eq!(rig.look(), ["start web.1#2 r1"]);
    rig.set("web.1", ReportedState::Healthy);
    assert!(rig.settle().is_empty());
    let words = ["db", "web", "job", "idle"].map(|of| rig.word(of));
    assert_eq!(words, [Health::Healthy, Health::Healthy, Health::Completed, Health::Stopped]);
    let record = &rig.state.instances[&id("web.1")];
    assert_eq!((record.restarts, record.failures), (0, 0), "nothing of it failed");
    let said = "machine-restarted: the machine was restarted; what ran before comes back: \
                db.1, web.1";
    assert!(rig.events.iter().any(|e| e == said), "{:?}", rig.events);
}

#[test]
fn what_died_with_the_engine_comes_back_in_order() {
    let mut rig = Rig::new();
    rig.up(pair());
    rig.seen.instances.clear();
    rig.restart_engine();
    rig.eager = false;
    rig.look();
    rig.wait(SECOND);
    assert_eq!(rig.look(), ["start db.1#2 r1"]);
    rig.set("db.1", ReportedState::Healthy);
    assert_eq!(rig.look(), ["start web.1#2 r1"]);
    // Its dependency is stopped on purpose, as it was before: that is no reason to stay away.
    let mut rig = Rig::new();
    rig.up(pair());
    rig.ask(Command::Stop { services: vec![name("db")] });
    rig.settle();
    rig.restart_machine();
    assert_eq!(rig.look(), ["start web.1#2 r1"]);
}

#[test]
fn an_update_restarts_dependents_that_say_so_and_leaves_the_others() {
    let mut rig = Rig::new();
    let [mut web, db] = pair();
    let mut other = web.clone();
    other.name = name("other");
    web.depends_on[0].restart = true;
    rig.up([web.clone(), other.clone(), db.clone()]);
    let said = rig.up([web.clone(), other.clone(), version(db.clone(), "b")]);
    let begun = |what: &str| said.iter().position(|s| s.starts_with(what));
    assert!(begun("start db.2") < begun("start web.2"), "{said:?}");
    assert!(begun("start web.2").is_some() && begun("start other").is_none(), "{said:?}");
    // A release that did not make it is no change for anybody.
    rig.eager = false;
    rig.ask(up([web, other, version(db, "broken")]));
    let nonce = |rig: &Rig| rig.state.services[&name("web")].restart_nonce;
    let before = nonce(&rig);
    rig.exit("db.1", 1);
    rig.settle();
    assert_eq!((rig.word("db"), nonce(&rig)), (Health::Degraded, before));
}
