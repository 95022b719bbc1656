//! Files of one project laid on each other: variables first, then what each of them extends and
//! includes, then the merge.
//!
//! Invariants: a project reads at most [`FILES_MAX`] files and makes at most [`NODES_MAX`] values of
//! them, copies by `extends` counted; files that lead back to themselves are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::fill::Fill;
use crate::env::Unreadable;
use crate::origin::{Origin, Origins};
use crate::report::{At, Report};
use crate::tree::{self, Node, Value};
use crate::{Files, Finding, merge};

/// Files that are extended or included.
const FILES_MAX: usize = 256;
/// Values of all files together.
const NODES_MAX: usize = 4 * tree::NODES_MAX;

pub(super) struct Layers<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) report: &'a mut Report,
    pub(super) origins: &'a mut Origins,
    /// Everything that was named could be read.
    pub(super) complete: bool,
    fill: Fill,
    files_read: usize,
    nodes: usize,
    /// Services that can be extended, as their files say them, and by what they were read.
    pub(super) sources: Vec<Rc<Node>>,
    /// Files that were extended, by path, with the number of their source.
    pub(super) extended_files: Vec<(PathBuf, Origin, Option<usize>)>,
    /// Services whose `extends` is done, by source and name.
    pub(super) extended: BTreeMap<(usize, String), Node>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(
        files: &'a dyn Files,
        report: &'a mut Report,
        origins: &'a mut Origins,
    ) -> Layers<'a> {
        Layers {
            files,
            report,
            origins,
            complete: true,
            fill: Fill::default(),
            files_read: 0,
            nodes: 0,
            sources: Vec::new(),
            extended_files: Vec::new(),
            extended: BTreeMap::new(),
        }
    }

    /// The documents of one project as one tree. `chain` are the files that led here.
    pub(super) fn merged(&mut self, documents: Vec<Node>, chain: &[PathBuf]) -> Node {
        let mut merged: Option<Node> = None;
        for mut document in documents {
            if !self.filled(&mut document) {
                continue;
            }
            self.extend_services(&mut document);
            self.include(&mut document, chain);
            merged = Some(match merged {
                None => document,
                Some(below) => merge::merge(below, document),
            });
        }
        let nothing = || Node::new(Value::Map(Vec::new()), At::new(0, 1, 1));
        let merged = merge::settle(merged.unwrap_or_else(nothing));
        if matches!(merged.value, Value::Null) { nothing() } else { merged }
    }

    /// Fills in a document's variables; false when it is no map.
    pub(super) fn filled(&mut self, document: &mut Node) -> bool {
        let env = Rc::clone(&self.origins.of(document.at).env);
        self.fill.run(document, &env, self.report);
        let is_map = matches!(document.value, Value::Map(_) | Value::Null);
        if !is_map {
            self.complete = false;
            self.report.error(
                "bad-type",
                document.at,
                format!("the Compose file is {}", document.kind()),
                "it is a map with `services:` in it",
                "begin with `services:`",
            );
        }
        is_map
    }

    /// Reads a file that another names at `at`. `None` when it cannot be read; the report says why.
    pub(super) fn read(&mut self, path: &Path, origin: &Origin, at: At) -> Option<Vec<Node>> {
        self.files_read += 1;
        if self.files_read > FILES_MAX {
            if self.files_read == FILES_MAX + 1 {
                let what = format!("more than {FILES_MAX} files are extended or included");
                self.report.error("too-many-files", at, what, "a project is bounded", "join some");
            }
            self.complete = false;
            return None;
        }
        let shown = self.origins.shown(path);
        let read = crate::env::text(self.files, path);
        let number = self.report.add_file(&shown);
        self.origins.set(number, origin.clone());
        let documents = match read {
            Ok(text) => tree::parse(&text, number, self.report),
            Err(Unreadable { why, .. }) => {
                let finding =
                    Finding::error("file-unreadable", format!("cannot read {}", shown.display()));
                let place = self.report.place(at);
                let next = "check the path; it starts from the folder of the file that names it";
                self.report.push(finding.at(&place).cause(why).next(next));
                None
            }
        };
        self.complete &= documents.is_some();
        let documents = documents?;
        documents.iter().all(|document| self.charge(document, at)).then_some(documents)
    }

    /// Counts the values of a tree; false when they are too many.
    pub(super) fn charge(&mut self, node: &Node, at: At) -> bool {
        let before = self.nodes;
        self.nodes = self.nodes.saturating_add(node.weight());
        if self.nodes <= NODES_MAX {
            return true;
        }
        self.complete = false;
        if before <= NODES_MAX {
            let what = format!("all files together hold more than {NODES_MAX} values");
            let cause = "what `extends` copies counts as often as it is copied";
            self.report.error("yaml-bounds", at, what, cause, "split the app");
        }
        false
    }
}
