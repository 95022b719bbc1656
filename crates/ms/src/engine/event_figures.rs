//! What goes through event logs and how far groups are behind, as metrics.
//!
//! Not here: counting (the log does), history. A log is a process of its own, so the engine asks it
//! now and then and adds what is new to the engine's own counters: a log that starts again begins at
//! zero, and the counters go on.
//!
//! Invariants: of each log at most [`TOPICS_MAX`] topics and [`GROUPS_MAX`] groups have series; what
//! is gone has none; a log that does not answer holds up no more than the next look at others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::ServiceName;
use base::metrics::{Counter, Family, Labels, Registry};
use events::client::{Client, ClientError, Figures, Group, Lag, Traffic};
use telemetry::History;
use telemetry::history::WindowQuery;
use tokio::net::TcpStream;

use super::api::Shared;
use super::event_log;

/// How often each log is asked.
const EVERY: Duration = Duration::from_secs(5);
/// Seconds that rates are over: two looks at least.
const WINDOW_SECONDS: u32 = 15;
/// Topics and groups of a log that have series.
const TOPICS_MAX: usize = 200;
const GROUPS_MAX: usize = 200;

const MESSAGES_IN: Family =
    Family { name: "ms_events_messages_in_total", help: "Messages that were written to a topic." };
const BYTES_IN: Family =
    Family { name: "ms_events_bytes_in_total", help: "Bytes that were written to a topic." };
const MESSAGES_OUT: Family = Family {
    name: "ms_events_messages_out_total",
    help: "Messages that were read from a topic, once for each reader.",
};
const BYTES_OUT: Family =
    Family { name: "ms_events_bytes_out_total", help: "Bytes that were read from a topic." };
const LAG: Family =
    Family { name: "ms_events_group_lag", help: "Messages that a group has not read." };
const FLUSHES: Family =
    Family { name: "ms_events_flushes_total", help: "Times that a log made something durable." };
const FLUSH_TIME: Family = Family {
    name: "ms_events_flush_microseconds_total",
    help: "How long that took, in microseconds.",
};

/// One of the figures of a topic.
type Count = fn(&Traffic) -> u64;

/// What goes through a topic, by the name of the topic.
pub(super) type Rates = BTreeMap<String, Rate>;

/// What goes through a topic in a second; none for one without series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) messages_in: Option<f64>,
    pub(super) bytes_in: Option<f64>,
    pub(super) bytes_out: Option<f64>,
}

/// What went through the topics of a log in the last seconds.
pub(super) fn rates(history: &History, service: &ServiceName) -> Rates {
    let mut rates = Rates::new();
    let mut add = |family: Family, set: fn(&mut Rate) -> &mut Option<f64>| {
        let rows = history.window(&WindowQuery {
            family: family.name.to_owned(),
            labels: vec![("service".to_owned(), vec![service.to_string()])],
            group_by: vec!["topic".to_owned()],
            seconds: WINDOW_SECONDS,
            quantiles: Vec::new(),
        });
        for row in rows {
            *set(rates.entry(row.group.concat()).or_default()) = Some(row.per_second);
        }
    };
    add(MESSAGES_IN, |rate| &mut rate.messages_in);
    add(BYTES_IN, |rate| &mut rate.bytes_in);
    add(BYTES_OUT, |rate| &mut rate.bytes_out);
    rates
}

/// Asks every log, for as long as the engine runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut logs: BTreeMap<ServiceName, Watched> = BTreeMap::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let state = shared.control.state();
        let now: BTreeSet<ServiceName> = event_log::services(&state).into_iter().collect();
        for gone in logs.keys().filter(|name| !now.contains(*name)) {
            forget(&shared.registry, gone, |_, _| true);
        }
        logs.retain(|name, _| now.contains(name));
        for name in now {
            let log = logs.entry(name.clone()).or_default();
            let mut client = match log.client.take() {
                Some(client) => client,
                None => match event_log::connect(&state, &name).await {
                    Ok(client) => client,
                    Err(_) => continue,
                },
            };
            if let Ok((figures, groups)) = look(&mut client).await {
                log.take(&shared.registry, &name, &figures, &groups);
                log.client = Some(client);
            }
        }
    }
}

async fn look(client: &mut Client<TcpStream>) -> Result<(Figures, Vec<Group>), ClientError> {
    Ok((client.figures().await?, client.groups(GROUPS_MAX).await?))
}

/// A log that is asked.
#[derive(Default)]
struct Watched {
    client: Option<Client<TcpStream>>,
    seen: Figures,
}

