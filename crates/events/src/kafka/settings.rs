//! What was said of settings at run time: of the node, of groups, of clients' metrics.
//!
//! Not here: settings of topics (`engine::config`), and what Kafka has as defaults of the node
//! (`node_settings`). Invariants: what holds is durable; the engine follows at once.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::NODE;
use super::node_settings::{self, Effect};
use crate::engine::config;
use crate::engine::groups::letters::Address;
use crate::engine::groups::rules::{Begin, Rules};
use crate::engine::groups::share::Terms;
use crate::engine::journal::{Journal, Key, Kind};
use crate::engine::log::{Log, OpenError, Options};

/// Kinds of resources, as the protocol numbers them.
pub(super) const NODES: i8 = 4;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUPS: i8 = 32;

/// Most resources that something is said of.
const RESOURCES_MAX: usize = 50_000;

/// Longest name of a resource.
const NAME_BYTES_MAX: usize = 1024;

/// The setting that names a group's topic of dead letters, and how all such topics begin.
pub(super) const DEAD_LETTERS: &str = "errors.deadletterqueue.topic.name";
const LETTERS_PREFIX: &str = "dlq.";

/// What was said of one resource.
pub(super) type Said = BTreeMap<String, String>;

/// All that was said.
pub struct Settings {
    log: Arc<Log>,
    /// What holds as long as nobody says otherwise.
    started_with: Arc<Options>,
    said: RwLock<BTreeMap<(i8, String), Arc<Said>>>,
    changing: tokio::sync::Mutex<()>,
}

/// One setting of a group or of clients' metrics.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) kind: config::Kind,
    pub(super) default: &'static str,
    pub(super) about: &'static str,
}

const fn setting(
    name: &'static str,
    kind: config::Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting { name, kind, default, about }
}

/// Those of groups, by name.
const GROUP_SETTINGS: &[Setting] = &[
    setting(
        "consumer.heartbeat.interval.ms",
        config::Kind::Number(5000, 15_000),
        "5000",
        "How often members say that they are there.",
    ),
    setting(
        "consumer.session.timeout.ms",
        config::Kind::Number(45_000, 60_000),
        "45000",
        "After how long without a word a member is gone.",
    ),
    setting(
        "errors.deadletterqueue.copy.record.enable",
        config::Kind::Boolean,
        "false",
        "Whether dead letters hold keys, values and headers of their records.",
    ),
    setting(
        DEAD_LETTERS,
        config::Kind::Text,
        "",
        "Topic of records that a share group gave up on: dlq. and more, made if need be.",
    ),
    setting(
        "share.auto.offset.reset",
        config::Kind::Text,
        "latest",
        "Where a share group begins: earliest, latest, or by_duration:PnDTnHnMn.nS.",
    ),
    setting(
        "share.delivery.count.limit",
        config::Kind::Number(2, 10),
        "5",
        "How often a record is delivered before the group gives up on it.",
    ),
    setting(
        "share.heartbeat.interval.ms",
        config::Kind::Number(5000, 15_000),
        "5000",
        "How often members say that they are there.",
    ),
    setting(
        "share.isolation.level",
        config::Kind::OneOf(&["read_committed", "read_uncommitted"]),
        "read_uncommitted",
        "Whether records of transactions that did not end well are given out.",
    ),
    setting(
        "share.partition.max.record.locks",
        config::Kind::Number(100, 10_000),
        "2000",
        "Records of a partition that are not done with, at most.",
    ),
    setting(
        "share.record.lock.duration.ms",
        config::Kind::Number(15_000, 60_000),
        "30000",
        "How long a member has a record to itself.",
    ),
    setting(
        "share.session.timeout.ms",
        config::Kind::Number(45_000, 60_000),
        "45000",
        "After how long without a word a member is gone.",
    ),
];

