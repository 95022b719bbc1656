//! Releases, scaling and rollback under load: no request is lost.

use crate::harness::{Project, free_port, get_json, until};
use crate::load::Load;

fn compose(port: u16, version: &str) -> String {
    format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: web, VERSION: '{version}'}}
    ports: ['127.0.0.1:{port}:8080']
    deploy:
      replicas: 2
      update_config: {{parallelism: 1, monitor: 200ms}}
"
    )
}

#[test]
fn redeploy_scale_and_rollback_lose_no_request() {
    let port = free_port();
    let project = Project::new(&compose(port, "1"));
    project.ok(&["up", "-d"]);
    let load = Load::start(port);
    load.wait_for_more(300);

    project.write("compose.yaml", &compose(port, "2"));
    project.ok(&["up", "-d"]);
    assert_eq!(get_json(port, "/")["version"], "2");
    load.wait_for_more(200);

    project.ok(&["scale", "web=5"]);
    until("five run", || {
        let view = project.api("/api/services/web");
        let healthy = view["service"]["healthy"].clone();
        (healthy == 5, healthy)
    });
    load.wait_for_more(200);
    project.ok(&["scale", "web=2"]);
    until("two run", || (project.pids("web").len() == 2, project.pids("web")));
    load.wait_for_more(200);

    project.ok(&["rollback", "web"]);
    until("the first release serves alone", || {
        let view = project.api("/api/services/web")["service"].clone();
        let settled = view["health"] == "healthy" && view["next_release"].is_null();
        (settled && project.pids("web").len() == 2 && get_json(port, "/")["version"] == "1", view)
    });
    load.wait_for_more(200);

    let (done, failures) = load.finish();
    assert!(failures.is_empty(), "{} of {done} failed: {:?}", failures.len(), &failures[..1]);
}

#[test]
fn a_release_that_does_not_start_leaves_the_old_one_serving() {
    let port = free_port();
    let project = Project::new(&compose(port, "1"));
    project.ok(&["up", "-d"]);
    let pids = project.pids("web");
    let broken = compose(port, "2").replace("python3 echo.py", "python3 missing.py");
    project.write("compose.yaml", &broken);
    let out = project.ms(&["up", "-d"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("web") && said.contains("missing.py"), "{said}");
    assert_eq!(get_json(port, "/")["version"], "1");
    assert_eq!(project.pids("web"), pids);
}

#[test]
fn a_request_waits_for_the_first_instance() {
    let port = free_port();
    let project = Project::new(&compose(port, "1").replace("replicas: 2", "replicas: 0"));
    project.ok(&["up", "-d"]);
    let asked = std::thread::spawn(move || get_json(port, "/"));
    project.ok(&["scale", "web=1"]);
    assert_eq!(asked.join().unwrap()["version"], "1");
}

#[test]
fn a_changed_program_is_a_new_release_and_rollback_runs_the_old_one() {
    if !crate::harness::root() {
        eprintln!("not run: keeping programs as they were needs root");
        return;
    }
    let port = free_port();
    let text =
        compose(port, "1").replace(", VERSION: '1'", "").replace("replicas: 2", "replicas: 1");
    let project = Project::new(&text);
    project.ok(&["up", "-d"]);
    assert_eq!(get_json(port, "/")["version"], "1");
    let program = std::fs::read_to_string(project.path("echo.py")).unwrap();
    project.write("echo.py", &program.replace("\"VERSION\", \"1\"", "\"VERSION\", \"2\""));
    project.ok(&["up", "-d"]);
    assert_eq!(get_json(port, "/")["version"], "2");
    project.ok(&["rollback", "web"]);
    assert_eq!(get_json(port, "/")["version"], "1");
}
