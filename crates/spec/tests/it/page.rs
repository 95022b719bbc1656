//! `docs/compose.md`: its table is made from the coverage table, and has every key that there is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use spec::{Coverage, Word, coverage};

/// The page below this line is made; what is above it is written by hand.
const MARK: &str = "<!-- Made by `cargo xtask docs` from crates/spec/src/keys/table.rs. -->\n";

fn word(treatment: Word) -> &'static str {
    match treatment {
        Word::Supported => "yes",
        Word::Partly => "partly",
        Word::Refused => "no: an error",
        Word::NoEffect => "no effect: a warning",
    }
}

/// The table, a section for each place that keys stand in.
fn made() -> String {
    let rows = coverage();
    let mut text = String::new();
    let _ = writeln!(text, "{MARK}\n## In figures\n\n| treatment | keys |\n|---|---|");
    let mut counts: BTreeMap<Word, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(row.treatment).or_default() += 1);
    for (treatment, count) in counts {
        let _ = writeln!(text, "| {} | {count} |", word(treatment));
    }
    let parent = |row: &Coverage| match row.path.rsplit_once('.') {
        Some((parent, _)) => parent.to_owned(),
        None => String::new(),
    };
    let mut last = None;
    for row in &rows {
        let here = parent(row);
        if last.as_ref() != Some(&here) {
            let title = match here.as_str() {
                "" => "The top of the file".to_owned(),
                path => format!("`{path}`"),
            };
            let _ = writeln!(text, "\n## {title}\n\n| key | | |\n|---|---|---|");
            last = Some(here);
        }
        let key = row.path.rsplit('.').next().unwrap_or_default();
        let _ = writeln!(text, "| `{key}` | {} | {} |", word(row.treatment), row.note);
    }
    text
}

#[test]
fn the_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let by_hand = page.split(MARK).next().unwrap_or_default();
    let wanted = format!("{by_hand}{}", made());
    if std::env::var_os("MS_WRITE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(page == wanted, "docs/compose.md is not current: run `cargo xtask docs`");
    }
}

#[test]
fn every_key_of_the_specification_is_on_the_page() {
    let rows = coverage();
    let treatment = |path: &str| rows.iter().find(|r| r.path == path).map(|r| r.treatment);
    let keys = include_str!("../data/schema-keys.txt");
    let keys: Vec<&str> = keys.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(keys.len() > 250, "{}", keys.len());
    let missing: Vec<&&str> = keys
        .iter()
        .filter(|path| {
            // What stands below a key without effect, or one that is refused, is so too.
            let mut parents = path.match_indices('.').map(|(i, _)| treatment(&path[..i]));
            let covered = parents.any(|t| matches!(t, Some(Word::NoEffect | Word::Refused)));
            !covered && treatment(path).is_none()
        })
        .collect();
    assert!(missing.is_empty(), "add to crates/spec/src/keys/table.rs: {missing:?}");
}

#[test]
fn what_does_not_hold_is_explained() {
    for row in coverage().iter().filter(|row| row.treatment != Word::Supported) {
        assert!(!row.note.is_empty(), "{}", row.path);
    }
}
