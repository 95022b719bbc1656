//! Bytes of entries and history rows: little-endian numbers, then what they count.

use crate::store::{Change, Entry, LeaseId, StoreError};

/// An entry without its key: created, modified, lease (0 is none), value.
pub(crate) fn entry_bytes(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + entry.value.len());
    bytes.extend(entry.created.to_le_bytes());
    bytes.extend(entry.modified.to_le_bytes());
    bytes.extend(entry.lease.map_or(0, |lease| lease.0).to_le_bytes());
    bytes.extend(&entry.value);
    bytes
}

pub(crate) fn entry(key: &str, bytes: &[u8]) -> Result<Entry, StoreError> {
    let mut bytes = Bytes { rest: bytes };
    let read = (|| Some((bytes.number()?, bytes.number()?, bytes.number()?)))();
    let (created, modified, lease) = read.ok_or_else(|| corrupt(key))?;
    let lease = (lease != 0).then_some(LeaseId(lease));
    Ok(Entry { key: key.to_owned(), value: bytes.rest.to_vec(), created, modified, lease })
}

/// A row: for each change its key, and its entry or nothing.
pub(crate) fn row_bytes(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for change in changes {
        piece(&mut bytes, change.key.as_bytes());
        bytes.push(u8::from(change.entry.is_some()));
        if let Some(entry) = &change.entry {
            piece(&mut bytes, &entry_bytes(entry));
        }
    }
    bytes
}

pub(crate) fn row(revision: u64, bytes: &[u8]) -> Result<Vec<Change>, StoreError> {
    let broken = || corrupt(&format!("the history of revision {revision}"));
    let mut bytes = Bytes { rest: bytes };
    let mut changes = Vec::new();
    while !bytes.rest.is_empty() {
        let key = bytes.piece().and_then(|key| std::str::from_utf8(key).ok()).ok_or_else(broken)?;
        let entry = match bytes.take(1).ok_or_else(broken)? {
            [0] => None,
            _ => Some(entry(key, bytes.piece().ok_or_else(broken)?)?),
        };
        changes.push(Change { revision, key: key.to_owned(), entry });
    }
    Ok(changes)
}

fn piece(bytes: &mut Vec<u8>, piece: &[u8]) {
    bytes.extend((piece.len() as u64).to_le_bytes());
    bytes.extend(piece);
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt { what: what.to_owned(), cause: "it is cut short".to_owned() }
}

struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn piece(&mut self) -> Option<&'a [u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.take(count)
    }
}
