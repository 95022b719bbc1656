//! A group whose members say that they are there, and are told what is theirs: epochs, the target
//! assignment, and how members come and go. Groups that share partitions (share groups) and groups
//! that do not (consumer groups) are the same here but for [`Sharing`].
//!
//! Not here: who should get what (`assign`), how a member of a consumer group gets from what it
//! holds to what it should (`consumer`), the journal. Pure: time comes in as milliseconds of a clock
//! that only goes on, topics as a [`Catalog`].
//!
//! ```text
//! Empty ─join─▶ Assigning ─target made─▶ Reconciling ─all hold their target─▶ Stable
//!   ▲               ▲                         │                                 │
//!   └─all left──────┴─ a member joins, leaves, wants else; topics change ───────┘
//! ```
//!
//! Invariants: the group's epoch is raised by whatever the target depends on, the assignment's epoch
//! is the one that the target was made for, and a member has it when it holds nothing else; whoever
//! says another epoch than its own is fenced, unless it missed the last answer; a member that is
//! silent for its session is a member no more.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::assign::{Assignor, Partitions, Wish, assign};
use super::classic::GroupError;
use super::mixed::Alike;

/// Most members of a group.
pub const MEMBERS_MAX: usize = 5000;

/// The epoch of somebody who joins.
pub const JOINING: i32 = 0;
/// The epoch of somebody who leaves.
pub const LEAVING: i32 = -1;
/// The epoch of somebody with a lasting name who will be back.
pub const PAUSING: i32 = -2;

/// Whether a partition has one owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// One at most: a consumer group.
    #[default]
    Consumer,
    /// Several members may have it at once: a share group.
    Share,
}

/// What a group may know of topics.
pub trait Catalog {
    /// Grows whenever topics or their partitions change.
    fn version(&self) -> u64;
    /// A topic's id and how many partitions it has.
    fn find(&self, name: &str) -> Option<(u128, i32)>;
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    Empty,
    /// The target is to be made anew.
    Assigning,
    /// Some hold something else than their target.
    Reconciling,
    /// All hold what they should.
    Stable,
}

impl Phase {
    /// As the protocol calls it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Assigning => "Assigning",
            Phase::Reconciling => "Reconciling",
            Phase::Stable => "Stable",
        }
    }
}

/// What a member says. What is `None` is as it said before.
#[derive(Clone, Debug, Default)]
pub struct Beat {
    /// Who it is.
    pub member: String,
    /// The epoch that it knows, or [`JOINING`], [`LEAVING`], [`PAUSING`].
    pub epoch: i32,
    /// A name that outlives restarts.
    pub instance: Option<String>,
    /// Where it is, in its own words.
    pub rack: Option<String>,
    /// What the client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// Silence that ends the membership.
    pub session_ms: u64,
    /// How long it may take to give up partitions.
    pub rebalance_ms: Option<u64>,
    /// Topics that it wants, by name.
    pub names: Option<BTreeSet<String>>,
    /// A pattern of topics that it wants; empty for none.
    pub pattern: Option<String>,
    /// Topics that fit its pattern and that it may see, when that was looked up.
    pub matched: Option<BTreeSet<String>>,
    /// How it likes partitions to be shared out.
    pub assignor: Option<Assignor>,
    /// What it holds.
    pub owned: Option<Partitions>,
    /// It wants to be told what is its own whether that changed or not.
    pub tell_all: bool,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// Its epoch from now on.
    pub epoch: i32,
    /// What is its own; `None` when that is as it was told before.
    pub assigned: Option<Partitions>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// A name that outlives restarts.
    pub instance: Option<String>,
    /// Where it is, in its own words.
    pub rack: Option<String>,
    /// What the client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// Its epoch; [`PAUSING`] for one with a lasting name who is away.
    pub epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) session_ms: u64,
    pub(super) rebalance_ms: u64,
    /// Topics that it wants.
    pub names: BTreeSet<String>,
    /// A pattern of more.
    pub pattern: Option<String>,
    pub(super) matched: BTreeSet<String>,
    pub(super) assignor: Option<Assignor>,
    /// What it may hold.
    pub assigned: Partitions,
    /// What it has to give up, and holds until it says that it did.
    pub revoking: Partitions,
    /// What it should hold.
    pub target: Partitions,
    /// What it says to others if it can share out with them, and cannot be told.
    #[serde(default)]
    pub alike: Option<Alike>,
    /// Somebody else still holds some of its target.
    pub(super) is_waiting: bool,
    #[serde(skip)]
    pub(super) matched_at: Option<u64>,
    #[serde(skip)]
    pub(super) silent_from_ms: u64,
    /// When it has to have given something up, or joined again.
    #[serde(skip)]
    pub(super) act_by_ms: Option<u64>,
}

