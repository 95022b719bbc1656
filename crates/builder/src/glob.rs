//! Patterns of COPY: `*`, `?` and `[a-z]` within one name, as Go's `filepath.Match` has them.

use std::io;
use std::path::Path;

use crate::view::{Found, View};

/// Most matches of one pattern.
const MATCHES_MAX: usize = 100_000;

/// Whether a path has a part that is a pattern.
pub(crate) fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// What matches in a view, sorted. A symlink at the end of a path that is no pattern is followed,
/// others are themselves.
pub(crate) fn find(view: &View, pattern: &Path) -> io::Result<Vec<Found>> {
    if !is_pattern(pattern) {
        return Ok(view.find(pattern, true)?.into_iter().collect());
    }
    let mut found: Vec<Found> = view.find(Path::new("/"), true)?.into_iter().collect();
    let parts: Vec<_> = pattern.iter().filter(|part| *part != "/").collect();
    for part in parts {
        let mut next = Vec::new();
        for folder in found.iter().filter(|folder| folder.is_folder()) {
            if is_pattern(Path::new(part)) {
                for (name, child) in view.list(folder)? {
                    let matches = matches(&part.to_string_lossy(), &name.to_string_lossy());
                    if matches && next.len() < MATCHES_MAX {
                        next.push(child);
                    }
                }
            } else {
                next.extend(view.find(&folder.path.join(part), false)?);
            }
        }
        found = next;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Whether a name matches a pattern. A bracket that is not closed matches itself.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
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
