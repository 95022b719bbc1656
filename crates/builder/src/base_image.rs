//! What a stage begins with: an image, as this machine can stand in for it.
//!
//! Not here: the table of images (`spec::images`) and fetching any. A [`BaseImage`] is the seam: what
//! lies lowest, layers above it, what the image says, and a key that changes when any of that does.
//! A fetched image will be one with nothing lowest and layers of its own.

use std::path::{Path, PathBuf};

use spec::dockerfile::ImageRecipe;
use spec::images::{self, KnownImage};

use crate::host::{Host, Program};
use crate::tree::{Entry, Hash, Node, Owners, Tree, TreeError, at};
use crate::view::View;

/// Folders of the host that make up its system. Others are people's, and no image has them.
pub(crate) const SYSTEM: [&str; 14] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "nix", "proc", "sbin", "sys",
    "usr", "var",
];
/// People's folders that an image has, empty.
const KEPT_EMPTY: [(&str, u32); 8] = [
    ("tmp", 0o1777),
    ("run", 0o755),
    ("root", 0o700),
    ("home", 0o755),
    ("opt", 0o755),
    ("srv", 0o755),
    ("mnt", 0o755),
    ("var/tmp", 0o1777),
];
/// Folders that every root has for the kernel, and files that are mounted over.
const ROOT_FOLDERS: [(&str, u32); 5] =
    [("/dev", 0o755), ("/proc", 0o555), ("/sys", 0o555), ("/tmp", 0o1777), ("/etc", 0o755)];
const ROOT_FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Changes when the rules below do, so that no step is found that was done under others.
const RULES: &str = "4";
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Numbers of people's users begin here.
const PEOPLE_FROM: u32 = 1000;
const NOBODY: u32 = 65_534;

/// What a stage begins with.
#[derive(Clone, Debug)]
pub(crate) struct BaseImage {
    pub(crate) lowest: agent::Base,
    /// What is laid over it.
    pub(crate) tree: Tree,
    pub(crate) recipe: ImageRecipe,
    /// Changes when what a step would do on it may change.
    pub(crate) key: String,
    /// What differs from the image, for people.
    pub(crate) notes: Vec<String>,
    /// The image's system is Alpine's, whose tools this machine may lack.
    pub(crate) alpine: bool,
}

/// Why nothing can stand in for an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    #[error("`{image}` needs {what}, which is not on this machine")]
    Missing { image: String, what: String, package: String },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What this machine has in place of an image.
pub(crate) fn stand_in(image: &str, host: &Host) -> Result<BaseImage, BaseError> {
    let Some(known) = images::known(image) else { return unknown(image, host) };
    let chain = known.chain();
    let mut key = Hash::default();
    key.text(RULES);
    key.text(image);
    key.field(&[u8::from(host.owners == Owners::One)]);
    if known.empty {
        let tree = empty(known)?;
        key.text(&tree.fingerprint()?);
        return Ok(BaseImage {
            lowest: agent::Base::Empty,
            recipe: nonroot(image, known.recipe(image, &str::to_owned)),
            key: key.finish(),
            notes: Vec::new(),
            alpine: false,
            tree,
        });
    }
    let alpine = images::tag(image).contains("alpine") || known.system.as_deref() == Some("alpine");
    let mut notes = Vec::new();
    let mut found: Option<Program> = None;
    let mut tree = system(host)?;
    let view = View::host();
    key.text(&host.name);
    key.text(&host.packages());
    // What Alpine's own tools are called, as Debian has them.
    let tools = images::known("alpine").filter(|_| alpine && host.is("debian"));
    if let Some(tools) = tools {
        key.text(&tools.content());
        add(tools, None, &mut tree, &view)?;
    }
    for (depth, entry) in chain.iter().enumerate().map(|(i, e)| (chain.len() - 1 - i, e)) {
        let program = match entry.find.is_empty() {
            true => None,
            false => Some(program(image, entry, depth, host)?),
        };
        if let Some(program) = &program {
            key.text(&program.path.to_string_lossy());
            key.text(&program.version);
            reveal(&program.path, &mut tree, &view)?;
            reveal(&program.home, &mut tree, &view)?;
            let wanted = wanted(image, depth);
            if !agrees(&wanted, &program.version) {
                notes.push(format!("{image}: this machine has {} {}", entry.what, program.version));
            }
        }
        if !entry.needs.iter().all(|path| host.has(path)) {
            return Err(missing(image, entry, host));
        }
        // Links and environment of what an image adds to are about that one's own program.
        found = program.or(found);
        key.text(&entry.content());
        if entry.system.as_deref() != Some("alpine") {
            add(entry, found.as_ref(), &mut tree, &view)?;
        }
        notes.extend(entry.note.iter().map(|note| format!("{image}: {note}")));
    }
    let system = known.system.as_deref().or(alpine.then_some("alpine"));
    if let Some(system) = system.filter(|system| !host.is(system)) {
        let name = if system == "alpine" { "Alpine Linux" } else { known.what.as_str() };
        if known.find.is_empty() {
            notes.push(format!("{image}: this machine's {} takes the place of {name}", host.name));
        }
    }
    let recipe = recipe(known, image, &chain, host);
    Ok(BaseImage { lowest: agent::Base::Host, tree, recipe, key: key.finish(), notes, alpine })
}

