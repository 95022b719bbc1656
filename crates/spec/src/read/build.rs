//! `build`, in both forms.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Reader;
use super::files::Kind;
use crate::keys::Scope;
use crate::model::{Build, NamedContext};
use crate::report::At;
use crate::tree::Node;

impl Reader<'_> {
    pub(super) fn build(&mut self, node: &Node, at: At, owner: &str) -> Option<Build> {
        let node = crate::merge::build(node.clone());
        let what = format!("`build` of {owner}");
        let failed_before = self.report.failed();
        let mut context = None;
        let mut dockerfile = None;
        let mut dockerfile_inline = None;
        let mut target = None;
        let mut args = BTreeMap::new();
        let (mut secrets, mut no_cache) = (Vec::new(), false);
        let (mut contexts, mut ssh) = (BTreeMap::new(), BTreeMap::new());
        for entry in self.entries(Scope::Build, &what, &node) {
            let named = format!("`build.{}` of {owner}", entry.key);
            match entry.key.as_str() {
                "context" => context = self.context(&entry.node, &named),
                "dockerfile" => dockerfile = self.text(&entry.node, &named).map(|t| (t, entry.at)),
                "dockerfile_inline" => dockerfile_inline = self.text(&entry.node, &named),
                "target" => {
                    target = self.text(&entry.node, &named).filter(|t| !t.is_empty());
                }
                "args" => {
                    args = self.filled(&entry.node, &named);
                }
                "secrets" => secrets = self.grants(&entry.node, Kind::Secret, &what),
                "additional_contexts" => contexts = self.contexts(&entry.node, &named),
                "ssh" => ssh = self.agents(&entry.node, &named),
                "no_cache" => no_cache = self.boolean(&entry.node, &named).unwrap_or_default(),
                _ => {}
            }
        }
        if context.is_none()
            && (dockerfile_inline.is_none() || self.report.failed() != failed_before)
        {
            if node.get("context").is_none() {
                self.report.error(
                    "build-no-context",
                    at,
                    format!("{what} has no `context`"),
                    "the folder that the Dockerfile copies from is not known",
                    "add `context: .`",
                );
            }
            return None;
        }
        if let (Some((_, at)), Some(_)) = (&dockerfile, &dockerfile_inline) {
            self.report.error(
                "build-two-dockerfiles",
                *at,
                format!("{what} has `dockerfile` and `dockerfile_inline`"),
                "only one of them can be built",
                "remove one",
            );
        }
        let context = context.unwrap_or_else(|| self.origins.of(at).dir.clone());
        let file = dockerfile.map_or_else(|| "Dockerfile".to_owned(), |(text, _)| text);
        Some(Build {
            dockerfile: super::normal(&context.join(file)),
            context,
            dockerfile_inline,
            target,
            args,
            contexts,
            secrets,
            ssh,
            no_cache,
            place: self.report.place(at),
        })
    }

    /// Further contexts, by name.
    fn contexts(&mut self, node: &Node, named: &str) -> BTreeMap<String, NamedContext> {
        let mut contexts = BTreeMap::new();
        for (name, value) in self.pairs(node, named) {
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                self.bad(node.at, named, &name, "write `NAME=./folder`");
                continue;
            };
            let context = match value.strip_prefix("docker-image://") {
                Some(image) => NamedContext::Image(image.to_owned()),
                None if value.contains("://") || value.starts_with("service:") => {
                    self.report.error(
                        "build-remote-context",
                        node.at,
                        format!("{named} has `{name}` at `{value}`"),
                        "a context is a folder of this host, or `docker-image://` and an image",
                        "name a folder, or an image that another stage can begin with",
                    );
                    continue;
                }
                None => NamedContext::Folder(self.origins.path(&value, node.at)),
            };
            contexts.insert(name, context);
        }
        contexts
    }

    /// Sockets of agents for keys; the one without a path is whoever runs `ms` has.
    fn agents(&mut self, node: &Node, named: &str) -> BTreeMap<String, PathBuf> {
        let mut agents = BTreeMap::new();
        for (name, value) in self.pairs(node, named) {
            let own = || self.origins.of(node.at).env.get("SSH_AUTH_SOCK").cloned();
            match value.clone().filter(|value| !value.is_empty()).or_else(own) {
                Some(path) => {
                    agents.insert(name, self.origins.path(&path, node.at));
                }
                None => self.report.warn(
                    "ssh-agent",
                    node.at,
                    format!("{named} has `{name}`, and no agent for keys runs"),
                    "SSH_AUTH_SOCK is not set",
                    "start `ssh-agent`, or name its socket: `default=/path`",
                ),
            }
        }
        agents
    }

    fn context(&mut self, node: &Node, named: &str) -> Option<PathBuf> {
        let text = self.text(node, named)?;
        let scheme =
            |t: &str| t.contains("://") || t.starts_with("git@") || t.starts_with("github.com/");
        if scheme(&text) {
            self.report.error(
                "build-remote-context",
                node.at,
                format!("{named} is `{text}`"),
                "a context is a folder of this host; nothing is fetched",
                "clone it and name the folder",
            );
            return None;
        }
        Some(self.origins.path(&text, node.at))
    }

    /// Pairs with what is missing taken from the environment; what is not there either is left
    /// out.
    pub(super) fn filled(&mut self, node: &Node, named: &str) -> BTreeMap<String, String> {
        let mut pairs = self.pairs(node, named);
        // A variable is its own file's, wherever the value has been merged into.
        if pairs.values().any(Option::is_none) {
            for entry in crate::merge::pairs(node.clone()).entries() {
                if let Some(value @ None) = pairs.get_mut(&entry.key) {
                    *value = self.origins.of(entry.at).env.get(&entry.key).cloned();
                }
            }
        }
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}
