//! Groups whose members are told what is theirs, with journal and clock: [`Groups::beat`].
//!
//! Not here: what a group decides (`membership`). Invariants: one step of a group at a time, and each
//! is durable before it is told; a step that cannot be written did not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use regex::{Regex, RegexBuilder};
use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard};

use super::classic::{GroupError, State};
use super::membership::{Beat, Beaten, Catalog, Group, JOINING, Member, Sharing};
use super::{GROUPS_MAX, Groups, Listed, Slot};
use crate::engine::journal::{Change, Key, Kind};
use crate::engine::log::Log;
use crate::engine::sync::lock;

/// Longest pattern of topics.
const PATTERN_BYTES_MAX: usize = 4096;

/// Most memory that a pattern may take when it is looked for.
const PATTERN_MEMORY_MAX: usize = 1 << 20;

/// A group, and whether what is in memory is what is written.
pub(super) struct Roster {
    sharing: Sharing,
    now: Mutex<Now>,
}

struct Now {
    group: Group,
    /// Another one has its name now.
    is_gone: bool,
    /// A step is being written; who finds it so was not told how that went.
    is_unsure: bool,
}

/// Topics as they were at one moment at least.
struct Topics<'a> {
    log: &'a Log,
    version: u64,
}

impl Catalog for Topics<'_> {
    fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<(u128, i32)> {
        let topic = self.log.topic(name)?;
        Some((topic.id, i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
    }
}

impl Roster {
    fn new(group: Group) -> Arc<Roster> {
        let sharing = group.sharing;
        let now = Mutex::new(Now { group, is_gone: false, is_unsure: false });
        Arc::new(Roster { sharing, now })
    }

    /// `None` for one that never was more than asked for.
    pub(super) async fn listed(&self) -> Option<Listed> {
        let now = self.now.lock().await;
        let (state, sharing) = (now.group.phase().name(), Some(self.sharing));
        (now.group.epoch > 0).then(|| Listed { state, sharing, ..Listed::default() })
    }

    /// Whether a member of that epoch may commit; nobody's epoch is negative, and nobody may when
    /// there are members.
    pub(super) async fn may_commit(&self, member: &str, epoch: i32) -> Result<(), GroupError> {
        if self.sharing == Sharing::Share {
            return Err(GroupError::NotFound);
        }
        let now = self.now.lock().await;
        match epoch < 0 && now.group.members.is_empty() {
            true => Ok(()),
            false => now.group.check(member, epoch),
        }
    }
}

impl Groups {
    /// How the members of a group that are told what is theirs have partitions; `None` for groups of
    /// the other kind, and for none.
    pub fn sharing(&self, name: &str) -> Option<Sharing> {
        self.roster(name).map(|roster| roster.sharing)
    }

    pub(super) fn roster(&self, name: &str) -> Option<Arc<Roster>> {
        match lock(&self.all).get(name) {
            Some(Slot::Roster(roster)) => Some(Arc::clone(roster)),
            Some(Slot::Classic(_)) | None => None,
        }
    }

    /// A group whose members are told what is theirs, as it stands, if there is one.
    pub async fn members(&self, name: &str, sharing: Sharing) -> Option<Group> {
        let roster = self.roster(name).filter(|roster| roster.sharing == sharing)?;
        let now = roster.now.lock().await;
        (now.group.epoch > 0).then(|| now.group.clone())
    }

    /// Whether somebody may know what a group committed: a member that says its epoch, if it is a
    /// group that has epochs; nobody but members says one.
    ///
    /// # Errors
    /// When it says another epoch, or is no member.
    pub async fn may_fetch(
        &self,
        name: &str,
        member: Option<&str>,
        epoch: i32,
    ) -> Result<(), GroupError> {
        let Some(roster) = self.roster(name) else { return Ok(()) };
        if member.is_none() && epoch < 0 {
            return Ok(());
        }
        roster.now.lock().await.group.check(member.unwrap_or_default(), epoch)
    }

    /// A member says that it is there, comes or goes; resolves when what it is told is durable.
    /// `may_see` says of topics whether it may know of them.
    ///
    /// # Errors
    /// When it is not who it says, or has to begin anew.
    pub async fn beat(
        &self,
        name: &str,
        sharing: Sharing,
        mut beat: Beat,
        may_see: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Beaten, GroupError> {
        loop {
            let roster = match beat.epoch {
                JOINING => self.roster_or_new(name, sharing)?,
                _ => self.roster(name).ok_or(GroupError::NotFound)?,
            };
            if roster.sharing != sharing {
                return Err(GroupError::NotFound);
            }
            let mut now = self.enter(name, &roster).await;
            if now.is_gone {
                continue;
            }
            let topics = Topics { log: &self.log, version: self.log.topics_version() };
            let pattern = now.group.to_match(&beat, topics.version).map(str::to_owned);
            let matched = pattern.map(|pattern| self.matching(&pattern, may_see)).transpose();
            let done = matched.and_then(|matched| {
                beat.matched = matched;
                now.group.beat(&beat, self.now_ms(), &topics)
            });
            let kept = match done {
                Ok(beaten) => self.keep(name, &mut now).await.map(|()| beaten),
                Err(error) => Err(error),
            };
            if kept.is_err() && now.group.epoch == 0 {
                // It was made for this beat alone.
                now.is_gone = true;
                lock(&self.all).remove(name);
            }
            return kept;
        }
    }

    /// Topics whose whole name fits a pattern, of those that somebody may see.
    fn matching(
        &self,
        pattern: &str,
        may_see: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<BTreeSet<String>, GroupError> {
        let regex = compile(pattern)?;
        let topics = self.log.topics();
        let fits = topics.iter().map(|topic| &topic.name).filter(|name| regex.is_match(name));
        Ok(fits.filter(|name| may_see(name)).cloned().collect())
    }

    fn roster_or_new(&self, name: &str, sharing: Sharing) -> Result<Arc<Roster>, GroupError> {
        let mut all = lock(&self.all);
        let mut epoch = 0;
        match all.get(name) {
            Some(Slot::Roster(roster)) => return Ok(Arc::clone(roster)),
            Some(Slot::Classic(held)) => {
                // One that nobody is in, nor about to be, may become one of this kind.
                let mut held = lock(held);
                let group = &held.group;
                let is_free = group.is_empty() && group.state == State::Empty;
                if !is_free || sharing == Sharing::Share {
                    return Err(GroupError::NotFound);
                }
                epoch = group.generation;
                held.is_gone = true;
            }
            None if all.len() >= GROUPS_MAX => return Err(GroupError::Full),
            None => {}
        }
        let roster = Roster::new(Group::new(sharing, epoch));
        all.insert(name.to_owned(), Slot::Roster(Arc::clone(&roster)));
        Ok(roster)
    }

    /// A group without members may become one whose members share out among themselves.
    pub(super) async fn make_classic(
        &self,
        name: &str,
        roster: &Arc<Roster>,
    ) -> Result<(), GroupError> {
        let mut now = self.enter(name, roster).await;
        if now.is_gone {
            return Ok(());
        }
        if !now.group.members.is_empty() || roster.sharing == Sharing::Share {
            return Err(GroupError::OtherKind);
        }
        // As a record it stays what it was until there are members.
        now.is_gone = true;
        let classic = self.new_classic(now.group.epoch);
        lock(&self.all).insert(name.to_owned(), classic);
        Ok(())
    }

    pub(super) async fn delete_roster(
        &self,
        name: &str,
        roster: &Arc<Roster>,
    ) -> Result<Option<bool>, volumes::AppendError> {
        let mut now = self.enter(name, roster).await;
        if now.is_gone || now.group.epoch == 0 {
            return Ok(None);
        }
        if !now.group.members.is_empty() {
            return Ok(Some(false));
        }
        self.log.journal.change(self.without(name)).await?;
        now.is_gone = true;
        lock(&self.all).remove(name);
        Ok(Some(true))
    }

    /// Removes members that are overdue. Call it every [`super::TICK`].
    pub async fn tick_members(&self) {
        let all: Vec<_> =
            lock(&self.all).iter().map(|(name, slot)| (name.clone(), slot.clone())).collect();
        for (name, slot) in all {
            let Slot::Roster(roster) = slot else { continue };
            // One that is being written is looked at the next time.
            let Ok(now) = roster.now.try_lock() else { continue };
            if now.is_gone || now.group.overdue(self.now_ms()).is_empty() {
                continue;
            }
            drop(now);
            let mut now = self.enter(&name, &roster).await;
            for id in now.group.overdue(self.now_ms()) {
                now.group.remove(&id);
            }
            // If that cannot be written they stay for another session.
            let _ = self.keep(&name, &mut now).await;
        }
    }

    /// Takes a group's turn.
    async fn enter<'a>(&self, name: &str, roster: &'a Roster) -> MutexGuard<'a, Now> {
        let mut now = roster.now.lock().await;
        if now.is_unsure {
            self.reread(name, &mut now);
        }
        now
    }

    /// Writes what changed.
    async fn keep(&self, name: &str, now: &mut Now) -> Result<(), GroupError> {
        let changed = now.group.take_changed();
        let mut changes: Vec<Change> = Vec::new();
        if changed.group {
            changes.push((Key::new(Kind::Group, &[name]), Some(written(&now.group))));
        }
        changes.extend(changed.members.iter().map(|id| {
            let member = now.group.members.get(id).map(written);
            (Key::new(Kind::Member, &[name, id]), member)
        }));
        if changes.is_empty() {
            return Ok(());
        }
        // Whoever asked may hang up while this waits.
        now.is_unsure = true;
        let done = self.log.journal.change(changes).await;
        now.is_unsure = false;
        done.map_err(|_| {
            self.reread(name, now);
            GroupError::NotAvailable
        })
    }

    fn reread(&self, name: &str, now: &mut Now) {
        now.is_unsure = false;
        let value = self.log.journal.get(&Key::new(Kind::Group, &[name]));
        let read = value.and_then(|value| self.read_group(name, &value));
        now.group = read.unwrap_or_else(|| Group::new(now.group.sharing, 0));
    }

    /// A group of this kind as the journal has it.
    fn read_group(&self, name: &str, value: &[u8]) -> Option<Group> {
        let mut group: Group = serde_json::from_slice(value).ok()?;
        let mut members: BTreeMap<String, Member> = BTreeMap::new();
        for (key, value) in self.log.journal.list(Kind::Member, &[name]) {
            // A member that cannot be read joins again.
            let member = serde_json::from_slice(&value).ok();
            let id = key.parts().get(1).map(|id| (*id).to_owned());
            members.extend(id.zip(member));
        }
        group.resumed(members, self.now_ms());
        Some(group)
    }

    pub(super) fn load_roster(&self, name: &str, value: &[u8]) -> Option<Arc<Roster>> {
        self.read_group(name, value).map(Roster::new)
    }
}

/// Checks a pattern of topics, which has to fit their whole name.
///
/// # Errors
/// When it is none.
fn compile(pattern: &str) -> Result<Regex, GroupError> {
    let build = |pattern: &str| {
        let built = RegexBuilder::new(pattern).size_limit(PATTERN_MEMORY_MAX).build();
        built.map_err(|_| GroupError::Pattern)
    };
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(GroupError::Pattern);
    }
    // Alone first: in parentheses half a pattern could be a whole one.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

fn written(value: &impl Serialize) -> Bytes {
    // These are structures of text and numbers: they always have a form.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}
