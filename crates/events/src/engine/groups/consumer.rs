//! How a member of a consumer group gets from what it holds to what it should hold, in two steps:
//! first it gives up, then it is given what others gave up.
//!
//! Not here: what it should hold (`membership`). Invariants: a partition that a member was given is
//! given to nobody else until the member says that it holds it no more, goes, or is removed; when all
//! members go on saying that they are there, all get to hold their target.

use super::assign::Partitions;
use super::membership::{Group, each, has};

impl Group {
    /// One step of a member towards its target. `owned` is what it says that it holds, `None` when
    /// that is what it said before.
    pub(super) fn reconcile(&mut self, id: &str, owned: Option<&Partitions>, now_ms: u64) {
        let epoch = self.assignment_epoch;
        let Some(member) = self.members.get_mut(id) else { return };
        if member.revoking.is_empty() {
            if member.epoch == epoch && !member.is_waiting {
                return;
            }
        } else {
            if holds_any(owned, &member.revoking) {
                return;
            }
            member.act_by_ms = None;
            let given_up = std::mem::take(&mut member.revoking);
            self.release(&given_up);
            self.touch(id);
        }
        let Some(member) = self.members.get_mut(id) else { return };
        let (keep, give_up) = split(&member.assigned, |one| has(&member.target, one));
        if holds_any(owned, &give_up) {
            member.assigned = keep;
            member.revoking = give_up;
            member.is_waiting = false;
            member.act_by_ms = Some(now_ms.saturating_add(member.rebalance_ms));
            self.touch(id);
            return;
        }
        for one in each(&give_up) {
            self.held.remove(&one);
        }
        let held = &self.held;
        let is_own_or_free = |one| has(&keep, one) || !held.contains(&one);
        let (assigned, others) = split(&member.target, is_own_or_free);
        self.held.extend(each(&assigned));
        let is_waiting = !others.is_empty();
        let is_new =
            member.epoch != epoch || member.assigned != assigned || member.is_waiting != is_waiting;
        if member.epoch != epoch {
            member.previous_epoch = std::mem::replace(&mut member.epoch, epoch);
        }
        member.assigned = assigned;
        member.is_waiting = is_waiting;
        if is_new {
            self.touch(id);
        }
    }
}

/// Whether a member holds some of these; who says nothing holds all that it was given.
fn holds_any(owned: Option<&Partitions>, these: &Partitions) -> bool {
    match owned {
        None => !these.is_empty(),
        Some(owned) => each(these).any(|one| has(owned, one)),
    }
}

/// Those that fit, and the others.
fn split(all: &Partitions, fits: impl Fn((u128, i32)) -> bool) -> (Partitions, Partitions) {
    let (mut inside, mut outside) = (Partitions::new(), Partitions::new());
    for (topic, one) in each(all) {
        let to = if fits((topic, one)) { &mut inside } else { &mut outside };
        to.entry(topic).or_default().insert(one);
    }
    (inside, outside)
}
