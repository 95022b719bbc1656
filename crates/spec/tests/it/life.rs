//! What happens to a model after it is made: written, stored, compared.

use std::path::PathBuf;

use base::Place;
use proptest::prelude::*;
use spec::{App, LoadOptions, diff, diff_in_place, load, to_yaml};

use crate::{Memory, app, options, service, show};

/// The app without what differs because it was read from another text.
pub(crate) fn placeless(app: &App) -> App {
    let nowhere = Place { file: PathBuf::new(), line: 0, column: 0 };
    let mut app = app.clone();
    app.files.clear();
    for service in app.services.values_mut() {
        service.place = nowhere.clone();
        service.ports.iter_mut().for_each(|p| p.place = nowhere.clone());
        service.volumes.iter_mut().for_each(|m| m.place = nowhere.clone());
        service.depends_on.iter_mut().for_each(|d| d.place = nowhere.clone());
        service.build.iter_mut().for_each(|b| b.place = nowhere.clone());
        let grants = service.secrets.iter_mut().chain(&mut service.configs);
        grants.for_each(|g| g.place = nowhere.clone());
    }
    app.volumes.values_mut().for_each(|v| v.place = nowhere.clone());
    app.networks.values_mut().for_each(|n| n.place = nowhere.clone());
    app.secrets
        .values_mut()
        .chain(app.configs.values_mut())
        .for_each(|f| f.place = nowhere.clone());
    app
}

/// Writes the app as YAML and as JSON and reads both back.
#[track_caller]
pub(crate) fn same_after_writing(app: &App) {
    same_after_writing_with(app, Memory::default());
}

#[track_caller]
pub(crate) fn same_after_writing_with(app: &App, files: Memory) {
    let json = serde_json::to_string(app).unwrap();
    assert_eq!(&serde_json::from_str::<App>(&json).unwrap(), app);
    let yaml = to_yaml(app);
    let options = LoadOptions {
        project_dir: Some(app.project_dir.clone()),
        profiles: vec!["*".to_owned()],
        ..options()
    };
    match load(&options, &files.with("compose.yaml", &yaml)) {
        Ok(again) => assert_eq!(placeless(&again.app), placeless(app), "{yaml}"),
        Err(findings) => panic!("{yaml}\n{}", show(&findings)),
    }
}

#[test]
fn a_full_app_comes_back() {
    let text = r#"
name: full
services:
  a:
    image: x:1
    command: [sh, -c, 'echo $$HOME "q" \ # no']
    entrypoint: []
    environment: {A: "multi\nline", B: '$$x', C: 'yes', D: "", E: ' sp ', F: "\u0007", G: '- x', 'H I': 'é: 1'}
    working_dir: sub
    user: 1000:1000
    hostname: h
    ports: ['127.0.0.1:8080-8081:80-81', {target: 9, protocol: udp, name: http-x, app_protocol: h2c}]
    expose: ['99', '7/udp']
    volumes: ['./a:/a:ro', 'v:/v', /c, {type: tmpfs, target: /t, tmpfs: {size: 1k, mode: 0700}}]
    tmpfs: [/run]
    depends_on: {b: {condition: service_healthy, restart: true}}
    restart: on-failure:4
    stop_signal: INT
    stop_grace_period: 1m30s
    labels: {l: '1'}
    init: true
    profiles: [p, q]
    deploy:
      replicas: 2
      update_config: {order: stop-first, max_failure_ratio: 0.5, delay: 1500ms}
      resources: {limits: {memory: 1.5gb, cpus: '0.25', pids: 9}}
    x-mainspring: {native: true, protocol: {80: http, 9: tcp}, prepare: [make, it], balance: least-requests}
  b:
    command: x
    healthcheck: {test: [CMD, a, "b c"], interval: 1s, retries: 9}
    x-mainspring: {protocol: tcp}
volumes:
  v: {name: other, external: true, labels: {a: b}}
"#;
    let mut options = options();
    options.profiles = vec!["p".to_owned()];
    let files = Memory::default().with("compose.yaml", text);
    let loaded = load(&options, &files).map_err(|f| show(&f)).unwrap();
    same_after_writing(&loaded.app);
    assert_eq!(loaded.app.services["a"].environment["A"], "multi\nline");
}

proptest! {
    #[test]
    fn any_environment_comes_back(value in any::<String>(), key in "[A-Za-z_. :-]{1,8}") {
        let json = |t: &str| serde_json::to_string(t).unwrap();
        let escaped = json(&value.replace('$', "$$"));
        let text = format!("services: {{a: {{command: x, environment: {{{}: {escaped}}}}}}}", json(&key));
        if let Ok(loaded) = crate::try_load(&text) {
            same_after_writing(&loaded.app);
        }
    }
}

#[test]
fn what_is_written_reads_well() {
    let app = app("services: {a: {command: [sh, '-c', 'x: y', '8080', 'null', 'a:', 5s, 'a:b']}}");
    let yaml = to_yaml(&app);
    let command: Vec<&str> = yaml.lines().filter(|l| l.starts_with("      - ")).collect();
    let expected = ["sh", "\"-c\"", "\"x: y\"", "\"8080\"", "\"null\"", "\"a:\"", "5s", "a:b"];
    let expected = expected.map(|word| format!("      - {word}"));
    assert_eq!(command, expected);
}

#[test]
fn what_needs_a_release() {
    let base = "environment: {A: 1, B: 1}\nports: ['80:80']\nlabels: {l: 1}";
    let old = service(base);
    for (lines, release, in_place) in [
        (base, None, None),
        (
            "environment: {A: 1, B: 2}\nports: ['80:80']\nlabels: {l: 1}",
            Some("environment B"),
            None,
        ),
        (
            "command: other\nenvironment: {C: 1, A: 1, B: 1}\nports: ['80:80']\nlabels: {l: 1}",
            Some("command, environment C"),
            None,
        ),
        (&format!("{base}\nscale: 3"), None, Some("replicas 1 → 3")),
        (
            "environment: {A: 1, B: 1}\nports: ['81:80']\nlabels: {l: 2}",
            None,
            Some("published ports, labels"),
        ),
        (
            "environment: {A: 1, B: 1}\nports: ['80:81']\nlabels: {l: 1}",
            Some("ports"),
            Some("published ports"),
        ),
        (&format!("# moved\n\n{base}"), None, None),
        (&format!("{base}\nmem_limit: 1g\nrestart: always"), Some("restart, limits"), None),
        (&format!("{base}\ndeploy: {{update_config: {{delay: 1s}}}}"), None, Some("update_config")),
    ] {
        let lines = match lines.strip_prefix("command: other\n") {
            Some(rest) => format!("entrypoint: []\n{rest}"),
            None => lines.to_owned(),
        };
        let mut new = service(&lines);
        if new.entrypoint.take().is_some() {
            new.command = Some(vec!["other".to_owned()]);
        }
        assert_eq!(diff(&old, &new).as_deref(), release, "{lines}");
        assert_eq!(diff_in_place(&old, &new).as_deref(), in_place, "{lines}");
    }
}

#[test]
fn secrets_do_not_show_in_a_diff() {
    let (old, new) = (service("environment: {P: hunter1}"), service("environment: {P: hunter2}"));
    assert_eq!(diff(&old, &new).unwrap(), "environment P");
    let _ = app("services: {a: {command: x}}");
}
