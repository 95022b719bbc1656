//! Opening a store: which volumes count, what is in them, where writing goes on.
//!
//! Not here: the reading of one volume (`scan`). Invariants: sealed volumes cost their footer,
//! others a scan; a torn group is cut only at the very end of the chain of groups, and anything
//! else that is missing is told; nothing is served before it is known to be durable.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use base::Clock;

use crate::batch::Owner;
use crate::catalog::{COPIES, Catalog, Failure, Volume, file_name, identity, set_free, slot_of};
use crate::codec::{
    Footer, FooterOwner, FooterRun, Identity, Manifest, ManifestEntry, State, VolumeHeader,
};
use crate::commit::{Active, Commit, Ended};
use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::format::{BLOCK, Bad, footer_header, low32};
use crate::get::Blocks;
use crate::index::{Index, Run};
use crate::queue::Queue;
use crate::scan::{Found, Scan};
use crate::settle::Keeper;
use crate::store::{Counters, Damage, Inner, Options, Recovered};
use crate::tail::Tail;

/// Opens the store on a disk.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<Inner, OpenError> {
    let options = options.bounded();
    let names = disk.names().map_err(|why| broken("list", "the folder", why))?;
    let (manifest, mut found) = match manifest(&*disk)? {
        Some(manifest) => {
            let mut found = Findings::default();
            found.files(&*disk, &manifest, &names)?;
            (manifest, found)
        }
        None if names.iter().any(|name| slot_of(name).is_some()) => {
            return Err(OpenError::Manifest("there are volumes and no manifest".to_owned()));
        }
        None => {
            let store = disk.random().map_err(|why| broken("name", "the store", why))?;
            let (sequence, next_volume, sealed_below) = (0, 1, 0);
            let new = Manifest { sequence, store, next_volume, sealed_below, entries: Vec::new() };
            (new, Findings::default())
        }
    };
    let chain = found.chain(manifest.sealed_below);
    let index = found.index();
    let queue = Queue::new(options.queue_bytes);
    for (owner, bounds) in index.owners() {
        queue.set_end(owner, bounds.end);
    }
    let manifest = found.tidy(manifest);
    let slots = names.iter().filter_map(|name| slot_of(name)).chain(found.slots.iter().copied());
    let next_slot = slots.max().map_or(0, |slot| slot + 1);
    let catalog = Catalog::begin(Arc::clone(&disk), manifest, next_slot).map_err(|why| {
        let (Failure::Full(why) | Failure::Failed(why)) = why;
        broken("write", "the manifest", io::Error::other(why))
    })?;
    for orphan in &found.orphans {
        // It takes space and nothing else; the next opening tries again.
        let _ = catalog.remove(*orphan);
    }
    Ok(Inner {
        disk,
        clock,
        options,
        queue,
        commit: Mutex::new(Commit { active: chain.active, next: chain.next }),
        catalog: Mutex::new(catalog),
        index: RwLock::new(index),
        volumes: RwLock::new(found.volumes),
        tail: Mutex::new(Tail::new(options.tail_bytes)),
        blocks: Mutex::new(Blocks::new(options.directory_bytes)),
        ended: Mutex::new(chain.ended),
        keeper: Mutex::new(Keeper::after(found.lost.iter().map(|(_, volume, _)| *volume))),
        judges: RwLock::default(),
        listeners: RwLock::default(),
        damage: Mutex::new(found.report.damage.clone()),
        recovered: found.report,
        counters: Counters::default(),
    })
}

/// The manifest that counts; `None` when there never was one.
pub(crate) fn manifest(disk: &dyn Disk) -> Result<Option<Manifest>, OpenError> {
    /// A manifest of 2.7 million files; more is none of ours.
    const BYTES_MAX: u64 = 64 << 20;
    let mut best: Option<Manifest> = None;
    for name in COPIES {
        let file = match disk.open(name, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(why) => return Err(broken("open", name, why)),
        };
        let length = file.length().map_err(|why| broken("read", name, why))?;
        let mut bytes = vec![0; usize::try_from(length.min(BYTES_MAX)).unwrap_or(0)];
        let read = match file.read_at(0, &mut bytes) {
            Ok(read) => read,
            // The other copy may do.
            Err(_) => continue,
        };
        match Manifest::decode(&bytes[..read]) {
            Ok(manifest) if best.as_ref().is_none_or(|b| b.sequence < manifest.sequence) => {
                best = Some(manifest);
            }
            Ok(_) => {}
            Err(why @ Bad::Version(_)) => {
                return Err(OpenError::Newer { name: name.to_owned(), why });
            }
            Err(_) => {}
        }
    }
    Ok(best)
}

