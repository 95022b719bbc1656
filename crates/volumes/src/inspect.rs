//! Looking at a store from outside: what is in its files, and whether all of it verifies.
//!
//! Not here: the words for people (`ms volume`). It reads and never writes, and believes nothing
//! that does not verify; a store that is being written can be looked at, though what is not sealed
//! may change meanwhile.

use crate::catalog::{file_name, identity};
use crate::codec::{Footer, Manifest, ManifestEntry, State, VolumeHeader};
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::format::{BLOCK, Bad};
use crate::recover;
use crate::scan::{Found, Scan};
use crate::store::Damage;

/// A store as its files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The manifest that counts.
    pub manifest: Manifest,
    /// Every file that it names, free ones left out, by volume.
    pub volumes: Vec<VolumeReport>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeReport {
    /// Its file.
    pub file: String,
    /// What the manifest says of it.
    pub entry: ManifestEntry,
    /// Groups that were read.
    pub groups: u64,
    /// Runs of records in them, or in the footer.
    pub runs: u64,
    /// Records in those runs.
    pub records: u64,
    /// Bytes up to the end of the last group or the footer.
    pub bytes: u64,
    /// Bytes of a torn group at the end.
    pub torn_bytes: u32,
    /// What does not verify.
    pub damage: Vec<Damage>,
}

/// Reads manifests, headers and footers; with `all` every group too, every byte of which is
/// verified.
///
/// # Errors
/// When the folder or the manifests cannot be read.
pub fn inspect(disk: &dyn Disk, all: bool) -> Result<Report, OpenError> {
    let manifest = recover::manifest(disk)?;
    let manifest = manifest.ok_or(OpenError::Manifest("there is none".to_owned()))?;
    let named = manifest.entries.iter().filter(|entry| entry.volume > 0);
    let mut volumes: Vec<_> = named.map(|entry| volume(disk, &manifest, entry, all)).collect();
    volumes.sort_by_key(|report| report.entry.volume);
    Ok(Report { manifest, volumes })
}

fn volume(disk: &dyn Disk, manifest: &Manifest, entry: &ManifestEntry, all: bool) -> VolumeReport {
    let mut report = VolumeReport {
        file: file_name(entry.slot),
        entry: *entry,
        groups: 0,
        runs: 0,
        records: 0,
        bytes: 0,
        torn_bytes: 0,
        damage: Vec::new(),
    };
    // What is retired counts for nothing, whatever is in it.
    if entry.state == State::Retired {
        return report;
    }
    let read = disk.open(&report.file, false).and_then(|file| {
        report.header(&*file, manifest)?;
        let footer = entry.state == State::Sealed && report.footer(&*file, manifest);
        if all || !footer { report.groups(&*file, manifest, footer) } else { Ok(()) }
    });
    if let Err(error) = read {
        report.damaged(0, 0, format!("it cannot be read: {error}"));
    }
    report
}

impl VolumeReport {
    fn header(&mut self, file: &dyn DiskFile, manifest: &Manifest) -> std::io::Result<()> {
        let mut block = vec![0; BLOCK];
        let read = file.read_at(0, &mut block)?;
        match VolumeHeader::decode(&block[..read]) {
            Ok(header) if header.identity() == identity(manifest, &self.entry) => {}
            Ok(_) => self.damaged(0, 4096, "the header is another volume's".to_owned()),
            Err(why) => self.damaged(0, 4096, format!("the header {why}")),
        }
        Ok(())
    }

    /// Reads the footer; whether it is good.
    fn footer(&mut self, file: &dyn DiskFile, manifest: &Manifest) -> bool {
        let id = identity(manifest, &self.entry);
        match recover::footer_of(file, id, self.entry.footer_at) {
            Ok((footer, length)) => {
                self.footer_counts(&footer);
                self.bytes = u64::from(self.entry.footer_at) + length as u64;
                true
            }
            Err(why) => {
                self.damaged(self.entry.footer_at, 0, format!("the footer {why}"));
                false
            }
        }
    }

    fn footer_counts(&mut self, footer: &Footer) {
        self.groups = footer.next_group - footer.first_group;
        self.runs = footer.runs.len() as u64;
        self.records = footer.runs.iter().map(|run| u64::from(run.entries)).sum();
    }

    /// Reads every group. What a footer says of them is not counted twice.
    fn groups(
        &mut self,
        file: &dyn DiskFile,
        manifest: &Manifest,
        counted: bool,
    ) -> std::io::Result<()> {
        let known = (self.entry.state != State::Open).then_some(self.entry.footer_at);
        let mut scan = Scan::new(file, identity(manifest, &self.entry), known)?;
        loop {
            match scan.step()? {
                Found::Group(group) => {
                    for (owner, sequence, at) in &group.damaged {
                        let what = format!("record {sequence} of owner {owner}");
                        self.damaged(*at, 0, what + " does not match its checksum");
                    }
                    if !counted {
                        self.groups += 1;
                        self.runs += group.runs.len() as u64;
                        self.records +=
                            group.runs.iter().map(|(_, run)| u64::from(run.entries)).sum::<u64>();
                    }
                }
                Found::Bad { at, bytes, why } => self.damaged(at, bytes, bad(why)),
                Found::Footer => {
                    self.bytes = self.bytes.max(scan.position().into());
                    return Ok(());
                }
                Found::End { at, cut } => {
                    self.bytes = self.bytes.max(at.into());
                    self.torn_bytes = cut;
                    return Ok(());
                }
            }
        }
    }

    fn damaged(&mut self, at: u32, bytes: u32, what: String) {
        let (volume, file) = (self.entry.volume, self.file.clone());
        self.damage.push(Damage { volume, file, at, bytes, what });
    }
}

fn bad(why: Bad) -> String {
    format!("a group {why}")
}
