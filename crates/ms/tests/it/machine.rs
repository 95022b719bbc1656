//! What happens to the machine: it is restarted. And machines that are made otherwise than usual.
//!
//! A run of the machine is a PID namespace here, whose end kills all that is in it, with a boot id
//! and an `/etc` of its own over the kernel's and the machine's.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;

use crate::harness::{Project, free_port, root, texts};

/// A run of the machine in which these lines of shell are typed; `$MS` is the program.
fn run_of_the_machine(project: &Project, number: u32, lines: &str) -> Output {
    let boot = project.path("boot_id");
    std::fs::write(&boot, format!("00000000-0000-4000-8000-{number:012}\n")).unwrap();
    let over = "/proc/sys/kernel/random/boot_id";
    let script = format!(
        "set -e\nmount --bind '{}' {over}\ncp -a /etc etc\nmount --bind etc /etc\n{lines}",
        boot.display()
    );
    let ms = project.command(&[]);
    let mut machine = Command::new("unshare");
    machine
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script])
        .current_dir(project.path(""))
        .env("MS", ms.get_program())
        .env("HOME", project.path(""))
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("MS_CONSOLE", "127.0.0.1:0")
        .env("MS_ADDRESSES", addresses(project))
        .env("NO_COLOR", "1")
        .env_remove("MS_STATE")
        .stdin(std::process::Stdio::null());
    let out = machine.output().unwrap();
    std::fs::remove_dir_all(project.path("etc")).unwrap();
    out
}

/// Addresses that are no other engine's: those of the host that run beside this take free ones.
fn addresses(project: &Project) -> String {
    static NEXT: AtomicU8 = AtomicU8::new(200);
    let kept = project.path("addresses.of.this.machine");
    std::fs::read_to_string(&kept).unwrap_or_else(|_| {
        let own = format!("127.{}.0.0/16", NEXT.fetch_add(1, Ordering::Relaxed));
        std::fs::write(kept, &own).unwrap();
        own
    })
}

/// Each instance with its release and state, and the addresses of services.
fn picture(project: &Project, file: &str) -> Vec<(String, String, String)> {
    let text = std::fs::read(project.path(file)).unwrap();
    let ps: Value = serde_json::from_slice(&text).unwrap();
    let mut seen = Vec::new();
    for service in ps["services"].as_array().unwrap() {
        let name = service["name"].as_str().unwrap().to_owned();
        seen.push((name, service["address"].to_string(), service["published"].to_string()));
        for instance in service["instances"].as_array().unwrap() {
            let id = instance["id"].as_str().unwrap().to_owned();
            seen.push((id, instance["release"].to_string(), instance["state"].to_string()));
        }
    }
    seen.sort();
    seen
}

#[test]
fn after_a_restart_of_the_machine_up_brings_back_exactly_what_ran() {
    if !root() {
        eprintln!("not run: a machine of its own takes root");
        return;
    }
    let port = free_port();
    let compose = |version: u32| {
        format!(
            "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    environment: {{NAME: web, VERSION: '{version}'}}
    ports: ['127.0.0.1:{port}:8080']
    volumes: ['data:/data']
    depends_on: [db]
  db:
    image: example/db
    x-mainspring: {{native: true}}
    command: python3 echo.py
    expose: ['8080']
  job:
    image: example/job
    x-mainspring: {{native: true}}
    command: echo done
    restart: 'no'
volumes: {{data: {{}}}}
"
        )
    };
    let project = Project::new(&compose(2));
    project.write("first.yaml", &compose(1));
    // Two releases, another number of instances than the file says, and then the power fails.
    let out = run_of_the_machine(
        &project,
        1,
        "$MS up -d first.yaml; $MS up -d; $MS scale web=3; $MS exec web sh -c 'echo kept > /data/x'
         while $MS ps | grep 'web.1 '; do sleep 0.1; done # which stands by for a while
         $MS ps --json > before.json",
    );
    assert!(out.status.success(), "{:?}\n{}", texts(&out), project.engine_log());
    let before = picture(&project, "before.json");
    assert_eq!(before.iter().filter(|(_, _, state)| state == "\"healthy\"").count(), 4);

    let out = run_of_the_machine(&project, 2, "$MS ps");
    let (_, said) = texts(&out);
    assert_eq!(out.status.code(), Some(3), "{said}");
    let ran = "the machine was restarted while these ran: db.1, web.2, web.3, web.4";
    assert!(said.contains(ran), "{said}");

    let out = run_of_the_machine(
        &project,
        3,
        "$MS up -d; $MS ps --json > after.json; $MS history; $MS exec web cat /data/x; $MS down",
    );
    let (said, also) = texts(&out);
    assert!(out.status.success(), "{said}\n{also}\n{}", project.engine_log());
    let back = "the machine was restarted; what ran before comes back: db.1, web.2, web.3, web.4";
    assert!(said.contains(back), "{said}");
    assert!(!said.contains("instance-failed"), "{said}");
    assert!(said.contains("\nkept\nstopped 3 services in "), "{said}");
    assert_eq!(picture(&project, "after.json"), before);
}

