//! `.dockerignore`: which files of a context are left out.
//!
//! Docker's rules, not git's: a pattern is about the whole path from the context's root, the last
//! one that matches a path or a folder above it decides, `!` takes back, `**` is any number of
//! folders.

use std::path::{Component, Path};

const PATTERNS_MAX: usize = 5000;

/// The patterns of a `.dockerignore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    parts: Vec<Vec<char>>,
    takes_back: bool,
}

impl Ignore {
    /// Reads the file's text. Nothing in it is an error; patterns past five thousand are left out.
    pub fn parse(text: &str) -> Ignore {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        let patterns = lines.filter_map(|line| {
            let line = line.trim();
            let (takes_back, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let mut parts: Vec<Vec<char>> = Vec::new();
            for part in line.split('/').filter(|p| !p.is_empty() && *p != ".") {
                match part {
                    ".." => {
                        parts.pop();
                    }
                    _ => parts.push(part.chars().collect()),
                }
            }
            (!parts.is_empty()).then_some(Pattern { parts, takes_back })
        });
        Ignore { patterns: patterns.take(PATTERNS_MAX).collect() }
    }

    /// Whether a path, relative to the context, is left out. A folder that is left out may still
    /// hold files that are not, when [`Ignore::takes_back`] is true.
    ///
    /// `is_dir` makes no difference to Docker; it is there because callers know it.
    pub fn excluded(&self, path: &Path, is_dir: bool) -> bool {
        let _ = is_dir;
        let parts: Vec<Vec<char>> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_string_lossy().chars().collect()),
                _ => None,
            })
            .collect();
        let mut excluded = false;
        for pattern in &self.patterns {
            if pattern.takes_back == excluded && pattern.matches(&parts) {
                excluded = !pattern.takes_back;
            }
        }
        excluded
    }

    /// Whether any pattern takes files back, so that a folder left out must still be looked into.
    pub fn takes_back(&self) -> bool {
        self.patterns.iter().any(|p| p.takes_back)
    }
}

impl Pattern {
    /// Whether it matches the path, or a folder that the path is in.
    fn matches(&self, path: &[Vec<char>]) -> bool {
        // reach[j]: the parts so far match exactly the first j parts of the path.
        let mut reach = vec![false; path.len() + 1];
        reach[0] = true;
        for part in &self.parts {
            let mut next = vec![false; path.len() + 1];
            if part.iter().collect::<String>() == "**" {
                let first = reach.iter().position(|r| *r);
                if let Some(first) = first {
                    next[first..].fill(true);
                }
            } else {
                for (j, name) in path.iter().enumerate() {
                    next[j + 1] = reach[j] && matches_name(part, name);
                }
            }
            reach = next;
        }
        // A match of a folder above counts; a match of nothing at all does not.
        reach[1..].iter().any(|r| *r)
    }
}

/// One part of a path against `*`, `?`, `[a-z]` and `\` of a pattern.
fn matches_name(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(_) => single(&pattern[p..], name[n]),
            None => None,
        };
        match (step, star) {
            (Some(used), _) => {
                p += used;
                n += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                p = after;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How many characters of the pattern match this one character; `None` when they do not.
fn single(pattern: &[char], c: char) -> Option<usize> {
    match pattern[0] {
        '?' => Some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => {
            let negated = pattern.get(1) == Some(&'^');
            let mut i = if negated { 2 } else { 1 };
            let mut found = false;
            let mut first = true;
            while let Some(&low) = pattern.get(i) {
                if low == ']' && !first {
                    return (found != negated).then_some(i + 1);
                }
                first = false;
                match (pattern.get(i + 1), pattern.get(i + 2)) {
                    (Some('-'), Some(&high)) if high != ']' => {
                        found |= (low..=high).contains(&c);
                        i += 3;
                    }
                    _ => {
                        found |= low == c;
                        i += 1;
                    }
                }
            }
            None
        }
        plain => (plain == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dockers_rules() {
        for (file, path, expected) in [
            ("", "a", false),
            ("# a\n\na", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("a/", "a/x", true),
            ("./a", "a", true),
            ("*", "x", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/a.md", false),
            ("**/*.md", "docs/x/a.md", true),
            ("**/*.md", "a.md", true),
            ("*/temp*", "a/temporary.txt", true),
            ("*/*/temp*", "a/b/temp", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("!README.md\n*.md", "README.md", true),
            ("node_modules\n!node_modules/keep", "node_modules/keep/x", false),
            ("**", "any/thing", true),
            ("a/**", "a/b", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/../b", "b", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("foo*bar*baz", "foo1bar2baz", true),
            (".git", ".gitignore", false),
        ] {
            let excluded = Ignore::parse(file).excluded(Path::new(path), false);
            assert_eq!(excluded, expected, "{file:?} on {path}");
        }
    }

    /// The plainest possible reading of one pattern part: try every way.
    fn slow(pattern: &[char], name: &[char]) -> bool {
        match (pattern.first(), name.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                slow(&pattern[1..], name) || (!name.is_empty() && slow(pattern, &name[1..]))
            }
            (Some('?'), Some(_)) => slow(&pattern[1..], &name[1..]),
            (Some(p), Some(n)) if p == n => slow(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_match_as_the_plain_reading_does(p in "[ab*?]{0,8}", n in "[ab]{0,8}") {
            let (p, n): (Vec<char>, Vec<char>) = (p.chars().collect(), n.chars().collect());
            prop_assert_eq!(matches_name(&p, &n), slow(&p, &n));
        }

        #[test]
        fn never_panics(text in "[a*?!\\[\\]^\\\\/.\n -]{0,40}", path in "[a/.\\[\\]-]{0,12}") {
            let _ = Ignore::parse(&text).excluded(Path::new(&path), true);
        }

        #[test]
        fn the_last_pattern_decides(name in "[a-z]{1,8}", before in "[a-z*!\n]{0,20}") {
            let ignored = Ignore::parse(&format!("{before}\n{name}"));
            prop_assert!(ignored.excluded(Path::new(&name), false));
            let kept = Ignore::parse(&format!("{before}\n!{name}"));
            prop_assert!(!kept.excluded(Path::new(&name), false));
        }
    }
}
