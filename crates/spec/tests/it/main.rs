//! The whole way from text to model, as `ms` goes it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compose;
mod dockerfile_page;
mod dockerfiles;
mod findings;
mod layers;
mod life;
mod lints;
mod merging;
mod page;
mod real;
mod robust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use spec::{App, Files, Finding, LoadOptions, Loaded, Severity, load};

/// Files that exist only here.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    pub(crate) fn with(mut self, path: &str, text: &str) -> Memory {
        self.0.insert(path.into(), text.into());
        self
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

/// The file `compose.yaml` in `/srv/shop`.
pub(crate) fn options() -> LoadOptions {
    LoadOptions {
        files: vec!["compose.yaml".into()],
        project_dir: Some("/srv/shop".into()),
        ..LoadOptions::default()
    }
}

pub(crate) fn try_load(text: &str) -> Result<Loaded, Vec<Finding>> {
    load(&options(), &Memory::default().with("compose.yaml", text))
}

#[track_caller]
pub(crate) fn app(text: &str) -> App {
    match try_load(text) {
        Ok(loaded) => loaded.app,
        Err(findings) => panic!("{text}\n{}", show(&findings)),
    }
}

/// The service `a` of a file that says this about it, beside a command.
#[track_caller]
pub(crate) fn service(lines: &str) -> spec::Service {
    let text = format!("services:\n  a:\n    command: run\n{}", indent(lines));
    app(&text).services["a"].clone()
}

/// Errors and warnings about the service `a`, as `code line`.
pub(crate) fn about(lines: &str) -> Vec<String> {
    brief(&findings(&format!("services:\n  a:\n    command: run\n{}", indent(lines))))
}

pub(crate) fn findings(text: &str) -> Vec<Finding> {
    match try_load(text) {
        Ok(loaded) => loaded.findings,
        Err(findings) => findings,
    }
}

/// `error code line` for each.
pub(crate) fn brief(findings: &[Finding]) -> Vec<String> {
    let each = findings.iter().map(|f| {
        let severity = match f.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let line = f.problem.place.as_ref().map_or(0, |p| p.line);
        format!("{severity} {} {line}", f.problem.code)
    });
    each.collect()
}

pub(crate) fn show(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{:?}{}\n", f.severity, f.problem)).collect()
}

fn indent(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}
