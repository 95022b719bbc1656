//! Files to one tree: environment, interpolation of each file, merge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{LoadOptions, folder};
use crate::env::{Source, Unreadable};
use crate::interpolate::{InterpolateError, interpolate};
use crate::report::{At, Report};
use crate::tree::{Node, Tag, Value};
use crate::{Files, Finding, merge, project, tree};

/// Everything that is known before services are read.
pub(crate) struct Resolved {
    pub(crate) report: Report,
    /// `None` when a file could not be read.
    pub(crate) tree: Option<Node>,
    /// `None` when no name could be made.
    pub(crate) name: Option<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) project_dir: PathBuf,
    pub(crate) shown_dir: PathBuf,
}

pub(crate) fn resolve(options: &LoadOptions, files: &dyn Files) -> Resolved {
    let first = options.files.first().map_or(Path::new(""), |f| folder(f));
    let project_dir = options.project_dir.clone().unwrap_or_else(|| first.to_owned());
    // The first file's folder is the project's, under the name that the person knows it by.
    let shown_dir =
        if project_dir.ends_with(first) { first.to_owned() } else { project_dir.clone() };
    let mut resolved = Resolved {
        report: Report::default(),
        tree: None,
        name: None,
        env: BTreeMap::new(),
        project_dir: crate::read::normal(&project_dir),
        shown_dir,
    };
    if options.files.is_empty() {
        let finding = Finding::error("no-file", "no Compose file was named");
        let cause = "there is nothing to read";
        resolved.report.push(finding.cause(cause).next("name one: ms up compose.yaml"));
        return resolved;
    }
    if !project_dir.is_absolute() {
        let what = format!("the project folder `{}` is not absolute", project_dir.display());
        let finding = Finding::error("project-dir-relative", what);
        let cause = "paths in the file are made absolute from it";
        resolved.report.push(finding.cause(cause).next("name the folder by its whole path"));
        return resolved;
    }
    environment(options, files, &mut resolved);
    let mut documents = Vec::new();
    let mut complete = true;
    for path in &options.files {
        let number = resolved.report.add_file(path);
        match crate::env::text(files, path) {
            Ok(text) => match tree::parse(&text, number, &mut resolved.report) {
                Some(read) => documents.extend(read),
                None => complete = false,
            },
            Err(Unreadable { why, .. }) => {
                complete = false;
                let what = format!("cannot read {}", path.display());
                let finding = Finding::error("file-unreadable", what).cause(why);
                resolved.report.push(finding.next("check the path: ms up PATH"));
            }
        }
    }
    resolved.name = name(options, &documents, &mut resolved);
    if let Some(name) = &resolved.name {
        resolved.env.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    }
    fill(&mut documents, &resolved.env, &mut resolved.report);
    for document in &documents {
        if !matches!(document.value, Value::Map(_) | Value::Null) {
            complete = false;
            resolved.report.error(
                "bad-type",
                document.at,
                format!("the Compose file is {}", document.kind()),
                "it is a map with `services:` in it",
                "begin with `services:`",
            );
        }
    }
    let empty = Node::new(Value::Map(Vec::new()), At::new(0, 1, 1));
    // What the first file resets is gone before anything is laid on it.
    let mut documents = documents.into_iter();
    let first = documents.next().map_or_else(|| empty.clone(), merge::settle);
    let merged = documents.fold(first, merge::merge);
    let merged = if matches!(merged.value, Value::Null) { empty } else { merged };
    resolved.tree = complete.then(|| merge::settle(merged));
    resolved
}

fn environment(options: &LoadOptions, files: &dyn Files, resolved: &mut Resolved) {
    let default = resolved.project_dir.join(".env");
    let default_shown = resolved.shown_dir.join(".env");
    let given = options.env_files.iter().map(|path| (path.as_path(), path.as_path(), true));
    let mut sources: Vec<_> = given.collect();
    if sources.is_empty() {
        sources.push((&default, &default_shown, false));
    }
    // Later files see earlier ones; the shell wins over all of them.
    let mut from_files = BTreeMap::new();
    for (path, shown, required) in sources {
        let source = Source { path, shown, asked_at: None };
        let mut seen = from_files.clone();
        seen.extend(options.env.clone());
        let report = &mut resolved.report;
        from_files.extend(crate::env::read(files, &source, required, false, &seen, report));
    }
    resolved.env = from_files;
    resolved.env.extend(options.env.clone());
}

