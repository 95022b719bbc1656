//! Whose network an instance has, and whether this node may run it.

use control::{Command, Health, Node};
use spec::model::{Condition, Constraint, NetworkMode, Restart};

use crate::rig::Rig;
use crate::support::{depends, id, name, service, version};

fn sharing() -> [spec::Service; 2] {
    let app = service("app", 2);
    let mut side = service("side", 2);
    side.restart = Restart::No;
    side.networking.mode = NetworkMode::Service(name("app"));
    depends(&mut side, "app", Condition::ServiceStarted);
    [app, side]
}

/// The addresses of a service's instances.
fn addresses(rig: &Rig, of: &str) -> Vec<String> {
    let instances = rig.state.instances_of(&rig.state.services[&name(of)].name);
    instances.map(|r| r.address.to_string()).collect()
}

#[test]
fn who_shares_a_network_has_the_address_of_its_slot() {
    let mut rig = Rig::new();
    rig.up(sharing());
    assert_eq!(addresses(&rig, "side"), addresses(&rig, "app"));
    let callers: Vec<_> = rig.plan.callers.values().map(ToString::to_string).collect();
    assert_eq!(callers, ["app", "app"], "it calls as whose network it is");
    // One that comes back to its slot has the address that it had.
    let before = addresses(&rig, "app");
    rig.exit("app.1", 1);
    rig.wait(std::time::Duration::from_secs(60));
    rig.settle();
    assert_eq!((addresses(&rig, "app"), addresses(&rig, "side")), (before.clone(), before));
}

#[test]
fn who_shares_a_network_moves_along_and_that_is_no_failure() {
    let mut rig = Rig::new();
    let [app, side] = sharing();
    rig.up([app.clone(), side.clone()]);
    rig.up([version(app, "b"), side]);
    for _ in 0..20 {
        rig.wait(std::time::Duration::from_secs(5));
        rig.settle();
    }
    let now = addresses(&rig, "app");
    assert_eq!(rig.release("app"), Some(2));
    assert!(
        addresses(&rig, "side").iter().all(|address| now.contains(address)),
        "{:?}",
        rig.events
    );
    assert_eq!((rig.word("app"), rig.word("side")), (Health::Healthy, Health::Healthy));
    let view = control::view::service(&rig.state, &name("side")).unwrap();
    assert_eq!(view.restarts, 0);
}

#[test]
fn nobody_starts_in_a_network_that_is_not_there() {
    let mut rig = Rig::new();
    rig.up(sharing());
    rig.ask(Command::Scale { service: name("app"), replicas: 0 });
    rig.settle();
    rig.exit("side.1", 1);
    rig.ask(Command::Start { services: vec![name("side")] });
    rig.settle();
    assert!(rig.state.instances[&id("side.2")].phase.is_live(), "what runs stays");
    assert!(!rig.state.instances[&id("side.1")].phase.is_live());
}

fn on(labels: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new();
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    rig.state.node = Node { os: "linux".to_owned(), labels: labels.collect(), ..Node::default() };
    rig
}

fn on_disk(kind: &str) -> spec::Service {
    let mut file = service("db", 1);
    file.placement.constraints.push(Constraint {
        key: "node.labels.disk".to_owned(),
        equal: true,
        value: kind.to_owned(),
    });
    file
}

#[test]
fn what_this_node_does_not_fit_is_not_placed() {
    let mut rig = on(&[("disk", "ssd")]);
    let mut web = service("web", 1);
    depends(&mut web, "db", Condition::ServiceStarted);
    assert!(rig.up([on_disk("hdd"), web]).is_empty());
    let (word, why) = rig.health("db");
    assert!(word == Health::Failed && why.contains("this node has `ssd`"), "{why}");
    assert_eq!(rig.health("web").1, "waits for db, which is not placed");
    let view = control::view::service(&rig.state, &name("db")).unwrap();
    assert_eq!(view.unplaced, 1);
    let mut windows = service("db", 1);
    windows.placement.platform = Some("windows/amd64".to_owned());
    rig.up([windows]);
    assert!(rig.health("db").1.contains("it is for windows/amd64"), "{:?}", rig.health("db"));
    assert_eq!(rig.up([on_disk("ssd")]), ["start db.1#1 r3"]);
    assert_eq!(rig.word("db"), Health::Healthy);
}

#[test]
fn a_release_that_is_not_placed_leaves_the_one_before() {
    let mut rig = on(&[("disk", "ssd")]);
    rig.up([on_disk("ssd")]);
    rig.up([on_disk("hdd")]);
    assert_eq!((rig.release("db"), rig.word("db")), (Some(1), Health::Degraded));
    let why = &rig.state.release(&name("db"), 2).unwrap().why;
    assert!(why.contains("this node has `ssd`"), "{why}");
    // What runs stays when the node changes.
    rig.state.node.labels.clear();
    rig.settle();
    assert_eq!(rig.routed("db"), "db.1");
}

#[test]
fn a_node_runs_no_more_than_the_file_lets_it() {
    let mut rig = Rig::new();
    let mut web = service("web", 3);
    web.placement.replicas_per_node_max = Some(2);
    rig.up([web.clone()]);
    assert_eq!(rig.routed("web"), "web.1 web.2");
    let (word, why) = rig.health("web");
    assert!(word == Health::Degraded && why.starts_with("1 of 3 are not placed"), "{why}");
    rig.up([version(web, "b")]);
    rig.settle();
    assert_eq!((rig.release("web"), rig.routed("web").split(' ').count()), (Some(2), 2));
    rig.ask(Command::Scale { service: name("web"), replicas: 1 });
    rig.settle();
    assert_eq!(rig.word("web"), Health::Healthy);
}

#[test]
fn attempts_are_counted_whatever_the_exit_code() {
    let mut web = service("web", 1);
    web.restart_pace.attempts = Some(2);
    let mut rig = Rig::new();
    rig.up([web]);
    for _ in 0..3 {
        rig.exit("web.1", 0);
        rig.wait(std::time::Duration::from_secs(120));
        rig.settle();
    }
    assert_eq!(rig.state.instances[&id("web.1")].restarts, 2);
    assert_eq!(rig.word("web"), Health::Completed);
}
