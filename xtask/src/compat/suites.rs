//! The suites: where each comes from, how it is made ready and run, and how its words are read.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{Done, Outcome, folder};
use crate::{maven, run};

/// A suite's version, and what came of each test.
type Results = Result<(String, Vec<Done>)>;

/// A suite.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Against a server.
    pub(crate) run: fn(&str) -> Results,
}

pub(crate) const ALL: &[Suite] = &[
    Suite {
        name: "confluent-kafka",
        about: "client jobs, Python over librdkafka",
        run: |a| python("confluent", a),
    },
    Suite {
        name: "kafka-python",
        about: "client jobs, Python",
        run: |a| python("kafka_python", a),
    },
    Suite { name: "aiokafka", about: "client jobs, Python asyncio", run: |a| python("aio", a) },
    Suite { name: "kafkajs", about: "client jobs, Node.js", run: node },
    Suite { name: "franz-go", about: "client jobs, Go", run: go },
    Suite { name: "java-4", about: "client jobs, Java", run: |a| java("4.2.0", a) },
    Suite { name: "java-3", about: "client jobs, Java", run: |a| java("3.9.1", a) },
    Suite {
        name: "librdkafka",
        about: "its own tests that need a broker, with one replica where they make three",
        run: librdkafka,
    },
    Suite {
        name: "kafka-python-tests",
        about: "its own integration tests",
        run: kafka_python_tests,
    },
];

fn clients() -> PathBuf {
    run::root().join("crates/events/tests/clients")
}

