//! The newest lines that pass, merged over instances by time.
//!
//! Invariants: reads backwards and stops at the limit, so that a small limit is fast on large
//! files; a line that does not pass is dropped at once.

use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use base::UnixNanos;

use super::source::Source;
use super::{Line, LogError, LogFilter, PAGE_BYTES_MAX, PAGE_LINES_MAX, Page, files};

pub(super) fn search(
    dir: &Path,
    filter: &LogFilter,
    cancelled: &AtomicBool,
) -> Result<Page, LogError> {
    let mut sources = Vec::new();
    for (instance, folder) in files::instances(dir)? {
        if filter.wants(&instance) {
            let source = Source::new(instance, &folder, filter).map_err(failed(&folder))?;
            sources.push((source, folder));
        }
    }
    merge(sources, filter, cancelled)
}

/// The newest lines of all sources that pass.
pub(super) fn merge(
    sources: Vec<(Source, PathBuf)>,
    filter: &LogFilter,
    cancelled: &AtomicBool,
) -> Result<Page, LogError> {
    let limit = filter.limit.clamp(1, PAGE_LINES_MAX);
    let mut heads = BinaryHeap::new();
    let each = sources.into_iter().map(|(source, folder)| Head { source, folder, line: None });
    let mut sources: Vec<Head> = each.collect();
    for (at, head) in sources.iter_mut().enumerate() {
        head.advance()?;
        heads.extend(head.key(at));
    }
    let mut page = Page::default();
    let (mut bytes, mut skip) = (0, filter.skip);
    while let Some((_, at)) = heads.pop() {
        if cancelled.load(Ordering::Relaxed) {
            return Err(LogError::Cancelled);
        }
        let line = sources[at].advance()?;
        heads.extend(sources[at].key(at));
        let Some(line) = line.filter(|line| filter.passes(line.stream, &line.text)) else {
            continue;
        };
        if skip > 0 {
            skip -= 1;
            continue;
        }
        bytes += line.text.len();
        if page.lines.len() == limit || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        page.lines.push(line);
    }
    page.lines.reverse();
    Ok(page)
}

/// A source with its newest line that is not merged yet.
struct Head {
    source: Source,
    folder: PathBuf,
    line: Option<Line>,
}

impl Head {
    /// Takes the line, and reads the one before it.
    fn advance(&mut self) -> Result<Option<Line>, LogError> {
        let next = self.source.previous().map_err(failed(&self.folder))?;
        Ok(std::mem::replace(&mut self.line, next))
    }

    /// Its place in the order: of lines at one moment, the last source's come last.
    fn key(&self, at: usize) -> Option<(UnixNanos, usize)> {
        self.line.as_ref().map(|line| (line.at, at))
    }
}

