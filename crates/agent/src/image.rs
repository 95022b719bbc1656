//! The files that a Dockerfile copies, as content-addressed layers.
//!
//! Not here: reading Dockerfiles or `.dockerignore`; the caller says what to copy and what not.
//!
//! Invariants: a layer's folder is named after a hash over everything in it, is complete when it
//! has that name, and never changes after; nothing outside the context is read, and symlinks are
//! copied as they are, never followed.

mod glob;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// Most entries of one layer.
const ENTRIES_MAX: usize = 500_000;

/// Deepest folder that is read.
const DEPTH_MAX: usize = 64;

/// What goes into a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerSpec {
    /// The build context.
    pub context: PathBuf,
    /// The image's working directory, made even when nothing is copied there; absolute.
    pub workdir: PathBuf,
    /// COPY steps, in order; a later one wins.
    pub copies: Vec<CopyStep>,
}

/// One COPY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyStep {
    /// Paths and patterns, relative to the context; a leading `/` means the context too.
    pub sources: Vec<String>,
    /// Files whose text stands in the Dockerfile, by name.
    pub inline: Vec<(String, String)>,
    /// Where to, in the image; absolute.
    pub dest: PathBuf,
    /// Whether `dest` is a folder to copy into.
    pub dest_is_dir: bool,
    /// Permission bits of files, in place of their own.
    pub mode: Option<u32>,
}

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A source names nothing that is not excluded.
    #[error("COPY {source_path}: nothing of that name in {context}{hint}")]
    Missing {
        /// As written.
        source_path: String,
        /// Where it was looked for.
        context: PathBuf,
        /// What may explain it, or nothing.
        hint: &'static str,
    },
    /// A source or destination leads outside.
    #[error("COPY {0}: leads out of the build context or image")]
    Outside(String),
    /// Too much of something.
    #[error("{context} has more than {most} {what}: exclude some in .dockerignore")]
    TooMuch {
        /// The build context.
        context: PathBuf,
        /// The bound.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder { mode: u32 },
    File { from: PathBuf, mode: u32 },
    Text { text: String, mode: u32 },
    Link { to: PathBuf },
}

/// Entries by their path in the image, relative to its root.
type Tree = BTreeMap<PathBuf, Entry>;

/// Lays out the files of `spec` as a folder in `store` and gives its path. When the same files were
/// laid out before, that folder is reused. `excluded` is asked with paths relative to the context,
/// and whether they are folders.
pub fn materialize(
    spec: &LayerSpec,
    excluded: &dyn Fn(&Path, bool) -> bool,
    store: &Path,
) -> Result<PathBuf, LayerError> {
    let mut tree = Tree::new();
    add_folder(&mut tree, &in_image(&spec.workdir)?, 0o755);
    for step in &spec.copies {
        plan(spec, step, excluded, &mut tree)?;
    }
    let hash = fingerprint(&tree)?;
    let path = store.join(&hash);
    if path.is_dir() {
        return Ok(path);
    }
    fs::create_dir_all(store).map_err(at(store))?;
    let aside = store.join(format!(".{hash}.{}.new", std::process::id()));
    let _left_over = fs::remove_dir_all(&aside);
    let written = write(&tree, &aside).and_then(|()| match fs::rename(&aside, &path) {
        // Somebody else was faster with the same files.
        Err(_) if path.is_dir() => Ok(()),
        renamed => renamed.map_err(at(&path)),
    });
    if aside.exists() {
        let _rest = fs::remove_dir_all(&aside);
    }
    written.map(|()| path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    move |cause| LayerError::Io { path: path.to_owned(), cause }
}

/// The path below the image's root.
fn in_image(path: &Path) -> Result<PathBuf, LayerError> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            // As in a shell at the root.
            Component::ParentDir => drop(clean.pop()),
            Component::Prefix(_) => {
                return Err(LayerError::Outside(path.display().to_string()));
            }
        }
    }
    Ok(past_host_links(clean))
}

