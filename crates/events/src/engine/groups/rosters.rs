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

pub(super) struct Now {
    pub(super) group: Group,
    /// Another one has its name now.
    pub(super) is_gone: bool,
    /// A step is being written; who finds it so was not told how that went.
    is_unsure: bool,
}

/// Topics as they were at one moment at least.
pub(super) struct Topics<'a> {
    pub(super) log: &'a Log,
    pub(super) version: u64,
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

    pub(super) async fn is_empty(&self) -> bool {
        self.now.lock().await.group.members.is_empty()
    }

    /// `None` for one that never was more than asked for.
    pub(super) async fn listed(&self) -> Option<Listed> {
        let now = self.now.lock().await;
        let (state, sharing) = (now.group.phase().name(), Some(self.sharing));
        (now.group.epoch > 0).then(|| Listed { state, sharing, ..Listed::default() })
    }

    /// Whether a member of that epoch may commit; nobody's epoch is negative, and nobody may when
    /// there are members. A client that `knows_epochs` is as new as they are.
    pub(super) async fn may_commit(
        &self,
        member: &str,
        epoch: i32,
        knows_epochs: bool,
    ) -> Result<(), GroupError> {
        if self.sharing == Sharing::Share {
            return Err(GroupError::NotFound);
        }
        let now = self.now.lock().await;
        if epoch < 0 && now.group.members.is_empty() {
            return Ok(());
        }
        let is_told = now.group.members.get(member).is_some_and(|member| member.alike.is_none());
        match is_told && !knows_epochs {
            true => Err(GroupError::TooOld),
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
            let topics = self.topics();
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
                // It was made for this beat alone: what there was before is there again.
                now.is_gone = true;
                let before = self.log.journal.get(&Key::new(Kind::Group, &[name]));
                let mut all = lock(&self.all);
                match before {
                    Some(value) => drop(all.insert(name.to_owned(), self.load_classic(&value))),
                    None => drop(all.remove(name)),
                }
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
        let group = match all.get(name) {
            Some(Slot::Roster(roster)) => return Ok(Arc::clone(roster)),
            Some(Slot::Classic(held)) => {
                let mut held = lock(held);
                if sharing == Sharing::Share {
                    return Err(GroupError::NotFound);
                }
                if held.is_writing() {
                    return Err(GroupError::NotAvailable);
                }
                // One that nobody is in, nor about to be, is taken as it is.
                let group = match held.group.is_empty() && held.group.state == State::Empty {
                    true => Group::new(sharing, held.group.generation),
                    false => self.told_from_now_on(&held)?,
                };
                held.is_gone = true;
                held.send_away();
                group
            }
            None if all.len() >= GROUPS_MAX => return Err(GroupError::Full),
            None => Group::new(sharing, 0),
        };
        let roster = Roster::new(group);
        all.insert(name.to_owned(), Slot::Roster(Arc::clone(&roster)));
        Ok(roster)
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
        let (shares, _writing) = self.shares.forgetting(name).await;
        let mut changes = self.without(name);
        changes.extend(shares);
        self.log.journal.change(changes).await?;
        now.is_gone = true;
        lock(&self.all).remove(name);
        self.shares.forgotten(name);
        Ok(Some(true))
    }

    /// Removes members that are overdue. Call it every [`super::TICK`].
    pub async fn tick_members(&self) {
        let all: Vec<_> =
            lock(&self.all).iter().map(|(name, slot)| (name.clone(), slot.clone())).collect();
        for (name, slot) in all {
            let Slot::Roster(roster) = slot else { continue };
            // One that is being written is looked at the next time.
            let Ok(mut now) = roster.now.try_lock() else { continue };
            if now.is_gone || now.is_unsure {
                continue;
            }
            for id in now.group.overdue(self.now_ms()) {
                now.group.remove(&id);
            }
            // If that cannot be written they stay for another session.
            if self.keep(&name, &mut now).await.is_ok() {
                self.share_out_again(&name, &mut now);
            }
        }
    }

    /// Takes a group's turn.
    pub(super) async fn enter<'a>(&self, name: &str, roster: &'a Roster) -> MutexGuard<'a, Now> {
        let mut now = roster.now.lock().await;
        if now.is_unsure {
            self.reread(name, &mut now);
        }
        now
    }

    /// Writes what changed.
    pub(super) async fn keep(&self, name: &str, now: &mut Now) -> Result<(), GroupError> {
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
