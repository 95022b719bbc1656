//! `cargo xtask bench compose`: large apps.
//!
//! Reading and checking a file of 5,000 lines is measured in `crates/spec/examples/check_cost.rs`,
//! in one process, without the program's own start.

use anyhow::{Result, bail};

use super::{println_err, release_binary};

pub(super) fn run(rounds: usize) -> Result<()> {
    let example = release_binary("spec", Some("check_cost"))?;
    println_err("\nreading and checking a Compose file of 5,000 lines (asked: under 50 ms)");
    let status = std::process::Command::new(example).arg((rounds * 10).to_string()).status()?;
    if !status.success() {
        bail!("the measurement ended with {status}");
    }
    Ok(())
}
