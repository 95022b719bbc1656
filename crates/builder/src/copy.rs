//! COPY: which files of a context, stage or image go where.
//!
//! Not here: fetching and unpacking, which ADD does in a step of its own. Invariant: nothing
//! outside the source is read; symlinks in folders are copied as they are.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use spec::dockerfile::{Copy, Ignore};

use crate::glob;
use crate::owner::{owner, permissions};
use crate::tree::{Entry, Node, Tree, TreeError, at};
use crate::view::{Found, View};

/// Deepest folder that is read.
const DEPTH_MAX: usize = 64;

/// What files come from.
pub(crate) struct Source<'a> {
    pub(crate) view: View,
    /// What `.dockerignore` leaves out; nothing of a stage is.
    pub(crate) ignore: &'a Ignore,
    /// Files keep who owns them; those of a context belong to root.
    pub(crate) keeps_owner: bool,
    /// What it is, for messages.
    pub(crate) name: String,
}

/// Why a copy could not be planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("`{source_path}`: nothing of that name in {place}{hint}")]
    Missing { source_path: String, place: String, hint: &'static str },
    #[error("`{0}` leads out of the build context")]
    Outside(String),
    #[error("`{0}`: folders are nested too deeply")]
    Deep(PathBuf),
    #[error("{0}")]
    Owner(String),
    #[error("`--chmod={0}` is neither octal nor such as `u=rwX,go=rX`")]
    Mode(String),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Plans a copy into an image that shows `below`.
pub(crate) fn plan(copy: &Copy, source: &Source<'_>, below: &View) -> Result<Tree, CopyError> {
    let given = copy.chown.as_ref().map(|text| owner(text, below).map_err(CopyError::Owner));
    let mut planning = Planning {
        tree: Tree::default(),
        source,
        below,
        owner: given.transpose()?,
        mode: copy.chmod.as_deref(),
        exclude: Ignore::parse(&copy.exclude.join("\n")),
    };
    if let Some(mode) = planning.mode
        && permissions(mode, 0, false).is_none()
    {
        return Err(CopyError::Mode(mode.to_owned()));
    }
    let dest = below.resolve(&copy.dest).map_err(at(&copy.dest))?;
    let is_folder = below.find(&dest, true).map_err(at(&dest))?.is_some_and(|f| f.is_folder());
    let into = copy.dest_is_dir || is_folder;
    for file in &copy.inline {
        let to = if into { dest.join(&file.name) } else { dest.clone() };
        let mode = planning.mode(0o644, false);
        let owner = Some(planning.owner.unwrap_or((0, 0)));
        let entry = Entry { node: Node::Text(file.text.clone()), mode, owner };
        planning.tree.add(&to, entry, below)?;
    }
    for text in &copy.sources {
        planning.source(text, copy.parents, &dest, into)?;
    }
    Ok(planning.tree)
}

struct Planning<'a> {
    tree: Tree,
    source: &'a Source<'a>,
    below: &'a View,
    owner: Option<(u32, u32)>,
    mode: Option<&'a str>,
    exclude: Ignore,
}

