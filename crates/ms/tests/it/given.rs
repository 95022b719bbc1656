//! What a service finds and what it is given: names of its own networks, links, extra hosts,
//! secrets and configs.

use crate::harness::{Project, root, until};

/// What the service `web` printed, once it said that it is done.
fn printed(project: &Project) -> String {
    until("all is printed", || {
        let text = project.ok(&["logs", "web"]);
        (text.contains("done"), text)
    })
}

#[test]
fn names_are_those_of_its_own_networks() {
    if !root() {
        eprintln!("not run: a private hosts file needs root");
        return;
    }
    let project = Project::new(
        "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: ['sh', '-c', 'for n in db cache store maindb old.internal hidden secret; do getent hosts $$n > /dev/null && echo finds $$n || echo misses $$n; done; echo done; exec sleep 1000']
    links: ['db:store']
    networks: [front]
    extra_hosts: ['old.internal:10.0.0.5']
  db:
    image: example/db
    x-mainspring: {native: true}
    command: sleep 1000
    container_name: maindb
    networks: {front: {aliases: [cache]}, back: {aliases: [secret]}}
  hidden:
    image: example/hidden
    x-mainspring: {native: true}
    command: sleep 1000
    networks: [back]
networks: {front: , back: }
",
    );
    project.ok(&["up", "-d"]);
    let text = printed(&project);
    for name in ["db", "cache", "store", "maindb", "old.internal"] {
        assert!(text.contains(&format!("finds {name}\n")), "{name}: {text}");
    }
    for name in ["hidden", "secret"] {
        assert!(text.contains(&format!("misses {name}\n")), "{name}: {text}");
    }
}

#[test]
fn secrets_and_configs_are_files_that_only_it_sees() {
    if !root() {
        eprintln!("not run: files of its own need root");
        return;
    }
    let project = Project::new(
        "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    user: '65534:65534'
    command: ['sh', '-c', 'cat /run/secrets/file /run/secrets/inline; cat /etc/app.conf; stat -c %a:%u /run/secrets/inline; echo x 2>&1 > /run/secrets/file || echo refused; echo done; exec sleep 1000']
    secrets: [file, {source: inline, uid: '65534', mode: 0400}]
    configs: [{source: conf, target: /etc/app.conf}]
secrets:
  file: {file: ./secret.txt}
  inline: {environment: TEST_SECRET}
configs:
  conf: {content: \"port = 80\\n\"}
",
    );
    project.write("secret.txt", "from a file\n");
    project.write(".env", "TEST_SECRET=from-a-variable");
    project.ok(&["up", "-d"]);
    let text = printed(&project);
    for expected in ["from a file\n", "from-a-variable", "port = 80\n", "400:65534\n", "refused\n"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let shown = project.api("/api/services/web").to_string();
    assert!(!shown.contains("from-a-variable"), "{shown}");
    assert!(!project.ok(&["config", "--json"]).contains("from-a-variable"));
    project.write(".env", "TEST_SECRET=another");
    assert!(project.ok(&["up", "--dry-run"]).contains("secrets"), "a new value is a new release");
}
