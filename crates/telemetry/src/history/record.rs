//! Takes samples: what each series did since the sample before, into memory and into the tiers.
//!
//! Invariants: only differences of counters and histograms are kept, so that a reset costs what was
//! counted between the last sample and it, and nothing else; a second without a sample has no
//! points; the heartbeat, a counter of the seconds that passed, is sampled with all others, so that
//! a rate is an increase over seconds that were watched.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use base::metrics::{Handle, Histogram, Registry};

use super::HistoryConfig;
use super::arena::{Arena, Ref};
use super::block::{BLOCK_SECONDS, Open};
use super::bytes::put;
use super::cell::{Cell, Key, Kind};
use super::sparse::Sparse;
use super::tier::{Row, Tier};

/// Seconds of a step of each tier, and how many steps it keeps: a day, 14 days, 400 days.
pub(super) const TIERS: [(u32, u32, &str); 3] =
    [(10, 8640, "10s"), (60, 20_160, "1m"), (900, 38_400, "15m")];
/// Seconds between the histograms in memory, and how many seconds they are kept.
pub(super) const VALUES: [(u32, u32); 3] = [(1, 300), (10, 7200), (60, 21_600)];
/// Seconds for which every second is kept.
pub(super) const SECONDS_KEPT: u32 = 21_600;
/// Number of the heartbeat among the series.
pub(super) const HEARTBEAT: usize = 0;
/// A clock that is set back by less than this is waited for.
const BACK_SECONDS_MAX: u32 = 60;

/// What a counter or histogram showed at the sample before; `None` before the first.
#[derive(Debug, Default)]
struct Shown {
    total: Option<u64>,
    sum: u64,
    buckets: Vec<(u16, u32)>,
}

#[derive(Debug)]
pub(super) struct Series {
    pub key: Arc<Key>,
    pub kind: Kind,
    /// In the registry at the last sample.
    alive: bool,
    /// Second of its last point.
    last: u32,
    shown: Shown,
    pub open: Open,
    /// Its newest packed block.
    pub blocks: Ref,
    /// Its newest histograms, each second, 10 seconds and minute.
    pub values: [Ref; 3],
    /// What is being added up for each tier, beside what is in the finer one still.
    pub cells: [Cell; 3],
}

#[derive(Debug)]
pub(super) struct Recorder {
    config: HistoryConfig,
    generation: Option<u64>,
    sources: Vec<(usize, Handle)>,
    pub series: Vec<Series>,
    by_key: HashMap<Arc<Key>, usize>,
    pub by_family: BTreeMap<String, Vec<usize>>,
    pub seconds: Arena,
    pub values: [Arena; 3],
    pub tiers: Vec<Tier>,
    /// The step of each tier that is being added up.
    pub slots: [u32; 3],
    /// Second of the first sample, 0 before it.
    pub first: u32,
    /// Second of the last sample, 0 before it.
    pub last: u32,
    /// Series in the registry that are not remembered.
    pub refused: u64,
    pub evicted: u64,
    pub tier_errors: u64,
}

impl Recorder {
    pub(super) fn new(config: HistoryConfig, tiers: Vec<Tier>) -> Recorder {
        let mut recorder = Recorder {
            config,
            generation: None,
            sources: Vec::new(),
            series: Vec::new(),
            by_key: HashMap::new(),
            by_family: BTreeMap::new(),
            seconds: Arena::default(),
            values: Default::default(),
            tiers,
            slots: [0; 3],
            first: 0,
            last: 0,
            refused: 0,
            evicted: 0,
            tier_errors: 0,
        };
        recorder.insert(Key { family: String::new(), labels: Vec::new() }, Kind::Counter);
        recorder
    }

    /// Takes a sample at `now`, in seconds.
    pub(super) fn sample(&mut self, now: u32, registry: &Registry) {
        let back = self.last.saturating_sub(now);
        if now == self.last || (1..BACK_SECONDS_MAX).contains(&back) {
            return;
        }
        let passed = if self.last == 0 { 0 } else { now.saturating_sub(self.last).max(1) };
        let generation = registry.generation();
        if self.generation != Some(generation) {
            self.list(registry);
            self.generation = Some(generation);
        }
        for (tier, (step, ..)) in TIERS.iter().enumerate() {
            if self.last > 0 && now / step != self.slots[tier] {
                self.roll(tier);
            }
            self.slots[tier] = now / step;
        }
        if passed > 0 {
            self.point(HEARTBEAT, now, &[passed.into()], None);
        }
        let sources = std::mem::take(&mut self.sources);
        sources.iter().for_each(|(at, handle)| self.read(*at, now, handle));
        self.sources = sources;
        if self.first == 0 {
            self.first = now;
        }
        self.last = now;
        self.bound(now);
    }

