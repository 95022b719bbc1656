//! Patterns of COPY: `*`, `?` and `[a-z]` within one name, as Go's `filepath.Match` has them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most matches of one pattern.
const MATCHES_MAX: usize = 100_000;

/// Whether a path has a part that is a pattern.
pub(super) fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// Paths below `root`, relative to it, that match, sorted.
pub(super) fn find(root: &Path, pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.iter() {
        let mut next = Vec::new();
        for folder in found {
            if is_pattern(Path::new(part)) {
                let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
                for entry in entries {
                    let name = entry?.file_name();
                    let matches = matches(&part.to_string_lossy(), &name.to_string_lossy());
                    if matches && next.len() < MATCHES_MAX {
                        next.push(folder.join(name));
                    }
                }
            } else if root.join(&folder).join(part).symlink_metadata().is_ok() {
                next.push(folder.join(part));
            }
        }
        // A symlink on the way could lead out of the context.
        next.retain(|path| {
            let above = path.parent().filter(|p| !p.as_os_str().is_empty());
            above.is_none_or(|p| root.join(p).symlink_metadata().is_ok_and(|m| m.is_dir()))
        });
        found = next;
    }
    found.sort();
    Ok(found)
}

/// Whether a name matches a pattern. A bracket that is not closed matches itself.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Where to go on when what follows the last `*` does not match: one character later.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() || p < pattern.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            _ if n >= name.len() => None,
            Some('?') => Some(1),
            Some('[') => match class(&pattern[p..], name[n]) {
                Some((true, length)) => Some(length),
                Some((false, _)) => None,
                None => (name[n] == '[').then_some(1),
            },
            Some('\\') if p + 1 < pattern.len() => (pattern[p + 1] == name[n]).then_some(2),
            Some(c) => (*c == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) if from < name.len() => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, _) => return false,
        }
    }
    true
}

/// Whether `c` is in the class that `pattern` begins with, and how long that is.
fn class(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('^' | '!'));
    let mut at = 1 + usize::from(negated);
    let (first, mut is_in) = (at, false);
    loop {
        let low = *pattern.get(at)?;
        if low == ']' && at > first {
            return Some((is_in != negated, at + 1));
        }
        let range =
            pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2).is_some_and(|h| *h != ']');
        let high = if range { pattern[at + 2] } else { low };
        is_in |= (low..=high).contains(&c);
        at += if range { 3 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_people_write_them() {
        for (pattern, name) in [
            ("*.py", "a.py"),
            ("package*.json", "package-lock.json"),
            ("package*.json", "package.json"),
            ("?.txt", "x.txt"),
            ("[a-c]x", "bx"),
            ("[^a]x", "bx"),
            ("*", ".hidden"),
            ("a*b*c", "aXbXbXc"),
            ("[x", "[x"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.py", "a.pyc"), ("?", ""), ("[a-c]", "d"), ("a*b*c", "abcb"), ("", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    /// The plain recursive definition.
    fn model(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=name.len()).any(|skip| model(rest, &name[skip..])),
            (['?', rest @ ..], [_, more @ ..]) => model(rest, more),
            ([p, rest @ ..], [n, more @ ..]) => p == n && model(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_match_as_defined(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            let (p, n): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&pattern, &name), model(&p, &n));
        }
    }
}
