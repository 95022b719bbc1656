//! Ctrl-C before anything serves.

use std::process::{Command, Stdio};

use crate::harness::{Project, until};

const PREPARED: &str = "services:
  web:
    image: example/web
    x-mainspring:
      native: true
      prepare: [sh, -c, 'echo $$$$ > preparing; exec sleep 1000']
    command: sleep 1000
";

#[test]
fn ctrl_c_ends_what_prepares_and_starts_nothing() {
    let project = Project::new(PREPARED);
    let mut ms = Command::new(env!("CARGO_BIN_EXE_ms"))
        .args(["up", "-d", "-q"])
        .current_dir(project.path(""))
        .env_remove("MS_STATE")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let pid: u64 = until("it prepares", || {
        let pid = std::fs::read_to_string(project.path("preparing")).unwrap_or_default();
        (pid.ends_with('\n'), pid)
    })
    .trim()
    .parse()
    .unwrap();
    let id = rustix::process::Pid::from_child(&ms);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(ms.wait().unwrap().code(), Some(130));
    assert!(!crate::harness::alive(pid), "the command that prepares runs on");
    assert!(!project.path(".ms").exists(), "an engine was started");
}
