//! Each key, in each of its forms.

use std::time::Duration;

use spec::model::*;

use crate::{app, brief, findings, options, service, try_load};

#[test]
fn services_on_internal_networks_alone_stay_inside() {
    let app = app("services:
  web: {image: x, command: x, x-mainspring: {native: true}, networks: [front, back]}
  db: {image: x, command: x, x-mainspring: {native: true}, networks: [back]}
  beside: {image: x, command: x, x-mainspring: {native: true}, network_mode: 'service:db'}
  plain: {image: x, command: x, x-mainspring: {native: true}}
  host: {image: x, command: x, x-mainspring: {native: true}, network_mode: host}
networks: {front: , back: {internal: true}}
");
    let inside = app.services.values().filter(|s| s.networking.inside);
    let inside: Vec<&str> = inside.map(|s| s.name.as_str()).collect();
    assert_eq!(inside, ["beside", "db"]);
}

#[test]
fn commands_are_split_as_a_shell_would() {
    for (text, expected) in [
        ("command: echo 'a b' c", Some(vec!["echo", "a b", "c"])),
        ("command: [echo, 'a b', 1, true]", Some(vec!["echo", "a b", "1", "true"])),
        ("command: python -c \"print(1)\"", Some(vec!["python", "-c", "print(1)"])),
        ("entrypoint: x\ncommand: []", Some(vec![])),
        ("entrypoint: x\ncommand: ''", Some(vec![])),
        ("entrypoint: x\ncommand:", None),
        ("entrypoint: x", None),
    ] {
        let text = text.replace('\n', "\n    ");
        let app = app(&format!("services:\n  a:\n    {text}\n"));
        let expected: Option<Vec<String>> =
            expected.map(|e: Vec<&str>| e.into_iter().map(str::to_owned).collect());
        assert_eq!(app.services["a"].command, expected, "{text}");
    }
}

#[test]
fn environment_in_both_forms() {
    for lines in [
        "environment:\n  A: 1\n  B: 'x=y'\n  C: 1.10\n  D: '1.10'\n  E:\n  F: ''\n  G: true",
        "environment:\n  - A=1\n  - B=x=y\n  - C=1.1\n  - D=1.10\n  - E\n  - F=\n  - G=true",
    ] {
        let env = service(lines).environment;
        let pairs: Vec<_> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["A=1", "B=x=y", "C=1.1", "D=1.10", "F=", "G=true"], "{lines}");
    }
}

#[test]
fn ports_in_every_form() {
    let shown = |text: &str| -> Vec<String> {
        let ports = service(&format!("ports:\n  - {text}")).ports;
        let each = ports.iter().map(|p| {
            let ip = p.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            let published = p.published.map_or("any".to_owned(), |p| p.to_string());
            format!("{ip} {published} {} {:?}", p.target, p.protocol)
        });
        each.collect()
    };
    for (text, expected) in [
        ("80", vec!["* any 80 Tcp"]),
        ("\"8080:80\"", vec!["* 8080 80 Tcp"]),
        ("8080:80/udp", vec!["* 8080 80 Udp"]),
        ("127.0.0.1:8080:80", vec!["127.0.0.1 8080 80 Tcp"]),
        ("127.0.0.1::80", vec!["127.0.0.1 any 80 Tcp"]),
        ("\"[::1]:8080:80\"", vec!["::1 8080 80 Tcp"]),
        ("3000-3001", vec!["* any 3000 Tcp", "* any 3001 Tcp"]),
        ("9000-9001:80-81", vec!["* 9000 80 Tcp", "* 9001 81 Tcp"]),
        ("9000-9005:80", vec!["* 9000 80 Tcp"]),
        ("{target: 80, published: '8080', host_ip: 0.0.0.0}", vec!["0.0.0.0 8080 80 Tcp"]),
        ("{target: 53, protocol: udp, mode: host}", vec!["* any 53 Udp"]),
        ("${PORT:-8080}:80", vec!["* 8080 80 Tcp"]),
        // The same port said again is one port.
        ("8080:80\n  - 8080:80/tcp", vec!["* 8080 80 Tcp"]),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
    for bad in [
        "0",
        "70000",
        "a:80",
        "80:80:80:80",
        "1-5:1-3",
        "5-1",
        "x.y:1:1",
        "80/sctp",
        "{published: 80}",
        "'80:'",
        "''",
    ] {
        let found = crate::about(&format!("ports:\n  - {bad}"));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].starts_with("error ") && found[0].ends_with(" 5"), "{bad}: {found:?}");
    }
}

