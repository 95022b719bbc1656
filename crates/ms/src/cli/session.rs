//! Whole commands against a made-up engine: what is printed, what is asked, the exit code.

use std::sync::Arc;

use base::Problem;
use clap::Parser;
use console::wire::Command as Asked;

use super::args::Cli;
use super::out::Mode;
use super::project::Here;
use super::testing::engine::Fake;
use super::testing::output;

/// What a command did.
struct Did {
    code: i32,
    out: String,
    err: String,
}

/// Runs `ms LINE` in a folder with a Compose file of these services, with this engine, if any.
fn ms(engine: Option<&Arc<Fake>>, services: &[&str], line: &str) -> Did {
    let dir = tempfile::tempdir().unwrap();
    let file: String =
        services.iter().map(|s| format!("  {s}: {{command: [sleep, '9']}}\n")).collect();
    std::fs::write(dir.path().join("compose.yaml"), format!("services:\n{file}")).unwrap();
    let state = dir.path().join(".ms");
    std::fs::create_dir(&state).unwrap();
    let here = Here { folder: dir.path().to_owned() };
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let mode = Mode { json: cli.shared.json, quiet: cli.shared.quiet, ..Mode::default() };
    let (mut out, stdout, stderr) = output(mode);
    out.set_folder(&here.folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(engine) = engine {
            let engine = engine.clone();
            tasks.spawn(async move { engine.serve(&state).await });
            while !here.folder.join(".ms/engine.sock").exists() {
                tokio::task::yield_now().await;
            }
        }
        let outcome = super::asynchronous(&cli.command, &cli.shared, &here, &mut out).await;
        super::end(outcome, &mut out)
    });
    Did { code, out: stdout.text(), err: stderr.text() }
}

#[test]
fn up_returns_when_everything_is_healthy() {
    let did = ms(Some(&Fake::new(&[])), &["arena", "web"], "ms up -d");
    assert_eq!(did.code, 0, "{}", did.err);
    let lines: Vec<&str> = did.out.lines().collect();
    assert_eq!(lines[0], "✔ arena    1 of 1 healthy        http://127.0.0.1:8080");
    assert_eq!(lines[1], "✔ web      1 of 1 healthy        http://127.0.0.1:8080");
    assert!(lines[2].starts_with("  console  http://127.0.0.1:7700"), "{}", did.out);
    assert!(lines[2].contains("ready in "), "{}", did.out);
    // One line for each transition, with its time.
    let transitions: Vec<&str> =
        did.err.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    for expected in ["web waiting", "web starting, 0 of 1 healthy: not ready yet"] {
        assert!(transitions.contains(&expected), "{transitions:?}");
    }
}

#[test]
fn up_names_what_failed_with_its_last_lines() {
    let did = ms(Some(&Fake::new(&[])), &["bad", "web"], "ms up -d");
    assert_eq!(did.code, 1);
    assert!(!did.out.contains("ready in"), "{}", did.out);
    let error = did.err.split_once("error[not-healthy]").unwrap().1;
    assert!(error.starts_with(": `bad` is not healthy: failed, 0 of 1 healthy\n"), "{error}");
    for part in [
        "  --> compose.yaml:2:",
        "  cause: exited with code 3\n         bad.1 ! last words\n",
        "  next:  ms logs bad   |   ms explain not-healthy\n",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("`web`"), "{error}");
}

#[test]
fn up_that_takes_too_long_ends_with_5() {
    let did = ms(Some(&Fake::new(&[])), &["slow", "web"], "ms up -d --timeout 1ms");
    assert_eq!(did.code, 5);
    assert!(did.err.contains("error[timed-out]: not done after 1 ms"), "{}", did.err);
    assert!(did.err.contains("error[not-healthy]: `slow` is not healthy"), "{}", did.err);
}

#[test]
fn up_of_some_services_asks_for_those() {
    let engine = Fake::new(&[]);
    assert_eq!(ms(Some(&engine), &["web", "slow"], "ms up -d web").code, 0);
    let commands = engine.commands.lock().unwrap();
    let [Asked::Up { services, recreate: false, .. }] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(*services, ["web"]);
    drop(commands);
    assert_eq!(ms(Some(&engine), &["web"], "ms up -d wob").code, 2);
}

#[test]
fn a_dry_run_asks_for_nothing() {
    let engine = Fake::new(&["web", "old"]);
    for (line, expected) in [
        ("ms up --dry-run", "new  would be started: 1 instance\n"),
        ("ms up --dry-run", "old  would be stopped: no longer in the file\n"),
        ("ms down --dry-run", "would be stopped: 1 instance\n"),
        ("ms scale web=3 --dry-run", "web  would be scaled: 1 to 3\n"),
        ("ms rollback web --dry-run", "web  stays: no such release; it would be refused\n"),
        ("ms restart web --dry-run", "web  would be restarted: 1 instance replaced\n"),
        ("ms stop --dry-run", "old  would be stopped: 1 instance\n"),
    ] {
        let did = ms(Some(&engine), &["new", "web"], line);
        assert_eq!(did.code, 0, "{line}: {}", did.err);
        assert!(did.out.contains(expected), "{line}: {}", did.out);
        assert!(did.out.ends_with("nothing was changed\n"), "{line}: {}", did.out);
    }
    assert!(engine.commands.lock().unwrap().is_empty());
}

