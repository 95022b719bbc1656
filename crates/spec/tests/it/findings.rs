//! What is said about a file, with its place.

use crate::{about, brief, findings, show, try_load};

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    let found =
        findings("services:\n  web:\n    command: x\n    prots: [80]\n    enviroment: {}\n");
    assert_eq!(brief(&found), ["error key-unknown 4", "error key-unknown 5"]);
    assert_eq!(found[0].problem.next.as_deref(), Some("did you mean `ports`?"));
    assert_eq!(found[1].problem.next.as_deref(), Some("did you mean `environment`?"));
    let place = found[0].problem.place.as_ref().unwrap();
    assert_eq!(place.to_string(), "compose.yaml:4:5");
    let top = findings("service:\n  a: {}\nx-anything: {b: 1}\n");
    assert_eq!(brief(&top), ["error key-unknown 1", "error no-services 1"]);
}

#[test]
fn every_other_key_is_said_once() {
    for (lines, expected) in [
        ("tty: true\nstdin_open: true", vec!["warning key-ignored 4", "warning key-ignored 5"]),
        ("gpus: all", vec!["error key-not-supported 4"]),
        ("secrets: [a]", vec!["error file-unknown 4"]),
        ("platform: linux", vec![]),
        ("platform: windows/amd64", vec!["warning key-partly 4"]),
        ("extends: {service: b}", vec!["error extends-unknown 4"]),
        ("logging: {driver: json-file, options: {max-size: 10m, max-file: '3'}}", vec![]),
        ("logging: {driver: none}", vec![]),
        ("logging: {driver: local, options: {compress: 'true'}}", vec!["warning key-partly 4"]),
        (
            "logging: {driver: syslog, options: {syslog-address: 'tcp://h:1'}}",
            vec!["warning key-partly 4"],
        ),
        ("logging: {options: {max-size: lots}}", vec!["error bad-value 4"]),
        ("group_add: [audio, 44]", vec![]),
        ("devices: ['/dev/null:/dev/x:r']", vec![]),
        ("devices: [null]", vec!["error bad-type 4"]),
        ("deploy: {restart_policy: {condition: any, max_attempts: 3}}", vec![]),
        ("tmpfs: ['/x:uid=1000,noexec']", vec![]),
        ("volumes: ['./x:/x:rprivate']", vec![]),
        ("volumes: ['./x:/x:rshared']", vec!["warning key-partly 4"]),
        (
            "volumes: [{type: bind, source: ., target: /x, bind: {propagation: rslave, \
             recursive: disabled, create_host_path: false}}]",
            vec!["warning key-partly 4", "warning key-partly 4"],
        ),
        (
            "volumes: [{type: volume, target: /x, source: v, volume: {subpath: a/../../b}}]",
            vec!["error bad-value 4", "error volume-unknown 4"],
        ),
        ("pull_policy: never", vec![]),
        ("pull_policy: every_12h", vec![]),
        ("pull_policy: sometimes", vec!["error bad-value 4"]),
        ("deploy: {resources: {reservations: {cpus: '0.5', memory: 20M}}}", vec![]),
        ("network_mode: host", vec![]),
        ("network_mode: none", vec![]),
        ("network_mode: service:b", vec!["error dependency-unknown 4"]),
        ("network_mode: service:a", vec!["error dependency-cycle 4"]),
        ("network_mode: 'service:a b'", vec!["error bad-value 4"]),
        ("network_mode: container:b", vec!["error bad-value 4"]),
        ("network_mode: host\nnetworks: [default]", vec!["error said-twice 2"]),
        ("network_mode: none\nports: ['80:80', '81:81']", vec!["warning key-partly 5"]),
        ("pid: service:b", vec!["error key-not-supported 4"]),
        ("runtime: runc", vec![]),
        ("runtime: nvidia", vec!["error key-not-supported 4"]),
        ("container_name: x", vec![]),
        ("hostname: \"a\\nb\"", vec!["error bad-value 4"]),
        ("container_name: a b", vec!["error bad-value 4"]),
        ("extra_hosts: ['a#b:10.0.0.1']", vec!["error bad-value 4"]),
        ("extra_hosts: [\"a:10.0.0.1\\n10.0.0.2 b\"]", vec!["error bad-value 4"]),
        ("links: ['b:c d']", vec!["error bad-value 4"]),
        ("container_name: x\nscale: 2", vec!["error container-name-replicas 4"]),
        ("networks: {default: {aliases: [x]}}", vec![]),
        (
            "networks: {default: {aliases: ['x y', \"x\\ny\", '', 'a#']}}",
            vec!["error bad-value 4"; 4],
        ),
        ("networks: [other]", vec!["error network-unknown 2"]),
        ("networks: {default: {ipv4_address: 10.0.0.1}}", vec!["warning key-ignored 4"]),
        ("networks: [default]", vec![]),
        ("x-other: 1", vec![]),
        ("deploy: {placement: {}, mode: global}", vec![]),
        (
            "deploy: {placement: {constraints: ['node.labels.a==b', 'engine.labels.x != y', \
             'node.role == manager'], preferences: [{spread: node.labels.zone}], \
             max_replicas_per_node: 2}}",
            vec![],
        ),
        ("deploy: {placement: {constraints: [node.rack == 1]}}", vec!["error bad-value 4"]),
        ("deploy: {placement: {constraints: [ssd]}}", vec!["warning key-partly 4"]),
        ("deploy: {resources: {reservations: {devices: []}}}", vec!["error key-not-supported 4"]),
        ("deploy: {replica: 2}", vec!["error key-unknown 4"]),
        ("stop_signal: SIGFOO", vec!["error bad-value 4"]),
        ("stop_grace_period: soon", vec!["error bad-value 4"]),
        ("mem_limit: lots", vec!["error bad-value 4"]),
        ("environment: 5", vec!["error bad-type 4"]),
        ("deploy: 5", vec!["error bad-type 4"]),
        ("depends_on: {b: }\n", vec!["error dependency-unknown 4"]),
    ] {
        let mut found = about(lines);
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{lines}");
    }
}

