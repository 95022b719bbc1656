//! Answers: points, histograms and rows of tiers, put into the steps of a query.
//!
//! Invariants: a step comes from memory when memory still has all of it, else from the coarsest
//! tier whose steps fit into it; never from both. Quantiles are those of merged histograms, never
//! means of quantiles. The work of a query is bounded by [`CELLS_MAX`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::UnixNanos;
use base::metrics::bucket_upper;

use super::block::{BLOCK_SECONDS, Block};
use super::bytes::Bytes;
use super::cell::{Cell, Key, Kind};
use super::record::{HEARTBEAT, Recorder, SECONDS_KEPT, Series, TIERS, VALUES};
use super::sparse::Sparse;
use super::{Answer, Line, Query, Show, WINDOW_SECONDS_MAX, WindowQuery, WindowRow};

/// Points of a line at most; the step grows until they fit.
const POINTS_MAX: u32 = 10_000;
/// Cells of all series of a query at most, unless that leaves fewer than 60 points.
const CELLS_MAX: u32 = 500_000;

/// The steps of an answer, in seconds.
#[derive(Clone, Copy, Debug)]
struct Steps {
    start: u32,
    end: u32,
    step: u32,
}

impl Steps {
    fn plan(query: &Query, series: usize, last: u32) -> Steps {
        let seconds = |at: UnixNanos| u32::try_from(at.secs()).unwrap_or(u32::MAX - 900);
        let since = seconds(query.since);
        let until = seconds(query.until)
            .saturating_add(u32::from(!query.until.0.is_multiple_of(1_000_000_000)));
        let span = until.saturating_sub(since).max(1);
        let age = last.max(until).saturating_sub(since);
        let kept = match query.show {
            Show::Quantile(_) if age <= VALUES[0].1 => 1,
            Show::Quantile(_) if age <= VALUES[1].1 => 10,
            Show::Quantile(_) if age <= 14 * 86_400 => 60,
            Show::Quantile(_) => 900,
            _ if age <= SECONDS_KEPT => 1,
            _ if age <= 86_400 => 10,
            _ if age <= 14 * 86_400 => 60,
            _ => 900,
        };
        let series = u32::try_from(series).unwrap_or(u32::MAX).max(1);
        let points = (CELLS_MAX / series).clamp(60, POINTS_MAX);
        let step = query.step_seconds.max(kept).max(span.div_ceil(points));
        let unit = match step {
            ..10 => 1,
            10..60 => 10,
            60..900 => 60,
            900.. => 900,
        };
        let step = step.next_multiple_of(unit);
        let start = since / step * step;
        let end = until.div_ceil(step).saturating_mul(step).max(start + step);
        Steps { start, end, step }
    }

    fn count(self) -> usize {
        ((self.end - self.start) / self.step) as usize
    }

    fn at(self, second: u32) -> Option<usize> {
        let inside = (self.start..self.end).contains(&second);
        inside.then(|| ((second - self.start) / self.step) as usize)
    }
}

/// What a series did in each step; a cell without samples is a gap.
type Cells = Vec<Cell>;

impl Recorder {
    pub(super) fn query(&self, query: &Query) -> Answer {
        let wanted = self.select(&query.family, &query.labels);
        let steps = Steps::plan(query, wanted.len(), self.last);
        let quantile = matches!(query.show, Show::Quantile(_));
        let boundary = self.boundary(steps, quantile);
        let mut found: HashMap<Arc<Key>, (Kind, Cells)> = HashMap::new();
        let mut heartbeat = vec![Cell::default(); steps.count()];
        self.memory(&self.series[HEARTBEAT], steps, boundary, false, &mut heartbeat);
        for at in wanted {
            let series = &self.series[at];
            let mut cells = vec![Cell::default(); steps.count()];
            self.memory(series, steps, boundary, quantile, &mut cells);
            found.insert(series.key.clone(), (series.kind, cells));
        }
        if boundary > steps.start {
            self.tiers(query, steps, boundary, &mut found, &mut heartbeat);
        }
        let mut groups: BTreeMap<Vec<String>, Vec<(Kind, Cells)>> = BTreeMap::new();
        for (key, cells) in found {
            groups.entry(group(&key, &query.group_by)).or_default().push(cells);
        }
        let lines = groups.into_iter().map(|(group, series)| {
            let values =
                (0..steps.count()).map(|at| value(query.show, &series, at, &heartbeat[at]));
            Line { group, values: values.collect() }
        });
        let start = UnixNanos(u64::from(steps.start) * 1_000_000_000);
        Answer { start, step_seconds: steps.step, lines: lines.collect() }
    }

    fn select(&self, family: &str, labels: &[(String, Vec<String>)]) -> Vec<usize> {
        let all = self.by_family.get(family).map_or(&[][..], Vec::as_slice);
        all.iter().copied().filter(|at| matches(&self.series[*at].key, labels)).collect()
    }

