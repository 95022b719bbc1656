//! The history against a naive model that keeps every reading for ever.

use std::collections::BTreeMap;

use base::metrics::{Family, HistogramSnapshot, bucket_upper, quantile};
use proptest::prelude::*;

use super::*;

const HITS: Family = Family { name: "hits_total", help: "Hits." };
const OPEN: Family = Family { name: "open", help: "Open." };
const TOOK: Family = Family { name: "took_seconds", help: "Took." };
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Start of the tests' time, in seconds.
const START: u64 = 1_795_321_200;

/// What happens before a sample: seconds that pass, and for each name hits, value and recorded.
type Step = (u64, [(u64, i64, Vec<u64>); 3]);

fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let recorded = prop::collection::vec(1u64..50_000, 0..4);
    let each = (prop_oneof![Just(0), 0u64..50, 0u64..1_000_000_000], -50i64..50, recorded);
    let passed = prop_oneof![20 => Just(1u64), 1 => 2u64..40];
    prop::collection::vec((passed, [each.clone(), each.clone(), each]), count)
}

/// One reading of everything.
struct Reading {
    second: u64,
    passed: u64,
    hits: [u64; 3],
    open: [i64; 3],
    took: [HistogramSnapshot; 3],
}

struct World {
    registry: Registry,
    readings: Vec<Reading>,
    second: u64,
}

impl World {
    fn new() -> World {
        World { registry: Registry::default(), readings: Vec::new(), second: START }
    }

    fn run(&mut self, history: &History, steps: &[Step]) {
        let label = |at: usize| vec![("to", NAMES[at].to_owned())];
        for (passed, each) in steps {
            for (at, (hits, open, took)) in each.iter().enumerate() {
                self.registry.counter(HITS, label(at)).add(*hits);
                self.registry.gauge(OPEN, label(at)).set(*open);
                let histogram = self.registry.histogram(TOOK, label(at));
                took.iter().for_each(|value| histogram.record(*value));
            }
            self.second += passed;
            let histogram = |at| self.registry.histogram(TOOK, label(at)).snapshot();
            self.readings.push(Reading {
                second: self.second,
                passed: *passed,
                hits: [0, 1, 2].map(|at| self.registry.counter(HITS, label(at)).get()),
                open: [0, 1, 2].map(|at| each[at].1),
                took: [0, 1, 2].map(histogram),
            });
            history.sample(UnixNanos(self.second * 1_000_000_000 + 5), &self.registry);
        }
    }

    /// The answer, worked out from all readings; `began` are the first readings of processes.
    fn naive(
        &self,
        show: Show,
        family: &str,
        from: u64,
        step: u64,
        began: &[usize],
    ) -> Option<f64> {
        let inside = |at: &usize| (from..from + step).contains(&self.readings[*at].second);
        let all: Vec<usize> = (0..self.readings.len()).filter(inside).collect();
        // A process's first reading says nothing about increases.
        let known: Vec<usize> = all.iter().copied().filter(|at| !began.contains(at)).collect();
        let passed: u64 = known.iter().map(|at| self.readings[*at].passed).sum();
        let increase =
            |at: usize, of: usize| self.readings[at].hits[of] - self.readings[at - 1].hits[of];
        let took = |at: usize, of: usize| {
            self.readings[at].took[of].since(&self.readings[at - 1].took[of])
        };
        let all_took = || known.iter().flat_map(|at| (0..3).map(move |of| took(*at, of)));
        let mut merged = vec![0u32; 512];
        all_took().for_each(|each| {
            merged.iter_mut().zip(&each.buckets).for_each(|(sum, more)| *sum += more);
        });
        let recorded: u64 = merged.iter().map(|n| u64::from(*n)).sum();
        match (family, show) {
            ("open", Show::Mean) => {
                let mean = |of: usize| {
                    all.iter().map(|at| self.readings[*at].open[of] as f64).sum::<f64>()
                        / all.len() as f64
                };
                (!all.is_empty()).then(|| (0..3).map(mean).sum())
            }
            ("open", _) => {
                all.iter().flat_map(|at| self.readings[*at].open).max().map(|max| max as f64)
            }
            _ if known.is_empty() => None,
            ("hits_total", Show::Rate) => {
                let sum: u64 =
                    known.iter().map(|at| (0..3).map(|of| increase(*at, of)).sum::<u64>()).sum();
                Some(sum as f64 / passed as f64)
            }
            ("hits_total", _) => known
                .iter()
                .flat_map(|at| (0..3).map(|of| increase(*at, of)))
                .max()
                .map(|m| m as f64),
            (_, Show::Rate) => Some(recorded as f64 / passed as f64),
            (_, Show::Mean) => {
                let sum: u64 = all_took().map(|each| each.sum).sum();
                (recorded > 0).then(|| sum as f64 / recorded as f64)
            }
            (_, Show::Max) => {
                let top = merged.iter().rposition(|n| *n > 0);
                Some(top.map_or(0.0, |top| bucket_upper(top) as f64))
            }
            (_, Show::Quantile(q)) => quantile(&merged, q).map(|value| value as f64),
        }
    }