impl Member {
    /// Every topic that it wants, there or not.
    pub fn topics(&self) -> impl Iterator<Item = &String> {
        self.names.union(&self.matched)
    }

    /// It is away, and its place is kept for its session; what it was to give up it has given up.
    pub(super) fn pause(&mut self) -> Partitions {
        self.epoch = PAUSING;
        self.act_by_ms = None;
        std::mem::take(&mut self.revoking)
    }

    fn is_settled(&self, epoch: i32) -> bool {
        self.epoch == PAUSING
            || (self.epoch == epoch && self.revoking.is_empty() && !self.is_waiting)
    }
}

/// A topic as it was when the epoch was raised for it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its id.
    pub id: u128,
    /// How many partitions it had.
    pub partitions: i32,
}

/// What is not in the journal yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The group itself.
    pub group: bool,
    /// Members that changed or went.
    pub members: BTreeSet<String>,
}

/// A group; members are kept apart from it in the journal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// Whether a partition has one owner.
    pub sharing: Sharing,
    /// Raised by whatever the target depends on.
    pub epoch: i32,
    /// The epoch that the target was made for.
    pub assignment_epoch: i32,
    /// How it was made.
    pub assignor: Assignor,
    /// Topics that members want, by name.
    pub topics: BTreeMap<String, Seen>,
    /// By id.
    #[serde(skip)]
    pub members: BTreeMap<String, Member>,
    /// Partitions that somebody holds or may hold, when they have one owner.
    #[serde(skip)]
    pub(super) held: HashSet<(u128, i32)>,
    #[serde(skip)]
    seen_version: Option<u64>,
    #[serde(skip)]
    changed: Changed,
}

impl Group {
    /// A group without members, whose epochs go on after one.
    pub fn new(sharing: Sharing, epoch: i32) -> Group {
        let assignor = match sharing {
            Sharing::Consumer => Assignor::Uniform,
            Sharing::Share => Assignor::Simple,
        };
        let changed = Changed { group: true, ..Changed::default() };
        Group { sharing, epoch, assignment_epoch: epoch, assignor, changed, ..Group::default() }
    }

    /// After a restart: all who were members have their whole session to be heard of.
    pub fn resumed(&mut self, members: BTreeMap<String, Member>, now_ms: u64) {
        self.members = members;
        self.changed = Changed::default();
        self.held.clear();
        self.seen_version = None;
        for member in self.members.values_mut() {
            member.silent_from_ms = now_ms.saturating_add(member.session_ms);
            if !member.revoking.is_empty() {
                member.act_by_ms = Some(now_ms.saturating_add(member.rebalance_ms));
            }
            if self.sharing == Sharing::Consumer {
                self.held.extend(each(&member.assigned).chain(each(&member.revoking)));
            }
        }
    }

    /// Nothing of it is written yet.
    pub(super) fn all_changed(&mut self) {
        self.changed = Changed { group: true, members: self.members.keys().cloned().collect() };
    }

