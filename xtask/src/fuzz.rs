//! `cargo xtask fuzz`: parsers of outside bytes on random and mutated input, for a time.
//!
//! Not here: coverage-guided fuzzing. The same properties run in `cargo test` with few cases;
//! this raises the number of cases until the time is used up.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::run;

/// Crates whose tests named `never_panics…` are properties over arbitrary bytes.
const CRATES: &[&str] = &["spec", "edge", "telemetry"];

pub(crate) fn run(seconds: u64) -> Result<()> {
    let cases = (seconds * 500).to_string();
    for name in CRATES {
        eprintln!("$ PROPTEST_CASES={cases} cargo test -p {name} never_panics");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let status = Command::new(cargo)
            .args(["test", "--quiet", "--package", name, "never_panics"])
            .env("PROPTEST_CASES", &cases)
            .current_dir(run::root())
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "a parser of `{name}` did not stand it");
    }
    Ok(())
}
