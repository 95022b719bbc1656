//! Secrets and configs: files that are given to services.
//!
//! Not here: how they are kept secret. Whoever shows a model masks the value of a
//! [`FileSource::Variable`].

use std::path::PathBuf;

use base::Place;
use serde::{Deserialize, Serialize};

/// A secret or config of the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDef {
    /// Its name outside the file: `app_key` unless the file says another.
    pub name: String,
    /// Where its content comes from.
    pub source: FileSource,
    /// Where it is defined.
    pub place: Place,
}

/// Where a secret's or config's content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSource {
    /// A file of the host; absolute.
    File(PathBuf),
    /// What a variable of the environment holds.
    Variable {
        /// Its name.
        name: String,
        /// Its value, which is the content.
        value: String,
    },
    /// A variable that is not set; whoever uses it is refused.
    Unset {
        /// Its name.
        name: String,
    },
    /// This text.
    Content(String),
    /// Somebody else keeps it; whoever uses it is refused.
    External,
}

/// A secret or config that a service gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its name in the file.
    pub source: String,
    /// Where its content comes from.
    pub content: FileSource,
    /// Where the service sees it; absolute.
    pub target: PathBuf,
    /// Its owner, by number.
    pub uid: Option<String>,
    /// Its group, by number.
    pub gid: Option<String>,
    /// Its permission bits.
    pub mode: Option<u32>,
    /// Where it stands.
    pub place: Place,
}
