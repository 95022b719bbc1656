//! Addresses of git repositories, as ADD takes them.
//!
//! Not here: cloning. What is no repository's address is a file's or a path.

use std::path::{Component, Path, PathBuf};

/// A repository to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Its address, for git.
    pub url: String,
    /// A branch, tag or commit; the default branch without it. It never begins with `-`.
    pub reference: Option<String>,
    /// The folder of it that is meant, below its top; empty for all of it.
    pub folder: PathBuf,
}

impl Repository {
    /// Reads `git@host:path`, `git://…`, `ssh://…` and `https://….git`, each with `#REF:FOLDER`
    /// behind it or without. `None` when it is the address of something else.
    ///
    /// # Errors
    /// What is wrong with the part behind `#`.
    pub(super) fn read(text: &str) -> Option<Result<Repository, String>> {
        let (url, behind) = text.split_once('#').unwrap_or((text, ""));
        let web = url.starts_with("http://") || url.starts_with("https://");
        let is_one = url.starts_with("git@")
            || url.starts_with("git://")
            || url.starts_with("ssh://")
            || (web && url.ends_with(".git"));
        is_one.then(|| {
            let (reference, folder) = behind.split_once(':').unwrap_or((behind, ""));
            if reference.starts_with('-') {
                return Err(format!("`{reference}` is no branch, tag or commit"));
            }
            let parts = Path::new(folder).components();
            if parts.clone().any(|part| part == Component::ParentDir) {
                return Err(format!("`{folder}` leads out of the repository"));
            }
            Ok(Repository {
                url: url.to_owned(),
                reference: (!reference.is_empty()).then(|| reference.to_owned()),
                folder: parts.filter(|part| matches!(part, Component::Normal(_))).collect(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_docker_takes_them() {
        let read = |text| Repository::read(text).map(|read| read.ok());
        let is = |url: &str, reference: Option<&str>, folder: &str| {
            let (reference, folder) = (reference.map(str::to_owned), folder.into());
            Some(Some(Repository { url: url.to_owned(), reference, folder }))
        };
        assert_eq!(read("https://x/y.git"), is("https://x/y.git", None, ""));
        assert_eq!(read("https://x/y.git#v1:/a/./b/"), is("https://x/y.git", Some("v1"), "a/b"));
        assert_eq!(read("git@x:y/z#:docs"), is("git@x:y/z", None, "docs"));
        assert_eq!(read("ssh://git@x/y#main"), is("ssh://git@x/y", Some("main"), ""));
        assert_eq!(read("git://x/y#"), is("git://x/y", None, ""));
        for other in ["https://x/y", "https://x/y.git/z", "https://x/y.tar.git?z", "y.git", "."] {
            assert_eq!(read(other), None, "{other}");
        }
        for wrong in ["git://x/y#--upload-pack=z", "git://x/y#main:../z", "git://x/y#:a/../../b"] {
            assert_eq!(read(wrong), Some(None), "{wrong}");
        }
    }
}
