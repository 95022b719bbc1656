//! Services find each other by name; replicas share a port; the edge knows who calls.

use crate::harness::{Project, free_port, front_and_back, get, get_json, root, until};

/// How `back` says that it is healthy.
const CHECK: &str = "
    healthcheck:
      test: ['CMD', 'python3', '-c', 'import urllib.request as r; r.urlopen(\"http://localhost:8080/health\")']
      interval: 1s
      start_period: 20s
      start_interval: 200ms";

#[test]
fn a_name_reaches_every_replica_and_the_edge_knows_the_caller() {
    if !root() {
        eprintln!("not run: replicas on one port need root");
        return;
    }
    let port = free_port();
    let project = Project::new(&front_and_back(port, CHECK));
    project.ok(&["up", "-d"]);
    let mut instances = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = get_json(port, "/call/back:8080");
        assert_eq!(answer["name"], "back");
        instances.insert(answer["instance"].to_string());
    }
    assert_eq!(instances.len(), 2, "both replicas serve");
    let calls = until("the call is seen", || {
        let calls = project.api("/api/overview")["calls"].clone();
        let seen = calls
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["caller"] == "front" && c["service"] == "back");
        (seen, calls)
    });
    assert!(
        calls.as_array().unwrap().iter().any(|c| c["caller"].is_null() && c["service"] == "front"),
        "the client outside is nobody: {calls}"
    );
}

#[test]
fn metrics_name_caller_service_method_and_instance() {
    let port = free_port();
    let project = Project::new(&front_and_back(port, CHECK).replace("replicas: 2", "replicas: 1"));
    project.ok(&["up", "-d"]);
    get_json(port, "/call/back:8080");
    let status = project.api("/api/status");
    let console = status["console"].as_str().unwrap().to_owned();
    let console: u16 = console.rsplit(':').next().unwrap().parse().unwrap();
    let (code, text) = get(console, "/metrics");
    assert_eq!(code, 200);
    let line = text.lines().find(|l| {
        l.starts_with("ms_edge_requests_total{")
            && l.contains("service=\"back\"")
            && l.contains("method=\"GET\"")
            && l.contains("instance=\"back.1\"")
    });
    let line = line.unwrap_or_else(|| panic!("no such series in {text}"));
    if root() {
        assert!(line.contains("caller=\"front\""), "{line}");
    }
}

#[test]
fn what_an_instance_writes_stays_private() {
    if !root() {
        eprintln!("not run: a private view needs root");
        return;
    }
    let project = Project::new(
        "services:
  writer:
    image: example/writer
    x-mainspring: {native: true}
    command: ['sh', '-c', 'echo here > /etc/ms-test-private && echo there > ./ms-test-local && cat /etc/ms-test-private && exec sleep 1000']
",
    );
    project.ok(&["up", "-d"]);
    until("it has written", || {
        let logs = project.ok(&["logs", "writer"]);
        (logs.contains("here"), logs)
    });
    assert!(!std::path::Path::new("/etc/ms-test-private").exists());
    assert!(!project.path("ms-test-local").exists());
}

#[test]
fn a_dockerfile_gives_folder_environment_files_and_command() {
    let port = free_port();
    let project = Project::new(&format!(
        "services:
  web:
    build: ./app
    environment: {{NAME: from-compose}}
    ports: ['127.0.0.1:{port}:8080']
"
    ));
    std::fs::create_dir(project.path("app")).unwrap();
    std::fs::rename(project.path("echo.py"), project.path("app/server.py")).unwrap();
    project.write(
        "app/Dockerfile",
        "FROM python:3.12-slim\nENV NAME=from-image VERSION=7\nWORKDIR /srv/app\n\
         COPY server.py /srv/app/main.py\nRUN sed -i s/listening/built/ main.py\nEXPOSE 8080\n\
         CMD [\"python3\", \"/srv/app/main.py\"]\n",
    );
    if !root() {
        eprintln!("not run: a path of the image needs root");
        return;
    }
    project.ok(&["up", "-d"]);
    let answer = get_json(port, "/");
    assert_eq!((&answer["name"], &answer["version"]), (&"from-compose".into(), &"7".into()));
    assert_eq!(project.api("/api/services/web")["skipped_steps"], serde_json::json!([]));
    until("its RUN changed what it says", || {
        let logs = project.ok(&["logs", "web"]);
        (logs.contains("built"), logs)
    });
}

#[test]
fn a_port_published_everywhere_may_be_the_port_that_replicas_listen_on() {
    if !root() {
        eprintln!("not run: replicas on one port need root");
        return;
    }
    let port = free_port();
    let project = Project::new(&format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: web, PORT: {port}}}
    ports: ['{port}:{port}']
    deploy: {{replicas: 2}}
"
    ));
    project.ok(&["up", "-d"]);
    assert_eq!(get_json(port, "/")["name"], "web");
    assert_eq!(get_json(port, &format!("/call/localhost:{port}"))["name"], "web");
}

#[test]
fn a_port_that_the_file_does_not_name_is_found() {
    if !root() {
        eprintln!("not run: instances have addresses of their own as root only");
        return;
    }
    let port = free_port();
    let project = Project::new(&front_and_back(port, CHECK).replace("    expose: ['8080']\n", ""));
    project.ok(&["up", "-d"]);
    until("the name reaches the port", || {
        let (code, body) = get(port, "/call/back:8080");
        (code == 200 && body.contains("back"), body)
    });
}
