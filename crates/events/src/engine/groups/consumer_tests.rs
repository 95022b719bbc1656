//! Consumer groups under clients that come, go, lose answers and are killed.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::{Assignor, Partitions};
use super::classic::GroupError;
use super::membership::{
    Beat, Beaten, Catalog, Group, JOINING, LEAVING, Member, PAUSING, Phase, Sharing, each, has,
};

const SESSION_MS: u64 = 45_000;
const REBALANCE_MS: u64 = 60_000;

#[derive(Default)]
struct Topics {
    version: u64,
    all: BTreeMap<String, (u128, i32)>,
}

impl Topics {
    fn of(all: &[(&str, i32)]) -> Topics {
        let mut topics = Topics::default();
        for (name, partitions) in all {
            topics.set(name, *partitions);
        }
        topics
    }

    fn set(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        let id = self.all.get(name).map_or(u128::from(self.version), |(id, _)| *id);
        match partitions {
            0 => drop(self.all.remove(name)),
            _ => drop(self.all.insert(name.to_owned(), (id, partitions))),
        }
    }
}

impl Catalog for Topics {
    fn version(&self) -> u64 {
        self.version
    }
    fn find(&self, name: &str) -> Option<(u128, i32)> {
        self.all.get(name).copied()
    }
}

fn names(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn beat(member: &str, epoch: i32) -> Beat {
    Beat { member: member.to_owned(), epoch, session_ms: SESSION_MS, ..Beat::default() }
}

fn join(member: &str, topics: &[&str]) -> Beat {
    Beat {
        names: names(topics),
        rebalance_ms: Some(REBALANCE_MS),
        owned: Some(Partitions::new()),
        tell_all: true,
        ..beat(member, JOINING)
    }
}

fn count(beaten: &Beaten) -> usize {
    beaten.assigned.as_ref().map_or(0, |assigned| each(assigned).count())
}

/// As it is after a restart: what is written and read again.
fn restart(group: &Group, now: u64) -> Group {
    let read = |text: String| serde_json::from_str::<Member>(&text).unwrap();
    let members = group.members.iter();
    let members = members
        .map(|(id, member)| (id.clone(), read(serde_json::to_string(member).unwrap())))
        .collect();
    let mut group: Group = serde_json::from_str(&serde_json::to_string(group).unwrap()).unwrap();
    group.resumed(members, now);
    group
}

#[test]
fn the_first_gets_all_and_gives_up_half_before_the_second_gets_it() {
    let topics = Topics::of(&[("t", 4)]);
    let mut group = Group::new(Sharing::Consumer, 0);
    let first = group.beat(&join("a", &["t"]), 0, &topics).unwrap();
    assert_eq!((first.epoch, count(&first), group.phase()), (1, 4, Phase::Stable));
    let held = first.assigned.unwrap();
    let second = group.beat(&join("b", &["t"]), 0, &topics).unwrap();
    assert_eq!((second.epoch, count(&second), group.phase()), (2, 0, Phase::Reconciling));
    let told = group.beat(&beat("a", 1), 1, &topics).unwrap();
    assert_eq!((told.epoch, count(&told)), (1, 2), "the epoch stays until it has given up");
    // It goes on, and holds what it did.
    let still = Beat { owned: Some(held), ..beat("a", 1) };
    let waits = group.beat(&still, 2, &topics).unwrap();
    assert_eq!((waits.epoch, waits.assigned), (1, None));
    assert_eq!(group.beat(&beat("b", 2), 2, &topics).unwrap().assigned, None);
    let gave = Beat { owned: told.assigned, ..beat("a", 1) };
    assert_eq!(group.beat(&gave, 3, &topics).unwrap().epoch, 2);
    let got = group.beat(&beat("b", 2), 4, &topics).unwrap();
    assert_eq!((got.epoch, count(&got), group.phase()), (2, 2, Phase::Stable));
}

#[test]
fn who_says_another_epoch_is_fenced_unless_it_missed_an_answer() {
    let topics = Topics::of(&[("t", 2)]);
    let mut group = Group::new(Sharing::Consumer, 0);
    assert_eq!(group.beat(&beat("a", 1), 0, &topics), Err(GroupError::UnknownMember));
    let first = group.beat(&join("a", &["t"]), 0, &topics).unwrap();
    assert_eq!(group.beat(&beat("a", 7), 0, &topics), Err(GroupError::FencedEpoch));
    // A change that makes nobody give up anything.
    group.beat(&Beat { names: names(&["t", "u"]), ..beat("a", 1) }, 0, &topics).unwrap();
    assert_eq!(group.members["a"].epoch, 2);
    assert_eq!(group.beat(&beat("a", 1), 0, &topics), Err(GroupError::FencedEpoch));
    let missed = Beat { owned: first.assigned, ..beat("a", 1) };
    let told = group.beat(&missed, 0, &topics).unwrap();
    assert_eq!((told.epoch, count(&told)), (2, 2));
    assert_eq!(group.check("a", 1), Err(GroupError::StaleEpoch));
    assert_eq!(group.check("b", 1), Err(GroupError::UnknownMember));
    assert_eq!(group.check("a", 2), Ok(()));
}

#[test]
fn a_lasting_name_comes_back_to_what_it_had() {
    let topics = Topics::of(&[("t", 4)]);
    let mut group = Group::new(Sharing::Consumer, 0);
    let named = |mut beat: Beat| {
        beat.instance = Some("one".to_owned());
        beat
    };
    let first = group.beat(&named(join("a", &["t"])), 0, &topics).unwrap();
    let taken = group.beat(&named(join("b", &["t"])), 0, &topics);
    assert_eq!(taken, Err(GroupError::UnreleasedInstance));
    group.beat(&named(beat("a", PAUSING)), 0, &topics).unwrap();
    assert_eq!(group.beat(&beat("a", 1), 0, &topics), Err(GroupError::FencedEpoch));
    let again = group.beat(&named(join("b", &["t"])), 0, &topics).unwrap();
    assert_eq!((again.epoch, again.assigned), (1, first.assigned), "nobody else notices");
    assert_eq!(group.beat(&named(beat("a", 1)), 0, &topics), Err(GroupError::Fenced));
    group.beat(&named(beat("b", PAUSING)), 100, &topics).unwrap();
    assert!(group.overdue(100 + SESSION_MS - 1).is_empty());
    assert_eq!(group.overdue(100 + SESSION_MS), ["b"], "its place is not kept for ever");
}

#[test]
fn silence_and_late_giving_up_end_a_membership() {
    let topics = Topics::of(&[("t", 4)]);
    let mut group = Group::new(Sharing::Consumer, 0);
    group.beat(&join("a", &["t"]), 0, &topics).unwrap();
    group.beat(&join("b", &["t"]), 0, &topics).unwrap();
    let mut now = 0;
    while now < REBALANCE_MS {
        assert!(group.overdue(now).is_empty(), "at {now}");
        group.beat(&beat("a", 1), now, &topics).unwrap();
        group.beat(&beat("b", 2), now, &topics).unwrap();
        now += SESSION_MS / 2;
    }
    assert_eq!(group.overdue(REBALANCE_MS), ["a"]);
    group.remove("a");
    assert_eq!(count(&group.beat(&beat("b", 2), now, &topics).unwrap()), 4);
    assert_eq!(group.overdue(now + SESSION_MS), ["b"]);
    group.remove("b");
    assert_eq!(group.phase(), Phase::Empty);
}

#[test]
fn topics_that_come_grow_and_go_are_given_out_anew() {
    let mut topics = Topics::of(&[("t", 1)]);
    let mut group = Group::new(Sharing::Consumer, 0);
    assert_eq!(count(&group.beat(&join("a", &["t", "later"]), 0, &topics).unwrap()), 1);
    topics.set("other", 3);
    assert_eq!(group.beat(&beat("a", 1), 0, &topics).unwrap().assigned, None);
    topics.set("later", 2);
    let more = group.beat(&beat("a", 1), 0, &topics).unwrap();
    assert_eq!((more.epoch, count(&more)), (2, 3));
    topics.set("t", 3);
    assert_eq!(count(&group.beat(&beat("a", 2), 0, &topics).unwrap()), 5);
    topics.set("later", 0);
    let less = group.beat(&beat("a", 3), 0, &topics).unwrap();
    assert_eq!(count(&less), 3);
    let gave = Beat { owned: less.assigned, ..beat("a", 3) };
    assert_eq!(group.beat(&gave, 0, &topics).unwrap().epoch, 4);
    assert_eq!(group.phase(), Phase::Stable);
}

#[test]
fn a_pattern_is_looked_up_when_it_or_topics_change() {
    let mut topics = Topics::of(&[("t", 2)]);
    let mut group = Group::new(Sharing::Consumer, 0);
    let mut first = Beat { pattern: Some("t.*".to_owned()), ..join("a", &[]) };
    assert_eq!(group.to_match(&first, topics.version), Some("t.*"));
    first.matched = names(&["t"]);
    assert_eq!(count(&group.beat(&first, 0, &topics).unwrap()), 2);
    assert_eq!(group.to_match(&beat("a", 1), topics.version), None);
    topics.set("t2", 1);
    assert_eq!(group.to_match(&beat("a", 1), topics.version), Some("t.*"));
    let next = Beat { matched: names(&["t", "t2"]), ..beat("a", 1) };
    assert_eq!(count(&group.beat(&next, 0, &topics).unwrap()), 3);
    let none = Beat { pattern: Some(String::new()), names: names(&[]), ..beat("a", 2) };
    assert_eq!(group.to_match(&none, topics.version), None);
    assert_eq!(count(&group.beat(&none, 0, &topics).unwrap()), 0);
}

#[test]
fn most_members_choose_how_it_is_shared_out() {
    let topics = Topics::of(&[("t", 4)]);
    let mut group = Group::new(Sharing::Consumer, 0);
    let with = |member, assignor| Beat { assignor, ..join(member, &["t"]) };
    group.beat(&with("a", Some(Assignor::Range)), 0, &topics).unwrap();
    group.beat(&with("b", None), 0, &topics).unwrap();
    assert_eq!(group.assignor, Assignor::Range);
    group.beat(&with("c", Some(Assignor::Uniform)), 0, &topics).unwrap();
    group.beat(&with("d", Some(Assignor::Uniform)), 0, &topics).unwrap();
    assert_eq!(group.assignor, Assignor::Uniform);
}

#[test]
fn when_partitions_are_shared_members_have_theirs_at_once() {
    let topics = Topics::of(&[("t", 1)]);
    let mut group = Group::new(Sharing::Share, 0);
    assert_eq!(count(&group.beat(&join("a", &["t"]), 0, &topics).unwrap()), 1);
    assert_eq!(count(&group.beat(&join("b", &["t"]), 0, &topics).unwrap()), 1);
    assert_eq!(group.beat(&beat("a", 1), 0, &topics).unwrap().epoch, 2);
    assert_eq!(group.phase(), Phase::Stable);
    let mut group = restart(&group, 0);
    assert_eq!(group.beat(&beat("a", 2), 0, &topics).unwrap().epoch, 2);
}

/// A client as it should be: it holds what it was told, and says what it holds.
#[derive(Default)]
struct Client {
    epoch: i32,
    holds: Partitions,
    wants: BTreeSet<String>,
    /// What it said that it holds, if that was heard.
    said: Option<Partitions>,
    /// It knows only groups that share out among themselves, and gives up all to do so or not.
    alike: Option<bool>,
}

struct World {
    group: Group,
    topics: Topics,
    clients: BTreeMap<String, Client>,
    now: u64,
}

impl World {
    fn beat(&mut self, id: &str, answer_is_lost: bool) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Some(is_eager) = client.alike {
            return self.beat_alike(id, is_eager, answer_is_lost);
        }
        let says = client.said.as_ref() != Some(&client.holds);
        let request = match client.epoch {
            JOINING => Beat { names: Some(client.wants.clone()), ..join(id, &[]) },
            epoch => Beat {
                owned: says.then(|| client.holds.clone()),
                names: says.then(|| client.wants.clone()),
                tell_all: says,
                ..beat(id, epoch)
            },
        };
        let answer = self.group.beat(&request, self.now, &self.topics);
        if answer_is_lost {
            // It says everything again.
            client.said = None;
            return;
        }
        match answer {
            Ok(beaten) => {
                client.said = request.owned.or(client.said.take());
                client.epoch = beaten.epoch;
                if let Some(assigned) = beaten.assigned {
                    client.holds = assigned;
                }
            }
            Err(GroupError::UnknownMember | GroupError::FencedEpoch) => {
                let wants = std::mem::take(&mut client.wants);
                *client = Client { wants, ..Client::default() };
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A heartbeat, and when that says so a join and a sync.
    fn beat_alike(&mut self, id: &str, is_eager: bool, answer_is_lost: bool) {
        let (group, now, topics) = (&mut self.group, self.now, &self.topics);
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.epoch != JOINING && client.said.is_some() {
            match group.heartbeat_alike(id, None, client.epoch, now, topics) {
                Ok(()) => return,
                Err(GroupError::Rebalancing) => {}
                Err(GroupError::UnknownMember | GroupError::IllegalGeneration) => {
                    client.holds.clear();
                }
                Err(error) => panic!("{error}"),
            }
        }
        if is_eager {
            client.holds.clear();
        }
        let request = Beat {
            names: Some(client.wants.clone()),
            owned: Some(client.holds.clone()),
            ..join(id, &[])
        };
        group.join_alike(&request, &Vec::new(), now, topics).unwrap();
        client.said = None;
        if !answer_is_lost {
            let member = &group.members[id];
            client.epoch = member.epoch;
            client.holds.clone_from(&member.assigned);
            client.said = Some(client.holds.clone());
        }
    }

    fn check(&self) {
        let mut owners: BTreeMap<(u128, i32), &str> = BTreeMap::new();
        for (id, client) in &self.clients {
            for one in each(&client.holds) {
                let other = owners.insert(one, id);
                assert_eq!(other, None, "{one:?} is held by {id} too");
            }
        }
        let may_hold = self.group.members.values();
        let may_hold: Vec<_> =
            may_hold.flat_map(|one| each(&one.assigned).chain(each(&one.revoking))).collect();
        let once: std::collections::HashSet<_> = may_hold.iter().copied().collect();
        assert_eq!(once.len(), may_hold.len(), "a partition was given twice");
        assert_eq!(once, self.group.held);
    }
}

proptest::proptest! {
    /// Whatever clients, topics and the server do: no partition is held by two clients, and when all
    /// is quiet everything that is wanted is held by somebody who wants it.
    #[test]
    fn nobody_holds_what_another_does_and_all_is_held_in_the_end(
        steps in proptest::collection::vec((0_u8..16, 0_usize..5, 0_u8..8), 1..160),
    ) {
        let names = ["t", "u", "v"];
        let mut world = World {
            group: Group::new(Sharing::Consumer, 0),
            topics: Topics::of(&[("t", 3), ("u", 5)]),
            clients: BTreeMap::new(),
            now: 0,
        };
        let wish = |bits: u8| -> BTreeSet<String> {
            let wanted = names.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            wanted.map(|(_, name)| (*name).to_owned()).collect()
        };
        for (what, who, bits) in steps {
            let id = format!("member {who}");
            world.now += 100;
            let before = world.group.epoch;
            match what {
                0..=5 => world.beat(&id, false),
                6 => world.beat(&id, true),
                7 | 8 => {
                    let alike = [None, None, Some(true), Some(false), None][who];
                    let new = Client { wants: wish(bits), alike, ..Client::default() };
                    world.clients.entry(id.clone()).or_insert(new);
                    world.beat(&id, false);
                }
                9 => {
                    let gone = world.clients.remove(&id);
                    if let Some(gone) = gone {
                        drop(world.group.beat(&beat(&id, LEAVING), world.now, &world.topics));
                        drop(gone);
                    }
                }
                // Killed, and perhaps there again under the same name.
                10 => drop(world.clients.remove(&id)),
                11 => {
                    if let Some(client) = world.clients.get_mut(&id) {
                        client.wants = wish(bits);
                        client.said = None;
                    }
                }
                12 => world.topics.set(names[who % 3], i32::from(bits)),
                13 => world.group = restart(&world.group, world.now),
                14 => {
                    // Time goes on; those who live are heard of before their sessions end.
                    world.now += SESSION_MS / 2;
                    for id in world.clients.keys().cloned().collect::<Vec<_>>() {
                        world.beat(&id, false);
                    }
                    for id in world.group.overdue(world.now) {
                        world.clients.remove(&id);
                        world.group.remove(&id);
                    }
                }
                _ => {
                    // Everybody is heard of, some twice.
                    for id in world.clients.keys().cloned().collect::<Vec<_>>() {
                        world.beat(&id, bits == 0);
                        world.beat(&id, false);
                    }
                }
            }
            assert!(world.group.epoch >= before && world.group.epoch >= world.group.assignment_epoch);
            world.check();
        }
        // Who was killed is forgotten, and the others go on.
        for _ in 0..6 {
            world.now += SESSION_MS / 3;
            for id in world.clients.keys().cloned().collect::<Vec<_>>() {
                world.beat(&id, false);
                world.check();
            }
            for id in world.group.overdue(world.now) {
                world.group.remove(&id);
            }
        }
        let expected = if world.clients.is_empty() { Phase::Empty } else { Phase::Stable };
        assert_eq!(world.group.phase(), expected);
        for (name, (topic, partitions)) in &world.topics.all {
            let wanted = world.clients.values().any(|client| client.wants.contains(name));
            for one in 0..*partitions {
                let held = world.clients.values().filter(|client| {
                    has(&client.holds, (*topic, one)) && client.wants.contains(name)
                });
                assert_eq!(held.count(), usize::from(wanted), "{name}-{one}");
            }
        }
        for (id, client) in &world.clients {
            assert_eq!(client.holds, world.group.members[id].target);
        }
    }
}
