//! How an app ends: overtaken, interrupted, without a folder; and what is left to read after it.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Project, alive, get, root, texts, until};

/// Takes its time to stop; says so.
const SLOW: &str = "services:
  slow:
    image: example/slow
    x-mainspring: {native: true}
    command:
      - sh
      - -c
      - trap 'echo stopping; while [ ! -e /here/go ]; do sleep 0.05; done; exit 0' TERM; echo up; while :; do sleep 0.05; done
    stop_grace_period: 50s
    volumes: ['data:/data', './here:/here']
volumes: {data: {}}
";

#[test]
fn a_down_that_an_up_overtakes_says_so() {
    let project = Project::new(SLOW);
    std::fs::create_dir(project.path("here")).unwrap();
    project.ok(&["up", "-d"]);
    std::thread::scope(|scope| {
        let down = scope.spawn(|| project.ms(&["down"]));
        until("it is being stopped", || {
            let ending = project.api("/api/status")["ending"] == true;
            (ending, ())
        });
        let up = scope.spawn(|| project.ms(&["up", "-d"]));
        let down = down.join().unwrap();
        let (_, said) = texts(&down);
        assert_eq!(down.status.code(), Some(1), "{said}");
        assert!(said.contains("error[overtaken]"), "{said}");
        project.write("here/go", "");
        let up = up.join().unwrap();
        assert!(up.status.success(), "{:?}", texts(&up));
    });
}

#[test]
fn an_engine_killed_while_it_stops_an_app_finishes_that_when_it_is_back() {
    let project = Project::new(SLOW);
    std::fs::create_dir(project.path("here")).unwrap();
    project.ok(&["up", "-d"]);
    let kept = project.path(".ms/volumes");
    assert!(kept.join("data").exists());
    std::thread::scope(|scope| {
        let down = scope.spawn(|| project.ms(&["down", "--volumes"]));
        until("it is being stopped", || {
            let lines = project.ok(&["logs"]);
            (lines.contains("stopping"), ())
        });
        let engine = project.engine_pid();
        let pid = Pid::from_raw(i32::try_from(engine).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        until("another engine is there", || {
            (project.engine_pid() != engine && project.path(".ms/engine.sock").exists(), ())
        });
        project.write("here/go", "");
        let down = down.join().unwrap();
        assert!(down.status.success(), "{:?}\n{}", texts(&down), project.engine_log());
    });
    assert!(!kept.exists(), "the volumes were to go");
    assert!(!project.path(".ms/ending").exists());
    // Nothing runs, and what was said is still there to read.
    let (stdout, stderr) = texts(&project.ms(&["logs", "slow"]));
    assert!(stdout.contains("stopping"), "{stdout}\n{stderr}");
    assert!(stderr.contains("no engine runs"), "{stderr}");
    assert_eq!(project.ms(&["logs", "wob"]).status.code(), Some(2));
}

#[test]
fn without_its_state_folder_an_engine_stops_what_it_runs_and_ends() {
    let project = Project::new(
        "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: sleep 1000
",
    );
    project.ok(&["up", "-d"]);
    let (engine, pids) = (project.engine_pid(), project.pids("web"));
    std::fs::rename(project.path(".ms"), project.path("gone")).unwrap();
    std::fs::remove_dir_all(project.path("gone")).ok();
    until("nothing runs", || {
        let left = pids.iter().any(|pid| alive(*pid)) || alive(engine.into());
        (!left, ())
    });
}

#[test]
fn a_first_up_that_is_refused_leaves_no_engine() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let project = Project::new(&format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: sleep 1000
    ports: [\"127.0.0.1:{port}:80\"]
"
    ));
    let up = project.ms(&["up", "-d"]);
    let (_, said) = texts(&up);
    assert!(said.contains("error[port-taken]"), "{said}");
    let socket = project.path(".ms/engine.sock");
    let answer = std::os::unix::net::UnixStream::connect(socket);
    assert!(answer.is_err(), "an engine without an app runs on");
}

#[test]
fn a_port_left_open_and_the_console_are_where_they_were_after_a_crash() {
    if !root() {
        // Without addresses of their own two instances could not listen on one port.
        return;
    }
    let project = Project::new(
        "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: [python3, echo.py]
    environment: {PORT: '8080'}
    ports: ['8080']
",
    );
    project.ok(&["up", "-d"]);
    let place = || {
        let status = project.api("/api/status")["console"].clone();
        (status, project.api("/api/services/web")["service"]["published"].clone())
    };
    let before = place();
    let published = before.1[0].as_str().unwrap().to_owned();
    let port: u16 = published.rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(get(port, "/").0, 200);
    let engine = project.engine_pid();
    kill_process(Pid::from_raw(i32::try_from(engine).unwrap()).unwrap(), Signal::KILL).unwrap();
    until("another engine is there", || {
        let back = project.engine_pid() != engine
            && std::os::unix::net::UnixStream::connect(project.path(".ms/engine.sock")).is_ok();
        (back, ())
    });
    assert_eq!(place(), before);
}

#[test]
fn an_engine_that_came_back_keeps_its_addresses_from_others() {
    let app = "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: sleep 1000
";
    let (first, second) = (Project::new(app), Project::new(app));
    first.ok(&["up", "-d"]);
    let addresses = |project: &Project| project.api("/api/status")["addresses"].clone();
    let (before, engine) = (addresses(&first), first.engine_pid());
    crate::harness::kill_9(engine);
    until("another engine is there", || {
        let socket = first.path(".ms/engine.sock");
        (
            first.engine_pid() != engine && std::os::unix::net::UnixStream::connect(socket).is_ok(),
            (),
        )
    });
    // Every instance that the first engine started is gone after this.
    let old = first.pids("web");
    first.ok(&["up", "-d", "--recreate"]);
    until("the old instances are gone", || (!old.iter().any(|pid| alive(*pid)), ()));
    second.ok(&["up", "-d"]);
    assert_eq!(addresses(&first), before);
    assert_ne!(addresses(&second), before);
}
