//! Members that know only groups which share out among themselves, in groups where members are told:
//! they join, sync and say that they are there as ever, and get what the server gives them. So a
//! group changes its kind while it is in use: the first member that is told makes it one of that
//! kind, and when the last such member is gone the others share out among themselves again.
//!
//! Not here: what members say, in bytes ([`Speech`]). Invariants: as in `membership`: such a member
//! has the group's epochs as its generations, and holds what it was given until it joins again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assign::Partitions;
use super::classic::{self, GroupError, Join, Joined, State};
use super::membership::{Beat, Catalog, Group, Member, Sharing, each};
use super::rosters::{Now, Roster, Topics};
use super::{Groups, Held, JoinResult, Slot, SyncResult};
use crate::engine::sync::lock;

/// What groups of consumers are for, in their words.
const CONSUMERS: &str = "consumer";

/// What consumers say to each other when they share out, as far as a server has to know it.
pub trait Speech: Send + Sync {
    /// What a member wants and holds; `None` when its words are not known.
    fn wish(&self, said: &[u8]) -> Option<Wanted>;
    /// What a leader gave to a member.
    fn given(&self, assignment: &[u8]) -> Option<Vec<(String, Vec<i32>)>>;
    /// The same from a server, for a member that said something.
    fn give(&self, said: &[u8], partitions: Vec<(String, Vec<i32>)>) -> Vec<u8>;
}

/// What a member says that it wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Topics by name.
    pub topics: BTreeSet<String>,
    /// What it holds while it joins.
    pub owned: Vec<(String, Vec<i32>)>,
}

/// Ways of sharing out that a member knows, the best first, each with what it says to a leader.
pub type Protocols = Vec<(String, Vec<u8>)>;

/// A member that shares out with others if it can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alike {
    pub(super) protocols: Protocols,
}

impl Group {
    /// Such a member joins, for the first time or again, with what it holds.
    pub(super) fn join_alike(
        &mut self,
        beat: &Beat,
        protocols: &Protocols,
        now_ms: u64,
        topics: &dyn Catalog,
    ) -> Result<(), GroupError> {
        let instance = beat.instance.as_deref();
        let named = instance.and_then(|instance| self.of_instance(instance)).map(str::to_owned);
        let other = named.filter(|named| *named != beat.member);
        if let Some(member) = other.and_then(|other| self.members.get_mut(&other)) {
            // Of these a lasting name is free for whoever comes under it.
            let given_up = member.pause();
            self.release(&given_up);
        }
        let is_new = !self.members.contains_key(&beat.member);
        let raise = is_new && self.admit(beat)?;
        if let Some(member) = self.members.get_mut(&beat.member) {
            member.act_by_ms = None;
            let alike = Some(Alike { protocols: protocols.clone() });
            if member.alike != alike {
                member.alike = alike;
                self.touch(&beat.member);
            }
        }
        self.step(beat, raise, now_ms, topics);
        Ok(())
    }

    /// Checks that somebody is a member of that generation, and that it is there.
    fn hear_alike(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        now_ms: u64,
    ) -> Result<(), GroupError> {
        let member = self.identify(id, instance)?;
        if member.alike.is_none() {
            return Err(GroupError::UnknownMember);
        }
        if member.epoch != generation {
            return Err(GroupError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.silent_from_ms = now_ms.saturating_add(member.session_ms);
        }
        Ok(())
    }

    /// Whether a member has to join again to get on.
    fn must_join(&self, member: &Member) -> bool {
        let is_free = |one: (u128, i32)| !self.held.contains(&one);
        member.epoch < self.epoch
            || !member.revoking.is_empty()
            || (member.is_waiting && each(&member.target).any(is_free))
    }

    pub(super) fn heartbeat_alike(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        now_ms: u64,
        topics: &dyn Catalog,
    ) -> Result<(), GroupError> {
        self.hear_alike(id, instance, generation, now_ms)?;
        if self.look_at(topics, false) {
            self.raise();
        }
        let Some(member) = self.members.get(id) else { return Err(GroupError::UnknownMember) };
        if !self.must_join(member) {
            return Ok(());
        }
        if let Some(member) = self.members.get_mut(id) {
            let by = now_ms.saturating_add(member.rebalance_ms);
            member.act_by_ms.get_or_insert(by);
        }
        Err(GroupError::Rebalancing)
    }
}

/// Partitions by their topics' ids; of topics that are gone, none.
fn by_id(named: &[(String, Vec<i32>)], topics: &dyn Catalog) -> Partitions {
    let mut partitions = Partitions::new();
    for (name, all) in named {
        if let Some((id, _)) = topics.find(name) {
            partitions.entry(id).or_default().extend(all.iter().copied());
        }
    }
    partitions
}

impl Groups {
    /// Lets groups change their kind while they are in use.
    pub fn set_speech(&self, speech: &'static dyn Speech) {
        let _ = self.speech.set(speech);
    }

