//! A disk in memory that does what disks do to those who do not sync.
//!
//! What is written is seen by reads at once, as through a page cache, and survives a power cut
//! only once it was synced: of each write since, any set of its 512-byte sectors may be on the
//! disk, in any order among writes. A name that was made or removed lasts once names were synced.
//! After a failed sync nobody knows what is on the disk, and the next sync succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use volumes::{Disk, DiskFile, WriteFailed};

use crate::random::Random;

const SECTOR: usize = 512;

/// A disk that crashes. Clones are the same disk.
#[derive(Clone)]
pub struct CrashDisk(Arc<Mutex<World>>);

struct World {
    random: Random,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    /// Calls that change something, so far.
    steps: u64,
    crash_at: Option<u64>,
    fail_at: BTreeSet<u64>,
    down: bool,
    capacity: u64,
    delay: Duration,
    durable_writes: u64,
}

#[derive(Clone, Default)]
struct Content {
    /// What reads see.
    live: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// Written and not synced.
    pending: Vec<(usize, Vec<u8>)>,
}

struct Open {
    disk: CrashDisk,
    file: usize,
}

impl CrashDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> CrashDisk {
        CrashDisk(Arc::new(Mutex::new(World {
            random: Random::new(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            files: Vec::new(),
            steps: 0,
            crash_at: None,
            fail_at: BTreeSet::new(),
            down: false,
            capacity: u64::MAX,
            delay: Duration::ZERO,
            durable_writes: 0,
        })))
    }

    /// Cuts the power in the middle of the `steps`th change from now, 0 for the next.
    pub fn crash_after(&self, steps: u64) {
        let mut world = self.world();
        world.crash_at = Some(world.steps + steps);
    }

    /// Lets the `steps`th change from now fail, 0 for the next; a write fails like a bad sector.
    pub fn fail_after(&self, steps: u64) {
        let mut world = self.world();
        let at = world.steps + steps;
        world.fail_at.insert(at);
    }

    /// Forgets the crash and the failures to come.
    pub fn behave(&self) {
        let mut world = self.world();
        world.crash_at = None;
        world.fail_at.clear();
    }

    /// Bounds what fits, all files together.
    pub fn set_capacity(&self, bytes: u64) {
        self.world().capacity = bytes;
    }

    /// Lets every durable write take so long.
    pub fn set_delay(&self, delay: Duration) {
        self.world().delay = delay;
    }

    /// Bytes that all files take.
    pub fn used(&self) -> u64 {
        self.world().used()
    }

    /// Syncs of data and durable writes so far.
    pub fn flushes(&self) -> u64 {
        self.world().durable_writes
    }

    /// Changes so far: what [`CrashDisk::crash_after`] counts.
    pub fn steps(&self) -> u64 {
        self.world().steps
    }

    /// Whether the power was cut.
    pub fn is_down(&self) -> bool {
        self.world().down
    }

    /// The disk after a power cut, now or the one that happened: what was durable, and any part
    /// of what was not.
    #[must_use]
    pub fn reboot(&self) -> CrashDisk {
        let mut world = self.world();
        let mut random = world.random.clone();
        let mut names = BTreeMap::new();
        let all: BTreeSet<String> =
            world.names.keys().chain(world.durable_names.keys()).cloned().collect();
        for name in all {
            let kept = if random.chance(1, 2) { &world.names } else { &world.durable_names };
            names.extend(kept.get(&name).map(|file| (name, *file)));
        }
        let mut files = world.files.clone();
        for file in &mut files {
            file.crash(&mut random);
        }
        world.down = true;
        let (durable_names, capacity) = (names.clone(), world.capacity);
        CrashDisk(Arc::new(Mutex::new(World {
            random,
            names,
            durable_names,
            files,
            steps: 0,
            crash_at: None,
            fail_at: BTreeSet::new(),
            down: false,
            capacity,
            delay: Duration::ZERO,
            durable_writes: 0,
        })))
    }

    /// Changes a byte on the disk behind everybody's back.
    ///
    /// # Panics
    /// When there is no such file or byte.
    pub fn flip(&self, name: &str, at: usize, with: u8) {
        let mut world = self.world();
        let file = world.names[name];
        world.files[file].live[at] ^= with;
        if let Some(byte) = world.files[file].durable.get_mut(at) {
            *byte ^= with;
        }
    }

    /// What a file holds.
    ///
    /// # Panics
    /// When there is none.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[world.names[name]].live.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a change goes.
enum Step {
    Done,
    Fails,
    Crashes,
}

impl World {
    fn up(&self) -> io::Result<()> {
        if self.down { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn step(&mut self) -> io::Result<Step> {
        self.up()?;
        let now = self.steps;
        self.steps += 1;
        if self.crash_at.is_some_and(|at| now >= at) {
            self.down = true;
            return Ok(Step::Crashes);
        }
        Ok(if self.fail_at.remove(&now) { Step::Fails } else { Step::Done })
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].live.len() as u64).sum()
    }

