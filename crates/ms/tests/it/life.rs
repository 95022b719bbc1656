//! From `up` to `down`, and what outlives a killed engine.

use crate::harness::{Project, alive, free_port, get_json, kill_9, until};

fn web(port: u16) -> String {
    format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: web}}
    ports: ['127.0.0.1:{port}:8080']
"
    )
}

#[test]
fn up_serves_ps_shows_down_ends() {
    let port = free_port();
    let project = Project::new(&web(port));
    project.ok(&["up", "-d"]);
    assert_eq!(get_json(port, "/")["name"], "web");
    let shown = project.ok(&["ps"]);
    assert!(shown.contains("web.1") && shown.contains("healthy"), "{shown}");
    let logs = project.ok(&["logs", "web"]);
    assert!(logs.contains("listening") && logs.contains("GET /"), "{logs}");
    let (engine, pids) = (project.engine_pid(), project.pids("web"));
    project.ok(&["down"]);
    assert!(!alive(pids[0]), "the service runs on after down");
    until("the engine is gone", || (!alive(engine.into()), ()));
}

#[test]
fn up_again_without_a_change_changes_nothing() {
    let project = Project::new(&web(free_port()));
    project.ok(&["up", "-d"]);
    let pids = project.pids("web");
    project.ok(&["up", "-d"]);
    assert_eq!(project.pids("web"), pids);
}

#[test]
fn services_outlive_a_killed_engine_and_are_adopted() {
    let port = free_port();
    let project = Project::new(&web(port));
    project.ok(&["up", "-d"]);
    let pids = project.pids("web");
    let engine = project.engine_pid();
    kill_9(engine);
    until("the engine is gone", || (!alive(engine.into()), ()));
    assert!(alive(pids[0]), "the service died with the engine");
    project.ok(&["up", "-d"]);
    assert_eq!(project.pids("web"), pids, "adopted, not restarted");
    assert_eq!(get_json(port, "/")["name"], "web");
    assert!(project.ok(&["logs", "web"]).contains("listening"), "its output is all there");
}

#[test]
fn stop_start_and_restart_do_what_they_say() {
    let port = free_port();
    let project = Project::new(&web(port));
    project.ok(&["up", "-d"]);
    let first = project.pids("web");
    project.ok(&["restart", "web"]);
    let second = until("a fresh instance serves alone", || {
        let pids = project.pids("web");
        (pids.len() == 1 && pids != first, pids)
    });
    assert_eq!(get_json(port, "/")["name"], "web");
    project.ok(&["stop", "web"]);
    until("it is stopped", || (!alive(second[0]), ()));
    project.ok(&["start", "web"]);
    until("it runs again", || (project.pids("web").len() == 1, ()));
    assert_eq!(get_json(port, "/")["name"], "web");
}

#[test]
fn two_engines_share_a_host() {
    let (one, two) = (free_port(), free_port());
    let (first, second) = (Project::new(&web(one)), Project::new(&web(two)));
    first.ok(&["up", "-d"]);
    second.ok(&["up", "-d"]);
    let pools = [&first, &second].map(|p| p.api("/api/status")["addresses"].clone());
    assert_ne!(pools[0], pools[1]);
    assert_eq!(get_json(one, "/")["name"], "web");
    first.ok(&["down"]);
    assert_eq!(get_json(two, "/")["name"], "web");
}
