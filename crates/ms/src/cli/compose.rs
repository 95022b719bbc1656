//! From files to the app: gives `spec` the environment and the file system, and shows findings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use spec::{App, Finding, LoadOptions, Severity};

use super::args::Shared;
use super::out::Out;
use super::project::Here;
use super::stop::{Outcome, Stop, USAGE};
use super::style::Style;

/// Files as they are on disk, seen from the current folder.
struct Disk(PathBuf);

impl spec::Files for Disk {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.0.join(path))
    }
}

/// Reads the app; every finding on the way, errors included.
pub(crate) fn read(
    here: &Here,
    shared: &Shared,
    files: &[PathBuf],
    services: &[String],
) -> Result<(App, Vec<Finding>), Vec<Finding>> {
    let options = options(here, shared, files, services);
    let loaded = spec::load(&options, &Disk(here.folder.clone()))?;
    Ok((loaded.app, loaded.findings))
}

/// What is wrong with the app, or probably not meant.
pub(crate) fn check(here: &Here, shared: &Shared, files: &[PathBuf]) -> Vec<Finding> {
    spec::check::check(&options(here, shared, files, &[]), &Disk(here.folder.clone()))
}

fn options(here: &Here, shared: &Shared, files: &[PathBuf], services: &[String]) -> LoadOptions {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let absolute = |paths: &[PathBuf]| paths.iter().map(|p| here.folder.join(p)).collect();
    LoadOptions {
        files: absolute(files),
        project_dir: None,
        project_name: shared.project_name.clone(),
        env,
        env_files: absolute(&shared.env_file),
        profiles: shared.profile.clone(),
        services: services.to_vec(),
    }
}

/// Reads the app, says what was found, and ends the command when it cannot run.
pub(crate) fn load(
    here: &Here,
    shared: &Shared,
    files: &[PathBuf],
    services: &[String],
    out: &mut Out,
) -> Outcome<App> {
    match read(here, shared, files, services) {
        Ok((app, findings)) => {
            show(&findings, out)?;
            Ok(app)
        }
        Err(findings) => {
            let (errors, rest): (Vec<_>, Vec<_>) =
                findings.into_iter().partition(|f| f.severity == Severity::Error);
            show(&rest, out)?;
            let problems = errors.into_iter().map(|f| f.problem).collect();
            Err(Stop::Failed { exit: USAGE, problems })
        }
    }
}

/// Shows warnings and notes; with `-q` none of them.
fn show(findings: &[Finding], out: &mut Out) -> Outcome<()> {
    if out.mode.quiet {
        return Ok(());
    }
    for finding in findings {
        let (label, style) = label(finding.severity);
        out.problem(label, style, &finding.problem)?;
    }
    Ok(())
}

/// How a severity is called and coloured.
pub(crate) fn label(severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Error => ("error", Style::Red),
        Severity::Warning => ("warning", Style::Yellow),
        Severity::Note => ("note", Style::Cyan),
    }
}