/// An image that the table does not have: what is in it is not known.
pub(crate) fn unknown(image: &str, host: &Host) -> Result<BaseImage, BaseError> {
    let mut key = Hash::default();
    key.text(RULES);
    key.text(image);
    key.field(&[u8::from(host.owners == Owners::One)]);
    key.text(&host.name);
    key.text(&host.packages());
    Ok(BaseImage {
        lowest: agent::Base::Host,
        tree: system(host)?,
        recipe: ImageRecipe { base: image.to_owned(), ..ImageRecipe::default() },
        key: key.finish(),
        notes: vec![format!("{image} is not fetched: this machine's own files take its place")],
        alpine: images::tag(image).contains("alpine"),
    })
}

fn program(
    image: &str,
    entry: &KnownImage,
    depth: usize,
    host: &Host,
) -> Result<Program, BaseError> {
    let tag = wanted(image, depth);
    let major = tag.split('.').next().unwrap_or_default();
    let names: Vec<String> = entry
        .find
        .iter()
        .filter(|name| !(name.contains('{') && tag.is_empty()))
        .map(|name| name.replace("{tag}", &tag).replace("{major}", major))
        .collect();
    let found = host.program(&names, &entry.version, &entry.home);
    found.ok_or_else(|| missing(image, entry, host))
}

fn missing(image: &str, entry: &KnownImage, host: &Host) -> BaseError {
    let packages = &entry.packages;
    let own = host.systems.iter().find_map(|system| packages.get(system));
    let package = own.or_else(|| packages.get("debian")).cloned().unwrap_or_default();
    BaseError::Missing { image: image.to_owned(), what: entry.what.clone(), package }
}

/// The version that a tag asks for; for what an image adds to, the last number in it, as in
/// `3.9-eclipse-temurin-21`.
fn wanted(image: &str, depth: usize) -> String {
    let tag = images::tag(image);
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let version = |part: &str| part.trim_start_matches(|c| !is_part(c)).to_owned();
    let mut parts = tag
        .split(['-', '_'])
        .map(version)
        .filter(|part| part.starts_with(|c: char| c.is_ascii_digit()) && part.chars().all(is_part));
    // A name may carry the version: `java21-debian12`.
    let in_name = || {
        let name = images::name(image).rsplit('/').next().unwrap_or_default();
        let first = name.split('-').next().unwrap_or_default();
        version(first)
    };
    match depth {
        0 => parts.next().filter(|_| !tag.starts_with("latest")).unwrap_or_else(in_name),
        _ => parts.next_back().unwrap_or_else(in_name),
    }
}

/// Whether a version is what was asked for, as far as that goes.
fn agrees(wanted: &str, is: &str) -> bool {
    wanted.is_empty() || wanted.split('.').zip(is.split('.')).all(|(a, b)| a == b)
}