    /// Steps that start before this second are not whole in memory.
    fn boundary(&self, steps: Steps, quantile: bool) -> u32 {
        if self.tiers.is_empty() || steps.step < TIERS[0].0 {
            return 0;
        }
        let (arena, step) = match (quantile, steps.step) {
            (false, _) => (&self.seconds, 1),
            (true, ..60) => (&self.values[1], VALUES[1].0),
            (true, _) => (&self.values[2], VALUES[2].0),
        };
        let kept = match arena.gone() {
            0 => 0,
            gone => gone + step,
        };
        // Without a sample yet, nothing is in memory.
        let first = if self.first == 0 { u32::MAX } else { self.first };
        first.max(kept).min(u32::MAX - 900).next_multiple_of(steps.step)
    }

    /// Adds what memory has of a series from `boundary` on.
    fn memory(
        &self,
        series: &Series,
        steps: Steps,
        boundary: u32,
        quantile: bool,
        cells: &mut Cells,
    ) {
        let from = steps.start.max(boundary);
        if !quantile {
            self.points(series, from, |second, cell| {
                if let Some(at) = steps.at(second) {
                    cells[at].merge(&cell);
                }
            });
            return;
        }
        let level = match steps.step {
            ..10 => 0,
            10..60 => 1,
            60.. => 2,
        };
        let mut add = |second: u32, values: &Sparse| {
            if second >= from
                && let Some(at) = steps.at(second)
            {
                cells[at].merge(&Cell::recorded(1, 0, values.clone()));
            }
        };
        self.kept_values(level, series, from, &mut add);
        // Not closed yet, and so not among those kept.
        for (cell, second) in series.cells.iter().zip(self.open_seconds()).take(level) {
            add(second, &cell.values);
        }
    }

    /// Where the step of each tier began that is being added up.
    fn open_seconds(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().zip(TIERS).map(|(slot, (step, ..))| slot.saturating_mul(step))
    }

    fn kept_values(
        &self,
        level: usize,
        series: &Series,
        from: u32,
        add: &mut impl FnMut(u32, &Sparse),
    ) {
        for payload in self.values[level].walk(series.values[level]) {
            let mut bytes = Bytes(payload);
            let Some(second) = bytes.narrow::<u32>() else { return };
            // Anything before is older still.
            if second < from {
                return;
            }
            if let Some(values) = Sparse::take(&mut bytes) {
                add(second, &values);
            }
        }
    }

    /// Every point of a series from a second on, the newest block first.
    fn points(&self, series: &Series, from: u32, mut each: impl FnMut(u32, Cell)) {
        let mut give = |block: &Block| {
            for (at, second) in block.seconds().enumerate().filter(|(_, second)| *second >= from) {
                let column = |number: usize| block.columns[number][at];
                each(
                    second,
                    match series.kind {
                        Kind::Counter | Kind::Gauge => Cell::point(column(0)),
                        Kind::Histogram => {
                            let recorded = column(0).cast_unsigned();
                            let top = usize::try_from(column(4)).unwrap_or(0);
                            let max = if recorded == 0 { 0 } else { bucket_upper(top) };
                            let max = i64::try_from(max).unwrap_or(i64::MAX);
                            let values = Sparse::default();
                            Cell { samples: 1, sum: column(1), min: 0, max, recorded, values }
                        }
                    },
                );
            }
        };
        if !series.open.is_empty() {
            give(&series.open.points());
        }
        for payload in self.seconds.walk(series.blocks) {
            let block = Block::unpack(&mut Bytes(payload), series.kind.columns());
            let Some(block) = block.filter(|block| block.start + BLOCK_SECONDS > from) else {
                return;
            };
            give(&block);
        }
    }

    /// Adds what the tiers have up to `boundary`.
    fn tiers(
        &self,
        query: &Query,
        steps: Steps,
        boundary: u32,
        found: &mut HashMap<Arc<Key>, (Kind, Cells)>,
        heartbeat: &mut Cells,
    ) {
        let fits = TIERS.iter().rposition(|(step, ..)| steps.step.is_multiple_of(*step));
        let Some(level) = fits else { return };
        let Some(tier) = self.tiers.get(level) else { return };
        let end = steps.end.min(boundary);
        // The series that were found on disk, and their cells; the heartbeat is the first.
        let mut all = vec![(self.series[HEARTBEAT].key.clone(), Kind::Counter)];
        let mut cells = vec![vec![Cell::default(); steps.count()]];
        let mut numbers: HashMap<Arc<Key>, usize> = HashMap::from([(all[0].0.clone(), 0)]);
        let want = |key: Key, kind: Kind| {
            if let Some(number) = numbers.get(&key) {
                return Some(*number);
            }
            if key.family != query.family || !matches(&key, &query.labels) {
                return None;
            }
            let key = Arc::new(key);
            numbers.insert(key.clone(), all.len());
            all.push((key, kind));
            Some(all.len() - 1)
        };
        let each = |number: usize, slot: u32, cell: Cell| {
            if let Some(at) = steps.at(slot.saturating_mul(tier.step)) {
                if number >= cells.len() {
                    cells.resize_with(number + 1, || vec![Cell::default(); steps.count()]);
                }
                cells[number][at].merge(&cell);
            }
        };
        // A tier that cannot be read is a gap.
        let _gap = tier.read(steps.start / tier.step, end / tier.step, want, each);
        // What is being added up is not on disk yet.
        for at in self.select(&query.family, &query.labels).into_iter().chain([HEARTBEAT]) {
            let series = &self.series[at];
            for (cell, second) in series.cells.iter().zip(self.open_seconds()).take(level + 1) {
                if second < end
                    && let Some(at_step) = steps.at(second)
                {
                    let target = match found.get_mut(&series.key) {
                        Some((_, cells)) => cells,
                        None => &mut *heartbeat,
                    };
                    target[at_step].merge(cell);
                }
            }
        }
        for ((key, kind), more) in all.into_iter().zip(cells) {
            let target = if key.family.is_empty() {
                &mut *heartbeat
            } else {
                let empty = || (kind, vec![Cell::default(); steps.count()]);
                &mut found.entry(key).or_insert_with(empty).1
            };
            target.iter_mut().zip(&more).for_each(|(cell, more)| cell.merge(more));
        }
    }

