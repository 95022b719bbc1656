//! The manifest on disk, and the files that it names.
//!
//! Not here: what is in volumes. Invariants: a file is a volume only once a durable manifest says
//! so; a manifest that was written is durable in at least one copy before anything relies on it;
//! a copy whose write failed is not used again while the store is open.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::buffer::Aligned;
use crate::codec::{Identity, Manifest, ManifestEntry, State, VolumeHeader};
use crate::disk::{Disk, DiskFile, WriteFailed};
use crate::error::AppendError;
use crate::format::Seed;

pub(crate) const COPIES: [&str; 2] = ["manifest-a", "manifest-b"];

/// Free files that are kept to be written again: their blocks are there already.
const FREE_MAX: usize = 2;

/// The name of a volume's file.
pub(crate) fn file_name(slot: u32) -> String {
    format!("volume-{slot:06}")
}

/// The slot that a file's name says.
pub(crate) fn slot_of(name: &str) -> Option<u32> {
    name.strip_prefix("volume-")?.parse().ok()
}

/// An open volume. It lives as long as somebody reads it.
pub(crate) struct Volume {
    pub(crate) id: Identity,
    pub(crate) slot: u32,
    pub(crate) file: Box<dyn DiskFile>,
    /// Bytes of its runs when it was sealed.
    pub(crate) held: AtomicU64,
}

/// Why something about files did not work; what writers are told.
#[derive(Debug)]
pub(crate) enum Failure {
    Full(String),
    Failed(String),
}

impl Failure {
    pub(crate) fn of(what: &str, name: &str, error: WriteFailed) -> Failure {
        match error {
            WriteFailed::Full(error) => Failure::Full(format!("cannot {what} `{name}`: {error}")),
            WriteFailed::Broken(error) => {
                Failure::Failed(format!("cannot {what} `{name}`: {error}"))
            }
        }
    }

    pub(crate) fn io(what: &str, name: &str, error: io::Error) -> Failure {
        Failure::of(what, name, WriteFailed::of_write(error))
    }
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> AppendError {
        match failure {
            Failure::Full(why) => AppendError::Full(why.into()),
            Failure::Failed(why) => AppendError::Failed(why.into()),
        }
    }
}

/// A new volume.
pub(crate) struct Wanted {
    pub(crate) kind: u8,
    pub(crate) created: u64,
    /// Number of its first group.
    pub(crate) first_group: u64,
}

pub(crate) struct Catalog {
    pub(crate) manifest: Manifest,
    disk: Arc<dyn Disk>,
    copies: [Option<Box<dyn DiskFile>>; 2],
    next_slot: u32,
    tried: u64,
}

