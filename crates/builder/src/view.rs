//! What a stack of layers shows: the kernel's overlay, read without mounting it.
//!
//! Not here: changing anything. Invariants: nothing outside the layers is read, whatever symlinks
//! say; what an upper layer hides is not seen.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// The mark of a folder that hides what lies below it: root's, and anybody's.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
pub(crate) const OPAQUE_OF_USERS: &str = "user.overlay.opaque";

/// Most symlinks on the way to one place.
const LINKS_MAX: usize = 40;

/// Folders of the host that are no files of an image.
const KERNELS_OWN: [&str; 3] = ["proc", "sys", "dev"];

/// Layers, first on top, and the host's files below them or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) host: bool,
    /// A place that is not seen.
    pub(crate) without: Option<PathBuf>,
}

/// Something that a view shows.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where it is in the view, with no symlink on the way.
    pub(crate) path: PathBuf,
    /// What it is; a folder's is that of the topmost layer that has it.
    pub(crate) metadata: Metadata,
    /// Where it is for us: one place, or for a folder those that together show it, first on top.
    pub(crate) places: Vec<PathBuf>,
}

impl Found {
    pub(crate) fn is_folder(&self) -> bool {
        self.metadata.is_dir()
    }

    /// Where it is for us.
    pub(crate) fn place(&self) -> &Path {
        self.places.first().map_or(Path::new("/"), PathBuf::as_path)
    }
}

impl View {
    /// A view of one folder.
    pub(crate) fn of(folder: &Path) -> View {
        View { layers: vec![folder.to_owned()], ..View::default() }
    }

    /// The host's own files.
    pub(crate) fn host() -> View {
        View { host: true, ..View::default() }
    }

    /// A build context, without the engine's state, which often lies in it.
    pub(crate) fn context(folder: &Path, state: &Path) -> View {
        let real = |path: &Path| fs::canonicalize(path).ok();
        let inside = real(folder).zip(real(state));
        let inside =
            inside.and_then(|(folder, state)| Some(state.strip_prefix(folder).ok()?.to_owned()));
        View { without: inside.map(|inside| folder.join(inside)), ..View::of(folder) }
    }

    fn root(&self) -> io::Result<Found> {
        let mut places = self.layers.clone();
        if self.host || places.is_empty() {
            places.push(PathBuf::from("/"));
        }
        let metadata = fs::symlink_metadata(&places[0])?;
        if !self.host && self.layers.is_empty() {
            places.clear();
        }
        Ok(Found { path: PathBuf::from("/"), metadata, places })
    }

    /// What one name in a folder is; a symlink is itself.
    fn child(&self, above: &Found, name: &std::ffi::OsStr) -> io::Result<Option<Found>> {
        let mut found: Option<Found> = None;
        for place in &above.places {
            let is_hosts = self.host && place == Path::new("/");
            if is_hosts && KERNELS_OWN.iter().any(|own| name == *own) {
                continue;
            }
            let here = place.join(name);
            if self.without.as_ref() == Some(&here) {
                continue;
            }
            let metadata = match fs::symlink_metadata(&here) {
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => continue,
                read => read?,
            };
            if is_whiteout(&metadata) {
                break;
            }
            let is_folder = metadata.is_dir();
            let opaque = is_folder && is_opaque(&here);
            match &mut found {
                None => {
                    let path = above.path.join(name);
                    found = Some(Found { path, metadata, places: vec![here] });
                }
                Some(upper) if is_folder => upper.places.push(here),
                // A file below a folder is hidden by it.
                Some(_) => break,
            }
            if opaque || !is_folder {
                break;
            }
        }
        Ok(found)
    }

    /// What is at `path`; a symlink at its end is followed when `follow`.
    pub(crate) fn find(&self, path: &Path, follow: bool) -> io::Result<Option<Found>> {
        let mut links = 0;
        // Names still to go, last first.
        let mut names: Vec<OsString> = names_of(path);
        let mut way = vec![self.root()?];
        while let Some(name) = names.pop() {
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(above) = way.last() else { return Ok(None) };
            let Some(found) = self.child(above, &name)? else { return Ok(None) };
            if found.metadata.is_symlink() && (follow || !names.is_empty()) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::from(rustix::io::Errno::LOOP));
                }
                let to = fs::read_link(found.place())?;
                if to.is_absolute() {
                    way.truncate(1);
                }
                names.extend(names_of(&to));
            } else if found.is_folder() || names.is_empty() {
                way.push(found);
            } else {
                return Ok(None);
            }
        }
        Ok(way.pop())
    }

    /// Where `path` leads: symlinks on the way are followed as far as it exists, so that nothing
    /// that is laid over it covers a symlink. A symlink at its end is followed too.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        for above in path.ancestors() {
            if let Some(found) = self.find(above, true)? {
                return Ok(match path.strip_prefix(above) {
                    // Joining an empty rest would end a file's path in a slash.
                    Ok(rest) if !rest.as_os_str().is_empty() => found.path.join(rest),
                    _ => found.path,
                });
            }
        }
        Ok(path.to_owned())
    }

    /// What is in a folder, by name.
    pub(crate) fn list(&self, folder: &Found) -> io::Result<BTreeMap<OsString, Found>> {
        let mut all = BTreeMap::new();
        for place in &folder.places {
            for entry in fs::read_dir(place)? {
                let name = entry?.file_name();
                if !all.contains_key(&name)
                    && let Some(found) = self.child(folder, &name)?
                {
                    all.insert(name, found);
                }
            }
        }
        Ok(all)
    }

    /// The text of a file, empty when there is none.
    pub(crate) fn text(&self, path: &str) -> String {
        let found = self.find(Path::new(path), true).ok().flatten();
        let text = found.and_then(|found| fs::read_to_string(found.place()).ok());
        text.unwrap_or_default()
    }
}

/// Names of a path, last first.
fn names_of(path: &Path) -> Vec<OsString> {
    let each = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    each.collect()
}

fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(folder: &Path) -> bool {
    [OPAQUE, OPAQUE_OF_USERS].iter().any(|mark| {
        let mut value = [0u8; 8];
        rustix::fs::getxattr(folder, *mark, &mut value).is_ok_and(|length| value[..length] == *b"y")
    })
}
