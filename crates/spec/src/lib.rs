//! A Compose file as typed data: parse, check, resolve.
//!
//! Not here: I/O, the environment, clocks and processes; file contents come through [`Files`] and
//! the environment is an argument. Not here either: what runs (control) and how (agent, edge).
//!
//! Vocabulary: an [`App`] is one Compose file's services under one name, a [`Finding`] is what was
//! noticed on the way, with its place in the file.

pub mod model;

mod duration;
mod finding;

pub use finding::{Finding, Severity};
pub use model::{App, Service};