impl Planning<'_> {
    fn source(
        &mut self,
        text: &str,
        parents: bool,
        dest: &Path,
        into: bool,
    ) -> Result<(), CopyError> {
        let pattern = within(text)?;
        let found = glob::find(&self.source.view, &pattern).map_err(at(&pattern))?;
        // With `--parents`, what stands before `/./` is left out.
        let pivot = text.split_once("/./").map(|(before, _)| within(before)).transpose()?;
        let many = found.len() > 1;
        let mut copied = false;
        for one in found {
            let kept = one.path.strip_prefix(pivot.as_deref().unwrap_or(Path::new("/")));
            let to = match kept {
                Ok(kept) if parents => dest.join(kept.strip_prefix("/").unwrap_or(kept)),
                _ if one.is_folder() => dest.to_owned(),
                // Under the name that was written; what a symlink leads to may have another.
                _ if into || many => match pattern.file_name().filter(|_| !many) {
                    Some(name) if !glob::is_pattern(Path::new(name)) => dest.join(name),
                    _ => dest.join(one.path.file_name().unwrap_or_default()),
                },
                _ => dest.to_owned(),
            };
            if one.is_folder() {
                // A folder's contents are copied, not the folder.
                let folder = self.entry(&one, Node::Folder { opaque: false });
                let exists = self.below.find(&to, true).map_err(at(&to))?.is_some();
                if !exists && to != Path::new("/") && !self.tree.has(&to) {
                    let owner = self.owner.unwrap_or((0, 0));
                    let entry =
                        if parents { folder } else { Entry::folder(self.mode(0o755, true), owner) };
                    self.tree.add(&to, entry, self.below)?;
                }
                self.folder(&one, &to, 0)?;
                copied = true;
            } else if !self.leaves_out(&one) {
                self.leaf(&one, &to)?;
                copied = true;
            }
        }
        if !copied && !glob::is_pattern(&pattern) {
            let there = self.source.view.find(&pattern, true).ok().flatten().is_some();
            let through_link = pattern.ancestors().any(|path| {
                let found = self.source.view.find(path, false).ok().flatten();
                found.is_some_and(|found| found.metadata.is_symlink())
            });
            let hint = match (there, through_link) {
                (true, _) => ": .dockerignore excludes it",
                (false, true) => ": a symbolic link on the way leads to nothing in it",
                (false, false) => "",
            };
            let place = self.source.name.clone();
            return Err(CopyError::Missing { source_path: text.to_owned(), place, hint });
        }
        Ok(())
    }

    fn leaves_out(&self, found: &Found) -> bool {
        let path = found.path.strip_prefix("/").unwrap_or(&found.path);
        let is_folder = found.is_folder();
        self.source.ignore.excluded(path, is_folder) || self.exclude.excluded(path, is_folder)
    }

    fn folder(&mut self, folder: &Found, dest: &Path, depth: usize) -> Result<(), CopyError> {
        if depth > DEPTH_MAX {
            return Err(CopyError::Deep(folder.path.clone()));
        }
        for (name, found) in self.source.view.list(folder).map_err(at(folder.place()))? {
            let (out, to) = (self.leaves_out(&found), dest.join(&name));
            if !found.is_folder() {
                if !out {
                    self.leaf(&found, &to)?;
                }
                continue;
            }
            if out && !(self.source.ignore.takes_back() || self.exclude.takes_back()) {
                continue;
            }
            if !out {
                let entry = self.entry(&found, Node::Folder { opaque: false });
                self.tree.add(&to, entry, self.below)?;
            }
            self.folder(&found, &to, depth + 1)?;
        }
        Ok(())
    }

    fn leaf(&mut self, found: &Found, to: &Path) -> Result<(), CopyError> {
        let kind = found.metadata.file_type();
        let from = found.place();
        let node = if kind.is_symlink() {
            Node::Link(std::fs::read_link(from).map_err(at(from))?)
        } else if kind.is_file() {
            Node::File { from: from.to_owned() }
        } else {
            // Sockets, pipes and devices are nothing that an image holds.
            return Ok(());
        };
        let entry = self.entry(found, node);
        Ok(self.tree.add(to, entry, self.below)?)
    }

    fn entry(&self, found: &Found, node: Node) -> Entry {
        let own = (found.metadata.uid(), found.metadata.gid());
        let kept = if self.source.keeps_owner { own } else { (0, 0) };
        let mode = match node {
            Node::Link(_) => 0o777,
            _ => self.mode(found.metadata.mode() & 0o7777, found.is_folder()),
        };
        Entry { node, mode, owner: Some(self.owner.unwrap_or(kept)) }
    }

    fn mode(&self, own: u32, is_folder: bool) -> u32 {
        self.mode.and_then(|text| permissions(text, own, is_folder)).unwrap_or(own)
    }
}

/// A source as a path from the top of what it is in.
pub(crate) fn within(source: &str) -> Result<PathBuf, CopyError> {
    let mut clean = PathBuf::from("/");
    for part in Path::new(source).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                if clean == Path::new("/") {
                    return Err(CopyError::Outside(source.to_owned()));
                }
                clean.pop();
            }
            Component::Prefix(_) => return Err(CopyError::Outside(source.to_owned())),
        }
    }
    Ok(clean)
}
