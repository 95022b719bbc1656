//! From `up` to `down`, and what outlives a killed engine.

use crate::harness::{Project, alive, free_port, get_json, kill_9, root, texts, until};

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
fn the_foreground_says_what_died_and_ends_all_on_a_signal() {
    let project = Project::new(&web(free_port()));
    let said = project.path("said");
    let mut up = project
        .command(&["up"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let read = |what: &str| {
        until(what, || {
            let text = std::fs::read_to_string(&said).unwrap();
            (text.contains(what), text)
        })
    };
    read("1 of 1 healthy");
    // What was before the first look, a second later, has been shown otherwise.
    let seen = "web.1 was killed by SIGKILL";
    until("it says what died", || {
        // One that has just ended is none to kill.
        project.pids("web").iter().filter(|pid| alive(**pid)).for_each(|pid| {
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
            _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        });
        std::thread::sleep(std::time::Duration::from_millis(500));
        let text = std::fs::read_to_string(&said).unwrap();
        (text.contains(seen), text)
    });
    let id = rustix::process::Pid::from_child(&up);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(up.wait().unwrap().code(), Some(130));
    read("stopping");
    assert!(!project.ms(&["ps"]).status.success(), "the engine runs on");
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

/// However long a fresh instance is watched: nobody waits for that, everybody reaches the fresh
/// one, and the one before takes over again when it dies.
#[test]
fn a_restart_is_done_when_the_traffic_has_moved() {
    let port = free_port();
    let update = "update_config: {monitor: 1h}";
    let file = format!("{}    restart: always\n    deploy: {{{update}}}\n", web(port));
    let project = Project::new(&file);
    project.ok(&["up", "-d"]);
    let before = project.pids("web");
    project.ok(&["restart", "web"]);
    for _ in 0..20 {
        assert_eq!(get_json(port, "/")["instance"], "web.2");
    }
    let fresh = project.pids("web").into_iter().find(|pid| *pid != before[0]).unwrap();
    assert!(alive(before[0]), "it stands by");
    kill_9(u32::try_from(fresh).unwrap());
    until("the one before serves again", || {
        (get_json(port, "/")["instance"] == "web.1", project.pids("web"))
    });
    until("it is alone", || (project.pids("web") == before, project.pids("web")));
}

#[test]
fn what_listens_elsewhere_fails_by_name_and_says_where_it_listens() {
    let file = web(free_port())
        .replace("NAME: web", "NAME: web, PORT: '9999'")
        .replace("command: python3 echo.py", "command: sh -c 'echo begun; exec python3 echo.py'");
    let file = format!("{file}    healthcheck: {{start_period: 5s}}\n");
    let project = Project::new(&file);
    let out = project.ms(&["up", "-d"]);
    let (_, stderr) = texts(&out);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("`web` is not healthy"), "{stderr}");
    let why = "web.1 was not healthy within 5.0 s: nothing listens on port 8080";
    assert!(stderr.contains(why), "{stderr}");
    assert!(stderr.contains("web.1 | begun"), "its last lines are there: {stderr}");
    // Without an address of its own nobody can tell its ports from others'.
    if root() {
        until("it is seen where it does listen", || {
            let shown = project.ok(&["ps"]);
            (shown.contains("nothing listens on port 8080; it listens on 9999"), shown)
        });
    }
}

#[test]
fn steps_run_inside_after_the_start_and_before_the_stop() {
    let hooks = "    volumes: ['./out:/out']
    post_start: [{command: [sh, -c, 'sleep 0.3; echo $$STEP as $$NAME > /out/log'], environment: {STEP: begun}}]
    pre_stop: [{command: echo over, working_dir: /}, {command: [sh, -c, 'echo ends >> /out/log; kill -0 1']}]
";
    let project = Project::new(&format!("{}{hooks}", web(free_port())));
    project.ok(&["up", "-d"]);
    let log = || std::fs::read_to_string(project.path("out/log")).unwrap_or_default();
    assert_eq!(log(), "begun as web\n", "`up` is done when the steps are");
    project.ok(&["stop", "web"]);
    assert_eq!(log(), "begun as web\nends\n");
    let broken = hooks.replace("sleep 0.3;", "echo no key; exit 7;");
    project.write("compose.yaml", &format!("{}{broken}", web(free_port())));
    let out = project.ms(&["up", "-d"]);
    let (_, stderr) = texts(&out);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("failed in `post_start`: `sh -c echo no key"), "{stderr}");
    assert!(stderr.contains("exited with code 7: no key"), "{stderr}");
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
