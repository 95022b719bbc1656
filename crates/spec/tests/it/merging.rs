//! Several files as one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spec::{App, load};

use crate::{Memory, options, show};

#[track_caller]
fn merged(texts: &[&str]) -> App {
    let mut files = Memory::default();
    let mut options = options();
    options.files.clear();
    for (i, text) in texts.iter().enumerate() {
        let name = format!("{i}.yaml");
        files = files.with(&name, text);
        options.files.push(name.into());
    }
    match load(&options, &files) {
        Ok(loaded) => loaded.app,
        Err(findings) => panic!("{}", show(&findings)),
    }
}

/// What the service `a` becomes when these lines are laid on each other.
#[track_caller]
fn service(layers: &[&str]) -> spec::Service {
    let mut texts = vec!["services: {a: {command: run}}\n".to_owned()];
    for layer in layers {
        let lines: String = layer.lines().map(|l| format!("    {l}\n")).collect();
        texts.push(format!("services:\n  a:\n{lines}"));
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    merged(&texts).services["a"].clone()
}

#[test]
fn commands_replace() {
    assert_eq!(service(&["command: [a, b]", "command: [c]"]).command.unwrap(), ["c"]);
    assert_eq!(service(&["entrypoint: [a, b]", "entrypoint: c d"]).entrypoint.unwrap(), ["c", "d"]);
    let check =
        service(&["healthcheck: {test: [CMD, a], retries: 7}", "healthcheck: {test: [CMD, b]}"]);
    let check = check.healthcheck.unwrap();
    assert_eq!(check.test, spec::model::Test::Exec(vec!["b".into()]));
    assert_eq!(check.retries, 7);
}

#[test]
fn environments_merge_across_forms() {
    let env =
        service(&["environment: [A=1, B=1]", "environment: {B: 2, C: 2}", "environment: [C=3]"]);
    let pairs: Vec<_> = env.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(pairs, ["A=1", "B=2", "C=3"]);
}

#[test]
fn an_environment_file_that_is_named_again_stays_where_it_was() {
    let files = Memory::default()
        .with("1.yaml", "services: {a: {command: x, env_file: foo.env}}")
        .with("2.yaml", "services: {a: {env_file: [bar.env, {path: foo.env, required: true}]}}")
        .with("/srv/shop/foo.env", "A=foo\nB=foo")
        .with("/srv/shop/bar.env", "A=bar");
    let mut options = options();
    options.files = vec!["1.yaml".into(), "2.yaml".into()];
    let app = load(&options, &files).map_err(|f| show(&f)).unwrap().app;
    let env = &app.services["a"].environment;
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("bar", "foo"));
}

#[test]
fn ports_add_up_and_are_unique() {
    let ports =
        service(&["ports: ['80:80', '81:81']", "ports: ['80:80/tcp', '80:80/udp', '82:80']"]).ports;
    let shown: Vec<_> =
        ports.iter().map(|p| format!("{:?} {} {:?}", p.published, p.target, p.protocol)).collect();
    assert_eq!(shown, ["Some(80) 80 Tcp", "Some(81) 81 Tcp", "Some(80) 80 Udp", "Some(82) 80 Tcp"]);
    assert_eq!(ports[0].place.file, std::path::Path::new("2.yaml"), "the later one counts");
}

#[test]
fn volumes_are_unique_by_target() {
    let volumes = service(&["volumes: ['./a:/x', './b:/y']", "volumes: ['./c:/x:ro']"]).volumes;
    let shown: Vec<_> = volumes.iter().map(|m| format!("{:?} {}", m.kind, m.read_only)).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].contains("/srv/shop/c") && shown[0].ends_with("true"), "{shown:?}");
}

#[test]
fn other_keys() {
    let waits = merged(&[
        "services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, healthcheck: {test: y}}\n  c: {command: x}\n",
        "services:\n  a: {depends_on: {b: {condition: service_healthy}, c: }}\n",
    ]);
    let waits = &waits.services["a"].depends_on;
    assert_eq!(waits.len(), 2);
    assert_eq!(waits[0].condition, spec::model::Condition::ServiceHealthy);
    assert_eq!(service(&["user: a", "user: b"]).user.unwrap(), "b");
    assert_eq!(service(&["user: a", "user:"]).user.unwrap(), "a");
    assert_eq!(
        service(&["deploy: {replicas: 2, labels: [a=1]}", "deploy: {replicas: 3}"]).replicas,
        3
    );
    assert_eq!(service(&["profiles: []\nexpose: [1]", "expose: [2]"]).expose.len(), 2);
    assert_eq!(merged(&["name: a\nservices: {x: {command: y}}", "name: b"]).name, "b");
}

