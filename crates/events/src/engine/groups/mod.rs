//! Groups: who reads what, and how far they are.
//!
//! Not here: how members agree (`classic`), the protocol's messages. This is where groups meet the
//! journal and the clock: what is promised is durable before it is said.
//!
//! Invariants: an offset that was acknowledged is what the next fetch of it gives, also after a
//! crash; after a restart members whose session is not over carry on.

pub mod classic;
pub mod offsets;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use self::classic::{Group, GroupError, Join, Joined, Out, State, Token};
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
    all: Mutex<HashMap<String, Arc<Mutex<Held>>>>,
    first_delay_ms: u64,
}

#[derive(Default)]
struct Held {
    group: Group,
    tokens: Token,
    joins: HashMap<Token, oneshot::Sender<JoinResult>>,
    syncs: HashMap<Token, oneshot::Sender<SyncResult>>,
}

/// A group as it is described.
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
        let groups =
            Arc::new(Groups { log: Arc::clone(log), all: Mutex::default(), first_delay_ms });
        groups.load();
        groups
    }

    fn load(&self) {
        let now = self.now_ms();
        let mut all = HashMap::new();
        for (key, value) in self.log.journal.list(Kind::Group, &[]) {
            // A group that cannot be read has no members: they join again.
            let mut group: Group = serde_json::from_slice(&value).unwrap_or_default();
            group.first_delay_ms = self.first_delay_ms;
            group.resumed(now);
            let name = key.parts().first().copied().unwrap_or_default().to_owned();
            all.insert(name, Arc::new(Mutex::new(Held { group, ..Held::default() })));
        }
        *lock(&self.all) = all;
    }

    fn now_ms(&self) -> u64 {
        self.log.clock.steady().0 / 1_000_000
    }

    fn find(&self, name: &str) -> Option<Arc<Mutex<Held>>> {
        lock(&self.all).get(name).cloned()
    }

    fn find_or_make(&self, name: &str) -> Option<Arc<Mutex<Held>>> {
        let mut all = lock(&self.all);
        if let Some(found) = all.get(name) {
            return Some(Arc::clone(found));
        }
        if all.len() >= GROUPS_MAX {
            return None;
        }
        let mut group = Group::default();
        group.first_delay_ms = self.first_delay_ms;
        let held = Arc::new(Mutex::new(Held { group, ..Held::default() }));
        all.insert(name.to_owned(), Arc::clone(&held));
        Some(held)
    }

    /// Somebody joins; resolves when all have joined.
    ///
    /// # Errors
    /// When they do not become a member, with the id that they were given.
    pub async fn join(&self, name: &str, join: Join, new_id: &str) -> JoinResult {
        let full = || Err((GroupError::Full, join.member.clone()));
        let Some(held) = self.find_or_make(name) else { return full() };
        let answer = {
            let mut held = lock(&held);
            let token = held.token();
            let (sender, answer) = oneshot::channel();
            held.joins.insert(token, sender);
            held.group.join(join, token, new_id, self.now_ms());
            held.answer();
            answer
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
        let held = self.find(name).ok_or(GroupError::UnknownMember)?;
        let (answer, to_write) = {
            let mut held = lock(&held);
            held.group.check(member, instance, generation)?;
            let token = held.token();
            let (sender, answer) = oneshot::channel();
            held.syncs.insert(token, sender);
            let decided = held.group.sync(member, assignments, token, self.now_ms());
            held.answer();
            (answer, decided.then(|| change(name, Some(&held.group))))
        };
        if let Some(change) = to_write {
            let written = self.log.journal.change(vec![change]).await.is_ok();
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
    pub fn heartbeat(
        &self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let held = self.find(name).ok_or(GroupError::UnknownMember)?;
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
        let held = self.find(name).ok_or(GroupError::UnknownMember)?;
        let (done, change) = {
            let mut held = lock(&held);
            let now = self.now_ms();
            let one = |(member, instance): &(String, Option<String>)| {
                held.group.leave(member, instance.as_deref(), now)
            };
            let done: Vec<_> = members.iter().map(one).collect();
            held.answer();
            let empty = held.group.members.is_empty();
            (done, empty.then(|| change(name, Some(&held.group))))
        };
        // That nobody is left is worth knowing after a restart; if it cannot be written their
        // sessions end by themselves.
        if let Some(change) = change {
            let _ = self.log.journal.change(vec![change]).await;
        }
        Ok(done)
    }

    /// Does what is due in every group. Call it every [`TICK`].
    pub fn tick(&self) {
        let now = self.now_ms();
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        for held in all {
            let mut held = lock(&held);
            if !held.group.is_empty() || held.group.state != State::Empty {
                held.group.tick(now);
                held.answer();
            }
        }
    }

    /// Every group by name, with where it stands and what it is for.
    pub fn list(&self) -> BTreeMap<String, (State, String)> {
        let mut found = BTreeMap::new();
        // Who commits offsets alone is a group too.
        for (key, _) in self.log.journal.list(Kind::Offset, &[]) {
            let name = key.parts().first().copied().unwrap_or_default().to_owned();
            found.entry(name).or_insert((State::Empty, String::new()));
        }
        for (name, held) in &*lock(&self.all) {
            let held = lock(held);
            let kind = held.group.kind.clone().unwrap_or_default();
            let is_one = !held.group.is_empty() || held.group.generation > 0;
            if is_one || found.contains_key(name) {
                found.insert(name.clone(), (held.group.state, kind));
            }
        }
        found
    }

    /// A group, if there is one.
    pub fn describe(&self, name: &str) -> Option<Described> {
        let held = self.find(name);
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
        let Some(described) = self.describe(name) else { return Ok(None) };
        if !described.members.is_empty() {
            return Ok(Some(false));
        }
        let offsets = self.log.journal.list(Kind::Offset, &[name]);
        let mut changes: Vec<Change> = offsets.into_iter().map(|(key, _)| (key, None)).collect();
        changes.push(change(name, None));
        self.log.journal.change(changes).await?;
        lock(&self.all).remove(name);
        Ok(Some(true))
    }

    /// Whether a member of that generation may commit.
    ///
    /// # Errors
    /// When it may not.
    pub fn may_commit(
        &self,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let Some(held) = self.find(name) else {
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
