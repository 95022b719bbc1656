//! Metric handles: what hot paths count into, and what telemetry reads.
//!
//! Not here: history, exposition formats and quantiles over time (the `telemetry` crate).
//!
//! Invariants: recording never locks and never allocates; a handle stays valid for the life of
//! its registry; a family has one kind; the number of series is bounded, and past the bound a
//! caller gets a handle that counts into a shared overflow series.

mod histogram;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use histogram::{BUCKETS, Histogram, HistogramSnapshot, bucket_upper, quantile};

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Moves it by `by`.
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a series of a family is about: label names with their values, in the family's order.
pub type Labels = Vec<(&'static str, String)>;

/// Where a series keeps its number.
#[derive(Clone, Debug)]
pub enum Handle {
    /// Only grows.
    Counter(Counter),
    /// Goes up and down.
    Gauge(Gauge),
    /// A distribution.
    Histogram(Histogram),
}

/// One series: a family's name, its labels, and the number.
#[derive(Clone, Debug)]
pub struct Series {
    /// Family name as Prometheus has it, such as `ms_edge_requests_total`.
    pub family: &'static str,
    /// Its labels.
    pub labels: Labels,
    /// The number.
    pub handle: Handle,
}

/// What a family means, for `# HELP`.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name, with its unit last: `_seconds`, `_bytes`, `_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
}

#[derive(Default)]
struct Inner {
    help: BTreeMap<&'static str, &'static str>,
    series: BTreeMap<(&'static str, Labels), Handle>,
    refused: u64,
    generation: u64,
}

/// Every series of this process. Cheap to clone; all clones are one registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
    series_max: usize,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new(20_000)
    }
}

impl Registry {
    /// A registry of at most `series_max` series.
    pub fn new(series_max: usize) -> Registry {
        Registry { inner: Arc::default(), series_max }
    }

    /// The counter of this family and labels, made when it is new.
    pub fn counter(&self, family: Family, labels: Labels) -> Counter {
        match self.handle(family, labels, || Handle::Counter(Counter::default())) {
            Handle::Counter(counter) => counter,
            _ => Counter::default(),
        }
    }

    /// The gauge of this family and labels, made when it is new.
    pub fn gauge(&self, family: Family, labels: Labels) -> Gauge {
        match self.handle(family, labels, || Handle::Gauge(Gauge::default())) {
            Handle::Gauge(gauge) => gauge,
            _ => Gauge::default(),
        }
    }

    /// The histogram of this family and labels, made when it is new.
    pub fn histogram(&self, family: Family, labels: Labels) -> Histogram {
        match self.handle(family, labels, || Handle::Histogram(Histogram::default())) {
            Handle::Histogram(histogram) => histogram,
            _ => Histogram::default(),
        }
    }

    /// Forgets every series for which `gone` is true; handles in use go on counting unseen.
    pub fn forget(&self, mut gone: impl FnMut(&str, &Labels) -> bool) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.series.retain(|(family, labels), _| !gone(family, labels));
    }

    /// Every series, ordered by family and labels.
    pub fn series(&self) -> Vec<Series> {
        let inner = self.lock();
        let each = inner.series.iter();
        each.map(|((family, labels), handle)| Series {
            family,
            labels: labels.clone(),
            handle: handle.clone(),
        })
        .collect()
    }

    /// Grows whenever series are made or forgotten, so that a reader knows when to list them anew.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// The help text of every family.
    pub fn help(&self) -> BTreeMap<&'static str, &'static str> {
        self.lock().help.clone()
    }

    /// How many series were asked for past the bound.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    fn handle(&self, family: Family, labels: Labels, make: impl FnOnce() -> Handle) -> Handle {
        let mut inner = self.lock();
        inner.help.entry(family.name).or_insert(family.help);
        let mut key = (family.name, labels);
        if !inner.series.contains_key(&key) && inner.series.len() >= self.series_max {
            inner.refused += 1;
            key.1 = vec![("overflow", "true".to_owned())];
        }
        let made = make();
        if !inner.series.contains_key(&key) {
            inner.generation += 1;
        }
        let handle = inner.series.entry(key).or_insert_with(|| made.clone()).clone();
        let mixed = std::mem::discriminant(&handle) != std::mem::discriminant(&made);
        if crate::never!(mixed, "a metric family has two kinds") { made } else { handle }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock; if something did, the map is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HITS: Family = Family { name: "hits_total", help: "Hits." };

    #[test]
    fn one_series_for_equal_labels() {
        let registry = Registry::default();
        registry.counter(HITS, vec![("to", "a".into())]).add(2);
        registry.counter(HITS, vec![("to", "a".into())]).add(3);
        registry.counter(HITS, vec![("to", "b".into())]).add(1);
        let seen: Vec<_> = registry
            .series()
            .into_iter()
            .map(|s| match s.handle {
                Handle::Counter(c) => (s.labels[0].1.clone(), c.get()),
                _ => unreachable!("only counters were made"),
            })
            .collect();
        assert_eq!(seen, [("a".to_owned(), 5), ("b".to_owned(), 1)]);
    }

    #[test]
    fn past_the_bound_counts_into_overflow() {
        let registry = Registry::new(1);
        registry.counter(HITS, vec![("to", "a".into())]).add(1);
        for to in ["b", "c"] {
            registry.counter(HITS, vec![("to", to.into())]).add(1);
        }
        assert_eq!(registry.series().len(), 2);
        assert_eq!(registry.refused(), 2);
        let before = registry.generation();
        registry.counter(HITS, vec![("to", "d".into())]);
        assert_eq!(registry.generation(), before, "no series is made past the bound");
        registry.forget(|_, labels| labels[0].1 == "a");
        assert!(registry.generation() > before);
        assert_eq!(registry.counter(HITS, vec![("overflow", "true".into())]).get(), 2);
    }
}
