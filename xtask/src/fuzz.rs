//! `cargo xtask fuzz`: coverage-guided fuzzing of every parser of outside bytes.
//!
//! Not here: the targets (`fuzz/src/main.rs`) and what must hold (the `fuzzing` module of each
//! crate, whose tests replay the seeds). It runs on stable Rust: the coverage comes from flags of
//! the compiler, the engine is libFuzzer, which `libfuzzer-sys` brings along as C++.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::run;

/// What cargo-fuzz passes, without a sanitizer: nearly all of the code is safe.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

/// One input may take this long, and the whole process so much memory.
const BOUNDS: &[&str] = &["-timeout=5", "-rss_limit_mb=512", "-max_len=4096"];

/// Seeds beside a target's own: files that the project has anyway.
const MORE_SEEDS: &[(&str, &[&str])] = &[
    ("compose", &["examples/arcade/compose.yaml", "examples/polyglot/compose.yaml"]),
    ("dockerfile", &["examples/arcade/Dockerfile", "examples/polyglot/java/Dockerfile"]),
];

/// Reads `[TARGET] [--seconds N]`.
pub(crate) fn arguments<'a>(words: &[&'a str]) -> Option<(Option<&'a str>, u64)> {
    match words {
        [] => Some((None, 60)),
        ["--seconds", seconds] => Some((None, seconds.parse().ok()?)),
        [name, rest @ ..] if !name.starts_with('-') => Some((Some(name), arguments(rest)?.1)),
        _ => None,
    }
}

/// Runs one target or all, for so many seconds each. What led somewhere new stays in
/// `target/fuzz/corpus`; an input that breaks something goes to `target/fuzz/found`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (only, seconds) = arguments(words).context("`[TARGET] [--seconds N]`")?;
    run::need("c++", &["g++"])?;
    let targets = targets()?;
    if let Some(name) = only.filter(|name| !targets.iter().any(|each| each == name)) {
        bail!("there is no target `{name}`: use one of {}", targets.join(", "));
    }
    let program = build()?;
    let mut failed = Vec::new();
    for target in targets.iter().filter(|each| only.is_none_or(|only| only == *each)) {
        if let Err(error) = one(&program, target, seconds) {
            eprintln!("{target}: {error:#}");
            failed.push(target.as_str());
        }
    }
    ensure!(failed.is_empty(), "something was found in {}", failed.join(", "));
    Ok(())
}

/// Targets are the folders of seeds.
fn targets() -> Result<Vec<String>> {
    let folder = run::root().join("fuzz/seeds");
    let entries = folder.read_dir().with_context(|| folder.display().to_string())?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    run::root().join(target.unwrap_or_else(|| "target".into())).join("fuzz")
}

/// Builds the program; its versions are those of the workspace's lock file.
fn build() -> Result<PathBuf> {
    let (root, folder) = (run::root(), folder());
    let (lock, own) = (root.join("Cargo.lock"), root.join("fuzz/Cargo.lock"));
    let changed = |path: &Path| path.metadata().and_then(|stat| stat.modified()).ok();
    if changed(&own).is_none_or(|own| changed(&lock).is_some_and(|lock| lock > own)) {
        std::fs::copy(&lock, &own).context("cannot copy Cargo.lock")?;
    }
    let version = run::output("rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say its host")?;
    eprintln!("$ cargo build --release --manifest-path fuzz/Cargo.toml");
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        // With a target named, build scripts are built without the flags.
        .args(["build", "--quiet", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", host, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS)
        .current_dir(&root)
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "the fuzz targets cannot be built");
    Ok(folder.join(host).join("release/fuzz"))
}

fn one(program: &Path, target: &str, seconds: u64) -> Result<()> {
    let (root, folder) = (run::root(), folder());
    let corpus = folder.join("corpus").join(target);
    let found = folder.join("found");
    let more = folder.join("more").join(target);
    for path in [&corpus, &found, &more] {
        std::fs::create_dir_all(path)?;
    }
    let files = MORE_SEEDS.iter().filter(|(name, _)| *name == target).flat_map(|(_, files)| *files);
    for (at, file) in files.enumerate() {
        std::fs::copy(root.join(file), more.join(at.to_string())).context(*file)?;
    }
    let memory = Path::new("/dev/shm");
    let temporary = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    eprintln!("\n== {target}, {seconds} s");
    let status = Command::new(program)
        .args(BOUNDS)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{target}-", found.display()))
        .args(["-print_final_stats=1", "-print_funcs=0", "-verbosity=0"])
        .arg(&corpus)
        .args([root.join("fuzz/seeds").join(target), more])
        .env("MS_FUZZ_TARGET", target)
        .env("TMPDIR", temporary)
        .current_dir(&root)
        .stdin(Stdio::null())
        .status()?;
    let again = "MS_FUZZ_TARGET, the program and that file show it again";
    ensure!(status.success(), "the input is in {}; {again}", found.display());
    Ok(())
}
