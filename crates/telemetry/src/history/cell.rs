//! What a series did in a span of time: the unit of the coarser tiers, and of every answer. Pure.
//!
//! Invariants: merging two spans gives the cell of both together, whatever the order.

use super::bytes::{Bytes, put, put_signed};
use super::sparse::Sparse;

/// What a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Points are increases.
    Counter,
    /// Points are values.
    Gauge,
    /// Points are counts, sums and quantiles.
    Histogram,
}

impl Kind {
    /// Columns of its points.
    pub(super) fn columns(self) -> usize {
        if self == Kind::Histogram { 5 } else { 1 }
    }

    pub(super) fn byte(self) -> u8 {
        match self {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 2,
        }
    }

    pub(super) fn of_byte(byte: u8) -> Option<Kind> {
        [Kind::Counter, Kind::Gauge, Kind::Histogram].get(usize::from(byte)).copied()
    }
}

/// A family and labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub family: String,
    pub labels: Vec<(String, String)>,
}

impl Key {
    /// The value of a label, empty when there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(each, _)| each == name).map_or("", |(_, value)| value)
    }
}

/// What a series did in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// Points.
    pub samples: u64,
    /// Sum of increases, of values, or of what a histogram recorded.
    pub sum: i64,
    /// Smallest increase or value.
    pub min: i64,
    /// Largest increase or value, or upper edge of the largest recorded value's bucket.
    pub max: i64,
    /// Values that a histogram recorded.
    pub recorded: u64,
    /// They themselves, where they are known.
    pub values: Sparse,
}

impl Cell {
    /// One point of a counter or gauge.
    pub(super) fn point(value: i64) -> Cell {
        Cell { samples: 1, sum: value, min: value, max: value, ..Cell::default() }
    }

    pub(super) fn merge(&mut self, other: &Cell) {
        if self.samples == 0 {
            (self.min, self.max) = (other.min, other.max);
        } else if other.samples > 0 {
            (self.min, self.max) = (self.min.min(other.min), self.max.max(other.max));
        }
        self.samples = self.samples.saturating_add(other.samples);
        self.sum = self.sum.saturating_add(other.sum);
        self.recorded = self.recorded.saturating_add(other.recorded);
        if !other.values.is_empty() {
            self.values.merge(&other.values);
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put(out, self.samples);
        if self.recorded > 0 {
            out.push(2);
            put_signed(out, self.sum);
            self.values.put(out);
        } else if (self.sum, self.min, self.max) == (0, 0, 0) {
            out.push(0);
        } else {
            out.push(1);
            [self.sum, self.min, self.max].into_iter().for_each(|value| put_signed(out, value));
        }
    }

    pub(super) fn take(bytes: &mut Bytes<'_>) -> Option<Cell> {
        let samples = bytes.number()?;
        let cell = Cell { samples, ..Cell::default() };
        let [form] = bytes.array()?;
        Some(match form {
            0 => cell,
            1 => {
                let (sum, min, max) = (bytes.signed()?, bytes.signed()?, bytes.signed()?);
                Cell { sum, min, max, ..cell }
            }
            2 => {
                let sum = bytes.signed()?;
                Cell::recorded(samples, sum, Sparse::take(bytes)?)
            }
            _ => return None,
        })
    }

    /// What a histogram recorded.
    pub(super) fn recorded(samples: u64, sum: i64, values: Sparse) -> Cell {
        let max = i64::try_from(values.max().unwrap_or(0)).unwrap_or(i64::MAX);
        Cell { samples, sum, min: 0, max, recorded: values.count(), values }
    }
}
