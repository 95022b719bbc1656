//! A program that prints as fast as it can: it is held back, and loses nothing; disk and memory are
//! bounded, and its neighbours are served. How much slower `cargo xtask bench compose` measures.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;

use crate::harness::{Project, free_port, get, root, until};

/// The most that the log of an instance takes: the file that is written and four before it, each
/// of 8 MiB and what was read at once beside it.
const LOG_BYTES_MAX: u64 = 5 * (9 << 20);
/// The most that a shim takes in memory, in KiB.
const SHIM_KIB_MAX: u64 = 16 << 10;
/// The most that the engine may grow meanwhile, in KiB.
const GROWTH_KIB_MAX: u64 = 32 << 10;

/// The user `nobody`.
const NOBODY: u32 = 65_534;

fn status(pid: u64, field: &str) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The numbers that a log file has, which follow one another.
fn numbers(path: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(path).unwrap();
    // The newest line may be under way.
    let whole = &text[..text.rfind('\n')?];
    let mut each = whole.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap());
    let first: u64 = each.next()?;
    let last = each.fold(first, |before, number| {
        assert_eq!(number, before + 1, "{}", path.display());
        number
    });
    Some((first, last))
}

fn plays(project: &Project, port: u16) {
    project.ok(&["up", "-d"]);
    let engine = u64::from(project.engine_pid());
    let before = status(engine, "VmRSS:");
    let loud = project.pids("loud")[0];
    let shim = status(loud, "PPid:");
    let folder = project.path(".ms/logs/loud.1");
    let files = || {
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let mut most = 0;
    until("it has gone through more files than are kept", || {
        // Neighbours are answered all the while.
        assert_eq!(get(port, "/").0, 200);
        // A file may be put aside or go between two looks.
        let sizes = files().into_iter().filter_map(|path| Some(path.metadata().ok()?.len()));
        most = sizes.sum::<u64>().max(most);
        let current = std::fs::read_to_string(folder.join("current.log")).unwrap_or_default();
        let number = current.lines().nth(1).and_then(|line| line.rsplit(' ').next()?.parse().ok());
        (number.is_some_and(|number: u64| number > 1_500_000), number)
    });
    assert!(most <= LOG_BYTES_MAX, "{most} bytes of logs");
    let memory = status(shim, "VmHWM:");
    assert!(memory <= SHIM_KIB_MAX, "the shim took {memory} KiB");
    let grown = status(engine, "VmRSS:").saturating_sub(before);
    assert!(grown <= GROWTH_KIB_MAX, "the engine grew by {grown} KiB");
    project.ok(&["stop", "loud"]);
    // Nothing that is kept has a gap: not within a file, and not between them.
    let ranges: Vec<_> = files().iter().filter_map(|path| numbers(path)).collect();
    assert!(ranges.len() >= 4, "{ranges:?}");
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].1 + 1, pair[1].0, "{ranges:?}");
    }
}

#[test]
fn a_log_that_is_flooded_is_bounded_and_whole() {
    let port = free_port();
    let file = format!(
        "services:
  web:
    image: example/web
    x-mainspring: {{native: true}}
    command: python3 echo.py
    ports: ['127.0.0.1:{port}:8080']
  loud:
    image: example/loud
    x-mainspring: {{native: true}}
    command: seq 100000000
"
    );
    plays(&Project::new(&file), port);
    if root() {
        plays(&Project::as_user(&file, NOBODY), port);
    }
}
