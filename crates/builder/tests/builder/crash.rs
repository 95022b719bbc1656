//! A builder that dies leaves nothing half made.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock};

use crate::Test;
use crate::bench::{Bench, Said};

pub(crate) const TESTS: &[Test] = &[("killed_in_the_middle", killed_in_the_middle)];

/// Set for a process that builds until it is killed.
pub(crate) const VICTIM: &str = "BUILDER_TEST_VICTIM";

const APP: &str =
    "FROM debian\nRUN echo first > /first\nRUN echo half > /half; echo $$ > /tmp/x; sleep 987\n";

/// Builds what does not end.
pub(crate) fn be_killed(folder: &Path) {
    let other = Arc::new(tempfile::tempdir().unwrap());
    let bench = Bench::in_folder(folder, other, APP);
    let _never = bench.try_build(&mut Said::default());
}

fn killed_in_the_middle() {
    let mut bench = Bench::new(APP);
    let mut victim = Command::new("/proc/self/exe");
    let mut victim = victim.arg0("victim").env(VICTIM, bench.folder.path()).spawn().unwrap();
    let begun = SystemClock.monotonic();
    let builds = bench.state().join("builds");
    let half = || {
        let folders = std::fs::read_dir(&builds).into_iter().flatten().flatten();
        folders.map(|f| f.path().join("upper/half")).find(|path| path.exists())
    };
    while half().is_none() {
        assert!(SystemClock.monotonic() - begun < Duration::from_secs(60), "the step never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    // Two layers at most: the base's and the first step's.
    let layers = bench.layers();
    let has_half =
        layers.iter().any(|l| bench.state().join("layers").join(l).join("half").exists());
    assert!(layers.len() == 2 && !has_half, "{layers:?}");
    bench.dockerfile(&APP.replace("; sleep 987", ""));
    let (image, said) = bench.build();
    assert_eq!(said.work(), "-+", "what was done is found, the rest is done");
    assert_eq!(image.layers.len(), 3);
    assert!(half().is_none() && !sleeps(), "the step of the dead builder is gone");
}

/// Whether the step's own `sleep` still runs somewhere.
fn sleeps() -> bool {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    all.filter_map(line).any(|line| line == b"sleep\x00987\x00")
}
