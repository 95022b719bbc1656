//! Reading a volume group by group: what recovery, scrubbing and `verify` share.
//!
//! Invariants: a group is passed on only when its directory verified; what lies between two groups
//! and verifies as none is told as bad, never skipped in silence; memory stays at one group.

use std::io;

use crate::codec::{Footer, GroupHeader, Identity};
use crate::disk::DiskFile;
use crate::format::{BLOCK, Bad, GROUP_BYTES_MAX, GROUP_MAGIC, group_header, low32};
use crate::group::Group;

/// Bytes looked through at once for a later group.
const WINDOW: usize = 256 << 10;

/// What was found at a position.
#[derive(Debug)]
pub(crate) enum Found {
    /// A group; some of its payloads may be damaged.
    Group(Group),
    /// A footer: the volume ends here.
    Footer,
    /// No group, though one was durable here.
    Bad { at: u32, bytes: u32, why: Bad },
    /// Nothing more that was ever durable.
    End { at: u32, cut: u32 },
}

pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    id: Identity,
    at: u32,
    /// Everything below was acknowledged: nothing below it is a torn tail.
    known: Option<u32>,
    /// Number of the next group, once one was seen.
    next: Option<u64>,
    length: u64,
    buffer: Vec<u8>,
}

impl<'a> Scan<'a> {
    /// From the first group on. `known` is where the volume is known to end.
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        id: Identity,
        known: Option<u32>,
    ) -> io::Result<Scan<'a>> {
        let length = file.length()?.min(u32::MAX.into());
        file.will_read(0, known.map_or(length, u64::from));
        let at = low32(BLOCK);
        Ok(Scan { file, id, at, known, next: None, length, buffer: Vec::new() })
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> u32 {
        self.at
    }

    /// The next thing; nothing follows a footer or an end.
    pub(crate) fn step(&mut self) -> io::Result<Found> {
        if self.known.is_some_and(|known| self.at >= known) {
            return Ok(Found::End { at: self.at, cut: 0 });
        }
        let why = match self.group()? {
            Ok(group) if group.is_whole() || self.proof(group.end())?.is_some() => {
                self.at = group.end();
                self.next = Some(group.header.sequence + 1);
                return Ok(Found::Group(group));
            }
            Ok(_) => Bad::Checksum,
            Err(why) => why,
        };
        if Footer::length(&self.buffer, self.id, self.at).is_ok() {
            return Ok(Found::Footer);
        }
        let at = self.at;
        match self.proof(at + low32(BLOCK))? {
            Some((later, sequence)) => {
                self.at = later;
                self.next = sequence;
                Ok(Found::Bad { at, bytes: later - at, why })
            }
            None => {
                let cut = if why == Bad::Magic || why == Bad::Short { 0 } else { self.torn() };
                Ok(Found::End { at, cut })
            }
        }
    }

    /// The group at the present position. The buffer holds what was read.
    fn group(&mut self) -> io::Result<Result<Group, Bad>> {
        self.read(self.at, BLOCK)?;
        let header = match GroupHeader::decode(&self.buffer, self.id, self.at) {
            Ok(header) => header,
            Err(why) => return Ok(Err(why)),
        };
        // The decoder has bounded it.
        self.read(self.at, header.length as usize)?;
        let group = Group::decode(&self.buffer, self.id, self.at);
        let next = self.next;
        Ok(group.and_then(|group| {
            let follows = next.is_none_or(|next| group.header.sequence == next);
            if follows { Ok(group) } else { Err(Bad::Field("sequence")) }
        }))
    }

    /// Where a later group begins that proves that what is at the present position was durable:
    /// it was only written once the one here was. With its number.
    fn proof(&self, from: u32) -> io::Result<Option<(u32, Option<u64>)>> {
        let next = self.next.unwrap_or(0);
        let end = self.known.map_or(self.length, u64::from);
        let mut window = vec![0; WINDOW];
        let mut at = u64::from(from);
        while at < end {
            let read = self.file.read_at(at, &mut window)?;
            for (block, from) in window[..read].chunks(BLOCK).zip((at..).step_by(BLOCK)) {
                let Ok(from) = u32::try_from(from) else { return Ok(None) };
                if !block.starts_with(&GROUP_MAGIC.to_le_bytes()) {
                    continue;
                }
                if let Ok(header) = GroupHeader::decode(block, self.id, from)
                    && header.durable_below > next
                {
                    return Ok(Some((from, Some(header.sequence))));
                }
            }
            if read < WINDOW {
                break;
            }
            at += read as u64;
        }
        // A volume that is known to go on was durable all the way.
        Ok(self.known.filter(|_| u64::from(from) <= end).map(|known| (known, None)))
    }

    /// How much of the torn group at the present position is there.
    fn torn(&self) -> u32 {
        let header = GroupHeader::decode(&self.buffer, self.id, self.at);
        let claimed = header.map_or(BLOCK as u64, |header| header.length.into());
        let there = self.length.saturating_sub(self.at.into());
        u32::try_from(claimed.min(there)).unwrap_or(u32::MAX)
    }

    fn read(&mut self, at: u32, length: usize) -> io::Result<()> {
        debug_assert!((group_header::BYTES..=GROUP_BYTES_MAX).contains(&length));
        self.buffer.resize(length, 0);
        let read = self.file.read_at(at.into(), &mut self.buffer)?;
        self.buffer.truncate(read);
        Ok(())
    }
}
