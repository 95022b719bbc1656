//! A group whose members choose their leader, and whose leader shares out the work: the protocol
//! that every client knows.
//!
//! Pure: time comes in as milliseconds of a clock that only goes on, and who waits for an answer
//! is a number ([`Token`]) that comes out again in [`Out`].
//!
//! ```text
//! Empty ─join─▶ Preparing ─all joined, or time over─▶ Completing ─leader syncs─▶ Stable
//!   ▲               ▲              ▲                       │                      │
//!   └─all left──────┴──────────────┴── a member joins, leaves or is silent ───────┘
//! ```
//!
//! Invariants: a generation has one protocol and one leader; whoever waits gets one answer; a
//! member that is silent for its session is a member no more.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// Most members of a group.
const MEMBERS_MAX: usize = 5000;

/// Most ids given out to clients that did not come back with them yet.
const PROMISED_MAX: usize = 5000;

/// Who waits for an answer.
pub type Token = u64;

/// Why a member does not get what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum GroupError {
    #[error("the group knows no such member")]
    UnknownMember,
    #[error("the member's generation is over")]
    IllegalGeneration,
    #[error("the group is being shared out anew: join again")]
    Rebalancing,
    #[error("no protocol is common to all members")]
    InconsistentProtocol,
    #[error("another instance joined under this name")]
    Fenced,
    #[error("join again with the id that came with this answer")]
    MemberIdRequired,
    #[error("the group has as many members as it may")]
    Full,
    #[error("the session timeout is out of bounds")]
    SessionTimeout,
    #[error("the group's state cannot be written now")]
    NotAvailable,
    #[error("the group is of another kind")]
    OtherKind,
    #[error("there is no such group of this kind")]
    NotFound,
    #[error("the member's epoch is not the one that it was given last: join again")]
    FencedEpoch,
    #[error("the member's epoch is not the one that it was given last")]
    StaleEpoch,
    #[error("another instance of this name is still a member")]
    UnreleasedInstance,
    #[error("members of this kind of group ask for this in a newer version")]
    TooOld,
    #[error("the pattern of topics is no regular expression, or too large a one")]
    Pattern,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No members.
    #[default]
    Empty,
    /// Members are awaited.
    Preparing,
    /// What the leader decides is awaited.
    Completing,
    /// All know what is theirs.
    Stable,
}

impl State {
    /// As the protocol calls it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Preparing => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// Somebody asks to be a member.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// Who it is, empty for somebody new.
    pub member: String,
    /// A name that outlives restarts.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// Silence that ends the membership.
    pub session_ms: u64,
    /// How long it may take to join again.
    pub rebalance_ms: u64,
    /// What the group is for: `consumer`.
    pub kind: String,
    /// Ways of sharing out, the best first, each with what the leader needs to know.
    pub protocols: Vec<(String, Vec<u8>)>,
    /// Whether somebody new has to come back with an id first.
    pub id_required: bool,
}

/// What a member is told when all have joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// What the group is for.
    pub kind: String,
    /// How it is shared out.
    pub protocol: String,
    /// Who does that.
    pub leader: String,
    /// Who this is.
    pub member: String,
    /// For the leader, everybody: id, instance and what it said.
    pub members: Vec<(String, Option<String>, Vec<u8>)>,
    /// The leader came back, and what it decided before still holds.
    pub keep_assignment: bool,
}

/// An answer for somebody who waits.
#[derive(Clone, Debug)]
pub enum Out {
    /// To a join; with an error, the id that was given.
    Join(Token, Result<Joined, (GroupError, String)>),
    /// To a sync: what is the member's.
    Sync(Token, Result<Vec<u8>, GroupError>),
}

/// A member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// A name that outlives restarts.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    pub(super) session_ms: u64,
    pub(super) rebalance_ms: u64,
    pub(super) protocols: Vec<(String, Vec<u8>)>,
    /// What is its own.
    pub assignment: Vec<u8>,
    #[serde(skip)]
    joining: Option<Token>,
    #[serde(skip)]
    syncing: Option<Token>,
    #[serde(skip)]
    silent_from_ms: u64,
}