impl Catalog {
    /// A manifest that was read or is new; both copies are written before this returns.
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        manifest: Manifest,
        next_slot: u32,
    ) -> Result<Catalog, Failure> {
        let open = |name: &str| {
            disk.open(name, true).map_err(|error| Failure::io("make", name, error)).map(Some)
        };
        let copies = [open(COPIES[0])?, open(COPIES[1])?];
        let mut catalog = Catalog { manifest, disk, copies, next_slot, tried: 0 };
        let manifest = catalog.manifest.clone();
        catalog.write(manifest)?;
        catalog.sync_names()?;
        Ok(catalog)
    }

    /// Replaces the manifest; it is durable when this returns.
    pub(crate) fn change(&mut self, edit: impl FnOnce(&mut Manifest)) -> Result<(), Failure> {
        let mut next = self.manifest.clone();
        edit(&mut next);
        self.write(next)
    }

    fn write(&mut self, mut next: Manifest) -> Result<(), Failure> {
        // A number that was tried may be on the disk, and must not come again with other content.
        self.tried = self.tried.max(next.sequence) + 1;
        next.sequence = self.tried;
        let bytes = next.encode();
        let mut why = Failure::Failed("the manifests could not be written before".to_owned());
        let mut durable = false;
        for (copy, name) in self.copies.iter_mut().zip(COPIES) {
            let Some(file) = copy else { continue };
            let done = file.write_at(0, &bytes);
            match done.and_then(|()| file.sync().map_err(WriteFailed::Broken)) {
                Ok(()) => durable = true,
                Err(error) => {
                    // A full disk takes back nothing: the same copy may be tried again.
                    if matches!(error, WriteFailed::Broken(_)) {
                        *copy = None;
                    }
                    why = Failure::of("write", name, error);
                    // The other copy still says what was true, and must not be overtaken by half.
                    if !durable && matches!(why, Failure::Full(_)) {
                        return Err(why);
                    }
                }
            }
        }
        if !durable {
            return Err(why);
        }
        self.manifest = next;
        Ok(())
    }

    /// Makes a volume, in a free file if there is one. It is in the manifest when this returns.
    pub(crate) fn create(&mut self, wanted: &Wanted) -> Result<Volume, Failure> {
        let free = self.manifest.entries.iter().find(|entry| entry.state == State::Free);
        let (slot, generation, fresh) = match free {
            Some(entry) => (entry.slot, entry.generation.wrapping_add(1), false),
            None => (self.next_slot, 0, true),
        };
        let header = VolumeHeader {
            kind: wanted.kind,
            volume: self.manifest.next_volume,
            generation,
            store: self.manifest.store,
            manifest: self.tried + 1,
            created: wanted.created,
            first_group: wanted.first_group,
        };
        let name = file_name(slot);
        let file = self.disk.open(&name, true);
        let file = file.map_err(|error| Failure::io("make", &name, error))?;
        if fresh {
            self.next_slot += 1;
            self.sync_names()?;
        }
        let mut block = Aligned::zeroed(crate::format::BLOCK);
        block.bytes_mut().copy_from_slice(&header.encode());
        let written = file.write_durable(0, block.as_ref());
        written.map_err(|error| Failure::of("write", &name, error))?;
        self.change(|manifest| {
            manifest.entries.retain(|entry| entry.slot != slot);
            manifest.entries.push(ManifestEntry {
                slot,
                volume: header.volume,
                generation,
                kind: wanted.kind,
                state: State::Open,
                footer_at: 0,
            });
            manifest.next_volume += 1;
        })?;
        Ok(Volume { id: header.identity(), slot, file, held: AtomicU64::new(0) })
    }

    /// Frees the file of a volume that is retired, or removes it when enough are free.
    pub(crate) fn free(&mut self, volume: u32, keep: bool) -> Result<(), Failure> {
        let entries = &self.manifest.entries;
        let Some(entry) = entries.iter().find(|entry| entry.volume == volume).copied() else {
            return Ok(());
        };
        let free = entries.iter().filter(|entry| entry.state == State::Free).count();
        if keep && free < FREE_MAX {
            return self.change(|manifest| set_free(manifest, volume));
        }
        self.change(|manifest| manifest.entries.retain(|entry| entry.volume != volume))?;
        let name = file_name(entry.slot);
        self.remove(entry.slot).map_err(|error| Failure::io("remove", &name, error))
    }

    /// Gives the space of free files back to the file system.
    pub(crate) fn shrink(&mut self) -> Result<(), Failure> {
        let entries = self.manifest.entries.iter();
        let free: Vec<u32> =
            entries.filter(|entry| entry.state == State::Free).map(|entry| entry.slot).collect();
        if free.is_empty() {
            return Ok(());
        }
        self.change(|manifest| manifest.entries.retain(|entry| entry.state != State::Free))?;
        for slot in free {
            let name = file_name(slot);
            self.remove(slot).map_err(|error| Failure::io("remove", &name, error))?;
        }
        Ok(())
    }

    /// Removes a file that no manifest names any more.
    pub(crate) fn remove(&self, slot: u32) -> io::Result<()> {
        self.disk.remove(&file_name(slot))?;
        self.disk.sync_names()
    }

    fn sync_names(&self) -> Result<(), Failure> {
        self.disk.sync_names().map_err(|error| Failure::io("sync", "the folder", error))
    }
}

/// Changes what the manifest says of a volume.
pub(crate) fn set(manifest: &mut Manifest, volume: u32, state: State, footer_at: u32) {
    for entry in manifest.entries.iter_mut().filter(|entry| entry.volume == volume) {
        (entry.state, entry.footer_at) = (state, footer_at);
    }
}

/// Makes a volume's file free.
pub(crate) fn set_free(manifest: &mut Manifest, volume: u32) {
    for entry in manifest.entries.iter_mut().filter(|entry| entry.volume == volume) {
        (entry.volume, entry.kind, entry.state, entry.footer_at) = (0, 0, State::Free, 0);
    }
}

/// The identity that a manifest gives a volume.
pub(crate) fn identity(manifest: &Manifest, entry: &ManifestEntry) -> Identity {
    let seed = Seed::new(&manifest.store, entry.volume, entry.generation);
    Identity { volume: entry.volume, generation: entry.generation, seed }
}
