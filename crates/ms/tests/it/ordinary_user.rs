//! Without root it works, with less isolation, and says so.

use crate::harness::{Project, free_port, front_and_back, get_json, root, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

#[test]
fn replicas_take_the_port_they_are_given() {
    let port = free_port();
    let project = match root() {
        true => Project::as_user(&front_and_back(port, ""), NOBODY),
        false => Project::new(&front_and_back(port, "")),
    };
    let out = project.ms(&["up", "-d"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("less-isolated"), "says what is missing: {said}");
    assert_eq!(get_json(port, "/")["name"], "front");
    let mut instances = std::collections::BTreeSet::new();
    for _ in 0..10 {
        instances.insert(get_json(port, "/call/back:8080")["instance"].to_string());
    }
    assert_eq!(instances.len(), 2, "both replicas serve under one name");
    let isolation = project.api("/api/status")["isolation"].clone();
    assert_ne!(isolation["mode"], "full");
    assert!(!isolation["missing"].as_array().unwrap().is_empty(), "says what is missing");
}

#[test]
fn a_clash_of_ports_is_told_with_both_names() {
    let compose = "services:
  one: &fixed
    image: example/one
    x-mainspring: {native: true}
    command: python3 -m http.server 18085
    expose: ['18085']
  two:
    <<: *fixed
  worker:
    image: example/worker
    x-mainspring: {native: true}
    command: sleep 1000
";
    let project = match root() {
        true => Project::as_user(compose, NOBODY),
        false => Project::new(compose),
    };
    let out = project.ms(&["up", "-d"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("$PORT") && said.contains("`one` and `two`"), "{said}");
    until("a service without a port is healthy without one", || {
        let worker = project.api("/api/services/worker")["service"]["health"].clone();
        (worker == "healthy", worker)
    });
}