#[test]
fn volumes_in_every_form() {
    let text = "services:\n  a:\n    command: x\n    tmpfs: /run:size=64m,mode=1777\n    volumes:\n      \
        - ./src:/app:ro\n      - data:/data\n      - /cache\n      - ../up/./x:/up\n      \
        - {type: bind, source: /etc/hosts, target: /h, bind: {create_host_path: false}}\n      \
        - {type: tmpfs, target: /tmp, tmpfs: {size: 1m, mode: 0755}}\n\
        volumes:\n  data:\n";
    let app = app(text);
    let shown: Vec<_> = app.services["a"]
        .volumes
        .iter()
        .map(|m| match &m.kind {
            MountKind::Tmpfs { size_bytes: Some(size), mode: Some(mode), .. } => {
                format!("{} Tmpfs size={size},mode={mode:o}", m.target.display())
            }
            _ => format!("{} {:?} {}", m.target.display(), m.kind, m.read_only),
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"/app Bind { source: "/srv/shop/src", create_host_path: true } true"#,
            r#"/data Named { name: "data", subpath: None } false"#,
            "/cache Anonymous false",
            r#"/up Bind { source: "/srv/up/x", create_host_path: true } false"#,
            r#"/h Bind { source: "/etc/hosts", create_host_path: false } false"#,
            "/tmp Tmpfs size=1048576,mode=755",
            "/run Tmpfs size=67108864,mode=1777",
        ]
    );
    assert_eq!(app.volumes["data"].name, "shop_data");
    for bad in [
        "x:y",
        "data/x:/y",
        "./x:/",
        "a:/b:zz",
        "{type: npipe, target: /a}",
        "{type: bind, target: /a}",
    ] {
        let found = crate::about(&format!("volumes:\n  - {bad}"));
        assert!(found[0].starts_with("error bad-"), "{bad}: {found:?}");
    }
    assert_eq!(crate::about("volumes:\n  - data:/x"), ["error volume-unknown 5"]);
}

#[test]
fn health_checks_with_the_defaults_of_compose() {
    let check = |lines: &str| service(&format!("healthcheck:\n{lines}")).healthcheck.unwrap();
    let default = check("  test: curl -f localhost");
    assert_eq!(default.test, Test::Shell("curl -f localhost".into()));
    let seconds = |s| Duration::from_secs(s);
    assert_eq!((default.interval, default.timeout, default.retries), (seconds(30), seconds(30), 3));
    assert_eq!((default.start_period, default.start_interval), (seconds(0), seconds(5)));
    let full = check(
        "  test: [CMD, a, b]\n  interval: 1m30s\n  timeout: 500ms\n  retries: 5\n  \
         start_period: 1h\n  start_interval: 2s",
    );
    assert_eq!(full.test, Test::Exec(vec!["a".into(), "b".into()]));
    assert_eq!((full.interval, full.timeout), (seconds(90), Duration::from_millis(500)));
    assert_eq!(check("  test: [CMD-SHELL, 'a | b']").test, Test::Shell("a | b".into()));
    assert_eq!(check("  test: [NONE]").test, Test::None);
    assert_eq!(check("  disable: true").test, Test::None);
    assert_eq!(crate::about("healthcheck:\n  interval: 5s"), ["error healthcheck-no-test 4"]);
    // How long a start may take means something without a test too.
    assert!(crate::about("healthcheck:\n  start_period: 5m").is_empty());
    assert_eq!(crate::about("healthcheck:\n  test: [curl, x]"), ["error bad-value 5"]);
}

