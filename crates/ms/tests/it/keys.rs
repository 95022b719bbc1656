//! Keys of Compose files that nothing else here covers: what each promises, on what runs.

use std::path::Path;
use std::process::Stdio;

use crate::harness::{Project, free_port, get_json, root, texts, until};

/// A service of this name that runs natively, with these lines.
fn native(name: &str, lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("  {name}:\n    image: example/{name}\n    x-mainspring: {{native: true}}\n{lines}")
}

/// Bytes in the files of a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn logging_bounds_what_is_kept_and_none_keeps_nothing() {
    let script = "i=0; while [ $$i -lt 4000 ]; do echo line $$i of many that would fill a disk; i=$$((i+1)); done; \
                  echo all said; exec sleep 1000";
    let check = "healthcheck: {test: [CMD-SHELL, 'ps -o comm | grep -q sleep || pgrep sleep'], \
                 interval: 1s, start_period: 60s, start_interval: 100ms}";
    let project = Project::new(&format!(
        "services:\n{}{}",
        native(
            "bounded",
            &format!(
                "command: ['sh', '-c', '{script}']\n\
                 logging: {{driver: json-file, options: {{max-size: 8k, max-file: '2'}}}}"
            )
        ),
        // More than a pipe holds: who is not read would never come to its end.
        native(
            "quiet",
            &format!("command: ['sh', '-c', '{script}']\nlogging: {{driver: none}}\n{check}",)
        )
    ));
    project.ok(&["up", "-d"]);
    let said = until("everything is said", || {
        let text = project.ok(&["logs", "bounded"]);
        (text.contains("all said"), text)
    });
    assert!(said.lines().count() < 3000, "{} lines are kept", said.lines().count());
    let kept = project.path(".ms/logs/bounded.1");
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2, "max-file");
    // A file is put aside when it is over its size; what is read at once may make it larger.
    assert!(bytes(&kept) < 200 << 10, "{} bytes", bytes(&kept));
    assert_eq!(bytes(&project.path(".ms/logs/quiet.1")), 0);
    assert_eq!(project.ok(&["logs", "quiet"]), "");
}

#[test]
fn what_cannot_be_done_as_asked_is_said_once_with_its_place() {
    if !root() {
        eprintln!("not run: an ordinary user's instances do without more");
        return;
    }
    // More than the kernel gives anybody.
    let lines = "command: sleep 1000\nulimits: {nofile: -1}\ndeploy: {replicas: 2}";
    let project = Project::new(&format!("services:\n{}", native("web", lines)));
    let (_, said) = texts(&project.ms(&["up", "-d"]));
    let warning = "warning[not-as-asked]: `web`: its limit `nofile` is ";
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    assert!(said.contains("compose.yaml:2:3"), "{said}");
    let why = project.ok(&["why", "web"]);
    assert_eq!(why.matches("its limit `nofile` is ").count(), 1, "{why}");
    let (_, again) = texts(&project.ms(&["up", "-d"]));
    assert!(!again.contains("not-as-asked"), "nothing has changed: {again}");
}

#[test]
fn damaged_records_are_told_with_a_way_out() {
    let project = Project::new(&format!("services:\n{}", native("web", "command: sleep 1000")));
    project.ok(&["up", "-d"]);
    project.ok(&["down"]);
    let store = project.path(".ms/control.redb");
    let mut content = std::fs::read(&store).unwrap();
    content.iter_mut().skip(4096).for_each(|byte| *byte = 0xa5);
    std::fs::write(&store, &content).unwrap();
    let out = project.ms(&["up", "-d"]);
    let (_, said) = texts(&out);
    assert!(!out.status.success() && said.contains("error[store-damaged]"), "{said}");
    assert!(said.contains("control.redb.damaged"), "{said}");
    assert!(project.ok(&["explain", "store-damaged"]).contains("Volumes"));
    std::fs::rename(&store, store.with_extension("redb.damaged")).unwrap();
    project.ok(&["up", "-d"]);
    assert_eq!(project.pids("web").len(), 1);
}

