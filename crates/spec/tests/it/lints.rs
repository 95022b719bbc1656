//! What `ms check` says beyond what loading must.

use std::path::Path;

use spec::check::check;
use spec::{Files, Finding, LoadOptions, Severity};

use crate::{Memory, brief, options, show};

#[test]
fn lints() {
    let text = "services:\n  a:\n    image: python\n    command: x\n    \
        environment:\n      DB_PASSWORD: hunter2\n      DB_PASSWORD_FILE: /run/x\n      SMTP_PASSWORD: /run/secrets/smtp\n      OTHER_TOKEN: ${T:-}\n      \
        URL: postgres://u:p@db/x\n      KEYBOARD: de\n    depends_on: [b]\n    ports: ['80:80']\n    scale: 2\n    \
        volumes: ['/var/run/docker.sock:/s', 'v:/v']\n  \
        b: {command: x, mem_limit: 1m, volumes: ['v:/v']}\nvolumes: {v: }\n";
    let files = crate::Memory::default().with("compose.yaml", text);
    let found = spec::check::check(&crate::options(), &files);
    assert_eq!(
        brief(&found),
        [
            "warning image-no-version 3",
            "warning credential-literal 6",
            "warning credential-literal 10",
            "warning dependency-unchecked 12",
            "warning docker-socket 15",
            "warning volume-shared 16",
            "note runs-as-root 2",
            "note no-memory-limit 2",
            "note port-replicas 13",
        ]
    );
    assert!(!show(&found).contains("hunter2"), "secrets are never printed");
}

#[test]
fn each_habit_and_its_better_way() {
    let none: [&str; 0] = [];
    for (lines, expected) in [
        ("command: x", &none[..]),
        // Data inside.
        ("image: docker.io/library/postgres:16", &["data-inside"]),
        ("image: postgres:16\nvolumes: ['v:/var/lib/postgresql/data']", &none),
        ("image: postgres:18\nvolumes: ['v:/var/lib/postgresql']", &none),
        ("image: mysql:8\ntmpfs: [/var/lib/mysql]", &none),
        ("image: me/mysql-exporter:1", &none),
        ("image: mysql:8\ncommand: x\nx-mainspring: {native: true}", &none),
        // An app in two pieces.
        ("volumes: ['./src:/app']", &["code-mounted"]),
        ("volumes: ['.:/usr/src/app:ro']", &["code-mounted"]),
        ("working_dir: /home/me\nvolumes: ['.:/home/me']", &["code-mounted"]),
        ("volumes: ['./nginx.conf:/app/nginx.conf']", &none),
        ("volumes: ['./data:/data', '/etc/ssl:/app/ssl', 'v:/app/x']", &none),
        ("command: sh -c 'npm ci && npm start'", &["install-at-start"]),
        ("command: sh -c 'git pull; run'", &["install-at-start"]),
        ("command: npm citation", &none),
        // Versions.
        ("image: me/app", &["image-no-version"]),
        ("image: me/app:latest", &["image-no-version"]),
        ("image: me/app@sha256:abc", &none),
        // Several processes.
        ("command: [supervisord, -n]", &["several-processes"]),
        ("command: sh -c 'a & b'", &["several-processes"]),
        ("entrypoint: [/bin/sh, -c]\ncommand: ['exec a > /dev/null 2>&1']", &none),
        // Credentials.
        ("environment: {DB_PASSWORD: hunter2}", &["credential-literal"]),
        ("command: run postgres://a:b@c/d", &["credential-literal"]),
        ("environment: ['DB_PASSWORD=${P:-}', 'TOKEN_FILE=/run/x', 'KEY_LENGTH=5']", &none),
        // Root.
        ("privileged: true", &["rights-of-root"]),
        ("cap_add: [ALL]", &["rights-of-root"]),
        ("cap_add: [cap_sys_admin, NET_ADMIN]", &["rights-of-root"]),
        ("cap_add: [NET_BIND_SERVICE]", &none),
        ("user: root", &["runs-as-root"]),
        ("user: 0:0", &["runs-as-root"]),
        ("user: app", &none),
        // Addresses.
        ("environment: {DB: '10.0.0.5'}", &["address-literal"]),
        ("environment: ['DB=tcp://10.0.0.5:5432']", &["address-literal"]),
        ("environment: {DB: '127.0.0.1', B: '0.0.0.0', C: 1.2.3, NO_PROXY: '10.0.0.1'}", &none),
        ("environment: {DB: \"${DB:-10.0.0.5}\"}", &none),
        ("extra_hosts: ['db:10.0.0.5', 'x:127.0.0.1']", &["address-literal"]),
        ("networks: {n: {ipv4_address: 10.0.0.5}}", &["address-literal"]),
        // Extras.
        ("volumes: ['/var/run/docker.sock:/s:ro']", &["docker-socket"]),
        ("ports: ['80:80']\nscale: 2", &["port-replicas"]),
        ("ports: ['80']\nscale: 2", &none),
        ("mem_limit: 0", &["no-memory-limit"]),
    ] {
        let mut found = lint(lines);
        found.sort();
        let mut expected: Vec<&str> = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{lines}");
    }
}

