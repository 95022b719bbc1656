//! Programs that do what programs do at their worst, as root and as an ordinary user: what comes of
//! it, and what is said.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use crate::harness::{Project, alive, free_port, root, texts, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// The same project for every kind of user that can be had here.
fn by_everybody(compose: &str) -> Vec<Project> {
    let mut all = vec![Project::new(compose)];
    if root() {
        all.push(Project::as_user(compose, NOBODY));
    }
    all
}

fn service(name: &str, command: &str, more: &str) -> String {
    format!(
        "  {name}:\n    image: example/{name}\n    x-mainspring: {{native: true}}\n    \
         command: {command}\n{more}"
    )
}

fn executable(project: &Project, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    project.write(name, text);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.path(name), mode).unwrap();
}

#[test]
fn what_cannot_run_is_told_apart() {
    for (command, expected) in [
        ("./env.py", &["bad.1 exited with code 127", "nothere"][..]),
        ("./direct.py", &["whose first line asks for /opt/nothere/python"]),
        (
            "['sh', '-c', 'echo no config >&2; exit 78']",
            &["bad.1 exited with code 78", "no config"],
        ),
        ("no-such-program", &["not found in PATH"]),
    ] {
        let file = ["services:\n", &service("bad", command, "    restart: 'no'\n")].concat();
        for project in by_everybody(&file) {
            executable(&project, "env.py", "#!/usr/bin/env nothere\n");
            executable(&project, "direct.py", "#!/opt/nothere/python\n");
            // One that ends at once may have been healthy for a moment.
            project.ms(&["up", "-d"]);
            until("it is told", || {
                let said = project.ok(&["why", "bad"]);
                (expected.iter().all(|expected| said.contains(expected)), said)
            });
        }
    }
}

#[test]
fn who_ignores_the_signal_is_killed_after_its_grace_with_all_it_began() {
    let stubborn =
        "['sh', '-c', 'trap \"\" TERM; (setsid sleep 4242 &); echo up; while :; do sleep 1; done']";
    let grace = "    stop_grace_period: 300ms\n";
    for project in by_everybody(&["services:\n", &service("stubborn", stubborn, grace)].concat()) {
        project.ok(&["up", "-d"]);
        let pid = project.pids("stubborn")[0];
        project.ok(&["stop", "stubborn"]);
        assert!(!alive(pid));
        let why = project.ok(&["why", "stubborn"]);
        assert!(why.contains("was killed by SIGKILL after it was asked to stop"), "{why}");
    }
}

/// A daemon that goes into the background: the program that was started ends, and that is the end of
/// the instance with all that it has left.
#[test]
fn who_forks_away_has_ended_and_what_it_left_ends_too() {
    let mark = format!("4{}", free_port());
    let away = format!("setsid sleep {mark} & while [ \"$$(cat /proc/$$!/comm)\" != sleep ]");
    let daemon = format!("['sh', '-c', '{away}; do :; done; echo in the background']");
    let file = ["services:\n", &service("daemon", &daemon, "    restart: 'no'\n")].concat();
    for project in by_everybody(&file) {
        let out = project.ms(&["up", "-d"]);
        let (stdout, said) = texts(&out);
        assert!(out.status.success(), "{said}");
        assert!(stdout.contains("completed"), "{stdout}");
        until("nothing of it is left", || {
            let sleeps = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                line == format!("sleep\0{mark}\0").as_bytes()
            });
            let left: Vec<_> = sleeps.map(|entry| entry.path()).collect();
            (left.is_empty(), left)
        });
        let why = project.ok(&["why", "daemon"]);
        assert!(why.contains("left `sleep"), "{why}");
        assert!(why.contains("in the foreground"), "{why}");
    }
}

#[test]
fn who_eats_its_memory_is_killed_and_said_to_have() {
    let eats = "python3 -c 'x = bytearray(400 << 20); print(len(x), flush=True)'";
    let limit = "    mem_limit: 64m\n    restart: 'no'\n";
    for project in by_everybody(&["services:\n", &service("eats", eats, limit)].concat()) {
        let out = project.ms(&["up", "-d"]);
        let (_, said) = texts(&out);
        // How soon it eats is its own affair.
        let ended = until("it has ended", || {
            let why = project.ok(&["why", "eats"]);
            (why.contains("instance-failed") || why.contains("instance-completed"), why)
        });
        let lacks = project.api("/api/status")["isolation"]["missing"].to_string();
        assert!(out.status.success() || ended.contains("instance-failed"), "{said}");
        match lacks.contains("memory limits") {
            // Without its limit it does what it likes, and that was said.
            true => assert!(said.contains("less-isolated"), "{said}"),
            false => {
                let why = "was killed by SIGKILL at its memory limit";
                assert!(ended.contains(why), "{ended}");
            }
        }
    }
}

#[test]
fn a_taken_udp_port_is_named_with_who_holds_it() {
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let ports = format!("    ports: ['127.0.0.1:{port}:5353/udp']\n");
    for project in by_everybody(&["services:\n", &service("dns", "sleep 1000", &ports)].concat()) {
        let out = project.ms(&["up", "-d"]);
        let (_, said) = texts(&out);
        if said.contains("udp-port") {
            continue; // It is not listened on here, which is said.
        }
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains("error[port-taken]") && said.contains(&port.to_string()), "{said}");
        // Whose it is only its own user and root may know.
        if root() {
            let mine = std::process::id().to_string();
            let named = said.contains(&mine);
            assert!(named || project.ms(&["ps"]).status.code() == Some(3), "{said}");
        }
    }
}
