//! Scrubbing: sealed volumes are read again now and then, so that a disk that forgets is noticed
//! while there is something to restore from.
//!
//! Invariant: a volume that something is bad in is quarantined, and what is good in it is settled
//! elsewhere.

use std::sync::atomic::Ordering;

use crate::catalog::{Failure, file_name, set};
use crate::codec::{ManifestEntry, State};
use crate::scan::{Found, Scan};
use crate::settle::Keeper;
use crate::store::{Damage, Inner};
use crate::sync::lock;

impl Inner {
    /// Reads the next volume if it is time.
    pub(crate) fn scrub_one(&self, keeper: &mut Keeper) -> Result<bool, Failure> {
        let entries = lock(&self.catalog).manifest.entries.clone();
        let mut sealed: Vec<ManifestEntry> =
            entries.into_iter().filter(|entry| entry.state == State::Sealed).collect();
        sealed.sort_by_key(|entry| entry.volume);
        let Ok(count) = u32::try_from(sealed.len()) else { return Ok(false) };
        let (now, every) = (self.clock.steady(), self.options.scrub_every);
        let due = *keeper.scrub.get_or_insert(now.plus(every / count.max(1)));
        if now < due || every.is_zero() {
            return Ok(false);
        }
        keeper.scrub = Some(now.plus(every / count.max(1)));
        let after = sealed.iter().find(|entry| entry.volume > keeper.scrubbed);
        let Some(entry) = after.or(sealed.first()).copied() else { return Ok(false) };
        keeper.scrubbed = entry.volume;
        if self.is_good(keeper, &entry) {
            return Ok(true);
        }
        let (volume, end) = (entry.volume, entry.footer_at);
        lock(&self.catalog).change(|manifest| set(manifest, volume, State::Quarantined, end))?;
        Ok(true)
    }

    /// Reads all of a sealed volume and reports what is bad.
    fn is_good(&self, keeper: &mut Keeper, entry: &ManifestEntry) -> bool {
        let Some(volume) = self.volume(entry.volume) else { return true };
        let known = self.report_count();
        let damage = |at, bytes, what| {
            let file = file_name(entry.slot);
            self.report(Damage { volume: entry.volume, file, at, bytes, what });
        };
        volume.file.forget_cached();
        let mut walk = || {
            let mut scan = Scan::new(&*volume.file, volume.id, Some(entry.footer_at))?;
            loop {
                let groups = self.counters.groups.load(Ordering::Relaxed);
                match scan.step()? {
                    Found::Group(group) => {
                        for (owner, sequence, at) in &group.damaged {
                            let what = format!("record {sequence} of owner {owner}");
                            damage(*at, 0, what + " does not match its checksum");
                        }
                        self.pace(group.header.length as usize, groups);
                    }
                    Found::Bad { at, bytes, why } => {
                        keeper.lost(entry.volume);
                        damage(at, bytes, format!("a group {why}"));
                    }
                    Found::Footer | Found::End { .. } => return Ok::<(), std::io::Error>(()),
                }
            }
        };
        if let Err(error) = walk() {
            damage(0, 0, format!("it cannot be read: {error}"));
        }
        self.report_count() == known
    }
}
