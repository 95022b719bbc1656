//! One step under way: the state as it will be, and what it takes to get there.
//!
//! Not here: decisions. Those are in the modules named after them; all change the state through
//! this one, so that records, events and wishes to the agent stay in step.

use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, Now, ServiceName, SteadyNanos};

use crate::action::Action;
use crate::record::{EventRecord, InstanceRecord, Level, Phase, Release, ServiceRecord, Then};
use crate::state::{Asked, State, Told, Wish, difference};

/// A wish that the agent did not seem to hear is repeated after this long.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Grace of an instance that no record knows, so that no definition says any.
const UNKNOWN_GRACE: Duration = Duration::from_secs(10);

/// Changes of health told of one instance or service in a window; more are counted.
const TOLD_MAX: u32 = 6;
const TOLD_WINDOW: Duration = Duration::from_secs(60);

/// Longest event message, in bytes; a crash brings 20 lines that may be long.
const MESSAGE_BYTES_MAX: usize = 4096;

pub(crate) struct Work {
    pub(crate) now: Now,
    pub(crate) state: State,
    effects: Vec<Action>,
    events: Vec<EventRecord>,
    wake: Option<SteadyNanos>,
    /// Something changed since the last look: reconcile once more.
    pub(crate) dirty: bool,
}

impl Work {
    pub(crate) fn new(state: State, now: Now) -> Work {
        Work { now, state, effects: Vec::new(), events: Vec::new(), wake: None, dirty: false }
    }

    /// The state as it will be, and the actions that differ it from `before`.
    pub(crate) fn finish(self, before: &State) -> (State, Vec<Action>) {
        let mut actions = difference(before, &self.state);
        actions.extend(self.effects);
        actions.extend(self.events.into_iter().map(Action::Emit));
        actions.extend(self.wake.map(Action::WakeAt));
        (self.state, actions)
    }

    /// Has this moment come? If not, wakes up then.
    pub(crate) fn due(&mut self, at: SteadyNanos) -> bool {
        if at <= self.now.steady {
            return true;
        }
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        false
    }

    pub(crate) fn effect(&mut self, action: Action) {
        self.effects.push(action);
    }

    /// Notes an event about a service.
    pub(crate) fn say(&mut self, level: Level, kind: &str, about: &ServiceName, message: String) {
        self.event(level, kind, Some(about.clone()), None, message);
    }

    /// Notes an event about an instance.
    pub(crate) fn tell(&mut self, level: Level, kind: &str, about: &InstanceId, message: String) {
        let service = Some(about.service().clone());
        self.event(level, kind, service, Some(about.clone()), message);
    }

