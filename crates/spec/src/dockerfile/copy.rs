//! COPY and ADD.

use std::path::{Path, PathBuf};

use super::lines::Instruction;
use super::making::Making;
use super::repository::Repository;
use super::words::{Words, json, split};
use crate::read::normal;

/// One COPY or ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// Paths and patterns, as written.
    pub sources: Vec<String>,
    /// Addresses to fetch, which only ADD has.
    pub remote: Vec<String>,
    /// Repositories to clone, which only ADD has.
    pub repositories: Vec<Repository>,
    /// What is cloned keeps its `.git`.
    pub keep_git_dir: bool,
    /// Files whose text stands in the Dockerfile.
    pub inline: Vec<InlineFile>,
    /// Where to; absolute.
    pub dest: PathBuf,
    /// `dest` is a folder to copy into: it was written with a slash at its end, or there are
    /// several sources.
    pub dest_is_dir: bool,
    /// What `sources` are in.
    pub from: Origin,
    /// `USER[:GROUP]` to own it.
    pub chown: Option<String>,
    /// Permissions, as written.
    pub chmod: Option<String>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Sources keep the folders that they are in.
    pub parents: bool,
    /// ADD, which unpacks archives of the context.
    pub unpack: bool,
    /// Archives that are fetched are unpacked too.
    pub unpack_remote: bool,
    /// The hash that what is fetched must have, such as `sha256:…`; of a repository the commit, or
    /// how it begins.
    pub checksum: Option<String>,
}

/// What files come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The build context.
    #[default]
    Context,
    /// An earlier stage, by its number in the file.
    Stage(usize),
    /// Another image.
    Image(String),
}

/// A file whose text stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Copy {
    /// Whether something of another machine is needed.
    pub fn is_fetching(&self) -> bool {
        !self.remote.is_empty() || !self.repositories.is_empty()
    }
}

impl Making<'_> {
    pub(super) fn copy(&mut self, instruction: &Instruction) -> Result<Copy, String> {
        let lookup = |name: &str| self.lookup(name);
        let words = Words { escape: self.file.escape, lookup: &lookup };
        let is_add = instruction.keyword == "ADD";
        let mut copy = Copy { unpack: is_add, ..Copy::default() };
        let mut rest = instruction.rest.as_str();
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, behind) = flag.split_once([' ', '\t']).unwrap_or((flag, ""));
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            match name {
                "from" if !is_add => copy.from = self.origin(&words.fill(value)?)?,
                "chown" => copy.chown = Some(words.fill(value)?),
                "chmod" => copy.chmod = Some(words.fill(value)?),
                "exclude" => copy.exclude.push(words.fill(value)?),
                "checksum" if is_add => copy.checksum = Some(words.fill(value)?),
                "parents" if !is_add => copy.parents = value != "false",
                "unpack" if is_add => {
                    copy.unpack = value != "false";
                    copy.unpack_remote = copy.unpack;
                }
                "keep-git-dir" if is_add => copy.keep_git_dir = value != "false",
                "link" => {}
                _ => {
                    let keyword = instruction.keyword;
                    return Err(format!("`--{name}` is not an option of {keyword}"));
                }
            }
            rest = behind.trim_start();
        }
        let mut paths = match json(rest) {
            Some(paths) => paths,
            None => split(rest, self.file.escape)
                .iter()
                .map(
                    |word| if word.starts_with("<<") { Ok(word.clone()) } else { words.fill(word) },
                )
                .collect::<Result<_, _>>()?,
        };
        let dest = paths.pop().filter(|d| !d.is_empty() && !paths.is_empty());
        let dest = dest.ok_or("it takes one or more sources and a destination")?;
        let mut heredocs = instruction.heredocs.iter();
        for path in paths {
            let heredoc = if path.starts_with("<<") { heredocs.next() } else { None };
            match heredoc {
                Some(doc) => {
                    let text =
                        if doc.expand { words.fill_text(&doc.text)? } else { doc.text.clone() };
                    copy.inline.push(InlineFile { name: doc.name.clone(), text });
                }
                None => copy.sources.push(path),
            }
        }
        let is_web = |s: &str| s.starts_with("http://") || s.starts_with("https://");
        if is_add {
            for source in std::mem::take(&mut copy.sources) {
                match Repository::read(&source) {
                    Some(repository) => copy.repositories.push(repository?),
                    None if is_web(&source) => copy.remote.push(source),
                    None => copy.sources.push(source),
                }
            }
        }
        copy.dest_is_dir = dest.ends_with('/')
            || Path::new(&dest).file_name().is_none()
            || dest.ends_with("/.")
            || copy.sources.len() + copy.inline.len() + copy.remote.len() > 1
            || !copy.repositories.is_empty();
        copy.dest = normal(&self.recipe.workdir.join(dest));
        Ok(copy)
    }

    /// The stage or image that `--from` names.
    pub(super) fn origin(&self, name: &str) -> Result<Origin, String> {
        if name.is_empty() {
            return Err("`--from` is empty".to_owned());
        }
        if let Some(stage) = self.earlier.iter().rposition(|stage| stage.is_called(name)) {
            return Ok(Origin::Stage(stage));
        }
        match name.parse::<usize>() {
            Ok(number) if number < self.earlier.len() => Ok(Origin::Stage(number)),
            Ok(_) => Err(format!("there is no stage {name} before this one")),
            Err(_) => Ok(Origin::Image(name.to_owned())),
        }
    }
}
