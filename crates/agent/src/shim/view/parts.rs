//! Layers over the host's files where the kernel takes no folder of the host that something else is
//! mounted in: that is so in a user namespace, which may not look under what covers a folder.
//!
//! The view is put together from parts: such a folder becomes an overlay of the layers over copies
//! of the few files in it, and each folder in it that the layers show a part of its own, down to
//! those that are overlays of the layers and the host. What an instance writes lies in as many upper
//! layers, which [`gather`] makes one when a step of a build has ended.
//!
//! Invariants: a part covers only what it shows itself; the order of parts is from the outside in.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::overlay::{Upper, is_opaque, overlay};

/// Where which part's changes lie.
const LIST: &str = "parts.json";

/// How deep folders are taken apart, and into how many parts.
const DEPTH_MAX: usize = 6;
const PARTS_MAX: usize = 512;

/// Most entries of a folder that is taken apart, and the largest file in it that is copied.
const ENTRIES_MAX: usize = 4096;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Folders of the host that are no files.
const KERNELS_OWN: [&str; 3] = ["proc", "sys", "dev"];

/// A view in the making.
pub(super) struct Parts<'a> {
    folder: &'a Path,
    root: &'a Path,
    made: Vec<(PathBuf, String)>,
}

impl<'a> Parts<'a> {
    /// In the folder of an instance, to be seen at `root`.
    pub(super) fn new(folder: &'a Path, root: &'a Path) -> Parts<'a> {
        Parts { folder, root, made: Vec::new() }
    }

    /// Mounts `layers` over `host`.
    pub(super) fn mount(mut self, layers: &[PathBuf], host: &Path) -> io::Result<()> {
        self.part(Path::new("/"), layers, host, 0)?;
        fs::write(self.folder.join(LIST), serde_json::to_vec(&self.made)?)
    }

    /// Mounts the part at `path`: what `layers` show there over `host`.
    fn part(
        &mut self,
        path: &Path,
        layers: &[PathBuf],
        host: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let inner = path.strip_prefix("/").unwrap_or(path);
        let target = if depth == 0 { self.root.to_owned() } else { self.root.join(inner) };
        let upper = self.upper(path, layers.first().map_or(host, PathBuf::as_path))?;
        let with = |below: &Path| {
            let below = below.to_owned();
            let all: Vec<_> = layers.iter().cloned().chain([below]).collect();
            overlay(&all, &upper, &target, true)
        };
        match with(host) {
            Err(Errno::INVAL) if depth < DEPTH_MAX && self.made.len() < PARTS_MAX => {}
            mounted => return Ok(mounted?),
        }
        let below = self.folder.join(format!("below-{}", self.made.len()));
        let inside = self.take_apart(layers, host, &below)?;
        // What is refused now is refused for another reason.
        with(&below)?;
        for (name, layers) in inside {
            self.part(&path.join(&name), &layers, &host.join(&name), depth + 1)?;
        }
        Ok(())
    }

    /// The upper layer of a part, which looks like what is topmost below it.
    fn upper(&mut self, path: &Path, like: &Path) -> io::Result<Upper> {
        let name = match self.made.len() {
            0 => "upper".to_owned(),
            number => format!("upper-{number}"),
        };
        let upper = Upper::make(self.folder, &name)?;
        let mode = fs::metadata(like)?.permissions().mode() & 0o7777;
        // Open to its owner, who could not look at what it holds otherwise.
        fs::set_permissions(&upper.upper, fs::Permissions::from_mode(mode | 0o700))?;
        self.made.push((path.to_owned(), name));
        Ok(upper)
    }

    /// Makes `below` what a folder of the host has beside folders, with places for those; gives the
    /// folders that layers do not hide, with what each layer has there.
    fn take_apart(
        &self,
        layers: &[PathBuf],
        host: &Path,
        below: &Path,
    ) -> io::Result<Vec<(OsString, Vec<PathBuf>)>> {
        fs::create_dir(below)?;
        let mut inside = Vec::new();
        for entry in fs::read_dir(host)?.take(ENTRIES_MAX) {
            let entry = entry?;
            let (name, here, place) =
                (entry.file_name(), entry.path(), below.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                fs::create_dir(&place)?;
                let kernels = host == Path::new("/") && KERNELS_OWN.iter().any(|own| name == *own);
                if let Some(layers) = shown(layers, &name).filter(|_| !kernels) {
                    inside.push((name, layers));
                }
            } else if kind.is_symlink() {
                symlink(fs::read_link(&here)?, &place)?;
            } else if kind.is_file() && entry.metadata()?.size() <= FILE_BYTES_MAX {
                // What its owner keeps to itself stays so.
                let _unreadable = fs::copy(&here, &place);
            }
        }
        Ok(inside)
    }
}

/// What each layer has of a folder of the host, first on top; `None` when they hide the host's.
fn shown(layers: &[PathBuf], name: &std::ffi::OsStr) -> Option<Vec<PathBuf>> {
    let mut shown = Vec::new();
    for layer in layers {
        let here = layer.join(name);
        let Ok(metadata) = fs::symlink_metadata(&here) else { continue };
        if !metadata.is_dir() || is_opaque(&here) {
            return None;
        }
        shown.push(here);
    }
    Some(shown)
}

/// Makes what was written to the parts of a view in this folder one upper layer.
pub(crate) fn gather(folder: &Path) -> io::Result<()> {
    let Ok(list) = fs::read(folder.join(LIST)) else { return Ok(()) };
    let parts: Vec<(PathBuf, String)> = serde_json::from_slice(&list)?;
    let upper = folder.join("upper");
    for (path, name) in parts.iter().skip(1) {
        let changes = folder.join(name);
        if fs::read_dir(&changes)?.next().is_none() {
            continue;
        }
        let place = upper.join(path.strip_prefix("/").unwrap_or(path));
        // Folders above it are parts without changes; they look as theirs do.
        for above in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let place = upper.join(above.strip_prefix("/").unwrap_or(above));
            if !place.exists() {
                fs::create_dir(&place)?;
                if let Some((_, like)) = parts.iter().find(|(part, _)| part == above) {
                    let like = fs::metadata(folder.join(like))?.permissions();
                    fs::set_permissions(&place, like)?;
                }
            }
        }
        fs::rename(&changes, &place)?;
    }
    Ok(())
}