    pub(crate) fn event(
        &mut self,
        level: Level,
        kind: &str,
        service: Option<ServiceName>,
        instance: Option<InstanceId>,
        mut message: String,
    ) {
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            message.push('…');
        }
        let kind = kind.to_owned();
        let at = self.now.wall;
        self.events.push(EventRecord { seq: 0, at, level, kind, service, instance, message });
    }

    /// May one more change of health be told of `about`? Returns what to add to the message. Health
    /// that flaps must not push everything else out of the journal.
    pub(crate) fn may_tell(&mut self, about: &str) -> Option<String> {
        let now = self.now.steady;
        let fresh = Told { since: now, count: 0, kept_back: 0 };
        let told = self.state.live.told.entry(about.to_owned()).or_insert(fresh);
        let kept_back = told.kept_back;
        if now >= told.since.plus(TOLD_WINDOW) {
            *told = fresh;
        }
        if told.count >= TOLD_MAX {
            told.kept_back += 1;
            return None;
        }
        told.count += 1;
        let more = told.count == 1 && kept_back > 0;
        Some(if more {
            format!(" ({kept_back} more changes were not noted)")
        } else {
            String::new()
        })
    }

    /// Changes a service's record, if it exists.
    pub(crate) fn service(&mut self, name: &ServiceName, edit: impl FnOnce(&mut ServiceRecord)) {
        if let Some(record) = self.state.services.get_mut(name) {
            self.dirty |= edited(record, edit);
        }
    }

    /// Changes an instance's record, if it exists.
    pub(crate) fn instance(&mut self, id: &InstanceId, edit: impl FnOnce(&mut InstanceRecord)) {
        if let Some(record) = self.state.instances.get_mut(id) {
            self.dirty |= edited(record, edit);
        }
    }

    /// Changes where a release stands, if it exists.
    pub(crate) fn release(
        &mut self,
        service: &ServiceName,
        number: u64,
        edit: impl FnOnce(&mut Release),
    ) {
        if let Some(record) = self.state.releases.get_mut(&(service.clone(), number)) {
            self.dirty |= edited(record, edit);
        }
    }

    /// Forgets an instance. The agent must not list it any more.
    pub(crate) fn forget(&mut self, id: &InstanceId) {
        self.state.instances.remove(id);
        self.state.live.unhealthy_since.remove(id);
        self.state.live.late.remove(id);
        self.state.live.broken.remove(id);
        self.state.live.out_since.remove(id);
        self.state.live.asked.remove(id);
        self.state.live.told.remove(&id.to_string());
        self.dirty = true;
    }

    /// Takes an instance out of service: it gets no new requests, may finish what it has until
    /// `within` has passed, and is then stopped. One that does not run just goes.
    pub(crate) fn leave(&mut self, id: &InstanceId, then: Then, within: Duration, why: &str) {
        let Some(record) = self.state.instances.get(id).cloned() else { return };
        let until = self.now.steady.plus(within);
        let listed =
            self.state.observed.as_ref().is_none_or(|seen| seen.instances.contains_key(id));
        match record.phase {
            Phase::Starting | Phase::Healthy | Phase::Unhealthy => {
                self.instance(id, |r| {
                    r.phase = Phase::Draining;
                    r.then = Some(then);
                    r.drain_until = Some(until);
                    r.why = why.to_owned();
                });
                if then == Then::Remove {
                    let message = format!("{id} is taken out: {why}");
                    self.tell(Level::Info, "instance-leaving", id, message);
                }
            }
            // It leaves already; it may only have to leave for good, and sooner.
            Phase::Draining => self.instance(id, |r| {
                if then == Then::Remove && r.then != Some(Then::Remove) {
                    r.then = Some(then);
                    r.why = why.to_owned();
                }
                r.drain_until = r.drain_until.map(|at| at.min(until)).or(Some(until));
            }),
            Phase::Pending | Phase::Stopped | Phase::Failed if !listed => self.forget(id),
            Phase::Pending | Phase::Stopped | Phase::Failed => {
                self.instance(id, |r| {
                    r.phase = Phase::Stopped;
                    r.then = Some(Then::Remove);
                    r.why = why.to_owned();
                });
                self.ask_remove(id);
            }
        }
    }

    /// Asks the agent to start this attempt.
    pub(crate) fn ask_start(&mut self, id: &InstanceId) {
        let Some(record) = self.state.instances.get(id).cloned() else { return };
        if self.ask(id, Wish::Start, record.attempt, ASK_AGAIN_AFTER) {
            self.effect(Action::StartInstance(record));
        }
    }

    /// Asks the agent to run the `post_start` steps of this attempt.
    pub(crate) fn ask_post_start(&mut self, id: &InstanceId) {
        let Some(record) = self.state.instances.get(id).cloned() else { return };
        if self.ask(id, Wish::PostStart, record.attempt, ASK_AGAIN_AFTER) {
            self.effect(Action::RunPostStart(record));
        }
    }

    /// Was the agent asked to start this attempt a moment ago, so that it may not list it yet?
    pub(crate) fn start_is_fresh(&self, record: &InstanceRecord) -> bool {
        self.state.live.asked.get(&record.id).is_some_and(|asked| {
            asked.what == Wish::Start
                && asked.attempt == record.attempt
                && self.now.steady < asked.at.plus(ASK_AGAIN_AFTER)
        })
    }

    /// Asks the agent to stop it; what is left of the grace period when it was asked before.
    pub(crate) fn ask_stop(&mut self, id: &InstanceId) {
        let Some(record) = self.state.instances.get(id).cloned() else { return };
        let release = self.state.release(record.service(), record.release);
        let (signal, grace) = match release.map(|r| &r.definition) {
            Some(d) => (d.stop_signal.clone(), d.stop_grace_period),
            None => (None, UNKNOWN_GRACE),
        };
        let now = self.now.steady;
        let grace = grace.saturating_sub(now.since(record.stop_at.unwrap_or(now)));
        if self.ask(id, Wish::Stop, record.attempt, grace + ASK_AGAIN_AFTER) {
            let signal = signal.unwrap_or_else(|| "SIGTERM".to_owned());
            self.effect(Action::StopInstance { id: id.clone(), signal, grace });
        }
    }

    /// Asks the agent to stop what no record explains. True when it had not been asked yet.
    pub(crate) fn ask_stop_unknown(&mut self, id: &InstanceId, attempt: u32) -> bool {
        let asked = self.ask(id, Wish::Stop, attempt, UNKNOWN_GRACE + ASK_AGAIN_AFTER);
        if asked {
            let signal = "SIGTERM".to_owned();
            self.effect(Action::StopInstance { id: id.clone(), signal, grace: UNKNOWN_GRACE });
        }
        asked
    }

    /// Asks the agent to clear away whatever attempt of it has ended.
    pub(crate) fn ask_remove(&mut self, id: &InstanceId) {
        let seen = self.state.observed.as_ref().and_then(|seen| seen.instances.get(id));
        let Some(attempt) = seen.map(|reported| reported.attempt) else { return };
        if self.ask(id, Wish::Remove, attempt, ASK_AGAIN_AFTER) {
            self.effect(Action::RemoveInstance { id: id.clone() });
        }
    }

    fn ask(&mut self, id: &InstanceId, what: Wish, attempt: u32, again: Duration) -> bool {
        let now = self.now.steady;
        let asked = &mut self.state.live.asked;
        let same = asked.get(id).filter(|a| a.what == what && a.attempt == attempt);
        if same.is_some_and(|a| now < a.at.plus(again)) {
            return false;
        }
        asked.insert(id.clone(), Asked { what, attempt, at: now });
        true
    }
}

fn edited<T: Clone + PartialEq>(record: &mut Arc<T>, edit: impl FnOnce(&mut T)) -> bool {
    let mut changed = T::clone(record);
    edit(&mut changed);
    let differs = changed != **record;
    if differs {
        *record = Arc::new(changed);
    }
    differs
}
