//! `cargo xtask compat events [SUITE …]`: what others wrote for Kafka, run against the event log.
//!
//! Not here: the suites, which come from the package registries, or how each is run (`suites`).
//! Every skip and failure has its reason in `reasons.txt`; one without ends the command with an
//! error, and one that is not true any more is told. What came of each suite is kept, and the page is
//! written of all that is kept: a suite can be run again alone. `--against HOST:PORT` runs the same
//! against another server, and writes nothing.

mod suites;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::run;

/// What came of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Skipped,
    Failed,
}

const ALL: [Outcome; 3] = [Outcome::Passed, Outcome::Skipped, Outcome::Failed];

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Skipped => "skipped",
            Outcome::Failed => "failed",
        }
    }
}

/// One test of a suite.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    /// What the suite said, if it said why.
    pub(crate) why: String,
}

/// Where suites are kept and run.
pub(crate) fn folder() -> PathBuf {
    run::root().join("target/compat")
}

/// The log that is tested, in a process of its own.
struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(name: &str, env: &[(&str, &str)]) -> Result<Server> {
    run::cargo(&["build", "--release", "--quiet", "--package", "events", "--example", "serve"])?;
    let state = folder().join(name);
    if state.exists() {
        std::fs::remove_dir_all(&state)?;
    }
    std::fs::create_dir_all(&state)?;
    let mut child = Command::new(run::root().join("target/release/examples/serve"))
        .arg("127.0.0.1:0")
        .arg(&state)
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the log")?;
    let mut line = String::new();
    let out = child.stdout.take().context("it has no output")?;
    BufReader::new(out).read_line(&mut line)?;
    let address = line.trim().strip_prefix("listening on ").map(str::to_owned);
    match address {
        Some(address) => Ok(Server(child, address)),
        None => bail!("the log did not say where it listens: {line:?}"),
    }
}

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (against, wanted) = match words {
        ["--against", address, rest @ ..] => (Some((*address).to_owned()), rest),
        rest => (None, rest),
    };
    for name in wanted {
        ensure!(suites::ALL.iter().any(|suite| suite.name == *name), "there is no suite `{name}`");
    }
    std::fs::create_dir_all(folder())?;
    let server = match &against {
        Some(_) => None,
        None => Some(serve("log", &[])?),
    };
    let address = against.clone().or(server.as_ref().map(|server| server.1.clone()));
    let address = address.context("no server")?;
    for suite in suites::ALL {
        if !wanted.is_empty() && !wanted.contains(&suite.name) {
            continue;
        }
        eprintln!("\n== {}", suite.name);
        let (version, done) = (suite.run)(&address).with_context(|| suite.name.to_owned())?;
        for one in &done {
            eprintln!("{:?} {} {}", one.outcome, one.test, one.why);
        }
        if against.is_none() {
            keep(suite.name, &version, &done)?;
        }
    }
    if against.is_some() {
        return Ok(());
    }
    let mut results = Vec::new();
    for suite in suites::ALL {
        match kept(suite.name) {
            Some((version, done)) => results.push((suite, version, done)),
            None => eprintln!("{} was not run here yet: it is not on the page", suite.name),
        }
    }
    let (page, missing) = page(&results, &reasons());
    std::fs::write(run::root().join("docs/compat-events.md"), page)?;
    ensure!(missing.is_empty(), "without a reason in reasons.txt: {}", missing.join(", "));
    Ok(())
}

fn results(suite: &str) -> PathBuf {
    folder().join("results").join(format!("{suite}.json"))
}

/// Keeps what came of a suite.
fn keep(suite: &str, version: &str, done: &[Done]) -> Result<()> {
    let each = done.iter().map(|one| json!([one.test, one.outcome.word(), one.why]));
    let value = json!({"version": version, "done": each.collect::<Vec<_>>()});
    std::fs::create_dir_all(folder().join("results"))?;
    Ok(std::fs::write(results(suite), value.to_string())?)
}

fn kept(suite: &str) -> Option<(String, Vec<Done>)> {
    let value: Value = serde_json::from_slice(&std::fs::read(results(suite)).ok()?).ok()?;
    let each = value["done"].as_array()?.iter().map(|one| {
        let outcome = ALL.into_iter().find(|outcome| one[1] == outcome.word())?;
        let text = |at: usize| one[at].as_str().map(str::to_owned);
        Some(Done { test: text(0)?, outcome, why: text(2)? })
    });
    Some((value["version"].as_str()?.to_owned(), each.collect::<Option<_>>()?))
}

type Reasons = BTreeMap<(String, String), String>;

/// Lines `suite | test | reason`.
fn reasons() -> Reasons {
    let lines = include_str!("compat/reasons.txt").lines();
    let parsed = lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut parts = line.splitn(3, " | ");
        Some(((parts.next()?.into(), parts.next()?.into()), parts.next()?.into()))
    });
    parsed.collect()
}

type Results<'a> = [(&'a suites::Suite, String, Vec<Done>)];

fn page(results: &Results<'_>, reasons: &Reasons) -> (String, Vec<String>) {
    let mut page = String::from(
        "# Compatibility of the event log\n\nMade by `cargo xtask compat events`: unmodified clients doing their \
         whole job, and the suites that others wrote for Kafka, run against the embedded log.\n\n\
         | suite | what it is | version | passed | skipped | failed |\n|---|---|---|---|---|---|\n",
    );
    let mut missing = Vec::new();
    let mut rest = String::new();
    for (suite, version, done) in results {
        let count = |outcome| done.iter().filter(|one| one.outcome == outcome).count();
        let (passed, skipped, failed) =
            (count(Outcome::Passed), count(Outcome::Skipped), count(Outcome::Failed));
        let _ = writeln!(
            page,
            "| {} | {} | {version} | {passed} | {skipped} | {failed} |",
            suite.name, suite.about
        );
        for one in done.iter().filter(|one| one.outcome != Outcome::Passed) {
            let key = (suite.name.to_owned(), one.test.clone());
            let said = reasons.get(&key).cloned();
            // A suite that says why it skips needs no second reason.
            let own =
                (one.outcome == Outcome::Skipped && !one.why.is_empty()).then(|| one.why.clone());
            let why = said.or(own).unwrap_or_else(|| {
                missing.push(format!("{}: {}", suite.name, one.test));
                format!("not looked at: {}", one.why)
            });
            let word = one.outcome.word();
            let _ = writeln!(rest, "| {} | {} | {word} | {why} |", suite.name, one.test);
        }
        for (key, _) in reasons.iter().filter(|((of, _), _)| of == suite.name) {
            let holds = done.iter().any(|one| one.test == key.1 && one.outcome != Outcome::Passed);
            if !holds {
                eprintln!("reasons.txt: `{}` of {} passes, or is gone", key.1, key.0);
            }
        }
    }
    if !rest.is_empty() {
        let _ = write!(
            page,
            "\n## What was skipped or failed, and why\n\n| suite | test | | why |\n|---|---|---|---|\n{rest}"
        );
    }
    (page, missing)
}
