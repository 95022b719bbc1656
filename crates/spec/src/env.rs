//! Environment files read through [`Files`], with what is wrong in them reported in their place.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use base::Place;

use crate::report::{At, Report};
use crate::{Files, Finding, dotenv};

/// Bigger files are refused, whatever they are for.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;

/// An environment file: where it is, how a person names it, and who asked for it.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) shown: &'a Path,
    pub(crate) asked_at: Option<Place>,
}

/// What the file says; nothing when it cannot be read, which is reported unless it is missing and
/// not required.
pub(crate) fn read(
    files: &dyn Files,
    source: &Source<'_>,
    required: bool,
    raw: bool,
    env: &BTreeMap<String, String>,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let text = match text(files, source.path) {
        Ok(text) => text,
        Err(Unreadable { missing: true, .. }) if !required => return BTreeMap::new(),
        Err(Unreadable { why, .. }) => {
            let what = format!("cannot read the environment file {}", source.shown.display());
            let mut finding = Finding::error("env-file-unreadable", what)
                .cause(why)
                .next("make it, or write `required: false` beside its `path`");
            finding.problem.place.clone_from(&source.asked_at);
            report.push(finding);
            return BTreeMap::new();
        }
    };
    if raw {
        return dotenv::parse_raw(&text);
    }
    let file = report.add_file(source.shown);
    let mut unset = Vec::new();
    let parsed = dotenv::parse(&text, &|name| env.get(name).cloned(), &mut unset);
    for name in unset {
        report.warn(
            "variable-unset",
            At::new(file, 1, 1),
            format!("`{name}` is not set; {} uses it as empty", source.shown.display()),
            "neither the environment nor the file gives it a value",
            format!("set it, or write `${{{name}:-}}`"),
        );
    }
    match parsed {
        Ok(values) => values,
        Err(bad) => {
            for line in bad {
                let at = At::new(file, line.line, 1);
                let cause = "environment files hold KEY=value lines and comments";
                report.error("env-file-syntax", at, line.what, cause, "mend the line");
            }
            BTreeMap::new()
        }
    }
}

/// Why a file could not be read.
pub(crate) struct Unreadable {
    pub(crate) missing: bool,
    pub(crate) why: String,
}

/// The text of a file, bounded.
pub(crate) fn text(files: &dyn Files, path: &Path) -> Result<String, Unreadable> {
    let bytes = files.read(path).map_err(|error| Unreadable {
        missing: error.kind() == ErrorKind::NotFound,
        why: error.to_string(),
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        let why = format!("it is larger than {}", base::units::show_bytes(FILE_BYTES_MAX as u64));
        return Err(Unreadable { missing: false, why });
    }
    String::from_utf8(bytes)
        .map_err(|_| Unreadable { missing: false, why: "it is not UTF-8 text".to_owned() })
}