fn fill(text: &str, program: Option<&Program>) -> String {
    match program {
        None => text.to_owned(),
        Some(program) => text
            .replace("{program}", &program.path.to_string_lossy())
            .replace("{home}", &program.home.to_string_lossy()),
    }
}

/// The image's recipe, each entry's environment with that entry's own program.
fn recipe(
    known: &'static KnownImage,
    image: &str,
    chain: &[&'static KnownImage],
    host: &Host,
) -> ImageRecipe {
    let mut recipe = known.recipe(image, &str::to_owned);
    recipe.env.clear();
    let mut found = None;
    for (depth, entry) in chain.iter().enumerate() {
        let depth = chain.len() - 1 - depth;
        let program = match entry.find.is_empty() {
            true => None,
            false => program(image, entry, depth, host).ok(),
        };
        found = program.or(found);
        let each = entry.env.iter();
        recipe.env.extend(each.map(|(name, value)| (name.clone(), fill(value, found.as_ref()))));
    }
    nonroot(image, recipe)
}

/// Some images say in their tag that nobody in them is root.
fn nonroot(image: &str, mut recipe: ImageRecipe) -> ImageRecipe {
    if images::tag(image).contains("nonroot") {
        recipe.user = Some("65532".to_owned());
        recipe.workdir = PathBuf::from("/home/nonroot");
    }
    recipe
}

/// The host's system without people's folders.
fn system(host: &Host) -> Result<Tree, TreeError> {
    let mut tree = Tree::default();
    let below = View::host();
    for entry in std::fs::read_dir("/").map_err(at(Path::new("/")))? {
        let entry = entry.map_err(at(Path::new("/")))?;
        let name = entry.file_name();
        let path = Path::new("/").join(&name);
        let is_system = SYSTEM.iter().any(|system| name == *system);
        let is_kept = KEPT_EMPTY.iter().any(|(kept, _)| name == *kept);
        // Such as `/lib -> usr/lib`.
        let is_link = entry.file_type().map_err(at(&path))?.is_symlink();
        if !is_system && !is_kept && !is_link {
            tree.add(&path, Entry { node: Node::Hidden, mode: 0, owner: None }, &below)?;
        }
    }
    for (name, mode) in KEPT_EMPTY {
        let node = Node::Folder { opaque: true };
        tree.add(&Path::new("/").join(name), Entry { node, mode, owner: Some((0, 0)) }, &below)?;
    }
    users(&mut tree, &below)?;
    if host.is("debian") {
        // Packages that a step installs must not start their services.
        let node = Node::Text("#!/bin/sh\nexit 101\n".to_owned());
        let entry = Entry { node, mode: 0o755, owner: Some((0, 0)) };
        tree.add(Path::new("/usr/sbin/policy-rc.d"), entry, &below)?;
        if host.owners == Owners::One {
            let entry = file("APT::Sandbox::User \"root\";\n".to_owned(), 0o644);
            tree.add(Path::new("/etc/apt/apt.conf.d/99one-user"), entry, &below)?;
        }
    }
    Ok(tree)
}

/// Shows a program that lies in one of people's folders, such as `/root/.pyenv`, to every user of
/// the image, and nothing else of that folder.
fn reveal(path: &Path, tree: &mut Tree, host: &View) -> Result<(), TreeError> {
    let mut names = path.components().skip(1);
    let Some(first) = names.next() else { return Ok(()) };
    let first = first.as_os_str();
    if SYSTEM.iter().any(|system| first == *system) {
        return Ok(());
    }
    let top = Path::new("/").join(first);
    let open = Entry::folder(0o755, (0, 0));
    tree.add(&top, open.clone(), host)?;
    // The folder in it is shown whole: what belongs together lies together there.
    let Some(second) = names.next() else { return Ok(()) };
    let Some(folder) = host.find(&top, true).map_err(at(&top))? else { return Ok(()) };
    for (name, found) in host.list(&folder).map_err(at(&top))? {
        let path = top.join(&name);
        if name != second.as_os_str() {
            if !tree.has(&path) {
                tree.add(&path, Entry { node: Node::Hidden, mode: 0, owner: None }, host)?;
            }
        } else if found.is_folder() {
            tree.add(&path, open.clone(), host)?;
        }
    }
    Ok(())
}

/// An image that begins with nothing.
fn empty(known: &KnownImage) -> Result<Tree, TreeError> {
    let mut tree = Tree::default();
    let nothing = View::default();
    for (path, mode) in ROOT_FOLDERS {
        tree.add(Path::new(path), Entry::folder(mode, (0, 0)), &nothing)?;
    }
    for path in ROOT_FILES {
        let entry = Entry { node: Node::Text(String::new()), mode: 0o644, owner: Some((0, 0)) };
        tree.add(Path::new(path), entry, &nothing)?;
    }
    let host = View::host();
    for path in &known.from_host {
        take(path, &host, &mut tree, 0)?;
    }
    add(known, None, &mut tree, &nothing)?;
    Ok(tree)
}

/// Copies what the host has at `path`, whole.
fn take(path: &Path, host: &View, tree: &mut Tree, depth: usize) -> Result<(), TreeError> {
    const DEPTH_MAX: usize = 16;
    let Some(found) = host.find(path, true).map_err(at(path))? else { return Ok(()) };
    let nothing = View::default();
    if !found.is_folder() {
        let node = Node::File { from: found.place().to_owned() };
        return tree.add(path, Entry { node, mode: 0o644, owner: Some((0, 0)) }, &nothing);
    }
    if depth < DEPTH_MAX {
        for name in host.list(&found).map_err(at(path))?.keys() {
            take(&path.join(name), host, tree, depth + 1)?;
        }
    }
    Ok(())
}

/// Adds what one entry of the table has.
fn add(
    entry: &KnownImage,
    program: Option<&Program>,
    tree: &mut Tree,
    below: &View,
) -> Result<(), TreeError> {
    add_users(entry, tree, below)?;
    for (path, folder) in &entry.folders {
        let mode = if folder.open { 0o1777 } else { 0o755 };
        let named = folder.user.as_ref().and_then(|user| numbers(user, tree, below));
        let owner = Some(named.unwrap_or((folder.owner, folder.owner)));
        let node = Node::Folder { opaque: folder.own };
        tree.add(Path::new(path), Entry { node, mode, owner }, below)?;
    }
    for (path, to) in &entry.links {
        let to = PathBuf::from(fill(to, program));
        let path = below.resolve(Path::new(path)).map_err(at(Path::new(path)))?;
        let device = to.starts_with("/dev");
        let is_free = || !path.exists() || tree.hides(&path);
        if path != to && (device || (to.exists() && is_free())) {
            tree.add(&path, link(to), below)?;
        }
    }
    for (path, to) in entry.instead.iter().filter(|(_, to)| Path::new(to).exists()) {
        tree.add(&place(path, below)?, link(PathBuf::from(to)), below)?;
    }
    for (path, file) in &entry.files {
        let path = place(path, below)?;
        if file.fallback && path.exists() && !tree.hides(&path) {
            continue;
        }
        let mode = if file.executable { 0o755 } else { 0o644 };
        let node = Node::Text(file.text(&|text| fill(text, program)));
        tree.add(&path, Entry { node, mode, owner: Some((0, 0)) }, below)?;
    }
    Ok(())
}

fn link(to: PathBuf) -> Entry {
    Entry { node: Node::Link(to), mode: 0o777, owner: Some((0, 0)) }
}

/// Where a path is without the symlinks on its way; one at its end is replaced.
fn place(path: &str, below: &View) -> Result<PathBuf, TreeError> {
    let path = Path::new(path);
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path.to_owned());
    };
    Ok(below.resolve(above).map_err(at(above))?.join(name))
}