/// What is said about a service of an image, the lines in a second document so that they may say
/// another; beside that images are not run.
fn lint(lines: &str) -> Vec<String> {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let text = format!(
        "services: {{a: {{image: 'x:1', mem_limit: 1m}}}}\nvolumes: {{v: }}\nnetworks: {{n: }}\n---\n\
         services:\n  a:\n{lines}"
    );
    let found = check(&options(), &Memory::default().with("compose.yaml", &text));
    let harmless = ["image-not-native", "key-ignored"];
    let kept = found.iter().filter(|f| !harmless.contains(&f.problem.code.as_str()));
    kept.map(|f| f.problem.code.clone()).collect()
}

#[test]
fn links_are_names_that_one_side_knows() {
    let text = "services:\n  a: {command: x, mem_limit: 1m, links: ['b:db']}\n  b: {command: x, mem_limit: 1m, \
                healthcheck: {test: y}}\n";
    let found = check(&options(), &Memory::default().with("compose.yaml", text));
    assert_eq!(brief(&found), ["note links-used 2"], "{}", show(&found));
}

#[test]
fn a_workshop_may_mount_code() {
    assert_eq!(lint("profiles: [dev]\nvolumes: ['.:/app']"), Vec::<String>::new());
}

#[test]
fn what_a_dockerfile_says() {
    let files = Memory::default()
        .with("compose.yaml", "services: {a: {build: ., mem_limit: 1m}, b: {build: ., user: u, mem_limit: 1m, environment: {API_KEY: }}}")
        .with("/srv/shop/Dockerfile", "FROM x\nENV API_KEY=abc\nCMD a & b\n");
    assert_eq!(
        brief(&check(&options(), &files)),
        [
            "warning several-processes 1",
            "warning image-no-version 1",
            "warning credential-literal 1",
            "warning several-processes 1",
            "warning image-no-version 1",
            "warning credential-literal 1",
            "note runs-as-root 1",
        ]
    );
}

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

fn of_example(name: &str) -> Vec<Finding> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let options = LoadOptions {
        files: vec![root.join("examples").join(name).join("compose.yaml")],
        env: [("HOME".to_owned(), "/home/me".to_owned())].into(),
        ..LoadOptions::default()
    };
    check(&options, &Disk)
}

#[test]
fn the_examples_are_as_they_should_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if !entry.path().join("compose.yaml").exists() {
            continue;
        }
        seen += 1;
        let found = of_example(entry.file_name().to_str().unwrap());
        let known = |f: &&Finding| !matches!(f.problem.code.as_str(), "run-skipped");
        let said: Vec<Finding> = found
            .into_iter()
            .filter(|f| f.severity != Severity::Note)
            .filter(|f| known(&f))
            .collect();
        assert!(said.is_empty(), "{}", show(&said));
    }
    assert!(seen >= 2, "{seen}");
}