#[test]
fn steps_before_the_start_run_once_or_for_each_instance() {
    if !root() {
        eprintln!("not run: volumes of its own need root");
        return;
    }
    let once = "echo once as $$NAME $$STEP in $$PWD by $$(id -u) >> /out/log; chmod 666 /out/log; echo migrating; touch /etc/ms-test-step";
    let each = "echo each $$HOSTNAME by $$(id -u) >> /out/log && test ! -e /etc/ms-test-step";
    let compose = |version: &str| {
        let lines = format!(
            "command: ['sh', '-c', 'echo runs; exec sleep 1000']
user: '65534:65534'
environment: {{NAME: web, VERSION: {version}}}
volumes: ['out:/out']
deploy: {{replicas: 2}}
restart: always
pre_start:
  - {{command: [sh, -c, 'chmod 777 /out'], user: root}}
  - {{command: [sh, -c, '{once}'], environment: {{STEP: one}}, working_dir: /usr, user: root}}
  - {{command: [sh, -c, '{each}'], per_replica: true}}"
        );
        format!("services:\n{}volumes: {{out: }}\n", native("web", &lines))
    };
    let project = Project::new(&compose("1"));
    let log = || std::fs::read_to_string(project.path(".ms/volumes/out/log")).unwrap();
    let count = |what: &str| log().lines().filter(|line| line.starts_with(what)).count();
    project.ok(&["up", "-d"]);
    assert!(log().starts_with("once as web one in /usr by 0\n"), "{}", log());
    assert_eq!((count("once"), count("each web.1 by 65534"), count("each web.2")), (1, 1, 1));
    let said = project.ok(&["logs", "web"]);
    assert!(said.find("migrating") < said.find("runs"), "its log has its steps: {said}");
    project.ok(&["scale", "web=3"]);
    assert_eq!((count("once"), count("each")), (1, 3), "{}", log());
    let pids = project.pids("web");
    crate::harness::kill_9(u32::try_from(pids[0]).unwrap());
    until("it comes back after its own steps", || (count("each") == 4, log()));
    assert_eq!(count("once"), 1);
    project.write("compose.yaml", &compose("2"));
    project.ok(&["up", "-d"]);
    assert_eq!(count("once"), 2, "a new release runs them: {}", log());
    assert!(!Path::new("/etc/ms-test-step").exists());
}

#[test]
fn a_step_before_the_start_that_fails_is_the_end_of_it() {
    let lines = "command: ['sh', '-c', 'echo must not run']
pre_start: [{command: [sh, -c, 'echo no such table >&2; exit 3']}]";
    let after = "command: sleep 1000\ndepends_on: [web]";
    let project =
        Project::new(&format!("services:\n{}{}", native("web", lines), native("after", after)));
    let out = project.ms(&["up", "-d"]);
    let (_, said) = texts(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("`pre_start` step") && said.contains("exited with code 3"), "{said}");
    assert!(said.contains("no such table"), "{said}");
    assert!(project.pids("after").is_empty());
    assert!(!project.ok(&["logs", "web"]).contains("must not run"));
}

#[test]
fn a_step_before_the_start_that_hangs_is_ended_with_its_service() {
    let lines = "command: sleep 1000\npre_start: [{command: [sleep, '12321']}]";
    let project = Project::new(&format!("services:\n{}", native("web", lines)));
    let mut up = project.command(&["up", "-d"]).stderr(Stdio::null()).spawn().unwrap();
    let runs = || {
        let out = std::process::Command::new("pgrep").args(["-fx", "sleep 12321"]).output();
        texts(&out.unwrap()).0.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = until("the step runs", || (runs().len() == 1, runs()));
    // What an engine that died has left is ended before it is begun anew.
    crate::harness::kill_9(project.engine_pid());
    until("the next engine runs the step, and it alone", || {
        let now = runs();
        (now.len() == 1 && now != first, now)
    });
    let shown = project.ok(&["ps"]);
    assert!(shown.contains("its `pre_start` steps come first"), "{shown}");
    project.ok(&["down"]);
    assert!(runs().is_empty(), "the step outlives its service");
    up.kill().unwrap();
    up.wait().unwrap();
}

/// Gets a page of this URL by the service's own Python, and says what it is.
const GET: &str = "import sys, time, urllib.request as r\n\
    for _ in range(600):\n    \
        try:\n        \
            print(r.urlopen(sys.argv[1], timeout=5).read().decode(), flush=True)\n        \
            break\n    \
        except OSError as e:\n        \
            time.sleep(0.1)\n\
    time.sleep(1000)\n";

#[test]
fn without_network_there_is_only_its_own_loopback() {
    if !root() {
        eprintln!("not run: the test asks for more than user namespaces give everywhere");
        return;
    }
    let port = free_port();
    let script = "wc -l < /proc/net/dev; \
                  python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", PORT), 5)' 2>&1 | tail -1; \
                  python3 -m http.server --bind 127.0.0.1 8099 > /dev/null 2>&1 & \
                  until python3 -c 'import urllib.request as r; r.urlopen(\"http://localhost:8099\")' 2> /dev/null; do sleep 0.1; done; \
                  echo done; exec sleep 1000"
        .replace("PORT", &port.to_string())
        .replace('\'', "''");
    let project = Project::new(&format!(
        "services:\n{}{}",
        native("web", &format!("command: python3 echo.py\nports: ['127.0.0.1:{port}:8080']")),
        native(
            "alone",
            &format!(
                "command: ['sh', '-c', '{script}']\nnetwork_mode: none\ndepends_on: [web]\n\
                 expose: ['8099']"
            )
        )
    ));
    project.ok(&["up", "-d"]);
    let said = until("it is done", || {
        let text = project.ok(&["logs", "alone"]);
        (text.contains("done"), text)
    });
    // Two lines of headings and `lo`.
    assert!(said.contains(" 3\n") && said.contains("Connection refused"), "{said}");
    let view = project.api("/api/services/alone");
    assert_eq!(view["service"]["ports"], serde_json::json!([]), "{view}");
    assert_eq!(get_json(port, "/")["name"], "?", "others are reached as ever");
}

