//! Who of a group's members gets which partitions: pure functions from what members want and had.
//!
//! Not here: when that is asked, and how members get from what they hold to what they should
//! (`membership`, `consumer`). Invariants: but for [`Assignor::Simple`] a partition is given to one
//! member, and each partition that anybody wants is given; members get only what they want; the same
//! question has the same answer.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

/// Partitions by their topics' ids.
pub type Partitions = BTreeMap<u128, BTreeSet<i32>>;

/// A way of sharing out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assignor {
    /// Everybody gets as much as everybody else, and keeps what they had if they may.
    #[default]
    Uniform,
    /// Everybody gets neighbours of each topic, the same numbers of topics of one size.
    Range,
    /// For groups whose members share partitions: everybody gets some, and when there are more
    /// members than partitions, some get the same.
    Simple,
}

impl Assignor {
    /// As the protocol calls it.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
            Assignor::Simple => "simple",
        }
    }
}

/// What a member wants.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Ids of topics.
    pub topics: BTreeSet<u128>,
    /// What was its own by the last answer.
    pub had: Partitions,
    /// What members are ordered by: a name that outlives restarts keeps its place.
    pub order: String,
}

/// Shares out the partitions of topics, given by id with how many each has. Answers in the order
/// of the wishes.
pub fn assign(how: Assignor, wishes: &[Wish], topics: &BTreeMap<u128, i32>) -> Vec<Partitions> {
    match how {
        Assignor::Uniform => uniform(wishes, topics),
        Assignor::Range => range(wishes, topics),
        Assignor::Simple => simple(wishes, topics),
    }
}

/// Those who want a topic, in their order.
fn wanting(wishes: &[Wish], order: &[usize], topic: u128) -> Vec<usize> {
    order.iter().copied().filter(|at| wishes[*at].topics.contains(&topic)).collect()
}

fn ordered(wishes: &[Wish]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|a, b| wishes[*a].order.cmp(&wishes[*b].order));
    order
}

fn range(wishes: &[Wish], topics: &BTreeMap<u128, i32>) -> Vec<Partitions> {
    let mut given = vec![Partitions::new(); wishes.len()];
    let order = ordered(wishes);
    for (topic, count) in topics {
        let members = wanting(wishes, &order, *topic);
        let mut next = 0;
        for (place, member) in members.iter().enumerate() {
            let left = usize::try_from(count - next).unwrap_or(0);
            let own = left.div_ceil(members.len() - place);
            let end = next + i32::try_from(own).unwrap_or(0);
            if own > 0 {
                given[*member].insert(*topic, (next..end).collect());
            }
            next = end;
        }
    }
    given
}

fn simple(wishes: &[Wish], topics: &BTreeMap<u128, i32>) -> Vec<Partitions> {
    let mut given = vec![Partitions::new(); wishes.len()];
    let order = ordered(wishes);
    let mut first = 0;
    for (topic, count) in topics {
        let members = wanting(wishes, &order, *topic);
        let partitions = usize::try_from(*count).unwrap_or(0);
        if members.is_empty() || partitions == 0 {
            continue;
        }
        for at in 0..members.len().max(partitions) {
            let member = members[(first + at) % members.len()];
            let partition = i32::try_from(at % partitions).unwrap_or(0);
            given[member].entry(*topic).or_default().insert(partition);
        }
        // The next topic begins where this one ended: many small ones are spread too.
        first += members.len().max(partitions);
    }
    given
}

/// Members by how much they have.
struct Loads {
    of: Vec<usize>,
    sorted: BTreeSet<(usize, usize)>,
}

impl Loads {
    fn change(&mut self, member: usize, to: usize) {
        self.sorted.remove(&(self.of[member], member));
        self.of[member] = to;
        self.sorted.insert((to, member));
    }

    /// Who has least of those who want a topic.
    fn least(&self, wishes: &[Wish], topic: u128, below: usize) -> Option<usize> {
        let all = self.sorted.iter().take_while(|(load, _)| *load < below);
        all.map(|(_, member)| *member).find(|member| wishes[*member].topics.contains(&topic))
    }
}