#[test]
fn secrets_and_configs_are_asked_for_where_they_are_used() {
    let text = |of_service: &str| {
        format!(
            "services: {{a: {{command: x, {of_service}}}}}\nsecrets: {{e: {{external: true}}, \
             u: {{environment: NOT_SET}}, two: {{file: a, environment: B}}}}\nconfigs: {{c: {{content: x}}, none: {{}}}}\n"
        )
    };
    let always = ["error file-source 2", "error file-source 3"];
    assert_eq!(brief(&findings(&text("user: u"))), always);
    let used = brief(&findings(&text(
        "secrets: [e, u, {source: e, target: ../../x, uid: me}], configs: [cc]",
    )));
    for expected in [
        "error external-file 1",
        "error variable-required 1",
        "error bad-value 1",
        "error file-unknown 1",
    ] {
        assert!(used.contains(&expected.to_owned()), "{expected}: {used:?}");
    }
}

#[test]
fn a_remark_is_made_once_for_all_services() {
    let found = findings("services:\n  a: {command: x, tty: true}\n  b: {command: x, tty: true}\n");
    assert_eq!(brief(&found), ["warning key-ignored 2"]);
    assert!(found[0].problem.message.contains("one other place"), "{}", show(&found));
}

#[test]
fn something_to_run() {
    for (service, expected) in [
        ("{command: x}", vec![]),
        ("{entrypoint: x}", vec![]),
        ("{image: python:3, command: x, x-mainspring: {native: true}}", vec![]),
        ("{}", vec!["error nothing-to-run 2"]),
        ("{command: []}", vec!["error nothing-to-run 2"]),
        ("{image: python:3, x-mainspring: {native: true}}", vec!["error nothing-to-run 2"]),
        ("{image: cassandra:5}", vec!["error image-not-native 2"]),
        ("{image: cassandra:5, command: x}", vec!["error image-not-native 2"]),
        ("{image: postgres:16}", vec![]),
        ("{image: redis:7}", vec![]),
        ("{image: minio/minio}", vec!["error stand-in-later 2"]),
        (
            "{image: minio/minio, x-mainspring: {engine: 'http://h:1'}}",
            vec!["error engine-later 2", "error stand-in-later 2"],
        ),
        ("{image: redis:7, command: redis-server, x-mainspring: {native: true}}", vec![]),
        ("{build: .}", vec!["error dockerfile-unreadable 2"]),
        ("{build: {context: 'https://x/y.git'}}", vec!["error build-remote-context 2"]),
    ] {
        assert_eq!(
            brief(&findings(&format!("services:\n  a: {service}\n"))),
            expected,
            "{service}"
        );
    }
    let found = findings("services: {a: {image: cassandra}}");
    let next = found[0].problem.next.as_deref().unwrap();
    assert!(next.contains("x-mainspring: {native: true}") && next.contains("build:"), "{next}");
}

