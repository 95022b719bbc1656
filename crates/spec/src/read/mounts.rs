//! `volumes` and `tmpfs` of a service: short and long forms.

use std::path::{Path, PathBuf};

use super::{Reader, normal};
use crate::keys::Scope;
use crate::model::{Mount, MountKind, Owner, Without};
use crate::report::At;
use crate::tree::{Node, Value};

impl Reader<'_> {
    pub(super) fn mounts(&mut self, node: &Node, owner: &str) -> Vec<Mount> {
        let mut mounts = Vec::new();
        for item in self.items(node, &format!("`volumes` of {owner}")) {
            let mount = match &item.value {
                Value::Map(_) => self.long_mount(item, owner),
                _ => self.short_mount(item, owner),
            };
            add(&mut mounts, mount);
        }
        mounts
    }

    /// `tmpfs: /run` or `/run:size=64m,mode=1777`.
    pub(super) fn tmpfs(&mut self, node: &Node, owner: &str, mounts: &mut Vec<Mount>) {
        let named = format!("`tmpfs` of {owner}");
        for (text, at) in self.texts(node, &named).into_iter().take(super::ports::ITEMS_MAX) {
            let (target, options) = text.split_once(':').unwrap_or((&text, ""));
            let (mut size_bytes, mut mode, mut read_only) = (None, None, false);
            let (mut owner, mut without) = (Owner::default(), Without::default());
            for option in options.split(',').filter(|o| !o.is_empty()) {
                match option.split_once('=') {
                    Some(("size", size)) => {
                        size_bytes = base::units::parse_bytes(size);
                        if size_bytes.is_none() {
                            self.bad(at, &format!("the size of {named}"), size, "write `size=64m`");
                        }
                    }
                    Some(("mode", octal)) => mode = self.mode_bits(octal, at, &named),
                    Some(("uid", uid)) => owner.uid = self.id(uid, at, &named),
                    Some(("gid", gid)) => owner.gid = self.id(gid, at, &named),
                    None if option == "ro" => read_only = true,
                    None if option == "noexec" => without.exec = true,
                    None if option == "nosuid" => without.suid = true,
                    None if option == "nodev" => without.dev = true,
                    None if matches!(option, "rw" | "exec" | "suid" | "dev" | "async") => {}
                    _ => self.report.warn(
                        "key-ignored",
                        at,
                        format!("`{option}` in {named} has no effect"),
                        "size, mode, uid, gid, ro, noexec, nosuid and nodev are known",
                        "remove it",
                    ),
                }
            }
            let kind = MountKind::Tmpfs { size_bytes, mode, owner, without };
            let mount = self.mount(kind, target, read_only, at, &named);
            add(mounts, mount);
        }
    }

    fn id(&mut self, text: &str, at: At, named: &str) -> Option<u32> {
        let id = text.parse::<u32>().ok().filter(|id| *id < u32::MAX);
        if id.is_none() {
            self.bad(at, &format!("an owner of {named}"), text, "write a number: `uid=1000`");
        }
        id
    }

    pub(super) fn mode_bits(&mut self, octal: &str, at: At, named: &str) -> Option<u32> {
        let digits = octal.strip_prefix("0o").unwrap_or(octal);
        let mode = u32::from_str_radix(digits, 8).ok().filter(|m| *m <= 0o7777);
        if mode.is_none() {
            self.bad(at, &format!("the mode of {named}"), octal, "write it in octal: `1777`");
        }
        mode
    }

    /// `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.
    fn short_mount(&mut self, node: &Node, owner: &str) -> Option<Mount> {
        let named = format!("a volume of {owner}");
        let text = self.text(node, &named)?;
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [target] => (None, target, ""),
            [source, target] => (Some(source), target, ""),
            [source, target, options] => (Some(source), target, options),
            _ => {
                self.bad(node.at, &named, &text, "write `SOURCE:TARGET` or `SOURCE:TARGET:ro`");
                return None;
            }
        };
        let (mut read_only, mut no_copy) = (false, false);
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" => read_only = true,
                "nocopy" | "volume-nocopy" => no_copy = true,
                "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
                "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                    self.propagation(option, node.at, &named);
                }
                _ => self.bad(node.at, &format!("an option of {named}"), option, "write `ro`"),
            }
        }
        let kind = match source {
            None => MountKind::Anonymous,
            Some(source) if source.starts_with(['.', '/', '~']) => MountKind::Bind {
                source: self.origins.path(source, node.at),
                create_host_path: true,
            },
            Some(name) => {
                let name = self.volume_name(name, node.at, &named)?;
                MountKind::Named { name, subpath: None }
            }
        };
        let mount = self.mount(kind, target, read_only, node.at, &named)?;
        Some(Mount { no_copy, ..mount })
    }

    fn volume_name(&mut self, name: &str, at: At, named: &str) -> Option<String> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if !name.is_empty() && name.bytes().all(good) {
            return Some(name.to_owned());
        }
        let next = format!("begin a path of the host with `./`: `./{name}`");
        self.bad(at, &format!("the source of {named}"), name, next);
        None
    }

    fn long_mount(&mut self, node: &Node, owner: &str) -> Option<Mount> {
        let named = format!("a volume of {owner}");
        let (mut kind, mut source, mut target) = (None, None, None);
        let (mut source_at, mut subpath) = (node.at, None);
        let (mut read_only, mut create, mut size_bytes, mut mode) = (false, true, None, None);
        let mut no_copy = false;
        for entry in self.entries(Scope::Mount, &named, node) {
            let node = &entry.node;
            let what = format!("`{}` of {named}", entry.key);
            match entry.key.as_str() {
                "type" => kind = self.text(node, &what),
                "source" => {
                    source_at = node.at;
                    source = self.text(node, &what);
                }
                "target" => target = self.text(node, &what),
                "read_only" => read_only = self.boolean(node, &what).unwrap_or_default(),
                "bind" => create = self.bind_options(node, &what),
                "volume" => {
                    for inner in self.entries(Scope::MountVolume, &what, node) {
                        let named = format!("`{}` of {what}", inner.key);
                        match inner.key.as_str() {
                            "nocopy" => {
                                no_copy = self.boolean(&inner.node, &named).unwrap_or_default();
                            }
                            _ => subpath = self.subpath(&inner.node, &named),
                        }
                    }
                }
                "tmpfs" => {
                    for inner in self.entries(Scope::MountTmpfs, &what, node) {
                        if inner.key == "size" {
                            size_bytes = self.bytes(&inner.node, &what);
                        } else if let Value::Scalar(scalar) = &inner.node.value {
                            mode = self.mode_bits(&scalar.text, inner.node.at, &named);
                        }
                    }
                }
                _ => {}
            }
        }
        let Some(target) = target else {
            if node.get("target").is_none() {
                let next = "add `target: /path`, where the service sees it";
                self.report.error(
                    "bad-mount",
                    node.at,
                    format!("{named} has no `target`"),
                    "it has to appear somewhere",
                    next,
                );
            }
            return None;
        };
        let kind = match (kind.as_deref().unwrap_or("volume"), source) {
            ("bind", Some(source)) => MountKind::Bind {
                source: self.origins.path(&source, source_at),
                create_host_path: create,
            },
            ("volume", Some(name)) => {
                MountKind::Named { name: self.volume_name(&name, node.at, &named)?, subpath }
            }
            ("volume", None) => MountKind::Anonymous,
            ("tmpfs", _) => MountKind::Tmpfs {
                size_bytes,
                mode,
                owner: Owner::default(),
                without: Without::default(),
            },
            ("bind", None) => {
                self.report.error(
                    "bad-mount",
                    node.at,
                    format!("{named} has no `source`"),
                    "a bind mount shows a path of the host",
                    "add `source: ./path`",
                );
                return None;
            }
            (other, _) => {
                let next = "write `bind`, `volume` or `tmpfs`";
                self.bad(node.at, &format!("the type of {named}"), other, next);
                return None;
            }
        };
        let mount = self.mount(kind, &target, read_only, node.at, &named)?;
        Some(Mount { no_copy, ..mount })
    }

    /// `bind` of a mount; whether a folder is made where there is none.
    fn bind_options(&mut self, node: &Node, what: &str) -> bool {
        let mut create = true;
        for inner in self.entries(Scope::MountBind, what, node) {
            let (key, node) = (inner.key.as_str(), &inner.node);
            let named = format!("`{key}` of {what}");
            match key {
                "create_host_path" => create = self.boolean(node, &named).unwrap_or(true),
                "propagation" => {
                    if let Some(text) = self.text(node, &named) {
                        self.propagation(&text, node.at, what);
                    }
                }
                _ => self.recursive(node, &named),
            }
        }
        create
    }

    /// What the host mounts later is its own affair, and so is what an instance mounts.
    fn propagation(&mut self, text: &str, at: At, named: &str) {
        match text {
            "private" | "rprivate" | "" => {}
            "shared" | "rshared" | "slave" | "rslave" => self.report.warn(
                "key-partly",
                at,
                format!("`{text}` in {named} has no effect"),
                "later mounts of the host are not passed on, nor are an instance's own",
                "remove it, or leave it for Docker",
            ),
            _ => self.bad(at, &format!("the propagation of {named}"), text, "write `rprivate`"),
        }
    }

    /// Whether what is mounted below a folder of the host comes along: it always does.
    fn recursive(&mut self, node: &Node, named: &str) {
        match self.text(node, named).as_deref() {
            None | Some("enabled" | "readonly") => {}
            Some(text @ ("disabled" | "writable")) => self.report.warn(
                "key-partly",
                node.at,
                format!("{named} is `{text}`, which has no effect"),
                "what is mounted below the folder comes along, read-only where the folder is",
                "remove it, or leave it for Docker",
            ),
            Some(other) => self.bad(node.at, named, other, "write `enabled`"),
        }
    }

    /// A path inside a volume.
    fn subpath(&mut self, node: &Node, named: &str) -> Option<PathBuf> {
        let text = self.text(node, named).filter(|text| !text.is_empty())?;
        let inside = |part: std::path::Component<'_>| {
            matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir)
        };
        let path = Path::new(&text);
        if path.components().all(inside) {
            return Some(path.components().collect());
        }
        self.bad(node.at, named, &text, "write a path inside the volume, without `..`");
        None
    }

    fn mount(
        &mut self,
        kind: MountKind,
        target: &str,
        read_only: bool,
        at: At,
        named: &str,
    ) -> Option<Mount> {
        if !target.starts_with('/') {
            let next = "write an absolute path";
            self.bad(at, &format!("the target of {named}"), target, next);
            return None;
        }
        let target: PathBuf = normal(Path::new(target));
        if target == Path::new("/") {
            self.bad(at, &format!("the target of {named}"), "/", "name a folder below it");
            return None;
        }
        Some(Mount { kind, target, read_only, no_copy: false, place: self.report.place(at) })
    }
}

/// Adds a mount; a later one takes the place of an earlier one with the same target.
fn add(mounts: &mut Vec<Mount>, mount: Option<Mount>) {
    let Some(mount) = mount else { return };
    match mounts.iter().position(|m| m.target == mount.target) {
        Some(i) => mounts[i] = mount,
        None => mounts.push(mount),
    }
}