    fn fits(&self, file: usize, end: usize) -> bool {
        let grown = end.saturating_sub(self.files[file].live.len());
        self.used() + grown as u64 <= self.capacity
    }
}

fn bad_sector() -> io::Error {
    io::Error::other("input/output error")
}

fn full() -> WriteFailed {
    WriteFailed::Full(io::ErrorKind::StorageFull.into())
}

impl Content {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.live, at, bytes);
        self.pending.push((at, bytes.to_vec()));
    }

    fn sync(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.pending) {
            put(&mut self.durable, at, &bytes);
        }
    }

    /// What is pending reaches the disk in part.
    fn tear(&mut self, random: &mut Random) {
        let mut pending = std::mem::take(&mut self.pending);
        while !pending.is_empty() {
            let any = random.below(pending.len() as u64);
            let (at, bytes) = pending.swap_remove(usize::try_from(any).unwrap_or(0));
            // All, none, or some sectors.
            let fate = random.below(4);
            for (sector, from) in bytes.chunks(SECTOR).zip((at..).step_by(SECTOR)) {
                if fate == 0 || (fate > 1 && random.chance(1, 2)) {
                    put(&mut self.durable, from, sector);
                }
            }
        }
    }

    fn crash(&mut self, random: &mut Random) {
        self.tear(random);
        self.live = self.durable.clone();
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk for CrashDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let world = self.world();
        world.up()?;
        Ok(world.names.keys().cloned().collect())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.up()?;
        let found = world.names.get(name).copied();
        let file = match found {
            Some(file) => file,
            None if !create => return Err(io::ErrorKind::NotFound.into()),
            None => match world.step()? {
                Step::Done => {
                    world.files.push(Content::default());
                    let file = world.files.len() - 1;
                    world.names.insert(name.to_owned(), file);
                    file
                }
                Step::Fails | Step::Crashes => return Err(bad_sector()),
            },
        };
        drop(world);
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        match world.step()? {
            Step::Fails => Err(bad_sector()),
            step => {
                let gone = world.names.remove(name).map(|_| ());
                let done = gone.ok_or_else(|| io::ErrorKind::NotFound.into());
                if matches!(step, Step::Crashes) { Err(bad_sector()) } else { done }
            }
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut world = self.world();
        match world.step()? {
            Step::Done => {
                world.durable_names = world.names.clone();
                Ok(())
            }
            Step::Fails | Step::Crashes => Err(bad_sector()),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = self.world();
        world.up()?;
        Ok(world.capacity.saturating_sub(world.used()))
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut world = self.world();
        let mut out = [0; 16];
        out[..8].copy_from_slice(&world.random.any().to_le_bytes());
        out[8..].copy_from_slice(&world.random.any().to_le_bytes());
        Ok(out)
    }
}

impl DiskFile for Open {
    fn length(&self) -> io::Result<u64> {
        let world = self.disk.world();
        world.up()?;
        Ok(world.files[self.file].live.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let world = self.disk.world();
        world.up()?;
        let content = &world.files[self.file].live;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
        let length = into.len().min(content.len() - from);
        into[..length].copy_from_slice(&content[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), WriteFailed> {
        let mut world = self.disk.world();
        let step = world.step().map_err(WriteFailed::Broken)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if !world.fits(self.file, at.saturating_add(bytes.len())) {
            return Err(full());
        }
        world.files[self.file].write(at, bytes);
        match step {
            Step::Done => Ok(()),
            Step::Fails | Step::Crashes => Err(WriteFailed::Broken(bad_sector())),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let world = &mut *world;
        match world.step()? {
            Step::Done => {
                world.durable_writes += 1;
                world.files[self.file].sync();
                Ok(())
            }
            Step::Fails => {
                // The system forgets what it could not write, and shows it all the same.
                world.files[self.file].tear(&mut world.random);
                Err(bad_sector())
            }
            Step::Crashes => Err(bad_sector()),
        }
    }

    fn forget_cached(&self) {
        let mut world = self.disk.world();
        let file = &mut world.files[self.file];
        if file.pending.is_empty() {
            file.live = file.durable.clone();
        }
    }

    fn write_durable(&self, at: u64, bytes: &[u8]) -> Result<(), WriteFailed> {
        let delay = self.disk.world().delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut world = self.disk.world();
        let world = &mut *world;
        let step = world.step().map_err(WriteFailed::Broken)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if !world.fits(self.file, at.saturating_add(bytes.len())) {
            return Err(full());
        }
        let file = &mut world.files[self.file];
        // Older writes to the same place must not come after this one.
        if matches!(step, Step::Done) {
            world.durable_writes += 1;
            file.sync();
        }
        file.write(at, bytes);
        match step {
            Step::Done => {
                file.sync();
                Ok(())
            }
            Step::Fails => {
                file.tear(&mut world.random);
                if world.random.chance(1, 2) {
                    file.live = file.durable.clone();
                }
                Err(WriteFailed::Broken(bad_sector()))
            }
            Step::Crashes => Err(WriteFailed::Broken(bad_sector())),
        }
    }
}