#[test]
fn restart_from_both_places() {
    for (lines, expected) in [
        ("restart: no", Restart::No),
        ("restart: always", Restart::Always),
        ("restart: unless-stopped", Restart::UnlessStopped),
        ("restart: on-failure", Restart::OnFailure { max_retries: None }),
        ("restart: on-failure:3", Restart::OnFailure { max_retries: Some(3) }),
        ("deploy: {restart_policy: {condition: none}}", Restart::No),
        (
            "restart: always\ndeploy: {restart_policy: {condition: on-failure, max_attempts: 2}}",
            Restart::OnFailure { max_retries: Some(2) },
        ),
    ] {
        assert_eq!(service(lines).restart, expected, "{lines}");
    }
    assert_eq!(crate::about("restart: sometimes"), ["error bad-value 4"]);
}

#[test]
fn deploy_and_its_short_forms() {
    let both = [
        "scale: 3\nmem_limit: 64m\ncpus: 0.5\npids_limit: 10",
        "deploy:\n  replicas: 3\n  resources: {limits: {memory: 64M, cpus: '0.50', pids: 10}}",
    ];
    for lines in both {
        let service = service(lines);
        assert_eq!(service.replicas, 3, "{lines}");
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpus: Some(0.5),
            pids: Some(10),
            ..Limits::default()
        };
        assert_eq!(service.limits, limits, "{lines}");
    }
    let update = service(
        "deploy:\n  update_config: {parallelism: 0, delay: 10s, order: stop-first, \
         failure_action: pause, monitor: 1m, max_failure_ratio: 0.25}",
    )
    .update;
    assert_eq!(
        update,
        UpdateConfig {
            parallelism: 0,
            delay: Duration::from_secs(10),
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(60),
            max_failure_ratio: 0.25,
            order: UpdateOrder::StopFirst,
        }
    );
    assert_eq!(service("init: true").update, UpdateConfig::default());
    assert_eq!(crate::about("scale: 2\ndeploy: {replicas: 3}"), ["error said-twice 4"]);
}

#[test]
fn dependencies_in_both_forms() {
    let text = "services:\n  a:\n    command: x\n    depends_on: [b]\n  b:\n    command: x\n    \
        depends_on:\n      c: {condition: service_healthy, restart: true}\n      \
        d: {condition: service_completed_successfully, required: false}\n  \
        c: {command: x, healthcheck: {test: y}}\n  d: {command: x}\n";
    let app = app(text);
    let a = &app.services["a"].depends_on[0];
    assert_eq!((a.condition, a.required, a.restart), (Condition::ServiceStarted, true, false));
    let b = &app.services["b"].depends_on;
    assert_eq!((b[0].condition, b[0].restart), (Condition::ServiceHealthy, true));
    assert_eq!(b[1].condition, Condition::ServiceCompletedSuccessfully);
    assert!(!b[1].required);
}

#[test]
fn the_extension() {
    let service = service(
        "image: python:3\nx-mainspring:\n  native: true\n  protocol: {8080: tcp, 9000: http}\n  \
         prepare: cargo build --release\n  balance: round-robin",
    );
    assert!(service.extension.native);
    assert_eq!(service.protocol(8080), Some(Protocol::Tcp));
    assert_eq!(service.protocol(9000), Some(Protocol::Http));
    assert_eq!(service.protocol(1), None);
    assert_eq!(service.extension.prepare.as_ref().unwrap().len(), 3);
    assert_eq!(service.extension.balance, Some(Balance::RoundRobin));
    let all = crate::service("x-mainspring: {protocol: tcp}");
    assert_eq!(all.protocol(5), Some(Protocol::Tcp));
    let found = crate::about("x-mainspring: {nativ: true}");
    assert_eq!(found, ["error key-unknown 4"]);
}

