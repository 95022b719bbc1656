//! The host puts other files in the place of its `/etc/hosts` and `/etc/resolv.conf`, as VPN
//! clients, DHCP and `sed -i` do, while instances run.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::Command;

use crate::harness::{Project, root, texts, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

const COMPOSE: &str = "
services:
  scores:
    image: example/scores
    x-mainspring: {native: true}
    command: sleep 1000
    expose: ['8080/udp']
  calls:
    image: example/calls
    x-mainspring: {native: true}
    command: sleep 1000
    dns_search: [before.lan]
    extra_hosts: ['elsewhere:192.0.2.7']
";

/// Makes a machine of its own, whose files are this one's until they are replaced: this mount
/// namespace alone has it. A line for each step, or `set -e` would let a failed one pass; and what
/// is written to must be the overlay.
const MACHINE: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
mkdir "$0"
mount -t tmpfs tmpfs "$0"
cd "$0"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
for kept in proc sys dev tmp; do mount --rbind /$kept root/$kept; done
cd root
pivot_root . mnt
umount -l mnt
cd "$OLDPWD"
test "$(stat -f -c %T /)" = overlayfs
rm -f /etc/resolv.conf
echo 'nameserver 192.0.2.1' > /etc/resolv.conf
exec "$@"
"#;

/// Only on a machine of the test's own.
const REPLACE: &str = r#"
set -e
test "$(stat -f -c %T /)" = overlayfs
echo 'nameserver 192.0.2.2' > /etc/new
mv /etc/new /etc/resolv.conf
echo '192.0.2.9 stranger' > /etc/new
mv /etc/new /etc/hosts
"#;

/// `ms up` on that machine.
fn up(project: &Project) {
    let up = project.command(&["up", "-d"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", MACHINE]);
    command.arg(project.path("machine"));
    if project.path("ms-for-user").exists() {
        let nobody = NOBODY.to_string();
        command.args(["setpriv", "--clear-groups", "--reuid", &nobody, "--regid", &nobody]);
    }
    // Where every such machine has it.
    let program = project.path("ms-of-machine");
    std::fs::copy(up.get_program(), &program).unwrap();
    command.arg(program).args(up.get_args()).current_dir(project.path(""));
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let out = command.output().unwrap();
    assert!(out.status.success(), "{:?}\n{}", texts(&out), project.engine_log());
}

fn names_survive(project: &Project) {
    up(project);
    let read = |file: &str| project.ok(&["exec", "calls", "--", "cat", file]);
    let before = read("/etc/hosts");
    assert!(before.contains(" scores") && before.contains("192.0.2.7 elsewhere"), "{before}");
    assert!(read("/etc/resolv.conf").contains("nameserver 192.0.2.1\nsearch before.lan\n"));

    let engine = project.engine_pid().to_string();
    // Its files and not those of the machine that the test runs on.
    let files = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).unwrap();
    assert_ne!(files(&engine), files("self"));
    let mut replace = Command::new("nsenter");
    replace.args(["--mount", "--target", &engine, "sh", "-c", REPLACE]);
    assert!(replace.status().unwrap().success());

    assert_eq!(read("/etc/hosts"), before, "the host's own took its place");
    until("whom the machine asks now is asked", || {
        let now = read("/etc/resolv.conf");
        (now.contains("nameserver 192.0.2.2\nsearch before.lan\n"), now)
    });
    let found = project.ok(&["exec", "calls", "--", "getent", "hosts", "scores"]);
    assert!(found.contains("scores"), "{found}");
}

#[test]
fn a_resolver_file_replaced_under_us_loses_no_names() {
    if !root() {
        eprintln!("not run: a machine of its own needs root");
        return;
    }
    names_survive(&Project::new(COMPOSE));
    names_survive(&Project::as_user(COMPOSE, NOBODY));
}
