//! Instances for real. A harness of its own, because this executable is also the shim, and the
//! engine that gets killed.

mod address;
mod harness;
mod life;

use std::process::ExitCode;

fn main() -> ExitCode {
    if agent::shim::requested() {
        agent::shim::main();
    }
    let mut tests = Vec::new();
    tests.extend(life::tests());
    tests.extend(address::tests());
    harness::run(tests)
}