fn uniform(wishes: &[Wish], topics: &BTreeMap<u128, i32>) -> Vec<Partitions> {
    let mut given = vec![Partitions::new(); wishes.len()];
    let mut taken: HashSet<(u128, i32)> = HashSet::new();
    // What members had stays with them for now.
    for (member, wish) in wishes.iter().enumerate() {
        for (topic, had) in &wish.had {
            let Some(count) = topics.get(topic) else { continue };
            if !wish.topics.contains(topic) {
                continue;
            }
            let own: BTreeSet<i32> = had
                .iter()
                .copied()
                .filter(|one| one < count && taken.insert((*topic, *one)))
                .collect();
            if !own.is_empty() {
                given[member].insert(*topic, own);
            }
        }
    }
    let of: Vec<usize> = given.iter().map(size).collect();
    let sorted = of.iter().enumerate().map(|(member, load)| (*load, member)).collect();
    let mut loads = Loads { of, sorted };
    for (topic, count) in topics {
        for partition in 0..*count {
            if taken.contains(&(*topic, partition)) {
                continue;
            }
            let Some(member) = loads.least(wishes, *topic, usize::MAX) else { break };
            given[member].entry(*topic).or_default().insert(partition);
            loads.change(member, loads.of[member] + 1);
        }
    }
    level(wishes, &mut given, &mut loads);
    given
}

/// Moves partitions from those who have most as long as somebody has less by two: each move makes
/// the sum of squares of loads smaller, so it ends.
fn level(wishes: &[Wish], given: &mut [Partitions], loads: &mut Loads) {
    loop {
        let mut moved = false;
        // Those who may have something to give; always the one with most, so that who gives does
        // not get something else for it.
        let mut donors = loads.sorted.clone();
        while let Some((load, donor)) = donors.pop_last() {
            let Some((topic, to)) = gift(wishes, given, loads, donor) else { continue };
            let own = given[donor].get_mut(&topic);
            let Some(partition) = own.and_then(BTreeSet::pop_last) else { continue };
            given[donor].retain(|_, own| !own.is_empty());
            given[to].entry(topic).or_default().insert(partition);
            if donors.remove(&(loads.of[to], to)) {
                donors.insert((loads.of[to] + 1, to));
            }
            donors.insert((load - 1, donor));
            loads.change(donor, load - 1);
            loads.change(to, loads.of[to] + 1);
            moved = true;
        }
        if !moved {
            return;
        }
    }
}

/// A topic that somebody with too much could give of, and to whom.
fn gift(
    wishes: &[Wish],
    given: &[Partitions],
    loads: &Loads,
    donor: usize,
) -> Option<(u128, usize)> {
    let below = loads.of[donor].checked_sub(1)?;
    let topics = given[donor].keys();
    let able = topics.filter_map(|topic| Some((*topic, loads.least(wishes, *topic, below)?)));
    able.min_by_key(|(_, to)| loads.of[*to])
}

