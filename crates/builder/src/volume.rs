//! What an image has where a volume is mounted, put into the volume when that is new.
//!
//! Not here: which volumes there are. Only what the image's layers hold counts, not what the host
//! has at the place.
//!
//! Invariants: a volume that holds anything is left alone; one that did not exist is there whole or
//! not at all; the folder of one that was there stays the same folder, since it may be mounted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use spec::dockerfile::{Copy, Ignore};

use crate::build::Builder;
use crate::copy::{self, CopyError, Source};
use crate::skeleton;
use crate::tree::{Owners, TreeError, at};
use crate::view::View;

/// Why a volume could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// What there is could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// It could not be written.
    #[error(transparent)]
    Files(#[from] TreeError),
}

impl From<CopyError> for FillError {
    fn from(error: CopyError) -> FillError {
        FillError::Unreadable(error.to_string())
    }
}

impl Builder {
    /// Gives a volume that is empty or not there what an image of these layers has at `target`, with
    /// that folder's owner and permissions.
    ///
    /// # Errors
    /// What could not be read or written. A volume that was not there is not there then.
    pub fn fill(&self, layers: &[PathBuf], target: &Path, volume: &Path) -> Result<(), FillError> {
        // Two instances may begin with the same volume.
        let _one = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let there = match fs::read_dir(volume).map(|mut entries| entries.next().is_none()) {
            Ok(false) => return Ok(()),
            Ok(true) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(at(volume)(error).into()),
        };
        let of_image = |layer: &&PathBuf| !skeleton::is(layer);
        let layers: Vec<_> = layers.iter().filter(of_image).cloned().collect();
        let view = View { layers, ..View::default() };
        let found = view.find(target, true).map_err(at(target))?;
        let Some(found) = found.filter(|found| found.is_folder() && !view.layers.is_empty()) else {
            return Ok(());
        };
        let plain = |c: char| match c {
            '*' | '?' | '[' | '\\' => vec!['\\', c],
            c => vec![c],
        };
        let all = Copy {
            sources: vec![found.path.to_string_lossy().chars().flat_map(plain).collect()],
            dest: PathBuf::from("/"),
            dest_is_dir: true,
            ..Copy::default()
        };
        let (ignore, name) = (Ignore::default(), "the image".to_owned());
        let source = Source { view, ignore: &ignore, keeps_owner: true, name };
        let tree = copy::plan(&all, &source, &View::default())?;
        let above = volume.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(above).map_err(at(above))?;
        let name = volume.file_name().unwrap_or_default().to_string_lossy();
        let aside = above.join(format!(".{name}.new"));
        self.discard(&aside)?;
        tree.write(&aside, self.owners)?;
        let (owner, mode) = ((found.metadata.uid(), found.metadata.gid()), found.metadata.mode());
        let look = |folder: &Path| -> io::Result<()> {
            if self.owners == Owners::Said {
                std::os::unix::fs::chown(folder, Some(owner.0), Some(owner.1))?;
            }
            let bits = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777);
            fs::set_permissions(folder, bits)
        };
        if there {
            for entry in fs::read_dir(&aside).map_err(at(&aside))? {
                let entry = entry.map_err(at(&aside))?;
                let to = volume.join(entry.file_name());
                fs::rename(entry.path(), &to).map_err(at(&to))?;
            }
            look(volume).map_err(at(volume))?;
            self.discard(&aside)?;
        } else {
            look(&aside).map_err(at(&aside))?;
            fs::rename(&aside, volume).map_err(at(volume))?;
        }
        Ok(())
    }

    fn discard(&self, path: &Path) -> Result<(), TreeError> {
        self.agent.discard(path).map_err(at(path))
    }
}