#[test]
fn on_the_hosts_network_its_ports_are_the_hosts() {
    let port = free_port();
    let lines = format!(
        "command: python3 echo.py\nenvironment: {{PORT: '{port}', NAME: web}}\nnetwork_mode: host\n\
         expose: ['{port}']"
    );
    let project = Project::new(&format!("services:\n{}", native("web", &lines)));
    project.ok(&["up", "-d"]);
    assert_eq!(get_json(port, "/")["name"], "web");
    let view = project.api("/api/services/web");
    assert_eq!(view["service"]["ports"], serde_json::json!([]), "the edge is not asked: {view}");
}

#[test]
fn one_that_shares_a_network_is_at_home_there_and_moves_along() {
    if !root() {
        eprintln!("not run: addresses of their own need root");
        return;
    }
    let port = free_port();
    let compose = |version: &str| {
        let app = format!(
            "command: python3 echo.py\nenvironment: {{NAME: app, VERSION: '{version}'}}\n\
             ports: ['127.0.0.1:{port}:9000']\nexpose: ['8080']"
        );
        let side = "command: [sh, -c, 'python3 get.py http://localhost:8080/ & PORT=9000 NAME=side exec python3 echo.py']
network_mode: service:app";
        format!("services:\n{}{}", native("app", &app), native("side", side))
    };
    let project = Project::new(&compose("one"));
    project.write("get.py", GET);
    project.ok(&["up", "-d"]);
    let told = |what: &str| {
        until("it has reached the other at localhost", || {
            let text = project.ok(&["logs", "side"]);
            (text.contains(what), text)
        })
    };
    told("\"version\": \"one\"");
    assert_eq!(get_json(port, "/")["name"], "side", "published where its network is");
    let sees = get_json(port, "/call/localhost:8080");
    assert_eq!(sees["name"], "app");
    project.write("compose.yaml", &compose("two"));
    project.ok(&["up", "-d"]);
    told("\"version\": \"two\"");
    until("it is reached in the new network", || {
        let answer = crate::harness::try_get(port, "/");
        (answer.as_ref().is_ok_and(|(code, body)| *code == 200 && body.contains("side")), ())
    });
    let why = project.ok(&["why", "side"]);
    assert!(why.contains("moves to the network of app."), "{why}");
}