    /// Writes what is being added up, as far as it is.
    pub(super) fn flush(&mut self) {
        (0..TIERS.len()).for_each(|tier| self.roll(tier));
    }

    pub(super) fn bytes(&self) -> usize {
        self.seconds.bytes() + self.values.iter().map(Arena::bytes).sum::<usize>()
    }

    /// Learns which series there are.
    fn list(&mut self, registry: &Registry) {
        self.sources.clear();
        self.refused = 0;
        let listed: Vec<_> = registry.series().into_iter().map(listed).collect();
        let known = listed.iter().filter_map(|(key, ..)| self.by_key.get(key).copied());
        let alive: HashSet<usize> = known.chain([HEARTBEAT]).collect();
        for (at, series) in self.series.iter_mut().enumerate() {
            series.alive &= alive.contains(&at);
        }
        for (key, kind, handle) in listed {
            let known = self.by_key.get(&key).copied();
            let Some(at) = known.or_else(|| self.admit(key, kind, &alive)) else {
                self.refused += 1;
                continue;
            };
            let entry = &mut self.series[at];
            if entry.kind != kind {
                self.refused += 1;
                continue;
            }
            if !entry.alive {
                // It is younger than the last sample, and all that it shows came after that. The
                // first sample of all knows no such thing.
                entry.alive = true;
                entry.shown = Shown::default();
                entry.shown.total = (self.last > 0).then_some(0);
            }
            self.sources.push((at, handle));
        }
    }

    /// A place for a new series: a fresh one, or that of the series which is gone for longest.
    fn admit(&mut self, key: Key, kind: Kind, alive: &HashSet<usize>) -> Option<usize> {
        // The heartbeat is not counted.
        if self.series.len() <= self.config.series_max {
            return Some(self.insert(key, kind));
        }
        let gone =
            self.series.iter().enumerate().filter(|(at, each)| !each.alive && !alive.contains(at));
        let (at, _) = gone.min_by_key(|(_, each)| each.last)?;
        let old = std::mem::replace(&mut self.series[at], Series::new(Arc::new(key), kind));
        self.by_key.remove(&old.key);
        if let Some(family) = self.by_family.get_mut(&old.key.family) {
            family.retain(|each| *each != at);
        }
        self.index(at);
        Some(at)
    }

    fn insert(&mut self, key: Key, kind: Kind) -> usize {
        let at = self.series.len();
        self.series.push(Series::new(Arc::new(key), kind));
        self.index(at);
        at
    }

    fn index(&mut self, at: usize) {
        let key = self.series[at].key.clone();
        self.by_family.entry(key.family.clone()).or_default().push(at);
        self.by_key.insert(key, at);
    }

    fn read(&mut self, at: usize, now: u32, handle: &Handle) {
        let shown = &mut self.series[at].shown;
        match handle {
            Handle::Gauge(gauge) => self.point(at, now, &[gauge.get()], None),
            Handle::Counter(counter) => {
                let total = counter.get();
                if let Some(before) = shown.total.replace(total) {
                    let more = total.checked_sub(before).unwrap_or(total);
                    self.point(at, now, &[signed(more)], None);
                }
            }
            Handle::Histogram(histogram) => {
                if let Some((sum, values)) = shown.histogram(histogram) {
                    let bucket = |q| values.bucket_at(q).map_or(0, i64::from);
                    let columns =
                        [signed(values.count()), sum, bucket(0.5), bucket(0.99), bucket(1.0)];
                    self.point(at, now, &columns, Some((sum, values)));
                }
            }
        }
    }

