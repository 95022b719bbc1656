//! Durable records: volumes against a file of its own for each owner.

use anyhow::{Context, Result};

use super::release_binary;
use crate::run;

pub(super) fn run(rounds: usize) -> Result<()> {
    let program = release_binary("volumes", Some("commit_cost"))?;
    // Beside the program and not in the folder for temporary files, which may be in memory.
    let folder = run::root().join(format!("target/bench-volumes-{}", std::process::id()));
    let words = [folder.to_str().context("the path is not UTF-8")?, &rounds.to_string()];
    run::run_in(&run::root(), program.to_str().context("the path is not UTF-8")?, &words)
}
