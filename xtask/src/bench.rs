//! `cargo xtask bench`: measures against what a user would otherwise pick, in one run.

use anyhow::{Result, bail};

pub(crate) fn run(what: &str, _rest: &[&str]) -> Result<()> {
    bail!("no benchmark `{what}`: up or edge")
}
