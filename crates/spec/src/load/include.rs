//! `include`: other projects' services, volumes, networks, secrets and configs beside one's own.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::layers::Layers;
use crate::env::Source;
use crate::keys::Scope;
use crate::merge;
use crate::origin::{Env, Origin};
use crate::report::At;
use crate::tree::{Entry, Node, Tag, Value};

/// Projects inside each other.
const DEPTH_MAX: usize = 16;

/// What an include brings along.
const BROUGHT: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// What one item of `include` says.
#[derive(Default)]
struct Item {
    paths: Vec<(String, At)>,
    directory: Option<(String, At)>,
    env_files: Vec<(String, At)>,
}

impl Layers<'_> {
    /// Carries out `include` of a document. `chain` are the files that led here.
    pub(super) fn include(&mut self, document: &mut Node, chain: &[PathBuf]) {
        let Value::Map(entries) = &mut document.value else { return };
        let Some(i) = entries.iter().position(|e| e.key == "include") else { return };
        let include = entries.remove(i);
        let items = match include.node.value {
            Value::Null => return,
            Value::List(items) => items,
            _ => {
                self.report.error(
                    "bad-type",
                    include.at,
                    format!("`include` is {}", include.node.kind()),
                    "it takes a list of files",
                    "write `include: [other.yaml]`",
                );
                return;
            }
        };
        for node in items {
            let item = self.item(&node);
            if let Some(brought) = self.project(&item, node.at, chain) {
                self.bring(document, brought);
            }
        }
    }

    fn item(&mut self, node: &Node) -> Item {
        let mut item = Item::default();
        if let Value::Scalar(scalar) = &node.value {
            item.paths.push((scalar.shown(), node.at));
            return item;
        }
        for entry in node.entries() {
            let texts = texts(&entry.node);
            match entry.key.as_str() {
                "path" => item.paths = texts,
                "project_directory" => item.directory = texts.into_iter().next(),
                "env_file" => item.env_files = texts,
                _ => crate::keys::unknown(Scope::Include, "`include`", entry, self.report),
            }
        }
        if item.paths.is_empty() {
            self.report.error(
                "bad-type",
                node.at,
                "an item of `include` names no file",
                "it takes a path, or a map with `path`",
                "write `- path: other.yaml`",
            );
        }
        item
    }

    /// The project that an item names, as one tree.
    fn project(&mut self, item: &Item, at: At, chain: &[PathBuf]) -> Option<Node> {
        let (first, first_at) = item.paths.first()?;
        let first = self.origins.path(first, *first_at);
        if chain.contains(&first) || chain.len() >= DEPTH_MAX {
            let names = chain.iter().chain([&first]);
            let names: Vec<String> =
                names.map(|p| self.origins.shown(p).display().to_string()).collect();
            self.report.error(
                "include-cycle",
                at,
                format!("files include each other: {}", names.join(" → ")),
                format!("one of them includes itself, or there are more than {DEPTH_MAX}"),
                "take one `include` out",
            );
            return None;
        }
        let dir = match &item.directory {
            Some((dir, at)) => self.origins.path(dir, *at),
            None => super::folder(&first).to_owned(),
        };
        let env = self.included_env(item, &dir, at);
        let origin = Origin { dir, env };
        let mut documents = Vec::new();
        for (path, at) in &item.paths {
            let path = self.origins.path(path, *at);
            documents.extend(self.read(&path, &origin, *at)?);
        }
        let mut chain = chain.to_vec();
        chain.push(first);
        Some(self.merged(documents, &chain))
    }

    /// The environment around the include, and below it what the project's own files say.
    fn included_env(&mut self, item: &Item, dir: &Path, at: At) -> Rc<Env> {
        let around = Rc::clone(&self.origins.of(at).env);
        let mut from_files = Env::new();
        let default = dir.join(".env");
        let said = item.env_files.iter().map(|(file, at)| (self.origins.path(file, *at), *at));
        let mut files: Vec<(PathBuf, At)> = said.collect();
        let required = !files.is_empty();
        if !required {
            files.push((default, at));
        }
        for (path, at) in files {
            let mut seen = from_files.clone();
            seen.extend(around.as_ref().clone());
            let shown = self.origins.shown(&path);
            let asked_at = Some(self.report.place(at));
            let source = Source { path: &path, shown: &shown, asked_at };
            let read = crate::env::read(self.files, &source, required, false, &seen, self.report);
            from_files.extend(read);
        }
        if from_files.keys().all(|key| around.contains_key(key)) {
            return around;
        }
        from_files.extend(around.as_ref().clone());
        Rc::new(from_files)
    }

    /// Puts what was included beside the document's own.
    fn bring(&mut self, document: &mut Node, brought: Node) {
        let Value::Map(brought) = brought.value else { return };
        let Value::Map(own) = &mut document.value else { return };
        for section in brought.into_iter().filter(|e| BROUGHT.contains(&e.key.as_str())) {
            let Some(here) = own.iter_mut().find(|e| e.key == section.key) else {
                own.push(section);
                continue;
            };
            if matches!(here.node.value, Value::Null) {
                here.node = section.node;
                continue;
            }
            let (Value::Map(here), Value::Map(there)) = (&mut here.node.value, section.node.value)
            else {
                continue;
            };
            for entry in there {
                match here.iter().find(|e| e.key == entry.key) {
                    None => here.push(entry),
                    Some(own)
                        if own.node.tag == Tag::Reset || merge::same(&own.node, &entry.node) => {}
                    Some(own) => self.conflict(&section.key, own, &entry),
                }
            }
        }
    }

    fn conflict(&mut self, section: &str, own: &Entry, brought: &Entry) {
        let (name, place) = (&own.key, self.report.place(brought.at));
        self.report.error(
            "include-conflict",
            own.at,
            format!("`{name}` of `{section}` is defined here and in a file that is included"),
            format!("the other definition is at {place}"),
            "rename one, or change the included one in a file of your own: \
             `include: [{path: [theirs.yaml, mine.yaml]}]`",
        );
    }
}

fn texts(node: &Node) -> Vec<(String, At)> {
    match &node.value {
        Value::Scalar(scalar) => vec![(scalar.shown(), node.at)],
        Value::List(items) => items.iter().flat_map(texts).collect(),
        Value::Null | Value::Map(_) => Vec::new(),
    }
}
