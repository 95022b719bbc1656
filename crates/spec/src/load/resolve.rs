//! Files to one tree: the environment, the app's name, and what the files say together.

use std::path::Path;
use std::rc::Rc;

use super::layers::Layers;
use super::{LoadOptions, folder};
use crate::env::{Source, Unreadable};
use crate::interpolate::interpolate;
use crate::origin::{Env, Origins, normal};
use crate::report::{At, Report};
use crate::tree::{Node, Tag, Value};
use crate::{Files, Finding, project, tree};

/// Everything that is known before services are read.
pub(crate) struct Resolved {
    pub(crate) report: Report,
    /// `None` when a file could not be read.
    pub(crate) tree: Option<Node>,
    /// `None` when no name could be made.
    pub(crate) name: Option<String>,
    pub(crate) origins: Origins,
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
        origins: Origins::new(normal(&project_dir), shown_dir, Env::new()),
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
    let mut env = environment(options, files, &mut resolved);
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
    resolved.name = name(options, &documents, &env, &mut resolved);
    if let Some(name) = &resolved.name {
        env.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    }
    resolved.origins.project.env = Rc::new(env);
    let mut layers = Layers::new(files, &mut resolved.report, &mut resolved.origins);
    let merged = layers.merged(documents, &options.files);
    complete &= layers.complete;
    resolved.tree = complete.then_some(merged);
    resolved
}

/// The shell's environment over that of the environment files.
fn environment(options: &LoadOptions, files: &dyn Files, resolved: &mut Resolved) -> Env {
    let default = resolved.origins.project.dir.join(".env");
    let default_shown = resolved.origins.shown_dir.join(".env");
    let given = options.env_files.iter().map(|path| (path.as_path(), path.as_path(), true));
    let mut sources: Vec<_> = given.collect();
    if sources.is_empty() {
        sources.push((&default, &default_shown, false));
    }
    // Later files see earlier ones; the shell wins over all of them.
    let mut from_files = Env::new();
    for (path, shown, required) in sources {
        let source = Source { path, shown, asked_at: None };
        let mut seen = from_files.clone();
        seen.extend(options.env.clone());
        let report = &mut resolved.report;
        from_files.extend(crate::env::read(files, &source, required, false, &seen, report));
    }
    from_files.extend(options.env.clone());
    from_files
}

/// The app's name: the command line's, the environment's, the last file's, the folder's.
fn name(
    options: &LoadOptions,
    documents: &[Node],
    env: &Env,
    resolved: &mut Resolved,
) -> Option<String> {
    let from_env = env.get("COMPOSE_PROJECT_NAME").filter(|n| !n.is_empty());
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
        let lookup = |name: &str| env.get(name).cloned();
        // A text that cannot be filled in is reported with all the others.
        let name = interpolate(&text, &lookup, &mut Vec::new()).ok()?;
        return checked(&name, Some(at), resolved);
    }
    let name = project::from_folder(&resolved.origins.project.dir);
    if name.is_empty() {
        let folder = resolved.origins.project.dir.display();
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
