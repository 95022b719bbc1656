//! A folder of metric history with anything in its files.

use std::fs;

use base::UnixNanos;
use base::metrics::{Family, Registry};

use super::record::TIERS;
use super::tier::frame;
use super::{History, HistoryConfig, Query, Show};

const HITS: Family = Family { name: "hits_total", help: "Hits." };
const TOOK: Family = Family { name: "took_seconds", help: "Took." };

/// When the file begins, in seconds; on a step of every tier.
const START: u32 = 1_795_320_000;

/// A file of the tier that the first byte names; its highest bit says that the rest is the file as
/// it is. Else it is rows, each behind its length in two bytes, that get their checksums here.
///
/// # Panics
/// When what is written behind such a file is not found again.
pub fn metric_history(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let (step, _, name) = TIERS[usize::from(how & 0x7f) % TIERS.len()];
    let file = if how & 0x80 == 0 { with_checksums(rest) } else { rest.to_vec() };
    let dir = tempfile::tempdir().expect("the folder for temporary files can be written to");
    fs::create_dir(dir.path().join(name))
        .and_then(|()| fs::write(dir.path().join(name).join(format!("{START:010}.seg")), file))
        .expect("a temporary file can be written");
    let open = || {
        let dir = Some(dir.path().to_owned());
        let config = HistoryConfig { dir, arena_bytes_max: 1 << 20, ..HistoryConfig::default() };
        History::open(config).expect("whatever files hold, history is opened")
    };
    for show in [Show::Rate, Show::Mean, Show::Max, Show::Quantile(0.99)] {
        for family in [HITS.name, TOOK.name] {
            ask(&open(), family, show, step, START);
        }
    }
    // A later process goes on in the same file.
    let later = START + 3600;
    let history = open();
    let registry = Registry::default();
    let hits = registry.counter(HITS, vec![("to", "new".to_owned())]);
    for second in later..later + 2 {
        hits.add(1);
        history.sample(UnixNanos(u64::from(second) * 1_000_000_000), &registry);
    }
    history.flush();
    let found = ask(&open(), HITS.name, Show::Rate, step, later);
    assert!(found.contains(&"new".to_owned()), "{found:?}");
}

/// Names of the lines that say something of the hour from `since` on.
fn ask(history: &History, family: &str, show: Show, step_seconds: u32, since: u32) -> Vec<String> {
    let at = |second: u32| UnixNanos(u64::from(second) * 1_000_000_000);
    let answer = history.query(&Query {
        family: family.to_owned(),
        labels: Vec::new(),
        group_by: vec!["to".to_owned()],
        show,
        since: at(since),
        until: at(since + 3600),
        step_seconds,
    });
    let known = answer.lines.into_iter().filter(|line| line.values.iter().any(Option::is_some));
    known.filter_map(|line| line.group.into_iter().next()).collect()
}

fn with_checksums(mut rest: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(tail.len());
        file.extend_from_slice(&frame(&tail[..length]));
        rest = &tail[length..];
    }
    file
}