    /// Keeps a point, and adds it to what is being added up.
    fn point(&mut self, at: usize, now: u32, columns: &[i64], values: Option<(i64, Sparse)>) {
        let series = &mut self.series[at];
        let start = now / BLOCK_SECONDS * BLOCK_SECONDS;
        if series.open.start != start || series.open.is_empty() {
            if !series.open.is_empty() {
                let mut packed = Vec::new();
                series.open.pack(&mut packed);
                series.blocks = self.seconds.push(series.blocks, series.last, &packed);
            }
            series.open.restart(start);
        }
        series.open.push(now, columns);
        series.last = now;
        let cell = match values {
            None => Cell::point(columns[0]),
            Some((sum, values)) => {
                if !values.is_empty() {
                    self.values[0].keep(&mut series.values[0], now, &values);
                }
                Cell::recorded(1, sum, values)
            }
        };
        series.cells[0].merge(&cell);
    }

    /// Closes a tier's step: to disk, to memory, and into the step of the next tier.
    fn roll(&mut self, tier: usize) {
        let slot = self.slots[tier];
        let mut rows = Vec::new();
        for at in self.by_family.values().flatten() {
            let series = &mut self.series[*at];
            let cell = std::mem::take(&mut series.cells[tier]);
            if cell.samples == 0 {
                continue;
            }
            if let Some((arena, head)) =
                self.values.get_mut(tier + 1).zip(series.values.get_mut(tier + 1))
                && !cell.values.is_empty()
            {
                arena.keep(head, slot.saturating_mul(TIERS[tier].0), &cell.values);
            }
            if let Some(next) = series.cells.get_mut(tier + 1) {
                next.merge(&cell);
            }
            rows.push((series.key.clone(), series.kind, cell));
        }
        let Some(tier) = self.tiers.get_mut(tier) else { return };
        let rows = rows.iter().map(|(key, kind, cell)| Row { key, kind: *kind, cell });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() && tier.write(slot, &rows).is_err() {
            self.tier_errors += 1;
        }
    }

    /// Keeps memory within its age and size; single seconds go first.
    fn bound(&mut self, now: u32) {
        self.seconds.expire(now.saturating_sub(SECONDS_KEPT));
        for (arena, (step, kept)) in self.values.iter_mut().zip(VALUES) {
            arena.expire(now.saturating_sub(kept + step));
        }
        while self.bytes() > self.config.arena_bytes_max {
            if !self.seconds.evict() && !self.values.iter_mut().any(Arena::evict) {
                break;
            }
            self.evicted += 1;
        }
    }
}

fn listed(series: base::metrics::Series) -> (Key, Kind, Handle) {
    let kind = match &series.handle {
        Handle::Counter(_) => Kind::Counter,
        Handle::Gauge(_) => Kind::Gauge,
        Handle::Histogram(_) => Kind::Histogram,
    };
    let labels = series.labels.into_iter().map(|(name, value)| (name.to_owned(), value));
    let key = Key { family: series.family.to_owned(), labels: labels.collect() };
    (key, kind, series.handle)
}

impl Series {
    fn new(key: Arc<Key>, kind: Kind) -> Series {
        Series {
            key,
            kind,
            alive: false,
            last: 0,
            shown: Shown::default(),
            open: Open::new(kind.columns()),
            blocks: Ref::NONE,
            values: [Ref::NONE; 3],
            cells: Default::default(),
        }
    }
}

impl Arena {
    /// Keeps a histogram of the step that starts at `second`.
    fn keep(&mut self, head: &mut Ref, second: u32, values: &Sparse) {
        let mut payload = Vec::new();
        put(&mut payload, second.into());
        values.put(&mut payload);
        *head = self.push(*head, second, &payload);
    }
}

impl Shown {
    /// What was recorded since, and its sum; `None` at the first sample.
    fn histogram(&mut self, histogram: &Histogram) -> Option<(i64, Sparse)> {
        let count = histogram.count();
        if self.total == Some(count) {
            return Some((0, Sparse::default()));
        }
        if self.total.is_some_and(|total| count < total) {
            *self = Shown { total: Some(0), ..Shown::default() };
        }
        let now = histogram.snapshot();
        let more = Sparse::since(&mut self.buckets, &now.buckets);
        let sum = signed(now.sum.wrapping_sub(self.sum));
        self.sum = now.sum;
        // The count of the buckets read, not of the histogram: what was recorded meanwhile is then
        // seen as missing, and read at the next sample.
        let before = self.total;
        self.total = Some(before.map_or(count, |before| before.saturating_add(more.count())));
        before.map(|_| (sum, more))
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
