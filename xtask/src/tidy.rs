//! House rules as a check: who may depend on whom, how files open, what may not be left over.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

use crate::run;

/// What each crate may depend on among our own: the table of ARCHITECTURE.md.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("spec", &["base"]),
    ("net", &["base"]),
    ("names", &["net"]),
    ("kafka-wire", &[]),
    ("agent", &["base"]),
    ("builder", &["agent", "spec", "base"]),
    ("edge", &["net", "base"]),
    ("control", &["spec", "base"]),
    ("telemetry", &["base"]),
    ("console", &["net", "base"]),
    ("volumes", &["base"]),
    ("testkit", &["volumes", "base"]),
    ("events", &["volumes", "kafka-wire", "net", "base"]),
    (
        "ms",
        &[
            "agent",
            "base",
            "builder",
            "console",
            "control",
            "edge",
            "events",
            "names",
            "net",
            "spec",
            "telemetry",
            "volumes",
        ],
    ),
    ("xtask", &[]),
    ("arcade", &[]),
];

/// Longest Rust file, in lines. A table or a state machine may be long; a drawer may not.
const LINES_MAX: usize = 900;

pub(crate) fn run() -> Result<()> {
    let mut found = dependencies()?;
    for path in run::output("git", &["ls-files", "*.rs"])?.lines() {
        let Ok(text) = std::fs::read_to_string(run::root().join(path)) else { continue };
        found.extend(file(Path::new(path), &text));
    }
    if found.is_empty() {
        eprintln!("tidy: nothing found");
        return Ok(());
    }
    bail!("tidy found {}:\n  {}", found.len(), found.join("\n  "))
}

fn dependencies() -> Result<Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let text = run::output(&cargo, &["metadata", "--format-version=1", "--no-deps", "--offline"])?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let table: BTreeMap<_, _> = MAY_DEPEND_ON.iter().copied().collect();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = table.get(name) else {
            found.push(format!("crate `{name}` is not in the table of xtask/src/tidy.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let ours = !dependency["path"].is_null() && table.contains_key(on);
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if ours && !for_tests && !allowed.contains(&on) {
                found.push(format!("crate `{name}` may not depend on `{on}`"));
            }
        }
    }
    Ok(found)
}

fn file(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say =
        |line: usize, what: String| found.push(format!("{}:{line}: {what}", path.display()));
    let opens = text.lines().find(|l| !l.starts_with("#!")).unwrap_or_default();
    if !opens.starts_with("//!") {
        say(1, "opens without a `//!` that says what it is".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        say(1, format!("{lines} lines, {LINES_MAX} at most"));
    }
    // Split, so that this file does not find itself.
    for leftover in
        [concat!("FIX", "ME"), concat!("XX", "X"), concat!("dbg", "!("), concat!("#[ig", "nore]")]
    {
        for (at, _) in text.lines().enumerate().filter(|(_, line)| line.contains(leftover)) {
            say(at + 1, format!("`{leftover}` is left over"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_breaks_the_rules_is_told_where() {
        let text = format!("use std;\n{}(1);\n", concat!("dbg", "!"));
        let found = file(Path::new("a.rs"), &text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a.rs:1:") && found[1].starts_with("a.rs:2:"), "{found:?}");
        assert!(file(Path::new("b.rs"), "//! B.\n").is_empty());
    }
}