/// Where a path leads on the host below the layers: `/bin/x` is often `/usr/bin/x`. A folder laid
/// over a symlink would hide everything behind it.
fn past_host_links(path: PathBuf) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = fs::canonicalize(Path::new("/").join(above)) {
            let real = real.strip_prefix("/").unwrap_or(&real).to_owned();
            return match path.strip_prefix(above) {
                // Joining an empty rest would end a file's path in a slash.
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path
}

/// The path below the context.
fn in_context(source: &str) -> Result<PathBuf, LayerError> {
    let mut clean = PathBuf::new();
    for part in Path::new(source).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return Err(LayerError::Outside(source.to_owned()));
                }
            }
            Component::Prefix(_) => return Err(LayerError::Outside(source.to_owned())),
        }
    }
    Ok(clean)
}

fn add_folder(tree: &mut Tree, path: &Path, mode: u32) {
    for above in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
        tree.entry(above.to_owned()).or_insert(Entry::Folder { mode: 0o755 });
    }
    if !path.as_os_str().is_empty() {
        tree.insert(path.to_owned(), Entry::Folder { mode });
    }
}

fn add(tree: &mut Tree, path: &Path, entry: Entry) {
    if let Some(above) = path.parent()
        && !matches!(tree.get(above), Some(Entry::Folder { .. }))
    {
        add_folder(tree, above, 0o755);
    }
    tree.insert(path.to_owned(), entry);
}

fn plan(
    spec: &LayerSpec,
    step: &CopyStep,
    excluded: &dyn Fn(&Path, bool) -> bool,
    tree: &mut Tree,
) -> Result<(), LayerError> {
    let dest = in_image(&step.dest)?;
    for (name, text) in &step.inline {
        let to = if step.dest_is_dir { dest.join(name) } else { dest.clone() };
        let mode = step.mode.unwrap_or(0o644);
        add(tree, &to, Entry::Text { text: text.clone(), mode });
    }
    let mut context = Context { spec, excluded, tree, step };
    for source in &step.sources {
        let pattern = in_context(source)?;
        let found = glob::find(&spec.context, &pattern).map_err(at(&spec.context))?;
        let mut copied = false;
        let many = found.len() > 1;
        for path in found {
            copied |= context.copy(&path, &dest, many)?;
        }
        if !copied && !glob::is_pattern(&pattern) {
            return Err(LayerError::Missing {
                source_path: source.clone(),
                context: spec.context.clone(),
                hint: why_missing(&spec.context, Path::new(&pattern)),
            });
        }
    }
    Ok(())
}

/// What explains that a source was not found.
fn why_missing(context: &Path, source: &Path) -> &'static str {
    let is_link = |path: &Path| {
        context.join(path).symlink_metadata().is_ok_and(|m| m.file_type().is_symlink())
    };
    match context.join(source).symlink_metadata() {
        _ if source.ancestors().skip(1).any(is_link) => {
            ": a folder on the way to it is a symbolic link, which is not followed"
        }
        Ok(_) => ": .dockerignore excludes it",
        Err(_) => "",
    }
}

struct Context<'a> {
    spec: &'a LayerSpec,
    excluded: &'a dyn Fn(&Path, bool) -> bool,
    tree: &'a mut Tree,
    step: &'a CopyStep,
}

