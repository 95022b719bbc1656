//! The table's file: replaced as a whole, never written in place.
//!
//! A save writes `scores.new`, flushes it, keeps the last file as `scores.old` and renames the new
//! one over it, so after any crash one of the two is whole. Each file opens with its length and a
//! checksum; one that does not match them is set aside as `scores.damaged` and said so, never
//! shown and never deleted. A lock keeps a second copy of the service out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::table::Table;
use crate::settings::say;

const MAGIC: &str = "arcade-scores-1";

/// Largest file taken, in bytes: some hundred rows need far less.
const FILE_MAX: u64 = 1024 * 1024;

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot {what} {path}: {source}; no score was lost, check the folder and its disk")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
}

/// The folder that holds the table, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the folder, or a fallback in the user's home where the folder cannot be written, and
    /// reads the table.
    pub(crate) fn open(folder: &Path) -> Result<(Store, Table), StoreError> {
        match Store::open_at(folder) {
            Err(error) => {
                let Some(home) = home_folder() else { return Err(error) };
                say(format_args!("{error}; keeping the scores in {} instead", home.display()));
                Store::open_at(&home)
            }
            opened => opened,
        }
    }

    fn open_at(folder: &Path) -> Result<(Store, Table), StoreError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { what, path, source }
        };
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say(format_args!("waiting: another copy keeps its scores in {}", folder.display()));
                lock.lock().map_err(io("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(io("lock", &path)(error)),
        }
        let store = Store { folder: folder.to_owned(), _lock: lock };
        let table = store.load()?;
        Ok((store, table))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces the table on disk. When this returns, it outlives a loss of power.
    pub(crate) async fn save(&self, table: &Table) -> Result<(), StoreError> {
        let folder = self.folder.clone();
        let text = encode(table);
        let saved = tokio::task::spawn_blocking(move || replace(&folder, &text)).await;
        saved.unwrap_or_else(|error| {
            let source = std::io::Error::other(error);
            Err(StoreError::Io { what: "write", path: self.folder.clone(), source })
        })
    }

    fn load(&self) -> Result<Table, StoreError> {
        for name in ["scores", "scores.old"] {
            let path = self.folder.join(name);
            let io = |what| {
                let path = path.clone();
                move |source| StoreError::Io { what, path, source }
            };
            match std::fs::metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io("look at")(error)),
                Ok(found) if found.len() <= FILE_MAX => {
                    let bytes = std::fs::read(&path).map_err(io("read"))?;
                    if let Some(table) = decode(&bytes) {
                        return Ok(table);
                    }
                }
                Ok(_) => {}
            }
            let aside = self.folder.join("scores.damaged");
            say(format_args!("{} is damaged: set aside as {}", path.display(), aside.display()));
            std::fs::rename(&path, &aside).map_err(io("set aside"))?;
        }
        Ok(Table::default())
    }
}

fn home_folder() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty());
    let state = state.map(PathBuf::from).or_else(|| {
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".local").join("state"))
    })?;
    Some(state.join("arcade"))
}

fn replace(folder: &Path, text: &[u8]) -> Result<(), StoreError> {
    let [new, current, old] = ["scores.new", "scores", "scores.old"].map(|name| folder.join(name));
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { what, path, source }
    };
    let mut file = File::create(&new).map_err(io("create", &new))?;
    file.write_all(text).map_err(io("write", &new))?;
    file.sync_all().map_err(io("flush", &new))?;
    match std::fs::rename(&current, &old) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("keep", &current)(error));
        }
        _ => {}
    }
    std::fs::rename(&new, &current).map_err(io("replace", &current))?;
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(io("flush", folder))
}

fn encode(table: &Table) -> Vec<u8> {
    // A table holds only strings and numbers; it cannot fail to serialise.
    let json = serde_json::to_string(table).unwrap_or_default();
    format!("{MAGIC} {} {:016x}\n{json}\n", json.len(), checksum(json.as_bytes())).into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Table> {
    let (head, body) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    let json = body.strip_suffix('\n')?;
    let wanted = format!("{MAGIC} {} {:016x}", json.len(), checksum(json.as_bytes()));
    if head != wanted {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// FNV-1a, 64 bits: finds a torn write or a flipped bit, and is no protection against intent.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::game::Speed;
    use crate::scores::table::Outcome;

    fn table(score: u32) -> Table {
        let speed = Speed::try_from(5).unwrap();
        let (name, replica) = ("Ada".to_owned(), "arena.1".to_owned());
        let mut table = Table::default();
        assert!(table.add(&Outcome { name, colour: 3, score, speed, replica }));
        table
    }

    fn reopened(folder: &Path) -> Table {
        Store::open_at(folder).unwrap().1
    }

    #[test]
    fn any_cut_of_any_file_gives_the_last_table_or_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), &encode(&table(1))).unwrap();
        replace(dir.path(), &encode(&table(2))).unwrap();
        assert_eq!(reopened(dir.path()), table(2));
        let whole = encode(&table(2));
        for cut in 0..whole.len() {
            std::fs::write(dir.path().join("scores"), &whole[..cut]).unwrap();
            assert_eq!(reopened(dir.path()), table(1), "cut at {cut}");
            assert_eq!(std::fs::read(dir.path().join("scores.damaged")).unwrap(), &whole[..cut]);
        }
    }

    #[test]
    fn a_crash_between_the_renames_keeps_a_table() {
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), &encode(&table(1))).unwrap();
        std::fs::write(dir.path().join("scores.new"), encode(&table(2))).unwrap();
        std::fs::rename(dir.path().join("scores"), dir.path().join("scores.old")).unwrap();
        assert_eq!(reopened(dir.path()), table(1));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = encode(&table(9));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
