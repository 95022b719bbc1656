//! What goes on beside commits: footers for volumes that ended, space back from those that are
//! dead, settling of those that are old.
//!
//! Not here: settling itself (`settle`). Invariants: volumes are sealed in the order that they
//! ended, so that the manifest can say below which group everything is accounted for; a file is
//! written again only when no reader holds it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::buffer::Aligned;
use crate::catalog::{Failure, Volume, file_name, set};
use crate::codec::{Footer, FooterRun, State};
use crate::disk::WriteFailed;
use crate::store::{Damage, Inner, Volumes};
use crate::sync::{lock, read, write};

impl Volumes {
    /// Does one piece of background work. Returns whether there may be more now; a full or
    /// failing disk leaves it for later.
    pub fn tend(&self) -> bool {
        let mut keeper = lock(&self.inner.keeper);
        let inner = &*self.inner;
        let done = inner
            .seal()
            .and_then(|done| if done { Ok(true) } else { inner.reclaim() })
            .and_then(|done| if done { Ok(true) } else { inner.settle_some(&mut keeper) })
            .and_then(|done| if done { Ok(true) } else { inner.scrub_one(&mut keeper) });
        match done {
            Ok(done) => done,
            Err(Failure::Full(_)) => {
                // If that fails too, the next call tries again.
                let _ = lock(&inner.catalog).shrink();
                false
            }
            Err(Failure::Failed(_)) => false,
        }
    }
}

impl Inner {
    /// Gives the oldest volume that ended its footer.
    fn seal(&self) -> Result<bool, Failure> {
        // Commits push behind it while the footer is written.
        let Some(oldest) = lock(&self.ended).front().cloned() else { return Ok(false) };
        let (id, next, end) = (oldest.volume.id.volume, oldest.next, oldest.end);
        if oldest.bad {
            lock(&self.catalog).change(|manifest| {
                set(manifest, id, State::Quarantined, end);
                manifest.sealed_below = manifest.sealed_below.max(next);
            })?;
        } else if oldest.first >= next {
            lock(&self.catalog).change(|manifest| set(manifest, id, State::Retired, 0))?;
            let volume = write(&self.volumes).remove(&id);
            drop(volume);
        } else {
            let runs = read(&self.index).in_volumes(&[id]);
            let held = runs.iter().map(|(_, run)| run.bytes()).sum();
            oldest.volume.held.store(held, Ordering::Relaxed);
            let runs = runs.iter().map(|(owner, run)| run.in_footer(*owner)).collect();
            match self.write_footer(&oldest.volume, end, (oldest.first, next), runs) {
                Ok(()) => {}
                Err(WriteFailed::Full(error)) => {
                    let name = file_name(oldest.volume.slot);
                    return Err(Failure::of("seal", &name, WriteFailed::Full(error)));
                }
                Err(WriteFailed::Broken(error)) => {
                    if let Some(oldest) = lock(&self.ended).front_mut() {
                        oldest.bad = true;
                    }
                    let file = file_name(oldest.volume.slot);
                    let what = format!("the footer cannot be written: {error}");
                    self.report(Damage { volume: id, file, at: end, bytes: 0, what });
                    return Ok(true);
                }
            }
            lock(&self.catalog).change(|manifest| {
                set(manifest, id, State::Sealed, end);
                manifest.sealed_below = manifest.sealed_below.max(next);
            })?;
        }
        lock(&self.ended).pop_front();
        Ok(true)
    }

    /// Writes a footer at the end of a volume.
    pub(crate) fn write_footer(
        &self,
        volume: &Volume,
        at: u32,
        (first_group, next_group): (u64, u64),
        runs: Vec<FooterRun>,
    ) -> Result<(), WriteFailed> {
        let owners = read(&self.index).standing();
        let footer = Footer { first_group, next_group, runs, owners }.encode(volume.id, at);
        let mut aligned = Aligned::zeroed(footer.len());
        aligned.bytes_mut().copy_from_slice(&footer);
        volume.file.write_durable(at.into(), aligned.as_ref())
    }

    /// Frees the files of volumes that hold nothing any more.
    fn reclaim(&self) -> Result<bool, Failure> {
        let mut catalog = lock(&self.catalog);
        let entries = catalog.manifest.entries.clone();
        let dead = |volume: u32| read(&self.index).live(volume) == 0;
        for entry in entries {
            if entry.state == State::Sealed && dead(entry.volume) {
                let id = entry.volume;
                catalog.change(|manifest| set(manifest, id, State::Retired, 0))?;
                drop(catalog);
                self.retire(&[id])?;
                return Ok(true);
            }
            if entry.state == State::Retired {
                drop(catalog);
                self.retire(&[entry.volume])?;
                return Ok(true);
            }
        }
        let oldest = entries_oldest(&catalog.manifest.entries);
        drop(catalog);
        write(&self.index).bury(oldest);
        Ok(false)
    }

    /// Frees the files of retired volumes.
    pub(crate) fn retire(&self, retired: &[u32]) -> Result<(), Failure> {
        for id in retired {
            let volume = write(&self.volumes).remove(id);
            // Whoever still reads it keeps the file; then it must not be written again.
            let unread = volume.is_none_or(|volume| Arc::strong_count(&volume) == 1);
            lock(&self.catalog).free(*id, unread)?;
        }
        Ok(())
    }
}

fn entries_oldest(entries: &[crate::codec::ManifestEntry]) -> u32 {
    let volumes = entries.iter().map(|entry| entry.volume).filter(|volume| *volume > 0);
    volumes.min().unwrap_or(u32::MAX)
}
