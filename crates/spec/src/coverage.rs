//! The coverage table for others to read: what is done about every key of the specification.

use crate::keys::{Scope, Treatment};

/// What is done about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The key with what it stands below: `services.*.deploy.replicas`. A `*` is any name, or any
    /// item of a list.
    pub path: String,
    /// What is done about it.
    pub treatment: Word,
    /// What does not hold of it, or what to do instead; empty when there is nothing to add.
    pub note: &'static str,
}

/// How a key is treated, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Honoured.
    Supported,
    /// Honoured in part.
    Partly,
    /// Checked, and said to have no effect yet.
    NotYet,
    /// Refused until a later version.
    RefusedYet,
    /// Refused.
    Refused,
    /// Said to have no effect.
    NoEffect,
}

/// Every key that is known, parents before what stands below them.
pub fn coverage() -> Vec<Coverage> {
    let each = Scope::ALL.iter().flat_map(|scope| {
        scope.table().iter().map(|(key, treatment)| {
            let (treatment, note) = match *treatment {
                Treatment::Support => (Word::Supported, ""),
                Treatment::Partly(note) => (Word::Partly, note),
                Treatment::LaterWarn(note) => (Word::NotYet, note),
                Treatment::Later(note) => (Word::RefusedYet, note),
                Treatment::Refuse(note) => (Word::Refused, note),
                Treatment::Warn(note) => (Word::NoEffect, note),
            };
            let path = match scope.path() {
                "" => (*key).to_owned(),
                parent => format!("{parent}.{key}"),
            };
            Coverage { path, treatment, note }
        })
    });
    each.collect()
}