#[test]
fn what_no_node_fits_is_not_placed_and_said() {
    let db = "command: sleep 1000\nenvironment: {V: '1'}\n\
              deploy: {placement: {constraints: ['node.labels.disk == ssd']}}";
    let web = "command: sleep 1000\ndeploy: {replicas: 3, placement: {max_replicas_per_node: 2}}";
    let compose = format!("services:\n{}{}", native("db", db), native("web", web));
    let up = |project: &Project, labels: &str, service: &str| {
        let mut command = project.command(&["up", "-d", service]);
        let out = command.env("MS_NODE_LABELS", labels).output().unwrap();
        (out.status.code(), texts(&out).1)
    };
    let project = Project::new(&compose);
    let (code, said) = up(&project, "zone=a", "db");
    let reason = "it asks for `node.labels.disk == ssd`, and this node has no label `disk`";
    assert!(code == Some(1) && said.contains(reason), "{said}");
    assert!(project.ok(&["ps"]).contains("no node fits"), "{}", project.ok(&["ps"]));
    assert!(project.ok(&["why", "db"]).contains(reason));
    let (code, said) = up(&project, "", "web");
    assert!(code == Some(1) && said.contains("1 of 3 are not placed"), "{said}");
    assert_eq!(project.pids("web").len(), 2, "as many as may");

    let project = Project::new(&compose);
    let (code, said) = up(&project, "zone=a,disk=ssd", "db");
    assert_eq!(code, Some(0), "{said}");
    // A release that no node fits leaves the one before serving.
    project.write("compose.yaml", &compose.replace("== ssd", "== hdd").replace("'1'", "'2'"));
    let (pids, (code, said)) = (project.pids("db"), up(&project, "", "db"));
    assert!(code == Some(1) && said.contains("`node.labels.disk == hdd`"), "{said}");
    assert_eq!(project.pids("db"), pids);
}

#[test]
fn devices_and_parts_of_volumes_are_where_the_file_says() {
    if !root() {
        eprintln!("not run: files of its own need root");
        return;
    }
    let script = "test -c /dev/other-null && echo x > /dev/other-null && echo writes; \
                  head -c 4 /dev/readable | wc -c; \
                  (echo x > /dev/readable) 2>/dev/null || echo refused; \
                  test -e /dev/kmsg || echo no others; cat /part/file; echo done; exec sleep 1000";
    let lines = format!(
        "command: ['sh', '-c', '{script}']
devices: ['/dev/null:/dev/other-null', '/dev/zero:/dev/readable:r']
volumes: [{{type: volume, source: data, target: /part, volume: {{subpath: below/here}}}}]"
    );
    let compose = format!("services:\n{}volumes: {{data: }}\n", native("web", &lines));
    let project = Project::new(&compose);
    let out = project.ms(&["up", "-d"]);
    let (_, said) = texts(&out);
    assert!(!out.status.success() && said.contains("below/here"), "no part of it: {said}");
    let part = project.path(".ms/volumes/data/below/here");
    std::fs::create_dir_all(&part).unwrap();
    std::fs::write(part.join("file"), "the part\n").unwrap();
    project.ok(&["up", "-d"]);
    let said = until("it is done", || {
        let text = project.ok(&["logs", "web"]);
        (text.contains("done"), text)
    });
    for expected in ["writes\n", " 4\n", "no others\n", "the part\n"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // Where the kernel or this root has no such programs, that is said.
    let why = project.ok(&["why", "web"]);
    assert!(said.contains("refused\n") || why.contains("its devices may be used"), "{said}{why}");
    // A link in a volume leads nowhere else.
    std::fs::remove_dir_all(project.path(".ms/volumes/data/below")).unwrap();
    std::os::unix::fs::symlink("/etc", project.path(".ms/volumes/data/below")).unwrap();
    project.write("compose.yaml", &compose.replace("below/here", "below"));
    let (_, said) = texts(&project.ms(&["up", "-d"]));
    assert!(said.contains("volumes/data/below"), "{said}");
    std::fs::remove_file(project.path(".ms/volumes/data/below")).unwrap();
    std::fs::create_dir_all(&part).unwrap();
    project.write("compose.yaml", &compose.replace("/dev/null:", "/dev/no-such-device:"));
    let (_, said) = texts(&project.ms(&["up", "-d"]));
    assert!(said.contains("/dev/no-such-device"), "{said}");
}

#[test]
fn an_image_older_than_its_pull_policy_is_built_anew() {
    if !root() {
        eprintln!("not run: building needs root");
        return;
    }
    let compose = |every: &str| {
        format!(
            "services:
  web:
    build:
      context: .
      dockerfile_inline: |
        FROM debian
        RUN date +%s%N > /stamp
        CMD [\"sleep\", \"1000\"]
    pull_policy: {every}
"
        )
    };
    let project = Project::new(&compose("weekly"));
    project.ok(&["up", "-d"]);
    let pids = project.pids("web");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    project.ok(&["up", "-d"]);
    assert_eq!(project.pids("web"), pids, "it is young enough");
    project.write("compose.yaml", &compose("every_1s"));
    project.ok(&["up", "-d"]);
    until("a new release runs alone", || {
        let now = project.pids("web");
        (now.len() == 1 && now != pids, now)
    });
}