    /// What changed since the last call.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        if self.members.is_empty() {
            Phase::Empty
        } else if self.sharing == Sharing::Share {
            // Nobody waits for anybody else.
            Phase::Stable
        } else if self.assignment_epoch < self.epoch {
            Phase::Assigning
        } else if self.members.values().all(|member| member.is_settled(self.assignment_epoch)) {
            Phase::Stable
        } else {
            Phase::Reconciling
        }
    }

    /// The pattern whose topics are to be looked up for a member before its beat is heard.
    pub fn to_match<'a>(&'a self, beat: &'a Beat, version: u64) -> Option<&'a str> {
        let known = self.members.get(&beat.member);
        let before = known.and_then(|member| member.pattern.as_deref());
        let pattern = beat.pattern.as_deref().or(before).filter(|pattern| !pattern.is_empty())?;
        let is_old = known.and_then(|member| member.matched_at) != Some(version);
        (is_old || before != Some(pattern)).then_some(pattern)
    }

    /// A member says that it is there, comes or goes.
    ///
    /// # Errors
    /// When it is not who it says, or has to begin anew. Nothing changed then.
    pub fn beat(
        &mut self,
        beat: &Beat,
        now_ms: u64,
        topics: &dyn Catalog,
    ) -> Result<Beaten, GroupError> {
        if beat.epoch == LEAVING || beat.epoch == PAUSING {
            return self.leave(beat, now_ms);
        }
        let (raise, before) = match beat.epoch {
            JOINING => (self.admit(beat)?, None),
            _ => (false, Some(self.check_beat(beat)?)),
        };
        if let Some(member) = self.members.get_mut(&beat.member) {
            member.alike = None;
        }
        let had = self.step(beat, raise, now_ms, topics);
        let member = self.members.get(&beat.member).ok_or(GroupError::UnknownMember)?;
        // Who knows another epoch than it has missed an answer.
        let tell =
            beat.tell_all || before != Some(beat.epoch) || had.as_ref() != Some(&member.assigned);
        Ok(Beaten { epoch: member.epoch, assigned: tell.then(|| member.assigned.clone()) })
    }

    /// Hears a member out and takes it one step further; `raise` when the target depends on it
    /// already. Returns what was its own before.
    pub(super) fn step(
        &mut self,
        beat: &Beat,
        mut raise: bool,
        now_ms: u64,
        topics: &dyn Catalog,
    ) -> Option<Partitions> {
        raise |= self.listen(beat, now_ms, topics);
        raise |= self.look_at(topics, raise);
        if raise {
            self.raise();
        }
        if self.assignment_epoch < self.epoch {
            self.make_target();
        }
        let had = self.members.get(&beat.member).map(|member| member.assigned.clone());
        match self.sharing {
            Sharing::Consumer => self.reconcile(&beat.member, beat.owned.as_ref(), now_ms),
            Sharing::Share => self.follow(&beat.member),
        }
        had
    }

    /// The member under a lasting name.
    pub fn of_instance(&self, instance: &str) -> Option<&str> {
        let mut members = self.members.iter();
        let found = members.find(|(_, member)| member.instance.as_deref() == Some(instance));
        found.map(|(id, _)| id.as_str())
    }

    /// Makes a member of who joins, unless it is one. Returns whether that changes the target.
    pub(super) fn admit(&mut self, beat: &Beat) -> Result<bool, GroupError> {
        let named = beat.instance.as_deref().and_then(|instance| self.of_instance(instance));
        if let Some(named) = named.filter(|named| *named != beat.member).map(str::to_owned) {
            // It takes over what was there, unless that is still in use.
            let is_away = self.members.get(&named).is_some_and(|member| member.epoch == PAUSING);
            if !is_away || self.members.contains_key(&beat.member) {
                return Err(GroupError::UnreleasedInstance);
            }
            if let Some(member) = self.members.remove(&named) {
                let member = Member { epoch: JOINING, previous_epoch: JOINING, ..member };
                self.members.insert(beat.member.clone(), member);
                self.changed.members.extend([named, beat.member.clone()]);
            }
            return Ok(false);
        }
        if let Some(member) = self.members.get_mut(&beat.member) {
            // It lost its memory: what it held is nobody's until it is told again.
            (member.epoch, member.previous_epoch) = (JOINING, JOINING);
            self.changed.members.insert(beat.member.clone());
            return Ok(false);
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(GroupError::Full);
        }
        let member = Member { instance: beat.instance.clone(), ..Member::default() };
        self.members.insert(beat.member.clone(), member);
        self.changed.members.insert(beat.member.clone());
        Ok(true)
    }

    /// Who somebody says to be, by id and lasting name.
    pub(super) fn identify(&self, id: &str, instance: Option<&str>) -> Result<&Member, GroupError> {
        if let Some(instance) = instance {
            match self.of_instance(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(known) if known != id => return Err(GroupError::Fenced),
                Some(_) => {}
            }
        }
        self.members.get(id).ok_or(GroupError::UnknownMember)
    }

    /// Checks a member's epoch, and returns it: that which was before will do when the last answer
    /// did not reach it.
    fn check_beat(&self, beat: &Beat) -> Result<i32, GroupError> {
        let member = self.identify(&beat.member, beat.instance.as_deref())?;
        let missed = || {
            let owned = beat.owned.as_ref();
            beat.epoch == member.previous_epoch
                && (self.sharing == Sharing::Share
                    || owned.is_some_and(|owned| each(owned).all(|one| has(&member.assigned, one))))
        };
        match beat.epoch == member.epoch || (beat.epoch < member.epoch && missed()) {
            true => Ok(member.epoch),
            false => Err(GroupError::FencedEpoch),
        }
    }

    /// Checks the epoch of a member that asks for something else.
    ///
    /// # Errors
    /// When it is none, or its epoch is another.
    pub fn check(&self, id: &str, epoch: i32) -> Result<(), GroupError> {
        let member = self.members.get(id).ok_or(GroupError::UnknownMember)?;
        match (member.epoch == epoch, &member.alike) {
            (true, _) => Ok(()),
            (false, None) => Err(GroupError::StaleEpoch),
            (false, Some(_)) => Err(GroupError::IllegalGeneration),
        }
    }

    /// Takes down what a member says of itself. Returns whether the target depends on it.
    fn listen(&mut self, beat: &Beat, now_ms: u64, topics: &dyn Catalog) -> bool {
        let Some(member) = self.members.get_mut(&beat.member) else { return false };
        let before = member.clone();
        member.session_ms = beat.session_ms;
        member.silent_from_ms = now_ms.saturating_add(beat.session_ms);
        member.client.clone_from(&beat.client);
        member.host.clone_from(&beat.host);
        member.instance = beat.instance.clone().or(member.instance.take());
        member.rack = beat.rack.clone().or(member.rack.take());
        member.rebalance_ms = beat.rebalance_ms.unwrap_or(member.rebalance_ms);
        member.assignor = beat.assignor.or(member.assignor);
        if let Some(names) = &beat.names {
            member.names.clone_from(names);
        }
        if let Some(pattern) = &beat.pattern {
            member.pattern = Some(pattern.clone()).filter(|pattern| !pattern.is_empty());
        }
        if let Some(matched) = &beat.matched {
            member.matched.clone_from(matched);
            member.matched_at = Some(topics.version());
        }
        if member.pattern.is_none() {
            member.matched.clear();
        }
        let wants_else = (&before.names, &before.matched, before.assignor)
            != (&member.names, &member.matched, member.assignor);
        let kept = |member: &Member| Member {
            matched_at: None,
            silent_from_ms: 0,
            act_by_ms: None,
            ..member.clone()
        };
        if wants_else || kept(&before) != kept(member) {
            self.changed.members.insert(beat.member.clone());
        }
        wants_else
    }

    /// Looks at topics that members want. Returns whether they are not what they were.
    pub(super) fn look_at(&mut self, topics: &dyn Catalog, wants_else: bool) -> bool {
        if self.seen_version == Some(topics.version()) && !wants_else {
            return false;
        }
        self.seen_version = Some(topics.version());
        let mut seen = BTreeMap::new();
        for name in self.members.values().flat_map(Member::topics) {
            if !seen.contains_key(name)
                && let Some((id, partitions)) = topics.find(name)
            {
                seen.insert(name.clone(), Seen { id, partitions });
            }
        }
        let differs = seen != self.topics;
        self.topics = seen;
        differs
    }

    pub(super) fn raise(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.changed.group = true;
    }

    /// How most members like it.
    fn choose(&self) -> Assignor {
        if self.sharing == Sharing::Share {
            return Assignor::Simple;
        }
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.into_iter().rev().max_by_key(|(_, votes)| *votes);
        most.map_or(Assignor::Uniform, |(assignor, _)| assignor)
    }

    fn make_target(&mut self) {
        self.assignor = self.choose();
        let wishes = self.members.iter().map(|(id, member)| {
            let known = member.topics().filter_map(|name| self.topics.get(name));
            Wish {
                topics: known.map(|topic| topic.id).collect(),
                had: member.target.clone(),
                order: member.instance.clone().unwrap_or_else(|| id.clone()),
            }
        });
        let wishes: Vec<Wish> = wishes.collect();
        let topics = self.topics.values().map(|topic| (topic.id, topic.partitions)).collect();
        let targets = assign(self.assignor, &wishes, &topics);
        for ((id, member), target) in self.members.iter_mut().zip(targets) {
            if member.target != target {
                member.target = target;
                self.changed.members.insert(id.clone());
            }
        }
        self.assignment_epoch = self.epoch;
        self.changed.group = true;
    }

    /// When partitions are shared a member has its target at once.
    fn follow(&mut self, id: &str) {
        let epoch = self.assignment_epoch;
        let Some(member) = self.members.get_mut(id) else { return };
        if member.epoch != epoch {
            member.previous_epoch = std::mem::replace(&mut member.epoch, epoch);
            member.assigned.clone_from(&member.target);
            self.changed.members.insert(id.to_owned());
        }
    }

    /// Something of a member has to be written down.
    pub(super) fn touch(&mut self, id: &str) {
        self.changed.members.insert(id.to_owned());
    }

    fn leave(&mut self, beat: &Beat, now_ms: u64) -> Result<Beaten, GroupError> {
        self.identify(&beat.member, beat.instance.as_deref())?;
        if beat.epoch == LEAVING {
            self.remove(&beat.member);
        } else if let Some(member) = self.members.get_mut(&beat.member) {
            member.silent_from_ms = now_ms.saturating_add(member.session_ms);
            let revoked = member.pause();
            self.release(&revoked);
            self.changed.members.insert(beat.member.clone());
        }
        Ok(Beaten { epoch: beat.epoch, assigned: None })
    }

    /// A member is one no more.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        self.release(&member.assigned);
        self.release(&member.revoking);
        self.changed.members.insert(id.to_owned());
        self.raise();
        true
    }

    pub(super) fn release(&mut self, partitions: &Partitions) {
        for one in each(partitions) {
            self.held.remove(&one);
        }
    }

    /// Members that are to be removed: silent for their session, or late to give something up.
    pub fn overdue(&self, now_ms: u64) -> Vec<String> {
        let is_late = |member: &Member| {
            member.silent_from_ms <= now_ms || member.act_by_ms.is_some_and(|by| by <= now_ms)
        };
        let late = self.members.iter().filter(|(_, member)| is_late(member));
        late.map(|(id, _)| id.clone()).collect()
    }
}

/// Partitions one by one.
pub(super) fn each(partitions: &Partitions) -> impl Iterator<Item = (u128, i32)> {
    partitions.iter().flat_map(|(topic, all)| all.iter().map(|one| (*topic, *one)))
}

/// Whether a partition is among some.
pub(super) fn has(partitions: &Partitions, (topic, one): (u128, i32)) -> bool {
    partitions.get(&topic).is_some_and(|all| all.contains(&one))
}
