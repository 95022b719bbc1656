//! `extends`: a service as its base with its own keys on top.

use std::path::PathBuf;
use std::rc::Rc;

use super::layers::Layers;
use crate::keys::Scope;
use crate::merge;
use crate::origin::Origin;
use crate::report::At;
use crate::suggest::nearest;
use crate::tree::{Node, Tag, Value};

/// Services that extend one another in a row.
const CHAIN_MAX: usize = 64;

/// What `extends` says.
struct Extends {
    service: String,
    service_at: At,
    file: Option<(String, At)>,
}

impl Layers<'_> {
    /// Carries out `extends` of every service of a document.
    pub(super) fn extend_services(&mut self, document: &mut Node) {
        let Value::Map(entries) = &mut document.value else { return };
        let Some(services) = entries.iter_mut().find(|e| e.key == "services") else { return };
        if services.node.entries().iter().all(|e| e.node.get("extends").is_none()) {
            return;
        }
        let source = self.sources.len();
        self.sources.push(Rc::new(services.node.clone()));
        let Value::Map(services) = &mut services.node.value else { return };
        for entry in services.iter_mut().filter(|e| e.node.get("extends").is_some()) {
            if let Some(done) = self.extended(source, &entry.key, &mut Vec::new()) {
                entry.node = done;
            }
        }
    }

    /// A service of a source with what it extends below it.
    fn extended(
        &mut self,
        source: usize,
        name: &str,
        chain: &mut Vec<(usize, String)>,
    ) -> Option<Node> {
        let key = (source, name.to_owned());
        if let Some(done) = self.extended.get(&key).cloned() {
            return self.charge(&done, done.at).then_some(done);
        }
        let services = Rc::clone(&self.sources[source]);
        let mut own = services.get(name)?.clone();
        let said = match own.get("extends") {
            Some(node) if !matches!(node.value, Value::Null) && node.tag != Tag::Reset => {
                self.extends(node, name)
            }
            _ => None,
        };
        if let Value::Map(entries) = &mut own.value {
            entries.retain(|e| e.key != "extends");
        }
        let Some(said) = said else { return Some(own) };
        if chain.contains(&key) || chain.len() >= CHAIN_MAX {
            let names: Vec<&str> = chain.iter().map(|(_, name)| name.as_str()).collect();
            self.report.error(
                "extends-cycle",
                said.service_at,
                format!("services extend each other: {} → {name}", names.join(" → ")),
                format!("none has a base that is whole, or there are more than {CHAIN_MAX}"),
                "take one `extends` out",
            );
            return Some(own);
        }
        let base_source = match &said.file {
            None => source,
            Some((file, at)) => match self.source_of(file, *at) {
                Some(source) => source,
                None => return Some(own),
            },
        };
        let known = Rc::clone(&self.sources[base_source]);
        if known.get(&said.service).is_none() {
            let names = known.entries().iter().map(|e| e.key.as_str());
            let next = match nearest(&said.service, names) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "name a service of that file; one of another needs `file:`".to_owned(),
            };
            let base = &said.service;
            let what = format!("service `{name}` extends `{base}`");
            let cause = "the file does not define it";
            self.report.error("extends-unknown", said.service_at, what, cause, next);
            return Some(own);
        }
        chain.push(key.clone());
        let base = self.extended(base_source, &said.service, chain);
        chain.pop();
        let merged = match base {
            Some(base) => merge::extend(base, own, name),
            None => own,
        };
        if !self.charge(&merged, said.service_at) {
            return None;
        }
        self.extended.insert(key, merged.clone());
        Some(merged)
    }

    fn extends(&mut self, node: &Node, name: &str) -> Option<Extends> {
        let owner = format!("`extends` of service `{name}`");
        let text = |node: &Node| match &node.value {
            Value::Scalar(scalar) => Some((scalar.shown(), node.at)),
            _ => None,
        };
        if let Some((service, service_at)) = text(node) {
            return Some(Extends { service, service_at, file: None });
        }
        let known = ["service", "file"];
        for entry in node.entries().iter().filter(|e| !known.contains(&e.key.as_str())) {
            crate::keys::unknown(Scope::Extends, &owner, entry, self.report);
        }
        let Some((service, service_at)) = node.get("service").and_then(text) else {
            self.report.error(
                "bad-type",
                node.at,
                format!("{owner} names no service"),
                "it takes a service, and the file that it is in when that is another",
                "write `extends: {service: base}`",
            );
            return None;
        };
        let file = node.get("file").and_then(text).filter(|(file, _)| !file.is_empty());
        Some(Extends { service, service_at, file })
    }

    /// The services of another file, read once. `None` when there are none; the report says why.
    fn source_of(&mut self, file: &str, at: At) -> Option<usize> {
        let path = self.origins.path(file, at);
        let env = Rc::clone(&self.origins.of(at).env);
        let known = |(known, origin, _): &&(PathBuf, Origin, Option<usize>)| {
            *known == path && Rc::ptr_eq(&origin.env, &env)
        };
        if let Some((_, _, source)) = self.extended_files.iter().find(known) {
            return *source;
        }
        let dir = super::folder(&path).to_owned();
        let origin = Origin { dir, env };
        let documents = self.read(&path, &origin, at);
        let mut merged: Option<Node> = None;
        for mut document in documents.into_iter().flatten() {
            if self.filled(&mut document) {
                merged = Some(match merged {
                    None => document,
                    Some(below) => merge::merge(below, document),
                });
            }
        }
        let services = merged.as_ref().and_then(|m| m.get("services")).cloned();
        let source = services.map(|services| {
            self.sources.push(Rc::new(services));
            self.sources.len() - 1
        });
        if source.is_none() && merged.is_some() {
            self.report.error(
                "extends-unknown",
                at,
                format!("`{}` has no services", self.origins.shown(&path).display()),
                "there is nothing in it to extend",
                "name the file that has the service",
            );
        }
        self.extended_files.push((path, origin, source));
        source
    }
}
