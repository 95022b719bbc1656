//! Tests that the OpenAPI document and the code say the same, both ways.
//!
//! One sample of everything that travels is checked against its schema: a field that the schema
//! does not have fails, and so does a property that no sample has.

use std::collections::BTreeSet;

use base::{InstanceId, Place, Problem, ServiceName, UnixNanos};
use serde::Serialize;
use serde_json::{Value, json};

use crate::event_log::*;
use crate::routes;
use crate::wire::*;

fn document() -> Value {
    serde_json::from_str(routes::OPENAPI).expect("the document is JSON")
}

#[test]
fn every_route_is_in_the_document_and_no_other() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let written: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let served: BTreeSet<(String, String)> =
        routes::listed().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(written, served);
}

#[test]
fn every_type_is_in_the_document_and_no_other() {
    let document = document();
    let mut seen = BTreeSet::new();
    let mut check = |name: &str, sample: Value| {
        let at = format!("#/components/schemas/{name}");
        if let Err(why) = fits(&document, &at, &sample, &mut seen) {
            panic!("{name}: {why}\n{sample:#}");
        }
    };
    check("Overview", value(&overview()));
    check("ServiceDetail", value(&detail()));
    let cause = Cause { service: web(), health: Health::Failed, why: "it is gone".to_owned() };
    let why = Why { service: service(), causes: vec![cause], history: vec![event()] };
    check("Why", value(&why));
    check("Problem", value(&problem()));
    check("Chart", value(&chart()));
    check("LogPage", value(&LogPage { lines: vec![line()], more: true }));
    let warnings = vec![problem()];
    check("BuildLine", value(&build_line()));
    check("Accepted", value(&accepted(warnings)));
    for command in commands() {
        check("Command", value(&command));
    }
    for (name, answer) in log_answers() {
        check(name, value(&answer));
    }
    for change in log_changes() {
        check("EventLogChange", value(&change));
    }
    for body in bodies() {
        check("LiveMessage", value(&LiveMessage { topic: "events".to_owned(), body }));
    }
    for health in healths() {
        check("Health", value(&health));
    }
    let listed = document.pointer("/components/schemas/Health/enum").unwrap();
    assert_eq!(listed.as_array().unwrap().len(), healths().len());

    let mut written = BTreeSet::new();
    let schemas = document.pointer("/components/schemas").unwrap();
    properties(schemas, "#/components/schemas", &mut written);
    let unused: Vec<_> = written.difference(&seen).collect();
    assert!(unused.is_empty(), "in the document and in no type: {unused:#?}");
}

#[test]
fn the_check_notices_what_it_is_for() {
    let document = document();
    let fits = |name: &str, sample: Value| {
        fits(&document, &format!("#/components/schemas/{name}"), &sample, &mut BTreeSet::new())
    };
    let good = json!({"port": 80, "protocol": "http"});
    assert_eq!(fits("PortView", good), Ok(()));
    for bad in [
        json!({"port": 80, "protocol": "http", "more": 1}),
        json!({"port": 80}),
        json!({"port": "80", "protocol": "http"}),
        json!({"port": 80, "protocol": null}),
    ] {
        assert!(fits("PortView", bad.clone()).is_err(), "{bad}");
    }
    assert!(fits("Health", json!("splendid")).is_err());
    assert!(fits("Command", json!({"command": "dance"})).is_err());
}

/// Checks `sample` against the schema at `pointer`, noting the properties that it has.
fn fits(
    document: &Value,
    pointer: &str,
    sample: &Value,
    seen: &mut BTreeSet<String>,
) -> Result<(), String> {
    let schema = document.pointer(&pointer[1..]).ok_or_else(|| format!("no {pointer}"))?;
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(document, reference, sample, seen);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[key].as_array() {
            let mut whys = Vec::new();
            for at in 0..choices.len() {
                let mut noted = seen.clone();
                match fits(document, &format!("{pointer}/{key}/{at}"), sample, &mut noted) {
                    Ok(()) => {
                        *seen = noted;
                        return Ok(());
                    }
                    Err(why) => whys.push(why),
                }
            }
            return Err(whys.join("; "));
        }
    }
    if !schema["const"].is_null() && schema["const"] != *sample {
        return Err(format!("{pointer}: {sample} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(sample)) {
        return Err(format!("{pointer}: {sample} is not listed"));
    }
    let typed = |kind: &str| match kind {
        "object" => sample.is_object(),
        "array" => sample.is_array(),
        "string" => sample.is_string(),
        "boolean" => sample.is_boolean(),
        "integer" => sample.is_u64(),
        "number" => sample.is_number(),
        _ => sample.is_null(),
    };
    let good = match &schema["type"] {
        Value::String(kind) => typed(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(typed),
        _ => true,
    };
    if !good {
        return Err(format!("{pointer}: {sample} is not {}", schema["type"]));
    }
    for (index, item) in sample.as_array().into_iter().flatten().enumerate() {
        if schema.get("items").is_some() {
            let inner = fits(document, &format!("{pointer}/items"), item, seen);
            inner.map_err(|why| format!("[{index}] {why}"))?;
        }
    }
    let (Some(fields), Some(allowed)) = (sample.as_object(), schema["properties"].as_object())
    else {
        return Ok(());
    };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            return Err(format!("{pointer}: `{required}` is missing"));
        }
    }
    for (name, field) in fields {
        if !allowed.contains_key(name) {
            return Err(format!("{pointer}: `{name}` is not in the document"));
        }
        let at = format!("{pointer}/properties/{name}");
        fits(document, &at, field, seen)?;
        seen.insert(at);
    }
    Ok(())
}

