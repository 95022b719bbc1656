//! What goes wrong is said: on what, why, what next; and it changes nothing that ran.

use crate::harness::{Project, free_port, get_json, texts, until};

fn fails(project: &Project, args: &[&str], code: i32) -> String {
    let out = project.ms(args);
    let (stdout, stderr) = texts(&out);
    assert_eq!(out.status.code(), Some(code), "{stdout}\n{stderr}\n{}", project.engine_log());
    stderr
}

#[test]
fn a_service_that_crashes_is_named_with_its_last_words() {
    let project = Project::new(
        "services:
  bad:
    image: example/bad
    x-mainspring: {native: true}
    command: ['sh', '-c', 'echo no database url >&2; exit 7']
    restart: 'no'
",
    );
    let said = fails(&project, &["up", "-d"], 1);
    assert!(
        said.contains("bad") && said.contains("no database url") && said.contains('7'),
        "{said}"
    );
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let project = Project::new(
        "services:
  bad:
    image: example/bad
    x-mainspring: {native: true}
    command: no-such-program --flag
",
    );
    let said = fails(&project, &["up", "-d"], 1);
    assert!(said.contains("no-such-program"), "{said}");
}

#[test]
fn a_bad_file_is_refused_with_its_place_and_changes_nothing() {
    let port = free_port();
    let good = format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    ports: ['127.0.0.1:{port}:8080']
"
    );
    let project = Project::new(&good);
    project.ok(&["up", "-d"]);
    let pids = project.pids("web");
    project.write("compose.yaml", &good.replace("command:", "comand:"));
    let said = fails(&project, &["up", "-d"], 2);
    assert!(said.contains("compose.yaml:5:5") && said.contains("command"), "{said}");
    assert_eq!(project.pids("web"), pids);
    assert_eq!(get_json(port, "/")["name"], "?");
}

#[test]
fn a_taken_port_is_named_with_who_holds_it() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let project = Project::new(&format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    ports: ['127.0.0.1:{port}:8080']
"
    ));
    let said = fails(&project, &["up", "-d"], 1);
    assert!(said.contains(&port.to_string()), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "names the holder: {said}");
}

#[test]
fn a_crashed_instance_comes_back_by_its_restart_policy() {
    let port = free_port();
    let project = Project::new(&format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    restart: always
    ports: ['127.0.0.1:{port}:8080']
"
    ));
    project.ok(&["up", "-d"]);
    let before = project.pids("web");
    let _ = crate::harness::try_get(port, "/crash");
    until("another process serves", || {
        let pids = project.pids("web");
        (pids.len() == 1 && pids != before, pids)
    });
    assert_eq!(get_json(port, "/")["name"], "?", "the request waits for the new one");
    let events = project.api("/api/events?after=0&limit=100").to_string();
    assert!(events.contains("code 3"), "{events}");
}

#[test]
fn without_an_engine_commands_say_so() {
    let project = Project::new("services: {}\n");
    let said = fails(&project, &["ps"], 3);
    assert!(said.contains("next:"), "{said}");
}
