//! A histogram that holds only the buckets that count something. Pure.
//!
//! Invariants: ordered by bucket, no empty bucket; merging adds exactly.

use base::metrics::{BUCKETS, bucket_upper};

use super::bytes::{Bytes, put};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse(Vec<(u16, u64)>);

impl Sparse {
    /// What was recorded since the last reading of the same buckets, which becomes this one.
    pub(super) fn since(last: &mut Vec<(u16, u32)>, now: &[u32]) -> Sparse {
        let mut then = std::mem::replace(last, Vec::with_capacity(last.len() + 4)).into_iter();
        let mut before = then.next();
        let mut found = Vec::new();
        for (bucket, &count) in (0u16..).zip(now).filter(|(_, count)| **count > 0) {
            // A count that wrapped to zero is passed over here, and so is what it was before.
            while before.is_some_and(|(each, _)| each < bucket) {
                before = then.next();
            }
            let known = before.filter(|(each, _)| *each == bucket).map_or(0, |(_, count)| count);
            if count != known {
                found.push((bucket, count.wrapping_sub(known).into()));
            }
            last.push((bucket, count));
        }
        Sparse(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many values.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The largest bucket's upper edge.
    pub(super) fn max(&self) -> Option<u64> {
        self.0.last().map(|(bucket, _)| bucket_upper((*bucket).into()))
    }

    /// The bucket that holds quantile `q`.
    pub(super) fn bucket_at(&self, q: f64) -> Option<u16> {
        let total = self.count();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank between 1 and total"
        )]
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        reached.map(|(bucket, _)| *bucket)
    }

    /// The value at quantile `q`, as `base::metrics::quantile` gives it.
    pub(super) fn quantile(&self, q: f64) -> Option<u64> {
        self.bucket_at(q).map(|bucket| bucket_upper(bucket.into()))
    }

    pub(super) fn merge(&mut self, other: &Sparse) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len().max(other.0.len()) + 4);
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let bucket = a.0.min(b.0);
            let a = left.next_if(|a| a.0 == bucket).map_or(0, |a| a.1);
            let b = right.next_if(|b| b.0 == bucket).map_or(0, |b| b.1);
            merged.push((bucket, a.saturating_add(b)));
        }
        merged.extend(left.chain(right));
        self.0 = merged;
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, self.0.len() as u64);
        let mut before = 0;
        for (bucket, count) in &self.0 {
            put(out, (bucket - before).into());
            put(out, *count);
            before = *bucket;
        }
    }

    pub(super) fn take(bytes: &mut Bytes<'_>) -> Option<Sparse> {
        let length: usize = bytes.narrow().filter(|length| *length <= BUCKETS)?;
        let mut found = Vec::with_capacity(length);
        let mut bucket = 0u16;
        for at in 0..length {
            let step: u16 = bytes.narrow()?;
            bucket = bucket.checked_add(step)?;
            let ordered = (at == 0 || step > 0) && usize::from(bucket) < BUCKETS;
            let count = bytes.number().filter(|count| ordered && *count > 0)?;
            found.push((bucket, count));
        }
        Some(Sparse(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::metrics::Histogram;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merges_and_quantiles_are_those_of_the_dense_one(
            first in prop::collection::vec(0u64..100_000, 0..60),
            second in prop::collection::vec(0u64..100_000, 0..60),
            q in 0.0f64..=1.0,
        ) {
            let histogram = Histogram::default();
            first.iter().for_each(|&v| histogram.record(v));
            let one = histogram.snapshot();
            second.iter().for_each(|&v| histogram.record(v));
            let both = histogram.snapshot();
            let mut last = Vec::new();
            let mut merged = Sparse::since(&mut last, &one.buckets);
            merged.merge(&Sparse::since(&mut last, &both.buckets));
            prop_assert_eq!(&merged, &Sparse::since(&mut Vec::new(), &both.buckets));
            prop_assert!(Sparse::since(&mut last, &both.buckets).is_empty());
            prop_assert_eq!(merged.count(), both.count);
            prop_assert_eq!(merged.quantile(q), both.quantile(q));
            let mut out = Vec::new();
            merged.put(&mut out);
            prop_assert_eq!(Sparse::take(&mut Bytes(&out)), Some(merged));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Sparse::take(&mut Bytes(&bytes));
        }
    }
}