/// The pointers of every property below `pointer`.
fn properties(schema: &Value, pointer: &str, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (name, field) in fields {
                let at = format!("{pointer}/{name}");
                if pointer.ends_with("/properties") {
                    found.insert(at.clone());
                }
                properties(field, &at, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                properties(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn value(sample: &impl Serialize) -> Value {
    serde_json::to_value(sample).unwrap()
}

fn web() -> ServiceName {
    "web".parse().unwrap()
}

fn traffic() -> Traffic {
    Traffic { success: Some(1.0), p50_ms: Some(1.0), p99_ms: None, ..Traffic::default() }
}

fn status() -> Status {
    Status {
        version: "1".to_owned(),
        pid: 1,
        app: Some("shop".to_owned()),
        files: vec!["compose.yaml".to_owned()],
        state_dir: ".ms".to_owned(),
        console: None,
        addresses: "127.64.0.0/16".to_owned(),
        isolation: Isolation { mode: "full".to_owned(), missing: vec!["BPF".to_owned()] },
        started_at: UnixNanos(1),
        ending: false,
        problems: vec![problem()],
        memory_bytes: 1,
        cpu_micros: 1,
        revision: 1,
    }
}

fn service() -> ServiceView {
    ServiceView {
        name: web(),
        health: Health::Healthy,
        why: String::new(),
        source: "build .".to_owned(),
        address: "127.64.0.2".to_owned(),
        ports: vec![PortView { port: 80, protocol: "http".to_owned() }],
        published: vec!["http://127.0.0.1:80".to_owned()],
        release: Some(1),
        next_release: None,
        stands_in_for: None,
        failed_release: None,
        desired: 1,
        unplaced: 0,
        healthy: 1,
        instances: vec![instance()],
        warnings: vec!["its limit `nofile` is 1024 instead of 4096".to_owned()],
        traffic: traffic(),
        cpu_cores: 0.5,
        memory_bytes: 1,
        restarts: 0,
        since: UnixNanos(1),
    }
}

fn instance() -> InstanceView {
    InstanceView {
        id: InstanceId::new(web(), 1),
        state: "healthy".to_owned(),
        why: String::new(),
        release: 1,
        pid: Some(1),
        address: "127.64.1.2".to_owned(),
        restarts: 0,
        started_at: None,
        cpu_cores: 0.5,
        memory_bytes: 1,
        inflight: 0,
        traffic: traffic(),
    }
}

fn overview() -> Overview {
    let calls = vec![
        CallView { caller: None, service: web(), traffic: traffic() },
        CallView { caller: Some(web()), service: web(), traffic: traffic() },
    ];
    Overview { status: status(), services: vec![service()], calls }
}

fn detail() -> ServiceDetail {
    let release = ReleaseView {
        number: 1,
        state: "serving".to_owned(),
        created_at: UnixNanos(1),
        source: "build .".to_owned(),
        change: "first".to_owned(),
    };
    ServiceDetail {
        service: service(),
        releases: vec![release],
        events: vec![event()],
        definition: json!({"command": ["run"]}),
        skipped_steps: vec!["RUN make".to_owned()],
    }
}

fn event() -> EventView {
    EventView {
        seq: 1,
        at: UnixNanos(1),
        level: "info".to_owned(),
        service: Some(web()),
        instance: Some(InstanceId::new(web(), 1)),
        kind: "instance-healthy".to_owned(),
        message: "web.1 is healthy".to_owned(),
    }
}

fn build_line() -> BuildLine {
    let (kind, text) = ("step".to_owned(), "[1/2] RUN make".to_owned());
    BuildLine { seq: 1, service: web(), kind, text }
}

fn line() -> LogLine {
    let instance = InstanceId::new(web(), 1);
    LogLine { at: UnixNanos(1), instance, stream: "stdout".to_owned(), text: "hello".to_owned() }
}

fn chart() -> Chart {
    let line = ChartLine { name: "requests".to_owned(), values: vec![Some(1.0), None] };
    Chart { start: UnixNanos(1), step_seconds: 1, lines: vec![line] }
}

fn problem() -> Problem {
    Problem::new("port-taken", "port 80 is taken")
        .with_place(Place { file: "compose.yaml".into(), line: 1, column: 1 })
        .with_cause("nginx has it")
        .with_next("take another")
}

fn accepted(warnings: Vec<Problem>) -> Accepted {
    let pruned = Some(crate::wire::Pruned { count: 1, bytes: 1 });
    Accepted { revision: 1, changed: vec![web()], warnings, pruned }
}

fn commands() -> Vec<Command> {
    let services = vec!["web".to_owned()];
    let all = vec![
        Command::Up { app: json!({}), services: services.clone(), recreate: false },
        Command::Build { app: json!({}), services: services.clone(), no_cache: true },
        Command::Prune { unused_for_seconds: Some(60), keep_bytes: None },
        Command::Prune { unused_for_seconds: None, keep_bytes: Some(1) },
        Command::Down { volumes: false, exit: true },
        Command::Stop { services: services.clone() },
        Command::Start { services: services.clone() },
        Command::Restart { services },
        Command::Scale { service: web(), replicas: 3 },
        Command::Rollback { service: web(), release: Some(1) },
        Command::Rollback { service: web(), release: None },
        Command::Shutdown { keep_services: true },
    ];
    for command in &all {
        // A new command does not compile until it is here, and then belongs above.
        match command {
            Command::Up { .. }
            | Command::Build { .. }
            | Command::Prune { .. }
            | Command::Down { .. }
            | Command::Stop { .. }
            | Command::Start { .. }
            | Command::Restart { .. }
            | Command::Scale { .. }
            | Command::Rollback { .. }
            | Command::Shutdown { .. } => {}
        }
    }
    all
}

fn log_answers() -> Vec<(&'static str, Answer)> {
    let topic = TopicView {
        name: "orders".to_owned(),
        internal: false,
        partitions: 1,
        messages: 3,
        bytes: Some(1),
        messages_in_per_second: Some(0.5),
        bytes_in_per_second: None,
        bytes_out_per_second: None,
    };
    let partitions = vec![PartitionView { partition: 0, start: 0, end: 3, bytes: None }];
    let (name, data) = ("kind".to_owned(), Some(Data::of(b"test", None)));
    let settings = vec![SettingView { name: name.clone(), value: None, is_default: true }];
    let message = MessageView {
        partition: 0,
        offset: 1,
        at: UnixNanos(1),
        key: None,
        value: data.clone(),
        headers: vec![HeaderView { name: name.clone(), value: data }],
    };
    let page = MessagePage { messages: vec![message], next: "0:2".to_owned(), more: true };
    let member = MemberView {
        id: "worker-1".to_owned(),
        instance: None,
        client: "worker".to_owned(),
        host: "127.64.1.2".to_owned(),
        partitions: 1,
    };
    let lag = LagView {
        topic: topic.name.clone(),
        partition: 0,
        committed: Some(1),
        end: Some(3),
        lag: Some(2),
        member: Some(member.id.clone()),
    };
    let group = GroupView {
        name,
        kind: "classic".to_owned(),
        state: "Stable".to_owned(),
        assignor: "range".to_owned(),
        members: vec![member],
        partitions: vec![lag],
        lag: Some(2),
    };
    let moved = MovedView { partition: 0, before: None, after: 3 };
    vec![
        ("TopicDetail", Answer::Topic(TopicDetail { topic, partitions, settings })),
        ("MessagePage", Answer::Messages(page)),
        ("GroupView", Answer::Group(group)),
        ("EventLogChanged", Answer::Changed(Changed { offsets: vec![moved] })),
    ]
}

fn log_changes() -> Vec<Change> {
    let (topic, group) = ("orders".to_owned(), "billing".to_owned());
    let settings = [("retention.ms".to_owned(), "1000".to_owned())].into();
    let message = NewMessage {
        key: Some("k".to_owned()),
        value: None,
        headers: vec![("kind".to_owned(), "test".to_owned())],
    };
    let all = vec![
        Change::CreateTopic { topic: topic.clone(), partitions: Some(3), settings },
        Change::DeleteTopic { topic: topic.clone() },
        Change::Produce { topic: topic.clone(), partition: None, messages: vec![message] },
        Change::ResetGroup { group, topic, partition: Some(0), to: "end".to_owned() },
    ];
    for change in &all {
        // A new change does not compile until it is here, and then belongs above.
        match change {
            Change::CreateTopic { .. }
            | Change::DeleteTopic { .. }
            | Change::Produce { .. }
            | Change::ResetGroup { .. } => {}
        }
    }
    all
}

fn bodies() -> Vec<LiveBody> {
    vec![
        LiveBody::Overview(Box::new(overview())),
        LiveBody::Service(Some(Box::new(detail()))),
        LiveBody::Service(None),
        LiveBody::Events(LiveEvents { fresh: true, events: vec![event()] }),
        LiveBody::Logs(LiveLogs { fresh: true, lines: vec![line()], skipped: 1 }),
    ]
}

fn healths() -> [Health; 8] {
    [
        Health::Waiting,
        Health::Starting,
        Health::Healthy,
        Health::Updating,
        Health::Degraded,
        Health::Failed,
        Health::Completed,
        Health::Stopped,
    ]
}
