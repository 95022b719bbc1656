//! Instances for real. A harness of its own, because this executable is also the shim, and the
//! engine that gets killed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod address;
mod confine;
mod datagrams;
mod engine;
mod fields;
mod harness;
mod life;
mod limits;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    if agent::shim::requested() {
        agent::shim::main();
    }
    if let Ok(what) = std::env::var(engine::ENGINE) {
        engine::serve(&what);
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(engine::FALSE_ROOT).is_some() {
        engine::serve_as_false_root();
        return ExitCode::SUCCESS;
    }
    let mut tests = Vec::new();
    tests.extend(life::tests());
    tests.extend(engine::tests());
    tests.extend(view::tests());
    tests.extend(limits::tests());
    tests.extend(confine::tests());
    tests.extend(fields::tests());
    tests.extend(address::tests());
    tests.extend(datagrams::tests());
    harness::run(tests)
}