/// The app's name: the command line's, the environment's, the last file's, the folder's.
fn name(options: &LoadOptions, documents: &[Node], resolved: &mut Resolved) -> Option<String> {
    let from_env = resolved.env.get("COMPOSE_PROJECT_NAME").filter(|n| !n.is_empty());
    if let Some(name) = options.project_name.as_ref().or(from_env).cloned() {
        return checked(&name, None, resolved);
    }
    let said = documents.iter().rev().find_map(|document| {
        let node = document.get("name").filter(|n| n.tag != Tag::Reset)?;
        match &node.value {
            Value::Scalar(scalar) => Some((scalar.shown(), node.at)),
            _ => None,
        }
    });
    if let Some((text, at)) = said {
        let lookup = |name: &str| resolved.env.get(name).cloned();
        // A text that cannot be filled in is reported with all the others.
        let name = interpolate(&text, &lookup, &mut Vec::new()).ok()?;
        return checked(&name, Some(at), resolved);
    }
    let name = project::from_folder(&resolved.project_dir);
    if name.is_empty() {
        let folder = resolved.project_dir.display();
        let what = format!("the folder `{folder}` gives the app no name");
        let finding = Finding::error("project-name", what);
        let cause = "a name has lower case letters, digits, `-` and `_`";
        resolved.report.push(finding.cause(cause).next("add `name: my-app` to the file"));
        return None;
    }
    Some(name)
}

fn checked(name: &str, at: Option<At>, resolved: &mut Resolved) -> Option<String> {
    if project::valid(name) {
        return Some(name.to_owned());
    }
    let mut finding = Finding::error("project-name", format!("the app cannot be called `{name}`"))
        .cause(
            "a name has up to 63 lower case letters, digits, `-` and `_`, a letter or digit first",
        )
        .next("choose another name");
    finding.problem.place = at.map(|at| resolved.report.place(at));
    resolved.report.push(finding);
    None
}

/// Fills in the variables of every value.
fn fill(documents: &mut [Node], env: &BTreeMap<String, String>, report: &mut Report) {
    let lookup = |name: &str| env.get(name).cloned();
    let mut warned = Vec::new();
    let mut size = 0;
    let mut each = |scalar: &mut tree::Scalar, at: At| {
        if !scalar.text.contains('$') {
            return;
        }
        let mut unset = Vec::new();
        match interpolate(&scalar.text, &lookup, &mut unset) {
            Ok(text) if size + text.len() > tree::TEXT_MAX => {
                // Said once: everything after it would be too long as well.
                if size <= tree::TEXT_MAX {
                    let why = "all values together are too long once filled in";
                    refused(InterpolateError::Bound(why), at, report);
                    size = tree::TEXT_MAX + 1;
                }
            }
            Ok(text) => {
                size += text.len();
                // `$$` alone is still what the file says.
                scalar.literal &= !scalar.text.replace("$$", "").contains('$');
                scalar.text = text;
                scalar.plain = false;
            }
            Err(error) => refused(error, at, report),
        }
        for name in unset {
            if !warned.contains(&name) {
                report.warn(
                    "variable-unset",
                    at,
                    format!("`{name}` is not set and stands for nothing here"),
                    "neither the shell nor an environment file gives it a value",
                    format!("set it, or write `${{{name}:-}}`; `$${name}` is the text itself"),
                );
                warned.push(name);
            }
        }
    };
    documents.iter_mut().for_each(|document| document.scalars(&mut each));
}

fn refused(error: InterpolateError, at: At, report: &mut Report) {
    match error {
        InterpolateError::Syntax(near) => report.error(
            "interpolation",
            at,
            format!("`{near}` is not a variable"),
            "a `$` begins a variable: `$NAME` or `${NAME}`",
            "write `$$` for the sign itself",
        ),
        InterpolateError::Required { name, message } => {
            let cause = match message.is_empty() {
                true => "the file requires it".to_owned(),
                false => message,
            };
            let next = format!("set it in the shell or in .env: {name}=…");
            report.error("variable-required", at, format!("`{name}` is not set"), cause, next);
        }
        InterpolateError::Bound(why) => {
            report.error("interpolation", at, "a value is too large", why, "make it simpler");
        }
    }
    report.spoil(at);
}
