//! Findings as they are collected, and places while they are still small.
//!
//! Invariant: at most [`FINDINGS_MAX`] findings are kept; errors are never the ones left out
//! silently, because the last one says that there are more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base::Place;

use crate::{Finding, Severity};

const FINDINGS_MAX: usize = 500;

/// A place as a number of a file and a position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl At {
    pub(crate) fn new(file: u32, line: usize, column: usize) -> At {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        At { file, line: small(line), column: small(column) }
    }
}

/// Everything that was noticed so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: Vec<PathBuf>,
    findings: Vec<Finding>,
    failed: bool,
    /// Where values stand that were refused before anybody read them.
    spoiled: BTreeSet<At>,
}

impl Report {
    /// Gives a file its number.
    pub(crate) fn add_file(&mut self, path: &Path) -> u32 {
        self.files.push(path.to_owned());
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn place(&self, at: At) -> Place {
        let file = usize::try_from(at.file).ok().and_then(|n| self.files.get(n));
        Place { file: file.cloned().unwrap_or_default(), line: at.line, column: at.column }
    }

    /// Nothing more is said about the value at this place: an error about it was.
    pub(crate) fn spoil(&mut self, at: At) {
        self.spoiled.insert(at);
    }

    pub(crate) fn push(&mut self, finding: Finding) {
        self.failed |= finding.severity == Severity::Error;
        let full = self.findings.len() >= FINDINGS_MAX;
        if !full && !self.findings.contains(&finding) {
            self.findings.push(finding);
        } else if full && self.findings.len() == FINDINGS_MAX {
            let rest = Finding::error("too-many-findings", "there are more findings than are kept");
            self.findings.push(rest.next("mend these first"));
            self.failed = true;
        }
    }

    pub(crate) fn error(
        &mut self,
        code: &str,
        at: At,
        what: impl Into<String>,
        cause: impl Into<String>,
        next: impl Into<String>,
    ) {
        let finding = Finding::error(code, what).at(&self.place(at)).cause(cause).next(next);
        if !self.spoiled.contains(&at) {
            self.push(finding);
        }
    }

    pub(crate) fn warn(
        &mut self,
        code: &str,
        at: At,
        what: impl Into<String>,
        cause: impl Into<String>,
        next: impl Into<String>,
    ) {
        let finding = Finding::warning(code, what).at(&self.place(at)).cause(cause).next(next);
        if !self.spoiled.contains(&at) {
            self.push(finding);
        }
    }

    /// Whether an error is among them.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// All of them: errors first, then as they stand in the files.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        self.findings.sort_by(|a, b| {
            a.severity.cmp(&b.severity).then_with(|| a.problem.place.cmp(&b.problem.place))
        });
        self.findings
    }
}
