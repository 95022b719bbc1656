//! The coverage table for others to read: what is done about every key of the specification.

use crate::keys::{ALONE, Scope, Treatment};

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
    /// Refused.
    Refused,
    /// Said to have no effect.
    NoEffect,
}

/// Every key that is known, parents before what stands below them.
pub fn coverage() -> Vec<Coverage> {
    let in_tables = Scope::ALL.iter().flat_map(|scope| {
        scope.table().iter().map(|(key, treatment)| match scope.path() {
            "" => row((*key).to_owned(), *treatment),
            parent => row(format!("{parent}.{key}"), *treatment),
        })
    });
    in_tables.chain(ALONE.iter().map(|(path, t)| row((*path).to_owned(), *t))).collect()
}

fn row(path: String, treatment: Treatment) -> Coverage {
    let (treatment, note) = match treatment {
        Treatment::Support => (Word::Supported, ""),
        Treatment::Partly(note) => (Word::Partly, note),
        Treatment::Refuse(note) => (Word::Refused, note),
        Treatment::Warn(note) => (Word::NoEffect, note),
    };
    Coverage { path, treatment, note }
}
