//! What must hold for any bytes in log files, in searches and in files of metric history.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.

use base::UnixNanos;
use base::units::{parse_bytes, parse_duration};

use crate::query;
use crate::when::{self, Here};

pub use crate::history::fuzzing::metric_history;
pub use crate::logs::fuzzing::log_file;

/// What a person types to search: the first line. Each further one is a time or a size.
///
/// # Panics
/// When a duration that was read is another after it was written and read again.
pub fn search(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let here = Here { now: UnixNanos(1_795_321_578_000_000_000), offset_seconds: 7200 };
    for (at, line) in text.lines().enumerate().take(50) {
        if at == 0
            && let Ok(filter) = query::parse(line, here)
        {
            filter.passes(crate::logs::Stream::Stdout, text);
        }
        if let Some(duration) = parse_duration(line) {
            // What has more digits than a float's 15 is rounded.
            let micros = duration.as_micros();
            let again = parse_duration(&format!("{micros}us")).map(|again| again.as_micros());
            let again = again.map(|again| again.abs_diff(micros) <= 1 + (micros >> 50));
            assert_eq!(again, Some(true), "{line}");
        }
        if let Some(size) = parse_bytes(line) {
            assert_eq!(parse_bytes(&size.to_string()), Some(size), "{line}");
        }
        match when::parse(line, here) {
            Ok(moment) if line.trim().ends_with(['s', 'm', 'h']) => {
                assert!(moment <= here.now, "{line} is ahead");
            }
            Ok(_) => {}
            Err(problem) => assert_eq!(problem.code, "bad-time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for (target, run) in [
            ("search", search as fn(&[u8])),
            ("log_file", log_file),
            ("metric_history", metric_history),
        ] {
            let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(folder).unwrap() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
