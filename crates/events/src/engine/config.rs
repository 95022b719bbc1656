//! Settings of topics: names, defaults and what may be said, as Kafka has them.
//!
//! Not here: settings of the whole log. One table, which descriptions are made from too.

use std::collections::BTreeMap;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number between two others.
    Number(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// Some of some words, with commas between.
    SomeOf(&'static [&'static str]),
    /// Anything.
    Text,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// What holds when nobody says anything.
    pub default: &'static str,
    /// Whether it changes anything here: where there is one copy of everything, some cannot.
    pub in_force: bool,
    /// What it is for.
    pub about: &'static str,
}

const LONG: i64 = i64::MAX;
const INT: i64 = i32::MAX as i64;

const fn setting(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    in_force: bool,
    about: &'static str,
) -> Setting {
    Setting { name, kind, default, in_force, about }
}

/// Every setting, by name.
pub const SETTINGS: &[Setting] = &[
    setting(
        "cleanup.policy",
        Kind::SomeOf(&["compact", "delete"]),
        "delete",
        true,
        "What becomes of old records: deleted, compacted by key, or both.",
    ),
    setting(
        "compression.gzip.level",
        Kind::Number(-1, 9),
        "-1",
        false,
        "Batches stay as producers compressed them.",
    ),
    setting(
        "compression.lz4.level",
        Kind::Number(1, 17),
        "9",
        false,
        "Batches stay as producers compressed them.",
    ),
    setting(
        "compression.type",
        Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        false,
        "Batches stay as producers compressed them.",
    ),
    setting(
        "compression.zstd.level",
        Kind::Number(-131_072, 22),
        "3",
        false,
        "Batches stay as producers compressed them.",
    ),
    setting(
        "delete.retention.ms",
        Kind::Number(0, LONG),
        "86400000",
        true,
        "How long a deletion is kept in a compacted topic.",
    ),
    setting(
        "errors.deadletterqueue.group.enable",
        Kind::Boolean,
        "false",
        true,
        "Whether share groups may write their dead letters to it.",
    ),
    setting(
        "file.delete.delay.ms",
        Kind::Number(0, LONG),
        "60000",
        false,
        "Space is freed by volume.",
    ),
    setting(
        "flush.messages",
        Kind::Number(1, LONG),
        "9223372036854775807",
        false,
        "Every acknowledged batch is flushed.",
    ),
    setting(
        "flush.ms",
        Kind::Number(0, LONG),
        "9223372036854775807",
        false,
        "Every acknowledged batch is flushed.",
    ),
    setting("follower.replication.throttled.replicas", Kind::Text, "", false, "There is one copy."),
    setting(
        "index.interval.bytes",
        Kind::Number(0, INT),
        "4096",
        false,
        "Every batch is found by its head.",
    ),
    setting("leader.replication.throttled.replicas", Kind::Text, "", false, "There is one copy."),
    setting(
        "local.retention.bytes",
        Kind::Number(-2, LONG),
        "-2",
        false,
        "There is no other storage.",
    ),
    setting(
        "local.retention.ms",
        Kind::Number(-2, LONG),
        "-2",
        false,
        "There is no other storage.",
    ),
    setting(
        "max.compaction.lag.ms",
        Kind::Number(1, LONG),
        "9223372036854775807",
        true,
        "How long a record may stay uncompacted.",
    ),
    setting("max.message.bytes", Kind::Number(0, INT), "1048588", true, "Largest batch."),
    setting(
        "message.timestamp.after.max.ms",
        Kind::Number(0, LONG),
        "3600000",
        true,
        "How far in the future a record's time may be.",
    ),
    setting(
        "message.timestamp.before.max.ms",
        Kind::Number(0, LONG),
        "9223372036854775807",
        true,
        "How far in the past a record's time may be.",
    ),
    setting(
        "message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        true,
        "Whose clock gives records their time.",
    ),
    setting(
        "min.cleanable.dirty.ratio",
        Kind::Ratio,
        "0.5",
        true,
        "How much must be uncompacted before it is compacted.",
    ),
    setting(
        "min.compaction.lag.ms",
        Kind::Number(0, LONG),
        "0",
        true,
        "How long a record stays uncompacted.",
    ),
    setting("min.insync.replicas", Kind::Number(1, INT), "1", false, "There is one copy."),
    setting("preallocate", Kind::Boolean, "false", false, "Volumes are written ahead."),
    setting("remote.copy.disable", Kind::Boolean, "false", false, "There is no other storage."),
    setting(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        false,
        "There is no other storage.",
    ),
    setting("remote.storage.enable", Kind::Boolean, "false", false, "There is no other storage."),
    setting(
        "retention.bytes",
        Kind::Number(-1, LONG),
        "-1",
        true,
        "Largest partition; -1 for no bound.",
    ),
    setting(
        "retention.ms",
        Kind::Number(-1, LONG),
        "604800000",
        true,
        "How long records are kept; -1 for ever.",
    ),
    setting(
        "segment.bytes",
        Kind::Number(1_048_576, INT),
        "1073741824",
        false,
        "Partitions share volumes.",
    ),
    setting(
        "segment.index.bytes",
        Kind::Number(4, INT),
        "10485760",
        false,
        "Partitions share volumes.",
    ),
    setting("segment.jitter.ms", Kind::Number(0, LONG), "0", false, "Partitions share volumes."),
    setting("segment.ms", Kind::Number(1, LONG), "604800000", false, "Partitions share volumes."),
    setting("unclean.leader.election.enable", Kind::Boolean, "false", false, "There is one copy."),
];