#[test]
fn exit_codes_say_how_it_went() {
    let running = || Fake::new(&["web"]);
    for (line, expected) in [
        ("ms ps", 0),
        ("ms ps web", 0),
        ("ms ps --releases web", 0),
        ("ms ps wob", 2),
        ("ms logs", 0),
        ("ms logs web.1", 0),
        ("ms logs wob", 2),
        ("ms logs -n 10001", 2),
        ("ms logs --since yesterday", 2),
        ("ms top --once", 0),
        ("ms history", 0),
        ("ms events topics", 1),
        ("ms events consume orders --from yesterday", 2),
        ("ms console", 0),
        ("ms restart", 0),
        ("ms stop web", 0),
        ("ms start", 0),
        ("ms scale web=2", 0),
        ("ms scale web=2 wob=1", 2),
        ("ms rollback web", 0),
        ("ms rollback web --to 1", 0),
        ("ms down", 0),
        ("ms up -d nowhere.yaml", 2),
        ("ms config", 0),
        ("ms check", 0),
        ("ms check --format sarif", 0),
        ("ms explain no-engine", 0),
        ("ms explain nonsense", 2),
        ("ms version", 0),
        ("ms completion bash", 0),
        ("ms __complete", 0),
    ] {
        let did = ms(Some(&running()), &["web"], line);
        assert_eq!(did.code, expected, "{line}: {}{}", did.out, did.err);
        if expected != 0 {
            assert!(did.err.starts_with("error[") && did.err.contains("\n  next:  "), "{line}");
        }
    }
}

#[test]
fn without_an_engine_everything_that_needs_one_ends_with_3() {
    for line in [
        "ms ps",
        "ms top",
        "ms logs",
        "ms history",
        "ms events topics",
        "ms console",
        "ms restart",
        "ms start",
        "ms exec web ls",
    ] {
        let did = ms(None, &["web"], line);
        assert_eq!(did.code, 3, "{line}");
        assert!(did.err.starts_with("error[no-engine]: no engine answers in `"), "{line}");
    }
    // What is down already needs no engine to be told so.
    let did = ms(None, &["web"], "ms down");
    assert_eq!((did.code, did.out.as_str()), (0, "nothing runs\n"));
}

#[test]
fn a_refusal_is_shown_as_it_came() {
    for (code, expected) in
        [("conflict", 1), ("port-taken", 1), ("not-allowed", 4), ("bad-model", 2), ("internal", 1)]
    {
        let engine = Fake::new(&["web"]);
        let refusal = Problem::new(code, "no").with_cause("because").with_next("something else");
        *engine.refuse.lock().unwrap() = Some(refusal.clone());
        for line in ["ms restart web", "ms up -d", "ms scale web=2"] {
            let did = ms(Some(&engine), &["web"], line);
            assert_eq!(did.code, expected, "{line} {code}");
            assert_eq!(did.err, format!("error{refusal}\n"), "{line} {code}");
        }
    }
}

#[test]
fn json_is_one_object_with_its_schema_and_nothing_else() {
    for (line, schema) in [
        ("ms ps --json", "ms.ps/1"),
        ("ms ps --releases --json", "ms.releases/1"),
        ("ms top --json", "ms.top/1"),
        ("ms why web --json", "ms.why/1"),
        ("ms logs --json", "ms.log/1"),
        ("ms up -d --json", "ms.up/1"),
        ("ms up --dry-run --json", "ms.up-plan/1"),
        ("ms restart --json", "ms.restart/1"),
        ("ms stop --json", "ms.stop/1"),
        ("ms start --json", "ms.start/1"),
        ("ms scale web=2 --json", "ms.scale/1"),
        ("ms rollback web --json", "ms.rollback/1"),
        ("ms down --json", "ms.down/1"),
        ("ms config --json", "ms.config/1"),
        ("ms config --services --json", "ms.services/1"),
        ("ms check --json", "ms.check/1"),
        ("ms console --json", "ms.console/1"),
        ("ms version --json", "ms.version/1"),
        ("ms completion bash --json", "ms.completion/1"),
        ("ms explain no-engine --json", "ms.explain/1"),
    ] {
        let did = ms(Some(&Fake::new(&["web"])), &["web"], line);
        assert_eq!(did.code, 0, "{line}: {}", did.err);
        let value: serde_json::Value = serde_json::from_str(did.out.trim_end()).expect(line);
        assert_eq!(value["schema"], schema, "{line}");
        assert!(did.out.starts_with("{\"schema\":"), "{line}");
    }
    let did = ms(None, &["web"], "ms ps --json");
    let problem: serde_json::Value = serde_json::from_str(&did.err).unwrap();
    assert_eq!(problem["schema"], "ms.problem/1");
    assert_eq!((&problem["level"], &problem["code"]), (&"error".into(), &"no-engine".into()));
}

