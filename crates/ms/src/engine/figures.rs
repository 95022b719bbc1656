//! What the last ten seconds looked like, per service, instance and call; and charts.
//!
//! Not here: measuring. The edge counts, `telemetry` remembers; this asks and names the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{Clock, Problem, UnixNanos};
use console::wire::{Chart, ChartLine, ChartQuery, Traffic};
use edge::metrics as families;
use telemetry::History;
use telemetry::history::{Query, Show, WindowQuery, WindowRow};
use telemetry::process::{INSTANCE_CPU, INSTANCE_MEMORY};

/// Seconds that "now" covers on every page.
const WINDOW_SECONDS: u32 = 10;
/// The class of status that counts as failed.
const FAILURE: &str = "5xx";
/// Most points that a chart is asked for.
const CHART_POINTS_MAX: u32 = 900;

/// Traffic by what it is about: `[service]`, `[instance]` or `[caller, service]`.
pub(super) type ByGroup = BTreeMap<Vec<String>, Traffic>;

/// The last ten seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Moment of the newest sample that is in here, to the second.
    pub(super) second: u64,
    /// Key: service.
    pub(super) services: ByGroup,
    /// Key: instance.
    pub(super) instances: ByGroup,
    /// Key: caller (empty for outside) and service.
    pub(super) calls: ByGroup,
    /// Key: instance. Cores.
    pub(super) cpu_cores: BTreeMap<String, f64>,
}

impl Figures {
    /// Asks the history.
    pub(super) fn read(history: &History, now: UnixNanos) -> Figures {
        let cpu = window(history, INSTANCE_CPU.name, &["instance"], &[]);
        Figures {
            second: now.secs(),
            services: traffic(history, &["service"]),
            instances: traffic(history, &["instance"]),
            calls: traffic(history, &["caller", "service"]),
            cpu_cores: cpu
                .into_iter()
                .map(|row| (row.group.concat(), row.per_second / 1e6))
                .collect(),
        }
    }
}

fn window(history: &History, family: &str, by: &[&str], quantiles: &[f64]) -> Vec<WindowRow> {
    history.window(&WindowQuery {
        family: family.to_owned(),
        labels: Vec::new(),
        group_by: by.iter().map(|&label| label.to_owned()).collect(),
        seconds: WINDOW_SECONDS,
        quantiles: quantiles.to_vec(),
    })
}

fn traffic(history: &History, by: &[&str]) -> ByGroup {
    let mut all = ByGroup::new();
    let with_class: Vec<&str> = by.iter().copied().chain(["code_class"]).collect();
    let mut failed: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for mut row in window(history, families::REQUESTS.name, &with_class, &[]) {
        let class = row.group.pop().unwrap_or_default();
        if class == FAILURE {
            *failed.entry(row.group.clone()).or_default() += row.per_second;
        }
        all.entry(row.group).or_default().requests_per_second += row.per_second;
    }
    for row in window(history, families::SESSIONS.name, by, &[]) {
        all.entry(row.group).or_default().requests_per_second += row.per_second;
    }
    for (group, entry) in &mut all {
        if entry.requests_per_second > 0.0 {
            let failed = failed.get(group).copied().unwrap_or_default();
            entry.success = Some(1.0 - failed / entry.requests_per_second);
        }
    }
    for row in window(history, families::REQUEST_DURATION.name, by, &[0.5, 0.99]) {
        let entry = all.entry(row.group).or_default();
        let millis = |at: usize| row.quantiles.get(at).copied().flatten().map(micros_to_millis);
        (entry.p50_ms, entry.p99_ms) = (millis(0), millis(1));
    }
    for row in window(history, families::RECEIVED_BYTES.name, by, &[]) {
        all.entry(row.group).or_default().received_bytes_per_second = row.per_second;
    }
    for row in window(history, families::SENT_BYTES.name, by, &[]) {
        all.entry(row.group).or_default().sent_bytes_per_second = row.per_second;
    }
    for row in window(history, families::SESSIONS_OPEN.name, by, &[]) {
        all.entry(row.group).or_default().sessions_open = count(row.total);
    }
    all
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number, at least 0 and far below 2^53"
)]
fn count(gauge: f64) -> u64 {
    gauge.max(0.0) as u64
}

#[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^53 microseconds")]
fn micros_to_millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Answers a chart from the history.
pub(super) fn chart(
    history: &History,
    clock: &dyn Clock,
    query: &ChartQuery,
) -> Result<Chart, Problem> {
    let lines: &[(&str, &str, Show, f64)] = match query.chart.as_str() {
        "traffic" => &[("requests", families::REQUESTS.name, Show::Rate, 1.0)],
        "latency" => &[
            ("p50_ms", families::REQUEST_DURATION.name, Show::Quantile(0.5), 1e-3),
            ("p99_ms", families::REQUEST_DURATION.name, Show::Quantile(0.99), 1e-3),
        ],
        "cpu" => &[("cpu_cores", INSTANCE_CPU.name, Show::Rate, 1e-6)],
        "memory" => &[("memory_bytes", INSTANCE_MEMORY.name, Show::Mean, 1.0)],
        other => {
            return Err(Problem::new("unknown-chart", format!("there is no chart `{other}`"))
                .with_next("ask for traffic, latency, cpu or memory"));
        }
    };
    let seconds = query.seconds.unwrap_or(900).clamp(10, 400 * 86_400);
    let step = seconds.div_ceil(CHART_POINTS_MAX).max(1);
    let until = clock.now();
    let ask = |family: &str, show, failures: bool| {
        let mut labels = Vec::new();
        labels.extend(query.service.as_ref().map(|s| ("service".to_owned(), vec![s.to_string()])));
        if failures {
            labels.push(("code_class".to_owned(), vec![FAILURE.to_owned()]));
        }
        history.query(&Query {
            family: family.to_owned(),
            labels,
            group_by: Vec::new(),
            show,
            since: UnixNanos(until.0.saturating_sub(nanos(seconds))),
            until,
            step_seconds: step,
        })
    };
    let mut chart = Chart { start: until, step_seconds: step, lines: Vec::new() };
    let mut add = |name: &str, answer: telemetry::history::Answer, scale: f64| {
        chart.start = answer.start;
        chart.step_seconds = answer.step_seconds;
        let values = answer.lines.into_iter().next().map(|line| line.values).unwrap_or_default();
        let values = values.into_iter().map(|v| v.map(|v| v * scale)).collect();
        chart.lines.push(ChartLine { name: name.to_owned(), values });
    };
    for (name, family, show, scale) in lines {
        add(name, ask(family, *show, false), *scale);
    }
    if query.chart == "traffic" {
        add("errors", ask(families::REQUESTS.name, Show::Rate, true), 1.0);
    }
    Ok(chart)
}

fn nanos(seconds: u32) -> u64 {
    u64::try_from(Duration::from_secs(seconds.into()).as_nanos()).unwrap_or(u64::MAX)
}
