//! "Did you mean": the nearest of the words that would have been right.

/// The candidate nearest to `word`, when it is near enough to be meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    let near = (word.len() / 3).clamp(1, 3);
    let scored = candidates.map(|c| (distance(&word, c), c));
    scored.filter(|(d, _)| *d <= near).min().map(|(_, c)| c)
}

/// Edits between two words; exchanging neighbours counts as one.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (last[j + 1] + 1).min(row[j] + 1).min(last[j] + usize::from(ca != cb));
            if i > 0 && j > 0 && a[i - 1] == *cb && *ca == b[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near() {
        let keys = ["image", "ports", "environment", "command"];
        let near = |word| nearest(word, keys.into_iter());
        assert_eq!(near("prots"), Some("ports"));
        assert_eq!(near("enviroment"), Some("environment"));
        assert_eq!(near("Command"), Some("command"));
        assert_eq!(near("zzz"), None);
        assert_eq!(near(""), None);
    }
}