impl Member {
    /// What it said for a protocol.
    pub fn said(&self, protocol: &str) -> &[u8] {
        self.protocols.iter().find(|(name, _)| name == protocol).map_or(&[], |(_, said)| said)
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }
}

/// A group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// Where it stands; after a restart what it was when it was stable.
    #[serde(skip)]
    pub state: State,
    /// Counts how often it was shared out.
    pub generation: i32,
    /// What it is for.
    pub kind: Option<String>,
    /// How it is shared out.
    pub protocol: Option<String>,
    /// Who does that.
    pub leader: Option<String>,
    /// By id.
    pub members: BTreeMap<String, Member>,
    /// Ids given out, and until when they hold.
    #[serde(skip)]
    promised: HashMap<String, u64>,
    /// When those who did not join again are left out.
    #[serde(skip)]
    deadline_ms: Option<u64>,
    /// How long to wait for more when the first member comes.
    #[serde(skip)]
    pub first_delay_ms: u64,
    #[serde(skip)]
    out: Vec<Out>,
}

impl Group {
    /// After a restart: all who were members have their whole session to be heard of.
    pub fn resumed(&mut self, now_ms: u64) {
        self.state = if self.members.is_empty() { State::Empty } else { State::Stable };
        for member in self.members.values_mut() {
            member.silent_from_ms = now_ms + member.session_ms;
        }
    }

    /// A group of members that are to join again, each with what it holds until then and when its
    /// session is over.
    pub(super) fn of_members(
        generation: i32,
        all: Vec<(Vec<u8>, Join, u64)>,
        now_ms: u64,
    ) -> Group {
        let kind = all.first().map(|(_, join, _)| join.kind.clone());
        let members = all.into_iter().map(|(assignment, join, silent_from_ms)| {
            let member = Member {
                instance: join.instance,
                client: join.client,
                host: join.host,
                session_ms: join.session_ms,
                rebalance_ms: join.rebalance_ms,
                protocols: join.protocols,
                assignment,
                joining: None,
                syncing: None,
                silent_from_ms,
            };
            (join.member, member)
        });
        let members = members.collect();
        let mut group =
            Group { state: State::Stable, generation, kind, members, ..Group::default() };
        group.rebalance(now_ms);
        group
    }

    /// Answers since the last call.
    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// Somebody joins; `new_id` is for somebody new.
    pub fn join(&mut self, join: Join, token: Token, new_id: &str, now_ms: u64) {
        if let Err((error, id)) = self.try_join(join, token, new_id, now_ms) {
            self.out.push(Out::Join(token, Err((error, id))));
        }
    }

    fn try_join(
        &mut self,
        join: Join,
        token: Token,
        new_id: &str,
        now_ms: u64,
    ) -> Result<(), (GroupError, String)> {
        let id = join.member.clone();
        let refuse = |error| Err((error, id.clone()));
        let is_known = self.members.contains_key(&id);
        if !is_known && self.members.len() >= MEMBERS_MAX {
            return refuse(GroupError::Full);
        }
        let fits = join.protocols.iter().any(|(name, _)| {
            self.members
                .iter()
                .filter(|(other, _)| **other != id)
                .all(|(_, member)| member.supports(name))
        });
        let same_kind = self.members.is_empty() || self.kind.as_deref() == Some(&join.kind);
        if join.protocols.is_empty() || join.kind.is_empty() || !same_kind || !fits {
            return refuse(GroupError::InconsistentProtocol);
        }
        let named = join.instance.as_ref().and_then(|instance| self.of_instance(instance));
        if id.is_empty() {
            if let Some(before) = named {
                return self.replace(&before, join, token, new_id, now_ms);
            }
            if join.id_required && join.instance.is_none() {
                if self.promised.len() >= PROMISED_MAX {
                    return refuse(GroupError::Full);
                }
                self.promised.insert(new_id.to_owned(), now_ms + join.session_ms);
                return Err((GroupError::MemberIdRequired, new_id.to_owned()));
            }
            self.add(new_id, join, token, now_ms);
            return Ok(());
        }
        if self.promised.remove(&id).is_some() {
            self.add(&id, join, token, now_ms);
            return Ok(());
        }
        if let Some(named) = named.filter(|named| *named != id) {
            let _ = named;
            return refuse(GroupError::Fenced);
        }
        if !is_known {
            return refuse(GroupError::UnknownMember);
        }
        self.rejoin(&id, join, token, now_ms);
        Ok(())
    }