/// A setting by name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.binary_search_by(|setting| setting.name.cmp(name)).ok().map(|at| &SETTINGS[at])
}

/// Whether a setting may have a value; else what is wrong.
///
/// # Errors
/// What is wrong, in words.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    match find(name) {
        Some(setting) => setting.kind.check(name, value),
        None => Err(format!("Unknown topic config name: {name}")),
    }
}

impl Kind {
    /// Whether a setting of this kind may have a value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(self, name: &str, value: &str) -> Result<(), String> {
        let fits = match self {
            Kind::Text => true,
            Kind::Boolean => matches!(value.to_ascii_lowercase().as_str(), "true" | "false"),
            Kind::Ratio => {
                value.trim().parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio))
            }
            Kind::Number(least, most) => {
                value.trim().parse::<i64>().is_ok_and(|number| (least..=most).contains(&number))
            }
            Kind::OneOf(words) => words.contains(&value),
            Kind::SomeOf(words) => {
                !value.is_empty() && value.split(',').all(|word| words.contains(&word.trim()))
            }
        };
        match fits {
            true => Ok(()),
            false => {
                Err(format!("Invalid value {value} for configuration {name}: {}", self.wanted()))
            }
        }
    }

    fn wanted(self) -> String {
        match self {
            Kind::Text => "any text".to_owned(),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Ratio => "a number from 0 to 1".to_owned(),
            Kind::Number(least, most) => format!("a whole number from {least} to {most}"),
            Kind::OneOf(words) => format!("one of {}", words.join(", ")),
            Kind::SomeOf(words) => format!("one or more of {}", words.join(", ")),
        }
    }
}

/// What was said of a topic, and what follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicConfig {
    /// What was said.
    pub said: BTreeMap<String, String>,
    /// What is said for all topics.
    pub defaults: BTreeMap<String, String>,
}

impl TopicConfig {
    /// The value that holds.
    pub fn get(&self, name: &str) -> &str {
        let said = self.said.get(name).or_else(|| self.defaults.get(name));
        said.map_or_else(|| find(name).map_or("", |setting| setting.default), String::as_str)
    }

    /// A number that holds.
    pub fn number(&self, name: &str) -> i64 {
        self.get(name).trim().parse().unwrap_or(-1)
    }

    /// Largest batch in bytes.
    pub fn batch_bytes_max(&self) -> usize {
        usize::try_from(self.number("max.message.bytes")).unwrap_or(0)
    }

    /// Whether old records of a key go.
    pub fn is_compacted(&self) -> bool {
        self.get("cleanup.policy").split(',').any(|word| word.trim() == "compact")
    }

    /// Whether old records go.
    pub fn is_deleted(&self) -> bool {
        self.get("cleanup.policy").split(',').any(|word| word.trim() == "delete")
    }

    /// Whether share groups may write their dead letters to it.
    pub fn takes_dead_letters(&self) -> bool {
        self.get("errors.deadletterqueue.group.enable").trim().eq_ignore_ascii_case("true")
    }

    /// Whether the log's clock gives times.
    pub fn gives_time(&self) -> bool {
        self.get("message.timestamp.type") == "LogAppendTime"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        for setting in SETTINGS {
            assert_eq!(check(setting.name, setting.default), Ok(()), "{}", setting.name);
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        assert!(check("retention.ms", "a week").unwrap_err().contains("whole number from -1"));
        assert!(check("no.such", "1").unwrap_err().contains("Unknown topic config name: no.such"));
        assert_eq!(check("cleanup.policy", "compact,delete"), Ok(()));
        assert!(check("cleanup.policy", "shred").is_err());
    }
}
