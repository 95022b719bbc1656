//! `docs/dockerfile.md` says of each example what becomes of it.

use std::collections::BTreeMap;
use std::path::Path;

/// What the reference of Docker has.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

#[test]
fn every_example_is_taken_as_the_page_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dockerfile.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (example, said) = (cells[1].trim_matches('`'), cells[2]);
        seen.insert(example.split(' ').next().unwrap_or_default());
        let text = match example.as_bytes().first() {
            Some(b'#') => format!("{example}\nFROM debian\n"),
            _ if example.starts_with("FROM ") => format!("{example}\n"),
            _ => format!("FROM debian\n{example}\n"),
        };
        let planned = spec::dockerfile::parse(&text, Path::new("Dockerfile"), 0)
            .and_then(|parsed| spec::dockerfile::final_stage(&parsed, None, &BTreeMap::new()));
        let is = match &planned {
            Err(_) => "refused",
            Ok(recipe) if recipe.findings.is_empty() => "yes",
            Ok(_) => "warning",
        };
        let said = if said == "no effect" { "yes" } else { said };
        assert_eq!(is, said, "{example}: {planned:?}");
    }
    for instruction in INSTRUCTIONS {
        assert!(seen.contains(instruction), "{instruction} is not on the page");
    }
}