#[test]
fn dependencies_that_cannot_be() {
    let one = |text: &str| brief(&findings(text));
    assert_eq!(
        one("services:\n  a: {command: x, depends_on: [bb]}\n  bbb: {command: x}\n"),
        ["error dependency-unknown 2"]
    );
    assert_eq!(
        one(
            "services:\n  a: {command: x, depends_on: {b: {condition: service_healthy}}}\n  b: {command: x}\n"
        ),
        ["error dependency-no-healthcheck 2"]
    );
    let circle = findings(
        "services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [c]}\n  \
         c: {command: x, depends_on: [b]}\n  d: {command: x, depends_on: [d]}\n",
    );
    assert_eq!(brief(&circle), ["error dependency-cycle 4", "error dependency-cycle 5"]);
    assert!(circle[0].problem.message.contains("b → c → b"), "{}", show(&circle));
    let optional = try_load(
        "services:\n  a: {command: x, depends_on: {z: {condition: service_started, required: false}}}\n",
    )
    .unwrap();
    assert_eq!(brief(&optional.findings), ["note dependency-unknown 2"]);
    assert!(optional.app.services["a"].depends_on.is_empty());
}

#[test]
fn host_ports_are_one_services() {
    let found = findings(
        "services:\n  a: {command: x, ports: ['80:80']}\n  b: {command: x, ports: ['80:81', '80:9/udp']}\n",
    );
    assert_eq!(brief(&found), ["error port-twice 3"]);
}

#[test]
fn variables_are_told() {
    let found = findings(
        "services:\n  a:\n    command: run $X ${X}\n    user: ${Y:?give one}\n    hostname: $1\n",
    );
    assert_eq!(
        brief(&found),
        ["error variable-required 4", "error interpolation 5", "warning variable-unset 3"]
    );
    assert_eq!(found[0].problem.cause.as_deref(), Some("give one"));
}

#[test]
fn yaml_that_is_none() {
    for (text, expected) in [
        ("a: [", vec!["error yaml-syntax 2"]),
        ("services:\n  a:\n    command: x\n    command: y\n", vec!["error duplicate-key 4"]),
        ("- a\n- b\n", vec!["error bad-type 1"]),
        ("", vec!["error no-services 1"]),
        ("services:\n", vec!["error bad-type 1", "error no-services 1"]),
        ("services: {}\n", vec!["error no-services 1"]),
        ("services: {x-a: {command: x}}\n", vec!["error no-services 1"]),
        ("services: {a: !secret x}", vec!["error yaml-tag 1"]),
        ("services: {a: [b]}", vec!["error bad-type 1"]),
        ("services: {'a b': {command: x}}", vec!["error bad-value 1", "error no-services 1"]),
        ("services: &s {a: *s}", vec!["error yaml-alias 1"]),
    ] {
        let found = brief(&findings(text));
        assert_eq!(found[0], expected[0], "{text}: {found:?}");
    }
}

#[test]
fn all_errors_have_a_place_a_cause_and_a_next_step() {
    let text = "services:\n  a: {ports: [x], volumes: [y], build: {}, restart: q, healthcheck: {test: []}}\n  \
        b: {image: q, gpus: 1, secrets: [x], depends_on: [z], unknown: 1, env_file: none}\n  \
        c: {command: \"'\", deploy: {mode: x, update_config: {order: y}}, tmpfs: x}\nnetworks: {}\n";
    let found = findings(text);
    assert!(found.len() > 12, "{}", show(&found));
    for finding in &found {
        let problem = &finding.problem;
        let whole = problem.place.is_some() && problem.cause.is_some() && problem.next.is_some();
        assert!(whole, "{problem}");
    }
}
