//! Groups: who reads what, and how far they are.
//!
//! Not here: how members agree (`classic`) or are told (`membership`), the protocol's messages. This is where groups meet the
//! journal and the clock: what is promised is durable before it is said.
//!
//! Invariants: an offset that was acknowledged is what the next fetch of it gives, also after a
//! crash; after a restart members whose session is not over carry on.

pub mod assign;
pub mod classic;
mod consumer;
#[cfg(test)]
mod consumer_tests;
pub mod letters;
pub mod membership;
pub mod mixed;
pub mod offsets;
mod rosters;
pub mod rules;
pub mod share;
pub mod shares;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use self::classic::{Group, GroupError, Join, Joined, Out, State, Token};
use self::membership::Sharing;
use self::mixed::Speech;
use self::rosters::Roster;
use self::shares::Shares;
use super::journal::{Change, Key, Kind};
use super::log::Log;
use super::sync::lock;

/// How often silent members are looked for.
pub const TICK: Duration = Duration::from_millis(100);

/// Most groups.
const GROUPS_MAX: usize = 100_000;

type JoinResult = Result<Joined, (GroupError, String)>;
type SyncResult = Result<Vec<u8>, GroupError>;

/// All groups of a log.
pub struct Groups {
    pub(crate) log: Arc<Log>,
    all: Mutex<HashMap<String, Slot>>,
    first_delay_ms: u64,
    speech: OnceLock<&'static dyn Speech>,
    /// What share groups have of partitions.
    pub shares: Shares,
    /// Groups without members that have offsets, and when that was seen first.
    idle: Mutex<HashMap<String, i64>>,
}

/// A group of either kind.
#[derive(Clone)]
enum Slot {
    /// Members share out among themselves.
    Classic(Arc<Mutex<Held>>),
    /// Members are told what is theirs.
    Roster(Arc<Roster>),
}

#[derive(Default)]
struct Held {
    group: Group,
    /// Another one has its name now.
    is_gone: bool,
    /// Held by whoever writes it.
    writing: Arc<()>,
    tokens: Token,
    joins: HashMap<Token, oneshot::Sender<JoinResult>>,
    syncs: HashMap<Token, oneshot::Sender<SyncResult>>,
}

/// A group as it is listed.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Where it stands, as the protocol calls it.
    pub state: &'static str,
    /// What a group of the first kind is for.
    pub kind: String,
    /// How the members of the other kind have partitions.
    pub sharing: Option<Sharing>,
}

/// A group whose members share out among themselves, as it is described.
#[derive(Clone, Debug)]
pub struct Described {
    /// Where it stands.
    pub state: State,
    /// What it is for.
    pub kind: String,
    /// How it is shared out.
    pub protocol: String,
    /// Members by id.
    pub members: BTreeMap<String, classic::Member>,
}

impl Held {
    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    fn is_writing(&self) -> bool {
        Arc::strong_count(&self.writing) > 1
    }

    /// Whoever waits is to join again.
    fn send_away(&mut self) {
        for (_, waiting) in self.joins.drain() {
            let _ = waiting.send(Err((GroupError::Rebalancing, String::new())));
        }
        for (_, waiting) in self.syncs.drain() {
            let _ = waiting.send(Err(GroupError::Rebalancing));
        }
    }

    /// Gives answers to those who wait.
    fn answer(&mut self) {
        for out in self.group.take_out() {
            // Who hung up is not there any more.
            match out {
                Out::Join(token, result) => {
                    let _ = self.joins.remove(&token).map(|waiting| waiting.send(result));
                }
                Out::Sync(token, result) => {
                    let _ = self.syncs.remove(&token).map(|waiting| waiting.send(result));
                }
            }
        }
    }
}

impl Groups {
    /// Groups as the journal has them. `first_delay` is how long a group without members waits
    /// for more when the first one comes.
    pub fn open(log: &Arc<Log>, first_delay: Duration) -> Arc<Groups> {
        let first_delay_ms = u64::try_from(first_delay.as_millis()).unwrap_or(u64::MAX);
        let (log, speech) = (Arc::clone(log), OnceLock::new());
        let shares = Shares::new(&log);
        let (all, idle) = Default::default();
        let groups = Arc::new(Groups { log, all, first_delay_ms, speech, shares, idle });
        groups.load();
        groups
    }

    fn load(&self) {
        let mut all = HashMap::new();
        for (key, value) in self.log.journal.list(Kind::Group, &[]) {
            let name = key.parts().first().copied().unwrap_or_default().to_owned();
            if let Some(roster) = self.load_roster(&name, &value) {
                all.insert(name, Slot::Roster(roster));
                continue;
            }
            all.insert(name, self.load_classic(&value));
        }
        *lock(&self.all) = all;
    }