    /// Somebody joins a group whose members are told what is theirs; `None` when it is no more.
    pub(super) async fn join_roster(
        &self,
        name: &str,
        roster: &Arc<Roster>,
        join: &Join,
        new_id: &str,
    ) -> Option<JoinResult> {
        let refuse = |error| Some(Err((error, join.member.clone())));
        let mut now = self.enter(name, roster).await;
        if now.is_gone {
            return None;
        }
        if now.group.sharing == Sharing::Share {
            return refuse(GroupError::OtherKind);
        }
        if now.group.members.is_empty() {
            // As a record it stays what it was until there are members.
            self.replace(name, &mut now, classic::Group::default());
            return None;
        }
        let said = join.protocols.first();
        let wanted = self.speech.get().zip(said).and_then(|(speech, said)| speech.wish(&said.1));
        let (Some(wanted), CONSUMERS) = (wanted, join.kind.as_str()) else {
            return refuse(GroupError::InconsistentProtocol);
        };
        let mut id = join.member.clone();
        if id.is_empty() {
            if join.instance.is_none() && join.id_required {
                return Some(Err((GroupError::MemberIdRequired, new_id.to_owned())));
            }
            new_id.clone_into(&mut id);
        } else if let Some(instance) = join.instance.as_deref()
            && now.group.of_instance(instance).is_some_and(|known| known != id)
        {
            return refuse(GroupError::Fenced);
        }
        let topics = self.topics();
        let beat = Beat {
            member: id.clone(),
            instance: join.instance.clone(),
            client: join.client.clone(),
            host: join.host.clone(),
            session_ms: join.session_ms,
            rebalance_ms: Some(join.rebalance_ms),
            names: Some(wanted.topics),
            pattern: Some(String::new()),
            owned: Some(by_id(&wanted.owned, &topics)),
            ..Beat::default()
        };
        let joined = now.group.join_alike(&beat, &join.protocols, self.now_ms(), &topics);
        let kept = match joined {
            Ok(()) => self.keep(name, &mut now).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            return refuse(error);
        }
        let generation = now.group.members.get(&id).map_or(-1, |member| member.epoch);
        Some(Ok(Joined {
            generation,
            kind: CONSUMERS.to_owned(),
            protocol: said.map(|said| said.0.clone()).unwrap_or_default(),
            leader: String::new(),
            member: id,
            members: Vec::new(),
            keep_assignment: false,
        }))
    }

