//! Which endpoint gets the next request: pure choice over weights and counts.

/// What the choice sees of an endpoint.
pub(crate) trait Candidate {
    /// Its share; 0 is never chosen.
    fn weight(&self) -> u32;
    /// Requests under way to it.
    fn inflight(&self) -> u32;
    /// Its credit in the smooth round robin.
    fn credit(&self) -> i64;
    /// Sets its credit.
    fn set_credit(&self, credit: i64);
}

/// The candidate with the smallest (requests under way + 1) / weight. Of equals the one that comes
/// first from `turn` on; a `turn` that grows makes ties rotate.
pub(crate) fn least_requests<C: Candidate>(
    candidates: &[C],
    turn: usize,
    may: impl Fn(&C) -> bool,
) -> Option<usize> {
    let count = candidates.len();
    let mut best: Option<(usize, u64, u64)> = None;
    for offset in 0..count {
        let at = (turn % count + offset) % count;
        let candidate = &candidates[at];
        let weight = u64::from(candidate.weight());
        if weight == 0 || !may(candidate) {
            continue;
        }
        let load = u64::from(candidate.inflight()) + 1;
        // load / weight < best load / best weight, without division.
        if best.is_none_or(|(_, best_load, best_weight)| load * best_weight < best_load * weight) {
            best = Some((at, load, weight));
        }
    }
    best.map(|(at, ..)| at)
}

/// Smooth weighted round robin: each gains its weight, the richest is chosen and pays the total.
pub(crate) fn round_robin<C: Candidate>(
    candidates: &[C],
    may: impl Fn(&C) -> bool,
) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let weight = i64::from(candidate.weight());
        if weight == 0 || !may(candidate) {
            continue;
        }
        total += weight;
        let credit = candidate.credit() + weight;
        candidate.set_credit(credit);
        if best.is_none_or(|(_, best)| credit > best) {
            best = Some((at, credit));
        }
    }
    let (at, credit) = best?;
    candidates[at].set_credit(credit - total);
    Some(at)
}