#[test]
fn protocol_from_the_port() {
    for (port, expected) in [
        ("{target: 1, app_protocol: http}", Some(Protocol::Http)),
        ("{target: 1, name: http-admin}", Some(Protocol::Http)),
        ("{target: 1, name: grpc}", Some(Protocol::Http)),
        ("{target: 1, name: tcp-x}", Some(Protocol::Tcp)),
        ("{target: 1, name: web}", None),
        ("{target: 1, app_protocol: tcp, name: http}", Some(Protocol::Tcp)),
    ] {
        assert_eq!(service(&format!("ports: [{port}]")).protocol(1), expected, "{port}");
    }
}

#[test]
fn paths_start_from_the_project() {
    assert_eq!(
        service("working_dir: src/../app").working_dir.unwrap(),
        std::path::Path::new("/srv/shop/app")
    );
    assert_eq!(service("working_dir: /opt").working_dir.unwrap(), std::path::Path::new("/opt"));
}

#[test]
fn names_of_apps() {
    let text = "name: ${N:-said}\nservices: {a: {command: x}}\n";
    assert_eq!(app(text).name, "said");
    assert_eq!(app("services: {a: {command: x}}").name, "shop");
    let files = crate::Memory::default().with("compose.yaml", text);
    let mut given = options();
    given.env.insert("COMPOSE_PROJECT_NAME".into(), "env".into());
    assert_eq!(spec::load(&given, &files).unwrap().app.name, "env");
    given.project_name = Some("flag".into());
    assert_eq!(spec::load(&given, &files).unwrap().app.name, "flag");
    assert_eq!(
        brief(&findings("name: Not Good\nservices: {a: {command: x}}")),
        ["error project-name 1"]
    );
}

#[test]
fn profiles_switch_services_on() {
    let text = "services:\n  a: {command: x}\n  b: {command: x, profiles: [debug]}\n  \
        c: {command: x, profiles: [debug, other]}\n";
    let names = |profiles: &[&str], env: &str, services: &[&str]| -> String {
        let mut options = options();
        options.profiles = profiles.iter().map(|p| (*p).to_owned()).collect();
        options.services = services.iter().map(|p| (*p).to_owned()).collect();
        options.env.insert("COMPOSE_PROFILES".into(), env.into());
        let files = crate::Memory::default().with("compose.yaml", text);
        let app = spec::load(&options, &files).unwrap().app;
        app.services.keys().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&[], "", &[]), "a");
    assert_eq!(names(&["debug"], "", &[]), "a b c");
    assert_eq!(names(&[], "x, other", &[]), "a c");
    assert_eq!(names(&["*"], "", &[]), "a b c");
    assert_eq!(names(&[], "", &["b"]), "a b");
    assert_eq!(names(&["debug"], "other", &[]), "a b c");
    let needs = "services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, profiles: [p]}\n";
    assert_eq!(brief(&findings(needs)), ["error dependency-unknown 2"]);
}

#[test]
fn environment_files_and_who_wins() {
    let text = "services:\n  a:\n    command: x\n    env_file:\n      - one.env\n      \
        - {path: raw.env, format: raw}\n      - {path: none.env, required: false}\n    \
        environment: {B: own, W: \"${W}\", S: \"${S}\"}\n";
    let files = crate::Memory::default()
        .with("compose.yaml", text)
        .with(".env", "never read: the folder is /srv/shop")
        .with("/srv/shop/.env", "W=dotenv\nS=dotenv\n")
        .with("/srv/shop/one.env", "A=\"$S!\" # c\nB=file\n")
        .with("/srv/shop/raw.env", "R='$x'\n");
    let mut options = options();
    options.env.insert("S".into(), "shell".into());
    let loaded = spec::load(&options, &files).unwrap();
    assert_eq!(loaded.findings, []);
    let env = &loaded.app.services["a"].environment;
    let pairs: Vec<_> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(pairs, ["A=shell!", "B=own", "R='$x'", "S=shell", "W=dotenv"]);
    options.env_files = vec!["other.env".into()];
    let found = spec::load(&options, &files).unwrap_err();
    assert_eq!(found[0].problem.code, "env-file-unreadable");
    let missing = try_load("services:\n  a: {command: x, env_file: no.env}\n").unwrap_err();
    assert_eq!(brief(&missing), ["error env-file-unreadable 2"]);
}
