//! Stopping what drains: once the edge cannot send it anything new and it has nothing left to
//! answer, or at its deadline.

use base::InstanceId;

use crate::record::Phase;
use crate::state::State;
use crate::work::Work;

/// Asks instances to stop whose time has come.
pub(crate) fn proceed(work: &mut Work) {
    let draining = work.state.instances.values().filter(|r| r.phase == Phase::Draining);
    let draining: Vec<_> = draining.cloned().collect();
    for record in draining {
        let id = &record.id;
        if record.stop_at.is_none() {
            let drained = is_drained(&work.state, id);
            if !drained && !record.drain_until.is_none_or(|at| work.due(at)) {
                continue;
            }
            let now = work.now;
            work.instance(id, |r| r.stop_at = Some(now));
        }
        work.ask_stop(id);
    }
}

/// The edge has confirmed that it sends nothing new, and nothing is under way.
fn is_drained(state: &State, id: &InstanceId) -> bool {
    let (Some(seen), Some(since)) = (&state.observed, state.live.out_since.get(id)) else {
        return false;
    };
    seen.edge.applied_version >= *since && seen.edge.inflight.get(id).is_none_or(|n| *n == 0)
}
