//! `secrets` and `configs`: what the app has, and what a service gets of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Reader, normal};
use crate::keys::Scope;
use crate::model::{FileDef, FileSource, Grant};
use crate::report::At;
use crate::tree::{Entry, Node, Value};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Secret,
    Config,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Config => "config",
        }
    }

    /// Where a service sees one that names no absolute target.
    fn folder(self) -> &'static str {
        match self {
            Kind::Secret => "/run/secrets",
            Kind::Config => "/",
        }
    }
}

impl Reader<'_> {
    /// The secrets or configs at the top of the file.
    pub(crate) fn file_defs(
        &mut self,
        node: &Node,
        kind: Kind,
        app: &str,
    ) -> BTreeMap<String, FileDef> {
        let each = node.entries().iter().filter(|e| !e.key.starts_with("x-"));
        each.map(|e| (e.key.clone(), self.file_def(e, kind, app))).collect()
    }

    fn file_def(&mut self, entry: &Entry, kind: Kind, app: &str) -> FileDef {
        let owner = format!("{} `{}`", kind.word(), entry.key);
        let mut name = None;
        let mut source = None;
        let mut said = 0;
        let scope = if kind == Kind::Secret { Scope::Secret } else { Scope::Config };
        for inner in self.entries(scope, &owner, &entry.node) {
            let what = format!("`{}` of {owner}", inner.key);
            match inner.key.as_str() {
                "name" => name = self.text(&inner.node, &what),
                "file" => {
                    said += 1;
                    let text = self.text(&inner.node, &what);
                    let path = |t: String| self.origins.path(&t, inner.node.at);
                    source = text.map(|t| FileSource::File(path(t)));
                }
                "content" => {
                    said += 1;
                    source = self.text(&inner.node, &what).map(FileSource::Content);
                }
                "environment" => {
                    said += 1;
                    source = self.variable(&inner.node, &what);
                }
                "external" => {
                    let named = inner.node.get("name");
                    let external = match named {
                        Some(node) => {
                            name = self.text(node, &what);
                            true
                        }
                        None => self.boolean(&inner.node, &what).unwrap_or_default(),
                    };
                    if external {
                        said += 1;
                        source = Some(FileSource::External);
                    }
                }
                _ => {}
            }
        }
        if said != 1 {
            let ways = match kind {
                Kind::Secret => "`file` or `environment`",
                Kind::Config => "`file`, `environment` or `content`",
            };
            let (what, next) = match said {
                0 => (format!("{owner} says not where it comes from"), format!("add {ways}")),
                _ => {
                    (format!("{owner} says twice where it comes from"), format!("keep one: {ways}"))
                }
            };
            let cause = "its content has one source";
            self.report.error("file-source", entry.at, what, cause, next);
        }
        FileDef {
            name: name.unwrap_or_else(|| format!("{app}_{}", entry.key)),
            // What was refused is told already.
            source: source.unwrap_or(FileSource::External),
            place: self.report.place(entry.at),
        }
    }

    fn variable(&mut self, node: &Node, what: &str) -> Option<FileSource> {
        let name = self.text(node, what)?;
        Some(match self.origins.of(node.at).env.get(&name).cloned() {
            Some(value) => FileSource::Variable { name, value },
            None => FileSource::Unset { name },
        })
    }

    /// What a service gets: names, or maps.
    pub(super) fn grants(&mut self, node: &Node, kind: Kind, owner: &str) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        let named = format!("a {} of {owner}", kind.word());
        for item in self.items(node, &format!("`{}s` of {owner}", kind.word())) {
            let Some(grant) = self.grant(item, kind, &named) else { continue };
            // A later one takes the place of an earlier one with the same target.
            match grants.iter().position(|g| g.target == grant.target) {
                Some(i) => grants[i] = grant,
                None => grants.push(grant),
            }
        }
        grants
    }

    fn grant(&mut self, item: &Node, kind: Kind, named: &str) -> Option<Grant> {
        let (mut source, mut target) = (None, None);
        let (mut uid, mut gid, mut mode) = (None, None, None);
        let scope = if kind == Kind::Secret { Scope::GrantSecret } else { Scope::GrantConfig };
        if let Value::Map(_) = &item.value {
            for entry in self.entries(scope, named, item) {
                let what = format!("`{}` of {named}", entry.key);
                let node = &entry.node;
                match entry.key.as_str() {
                    "source" => source = self.text(node, &what),
                    "target" => target = self.text(node, &what).filter(|t| !t.is_empty()),
                    "uid" => uid = self.owner(node, &what),
                    "gid" => gid = self.owner(node, &what),
                    _ => {
                        if let Value::Scalar(scalar) = &node.value {
                            mode = self.mode_bits(&scalar.text, node.at, named);
                        }
                    }
                }
            }
        } else {
            source = self.text(item, named);
        }
        let Some(source) = source.filter(|s| !s.is_empty()) else {
            if item.get("source").is_none() {
                let next = "add `source:` with its name in the file";
                self.bad(item.at, named, "without a source", next);
            }
            return None;
        };
        let target =
            self.grant_target(target.as_deref().unwrap_or(&source), kind, item.at, named)?;
        let place = self.report.place(item.at);
        // What the app's definition says is filled in when all of them are read.
        Some(Grant { source, content: FileSource::External, target, uid, gid, mode, place })
    }

    /// A user or group by number, as text.
    fn owner(&mut self, node: &Node, what: &str) -> Option<String> {
        self.small(node, what, u32::MAX - 1).map(|id| id.to_string())
    }

    fn grant_target(&mut self, text: &str, kind: Kind, at: At, named: &str) -> Option<PathBuf> {
        let path = normal(&Path::new(kind.folder()).join(text));
        if path.file_name().is_none() || text.contains('\0') {
            let next = "write the path of a file";
            self.bad(at, &format!("the target of {named}"), &text.escape_debug().to_string(), next);
            return None;
        }
        Some(path)
    }
}