/// How many partitions.
pub fn size(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(order: &str, topics: &[u128]) -> Wish {
        Wish {
            topics: topics.iter().copied().collect(),
            had: Partitions::new(),
            order: order.to_owned(),
        }
    }

    #[test]
    fn ranges_are_neighbours_and_alike_in_topics_of_one_size() {
        let wishes = [wish("b", &[1, 2]), wish("a", &[1, 2]), wish("c", &[2])];
        let given = assign(Assignor::Range, &wishes, &[(1, 5), (2, 3)].into());
        let of = |topic, own: &[i32]| (topic, own.iter().copied().collect::<BTreeSet<_>>());
        assert_eq!(given[1], [of(1, &[0, 1, 2]), of(2, &[0])].into());
        assert_eq!(given[0], [of(1, &[3, 4]), of(2, &[1])].into());
        assert_eq!(given[2], [of(2, &[2])].into());
    }

    #[test]
    fn more_members_than_partitions_share_them() {
        let wishes = [wish("a", &[1]), wish("b", &[1]), wish("c", &[1])];
        let given = assign(Assignor::Simple, &wishes, &[(1, 2)].into());
        let own: Vec<i32> = given.iter().flat_map(|own| own[&1].iter().copied()).collect();
        assert_eq!(own, [0, 1, 0]);
    }

    #[test]
    fn one_more_member_takes_from_each_no_more_than_its_part() {
        let topics = [(1, 6), (2, 6)].into();
        let mut wishes = vec![wish("a", &[1, 2]), wish("b", &[1, 2])];
        let before = assign(Assignor::Uniform, &wishes, &topics);
        assert_eq!(before.iter().map(size).collect::<Vec<_>>(), [6, 6]);
        for (wish, had) in wishes.iter_mut().zip(&before) {
            wish.had.clone_from(had);
        }
        wishes.push(wish("c", &[1, 2]));
        let after = assign(Assignor::Uniform, &wishes, &topics);
        assert_eq!(after.iter().map(size).collect::<Vec<_>>(), [4, 4, 4]);
        for (had, has) in before.iter().zip(&after) {
            for (topic, own) in has {
                assert!(own.is_subset(&had[topic]), "nothing changed hands between the two");
            }
        }
    }

    proptest::proptest! {
        /// Whatever members want and had: each partition that is wanted has one owner who wants it,
        /// and nobody could give one to somebody who has less by two.
        #[test]
        fn all_is_given_once_and_evenly(
            topics in proptest::collection::btree_map(0_u128..6, 1..12_i32, 0..6),
            members in proptest::collection::vec((
                proptest::collection::btree_set(0_u128..6, 0..6),
                proptest::collection::btree_map(
                    0_u128..7, proptest::collection::btree_set(0..14_i32, 0..6), 0..4),
            ), 0..8),
        ) {
            let wishes: Vec<Wish> = members
                .into_iter()
                .enumerate()
                .map(|(at, (topics, had))| Wish { topics, had, order: format!("{at}") })
                .collect();
            for how in [Assignor::Uniform, Assignor::Range] {
                let given = assign(how, &wishes, &topics);
                let mut owners: BTreeMap<(u128, i32), usize> = BTreeMap::new();
                for (wish, own) in wishes.iter().zip(&given) {
                    for (topic, own) in own {
                        assert!(wish.topics.contains(topic) && !own.is_empty());
                        for one in own {
                            *owners.entry((*topic, *one)).or_default() += 1;
                        }
                    }
                }
                for (topic, count) in &topics {
                    let wanted = wishes.iter().any(|wish| wish.topics.contains(topic));
                    for one in 0..*count {
                        let owned = owners.remove(&(*topic, one)).unwrap_or(0);
                        assert_eq!(owned, usize::from(wanted), "{topic}-{one} with {how:?}");
                    }
                }
                assert!(owners.is_empty(), "no partition that is not there");
                if how == Assignor::Uniform {
                    for (donor, own) in given.iter().enumerate() {
                        for (to, wish) in wishes.iter().enumerate() {
                            let could = own.keys().any(|topic| wish.topics.contains(topic));
                            let uneven = size(&given[donor]) > size(&given[to]) + 1;
                            assert!(!(could && uneven), "{donor} has too much for {to}");
                        }
                    }
                }
            }
            let given = assign(Assignor::Simple, &wishes, &topics);
            for (topic, count) in &topics {
                for one in 0..*count {
                    let wanted = wishes.iter().any(|wish| wish.topics.contains(topic));
                    let owned = given.iter().any(|own| own.get(topic).is_some_and(|own| own.contains(&one)));
                    assert_eq!(owned, wanted);
                }
            }
            for (wish, own) in wishes.iter().zip(&given) {
                let could = wish.topics.iter().all(|topic| !topics.contains_key(topic));
                assert_eq!(own.is_empty(), could, "everybody has something");
            }
        }
    }
}