    /// The member under a lasting name.
    pub fn of_instance(&self, instance: &str) -> Option<String> {
        let found =
            self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance));
        found.map(|(id, _)| id.clone())
    }

    fn add(&mut self, id: &str, join: Join, token: Token, now_ms: u64) {
        if self.members.is_empty() {
            self.kind = Some(join.kind);
        }
        let member = Member {
            instance: join.instance,
            client: join.client,
            host: join.host,
            session_ms: join.session_ms,
            rebalance_ms: join.rebalance_ms,
            protocols: join.protocols,
            assignment: Vec::new(),
            joining: Some(token),
            syncing: None,
            silent_from_ms: now_ms + join.session_ms,
        };
        self.members.insert(id.to_owned(), member);
        if self.leader.is_none() {
            self.leader = Some(id.to_owned());
        }
        self.rebalance(now_ms);
    }

    /// Somebody comes back under a lasting name: it takes over what was there, with a new id.
    fn replace(
        &mut self,
        before: &str,
        join: Join,
        token: Token,
        new_id: &str,
        now_ms: u64,
    ) -> Result<(), (GroupError, String)> {
        let Some(mut member) = self.members.remove(before) else {
            return Err((GroupError::UnknownMember, before.to_owned()));
        };
        if let Some(waiting) = member.joining.take() {
            self.out.push(Out::Join(waiting, Err((GroupError::Fenced, before.to_owned()))));
        }
        if let Some(waiting) = member.syncing.take() {
            self.out.push(Out::Sync(waiting, Err(GroupError::Fenced)));
        }
        let same = member.protocols == join.protocols;
        member.protocols = join.protocols;
        member.client = join.client;
        member.host = join.host;
        member.session_ms = join.session_ms;
        member.rebalance_ms = join.rebalance_ms;
        member.silent_from_ms = now_ms + join.session_ms;
        let was_leader = self.leader.as_deref() == Some(before);
        if was_leader {
            self.leader = Some(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
        if self.state == State::Stable && same {
            // Nobody else notices: what was its own still is.
            let mut joined = self.joined(new_id);
            joined.keep_assignment = was_leader;
            self.out.push(Out::Join(token, Ok(joined)));
            return Ok(());
        }
        if let Some(member) = self.members.get_mut(new_id) {
            member.joining = Some(token);
        }
        self.rebalance(now_ms);
        Ok(())
    }

    fn rejoin(&mut self, id: &str, join: Join, token: Token, now_ms: u64) {
        let is_leader = self.leader.as_deref() == Some(id);
        let state = self.state;
        let Some(member) = self.members.get_mut(id) else { return };
        let same = member.protocols == join.protocols;
        if let Some(waiting) = member.joining.take() {
            // It asks again over another connection.
            self.out.push(Out::Join(waiting, Err((GroupError::UnknownMember, id.to_owned()))));
        }
        member.silent_from_ms = now_ms + join.session_ms;
        member.session_ms = join.session_ms;
        member.rebalance_ms = join.rebalance_ms;
        member.protocols = join.protocols;
        // It missed the answer: nothing changed for the others.
        let unchanged =
            same && (state == State::Completing || (state == State::Stable && !is_leader));
        if unchanged {
            let joined = self.joined(id);
            self.out.push(Out::Join(token, Ok(joined)));
            return;
        }
        member.joining = Some(token);
        self.rebalance(now_ms);
    }

    /// Members are to join again.
    fn rebalance(&mut self, now_ms: u64) {
        if self.state != State::Preparing {
            for member in self.members.values_mut() {
                if let Some(waiting) = member.syncing.take() {
                    self.out.push(Out::Sync(waiting, Err(GroupError::Rebalancing)));
                }
            }
            let wait = match self.state {
                State::Empty if self.first_delay_ms > 0 => self.first_delay_ms,
                _ => self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0),
            };
            let is_first = self.state == State::Empty && self.first_delay_ms > 0;
            self.state = State::Preparing;
            self.deadline_ms = Some(now_ms + wait);
            if is_first {
                return;
            }
        }
        self.complete_if_all(now_ms);
    }

    fn complete_if_all(&mut self, now_ms: u64) {
        let all = self.members.values().all(|member| member.joining.is_some());
        if self.state == State::Preparing && all && self.promised.is_empty() {
            self.complete(now_ms);
        }
    }

    /// Whoever joined makes the next generation.
    fn complete(&mut self, now_ms: u64) {
        // Those with a lasting name are expected back.
        self.members.retain(|_, member| member.joining.is_some() || member.instance.is_some());
        self.deadline_ms = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.state = State::Empty;
            self.leader = None;
            self.protocol = None;
            return;
        }
        let leads = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leads.is_none_or(|leader| leader.joining.is_none()) {
            let joined = self.members.iter().find(|(_, member)| member.joining.is_some());
            self.leader = joined.map(|(id, _)| id.clone()).or(self.leader.take());
        }
        self.protocol = self.choose();
        self.state = State::Completing;
        // Who does not ask what is its own in time goes.
        let wait = self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0);
        self.deadline_ms = Some(now_ms + wait);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.silent_from_ms = now_ms + member.session_ms;
            if let Some(waiting) = member.joining.take() {
                self.out.push(Out::Join(waiting, Ok(joined)));
            }
        }
    }

    /// The protocol that most members like best, of those that all know.
    fn choose(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let common = |name: &str| self.members.values().all(|member| member.supports(name));
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
    }

    fn joined(&self, id: &str) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let leads = self.leader.as_deref() == Some(id);
        let all = self.members.iter().filter(|_| leads).map(|(id, member)| {
            (id.clone(), member.instance.clone(), member.said(&protocol).to_vec())
        });
        Joined {
            generation: self.generation,
            kind: self.kind.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            member: id.to_owned(),
            members: all.collect(),
            keep_assignment: false,
            protocol,
        }
    }

    /// Checks who somebody says to be.
    ///
    /// # Errors
    /// When it is not a member, or of another generation.
    pub fn check(
        &self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.of_instance(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(known) if known != id => return Err(GroupError::Fenced),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(id) {
            return Err(GroupError::UnknownMember);
        }
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(())
    }

    /// A member asks what is its own. The leader's `assignments` are put aside: they hold once
    /// [`Group::settled`] says that they are written. Returns whether there are any to be written.
    pub fn sync(
        &mut self,
        id: &str,
        assignments: Vec<(String, Vec<u8>)>,
        token: Token,
        now_ms: u64,
    ) -> bool {
        let state = self.state;
        let leads = self.leader.as_deref() == Some(id);
        let Some(member) = self.members.get_mut(id) else {
            self.out.push(Out::Sync(token, Err(GroupError::UnknownMember)));
            return false;
        };
        member.silent_from_ms = now_ms + member.session_ms;
        match state {
            State::Empty => self.out.push(Out::Sync(token, Err(GroupError::UnknownMember))),
            State::Preparing => self.out.push(Out::Sync(token, Err(GroupError::Rebalancing))),
            State::Stable => {
                let own = member.assignment.clone();
                self.out.push(Out::Sync(token, Ok(own)));
            }
            State::Completing => {
                if let Some(waiting) = member.syncing.replace(token) {
                    self.out.push(Out::Sync(waiting, Err(GroupError::Rebalancing)));
                }
                if leads {
                    for member in self.members.values_mut() {
                        member.assignment.clear();
                    }
                    for (id, assignment) in assignments {
                        if let Some(member) = self.members.get_mut(&id) {
                            member.assignment = assignment;
                        }
                    }
                    return true;
                }
            }
        }
        false
    }

    /// What the leader decided in a generation is written, or could not be.
    pub fn settled(&mut self, generation: i32, written: bool, now_ms: u64) {
        if self.state != State::Completing || self.generation != generation {
            return;
        }
        if !written {
            for member in self.members.values_mut() {
                if let Some(waiting) = member.syncing.take() {
                    self.out.push(Out::Sync(waiting, Err(GroupError::NotAvailable)));
                }
            }
            self.rebalance(now_ms);
            return;
        }
        self.state = State::Stable;
        self.deadline_ms = None;
        for member in self.members.values_mut() {
            if let Some(waiting) = member.syncing.take() {
                self.out.push(Out::Sync(waiting, Ok(member.assignment.clone())));
            }
        }
    }

    /// A member is alive.
    ///
    /// # Errors
    /// When it should join again.
    pub fn heartbeat(&mut self, id: &str, now_ms: u64) -> Result<(), GroupError> {
        let state = self.state;
        let member = self.members.get_mut(id).ok_or(GroupError::UnknownMember)?;
        member.silent_from_ms = now_ms + member.session_ms;
        match state {
            State::Preparing => Err(GroupError::Rebalancing),
            State::Empty => Err(GroupError::UnknownMember),
            State::Completing | State::Stable => Ok(()),
        }
    }

    /// A member goes, by its id or its lasting name.
    ///
    /// # Errors
    /// When there is none.
    pub fn leave(
        &mut self,
        id: &str,
        instance: Option<&str>,
        now_ms: u64,
    ) -> Result<String, GroupError> {
        let id = match instance {
            Some(instance) => {
                let known = self.of_instance(instance).ok_or(GroupError::UnknownMember)?;
                if !id.is_empty() && known != id {
                    return Err(GroupError::Fenced);
                }
                known
            }
            None => id.to_owned(),
        };
        if self.promised.remove(&id).is_some() {
            self.complete_if_all(now_ms);
            return Ok(id);
        }
        self.remove(&id, now_ms).then_some(id).ok_or(GroupError::UnknownMember)
    }

    fn remove(&mut self, id: &str, now_ms: u64) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        if let Some(waiting) = member.joining {
            self.out.push(Out::Join(waiting, Err((GroupError::UnknownMember, id.to_owned()))));
        }
        if let Some(waiting) = member.syncing {
            self.out.push(Out::Sync(waiting, Err(GroupError::UnknownMember)));
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        match self.state {
            State::Stable | State::Completing => self.rebalance(now_ms),
            State::Preparing => self.complete_if_all(now_ms),
            State::Empty => {}
        }
        true
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: u64) {
        self.promised.retain(|_, until| *until > now_ms);
        let silent = |member: &Member| {
            member.joining.is_none() && member.syncing.is_none() && member.silent_from_ms <= now_ms
        };
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| silent(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.remove(&id, now_ms);
        }
        self.complete_if_all(now_ms);
        if self.deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
            match self.state {
                State::Preparing => self.complete(now_ms),
                State::Completing => {
                    let late = self.members.iter().filter(|(_, member)| member.syncing.is_none());
                    let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
                    self.deadline_ms = None;
                    for id in late {
                        self.remove(&id, now_ms);
                    }
                }
                State::Empty | State::Stable => self.deadline_ms = None,
            }
        }
    }

    /// Whether anybody is or will be a member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.promised.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(member: &str) -> Join {
        Join {
            member: member.to_owned(),
            session_ms: 10_000,
            rebalance_ms: 60_000,
            kind: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), member.as_bytes().to_vec())],
            ..Join::default()
        }
    }

    fn joined(out: &[Out]) -> Vec<(Token, Joined)> {
        let answers = out.iter().filter_map(|out| match out {
            Out::Join(token, Ok(joined)) => Some((*token, joined.clone())),
            _ => None,
        });
        answers.collect()
    }

    fn stable(group: &mut Group, members: &[&str]) {
        for (token, id) in members.iter().enumerate() {
            let known = group.members.contains_key(*id);
            group.join(join(if known { id } else { "" }), token as Token, id, 0);
        }
        for id in members {
            if group.state == State::Preparing {
                group.join(join(id), 50, id, 0);
            }
        }
        let leader = group.leader.clone().unwrap();
        for id in members {
            let all = members.iter().map(|id| ((*id).to_owned(), id.as_bytes().to_vec())).collect();
            let all = if *id == leader { all } else { Vec::new() };
            if group.sync(id, all, 60, 0) {
                group.settled(group.generation, true, 0);
            }
        }
        group.take_out();
        assert_eq!(group.state, State::Stable);
    }

    #[test]
    fn the_first_leads_and_everybody_gets_what_it_decides() {
        let mut group = Group::default();
        group.join(join(""), 1, "a", 0);
        let out = group.take_out();
        let (token, first) = joined(&out).remove(0);
        assert_eq!((token, first.generation, first.leader.as_str()), (1, 1, "a"));
        assert_eq!(first.members.len(), 1);
        assert!(group.sync("a", vec![("a".to_owned(), b"all".to_vec())], 2, 0));
        assert!(group.take_out().is_empty(), "nothing is told before it is written");
        group.settled(1, true, 0);
        assert!(matches!(&group.take_out()[..], [Out::Sync(2, Ok(own))] if own == b"all"));
        assert_eq!(group.state, State::Stable);
    }

    #[test]
    fn a_second_member_makes_the_first_join_again() {
        let mut group = Group::default();
        stable(&mut group, &["a"]);
        group.join(join(""), 7, "b", 100);
        assert!(group.take_out().is_empty());
        assert_eq!(group.heartbeat("a", 200), Err(GroupError::Rebalancing));
        group.join(join("a"), 8, "", 300);
        let out = group.take_out();
        let answers = joined(&out);
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|(_, one)| one.generation == 2 && one.leader == "a"));
        let leader = &answers.iter().find(|(_, one)| one.member == "a").unwrap().1;
        assert_eq!(leader.members.len(), 2);
    }

    #[test]
    fn who_does_not_join_again_in_time_is_left_out() {
        let mut group = Group::default();
        stable(&mut group, &["a", "b"]);
        group.join(join(""), 7, "c", 0);
        group.join(join("a"), 8, "", 0);
        group.tick(9_000);
        assert!(group.take_out().is_empty());
        group.tick(10_001);
        let out = group.take_out();
        assert_eq!(joined(&out).len(), 2, "b was silent for its session");
        assert!(!group.members.contains_key("b"));
    }

    #[test]
    fn the_last_one_leaves_it_empty() {
        let mut group = Group::default();
        stable(&mut group, &["a"]);
        group.leave("a", None, 0).unwrap();
        assert_eq!(group.state, State::Empty);
        assert_eq!(group.leave("a", None, 0), Err(GroupError::UnknownMember));
        assert_eq!(group.check("a", None, 1), Err(GroupError::UnknownMember));
    }

    #[test]
    fn a_lasting_name_comes_back_unnoticed_and_fences_who_was_there() {
        let mut group = Group::default();
        let named = |member: &str| Join { instance: Some("one".to_owned()), ..join(member) };
        group.join(Join { protocols: vec![("range".to_owned(), vec![])], ..named("") }, 1, "a", 0);
        assert!(group.sync("a", vec![("a".to_owned(), b"x".to_vec())], 2, 0));
        group.settled(1, true, 0);
        group.take_out();
        group.join(
            Join { protocols: vec![("range".to_owned(), vec![])], ..named("") },
            3,
            "a2",
            10,
        );
        let out = group.take_out();
        let (_, again) = joined(&out).remove(0);
        assert_eq!((again.generation, again.leader.as_str()), (1, "a2"));
        assert!(again.keep_assignment);
        assert_eq!(group.state, State::Stable);
        assert_eq!(group.check("a", Some("one"), 1), Err(GroupError::Fenced));
        assert_eq!(group.check("a2", Some("one"), 1), Ok(()));
    }

    #[test]
    fn somebody_new_comes_back_with_its_id() {
        let mut group = Group::default();
        group.join(Join { id_required: true, ..join("") }, 1, "a", 0);
        let out = group.take_out();
        let required = matches!(&out[..], [Out::Join(1, Err((GroupError::MemberIdRequired, id)))] if id == "a");
        assert!(required, "{out:?}");
        group.join(Join { id_required: true, ..join("a") }, 2, "", 0);
        assert_eq!(joined(&group.take_out()).len(), 1);
        group.join(join("nobody"), 3, "", 0);
        assert!(matches!(
            group.take_out()[..],
            [Out::Join(3, Err((GroupError::UnknownMember, _)))]
        ));
    }

    #[test]
    fn protocols_must_have_something_in_common() {
        let mut group = Group::default();
        stable(&mut group, &["a"]);
        let other = Join { protocols: vec![("sticky".to_owned(), vec![])], ..join("") };
        group.join(other, 9, "b", 0);
        let refused = GroupError::InconsistentProtocol;
        assert!(
            matches!(group.take_out()[..], [Out::Join(9, Err((error, _)))] if error == refused)
        );
    }

    proptest::proptest! {
        /// Whatever members do, whoever waits is answered once at most, and all of them when
        /// everybody who is left joins and syncs.
        #[test]
        fn everybody_is_answered_once(steps in proptest::collection::vec((0_u8..6, 0_usize..5), 1..120)) {
            let mut group = Group::default();
            let (mut token, mut now) = (0, 0_u64);
            let mut waiting = std::collections::BTreeSet::new();
            let ids = ["a", "b", "c", "d", "e"];
            let mut generation = 0;
            let answer = |group: &mut Group, waiting: &mut std::collections::BTreeSet<Token>| {
                for out in group.take_out() {
                    let token = match out { Out::Join(token, _) | Out::Sync(token, _) => token };
                    assert!(waiting.remove(&token), "{token} was answered twice");
                }
            };
            for (what, who) in steps {
                let id = ids[who];
                token += 1;
                match what {
                    0 | 1 => {
                        waiting.insert(token);
                        let known = group.members.contains_key(id);
                        group.join(join(if known { id } else { "" }), token, id, now);
                    }
                    2 => {
                        waiting.insert(token);
                        if group.sync(id, vec![], token, now) {
                            group.settled(group.generation, who != 4, now);
                        }
                    }
                    3 => { let _ = group.leave(id, None, now); }
                    4 => { let _ = group.heartbeat(id, now); }
                    _ => { now += 3000; group.tick(now); }
                }
                assert!(group.generation >= generation);
                generation = group.generation;
                answer(&mut group, &mut waiting);
                let leads = group.leader.as_ref().is_none_or(|leader| group.members.contains_key(leader));
                assert!(leads, "the leader is a member");
            }
            now += 1_000_000;
            group.tick(now);
            now += 1_000_000;
            group.tick(now);
            answer(&mut group, &mut waiting);
            now += 1_000_000;
            group.tick(now);
            answer(&mut group, &mut waiting);
            proptest::prop_assert!(waiting.is_empty(), "{waiting:?} in {:?}", group.state);
        }
    }
}
