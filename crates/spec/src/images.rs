//! Well-known images, and what a machine has in their place: a table, as data in `images.json`.
//!
//! Not here: looking at the machine. An entry says which program makes an image what it is, how
//! that program is asked about itself, which packages bring it, and what the image adds to it:
//! paths, files, users, environment and the command that it runs.
//!
//! `{program}` and `{home}` in links, environment and files stand for where the machine has the
//! program and the folder that it is installed in. Scripts of the images are in `images/`; they are
//! ours, and do what the image's own are known for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::dockerfile::ImageRecipe;
use crate::model::PortKind;

const TABLE: &str = include_str!("images.json");

macro_rules! scripts {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("images/", $name)))),*]
    };
}

/// What `from` of a file names.
const SCRIPTS: &[(&str, &str)] = scripts![
    "alpine/addgroup.sh",
    "alpine/adduser.sh",
    "alpine/apk.sh",
    "apache2-foreground.sh",
    "httpd-foreground.sh",
    "httpd.sh",
    "mariadb-health.sh",
    "mariadb.sh",
    "memcached.sh",
    "nginx.sh",
    "php-ext.sh",
    "php.sh",
    "postgres.sh",
    "prometheus.sh",
    "python.sh",
    "redis.sh",
];

/// One entry of the table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnownImage {
    /// Names without registry and tag; `*` at the end stands for the rest.
    pub names: Vec<String>,
    /// What the tag must hold for this entry to be meant, as in `8-apache`; entries without come
    /// after.
    pub tag: Option<String>,
    /// What people call the program, or the system.
    pub what: String,
    /// What is worth knowing of it.
    pub note: Option<String>,
    /// The image begins with nothing instead of the machine's files.
    pub empty: bool,
    /// The image's system, as `ID` of `/etc/os-release`; a tag may name another.
    pub system: Option<String>,
    /// Another entry, by its first name, that this one adds to.
    pub extends: Option<String>,
    /// Programs that will do, best first; `{tag}` is the version that the tag names and `{major}`
    /// its first number, and a path may be a pattern.
    pub find: Vec<String>,
    /// Files that the machine must have as well; patterns.
    pub needs: Vec<PathBuf>,
    /// How the program is asked for its version; `--version` when empty.
    pub version: Vec<String>,
    /// The command that prints the folder that the program is installed in, when that is not two
    /// folders above it.
    pub home: Vec<String>,
    /// What brings the program, by system.
    pub packages: BTreeMap<String, String>,
    /// Symbolic links to what the machine has; one to what it lacks is left out.
    pub links: BTreeMap<String, String>,
    /// Symbolic links that take the place of what the machine has there, likewise.
    pub instead: BTreeMap<String, String>,
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
    /// It starts as root and then serves as another.
    pub steps_down: bool,
    /// TCP ports.
    pub expose: Vec<u16>,
    /// VOLUME.
    pub volumes: Vec<PathBuf>,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
}

/// A file of an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnownFile {
    /// It is a program.
    pub executable: bool,
    /// It is there only where the machine has nothing of that name.
    pub fallback: bool,
    /// Its lines.
    pub lines: Vec<String>,
    /// The script that is its content, in place of lines.
    pub from: Option<String>,
}

impl KnownFile {
    /// Its content, with `fill` put to what depends on the machine.
    pub fn text(&self, fill: &dyn Fn(&str) -> String) -> String {
        let Some(from) = &self.from else {
            return self.lines.iter().map(|line| fill(line) + "\n").collect();
        };
        let found = SCRIPTS.iter().find(|(name, _)| name == from);
        fill(found.map(|(_, text)| *text).unwrap_or_default())
    }
}

/// A folder of an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnownFolder {
    /// Who owns it: a number, for user and group.
    pub owner: u32,
    /// Who owns it, by name, in place of a number.
    pub user: Option<String>,
    /// What the machine has there is not shown.
    pub own: bool,
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
    let tag = tag(image);
    let is_meant = |entry: &&KnownImage| entry.tag.as_ref().is_none_or(|part| tag.contains(part));
    table().iter().filter(is_meant).find(|entry| entry.names.iter().any(matches))
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

/// Whether an image starts as root and then serves as another.
pub(crate) fn steps_down(image: &str) -> bool {
    known(image).is_some_and(|known| known.chain().iter().any(|entry| entry.steps_down))
}

impl KnownImage {
    /// Everything that the table says here: two that are equal make the same of a machine.
    pub fn content(&self) -> String {
        let texts = self.files.values().map(|file| file.text(&str::to_owned));
        format!("{self:?}") + &texts.collect::<String>()
    }

    /// The entries that this one adds to, and itself, lowest first.
    pub fn chain(&'static self) -> Vec<&'static KnownImage> {
        let mut chain = vec![self];
        while let Some(below) = chain.last().and_then(|last| last.extends.as_ref()) {
            let plain = |entry: &&KnownImage| entry.tag.is_none();
            match table().iter().filter(plain).find(|entry| entry.names.first() == Some(below)) {
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
            recipe.volumes.extend(entry.volumes.iter().cloned());
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
                let both = (name.clone(), entry.tag.clone());
                assert!(names.insert(both), "{name} is there twice");
            }
            let needs_package = !entry.find.is_empty() || !entry.needs.is_empty();
            assert_eq!(needs_package, entry.packages.contains_key("debian"), "{:?}", entry.names);
            let links = entry.links.keys().chain(entry.instead.keys());
            for path in links.chain(entry.files.keys()).chain(entry.folders.keys()) {
                assert!(path.starts_with('/'), "{path}");
            }
            for file in entry.files.values() {
                let known = |from: &String| SCRIPTS.iter().any(|(name, _)| name == from);
                assert!(file.from.as_ref().is_none_or(known), "{file:?}");
                assert_ne!(file.from.is_some(), !file.lines.is_empty(), "{file:?}");
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
        assert_eq!(known("php:8.3-apache-bookworm").unwrap().what, "Apache with PHP");
        assert_eq!(known("php:8.3-cli").unwrap().what, "PHP");
        let maven = known("maven:3").unwrap().recipe("maven:3", &str::to_owned);
        assert!(maven.env.contains_key("JAVA_HOME"), "{maven:?}");
    }
}