/// Those of clients' metrics, by name.
const METRIC_SETTINGS: &[Setting] = &[
    setting(
        "interval.ms",
        config::Kind::Number(100, 3_600_000),
        "300000",
        "Kept for tools: clients are not asked for metrics.",
    ),
    setting("match", config::Kind::Text, "", "Kept for tools: clients are not asked for metrics."),
    setting(
        "metrics",
        config::Kind::Text,
        "",
        "Kept for tools: clients are not asked for metrics.",
    ),
];

/// Which settings a kind of resource has, the node left out.
pub(super) fn of_kind(kind: i8) -> &'static [Setting] {
    match kind {
        GROUPS => GROUP_SETTINGS,
        CLIENT_METRICS => METRIC_SETTINGS,
        _ => &[],
    }
}

/// Why something cannot be said.
#[derive(Debug)]
pub(super) enum Refused {
    /// In words.
    Config(String),
    /// The store does not take it.
    Store(volumes::AppendError),
}

impl Settings {
    pub(super) fn open(log: &Arc<Log>) -> Result<Settings, OpenError> {
        let mut said = BTreeMap::new();
        for (key, value) in log.journal.list(Kind::Setting, &[]) {
            let unread = |why: String| OpenError::Record { what: "setting", why };
            let values: Said =
                serde_json::from_slice(&value).map_err(|error| unread(error.to_string()))?;
            let parts = key.parts();
            let kind = parts.first().and_then(|kind| kind.parse().ok());
            let (Some(kind), Some(name)) = (kind, parts.get(1)) else {
                return Err(unread(format!("{parts:?} name no resource")));
            };
            said.insert((kind, (*name).to_owned()), Arc::new(values));
        }
        let changing = tokio::sync::Mutex::default();
        let (log, started_with) = (Arc::clone(log), log.options());
        Ok(Settings { log, started_with, said: RwLock::new(said), changing })
    }

    /// Makes the engine follow what was said before.
    pub(super) async fn follow(&self) {
        self.log.set_options(self.options()).await;
    }

    /// What was said of a resource.
    pub(super) fn said(&self, kind: i8, name: &str) -> Arc<Said> {
        let said = self.said.read().unwrap_or_else(PoisonError::into_inner);
        said.get(&(kind, name.to_owned())).cloned().unwrap_or_default()
    }

    /// The value that holds for a group.
    pub fn of_group(&self, group: &str, name: &str) -> String {
        let default = || GROUP_SETTINGS.iter().find(|setting| setting.name == name);
        let said = self.said(GROUPS, group).get(name).cloned();
        said.unwrap_or_else(|| default().map_or("", |setting| setting.default).to_owned())
    }

    /// What a share group does with records.
    pub(crate) fn share_rules(&self, group: &str) -> Rules {
        let number = |name: &str| self.of_group(group, name).trim().parse::<u64>();
        let topic = self.of_group(group, DEAD_LETTERS);
        let copies = self.of_group(group, "errors.deadletterqueue.copy.record.enable");
        let topic = topic.trim();
        // All of these were checked when they were said.
        Rules {
            terms: Terms {
                lock_ms: number("share.record.lock.duration.ms").unwrap_or(30_000),
                deliveries_max: number("share.delivery.count.limit")
                    .ok()
                    .and_then(|limit| u16::try_from(limit).ok())
                    .unwrap_or(5),
                live_max: number("share.partition.max.record.locks").unwrap_or(2000),
            },
            begin: Begin::parse(&self.of_group(group, "share.auto.offset.reset"))
                .unwrap_or(Begin::Latest),
            committed_only: self.of_group(group, "share.isolation.level") == "read_committed",
            letters_to: (!topic.is_empty()).then(|| Address {
                topic: topic.into(),
                copies_records: copies.trim().eq_ignore_ascii_case("true"),
            }),
        }
    }

    /// Names of resources of a kind that something is said of.
    pub(super) fn names(&self, kind: i8) -> Vec<String> {
        let said = self.said.read().unwrap_or_else(PoisonError::into_inner);
        said.keys().filter(|(other, _)| *other == kind).map(|(_, name)| name.clone()).collect()
    }

