//! A part that stands in for an image: a file that was written for Kafka, and a client that knows
//! nothing but Kafka, inside and outside of the app.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Project, free_port, root, texts, until};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// As people write it: a log with its ZooKeeper, a service that produces, one that consumes.
fn written_for_kafka(port: u16) -> String {
    format!(
        "services:
  zookeeper:
    image: confluentinc/cp-zookeeper:7.6.0
    environment: {{ZOOKEEPER_CLIENT_PORT: 2181}}
  kafka:
    image: confluentinc/cp-kafka:7.6.0
    depends_on: [zookeeper]
    ports: ['127.0.0.1:{port}:{port}']
    environment:
      KAFKA_BROKER_ID: 1
      KAFKA_ZOOKEEPER_CONNECT: zookeeper:2181
      KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://kafka:29092,PLAINTEXT_HOST://localhost:{port}
      KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT
      KAFKA_NUM_PARTITIONS: 3
      KAFKA_LOG_CLEANER_THREADS: 2
  maker:
    image: example/maker
    x-mainspring: {{native: true}}
    depends_on: {{kafka: {{condition: service_healthy}}}}
    command: sh -c 'seq 100 | kcat -P -b kafka:29092 -t numbers && echo made && exec sleep 1000'
  taker:
    image: example/taker
    x-mainspring: {{native: true}}
    depends_on: {{kafka: {{condition: service_healthy}}}}
    restart: on-failure
    command: kcat -b kafka:29092 -u -q -G takers -X auto.offset.reset=earliest numbers
"
    )
}

/// What kcat prints when it is given this to send, as a client of the host.
fn kcat(port: u16, args: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", &format!("localhost:{port}"), "-q"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&out);
    assert!(out.status.success(), "kcat {args:?}: {stdout}\n{stderr}");
    stdout
}

/// Every line of a topic, sorted as numbers.
fn lines(port: u16, topic: &str) -> Vec<u32> {
    let text = kcat(port, &["-C", "-t", topic, "-o", "beginning", "-e"], "");
    let mut lines: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    lines
}

fn does_its_job(project: &Project, port: u16) {
    let out = project.ms(&["up", "-d"]);
    let (stdout, stderr) = texts(&out);
    assert!(out.status.success(), "{stdout}\n{stderr}\n{}", project.engine_log());
    assert!(stderr.contains("not-needed") && stderr.contains("zookeeper"), "{stderr}");
    assert!(stderr.contains("part-setting") && stderr.contains("KAFKA_LOG_CLEANER"), "{stderr}");

    until("what one service made is taken by another", || {
        let log = project.ok(&["logs", "taker"]);
        let taken = log.lines().filter(|line| line.starts_with("taker.1 | ")).count();
        (taken == 100, log)
    });
    let all: Vec<u32> = (1..=100).collect();
    assert_eq!(lines(port, "numbers"), all, "the host reads what the services wrote");
    let about = kcat(port, &["-L", "-t", "numbers"], "");
    assert!(about.contains("\"numbers\" with 3 partitions"), "{about}");

    kcat(port, &["-P", "-t", "numbers"], "101\n102\n");
    let [pid] = project.pids("kafka")[..] else { panic!("one instance") };
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    until("the log is back", || {
        let pids = project.pids("kafka");
        let health = project.api("/api/services/kafka")["service"]["health"].clone();
        (pids.len() == 1 && pids != [pid] && health == "healthy", (pids, health))
    });
    assert_eq!(lines(port, "numbers"), (1..=102).collect::<Vec<_>>(), "nothing confirmed is lost");

    project.ok(&["down"]);
    project.ok(&["up", "-d"]);
    let found = until("the maker made again what it makes", || {
        let found = lines(port, "numbers");
        (found.len() == 202, found)
    });
    assert_eq!(found[200..], [101, 102], "and what was there stayed: {found:?}");
}

#[test]
fn a_file_written_for_kafka_runs_on_the_log() {
    let port = free_port();
    does_its_job(&Project::new(&written_for_kafka(port)), port);
}

#[test]
fn who_has_to_log_in_does_and_others_stay_out() {
    if !root() {
        eprintln!("not run: several ways in need an address of their own");
        return;
    }
    let port = free_port();
    let project = Project::new(&format!(
        "services:
  kafka:
    image: apache/kafka:4.2.0
    ports: ['127.0.0.1:{port}:9094']
    environment:
      KAFKA_LISTENERS: INTERNAL://:9092,EXTERNAL://:9094,TLS://:9095
      KAFKA_ADVERTISED_LISTENERS: INTERNAL://kafka:9092,EXTERNAL://localhost:{port},TLS://localhost:9095
      KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: INTERNAL:PLAINTEXT,EXTERNAL:SASL_PLAINTEXT,TLS:SSL
      KAFKA_LISTENER_NAME_EXTERNAL_PLAIN_SASL_JAAS_CONFIG: |
        org.apache.kafka.common.security.plain.PlainLoginModule required
        user_al=\"a secret\";
"
    ));
    let out = project.ms(&["up", "-d"]);
    let (_, said) = texts(&out);
    assert!(out.status.success(), "{said}\n{}", project.engine_log());
    assert!(said.contains("part-listener") && said.contains("TLS would need"), "{said}");
    let login = |password: &str| {
        let words =
            ["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=al"];
        let own = format!("sasl.password={password}");
        let broker = format!("localhost:{port}");
        let mut kcat = Command::new("kcat");
        kcat.args(["-b", &broker, "-q", "-m", "20", "-L"]);
        words.into_iter().chain([own.as_str()]).for_each(|word| {
            kcat.args(["-X", word]);
        });
        let out = kcat.stdin(Stdio::null()).output().unwrap();
        (out.status.success(), texts(&out))
    };
    let (done, said) = login("a secret");
    assert!(done && said.0.contains("1 brokers"), "{said:?}");
    let (done, said) = login("a guess");
    assert!(!done, "{said:?}");
    // The console and the command line come in by the way that is open inside.
    project.ok(&["events", "create", "numbers"]);
    assert!(project.ok(&["events", "topics"]).contains("numbers"));
    let shown = project.api("/api/services/kafka").to_string();
    assert!(!shown.contains("a secret"), "{shown}");
    let [pid] = project.pids("kafka")[..] else { panic!("one instance") };
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!words.contains("a secret") && words.contains("--login"), "{words:?}");
}

#[test]
fn an_ordinary_user_has_it_too() {
    if !root() {
        return;
    }
    let port = free_port();
    does_its_job(&Project::as_user(&written_for_kafka(port), NOBODY), port);
}
