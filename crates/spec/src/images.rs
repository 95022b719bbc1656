//! Well-known images, and what a machine has in their place: a table, as data in `images.json`.
//!
//! Not here: looking at the machine. An entry says which program makes an image what it is, how
//! that program is asked about itself, which packages bring it, and what the image adds to it:
//! paths, files, users, environment and the command that it runs.
//!
//! `{program}` and `{home}` in links, environment and files stand for where the machine has the
//! program and the folder that it is installed in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::dockerfile::ImageRecipe;
use crate::model::PortKind;

const TABLE: &str = include_str!("images.json");

/// One entry of the table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnownImage {
    /// Names without registry and tag; `*` at the end stands for the rest.
    pub names: Vec<String>,
    /// What people call the program, or the system.
    pub what: String,
    /// The image begins with nothing instead of the machine's files.
    pub empty: bool,
    /// The image's system, as `ID` of `/etc/os-release`; a tag may name another.
    pub system: Option<String>,
    /// Another entry, by its first name, that this one adds to.
    pub extends: Option<String>,
    /// Programs that will do, best first; `{tag}` is the version that the tag names, and a path
    /// may be a pattern.
    pub find: Vec<String>,
    /// How the program is asked for its version; `--version` when empty.
    pub version: Vec<String>,
    /// The command that prints the folder that the program is installed in, when that is not two
    /// folders above it.
    pub home: Vec<String>,
    /// What brings the program, by system.
    pub packages: BTreeMap<String, String>,
    /// Symbolic links to what the machine has; one to what it lacks is left out.
    pub links: BTreeMap<String, String>,
    /// Files of the image.
    pub files: BTreeMap<String, KnownFile>,
    /// Folders of the image.
    pub folders: BTreeMap<String, KnownFolder>,
    /// Files of the machine that an image that begins with nothing has as well.
    pub from_host: Vec<PathBuf>,
    /// Users of the image.
    pub users: Vec<KnownUser>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// CMD.
    pub cmd: Option<Vec<String>>,
    /// Where it starts.
    pub workdir: Option<PathBuf>,
    /// USER.
    pub user: Option<String>,
    /// TCP ports.
    pub expose: Vec<u16>,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
}

/// A file of an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnownFile {
    /// It is a program.
    pub executable: bool,
    /// Its lines.
    pub lines: Vec<String>,
}

/// A folder of an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnownFolder {
    /// Who owns it: a number, for user and group.
    pub owner: u32,
    /// Everybody may write to it.
    pub open: bool,
}

/// A user of an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnownUser {
    /// Name of the user and of the group.
    pub name: String,
    /// Number of both.
    pub id: u32,
    /// Home folder.
    pub home: PathBuf,
    /// Shell.
    pub shell: Option<PathBuf>,
}

fn table() -> &'static [KnownImage] {
    static READ: OnceLock<Vec<KnownImage>> = OnceLock::new();
    // A test reads it as strictly.
    READ.get_or_init(|| serde_json::from_str(TABLE).unwrap_or_default())
}

/// The entry for an image, when there is one.
pub fn known(image: &str) -> Option<&'static KnownImage> {
    let path = name(image);
    let matches = |known: &String| match known.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => *known == path,
    };
    table().iter().find(|entry| entry.names.iter().any(matches))
}

/// The image without registry, tag and digest.
pub fn name(image: &str) -> &str {
    let path = crate::stand_in::name(image);
    let path = match path.split_once('/') {
        // A registry has a dot or a port in its name, or is localhost.
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => path,
    };
    path.strip_prefix("library/").unwrap_or(path)
}

/// The tag, `latest` when there is none.
pub fn tag(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ => "latest",
    }
}

impl KnownImage {
    /// The entries that this one adds to, and itself, lowest first.
    pub fn chain(&'static self) -> Vec<&'static KnownImage> {
        let mut chain = vec![self];
        while let Some(below) = chain.last().and_then(|last| last.extends.as_ref()) {
            match table().iter().find(|entry| entry.names.first() == Some(below)) {
                Some(entry) if chain.len() < 8 => chain.push(entry),
                _ => break,
            }
        }
        chain.reverse();
        chain
    }

    /// What the image says, with `fill` put to what depends on the machine.
    pub fn recipe(&'static self, image: &str, fill: &dyn Fn(&str) -> String) -> ImageRecipe {
        let mut recipe = ImageRecipe { base: image.to_owned(), ..ImageRecipe::default() };
        for entry in self.chain() {
            let env = entry.env.iter().map(|(name, value)| (name.clone(), fill(value)));
            recipe.env.extend(env);
            if entry.entrypoint.is_some() || entry.cmd.is_some() {
                recipe.entrypoint.clone_from(&entry.entrypoint);
                recipe.cmd.clone_from(&entry.cmd);
            }
            if let Some(workdir) = &entry.workdir {
                recipe.workdir.clone_from(workdir);
            }
            recipe.user = entry.user.clone().or(recipe.user);
            recipe.stop_signal = entry.stop_signal.clone().or(recipe.stop_signal);
            recipe.expose.extend(entry.expose.iter().map(|port| (*port, PortKind::Tcp)));
        }
        recipe
    }
}

/// What a well-known image says of its program. Its environment is about paths that the image
/// alone has, so it belongs to whoever makes them.
pub(crate) fn recipe(image: &str) -> ImageRecipe {
    let said = known(image).map(|entry| entry.recipe(image, &str::to_owned)).unwrap_or_default();
    ImageRecipe { base: image.to_owned(), env: BTreeMap::new(), ..said }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_can_be_read_and_every_entry_is_whole() {
        let read: Vec<KnownImage> = serde_json::from_str(TABLE).unwrap();
        let mut names = BTreeSet::new();
        for entry in &read {
            assert!(!entry.names.is_empty() && !entry.what.is_empty(), "{entry:?}");
            for name in &entry.names {
                assert!(names.insert(name.clone()), "{name} is there twice");
            }
            let needs_package = !entry.find.is_empty();
            assert_eq!(needs_package, entry.packages.contains_key("debian"), "{:?}", entry.names);
            for path in entry.links.keys().chain(entry.files.keys()).chain(entry.folders.keys()) {
                assert!(path.starts_with('/'), "{path}");
            }
            if let Some(below) = &entry.extends {
                assert!(read.iter().any(|e| e.names.first() == Some(below)), "{below}");
            }
        }
    }

    #[test]
    fn names_and_tags() {
        for (image, expected_name, expected_tag) in [
            ("python", "python", "latest"),
            ("python:3.11-slim", "python", "3.11-slim"),
            ("docker.io/library/node:22@sha256:ab", "node", "22"),
            ("localhost:5000/team/app", "team/app", "latest"),
            ("gcr.io/distroless/static-debian12:nonroot", "distroless/static-debian12", "nonroot"),
        ] {
            assert_eq!((name(image), tag(image)), (expected_name, expected_tag), "{image}");
        }
        assert_eq!(known("golang:1.22-alpine").unwrap().what, "Go");
        assert!(known("gcr.io/distroless/static-debian12").unwrap().empty);
        assert!(known("me/python").is_none() && known("").is_none());
        let maven = known("maven:3").unwrap().recipe("maven:3", &str::to_owned);
        assert!(maven.env.contains_key("JAVA_HOME"), "{maven:?}");
    }
}
