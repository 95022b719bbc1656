//! A Compose file as typed data: parse, check, resolve.
//!
//! Not here: I/O, the environment, clocks and processes; file contents come through [`Files`] and
//! the environment is an argument. Not here either: what runs (control) and how (agent, edge).
//!
//! Vocabulary: an [`App`] is one Compose file's services under one name, a [`Finding`] is what was
//! noticed on the way, with its place in the file. [`load`] makes both.
//!
//! Invariant: nothing of a file is dropped in silence. Every key is honoured, or a finding names
//! it with its place; the table is in `keys`.

pub mod check;
pub mod dockerfile;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod model;

mod coverage;
mod diff;
mod dotenv;
mod duration;
mod emit;
mod env;
mod finding;
pub mod images;
mod interpolate;
mod keys;
mod load;
mod mask;
mod merge;
mod origin;
pub mod parts;
mod project;
mod read;
mod report;
mod signal;
mod stand_in;
mod suggest;
mod tree;

use std::path::Path;

pub use coverage::{Coverage, Word, coverage};
pub use diff::{diff, diff_in_place};
pub use emit::to_yaml;
pub use finding::{Finding, Severity};
pub use load::{LoadOptions, Loaded, load};
pub use mask::{hidden, masked};
pub use model::{App, Service};
pub use signal::signal_number;

/// Where file contents come from.
pub trait Files {
    /// The whole file.
    ///
    /// # Errors
    /// As for `std::fs::read`; `NotFound` tells a missing file from an unreadable one.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;
}
