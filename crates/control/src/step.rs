//! The pure core: one event in, what to do out.
//!
//! No clock, no I/O, no globals; jitter comes from the state's seed. A step takes the event in,
//! then compares what should be with what is until nothing more follows from what is known.

use base::Now;

use crate::action::Action;
use crate::event::Event;
use crate::state::State;
use crate::work::Work;
use crate::{command, drain, gate, observe, rollout, route, share, supervise, view};

/// A step that has not settled after this many looks goes on with the next event. Each look
/// settles what the one before made possible; three are usual.
const LOOKS_MAX: usize = 16;

/// What to do about `event` at `now`.
pub fn step(state: &State, event: &Event, now: Now) -> Vec<Action> {
    advance(state, event, now).1
}

/// What to do about `event` at `now`, and the state once that is written.
pub fn advance(state: &State, event: &Event, now: Now) -> (State, Vec<Action>) {
    let mut work = Work::new(state.clone(), now);
    match event {
        Event::Command(command) => command::carry_out(&mut work, command),
        Event::Observed(observation) => observe::take_in(&mut work, observation),
        Event::Tick => {}
        Event::Noted(note) => {
            work.event(note.level, &note.kind, None, None, note.message.clone());
        }
    }
    // Before the first observation nobody knows what runs: plan nothing, touch nothing.
    if work.state.observed.is_some() {
        for _ in 0..LOOKS_MAX {
            work.dirty = false;
            reconcile(&mut work);
            if !work.dirty {
                break;
            }
        }
        route::plan(&mut work);
        // What the plan has taken out already may be stopped at once.
        drain::proceed(&mut work);
    }
    view::note_health(&mut work);
    work.finish(state)
}

fn reconcile(work: &mut Work) {
    gate::open(work);
    let names: Vec<_> = work.state.services.keys().cloned().collect();
    for name in &names {
        supervise::late(work, name);
        supervise::unhealthy(work, name);
        share::follow(work, name);
        rollout::converge(work, name);
    }
    supervise::launch(work);
    rollout::forget_removed(work);
}