    fn load_classic(&self, value: &[u8]) -> Slot {
        // A group that cannot be read has no members: they join again.
        let mut group: Group = serde_json::from_slice(value).unwrap_or_default();
        group.first_delay_ms = self.first_delay_ms;
        group.resumed(self.now_ms());
        let held = Held { group, ..Held::default() };
        Slot::Classic(Arc::new(Mutex::new(held)))
    }

    fn now_ms(&self) -> u64 {
        self.log.clock.steady().0 / 1_000_000
    }

    fn find(&self, name: &str) -> Result<Arc<Mutex<Held>>, GroupError> {
        match lock(&self.all).get(name) {
            Some(Slot::Classic(held)) => Ok(Arc::clone(held)),
            Some(Slot::Roster(_)) | None => Err(GroupError::UnknownMember),
        }
    }

    fn find_or_make(&self, name: &str) -> Result<Slot, GroupError> {
        let mut all = lock(&self.all);
        if let Some(found) = all.get(name) {
            return Ok(found.clone());
        }
        if all.len() >= GROUPS_MAX {
            return Err(GroupError::Full);
        }
        let mut held = Held::default();
        held.group.first_delay_ms = self.first_delay_ms;
        let slot = Slot::Classic(Arc::new(Mutex::new(held)));
        all.insert(name.to_owned(), slot.clone());
        Ok(slot)
    }

    /// Somebody joins; resolves when all have joined.
    ///
    /// # Errors
    /// When they do not become a member, with the id that they were given.
    pub async fn join(&self, name: &str, join: Join, new_id: &str) -> JoinResult {
        let refuse = |error| Err((error, join.member.clone()));
        let answer = loop {
            let held = match self.find_or_make(name) {
                Ok(Slot::Classic(held)) => held,
                Ok(Slot::Roster(roster)) => {
                    match self.join_roster(name, &roster, &join, new_id).await {
                        Some(done) => return done,
                        None => continue,
                    }
                }
                Err(error) => return refuse(error),
            };
            let mut held = lock(&held);
            if held.is_gone {
                continue;
            }
            let token = held.token();
            let (sender, answer) = oneshot::channel();
            held.joins.insert(token, sender);
            held.group.join(join, token, new_id, self.now_ms());
            held.answer();
            break answer;
        };
        answer.await.unwrap_or(Err((GroupError::NotAvailable, String::new())))
    }

    /// A member asks what is its own; resolves when the leader has decided and that is written.
    ///
    /// # Errors
    /// When it should join again.
    pub async fn sync(
        &self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        assignments: Vec<(String, Vec<u8>)>,
    ) -> SyncResult {
        if let Some(roster) = self.roster(name) {
            return self.sync_roster(name, &roster, member, instance, generation).await;
        }
        let held = self.find(name)?;
        let (answer, to_write) = {
            let mut held = lock(&held);
            held.group.check(member, instance, generation)?;
            let token = held.token();
            let (sender, answer) = oneshot::channel();
            held.syncs.insert(token, sender);
            let decided = held.group.sync(member, assignments, token, self.now_ms());
            held.answer();
            (answer, decided.then(|| self.changes(name, &held)))
        };
        if let Some((changes, _writing)) = to_write {
            let written = self.log.journal.change(changes).await.is_ok();
            let mut held = lock(&held);
            held.group.settled(generation, written, self.now_ms());
            held.answer();
        }
        answer.await.unwrap_or(Err(GroupError::NotAvailable))
    }

    /// A member is alive.
    ///
    /// # Errors
    /// When it should join again.
    pub async fn heartbeat(
        &self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if let Some(roster) = self.roster(name) {
            return self.heartbeat_roster(name, &roster, member, instance, generation).await;
        }
        let held = self.find(name)?;
        let mut held = lock(&held);
        held.group.check(member, instance, generation)?;
        held.group.heartbeat(member, self.now_ms())
    }

    /// Members go, each by its id or its lasting name. Returns what came of each.
    ///
    /// # Errors
    /// When there is no such group.
    pub async fn leave(
        &self,
        name: &str,
        members: &[(String, Option<String>)],
    ) -> Result<Vec<Result<String, GroupError>>, GroupError> {
        if let Some(roster) = self.roster(name) {
            return Ok(self.leave_roster(name, &roster, members).await);
        }
        let held = self.find(name)?;
        let (done, to_write) = {
            let mut held = lock(&held);
            let now = self.now_ms();
            let one = |(member, instance): &(String, Option<String>)| {
                held.group.leave(member, instance.as_deref(), now)
            };
            let done: Vec<_> = members.iter().map(one).collect();
            held.answer();
            let empty = held.group.members.is_empty();
            (done, empty.then(|| self.changes(name, &held)))
        };
        // That nobody is left is worth knowing after a restart; if it cannot be written their
        // sessions end by themselves.
        if let Some((changes, _writing)) = to_write {
            let _ = self.log.journal.change(changes).await;
        }
        Ok(done)
    }