fn failed(folder: &Path) -> impl Fn(std::io::Error) -> LogError {
    move |source| LogError::Io { action: "read", path: folder.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Match, Stream};
    use proptest::prelude::*;
    use std::fmt::Write;
    use std::fs;

    /// An entry as a test writes it: second, whether stderr, whether a part, text.
    type Written = (u64, bool, bool, String);

    fn file_of(entries: &[Written]) -> String {
        let mut text = String::new();
        for (second, stderr, part, line) in entries {
            let (stream, tag) =
                (if *stderr { "stderr" } else { "stdout" }, if *part { "P" } else { "F" });
            let (minute, second) = (second / 60, second % 60);
            writeln!(text, "2026-11-22T04:{minute:02}:{second:02}.5Z {stream} {tag} {line}")
                .unwrap();
        }
        text
    }

    const START: u64 = 1_795_320_000_500_000_000;

    fn at(second: u64) -> UnixNanos {
        UnixNanos(START + second * 1_000_000_000)
    }

    /// Joins by hand, over all entries of an instance in order.
    fn naive(entries: &[Written]) -> Vec<(UnixNanos, Stream, String)> {
        let mut open = [String::new(), String::new()];
        let mut last = [None, None];
        let mut found = Vec::new();
        for (place, (second, stderr, part, text)) in entries.iter().enumerate() {
            let slot = usize::from(*stderr);
            open[slot] += text;
            last[slot] = Some((place, *second));
            if !part {
                found.push((place, *second, *stderr, std::mem::take(&mut open[slot])));
                last[slot] = None;
            }
        }
        for slot in [0, 1] {
            if let Some((place, second)) = last[slot] {
                found.push((place, second, slot == 1, std::mem::take(&mut open[slot])));
            }
        }
        found.sort();
        let stream = |stderr| if stderr { Stream::Stderr } else { Stream::Stdout };
        found.into_iter().map(|(_, second, err, text)| (at(second), stream(err), text)).collect()
    }

    fn instance() -> impl Strategy<Value = Vec<Written>> {
        let entry = (0u64..3, any::<bool>(), prop::bool::weighted(0.3), "[a-c é]{0,6}");
        prop::collection::vec(entry, 0..40).prop_map(|mut entries| {
            let mut second = 0;
            for entry in &mut entries {
                second += entry.0;
                entry.0 = second;
            }
            entries
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn finds_what_a_naive_reader_finds(
            instances in prop::collection::vec((instance(), 0usize..=100, 0usize..=100), 1..4),
            limit in 1usize..30,
            skip in 0usize..30,
            since in prop::option::of(0u64..60),
            until in prop::option::of(0u64..60),
            needle in prop::option::of("[a-c]"),
            stderr in prop::option::of(any::<bool>()),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut all = Vec::new();
            for (slot, (entries, cut, cut2)) in instances.iter().enumerate() {
                let name = format!("web.{}", slot + 1);
                let folder = dir.path().join(&name);
                fs::create_dir(&folder).unwrap();
                let (cut, cut2) = (*cut.min(cut2), *cut.max(cut2));
                let place = |share: usize| share * entries.len() / 100;
                fs::write(folder.join("10.log"), file_of(&entries[..place(cut)])).unwrap();
                fs::write(folder.join("9.log.gz"), "not ours").unwrap();
                let middle = file_of(&entries[place(cut)..place(cut2)]);
                fs::write(folder.join("200.log"), middle).unwrap();
                let mut current = file_of(&entries[place(cut2)..]);
                current.push_str("garbage\n\n2026-11-22T04:59:59Z stdout F torn");
                fs::write(folder.join("current.log"), current).unwrap();
                all.extend(naive(entries).into_iter().map(|(at, stream, text)| {
                    Line { at, instance: name.parse().unwrap(), stream, text }
                }));
            }
            let stream = stderr.map(|stderr| if stderr { Stream::Stderr } else { Stream::Stdout });
            let filter = LogFilter {
                must: needle.iter().map(|needle| Match::text(needle).unwrap()).collect(),
                since: since.map(at),
                until: until.map(at),
                stream,
                limit,
                skip,
                ..LogFilter::default()
            };
            all.sort_by(|a, b| (a.at, &a.instance).cmp(&(b.at, &b.instance)));
            all.retain(|line| {
                needle.as_ref().is_none_or(|needle| line.text.contains(needle))
                    && since.is_none_or(|since| line.at >= at(since))
                    && until.is_none_or(|until| line.at <= at(until))
                    && stream.is_none_or(|stream| line.stream == stream)
            });
            let page = search(dir.path(), &filter, &AtomicBool::new(false)).unwrap();
            // A file that is passed over as too new may hold the end of a line whose beginning
            // is then given alone; the model knows nothing of files, so leave such lines out.
            if until.is_none() {
                let end = all.len().saturating_sub(skip);
                prop_assert_eq!(page.more, end > limit);
                prop_assert_eq!(&page.lines, &all[end.saturating_sub(limit)..end]);
            } else {
                prop_assert!(page.lines.len() <= limit);
                let odd = instances.len() * 2;
                let (from, odd) = if skip == 0 { (0, odd) } else { (skip + odd, 2 * odd) };
                for line in all.iter().rev().skip(from).take(limit.saturating_sub(odd)) {
                    prop_assert!(page.lines.contains(line), "{line:?} is missing");
                }
            }
        }
    }

    #[test]
    fn stops_when_cancelled_and_bounds_the_page() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("web.1")).unwrap();
        let long = "x".repeat(900 << 10);
        let entries: Vec<Written> = (0..50).map(|s| (s, false, false, long.clone())).collect();
        fs::write(dir.path().join("web.1/current.log"), file_of(&entries)).unwrap();
        let filter = LogFilter::default();
        let cancelled = search(dir.path(), &filter, &AtomicBool::new(true));
        assert!(matches!(cancelled, Err(LogError::Cancelled)));
        let page = search(dir.path(), &filter, &AtomicBool::new(false)).unwrap();
        assert!(page.more);
        assert_eq!(page.lines.len(), PAGE_BYTES_MAX / long.len());
        assert_eq!(page.lines.last().unwrap().at, at(49));
    }
}
