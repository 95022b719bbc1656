//! A project so deep in folders that the path of its socket is longer than the kernel takes.

use crate::harness::{Project, kill_9, texts, until};

const SLEEPER: &str = "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: sleep 1000
";

#[test]
fn a_state_folder_may_lie_at_any_depth() {
    let project = Project::new(SLEEPER);
    let state = project.path(&"a-rather-long-name-of-a-folder/".repeat(6));
    let ms = |args: &[&str]| {
        let state = ["--state", state.to_str().unwrap()];
        project.ms(&[args, &state].concat())
    };
    let up = ms(&["up", "-d"]);
    let mut ps = ms(&["ps"]);
    if up.status.success() {
        let pid = std::fs::read_to_string(state.join("engine.pid")).unwrap_or_default();
        // Its supervisor brings it back, on the same addresses since its services run on.
        pid.trim().parse().map(kill_9).unwrap();
        ps = until("the engine is back", || {
            let ps = ms(&["ps"]);
            (ps.status.success(), ps)
        });
    }
    let down = ms(&["down"]);
    assert!(up.status.success(), "{:?}", texts(&up));
    assert!(texts(&ps).0.contains("web.1  healthy"), "{:?}", texts(&ps));
    assert!(down.status.success(), "{:?}", texts(&down));
}
