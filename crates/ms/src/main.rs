//! `ms`: a service engine in one binary. This file only chooses who runs: the shim that holds an
//! instance, or the command line, one of whose hidden commands is the engine itself.

mod cli;
mod engine;

use std::process::ExitCode;

fn main() -> ExitCode {
    if agent::shim::requested() {
        // Before any runtime or thread exists: the shim forks.
        agent::shim::main();
    }
    let code = cli::run(std::env::args_os().collect());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
