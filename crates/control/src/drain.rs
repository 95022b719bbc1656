//! Stopping what drains: once the edge cannot send it anything new and it has no request left to
//! answer, or at its deadline. Sessions are not waited for: the program ends them itself.

use base::InstanceId;

use crate::event::ReportedState;
use crate::record::{InstanceRecord, Phase};
use crate::state::State;
use crate::supervise;
use crate::work::Work;

/// Asks instances to stop whose time has come.
pub(crate) fn proceed(work: &mut Work) {
    let draining = work.state.instances.values().filter(|r| r.phase == Phase::Draining);
    let draining: Vec<_> = draining.cloned().collect();
    for record in draining {
        let id = &record.id;
        if record.stop_at.is_none() {
            let prepares = supervise::prepares(&work.state, &record);
            // What is only being started is not there to be stopped yet; steps before it are.
            if !prepares && !runs(&work.state, &record) {
                continue;
            }
            let drained = prepares || is_drained(&work.state, id);
            if !drained && !record.drain_until.is_none_or(|at| work.due(at)) {
                continue;
            }
            let now = work.now.steady;
            work.instance(id, |r| r.stop_at = Some(now));
        }
        work.ask_stop(id);
    }
}

/// The agent has this attempt running.
fn runs(state: &State, record: &InstanceRecord) -> bool {
    let seen = state.observed.as_ref().and_then(|seen| seen.instances.get(&record.id));
    seen.is_some_and(|reported| {
        let running =
            !matches!(reported.state, ReportedState::Launching | ReportedState::Exited(_));
        reported.attempt == record.attempt && running
    })
}

/// The edge has confirmed that it sends nothing new, and no request is under way.
fn is_drained(state: &State, id: &InstanceId) -> bool {
    let (Some(seen), Some(since)) = (&state.observed, state.live.out_since.get(id)) else {
        return false;
    };
    seen.edge.applied_version >= *since && seen.edge.inflight.get(id).is_none_or(|n| *n == 0)
}