    /// What was said of the node when it was started.
    pub(super) fn started_with(&self) -> &Options {
        &self.started_with
    }

    /// Whether all this can be said of a resource.
    pub(super) fn check(&self, kind: i8, name: &str, said: &Said) -> Result<(), Refused> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Refused::Config(format!("{NAME_BYTES_MAX} bytes are the longest name.")));
        }
        let each = said.iter().try_for_each(|(setting, value)| match kind {
            NODES => check_node(setting, value),
            kind => {
                let found = of_kind(kind).iter().find(|one| one.name == setting);
                let found = found.ok_or_else(|| format!("Unknown configuration {setting}"))?;
                found.kind.check(setting, value)?;
                check_group(setting, value)
            }
        });
        each.map_err(Refused::Config)
    }

    /// Says all that holds of a resource.
    pub(super) async fn set(&self, kind: i8, name: &str, said: Said) -> Result<(), Refused> {
        self.check(kind, name, &said)?;
        let _one = self.changing.lock().await;
        let key = (kind, name.to_owned());
        {
            let all = self.said.read().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= RESOURCES_MAX && !all.contains_key(&key) {
                let why = format!("Settings of {RESOURCES_MAX} resources are the most.");
                return Err(Refused::Config(why));
            }
        }
        let journal: &Arc<Journal> = &self.log.journal;
        let kept = Key::new(Kind::Setting, &[&kind.to_string(), name]);
        let value =
            (!said.is_empty()).then(|| Bytes::from(serde_json::to_vec(&said).unwrap_or_default()));
        journal.change(vec![(kept, value)]).await.map_err(Refused::Store)?;
        {
            let mut all = self.said.write().unwrap_or_else(PoisonError::into_inner);
            match said.is_empty() {
                true => all.remove(&key),
                false => all.insert(key, Arc::new(said)),
            };
        }
        if kind == NODES {
            self.follow().await;
        }
        Ok(())
    }

    /// What holds for the engine: what was said of this node, else of all, else at the start.
    fn options(&self) -> Options {
        let mut options = Options::clone(&self.started_with);
        for node in [String::new(), NODE.to_string()] {
            for (name, value) in &*self.said(NODES, &node) {
                match node_settings::find(name).map(|setting| setting.effect) {
                    Some(Effect::Topic(topic)) => {
                        options.topic_defaults.insert(topic.to_owned(), value.clone());
                    }
                    Some(Effect::AutoCreate) => {
                        options.auto_create = value.trim().eq_ignore_ascii_case("true");
                    }
                    Some(Effect::Partitions) => {
                        options.partitions = value.trim().parse().unwrap_or(options.partitions);
                    }
                    Some(Effect::None | Effect::Always | Effect::OffsetsRetention) | None => {}
                }
            }
        }
        options
    }
}

fn check_group(name: &str, value: &str) -> Result<(), String> {
    let is_fine = match name {
        "share.auto.offset.reset" => Begin::parse(value).is_some(),
        DEAD_LETTERS => value.trim().is_empty() || value.trim().starts_with(LETTERS_PREFIX),
        _ => true,
    };
    match is_fine {
        true => Ok(()),
        false => Err(format!("Invalid value {value} for configuration {name}")),
    }
}

fn check_node(name: &str, value: &str) -> Result<(), String> {
    let Some(setting) = node_settings::find(name) else {
        return Err(format!("Cannot update these configs dynamically: Set({name})"));
    };
    match setting.effect {
        Effect::Topic(topic) => config::check(topic, value),
        Effect::AutoCreate => config::Kind::Boolean.check(name, value),
        Effect::Partitions => config::Kind::Number(1, 100_000).check(name, value),
        Effect::None | Effect::Always | Effect::OffsetsRetention => {
            Err(format!("Cannot update these configs dynamically: Set({name})"))
        }
    }
}
