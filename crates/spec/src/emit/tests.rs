//! Everything that is typed, written and read again.

use std::path::Path;

use base::Place;

use super::to_yaml;
use crate::load::{LoadOptions, build, resolve};
use crate::model::App;
use crate::{Files, Severity};

struct One(String);

impl Files for One {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        match path.ends_with("compose.yaml") {
            true => Ok(self.0.clone().into_bytes()),
            false => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// The app of a text, and the codes of its errors: keys that are read and not yet carried out are
/// read here.
fn read(text: &str) -> (App, Vec<String>) {
    let options = LoadOptions {
        files: vec!["compose.yaml".into()],
        project_dir: Some("/srv/shop".into()),
        env: [("TOKEN".to_owned(), "t0ken".to_owned())].into(),
        ..LoadOptions::default()
    };
    let files = One(text.to_owned());
    let mut resolved = resolve(&options, &files);
    let tree = resolved.tree.take().unwrap();
    let app = build(&options, &files, &mut resolved, &tree).unwrap().0;
    let findings = resolved.report.into_findings();
    let errors = findings.into_iter().filter(|f| f.severity == Severity::Error);
    (app, errors.map(|f| f.problem.code).collect())
}

fn placeless(mut app: App) -> App {
    let nowhere = Place { file: Default::default(), line: 0, column: 0 };
    for service in app.services.values_mut() {
        service.place = nowhere.clone();
        let of_build = service.build.iter_mut().flat_map(|build| &mut build.secrets);
        let grants = service.secrets.iter_mut().chain(&mut service.configs).chain(of_build);
        grants.for_each(|g| g.place = nowhere.clone());
        service.volumes.iter_mut().for_each(|m| m.place = nowhere.clone());
        service.depends_on.iter_mut().for_each(|d| d.place = nowhere.clone());
    }
    app.networks.values_mut().for_each(|n| n.place = nowhere.clone());
    let files = app.secrets.values_mut().chain(app.configs.values_mut());
    files.for_each(|f| f.place = nowhere.clone());
    app
}

const TEXT: &str = r#"
services:
  a:
    command: x
    user: "1000:app"
    group_add: [video, 7]
    cap_add: [cap_net_admin, SYS_TIME]
    cap_drop: [ALL]
    privileged: true
    read_only: true
    security_opt: ["no-new-privileges:false", "seccomp=./profile.json"]
    devices: ["/dev/fuse", "/dev/a:/dev/b:r"]
    sysctls: {kernel.msgmax: 65536}
    ulimits: {nofile: {soft: 1024, hard: -1}, nproc: 9}
    shm_size: 64m
    oom_score_adj: -500
    hostname: h
    container_name: shop
    networks: {front: {aliases: [www, shop.local]}, back: }
    links: ["b:db"]
    extra_hosts: {old.internal: [10.0.0.5, "::1"], gate: host-gateway}
    dns: [1.1.1.1, "2606:4700::1111"]
    dns_search: [corp.local]
    dns_opt: ["ndots:2"]
    secrets: [{source: s, target: /etc/s, uid: "1", gid: "2", mode: 0400}, e]
    configs: [c]
    tmpfs: ["/t:uid=5,gid=6,noexec,nosuid,nodev,ro,mode=700", /u]
    pre_start: [{command: [migrate, up], per_replica: true, user: u}]
    post_start: [{command: warm it, environment: {A: 1}, working_dir: /w}]
    pre_stop: [{command: drain, privileged: true}]
    logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}
    pull_policy: every_12h
    platform: linux/amd64
    annotations: {a: b}
    mem_limit: 1g
    memswap_limit: -1
    mem_reservation: 64m
    cpu_quota: 50000
    cpu_shares: 512
    cpuset: 0-1,3
    deploy:
      mode: global
      rollback_config: {parallelism: 2, order: stop-first}
      restart_policy: {condition: on-failure, delay: 5s, window: 2m, max_attempts: 3}
      placement:
        constraints: [node.labels.disk == ssd, node.role != manager]
        preferences: [{spread: node.labels.zone}]
        max_replicas_per_node: 2
      resources: {reservations: {cpus: "0.5"}}
  b: {command: x, networks: [back], network_mode: bridge}
networks: {front: {internal: true, labels: {a: b}}, back: {name: other, external: true}}
secrets: {s: {file: ./s.txt}, e: {environment: TOKEN}}
configs: {c: {content: "a $$b\n"}}
"#;

#[test]
fn all_that_is_typed_comes_back() {
    let (app, errors) = read(TEXT);
    assert!(errors.iter().all(|code| code == "key-later"), "{errors:?}");
    let yaml = to_yaml(&app);
    assert!(!yaml.contains("t0ken"), "{yaml}");
    let (again, _) = read(&yaml);
    assert_eq!(placeless(again), placeless(app.clone()), "{yaml}");
    let json = serde_json::to_string(&app).unwrap();
    assert_eq!(serde_json::from_str::<App>(&json).unwrap(), app);
}

#[test]
fn what_was_said_is_typed() {
    let (app, _) = read(TEXT);
    let (a, b) = (&app.services["a"], &app.services["b"]);
    assert_eq!(a.rights.cap_add.iter().collect::<Vec<_>>(), ["NET_ADMIN", "SYS_TIME"]);
    assert_eq!(a.kernel.ulimits["nofile"].hard, None);
    assert_eq!(a.kernel.ulimits["nproc"].soft, Some(9));
    assert_eq!(a.limits.cpus, Some(0.5));
    assert_eq!(a.depends_on[0].service, b.name, "a link is waited for");
    assert_eq!(a.names_for(b), ["a", "shop"]);
    assert_eq!(b.names_for(a), ["b", "db"]);
    assert_eq!(a.names_for(a), ["a", "shop", "shop.local", "www"]);
}

#[test]
fn no_key_is_forgotten_by_the_comparison() {
    let (app, _) = read(TEXT);
    let mut keys = 0;
    for line in TEXT.lines().filter(|l| l.starts_with("    ") && !l.starts_with("     ")) {
        let key = line.trim_start().split(':').next().unwrap_or_default();
        if matches!(key, "command" | "deploy") {
            continue;
        }
        let (other, _) = read(&TEXT.replacen(&format!("{line}\n"), "", 1));
        let (old, new) = (&app.services["a"], &other.services["a"]);
        let differ = crate::diff(old, new).or_else(|| crate::diff_in_place(old, new));
        assert!(differ.is_some(), "`{key}` makes no difference");
        keys += 1;
    }
    assert!(keys > 35, "{keys}");
}
