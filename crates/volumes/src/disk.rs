//! What volumes need of a disk, so that tests can bring one that fails.
//!
//! Not here: any disk. The machine's is in `real`; one that crashes, tears and fills up is in
//! `testkit`. Calls block.

use std::io;

/// A folder for one store. Names are plain file names.
pub trait Disk: Send + Sync + 'static {
    /// Every file's name, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens a file to read and write, and makes it when it is not there and `create` says so. A
    /// new file may be gone after a crash until [`Disk::sync_names`] returned.
    ///
    /// # Errors
    /// When there is none, or it cannot be made.
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>>;

    /// Removes a file's name. Whoever has it open reads on.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    ///
    /// # Errors
    /// When it is not known to be durable.
    fn sync_names(&self) -> io::Result<()>;

    /// Bytes that can still be written to new files.
    ///
    /// # Errors
    /// When the file system does not say.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Sixteen bytes that no other store has.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    fn random(&self) -> io::Result<[u8; 16]>;
}

/// One open file.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// When the file system does not say.
    fn length(&self) -> io::Result<u64>;

    /// Reads from `at` on; the number of bytes read is short only where the file ends.
    ///
    /// # Errors
    /// When the disk does not give the bytes back.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes`; not durable before [`DiskFile::sync`] returned.
    ///
    /// # Errors
    /// [`WriteFailed::Full`] leaves the file usable; any other error may have left anything.
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), WriteFailed>;

    /// Makes every write durable. After an error nobody knows what is, and asking again proves
    /// nothing: the system may have forgotten what it could not write.
    ///
    /// # Errors
    /// When anything may not be durable.
    fn sync(&self) -> io::Result<()>;

    /// Writes all of `bytes`, durable when it returns. Position and length are whole blocks.
    ///
    /// # Errors
    /// As of [`DiskFile::write_at`] and [`DiskFile::sync`].
    fn write_durable(&self, at: u64, bytes: &[u8]) -> Result<(), WriteFailed> {
        self.write_at(at, bytes)?;
        self.sync().map_err(WriteFailed::Broken)
    }

    /// Lets later reads ask the disk itself for what was written and synced before. After a sync
    /// that failed, memory may hold what the disk does not.
    fn forget_cached(&self) {}

    /// Tells that `length` bytes from `at` on will be read in order soon.
    fn will_read(&self, _at: u64, _length: u64) {}
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailed {
    /// No space; the same file takes writes again when there is some.
    #[error("no space is left: {0}")]
    Full(#[source] io::Error),
    /// What the file holds there is unknown.
    #[error("{0}")]
    Broken(#[source] io::Error),
}

impl WriteFailed {
    /// Sorts the error of a write; errors of a sync are all [`WriteFailed::Broken`].
    pub fn of_write(error: io::Error) -> WriteFailed {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteFailed::Full(error),
            _ => WriteFailed::Broken(error),
        }
    }
}