fn broken(what: &'static str, name: &str, why: io::Error) -> OpenError {
    OpenError::Disk { what, name: name.to_owned(), why }
}

/// A volume that was scanned.
struct Scanned {
    volume: Arc<Volume>,
    /// The manifest calls it open.
    open: bool,
    /// It has a footer, or shall have none.
    sealed: bool,
    /// Something in it is not as it was written.
    bad: bool,
    first: u64,
    next: u64,
    end: u32,
    cut: u32,
    groups: Vec<Held>,
}

/// What a group holds.
struct Held {
    sequence: u64,
    runs: Vec<(Owner, Run)>,
    trims: Vec<(Owner, u64)>,
}

/// What the chain of groups comes to.
struct Chain {
    active: Option<Active>,
    ended: VecDeque<Ended>,
    next: u64,
}

#[derive(Default)]
struct Findings {
    volumes: HashMap<u32, Arc<Volume>>,
    runs: Vec<(Owner, Run)>,
    /// Runs of volumes that something is bad in: what was saved from them counts first.
    last_resort: Vec<(Owner, Run)>,
    trims: Vec<(Owner, u64)>,
    owners: Vec<FooterOwner>,
    scanned: Vec<Scanned>,
    /// Written by settling and not finished: their inputs still count.
    unfinished: Vec<u32>,
    retired: Vec<u32>,
    /// Numbers of groups that are lost, where they were, and where runs of later groups begin.
    lost: Vec<(u64, u32, u32)>,
    later: Vec<(u64, Owner, u64)>,
    /// Sealed, and the footer is bad: what is good will be saved from it.
    without_footer: Vec<u32>,
    slots: Vec<u32>,
    orphans: Vec<u32>,
    report: Recovered,
}

impl Findings {
    /// Reads every file that the manifest names, and looks at those that it does not.
    fn files(
        &mut self,
        disk: &dyn Disk,
        manifest: &Manifest,
        names: &[String],
    ) -> Result<(), OpenError> {
        for entry in &manifest.entries {
            self.slots.push(entry.slot);
            match entry.state {
                State::Free => {}
                State::Retired => self.retired.push(entry.volume),
                State::Open if entry.kind == 1 => self.unfinished.push(entry.volume),
                _ => self.file(disk, manifest, entry)?,
            }
        }
        for slot in names.iter().filter_map(|name| slot_of(name)) {
            if !self.slots.contains(&slot) {
                self.unnamed(disk, manifest, slot)?;
            }
        }
        Ok(())
    }

    /// A file that the manifest does not name: left by a crash, or the manifest is not the newest.
    fn unnamed(
        &mut self,
        disk: &dyn Disk,
        manifest: &Manifest,
        slot: u32,
    ) -> Result<(), OpenError> {
        let name = file_name(slot);
        let file = disk.open(&name, false).map_err(|why| broken("open", &name, why))?;
        let mut block = vec![0; BLOCK];
        let read = file.read_at(0, &mut block).map_err(|why| broken("read", &name, why))?;
        let Ok(header) = VolumeHeader::decode(&block[..read]) else {
            self.orphans.push(slot);
            return Ok(());
        };
        if header.store != manifest.store {
            return Ok(());
        }
        let mut scan =
            Scan::new(&*file, header.identity(), None).map_err(|why| broken("read", &name, why))?;
        let first = scan.step().map_err(|why| broken("read", &name, why))?;
        if header.manifest > manifest.sequence && matches!(first, Found::Group(_)) {
            let why = format!("`{name}` holds records and is not in them");
            return Err(OpenError::Manifest(why));
        }
        self.orphans.push(slot);
        Ok(())
    }

