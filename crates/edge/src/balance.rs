//! Which endpoint gets the next request: pure choice over weights and counts.

/// What the choice sees of an endpoint.
pub(crate) trait Candidate {
    /// Its share; 0 is never chosen.
    fn weight(&self) -> u32;
    /// Requests and sessions under way to it.
    fn under_way(&self) -> u32;
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
        let load = u64::from(candidate.under_way()) + 1;
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    struct One {
        weight: u32,
        inflight: Cell<u32>,
        credit: Cell<i64>,
    }

    impl Candidate for One {
        fn weight(&self) -> u32 {
            self.weight
        }
        fn under_way(&self) -> u32 {
            self.inflight.get()
        }
        fn credit(&self) -> i64 {
            self.credit.get()
        }
        fn set_credit(&self, credit: i64) {
            self.credit.set(credit);
        }
    }

    fn with(weights: &[u32]) -> Vec<One> {
        let one = |&weight| One { weight, inflight: Cell::new(0), credit: Cell::new(0) };
        weights.iter().map(one).collect()
    }

    #[test]
    fn smooth_round_robin_spreads_as_nginx_documents() {
        let all = with(&[5, 1, 1]);
        let turns: Vec<_> = (0..7).map(|_| round_robin(&all, |_| true).unwrap()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn ties_rotate() {
        let all = with(&[1, 1, 1]);
        let turns: Vec<_> = (0..6).map(|t| least_requests(&all, t, |_| true).unwrap()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn least_requests_is_the_smallest_quotient(
            each in prop::collection::vec((0u32..5, 0u32..50, any::<bool>()), 0..8),
            turn in any::<usize>(),
        ) {
            let all = with(&each.iter().map(|e| e.0).collect::<Vec<_>>());
            for (one, (_, inflight, _)) in all.iter().zip(&each) {
                one.inflight.set(*inflight);
            }
            let may = |one: &One| {
                each[all.iter().position(|other| std::ptr::eq(other, one)).unwrap()].2
            };
            let quotient =
                |at: usize| f64::from(each[at].1 + 1) / f64::from(each[at].0);
            let smallest = (0..each.len())
                .filter(|&at| each[at].0 > 0 && each[at].2)
                .map(quotient)
                .min_by(f64::total_cmp);
            let got = least_requests(&all, turn, may);
            prop_assert_eq!(got.map(quotient), smallest);
        }

        #[test]
        fn round_robin_gives_each_its_share(weights in prop::collection::vec(0u32..7, 1..6)) {
            let all = with(&weights);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0; weights.len()];
            for _ in 0..total {
                counts[round_robin(&all, |_| true).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