#[test]
fn reset_and_override() {
    assert!(
        service(&["environment: {A: 1, B: 2}", "environment: !reset null"]).environment.is_empty()
    );
    assert_eq!(
        service(&["environment: {A: 1, B: 2}", "environment: {A: !reset null}"]).environment.len(),
        1
    );
    let ports = service(&["ports: ['80:80']", "ports: !override ['81:81']"]).ports;
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0].target, 81);
    assert_eq!(service(&["ports: !override ['81:81']", "ports: ['82:82']"]).ports.len(), 2);
    assert_eq!(service(&["user: !reset x"]).user, None);
}

#[test]
fn anchors_and_merge_keys() {
    let text = "x-base: &base\n  command: run\n  environment: &env {A: 1, B: 1}\n\
        x-more: &more {user: me, hostname: h}\n\
        services:\n  a:\n    <<: *base\n    environment: {<<: *env, B: 2}\n  \
        b:\n    <<: [*more, {hostname: other, command: go}]\n    user: own\n";
    let app = crate::app(text);
    let a = &app.services["a"];
    assert_eq!((a.environment["A"].as_str(), a.environment["B"].as_str()), ("1", "2"));
    let b = &app.services["b"];
    assert_eq!(b.user.as_deref(), Some("own"));
    assert_eq!(b.hostname.as_deref(), Some("h"), "the earlier of several wins");
    assert_eq!(b.command.as_ref().unwrap(), &["go"]);
}

#[test]
fn several_documents_are_layers_too() {
    let app = crate::app("services: {a: {command: x}}\n---\nservices: {a: {user: u}}\n");
    assert_eq!(app.services["a"].user.as_deref(), Some("u"));
}

#[test]
fn interpolation_comes_before_the_merge() {
    // Were files merged first, the variable in a value that is replaced would be asked for.
    let files = Memory::default()
        .with("1.yaml", "services: {a: {command: x, user: \"${NEEDED:?}\"}}")
        .with("2.yaml", "services: {a: {user: u}}");
    let mut options = options();
    options.files = vec!["1.yaml".into(), "2.yaml".into()];
    let found = load(&options, &files).unwrap_err();
    assert_eq!(crate::brief(&found), ["error variable-required 1"]);
}

fn env() -> impl Strategy<Value = BTreeMap<String, u8>> {
    proptest::collection::btree_map("[A-D]", 0u8..9, 0..4)
}

fn written(env: &BTreeMap<String, u8>, list: bool) -> String {
    let pairs: Vec<String> = match list {
        true => env.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        false => env.iter().map(|(k, v)| format!("{k}: {v}")).collect(),
    };
    let (open, close) = if list { ('[', ']') } else { ('{', '}') };
    format!("environment: {open}{}{close}", pairs.join(", "))
}

proptest! {
    #[test]
    fn environments_merge_as_maps_do(layers in proptest::collection::vec((env(), any::<bool>()), 1..4)) {
        let texts: Vec<String> = layers.iter().map(|(env, list)| written(env, *list)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut expected = BTreeMap::new();
        for (env, _) in &layers {
            expected.extend(env.iter().map(|(k, v)| (k.clone(), v.to_string())));
        }
        prop_assert_eq!(service(&texts).environment, expected);
    }

    #[test]
    fn ports_merge_as_a_set(layers in proptest::collection::vec(
        proptest::collection::vec((1u16..5, 1u16..4), 0..4), 1..4,
    )) {
        let texts: Vec<String> = layers.iter().map(|ports| {
            let items: Vec<String> = ports.iter().map(|(p, t)| format!("'{}:{t}'", p * 10 + t)).collect();
            format!("ports: [{}]", items.join(", "))
        }).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut expected: Vec<(u16, u16)> = layers.concat();
        expected.iter_mut().for_each(|(p, t)| *p = *p * 10 + *t);
        expected.sort_unstable();
        expected.dedup();
        let result = service(&texts);
        let mut seen: Vec<(u16, u16)> =
            result.ports.iter().map(|p| (p.published.unwrap_or_default(), p.target)).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, expected);
    }
}
