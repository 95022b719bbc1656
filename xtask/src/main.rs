//! The project's chores, one command each: `cargo xtask test|faults|tidy|docs|bench|compat|fuzz`.
//!
//! Not here: anything that a user of `ms` needs. Each chore installs what it needs by package
//! name, and says what it installs.

mod bench;
mod compat;
mod fuzz;
mod maven;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test            installs what the tests need and runs them all
cargo xtask test --quick    without the browser
cargo xtask faults          what `test` runs in a lean form: 1,000 simulated runs with a crash between any
                            two actions, and 50 kills of real engines, shims and event logs
cargo xtask tidy            house rules: dependencies between crates, module heads, leftovers
cargo xtask docs            writes the tables of docs/ again
cargo xtask bench up|edge|events|compose|volumes [ROUNDS]
                            measures against what a user would otherwise pick; events has parts that can be
                            named: log, redis, shares, scale
cargo xtask compat events [SUITE ...]
                            the suites that others wrote, run against ours; writes docs/compat-events.md
cargo xtask fuzz [TARGET] [--seconds N]
                            every parser of outside bytes, or one, for N (60) seconds each";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test"] => test::run(test::Scope::All),
        ["test", "--quick"] => test::run(test::Scope::NoBrowser),
        ["tidy"] => tidy::run(),
        ["faults"] => faults(),
        ["docs"] => docs(),
        ["bench", what, rest @ ..] => bench::run(what, rest),
        ["compat", "events", rest @ ..] => compat::run(rest),
        ["fuzz", rest @ ..] if fuzz::arguments(rest).is_some() => fuzz::run(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The seeded tests in full. `MS_SIM_FIRST` and `MS_KILL_SEED` begin elsewhere.
fn faults() -> anyhow::Result<()> {
    let simulation = ["test", "-q", "--release", "-p", "control", "--test", "it", "simulation::"];
    let kills = ["test", "-q", "-p", "ms", "--test", "it", "kills::", "--", "--nocapture"];
    let crashes = ["test", "-q", "--release", "-p", "events", "--test", "it", "crash"];
    let histories = ["test", "-q", "--release", "-p", "events", "--test", "histories"];
    for (wanted, test) in [
        ("MS_SIM_SEEDS=1000", &simulation[..]),
        ("MS_KILLS=50", &kills[..]),
        ("MS_CRASH_SEEDS=1000", &crashes[..]),
        ("MS_HISTORY_KILLS=50", &histories[..]),
    ] {
        let command = [&[wanted, "cargo"], test].concat();
        run::run_in(&run::root(), "env", &command)?;
    }
    Ok(())
}

/// The tests that hold the pages current write them when they are asked to.
fn docs() -> anyhow::Result<()> {
    let test = ["MS_WRITE_DOCS=1", "cargo", "test", "-q", "-p", "spec", "--test", "it", "page::"];
    run::run_in(&run::root(), "env", &test)
}