#[test]
fn why_names_what_it_depends_on_and_what_happened() {
    let did = ms(Some(&Fake::new(&["web"])), &["web"], "ms why web");
    assert_eq!(did.code, 0, "{}", did.err);
    for said in [
        "web is 1 of 1 healthy\n",
        "it depends on\n  db failed: exited\n",
        "web.1 healthy, release 1\n",
        "  1970-01-01T00:00:11.000Z info  web service-waiting: web waits for db to be healthy\n",
    ] {
        assert!(did.out.contains(said), "{said:?} in {}", did.out);
    }
    let did = ms(Some(&Fake::new(&["web"])), &["web"], "ms why wbe");
    assert_eq!(did.code, 2);
    assert!(did.err.contains("web"), "{}", did.err);
}

#[test]
fn quiet_says_only_what_is_wrong() {
    let did = ms(Some(&Fake::new(&[])), &["web"], "ms up -d -q");
    assert_eq!((did.code, did.out.as_str(), did.err.as_str()), (0, "", ""));
    let did = ms(Some(&Fake::new(&[])), &["bad"], "ms up -d -q");
    assert_eq!((did.code, did.out.as_str()), (1, ""));
    assert!(did.err.starts_with("error[not-healthy]"), "{}", did.err);
}

#[test]
fn the_foreground_shows_logs_and_ends_with_its_last_service() {
    for (line, said) in [("ms up", "✔ job      completed"), ("ms up --json", "\"ready\":true")] {
        let engine = Fake::new(&[]);
        let did = ms(Some(&engine), &["job"], line);
        assert_eq!(did.code, 0, "{}", did.err);
        assert!(did.out.contains(said), "{}", did.out);
        assert!(did.out.contains("last words"), "{}", did.out);
        let commands = engine.commands.lock().unwrap();
        let [Asked::Up { .. }, Asked::Shutdown { keep_services: false }] = commands.as_slice()
        else {
            panic!("{commands:?}")
        };
    }
}

#[test]
fn flags_that_come_too_late_are_said_to() {
    for (flags, late) in [
        ("--console 127.0.0.1:7700 --addresses 127.64.0.0/16", 0),
        ("--console 7700", 0),
        ("--console 127.0.0.1:0", 0),
        ("--console 127.0.0.1:7701", 1),
        ("--console off --addresses 127.65.0.0/16", 2),
    ] {
        let did = ms(Some(&Fake::new(&[])), &["web"], &format!("ms up -d -q {flags}"));
        assert_eq!(did.code, 0, "{flags}: {}", did.err);
        assert_eq!(did.err.matches("warning[kept]").count(), late, "{flags}: {}", did.err);
    }
}

#[test]
fn following_ends_when_the_engine_does() {
    let engine = Fake::new(&["web"]);
    let did = ms(Some(&engine), &["web"], "ms up -d");
    assert_eq!(did.code, 0);
    let did = ms(Some(&engine), &["web"], "ms down");
    assert_eq!(did.code, 0, "{}", did.err);
    assert!(did.out.starts_with("stopped 1 service in "), "{}", did.out);
}

/// Every file that fuzzing begins with, and what it found on this machine, if it ran.
fn fuzzed_files() -> Vec<std::path::PathBuf> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = root.join("target/fuzz/corpus/compose");
    let seeds = std::fs::read_dir(root.join("fuzz/seeds")).unwrap().map(|e| e.unwrap().path());
    let folders = seeds.chain([found]);
    folders.filter_map(|f| std::fs::read_dir(f).ok()).flatten().map(|e| e.unwrap().path()).collect()
}

#[test]
fn check_has_an_answer_to_every_file_of_a_fuzzers_corpus() {
    let files = fuzzed_files();
    assert!(files.len() > 100, "{files:?}");
    for file in files {
        let path = file.canonicalize().unwrap();
        let line = format!("ms check {}", path.display());
        // A panic is a failure of this test; all else is one of these.
        let did = ms(None, &[], &line);
        assert!([0, 1, 2].contains(&did.code), "{line}: {}", did.code);
        let said = did.err.contains("error[") || did.out.contains("error[");
        assert_eq!(did.code != 0, said, "{line}: {}{}", did.out, did.err);
    }
}