#[test]
fn after_a_restart_of_the_machine_start_brings_the_engine_back_and_starts_what_is_asked() {
    if !root() {
        eprintln!("not run: a machine of its own takes root");
        return;
    }
    let sleeps = |name: &str| {
        format!(
            "  {name}:
    image: example/{name}
    x-mainspring: {{native: true}}
    command: sleep 1000
"
        )
    };
    let services = ["web", "db", "idle"].map(sleeps).concat();
    let project = Project::new(&format!("services:\n{services}"));
    let out = run_of_the_machine(
        &project,
        1,
        "! $MS start; $MS up -d; $MS stop db idle; $MS ps --json > before.json",
    );
    // A state folder in which nothing ever ran says nothing.
    let no_engine = |also: &str| also.matches("error[no-engine]").count();
    let (said, also) = texts(&out);
    assert!(out.status.success(), "{said}\n{also}\n{}", project.engine_log());
    assert_eq!(no_engine(&also), 1, "{also}");

    // The file is not read: what was accepted comes back.
    project.write("compose.yaml", "services: {}\n");
    let out = run_of_the_machine(
        &project,
        2,
        "$MS start db --dry-run; ! $MS ps; $MS start db; $MS ps --json > after.json",
    );
    let (said, also) = texts(&out);
    assert!(out.status.success(), "{said}\n{also}\n{}", project.engine_log());
    assert!(said.contains("(engine)  would be started: none runs"), "{said}");
    assert!(also.contains("what ran before comes back"), "{also}");
    assert_eq!(no_engine(&also), 1, "a dry run starts nothing: {also}");
    let healthy = |file: &str| {
        let mut seen = picture(&project, file);
        seen.retain(|(_, _, state)| state == "\"healthy\"");
        seen.into_iter().map(|(id, ..)| id).collect::<Vec<_>>()
    };
    assert_eq!(healthy("before.json"), ["web.1"]);
    assert_eq!(healthy("after.json"), ["db.1", "web.1"]);

    // What was taken down does not come back, and no engine is left for it.
    let out = run_of_the_machine(&project, 3, "$MS start web; $MS down; ! $MS start; ! $MS ps");
    let (said, also) = texts(&out);
    assert!(out.status.success(), "{said}\n{also}\n{}", project.engine_log());
    assert_eq!(no_engine(&also), 2, "{also}");
}

/// As inside a container, where `/etc/hosts` is a mount, and on systems that mount `/etc`.
#[test]
fn names_are_found_where_etc_is_a_mount() {
    if !root() {
        eprintln!("not run: a machine of its own takes root");
        return;
    }
    let compose = "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: sleep 1000
  db:
    image: example/db
    x-mainspring: {native: true}
    command: sleep 1000
";
    let as_user = "setpriv --reuid=65534 --regid=65534 --clear-groups ";
    for (project, who) in
        [(Project::new(compose), ""), (Project::as_user(compose, 65_534), as_user)]
    {
        let out = run_of_the_machine(
            &project,
            1,
            &format!("MS=\"{who}$MS\"; $MS up -d; $MS exec web getent hosts db; $MS down"),
        );
        let (said, also) = texts(&out);
        assert!(out.status.success(), "{who}: {said}\n{also}\n{}", project.engine_log());
        let found = said.lines().any(|line| line.starts_with("127.2") && line.ends_with("db"));
        assert!(found, "{who}: {said}");
    }
}