    /// What is a member's own, in the words that it knows.
    pub(super) async fn sync_roster(
        &self,
        name: &str,
        roster: &Roster,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> SyncResult {
        let mut now = self.enter(name, roster).await;
        now.group.hear_alike(member, instance, generation, self.now_ms())?;
        let known = now.group.members.get(member).ok_or(GroupError::UnknownMember)?;
        let said = known.alike.as_ref().and_then(|alike| alike.protocols.first());
        let (speech, said) = self.speech.get().zip(said).ok_or(GroupError::InconsistentProtocol)?;
        Ok(speech.give(&said.1, self.by_name(&known.assigned)))
    }

    pub(super) async fn heartbeat_roster(
        &self,
        name: &str,
        roster: &Roster,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let mut now = self.enter(name, roster).await;
        let (at, topics) = (self.now_ms(), self.topics());
        let told = now.group.heartbeat_alike(member, instance, generation, at, &topics);
        self.keep(name, &mut now).await?;
        told
    }

    pub(super) async fn leave_roster(
        &self,
        name: &str,
        roster: &Roster,
        members: &[(String, Option<String>)],
    ) -> Vec<Result<String, GroupError>> {
        let mut now = self.enter(name, roster).await;
        let mut done = Vec::with_capacity(members.len());
        for (id, instance) in members {
            let instance = instance.as_deref();
            let id = match instance.and_then(|instance| now.group.of_instance(instance)) {
                Some(known) if id.is_empty() => known.to_owned(),
                _ => id.clone(),
            };
            let known = now.group.identify(&id, instance).map(|_| ());
            done.push(known.map(|()| {
                now.group.remove(&id);
                id
            }));
        }
        match self.keep(name, &mut now).await {
            Ok(()) => done,
            Err(error) => vec![Err(error); members.len()],
        }
    }

    /// A group of members who share out among themselves, as one where they are told, if what they
    /// say is understood.
    pub(super) fn told_from_now_on(&self, held: &Held) -> Result<Group, GroupError> {
        let before = &held.group;
        let speech = self.speech.get().ok_or(GroupError::NotFound)?;
        if before.kind.as_deref() != Some(CONSUMERS) {
            return Err(GroupError::NotFound);
        }
        if before.state == State::Completing {
            // What their leader decides is on its way.
            return Err(GroupError::NotAvailable);
        }
        let topics = self.topics();
        let mut given = BTreeSet::new();
        let mut members = BTreeMap::new();
        for (id, member) in &before.members {
            let said = member.protocols.first().map(|(_, said)| said.as_slice());
            let wanted = said.and_then(|said| speech.wish(said)).ok_or(GroupError::NotFound)?;
            let own = speech.given(&member.assignment).unwrap_or_default();
            let mut assigned = by_id(&own, &topics);
            // Leaders decide as they like; here nothing has two owners.
            for (topic, own) in &mut assigned {
                own.retain(|one| given.insert((*topic, *one)));
            }
            let member = Member {
                instance: member.instance.clone(),
                client: member.client.clone(),
                host: member.host.clone(),
                epoch: before.generation,
                previous_epoch: before.generation,
                session_ms: member.session_ms,
                rebalance_ms: member.rebalance_ms,
                names: wanted.topics,
                target: assigned.clone(),
                assigned,
                alike: Some(Alike { protocols: member.protocols.clone() }),
                ..Member::default()
            };
            members.insert(id.clone(), member);
        }
        let mut group = Group::new(Sharing::Consumer, before.generation);
        group.resumed(members, self.now_ms());
        group.all_changed();
        Ok(group)
    }

    /// When nobody is left who is told, the others share out among themselves again. As a record the
    /// group stays what it was until they have: after a crash they are told once more.
    pub(super) fn share_out_again(&self, name: &str, now: &mut Now) {
        let members = &now.group.members;
        if members.is_empty() || members.values().any(|member| member.alike.is_none()) {
            return;
        }
        let Some(speech) = self.speech.get() else { return };
        let members = members.iter().filter_map(|(id, member)| {
            let protocols = member.alike.as_ref()?.protocols.clone();
            // What it holds until it joins again.
            let mut holds = member.assigned.clone();
            for (topic, one) in each(&member.revoking) {
                holds.entry(topic).or_default().insert(one);
            }
            let said = protocols.first().map(|(_, said)| said.as_slice()).unwrap_or_default();
            Some((
                speech.give(said, self.by_name(&holds)),
                Join {
                    member: id.clone(),
                    instance: member.instance.clone(),
                    client: member.client.clone(),
                    host: member.host.clone(),
                    session_ms: member.session_ms,
                    rebalance_ms: member.rebalance_ms,
                    kind: CONSUMERS.to_owned(),
                    protocols,
                    id_required: false,
                },
                member.silent_from_ms,
            ))
        });
        let generation = now.group.assignment_epoch;
        let group = classic::Group::of_members(generation, members.collect(), self.now_ms());
        self.replace(name, now, group);
    }

    /// A group is one whose members share out among themselves from now on.
    fn replace(&self, name: &str, now: &mut Now, mut group: classic::Group) {
        now.is_gone = true;
        group.generation = group.generation.max(now.group.assignment_epoch);
        group.first_delay_ms = self.first_delay_ms;
        let held = Held { group, ..Held::default() };
        let slot = Slot::Classic(Arc::new(std::sync::Mutex::new(held)));
        lock(&self.all).insert(name.to_owned(), slot);
    }

    /// Partitions by their topics' names; of topics that are gone, none.
    fn by_name(&self, partitions: &Partitions) -> Vec<(String, Vec<i32>)> {
        let named = partitions.iter().filter_map(|(id, all)| {
            let name = self.log.topic_by_id(*id)?.name.clone();
            Some((name, all.iter().copied().collect()))
        });
        named.collect()
    }

    pub(super) fn topics(&self) -> Topics<'_> {
        Topics { log: &self.log, version: self.log.topics_version() }
    }
}