    fn file(
        &mut self,
        disk: &dyn Disk,
        manifest: &Manifest,
        entry: &ManifestEntry,
    ) -> Result<(), OpenError> {
        let name = file_name(entry.slot);
        let id = identity(manifest, entry);
        let file = match disk.open(&name, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.damaged(entry, 0, 0, "the file is gone".to_owned());
                return Ok(());
            }
            Err(why) => return Err(broken("open", &name, why)),
        };
        let mut block = vec![0; BLOCK];
        let read = file.read_at(0, &mut block);
        let mut first_group = None;
        match read.map(|read| VolumeHeader::decode(&block[..read])) {
            Ok(Ok(header)) if header.identity() == id => first_group = Some(header.first_group),
            Ok(Err(why @ Bad::Version(_))) => return Err(OpenError::Newer { name, why }),
            Ok(Ok(_)) => self.damaged(entry, 0, low32(BLOCK), "the header is another's".to_owned()),
            Ok(Err(why)) => self.damaged(entry, 0, low32(BLOCK), format!("the header {why}")),
            Err(why) => self.damaged(entry, 0, low32(BLOCK), why.to_string()),
        }
        let volume = Arc::new(Volume { id, slot: entry.slot, file, held: AtomicU64::new(0) });
        self.volumes.insert(entry.volume, Arc::clone(&volume));
        if entry.state == State::Sealed {
            match footer(&volume, entry.footer_at) {
                Ok(footer) => {
                    self.report.footers += 1;
                    let of = |run: FooterRun| {
                        (Owner::from_bits(run.owner), Run::of_footer(entry.volume, &run))
                    };
                    let held: u64 = footer.runs.iter().map(|run| of(*run).1.bytes()).sum();
                    volume.held.store(held, Ordering::Relaxed);
                    self.runs.extend(footer.runs.into_iter().map(of));
                    self.owners.extend(footer.owners);
                    return Ok(());
                }
                Err(why) => {
                    self.damaged(entry, entry.footer_at, 0, format!("the footer {why}"));
                    self.without_footer.push(entry.volume);
                }
            }
        }
        if let Err(why) = self.scan(&volume, entry, first_group) {
            self.damaged(entry, 0, 0, format!("it cannot be read: {why}"));
        }
        Ok(())
    }

    fn scan(
        &mut self,
        volume: &Arc<Volume>,
        entry: &ManifestEntry,
        first_group: Option<u64>,
    ) -> io::Result<()> {
        let open = entry.state == State::Open;
        let known = (!open).then_some(entry.footer_at);
        // What the system only holds in memory may not be served: a power cut would undo it.
        let mut bad = first_group.is_none() || (open && volume.file.sync().is_err());
        if open {
            volume.file.forget_cached();
        }
        let mut scan = Scan::new(&*volume.file, volume.id, known)?;
        let mut groups: Vec<Held> = Vec::new();
        let mut sealed = !open;
        let (end, cut) = loop {
            match scan.step()? {
                Found::Group(group) => {
                    for (owner, sequence, at) in &group.damaged {
                        let what = format!("record {sequence} of owner {owner}");
                        self.damaged(entry, *at, 0, what + " does not match its checksum");
                        bad = true;
                    }
                    let (sequence, runs, trims) = (group.header.sequence, group.runs, group.trims);
                    groups.push(Held { sequence, runs, trims });
                }
                Found::Bad { at, bytes, why } => {
                    self.damaged(entry, at, bytes, format!("a group {why}"));
                    let before = groups.last().map(|group| group.sequence + 1);
                    self.lost.push((before.or(first_group).unwrap_or(0), entry.volume, at));
                    bad = true;
                }
                Found::Footer => {
                    sealed = true;
                    break (scan.position(), 0);
                }
                Found::End { at, cut } => break (at, cut),
            }
        };
        self.report.scanned += 1;
        self.report.scanned_bytes += u64::from(end);
        let first = first_group.or_else(|| groups.first().map(|group| group.sequence));
        let first = first.unwrap_or(0);
        let next = groups.last().map_or(first, |group| group.sequence + 1);
        let volume = Arc::clone(volume);
        let scanned = Scanned { volume, open, sealed, bad, first, next, end, cut, groups };
        if entry.kind == 0 && entry.state != State::Sealed {
            self.scanned.push(scanned);
        } else {
            self.keep(scanned, u64::MAX);
        }
        Ok(())
    }

    /// Takes the groups below a number.
    fn keep(&mut self, scanned: Scanned, below: u64) {
        let runs = if scanned.open { &mut self.runs } else { &mut self.last_resort };
        for group in scanned.groups {
            if group.sequence < below {
                if !self.lost.is_empty() {
                    let number = group.sequence;
                    self.later.extend(group.runs.iter().map(|(o, run)| (number, *o, run.first)));
                }
                runs.extend(group.runs);
                self.trims.extend(group.trims);
            }
        }
    }

    /// Puts the volumes that have no footer in the order of their groups, and says what is missing
    /// between them. A group whose number is used again later was never acknowledged.
    fn chain(&mut self, sealed_below: u64) -> Chain {
        let mut scanned = std::mem::take(&mut self.scanned);
        scanned.sort_by_key(|one| one.volume.id.volume);
        let firsts: Vec<u64> = scanned.iter().map(|one| one.first).collect();
        let mut chain = Chain { active: None, ended: VecDeque::new(), next: sealed_below };
        for (at, one) in scanned.into_iter().enumerate() {
            let later = firsts.get(at + 1).copied();
            let below = later.unwrap_or(u64::MAX);
            let (volume, first, next) = (Arc::clone(&one.volume), one.first, one.next.min(below));
            if first > chain.next {
                let what = format!("groups {} to {} are missing", chain.next, first - 1);
                self.damaged_volume(&volume, low32(BLOCK), what);
                self.lost.push((chain.next, volume.id.volume, low32(BLOCK)));
            }
            chain.next = chain.next.max(next);
            let (end, bad) = (one.end, one.bad);
            if one.open && later.is_none() && !bad && !one.sealed {
                self.report.cut_bytes += u64::from(one.cut);
                chain.active = Some(Active::new(volume, first, end));
            } else if one.open {
                chain.ended.push_back(Ended { volume, first, next, end, bad });
            }
            self.keep(one, below);
        }
        chain
    }

    fn index(&mut self) -> Index {
        let mut index = Index::default();
        for volume in self.volumes.keys() {
            index.saw(*volume);
        }
        for owner in &self.owners {
            index.remember(owner);
        }
        for (owner, start) in std::mem::take(&mut self.trims) {
            index.trim(owner, start);
        }
        for (owner, run) in index.load(std::mem::take(&mut self.runs)) {
            if let Some(volume) = self.volumes.get(&run.volume).cloned() {
                let what = format!("records {} to {} of owner {owner}", run.first, run.end - 1);
                self.damaged_volume(&volume, run.payload_at, what + " are there twice");
            }
        }
        for (owner, run) in std::mem::take(&mut self.last_resort) {
            index.load_one(owner, run);
        }
        for (lost, volume, at) in &self.lost {
            // The first run of each owner after it.
            let mut seen: HashSet<Owner> = HashSet::new();
            for (_, owner, first) in self.later.iter().filter(|(number, ..)| number >= lost) {
                if seen.insert(*owner) {
                    index.lost_before(*owner, *first, *volume, *at);
                }
            }
        }
        index
    }

    /// The manifest without what a crash left over.
    fn tidy(&mut self, mut manifest: Manifest) -> Manifest {
        let unfinished = std::mem::take(&mut self.unfinished);
        let left = manifest.entries.iter().filter(|entry| unfinished.contains(&entry.volume));
        self.orphans.extend(left.map(|entry| entry.slot));
        manifest.entries.retain(|entry| !unfinished.contains(&entry.volume));
        for volume in &self.retired {
            set_free(&mut manifest, *volume);
        }
        for entry in &mut manifest.entries {
            if self.without_footer.contains(&entry.volume) {
                entry.state = State::Quarantined;
            }
        }
        manifest
    }

    fn damaged(&mut self, entry: &ManifestEntry, at: u32, bytes: u32, what: String) {
        let (volume, file) = (entry.volume, file_name(entry.slot));
        self.report.damage.push(Damage { volume, file, at, bytes, what });
    }

    fn damaged_volume(&mut self, volume: &Volume, at: u32, what: String) {
        let (volume, file) = (volume.id.volume, file_name(volume.slot));
        self.report.damage.push(Damage { volume, file, at, bytes: 0, what });
    }
}

/// Reads the footer of an open volume.
fn footer(volume: &Volume, at: u32) -> Result<Footer, String> {
    footer_of(&*volume.file, volume.id, at).map(|(footer, _)| footer)
}

/// Reads a footer, and its length.
pub(crate) fn footer_of(
    file: &dyn DiskFile,
    id: Identity,
    at: u32,
) -> Result<(Footer, usize), String> {
    let text = |error: io::Error| format!("cannot be read: {error}");
    let mut bytes = vec![0; footer_header::BYTES];
    let read = file.read_at(at.into(), &mut bytes).map_err(text)?;
    let length = Footer::length(&bytes[..read], id, at).map_err(|why| why.to_string())?;
    let there = file.length().map_err(text)?.saturating_sub(at.into());
    if length as u64 > there {
        return Err(Bad::Short.to_string());
    }
    bytes.resize(length, 0);
    let read = file.read_at(at.into(), &mut bytes).map_err(text)?;
    let footer = Footer::decode(&bytes[..read], id, at).map_err(|why| why.to_string())?;
    Ok((footer, length))
}
