//! Commands that only read the file: `ms config` and `ms check`.

use base::Problem;
use serde::Serialize;
use spec::{Finding, Severity};

use super::args::{Check, Config, Format, Shared};
use super::change::count;
use super::out::Out;
use super::project::{Here, files};
use super::stop::{DONE, FAILED, Outcome};

/// Prints the app as it was understood.
pub(crate) fn config(config: &Config, shared: &Shared, here: &Here, out: &mut Out) -> Outcome {
    let files = files(here, &shared.file)?;
    let app = super::compose::load(here, shared, &files, &[], out)?;
    let names: Vec<&str> = app.services.keys().map(base::ServiceName::as_str).collect();
    if out.mode.json && config.services {
        #[derive(Serialize)]
        struct Services<'a> {
            services: Vec<&'a str>,
        }
        out.json("ms.services/1", &Services { services: names })?;
    } else if out.mode.json {
        out.json("ms.config/1", &spec::hidden(app))?;
    } else if config.services {
        names.iter().try_for_each(|name| out.line(name))?;
    } else {
        out.text(&spec::to_yaml(&app))?;
    }
    out.flush()?;
    Ok(DONE)
}

/// Prints what is wrong with the file, or probably not meant.
pub(crate) fn check(check: &Check, shared: &Shared, here: &Here, out: &mut Out) -> Outcome {
    let given = if check.targets.is_empty() { &shared.file } else { &check.targets };
    let files = files(here, given)?;
    let mut findings = super::compose::check(here, shared, &files);
    findings.sort_by_key(|finding| finding.severity);
    findings.dedup();
    findings.iter_mut().for_each(|finding| finding.problem = out.named(&finding.problem));
    let of = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let failed = errors > 0 || (check.strict && warnings > 0);
    if check.format == Format::Sarif {
        let report = super::sarif::report(&findings, &here.folder);
        out.text(&format!("{report:#}\n"))?;
    } else if out.mode.json || check.format == Format::Json {
        #[derive(Serialize)]
        struct Checked<'a> {
            ok: bool,
            findings: &'a [Finding],
        }
        out.json("ms.check/1", &Checked { ok: !failed, findings: &findings })?;
    } else {
        for finding in &findings {
            if finding.severity != Severity::Note || !out.mode.quiet {
                out.text(&found(finding, out.mode.color))?;
            }
        }
        let notes = findings.len() - errors - warnings;
        let verdict = [(errors, "error"), (warnings, "warning"), (notes, "note")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| count(n, what))
            .collect::<Vec<_>>()
            .join(", ");
        out.progress(if verdict.is_empty() { "nothing found" } else { &verdict })?;
    }
    out.flush()?;
    Ok(if failed { FAILED } else { DONE })
}

/// Findings are what `ms check` is asked for, so they are its output.
fn found(finding: &Finding, color: bool) -> String {
    let (label, style) = super::compose::label(finding.severity);
    let problem: &Problem = &finding.problem;
    format!("{}{problem}\n", super::style::paint(color, style, label))
}