/// The numbers of a user and of its group, by its name.
fn numbers(user: &str, tree: &Tree, below: &View) -> Option<(u32, u32)> {
    let passwd = text_of(tree, below, PASSWD);
    let mut lines = passwd.lines().map(|line| line.split(':'));
    let mut fields = lines.find(|fields| fields.clone().next() == Some(user))?.skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn add_users(entry: &KnownImage, tree: &mut Tree, below: &View) -> Result<(), TreeError> {
    if entry.users.is_empty() {
        return Ok(());
    }
    let (passwd, group) = (text_of(tree, below, PASSWD), text_of(tree, below, GROUP));
    let (mut users, mut groups) = (String::new(), String::new());
    for user in &entry.users {
        let (name, id, home) = (&user.name, user.id, user.home.display());
        let shell = user.shell.as_deref().unwrap_or(Path::new("/sbin/nologin")).display();
        let missing = |text: &str| !text.lines().any(|l| l.split(':').next() == Some(name));
        if missing(&passwd) {
            users.push_str(&format!("{name}:x:{id}:{id}::{home}:{shell}\n"));
        }
        if missing(&group) {
            groups.push_str(&format!("{name}:x:{id}:\n"));
        }
    }
    // Behind root: the first of a number gives it its name.
    for (path, old, new) in [(PASSWD, passwd, users), (GROUP, group, groups)] {
        let (root, rest) = old.split_once('\n').unwrap_or((&old, ""));
        let root = if root.is_empty() { String::new() } else { format!("{root}\n") };
        let entry = file(format!("{root}{new}{rest}"), 0o644);
        tree.add(Path::new(path), entry, below)?;
    }
    Ok(())
}

fn file(text: String, mode: u32) -> Entry {
    Entry { node: Node::Text(text), mode, owner: Some((0, 0)) }
}

/// The text of a file as a tree has it, else as it is below.
fn text_of(tree: &Tree, below: &View, path: &str) -> String {
    tree.text(Path::new(path)).map_or_else(|| below.text(path), str::to_owned)
}

/// The host's users without its people, and without anybody's password.
fn users(tree: &mut Tree, host: &View) -> Result<(), TreeError> {
    let is_persons = |line: &str| {
        let id = line.split(':').nth(2).and_then(|id| id.parse::<u32>().ok());
        id.is_some_and(|id| id >= PEOPLE_FROM && id != NOBODY)
    };
    for (path, passwords) in [(PASSWD, "/etc/shadow"), (GROUP, "/etc/gshadow")] {
        let text = host.text(path);
        let kept: Vec<&str> = text.lines().filter(|line| !is_persons(line)).collect();
        let rest = if path == PASSWD { "*:::::::" } else { "*::" };
        let names = kept.iter().map(|line| line.split(':').next().unwrap_or_default());
        let shadow: String = names.map(|name| format!("{name}:{rest}\n")).collect();
        let kept: String = kept.iter().map(|line| format!("{line}\n")).collect();
        tree.add(Path::new(path), file(kept, 0o644), host)?;
        tree.add(Path::new(passwords), file(shadow, 0o600), host)?;
    }
    for path in ["/etc/subuid", "/etc/subgid"] {
        tree.add(Path::new(path), file(String::new(), 0o644), host)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_tags_ask_for() {
        for (image, own, below) in [
            ("python:3.11-slim", "3.11", "3.11"),
            ("node:lts-alpine", "", ""),
            ("node:22-bookworm", "22", "22"),
            ("maven:3.9-eclipse-temurin-21", "3.9", "21"),
            ("gradle:8.5-jdk17", "8.5", "17"),
            ("eclipse-temurin:21-jre", "21", "21"),
            ("golang", "", ""),
            ("gcr.io/distroless/java21-debian12", "21", "21"),
        ] {
            assert_eq!(wanted(image, 0), own, "{image}");
            assert_eq!(wanted(image, 1), below, "{image}");
        }
        for (wanted, is, same) in [
            ("3.11", "3.11.2", true),
            ("3", "3.11", true),
            ("", "1", true),
            ("3.12", "3.11", false),
        ] {
            assert_eq!(agrees(wanted, is), same, "{wanted} {is}");
        }
    }
}