    /// Does what is due in every group. Call it every [`TICK`].
    pub fn tick(&self) {
        let now = self.now_ms();
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        for slot in all {
            let Slot::Classic(held) = slot else { continue };
            let mut held = lock(&held);
            if !held.group.is_empty() || held.group.state != State::Empty {
                held.group.tick(now);
                held.answer();
            }
        }
    }

    /// Every group by name.
    pub async fn list(&self) -> BTreeMap<String, Listed> {
        let mut found = BTreeMap::new();
        // Who commits offsets alone is a group too.
        for (key, _) in self.log.journal.list(Kind::Offset, &[]) {
            let name = key.parts().first().copied().unwrap_or_default().to_owned();
            let state = State::Empty.name();
            found.entry(name).or_insert(Listed { state, ..Listed::default() });
        }
        let all: Vec<_> =
            lock(&self.all).iter().map(|(name, slot)| (name.clone(), slot.clone())).collect();
        for (name, slot) in all {
            let listed = match slot {
                Slot::Classic(held) => {
                    let held = lock(&held);
                    let is_one = !held.group.is_empty() || held.group.generation > 0;
                    let kind = held.group.kind.clone().unwrap_or_default();
                    let listed = Listed { state: held.group.state.name(), kind, sharing: None };
                    (is_one || found.contains_key(&name)).then_some(listed)
                }
                Slot::Roster(roster) => roster.listed().await,
            };
            if let Some(listed) = listed {
                found.insert(name, listed);
            }
        }
        found
    }

    /// A group, if there is one whose members share out among themselves.
    pub fn describe(&self, name: &str) -> Option<Described> {
        if self.sharing(name).is_some() {
            return None;
        }
        let held = self.find(name).ok();
        let described = held.and_then(|held| {
            let held = lock(&held);
            let is_one = !held.group.is_empty() || held.group.generation > 0;
            is_one.then(|| Described {
                state: held.group.state,
                kind: held.group.kind.clone().unwrap_or_default(),
                protocol: held.group.protocol.clone().unwrap_or_default(),
                members: held.group.members.clone(),
            })
        });
        described.or_else(|| {
            let has_offsets = !self.log.journal.list(Kind::Offset, &[name]).is_empty();
            has_offsets.then(|| Described {
                state: State::Empty,
                kind: String::new(),
                protocol: String::new(),
                members: BTreeMap::new(),
            })
        })
    }

    /// Deletes a group without members, with its offsets. `None` when there is no such group,
    /// `Some(false)` when it has members.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn delete(&self, name: &str) -> Result<Option<bool>, volumes::AppendError> {
        if let Some(roster) = self.roster(name) {
            return self.delete_roster(name, &roster).await;
        }
        let Some(described) = self.describe(name) else { return Ok(None) };
        if !described.members.is_empty() {
            return Ok(Some(false));
        }
        self.log.journal.change(self.without(name)).await?;
        lock(&self.all).remove(name);
        Ok(Some(true))
    }

    /// What writes a group down; the other is to be kept until that is done. Members of it that
    /// were told what is theirs are such members no more.
    fn changes(&self, name: &str, held: &Held) -> (Vec<Change>, Arc<()>) {
        let mut changes = self.without_members(name);
        changes.push(change(name, Some(&held.group)));
        (changes, Arc::clone(&held.writing))
    }

    fn without_members(&self, name: &str) -> Vec<Change> {
        let members = self.log.journal.list(Kind::Member, &[name]);
        members.into_iter().map(|(key, _)| (key, None)).collect()
    }

    /// What forgets a group without members.
    fn without(&self, name: &str) -> Vec<Change> {
        let offsets = self.log.journal.list(Kind::Offset, &[name]);
        let mut changes = self.without_members(name);
        changes.extend(offsets.into_iter().map(|(key, _)| (key, None)));
        changes.push(change(name, None));
        changes
    }

    /// Whether a member of that generation may commit; a client that `knows_epochs` is as new as
    /// groups whose members are told what is theirs.
    ///
    /// # Errors
    /// When it may not.
    pub async fn may_commit(
        &self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        knows_epochs: bool,
    ) -> Result<(), GroupError> {
        if let Some(roster) = self.roster(name) {
            return roster.may_commit(member, generation, knows_epochs).await;
        }
        let Ok(held) = self.find(name) else {
            return if generation < 0 { Ok(()) } else { Err(GroupError::IllegalGeneration) };
        };
        let mut held = lock(&held);
        let group = &mut held.group;
        if generation < 0 && member.is_empty() && group.members.is_empty() {
            return Ok(());
        }
        group.check(member, instance, generation)?;
        if group.state == State::Completing {
            return Err(GroupError::Rebalancing);
        }
        // A member that commits is alive; while others are awaited what it did still counts.
        match group.heartbeat(member, self.now_ms()) {
            Err(GroupError::Rebalancing) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn change(name: &str, group: Option<&Group>) -> Change {
    let value = group.map(|group| Bytes::from(serde_json::to_vec(group).unwrap_or_default()));
    (Key::new(Kind::Group, &[name]), value)
}
