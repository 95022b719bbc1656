//! COPY and ADD.

use std::path::{Path, PathBuf};

use super::lines::Instruction;
use super::making::Making;
use super::words::{Words, json, split};
use crate::Finding;
use crate::read::normal;

/// One COPY or ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// Paths and patterns, as written.
    pub sources: Vec<String>,
    /// Addresses to fetch, which only ADD has.
    pub remote: Vec<String>,
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
    /// ADD, which unpacks archives.
    pub unpack: bool,
    /// The hash that what is fetched must have, such as `sha256:…`.
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

impl Making<'_> {
    pub(super) fn copy(&mut self, instruction: &Instruction) -> Result<Copy, String> {
        let place = self.file.place(instruction.line);
        let lookup = |name: &str| self.lookup(name);
        let words = Words { escape: self.file.escape, lookup: &lookup };
        let mut notes = Vec::new();
        let mut copy = Copy { unpack: instruction.keyword == "ADD", ..Copy::default() };
        let mut rest = instruction.rest.as_str();
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, behind) = flag.split_once([' ', '\t']).unwrap_or((flag, ""));
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            match name {
                "from" => copy.from = self.origin(&words.fill(value)?)?,
                "chown" => copy.chown = Some(words.fill(value)?),
                "chmod" => copy.chmod = Some(words.fill(value)?),
                "exclude" => copy.exclude.push(words.fill(value)?),
                "checksum" => copy.checksum = Some(words.fill(value)?),
                "parents" => copy.parents = value != "false",
                "unpack" => copy.unpack = value != "false",
                "link" => {}
                "keep-git-dir" => notes.push(
                    Finding::warning("copy-flag", format!("`--{name}` has no effect"))
                        .at(&place)
                        .cause("repositories are not fetched")
                        .next("clone it once on the host, into the context"),
                ),
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
        let is_web = |s: &String| s.starts_with("http://") || s.starts_with("https://");
        let is_repository = |s: &String| {
            s.starts_with("git@")
                || s.starts_with("git://")
                || s.starts_with("ssh://")
                || (is_web(s) && s.split('#').next().is_some_and(|s| s.ends_with(".git")))
        };
        if copy.unpack && copy.from == Origin::Context {
            if let Some(url) = copy.sources.iter().find(|s| is_repository(s)) {
                notes.push(
                    Finding::warning("copy-remote", format!("`{url}` is not fetched"))
                        .at(&place)
                        .cause("repositories are not cloned to build; its files will be missing")
                        .next("clone it once on the host, into the context"),
                );
            }
            copy.sources.retain(|s| !is_repository(s));
            let (remote, sources) = copy.sources.into_iter().partition(is_web);
            (copy.remote, copy.sources) = (remote, sources);
        }
        copy.dest_is_dir = dest.ends_with('/')
            || Path::new(&dest).file_name().is_none()
            || dest.ends_with("/.")
            || copy.sources.len() + copy.inline.len() + copy.remote.len() > 1;
        copy.dest = normal(&self.recipe.workdir.join(dest));
        self.recipe.findings.extend(notes);
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
