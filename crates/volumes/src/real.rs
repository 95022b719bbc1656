//! The machine's disk: a folder of a file system.
//!
//! Groups are written with `O_DIRECT | O_DSYNC`, one call that returns when the bytes are on the
//! device, where the file system allows it; else with a write and `fdatasync`. Everything else,
//! reads above all, goes through the page cache.
//!
//! Invariant: a file's blocks are written either through the direct handle or, never at the same
//! time, through the other one; and the page cache holds nothing dirty when the direct one writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, OFlags};

use crate::disk::{Disk, DiskFile, WriteFailed};
use crate::format::BLOCK;

/// A folder on a file system.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    direct: bool,
    writes: bool,
}

impl RealDisk {
    /// The folder, made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> io::Result<RealDisk> {
        fs::create_dir_all(folder)?;
        Ok(RealDisk { folder: folder.to_owned(), direct: true, writes: true })
    }

    /// A folder that is there, to be read only.
    pub fn read_only(folder: &Path) -> RealDisk {
        RealDisk { folder: folder.to_owned(), direct: false, writes: false }
    }

    /// Writes through the page cache and calls `fdatasync`, also where direct writes would work.
    #[must_use]
    pub fn without_direct(mut self) -> RealDisk {
        self.direct = false;
        self
    }
}

impl Disk for RealDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let path = self.folder.join(name);
        let cached = OpenOptions::new().read(true).write(self.writes).create(create).open(&path)?;
        let flags = OFlags::DIRECT | OFlags::DSYNC;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let direct = || OpenOptions::new().write(true).custom_flags(flags).open(&path).ok();
        let direct = if self.direct { direct() } else { None };
        let usable = AtomicBool::new(direct.is_some());
        Ok(Box::new(RealFile { cached, direct, usable }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut out = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut out)?;
        Ok(out)
    }
}

struct RealFile {
    cached: File,
    direct: Option<File>,
    /// Some file systems take the flag and refuse the writes.
    usable: AtomicBool,
}

impl DiskFile for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.cached.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), WriteFailed> {
        self.cached.write_all_at(bytes, at).map_err(WriteFailed::of_write)
    }

    fn sync(&self) -> io::Result<()> {
        self.cached.sync_data()
    }

    fn write_durable(&self, at: u64, bytes: &[u8]) -> Result<(), WriteFailed> {
        let direct = self.direct.as_ref().filter(|_| self.usable.load(Ordering::Relaxed));
        if let Some(direct) = direct {
            debug_assert_eq!(bytes.as_ptr().align_offset(BLOCK), 0);
            match direct.write_all_at(bytes, at) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.usable.store(false, Ordering::Relaxed);
                }
                done => return done.map_err(WriteFailed::of_write),
            }
        }
        self.write_at(at, bytes)?;
        self.sync().map_err(WriteFailed::Broken)
    }

    fn forget_cached(&self) {
        // Only clean pages go; after a sync there are no others.
        let _ = rustix::fs::fadvise(&self.cached, 0, None, Advice::DontNeed);
    }

    fn will_read(&self, at: u64, length: u64) {
        let length = std::num::NonZeroU64::new(length);
        // Advice: without it the reads are slower, nothing else.
        let _ = rustix::fs::fadvise(&self.cached, at, length, Advice::WillNeed);
    }
}
