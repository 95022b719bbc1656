//! What is done again, and what is not.

use std::time::Duration;

use base::{Clock, SystemClock};
use builder::Keep;

use crate::Test;
use crate::bench::{Bench, Said, read};

pub(crate) const TESTS: &[Test] = &[
    ("same_input_runs_nothing", same_input_runs_nothing),
    ("a_change_runs_what_follows", a_change_runs_what_follows),
    ("no_cache_runs_all_and_is_found_later", no_cache),
    ("where_packages_are_from_counts_and_how_they_are_reached_does_not", sources),
    ("old_and_surplus_layers_go", pruning),
];

const APP: &str = "FROM debian AS tools\nRUN echo tool > /tool\nFROM debian\nARG WHO=you\nWORKDIR /app\n\
    COPY first .\nRUN cat first; cat /proc/sys/kernel/random/uuid > /once\nCOPY second .\nENV MODE=a\n\
    RUN echo $WHO $MODE $(cat second)\nCOPY --from=tools /tool /tool\n";

fn app() -> Bench {
    let bench = Bench::new(APP);
    bench.write("first", "1\n");
    bench.write("second", "2\n");
    bench
}

fn same_input_runs_nothing() {
    let bench = app();
    let (first, said) = bench.build();
    assert_eq!(said.work(), "+++++++", "{:#?}", said.lines);
    assert_eq!(said.output(), ["1", "you a 2"]);
    let (again, said) = bench.build();
    assert_eq!((said.work().as_str(), again.steps_done), ("-------", 0));
    assert_eq!((again.layers, said.output().len()), (first.layers, 0));
    // Another engine finds what this one did; times of files do not count.
    bench.write("second", "2\n");
    let other = Bench::open(bench.folder.clone(), APP);
    assert_eq!(other.build().1.work(), "-------");
}

fn a_change_runs_what_follows() {
    let mut bench = app();
    bench.build();
    bench.write("second", "two\n");
    let (_, said) = bench.build();
    assert_eq!((said.work().as_str(), said.output()), ("----++-", vec!["you a two"]));
    bench.write("unused", "x");
    assert_eq!(bench.build().1.work(), "-------");
    bench.dockerfile(&APP.replace("MODE=a", "MODE=b"));
    let (_, said) = bench.build();
    assert_eq!(said.output(), ["you b two"]);
    bench.build.args.insert("WHO".to_owned(), "me".to_owned());
    let (_, said) = bench.build();
    // An argument counts from where it is declared.
    assert_eq!(said.output(), ["1", "me b two"]);
    bench.write("first", "one\n");
    assert_eq!(bench.build().1.output(), ["one", "me b two"]);
    // Back to what was there before: everything is.
    bench.write("first", "1\n");
    bench.write("second", "2\n");
    bench.build.args.clear();
    bench.dockerfile(APP);
    assert_eq!(bench.build().1.work(), "-------");
}

fn no_cache() {
    let mut bench = app();
    let once = |bench: &Bench| read(&bench.build().0, "once").unwrap();
    let first = once(&bench);
    bench.no_cache = true;
    let second = once(&bench);
    assert_ne!(first, second);
    bench.no_cache = false;
    assert_eq!(once(&bench), second, "what was made last counts");
}

fn sources() {
    // The environment is the engine's, which is another process for each.
    let folder = tempfile::tempdir().unwrap();
    let work = |name: &str, value: &str| {
        let own = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new(own);
        command.env(crate::VICTIM_OF_ENVIRONMENT, folder.path()).env(name, value);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(work("PIP_INDEX_URL", "a"), "a\n+\n");
    assert_eq!(work("PIP_INDEX_URL", "a"), "\n-\n");
    assert_eq!(work("PIP_INDEX_URL", "b"), "b\n+\n");
    let none = work("https_proxy", "x");
    assert_eq!(none, "\n+\n");
    assert_eq!(work("https_proxy", "y"), "\n-\n");
}

/// Builds in a folder, in whatever environment this process has.
pub(crate) fn build_in(folder: &std::path::Path) {
    let whole = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let text = "FROM debian\nRUN echo $PIP_INDEX_URL\n";
    let bench = Bench::in_folder(folder, whole, text);
    std::fs::create_dir_all(bench.context()).unwrap();
    let (_, said) = bench.build();
    let lines = [said.output().join("\n"), said.work(), String::new()];
    std::io::Write::write_all(&mut std::io::stdout(), lines.join("\n").as_bytes()).unwrap();
}

fn pruning() {
    let bench = app();
    let (first, _) = bench.build();
    bench.write("second", "two\n");
    let (second, _) = bench.build();
    let store = bench.state().join("layers");
    let all = bench.layers().len();
    let now = SystemClock.now();
    let prune = |used: &[_], keep, at| bench.builder.prune(used, keep, at).unwrap().count;
    std::fs::create_dir(store.join(".half.new")).unwrap();
    assert_eq!(prune(&second.layers, Keep::default(), now), 1);
    assert_eq!(bench.layers().len(), all, "only what is half made goes");
    assert_eq!(bench.build().1.work(), "-------");
    let little = Keep { bytes: 0, ..Keep::default() };
    assert_eq!(prune(&first.layers, little, now), 0, "a release may be made of them just now");
    let later = now.plus(Duration::from_secs(3600));
    let gone = prune(&first.layers, little, later);
    assert!(gone > 0 && bench.layers().len() == all - gone);
    assert!(first.layers.iter().all(|layer| layer.is_dir()));
    bench.build();
    let late = now.plus(Duration::from_secs(15 * 24 * 3600));
    prune(&[], Keep::default(), late);
    assert_eq!(bench.layers(), Vec::<String>::new());
    let mut said = Said::default();
    bench.try_build(&mut said).unwrap();
    assert_eq!(said.work(), "+++++++");
}