    pub(super) fn window(&self, query: &WindowQuery) -> Vec<WindowRow> {
        let seconds = query.seconds.clamp(1, WINDOW_SECONDS_MAX);
        let from = (self.last + 1).saturating_sub(seconds);
        let watched = self.last.saturating_sub(self.first).clamp(1, seconds);
        let mut rows: BTreeMap<Vec<String>, (WindowRow, Sparse)> = BTreeMap::new();
        for at in self.select(&query.family, &query.labels) {
            let series = &self.series[at];
            let group = group(&series.key, &query.group_by);
            let (row, merged) = rows.entry(group).or_default();
            let mut newest = None;
            self.points(series, from, |second, cell| match series.kind {
                Kind::Counter => row.total += float(cell.sum),
                Kind::Gauge => newest = newest.max(Some((second, cell.sum))),
                Kind::Histogram => {
                    row.total += float(cell.recorded.cast_signed());
                    row.sum += float(cell.sum);
                }
            });
            row.total += newest.map_or(0.0, |(_, value)| float(value));
            if series.kind == Kind::Histogram && !query.quantiles.is_empty() {
                self.kept_values(0, series, from, &mut |_, values| merged.merge(values));
            }
        }
        let finish = |(group, (mut row, merged)): (_, (WindowRow, Sparse))| {
            row.group = group;
            row.per_second = row.total / f64::from(watched);
            row.quantiles = query.quantiles.iter().map(|q| merged.quantile(*q)).collect();
            row
        };
        rows.into_iter().map(finish).collect()
    }
}

fn matches(key: &Key, labels: &[(String, Vec<String>)]) -> bool {
    labels.iter().all(|(name, values)| {
        let value = key.label(name);
        values.iter().any(|each| each == value)
    })
}

fn group(key: &Key, by: &[String]) -> Vec<String> {
    by.iter().map(|name| key.label(name).to_owned()).collect()
}

/// The value of one step over the series of a line.
fn value(show: Show, series: &[(Kind, Cells)], at: usize, heartbeat: &Cell) -> Option<f64> {
    let cells = series.iter().map(|(kind, cells)| (*kind, &cells[at]));
    let mut cells = cells.filter(|(_, cell)| cell.samples > 0).peekable();
    cells.peek()?;
    match show {
        Show::Quantile(q) => {
            let mut merged = Sparse::default();
            cells.for_each(|(_, cell)| merged.merge(&cell.values));
            #[expect(clippy::cast_precision_loss, reason = "bucket edges are below 2^53")]
            merged.quantile(q).map(|value| value as f64)
        }
        Show::Max => cells.map(|(_, cell)| cell.max).max().map(float),
        Show::Mean | Show::Rate => {
            let (mut sum, mut recorded, mut recorded_sum) = (None, 0, 0);
            for (kind, cell) in cells {
                let add = match (kind, show) {
                    (Kind::Gauge, _) => float(cell.sum) / float(cell.samples.cast_signed()),
                    (Kind::Histogram, Show::Mean) => {
                        recorded += cell.recorded;
                        recorded_sum += cell.sum;
                        continue;
                    }
                    (Kind::Histogram, _) => rate(cell.recorded.cast_signed(), heartbeat)?,
                    (Kind::Counter, _) => rate(cell.sum, heartbeat)?,
                };
                sum = Some(sum.unwrap_or(0.0) + add);
            }
            let mean = || float(recorded_sum) / float(recorded.cast_signed());
            sum.or_else(|| (recorded > 0).then(mean))
        }
    }
}

fn rate(increase: i64, heartbeat: &Cell) -> Option<f64> {
    (heartbeat.sum > 0).then(|| float(increase) / float(heartbeat.sum))
}

#[expect(clippy::cast_precision_loss, reason = "charts need no more than 53 bits")]
fn float(value: i64) -> f64 {
    value as f64
}
