//! What a value's file is read by: the folder that its relative paths start from, and the
//! environment that its variables come from.
//!
//! A value keeps the place where it stands ([`At`]), so that it can be merged into another file and
//! still mean what it meant: nothing is rewritten on the way.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::report::At;

/// Variables.
pub(crate) type Env = BTreeMap<String, String>;

/// What one file is read by.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Absolute.
    pub(crate) dir: PathBuf,
    pub(crate) env: Rc<Env>,
}

/// What each file is read by.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    /// The project's own files'.
    pub(crate) project: Origin,
    /// The project folder as the person would name it.
    pub(crate) shown_dir: PathBuf,
    others: BTreeMap<u32, Origin>,
}

impl Origins {
    pub(crate) fn new(dir: PathBuf, shown_dir: PathBuf, env: Env) -> Origins {
        let project = Origin { dir, env: Rc::new(env) };
        Origins { project, shown_dir, others: BTreeMap::new() }
    }

    /// Says what the file of this number is read by, when it is not the project's own.
    pub(crate) fn set(&mut self, file: u32, origin: Origin) {
        self.others.insert(file, origin);
    }

    pub(crate) fn of(&self, at: At) -> &Origin {
        self.others.get(&at.file).unwrap_or(&self.project)
    }

    /// A path of the host made absolute, `~` being the user's home.
    pub(crate) fn path(&self, text: &str, at: At) -> PathBuf {
        let origin = self.of(at);
        let path = match (text.strip_prefix('~'), origin.env.get("HOME")) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                Path::new(home).join(rest.trim_start_matches('/'))
            }
            _ => PathBuf::from(text),
        };
        normal(&origin.dir.join(path))
    }

    /// A host path as the person would name it: beside the Compose file when it is below it.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.project.dir) {
            Ok(below) => self.shown_dir.join(below),
            Err(_) => path.to_owned(),
        }
    }
}

/// The path without `.` and, as far as names allow, without `..`; links are not looked at.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            Component::ParentDir if out.has_root() => {}
            part => out.push(part),
        }
    }
    out
}