/// Runs a program and gives what it printed, whatever it ended with.
fn printed(dir: &Path, program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{program}`"))?;
    let mut all = String::from_utf8_lossy(&out.stdout).into_owned();
    all.push_str(&String::from_utf8_lossy(&out.stderr));
    Ok(all)
}

/// Lines in the form of TAP: `ok 1 - NAME VERSION: TEST`.
fn tap(text: &str) -> (String, Vec<Done>) {
    let mut version = String::new();
    let mut done: Vec<Done> = Vec::new();
    for line in text.lines() {
        let (outcome, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (Outcome::Passed, rest),
            (_, Some(rest)) => (Outcome::Failed, rest),
            _ => {
                if let (Some(why), Some(last)) = (line.strip_prefix("  # "), done.last_mut()) {
                    why.clone_into(&mut last.why);
                }
                continue;
            }
        };
        let (rest, skip) =
            rest.split_once(" # SKIP ").map_or((rest, ""), |(rest, why)| (rest, why));
        let Some((client, test)) =
            rest.split_once(" - ").and_then(|(_, rest)| rest.split_once(": "))
        else {
            continue;
        };
        client.rsplit(' ').next().unwrap_or_default().clone_into(&mut version);
        let outcome = if skip.is_empty() { outcome } else { Outcome::Skipped };
        done.push(Done { test: test.to_owned(), outcome, why: skip.to_owned() });
    }
    (version, done)
}

fn venv() -> Result<PathBuf> {
    let venv = folder().join("venv");
    if !venv.join("bin/aiokafka-ready").exists() {
        run::need("python3", &["python3", "python3-venv"])?;
        run::run_in(&folder(), "python3", &["-m", "venv", "venv"])?;
        let wanted = [
            "confluent-kafka==2.16.1",
            "kafka-python==3.0.12",
            "aiokafka==0.14.0",
            "cramjam",
            "lz4",
            "python-snappy",
            "zstandard",
            "pytest",
            "pytest-timeout",
        ];
        let pip = venv.join("bin/pip");
        let args = [&["install", "--quiet"][..], &wanted].concat();
        run::run_in(&folder(), &pip.to_string_lossy(), &args)?;
        std::fs::write(venv.join("bin/aiokafka-ready"), "")?;
    }
    Ok(venv)
}

fn python(script: &str, address: &str) -> Results {
    let python = venv()?.join("bin/python");
    let file = format!("{script}.py");
    Ok(tap(&printed(&clients(), &python.to_string_lossy(), &[&file, address], &[])?))
}

fn copied(name: &str) -> Result<PathBuf> {
    let to = folder().join(name);
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(clients().join(name))? {
        let from = entry?.path();
        if let Some(file) = from.file_name().filter(|_| from.is_file()) {
            std::fs::copy(&from, to.join(file))?;
        }
    }
    Ok(to)
}

fn node(address: &str) -> Results {
    run::need("npm", &["nodejs", "npm"])?;
    let dir = copied("node")?;
    run::run_in(&dir, "npm", &["install", "--silent", "--no-audit", "--no-fund"])?;
    Ok(tap(&printed(&dir, "node", &["jobs.js", address], &[])?))
}

fn go(address: &str) -> Results {
    run::need("go", &["golang-go"])?;
    let dir = copied("go")?;
    run::run_in(&dir, "go", &["build", "-o", "jobs", "."])?;
    let (_, done) = tap(&printed(&dir, "./jobs", &[address], &[])?);
    let module = std::fs::read_to_string(dir.join("go.mod"))?;
    let line = module.lines().find(|line| line.contains("franz-go v")).unwrap_or_default();
    Ok((line.rsplit(' ').next().unwrap_or_default().to_owned(), done))
}

fn java(version: &str, address: &str) -> Results {
    let dir = folder().join(format!("java-{version}"));
    let path = maven::class_path(&dir, &[("kafka-clients", version)])?;
    let is_old = version.starts_with("3.");
    let sources = ["java/Jobs.java", "java/ShareJobs.java"].map(|name| clients().join(name));
    let sources =
        sources.iter().take(if is_old { 1 } else { 2 }).map(|path| path.to_string_lossy());
    let sources: Vec<_> = sources.collect();
    let mut words = vec!["-nowarn", "-cp", &path, "-d", "out"];
    words.extend(sources.iter().map(AsRef::as_ref));
    run::run_in(&dir, "javac", &words)?;
    Ok(tap(&printed(&dir, "java", &["-cp", &format!("{path}:out"), "Jobs", address], &[])?))
}

/// The source of a crate that carries librdkafka with its tests.
fn librdkafka(address: &str) -> Results {
    const RDKAFKA_SYS: &str = "4.10.0";
    // They make topics with three replicas, which no single node has: the one thing that is changed.
    const THREE_REPLICAS: [(&str, &str, &str); 4] = [
        ("0098-consumer-txn.cpp", ", 3, 5000)", ", 1, 5000)"),
        ("0103-transactions.c", ", 3, 5000)", ", 1, 5000)"),
        ("0107-topic_recreate.c", ", 3, 5000)", ", 1, 5000)"),
        ("0111-delay_create_topics.cpp", ", 1, 3)", ", 1, 1)"),
    ];
    run::need("g++", &["g++", "make"])?;
    if !Path::new("/usr/include/rapidjson").exists() {
        run::install(&["libssl-dev", "zlib1g-dev", "libzstd-dev", "rapidjson-dev"])?;
    }
    let dir = folder().join("librdkafka");
    if !dir.join("tests/test-runner").exists() {
        let fetch = folder().join("fetch");
        std::fs::create_dir_all(fetch.join("src"))?;
        std::fs::write(fetch.join("src/lib.rs"), "")?;
        // A workspace of its own, though it lies in ours.
        let manifest = format!(
            "[package]\nname = \"fetch\"\n[workspace]\n[dependencies]\nrdkafka-sys = \"={RDKAFKA_SYS}\"\n"
        );
        std::fs::write(fetch.join("Cargo.toml"), manifest)?;
        run::run_in(&fetch, "cargo", &["vendor", "--quiet", "vendor"])?;
        let vendored = fetch.join("vendor/rdkafka-sys/librdkafka");
        run::run_in(&folder(), "cp", &["-r", &vendored.to_string_lossy(), "librdkafka"])?;
        for (file, three, one) in THREE_REPLICAS {
            let path = dir.join("tests").join(file);
            let source = std::fs::read_to_string(&path)?;
            std::fs::write(path, source.replace(three, one))?;
        }
        run::run_in(&dir, "./configure", &["--disable-curl"])?;
        run::run_in(&dir, "make", &["-j2", "libs"])?;
        run::run_in(&dir, "make", &["-j2", "-C", "tests", "test-runner"])?;
    }
    let tests = dir.join("tests");
    let source = std::fs::read_to_string(tests.join("test.c"))?;
    let scripts = kafka_scripts()?.to_string_lossy().into_owned();
    // Some want a server where topics are not made by asking for them.
    let other = super::serve("log-noautocreate", &[("MS_NO_AUTO_CREATE", "1")])?;
    let mut done = Vec::new();
    for (name, scenario) in names(&source) {
        let address = if scenario == "noautocreate" { &other.1 } else { address };
        std::fs::write(tests.join("test.conf"), format!("bootstrap.servers={address}\n"))?;
        let env = [
            ("TEST_SCENARIO", scenario.as_str()),
            // Some make their topics and rules with the tools that come with Kafka.
            ("KAFKA_PATH", scripts.as_str()),
            ("BROKERS", address),
            ("LD_LIBRARY_PATH", "../src:../src-cpp"),
            ("TEST_KAFKA_VERSION", "4.0.0"),
            ("TESTS", name.as_str()),
        ];
        let text =
            printed(&tests, "timeout", &["-k", "5", "300", "./test-runner", "-L", "-p1"], &env)?;
        done.push(verdict(&name, &plain(&text)));
    }
    Ok(("2.12.1".to_owned(), done))
}

/// Kafka's command-line tools where its distribution has them.
fn kafka_scripts() -> Result<PathBuf> {
    const TOOLS: [(&str, &str); 3] = [
        ("topics", "org.apache.kafka.tools.TopicCommand"),
        ("acls", "org.apache.kafka.tools.AclCommand"),
        ("configs", "kafka.admin.ConfigCommand"),
    ];
    use std::os::unix::fs::PermissionsExt;
    let dir = folder().join("kafka");
    let path = maven::kafka(&dir)?;
    std::fs::create_dir_all(dir.join("bin"))?;
    for (name, class) in TOOLS {
        let script = dir.join(format!("bin/kafka-{name}.sh"));
        std::fs::write(&script, format!("#!/bin/sh\nexec java -cp '{path}' {class} \"$@\"\n"))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(dir)
}

/// Tests that need a broker, from the table of the runner, each with how the broker has to be.
fn names(source: &str) -> Vec<(String, String)> {
    let table = source.split("struct test tests[]").nth(1).unwrap_or_default();
    let table = table.split("{NULL}").next().unwrap_or_default();
    let entries = table.split("_TEST(").skip(1).filter_map(|entry| {
        let (name, rest) = entry.split_once(',')?;
        let flags = rest.split([',', ')']).next().unwrap_or_default();
        let needs_broker = !flags.contains("LOCAL") && !flags.contains("MANUAL");
        let scenario = rest.split_once(".scenario = \"").map_or("default", |(_, rest)| rest);
        let scenario = scenario.split(['"', ',']).next().unwrap_or_default();
        needs_broker.then(|| (name.trim().to_owned(), scenario.to_owned()))
    });
    entries.collect()
}

fn verdict(name: &str, text: &str) -> Done {
    let row = text.lines().rev().find(|line| {
        line.strip_prefix("| ").is_some_and(|rest| rest.split_whitespace().next() == Some(name))
    });
    let cells: Vec<&str> = row.unwrap_or_default().split('|').map(str::trim).collect();
    let (outcome, why) = match cells.get(2).copied() {
        Some("PASSED") => (Outcome::Passed, ""),
        Some("SKIPPED") => (Outcome::Skipped, cells.get(4).copied().unwrap_or_default()),
        _ => {
            let failed = text.lines().find(|line| line.contains("failed at"));
            (
                Outcome::Failed,
                failed.unwrap_or("ended without a verdict, or took over five minutes"),
            )
        }
    };
    Done { test: name.to_owned(), outcome, why: why.to_owned() }
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

/// What the fixtures of kafka-python need of a server that they did not start.
const SERVICE_PY: &str = "
class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port
    def open(self):
        pass
    def close(self):
        pass

class SpawnedService:
    pass
";

fn kafka_python_tests(address: &str) -> Results {
    const VERSION: &str = "3.0.12";
    let venv = venv()?;
    let dir = folder().join(format!("kafka_python-{VERSION}"));
    if !dir.exists() {
        let pip = venv.join("bin/pip");
        let wanted = format!("kafka-python=={VERSION}");
        let args = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", &wanted];
        run::run_in(&folder(), &pip.to_string_lossy(), &args)?;
        run::run_in(&folder(), "tar", &["xzf", &format!("kafka_python-{VERSION}.tar.gz")])?;
    }
    // What is published lacks a module that only starts servers, and looks for Kafka's files.
    std::fs::write(dir.join("test/__init__.py"), "")?;
    std::fs::write(dir.join("test/service.py"), SERVICE_PY)?;
    std::fs::create_dir_all(dir.join(format!("servers/{}/kafka-bin", maven::KAFKA)))?;
    let uri = format!("kafka://{address}");
    let env = [("KAFKA_URI", uri.as_str()), ("KAFKA_VERSION", maven::KAFKA)];
    let python = venv.join("bin/python");
    let args = [
        "-m",
        "pytest",
        "-rA",
        "--timeout",
        "120",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:unraisableexception",
        "test/integration",
    ];
    let text = printed(&dir, &python.to_string_lossy(), &args, &env)?;
    Ok((VERSION.to_owned(), text.lines().filter_map(pytest).collect()))
}

/// A line of pytest's summary.
fn pytest(line: &str) -> Option<Done> {
    let (word, rest) = line.split_once(' ')?;
    let outcome = match word {
        "PASSED" => Outcome::Passed,
        "FAILED" | "ERROR" => Outcome::Failed,
        "SKIPPED" => Outcome::Skipped,
        _ => return None,
    };
    let (test, why) = rest.split_once(" - ").unwrap_or((rest, ""));
    let (test, why) = match outcome {
        Outcome::Skipped => rest.split_once(": ").unwrap_or((rest, "")),
        _ => (test, why),
    };
    Some(Done { test: test.trim().to_owned(), outcome, why: why.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_suites_print_is_understood() {
        let (version, done) =
            tap("ok 1 - aiokafka 0.14.0: a\nnot ok 2 - aiokafka 0.14.0: b\n  # why\n");
        assert_eq!((version.as_str(), done.len()), ("0.14.0", 2));
        assert_eq!((done[1].outcome, done[1].why.as_str()), (Outcome::Failed, "why"));
        let source = "struct test tests[] = {_TEST(0001_a, 0), _TEST(0002_b, TEST_F_LOCAL),
             _TEST(0003_c, 0, .scenario = \"noautocreate\"), {NULL}}";
        let wanted = [("0001_a", "default"), ("0003_c", "noautocreate")];
        assert_eq!(names(source), wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let text = plain(
            "|\x1b[32m 0001_a                                   |     PASSED |   1.500s \x1b[0m|\n",
        );
        assert_eq!(verdict("0001_a", &text).outcome, Outcome::Passed);
        assert_eq!(verdict("0001_b", &text).outcome, Outcome::Failed);
        let skipped = pytest("SKIPPED [1] test/x.py:3: needs a broker").unwrap();
        assert_eq!((skipped.outcome, skipped.why.as_str()), (Outcome::Skipped, "needs a broker"));
    }
}
