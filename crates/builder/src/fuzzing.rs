//! What must hold for any pattern, name and mode that a Dockerfile says.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.

use crate::{glob, owner};

/// A pattern of COPY in the first line, and names; each is read as a mode too.
///
/// # Panics
/// When a name does not match itself, written so that nothing in it is a pattern, or a mode has
/// more than permissions.
pub fn file_pattern(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let pattern = lines.next().unwrap_or_default();
    for name in lines.take(20) {
        for (own, is_folder) in [(0, false), (0o7777, true)] {
            assert!(owner::permissions(name, own, is_folder).is_none_or(|mode| mode <= 0o7777));
        }
        // A backslash at the end would take the star for itself.
        if glob::matches(pattern, name) && !pattern.ends_with('\\') {
            assert!(glob::matches(&format!("{pattern}*"), name), "{pattern} {name}");
        }
        assert!(glob::matches("*", name) && glob::matches(&format!("*{}", plain(name)), name));
        assert!(glob::matches(&plain(name), name), "{name}");
        assert!(name == pattern || !glob::matches(&plain(name), pattern), "{pattern} {name}");
    }
}

fn plain(name: &str) -> String {
    name.chars().flat_map(|c| ['\\', c]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/file_pattern");
        for seed in std::fs::read_dir(folder).unwrap() {
            file_pattern(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