    fn check(
        &self,
        history: &History,
        asked: &Asked,
        began: &[usize],
    ) -> Result<(), TestCaseError> {
        let (family, show) = asked.what;
        let since = (START + asked.since).min(self.second);
        let query = Query {
            family: family.to_owned(),
            labels: vec![("to".into(), NAMES.map(str::to_owned).to_vec())],
            group_by: Vec::new(),
            show,
            since: UnixNanos(since * 1_000_000_000),
            until: UnixNanos((self.second + 1) * 1_000_000_000),
            step_seconds: asked.step,
        };
        let answer = history.query(&query);
        prop_assert_eq!(answer.lines.len(), 1);
        let step = u64::from(answer.step_seconds);
        prop_assert!(step >= asked.step.into());
        prop_assert!(answer.start.secs() <= since && since < answer.start.secs() + step);
        for (at, got) in answer.lines[0].values.iter().enumerate() {
            let from = answer.start.secs() + at as u64 * step;
            let want = self.naive(show, family, from, step, began);
            let near = match (got, want) {
                (Some(got), Some(want)) => (got - want).abs() <= want.abs() * 1e-9 + 1e-9,
                (got, want) => got.is_none() && want.is_none(),
            };
            prop_assert!(near, "{family} {show:?} at {from}, step {step}: {got:?} for {want:?}");
        }
        prop_assert!(
            answer.start.secs() + answer.lines[0].values.len() as u64 * step > self.second
        );
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Asked {
    what: (&'static str, Show),
    since: u64,
    step: u32,
}

fn asked() -> impl Strategy<Value = Asked> {
    let what = prop::sample::select(vec![
        ("hits_total", Show::Rate),
        ("hits_total", Show::Max),
        ("open", Show::Mean),
        ("open", Show::Max),
        ("took_seconds", Show::Rate),
        ("took_seconds", Show::Mean),
        ("took_seconds", Show::Max),
        ("took_seconds", Show::Quantile(0.5)),
        ("took_seconds", Show::Quantile(0.99)),
    ]);
    (what, 0u64..1500, prop_oneof![1u32..10, 10u32..100]).prop_map(|(what, since, step)| Asked {
        what,
        since,
        step,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn answers_are_those_of_the_model(
        steps in steps(1..400),
        asked in prop::collection::vec(asked(), 1..12),
    ) {
        let history = History::open(HistoryConfig::default()).unwrap();
        let mut world = World::new();
        world.run(&history, &steps);
        for asked in &asked {
            // Without tiers, what histograms were merged into is all there is.
            world.check(&history, asked, &[0])?;
        }
    }

    #[test]
    fn a_restart_costs_one_reading_in_the_tiers(
        first in steps(1..200),
        second in steps(1..200),
        asked in prop::collection::vec(asked(), 1..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = || HistoryConfig { dir: Some(dir.path().to_owned()), ..Default::default() };
        let mut world = World::new();
        let history = History::open(config()).unwrap();
        world.run(&history, &first);
        history.flush();
        drop(history);
        let history = History::open(config()).unwrap();
        world.run(&history, &second);
        for asked in &asked {
            // Single seconds end with their process.
            let step = asked.step.max(10);
            world.check(&history, &Asked { step, ..asked.clone() }, &[0, first.len()])?;
        }
        prop_assert_eq!(history.stats().tier_errors, 0);
    }

    #[test]
    fn a_full_arena_leaves_the_tiers_right(
        steps in steps(500..700),
        asked in prop::collection::vec(asked(), 1..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let dir = Some(dir.path().to_owned());
        let config = HistoryConfig { dir, arena_bytes_max: 0, ..HistoryConfig::default() };
        let history = History::open(config).unwrap();
        let mut world = World::new();
        world.run(&history, &steps);
        prop_assert!(history.stats().arena_bytes <= 4 * arena::CHUNK_BYTES);
        prop_assert!(history.stats().chunks_evicted > 0);
        for asked in &asked {
            let step = asked.step.max(10);
            world.check(&history, &Asked { step, ..asked.clone() }, &[0])?;
        }
    }

    #[test]
    fn windows_are_sums_over_the_last_seconds(steps in steps(2..150), seconds in 1u32..60) {
        let history = History::open(HistoryConfig::default()).unwrap();
        let mut world = World::new();
        world.run(&history, &steps);
        let ask = |family: &str| history.window(&WindowQuery {
            family: family.into(),
            labels: Vec::new(),
            group_by: vec!["to".into()],
            seconds,
            quantiles: vec![0.5, 1.0],
        });
        let end = world.second;
        let inside = |at: &usize| world.readings[*at].second + u64::from(seconds) > end;
        let all: Vec<usize> = (1..world.readings.len()).filter(inside).collect();
        let watched = (end - world.readings[0].second).clamp(1, seconds.into());
        let (hits, took, open) = (ask("hits_total"), ask("took_seconds"), ask("open"));
        for (of, name) in NAMES.iter().enumerate() {
            prop_assert_eq!(&hits[of].group, &[name.to_owned()]);
            let before = all.first().map(|at| &world.readings[at - 1]);
            let last = world.readings.last().unwrap();
            let want = before.map_or(0, |before| last.hits[of] - before.hits[of]);
            prop_assert_eq!(hits[of].total, want as f64);
            prop_assert!((hits[of].per_second - want as f64 / watched as f64).abs() < 1e-6);
            prop_assert_eq!(open[of].total, last.open[of] as f64);
            if let Some(before) = before {
                let want = last.took[of].since(&before.took[of]);
                prop_assert_eq!(took[of].total, want.count as f64);
                prop_assert_eq!(took[of].sum, want.sum as f64);
                prop_assert_eq!(&took[of].quantiles, &[want.quantile(0.5), want.quantile(1.0)]);
            }
        }
    }
}

#[test]
fn memory_stays_bounded_with_20_000_series() {
    let registry = Registry::new(30_000);
    let counters: Vec<_> =
        (0..20_100).map(|n| registry.counter(HITS, vec![("to", format!("{n:05}"))])).collect();
    let arena_bytes_max = 1 << 20;
    let history = History::open(HistoryConfig { arena_bytes_max, ..Default::default() }).unwrap();
    for second in 0..75u64 {
        // Enough that a minute takes 60 bytes and more.
        for (counter, n) in counters.iter().zip(0u64..) {
            counter.add((n * 31 + second * 17) % 251);
        }
        history.sample(UnixNanos((START + second) * 1_000_000_000), &registry);
        assert!(history.stats().arena_bytes <= arena_bytes_max);
    }
    let stats = history.stats();
    assert_eq!((stats.series, stats.series_refused), (20_000, 100));
    assert!(stats.chunks_evicted > 0);
    let row = |labels| {
        history.window(&WindowQuery {
            family: HITS.name.into(),
            labels,
            group_by: Vec::new(),
            seconds: 10,
            quantiles: Vec::new(),
        })
    };
    assert_eq!(row(vec![("to".into(), vec!["00000".into()])])[0].total, {
        (65u64..75).map(|second| second * 17 % 251).sum::<u64>() as f64
    });
    assert!(row(vec![("to".into(), vec!["20050".into()])]).is_empty(), "it was refused");
    assert_eq!(std::mem::size_of::<record::Series>().max(640), 640, "20,000 of them are 13 MB");
}

#[test]
fn series_that_are_gone_make_room_and_resets_count_on() {
    let registry = Registry::default();
    let history = History::open(HistoryConfig { series_max: 2, ..Default::default() }).unwrap();
    let counter = |name: &str| registry.counter(HITS, vec![("to", name.to_owned())]);
    let mut second = START;
    let mut sample = || {
        second += 1;
        history.sample(UnixNanos(second * 1_000_000_000), &registry);
    };
    let total = || {
        let rows = history.window(&WindowQuery {
            family: HITS.name.into(),
            labels: Vec::new(),
            group_by: vec!["to".into()],
            seconds: 60,
            quantiles: Vec::new(),
        });
        rows.into_iter().map(|row| (row.group.concat(), row.total)).collect::<BTreeMap<_, _>>()
    };
    counter("a").add(100);
    sample();
    counter("a").add(5);
    counter("b").add(7);
    sample();
    assert_eq!(total(), BTreeMap::from([("a".into(), 5.0), ("b".into(), 7.0)]));
    registry.forget(|_, labels| labels[0].1 == "a");
    counter("a").add(3);
    sample();
    assert_eq!(total()["a"], 8.0);
    counter("c").add(1);
    sample();
    assert_eq!(history.stats().series_refused, 1);
    registry.forget(|_, labels| labels[0].1 == "b");
    sample();
    assert_eq!(history.stats().series_refused, 0);
    assert_eq!(total().keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn a_clock_that_is_set_back_is_survived() {
    let registry = Registry::default();
    let history = History::open(HistoryConfig::default()).unwrap();
    let counter = registry.counter(HITS, vec![]);
    for second in [1000, 1001, 1001, 990, 1002, 400, 401, 402, 5000] {
        counter.add(1);
        history.sample(UnixNanos((START + second) * 1_000_000_000), &registry);
    }
    let answer = history.query(&Query {
        family: HITS.name.into(),
        labels: Vec::new(),
        group_by: Vec::new(),
        show: Show::Rate,
        since: UnixNanos((START + 398) * 1_000_000_000),
        until: UnixNanos((START + 403) * 1_000_000_000),
        step_seconds: 1,
    });
    assert_eq!(answer.lines[0].values, [None, None, Some(1.0), Some(1.0), Some(1.0)]);
}