impl Context<'_> {
    /// Copies one source, a path relative to the context; false when it is excluded.
    fn copy(&mut self, path: &Path, dest: &Path, many: bool) -> Result<bool, LayerError> {
        let full = self.spec.context.join(path);
        let metadata = fs::symlink_metadata(&full).map_err(at(&full))?;
        if metadata.is_dir() {
            // A folder's contents are copied, not the folder.
            add_folder(self.tree, dest, 0o755);
            self.folder(path, dest, 0)?;
            return Ok(true);
        }
        if (self.excluded)(path, false) {
            return Ok(false);
        }
        let into = self.step.dest_is_dir || many;
        let to = match path.file_name() {
            Some(name) if into => dest.join(name),
            _ => dest.to_owned(),
        };
        self.leaf(&full, &metadata, &to)?;
        Ok(true)
    }

    fn folder(&mut self, path: &Path, dest: &Path, depth: usize) -> Result<(), LayerError> {
        let too_much = |most, what| {
            let context = self.spec.context.clone();
            Err(LayerError::TooMuch { context, most, what })
        };
        if depth > DEPTH_MAX {
            return too_much(DEPTH_MAX, "folders inside each other");
        }
        if self.tree.len() > ENTRIES_MAX {
            return too_much(ENTRIES_MAX, "files");
        }
        let full = self.spec.context.join(path);
        for entry in fs::read_dir(&full).map_err(at(&full))? {
            let entry = entry.map_err(at(&full))?;
            let (below, to) = (path.join(entry.file_name()), dest.join(entry.file_name()));
            let metadata = entry.metadata().map_err(at(&entry.path()))?;
            let is_folder = metadata.is_dir();
            if (self.excluded)(&below, is_folder) {
                continue;
            }
            if is_folder {
                add_folder(self.tree, &to, metadata.mode() & 0o7777);
                self.folder(&below, &to, depth + 1)?;
            } else {
                self.leaf(&entry.path(), &metadata, &to)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, full: &Path, metadata: &fs::Metadata, to: &Path) -> Result<(), LayerError> {
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let link = fs::read_link(full).map_err(at(full))?;
            add(self.tree, to, Entry::Link { to: link });
        } else if kind.is_file() {
            let mode = self.step.mode.unwrap_or(metadata.mode() & 0o7777);
            add(self.tree, to, Entry::File { from: full.to_owned(), mode });
        }
        // Sockets, pipes and devices are nothing that an image holds.
        Ok(())
    }
}

/// A hash over paths, kinds, permissions and contents.
fn fingerprint(tree: &Tree) -> Result<String, LayerError> {
    let mut whole = Sha256::new();
    let field = |whole: &mut Sha256, bytes: &[u8]| {
        // With its length, so that no two lists of fields look alike.
        whole.update((bytes.len() as u64).to_le_bytes());
        whole.update(bytes);
    };
    for (path, entry) in tree {
        field(&mut whole, path.as_os_str().as_bytes());
        let (kind, mode, content) = match entry {
            Entry::Folder { mode } => ("folder", *mode, Vec::new()),
            Entry::File { from, mode } => ("file", *mode, hash_file(from).map_err(at(from))?),
            Entry::Text { text, mode } => ("file", *mode, Sha256::digest(text).to_vec()),
            Entry::Link { to } => ("link", 0, to.as_os_str().as_bytes().to_vec()),
        };
        field(&mut whole, kind.as_bytes());
        field(&mut whole, &mode.to_le_bytes());
        field(&mut whole, &content);
    }
    // 128 bits are plenty against chance, and short enough for mount options.
    Ok(whole.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn hash_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().to_vec()),
            length => hash.update(&buffer[..length]),
        }
    }
}

fn write(tree: &Tree, root: &Path) -> Result<(), LayerError> {
    fs::create_dir(root).map_err(at(root))?;
    let mode = fs::Permissions::from_mode;
    fs::set_permissions(root, mode(0o755)).map_err(at(root))?;
    for (path, entry) in tree {
        let to = root.join(path);
        let done = match entry {
            // Open to us until everything is in it.
            Entry::Folder { .. } => fs::create_dir(&to),
            Entry::File { from, mode: bits } => {
                // Shares blocks where the file system can.
                fs::copy(from, &to).and_then(|_| fs::set_permissions(&to, mode(*bits)))
            }
            Entry::Text { text, mode: bits } => {
                fs::write(&to, text).and_then(|()| fs::set_permissions(&to, mode(*bits)))
            }
            Entry::Link { to: target } => symlink(target, &to),
        };
        done.map_err(at(&to))?;
    }
    for (path, entry) in tree.iter().rev() {
        if let Entry::Folder { mode: bits } = entry {
            let path = root.join(path);
            fs::set_permissions(&path, mode(*bits)).map_err(at(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
