//! Builds for real. A harness of its own, because this executable is also the shim, and the engine
//! that gets killed.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod bench;
mod cache;
mod copies;
mod crash;
mod images;
mod runs;
mod volumes;

use std::panic::catch_unwind;
use std::process::{Command, ExitCode};

/// Set for a process that builds once, in this folder.
pub(crate) const VICTIM_OF_ENVIRONMENT: &str = "BUILDER_TEST_BUILD_IN";

type Test = (&'static str, fn());

fn main() -> ExitCode {
    if agent::shim::requested() {
        agent::shim::main();
    }
    if let Ok(folder) = std::env::var(VICTIM_OF_ENVIRONMENT) {
        cache::build_in(folder.as_ref());
        return ExitCode::SUCCESS;
    }
    if let Ok(state) = std::env::var(crash::VICTIM) {
        crash::be_killed(state.as_ref());
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let may_mount = Command::new("unshare").args(["-m", "true"]).status();
    if !rustix::process::geteuid().is_root() || !may_mount.is_ok_and(|status| status.success()) {
        eprintln!("skip all: steps of a build need root that may mount");
        return ExitCode::SUCCESS;
    }
    let all =
        [cache::TESTS, copies::TESTS, crash::TESTS, images::TESTS, runs::TESTS, volumes::TESTS]
            .concat();
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, body) in all {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let ok = catch_unwind(body).is_ok();
        eprintln!("{} {name}", if ok { "ok  " } else { "FAIL" });
        if ok { passed += 1 } else { failed.push(name) }
    }
    eprintln!("{passed} passed, {} failed {failed:?}", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}