impl Watched {
    /// Counts what is new.
    fn take(
        &mut self,
        registry: &Registry,
        service: &ServiceName,
        figures: &Figures,
        groups: &[Group],
    ) {
        let of = |name: &'static str, what: &str| -> Labels {
            vec![("service", service.to_string()), (name, what.to_owned())]
        };
        let counter = |family, topic: &str| registry.counter(family, of("topic", topic));
        for (topic, now) in figures.topics.iter().take(TOPICS_MAX) {
            let before = self.seen.topics.get(topic).copied().unwrap_or_default();
            let pairs: [(Family, Count); 4] = [
                (MESSAGES_IN, |traffic| traffic.messages_in),
                (BYTES_IN, |traffic| traffic.bytes_in),
                (MESSAGES_OUT, |traffic| traffic.messages_out),
                (BYTES_OUT, |traffic| traffic.bytes_out),
            ];
            for (family, get) in pairs {
                raise(&counter(family, topic), get(&before), get(now));
            }
        }
        let own = || vec![("service", service.to_string())];
        raise(&registry.counter(FLUSHES, own()), self.seen.flushes, figures.flushes);
        let (before, now) = (self.seen.flush_micros, figures.flush_micros);
        raise(&registry.counter(FLUSH_TIME, own()), before, now);
        for group in groups {
            let lag: i64 = group.lags.iter().filter_map(Lag::messages).sum();
            registry.gauge(LAG, of("group", &group.name)).set(lag);
        }
        let kept: BTreeSet<&String> = figures.topics.keys().take(TOPICS_MAX).collect();
        forget(registry, service, |label, name| match label {
            "topic" => !kept.contains(name),
            "group" => groups.iter().all(|group| group.name != *name),
            _ => false,
        });
        self.seen = figures.clone();
    }
}

/// Adds what a count grew by; all of it when it began anew.
fn raise(counter: &Counter, before: u64, now: u64) {
    counter.add(now.checked_sub(before).unwrap_or(now));
}

/// Forgets series of a log, those of which the second label is told to be gone.
fn forget(registry: &Registry, service: &ServiceName, gone: impl Fn(&str, &String) -> bool) {
    let is_gone = |family: &str, labels: &Labels| {
        family.starts_with("ms_events_")
            && labels.first().is_some_and(|(_, name)| name == service.as_str())
            && match labels.get(1) {
                Some((label, name)) => gone(label, name),
                None => gone("", &String::new()),
            }
    };
    // Forgetting makes readers list all series anew.
    if registry.series().iter().any(|series| is_gone(series.family, &series.labels)) {
        registry.forget(is_gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(topics: &[(&str, u64)]) -> Figures {
        let topics = topics.iter().map(|(name, count)| {
            ((*name).to_owned(), Traffic { messages_in: *count, ..Traffic::default() })
        });
        Figures { flushes: 1, flush_micros: 900, topics: topics.collect() }
    }

    #[test]
    fn counters_go_on_over_a_restart_and_what_is_gone_has_no_series() {
        let registry = Registry::default();
        let service: ServiceName = "kafka".parse().unwrap();
        let text = || telemetry::prometheus::write(&registry);
        let mut log = Watched::default();
        let group = Group {
            name: "billing".to_owned(),
            lags: vec![Lag { committed: Some(2), end: Some(9), ..Lag::default() }],
            ..Group::default()
        };
        let groups = [group];
        log.take(&registry, &service, &figures(&[("orders", 5), ("old", 1)]), &groups);
        log.take(&registry, &service, &figures(&[("orders", 7)]), &groups);
        // It started again.
        log.take(&registry, &service, &figures(&[("orders", 3)]), &groups);
        let shown = text();
        for line in [
            "ms_events_messages_in_total{service=\"kafka\",topic=\"orders\"} 10",
            "ms_events_group_lag{service=\"kafka\",group=\"billing\"} 7",
            "ms_events_flushes_total{service=\"kafka\"} 1",
            "ms_events_flush_microseconds_total{service=\"kafka\"} 900",
        ] {
            assert!(shown.contains(line), "no {line} in\n{shown}");
        }
        assert!(!shown.contains("topic=\"old\""), "{shown}");

        log.take(&registry, &service, &figures(&[("orders", 3)]), &[]);
        assert!(!text().contains("billing"));
        forget(&registry, &service, |_, _| true);
        assert!(!text().contains("kafka"));
    }

    #[test]
    fn series_are_bounded() {
        let registry = Registry::default();
        let names: Vec<String> = (0..TOPICS_MAX * 2).map(|n| format!("topic-{n:04}")).collect();
        let topics: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let service = "kafka".parse().unwrap();
        Watched::default().take(&registry, &service, &figures(&topics), &[]);
        let of = |family: Family| {
            registry.series().iter().filter(|series| series.family == family.name).count()
        };
        assert_eq!(of(MESSAGES_IN), TOPICS_MAX);
    }
}
