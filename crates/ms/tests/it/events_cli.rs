//! `ms events`: an event log as a person sees it from the command line, and its metrics.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use super::harness::{Project, root, texts, until};

const COMPOSE: &str = "services:
  kafka:
    image: apache/kafka:4.1.0
";

fn log() -> Project {
    let project = Project::new(COMPOSE);
    project.ok(&["up", "-d"]);
    project
}

/// What `ms` says when it is given this to read.
fn fed(project: &Project, args: &[&str], input: &str) -> Output {
    let mut command = project.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn produce(project: &Project, args: &[&str], input: &str) {
    let out = fed(project, &[&["events", "produce"], args].concat(), input);
    assert!(out.status.success(), "{:?}", texts(&out));
}

/// The exit code and the problem of a command that is refused.
fn refused(project: &Project, args: &[&str]) -> (Option<i32>, String) {
    let out = project.ms(args);
    let (stdout, stderr) = texts(&out);
    assert!(stdout.is_empty(), "{args:?}: {stdout}");
    (out.status.code(), stderr)
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

/// The first line that begins so, as JSON.
fn json(text: &str) -> Value {
    serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_default()
}

#[test]
fn topics_and_messages_are_made_shown_and_deleted() {
    let project = log();
    let (_, said) = texts(&project.ms(&["events", "topics"]));
    assert!(said.contains("no topics"), "{said}");
    project.ok(&["events", "create", "orders", "-P", "3", "--set", "retention.ms=86400000"]);
    let (code, said) = refused(&project, &["events", "create", "orders"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`orders`") && said.contains("already exists"), "{said}");

    produce(
        &project,
        &["orders", "-P", "1", "--key", "ada", "-H", "kind=test"],
        "one\ntwo\nthree\n",
    );
    produce(&project, &["orders", "-P", "2"], "{\"a\": 1}\n");
    let text = project.ok(&["events", "topics"]);
    assert_eq!(rows(&text)[0][..3], ["orders", "3", "4"], "{text}");
    let text = project.ok(&["events", "describe", "orders"]);
    assert_eq!(rows(&text)[1][..4], ["1", "0", "3", "3"], "{text}");
    assert!(text.contains("\nretention.ms=86400000\n") && !text.contains("cleanup"), "{text}");
    assert!(project.ok(&["events", "describe", "orders", "--all"]).contains("cleanup.policy="));

    let consume = |more: &[&str]| project.ok(&[&["events", "consume", "orders"], more].concat());
    assert_eq!(consume(&["--values", "-P", "1"]), "one\ntwo\nthree\n");
    assert_eq!(consume(&["--values", "-P", "1", "-n", "2"]), "two\nthree\n", "the newest");
    assert_eq!(consume(&["--values", "-P", "1", "--from", "1", "-n", "1"]), "two\n");
    assert_eq!(consume(&["--values", "--from", "beginning"]).lines().count(), 4);
    assert_eq!(consume(&["--values", "--from", "1h"]).lines().count(), 4);
    assert_eq!(consume(&["--values", "--from", "end"]), "");
    let line = consume(&["-P", "1", "-n", "1"]);
    assert!(line.ends_with(" 1:2 ada {kind=test} three\n"), "{line}");
    let message = json(&consume(&["--json", "-P", "2"]));
    assert_eq!(message["schema"], "ms.message/1");
    assert_eq!(message["value"]["form"], "json");
    assert_eq!((&message["partition"], &message["offset"]), (&2.into(), &0.into()));

    let (code, said) = refused(&project, &["events", "consume", "nothing"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("not-found") && said.contains("ms events topics"), "{said}");
    let (code, said) = refused(&project, &["events", "consume", "orders", "-P", "9"]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = refused(&project, &["events", "consume", "orders", "--from", "noonish"]);
    assert_eq!(code, Some(2), "{said}");
    let out = fed(&project, &["events", "produce", "nothing"], "x\n");
    assert_eq!(out.status.code(), Some(1), "{:?}", texts(&out));
    project.ok(&["events", "delete", "orders"]);
    assert_eq!(project.ok(&["events", "topics"]), "");
}

#[test]
fn groups_are_shown_with_what_they_have_not_read_and_moved() {
    let project = log();
    project.ok(&["events", "create", "orders", "-P", "2"]);
    produce(&project, &["orders", "-P", "0"], "one\ntwo\nthree\n");
    let (_, said) = texts(&project.ms(&["events", "groups"]));
    assert!(said.contains("no groups"), "{said}");
    let (code, said) = refused(&project, &["events", "lag", "billing"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("ms events groups"), "{said}");

    let reset =
        |to: &str| project.ok(&["events", "reset", "billing", "--topic", "orders", "--to", to]);
    assert_eq!(rows(&reset("beginning")), [["0", "-", "0"], ["1", "-", "0"]]);
    assert_eq!(
        rows(&project.ok(&["events", "lag", "billing"]))[0][..5],
        ["orders", "0", "0", "3", "3"]
    );
    assert_eq!(rows(&reset("2"))[0], ["0", "0", "2"]);
    let groups = project.ok(&["events", "groups"]);
    assert_eq!(rows(&groups), [["billing", "Empty", "classic", "0", "1", "orders"]], "{groups}");
    let group = project.ok(&["events", "group", "billing"]);
    assert!(group.starts_with("billing: Empty, classic; 0 members, lag 1\n"), "{group}");
    let group = json(&project.ok(&["events", "group", "billing", "--json"]));
    assert_eq!((&group["schema"], &group["lag"]), (&"ms.group/1".into(), &1.into()));

    // The engine looks now and then.
    until("what went through and what was not read are metrics", || {
        let metrics = String::from_utf8(project.command(&["console"]).output().unwrap().stdout);
        let url = metrics.unwrap();
        let port = url.trim().rsplit(':').next().unwrap().parse().unwrap();
        let (_, text) = super::harness::get(port, "/metrics");
        let has = |line: &str| text.lines().any(|l| l == line);
        let all = has("ms_events_messages_in_total{service=\"kafka\",topic=\"orders\"} 3")
            && has("ms_events_group_lag{service=\"kafka\",group=\"billing\"} 1")
            && text.contains("ms_events_flush_microseconds_total{service=\"kafka\"} ");
        (all, text.lines().filter(|l| l.contains("ms_events")).collect::<Vec<_>>().join("\n"))
    });
}

/// A command that runs until it is dropped.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn whoever_follows_sees_what_comes_also_when_the_log_is_replaced() {
    let project = log();
    project.ok(&["events", "create", "orders"]);
    produce(&project, &["orders"], "before\n");
    let mut command =
        project.command(&["events", "consume", "orders", "-f", "--from", "0", "--values"]);
    let mut following = Following(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    produce(&project, &["orders"], "during\n");
    assert_eq!(lines.next().unwrap().unwrap(), "during");
    project.ok(&["restart", "kafka"]);
    until("the log takes messages again", || {
        let out = fed(&project, &["events", "produce", "orders"], "after\n");
        (out.status.success(), texts(&out))
    });
    assert_eq!(lines.next().unwrap().unwrap(), "after");
}

#[test]
fn which_log_is_meant_is_asked_when_there_is_none_or_several() {
    let project = Project::new(
        "services:
  web:
    image: example/web
    x-mainspring: {native: true}
    command: python3 echo.py
  kafka: {image: 'apache/kafka:4.1.0'}
  other: {image: 'apache/kafka:4.1.0'}
",
    );
    project.ok(&["up", "-d"]);
    let (code, said) = refused(&project, &["events", "topics"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("several-event-logs") && said.contains("--service kafka"), "{said}");
    project.ok(&["events", "--service", "other", "create", "orders"]);
    assert!(project.ok(&["events", "topics", "--service", "other"]).contains("orders"));
    assert_eq!(project.ok(&["events", "topics", "--service", "kafka"]), "");
    let (_, said) = refused(&project, &["events", "topics", "--service", "web"]);
    assert!(said.contains("no-event-log") && said.contains("kafka, other"), "{said}");
    let (_, said) = refused(&project, &["events", "topics", "--service", "wob"]);
    assert!(said.contains("service-unknown"), "{said}");
    project.ok(&["stop", "other"]);
    let (code, said) = refused(&project, &["events", "topics", "--service", "other"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("event-log-unreachable") && said.contains("ms why other"), "{said}");
}

#[test]
fn an_ordinary_user_sees_the_log_too() {
    if !root() {
        return;
    }
    let project = Project::as_user(COMPOSE, 65534);
    project.ok(&["up", "-d"]);
    project.ok(&["events", "create", "orders"]);
    produce(&project, &["orders"], "one\n");
    assert_eq!(project.ok(&["events", "consume", "orders", "--values"]), "one\n");
}
