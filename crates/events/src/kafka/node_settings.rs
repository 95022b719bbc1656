//! Settings of the node: which there are, and what follows from them.
//!
//! Not here: what was said of them (`settings`). Those of Kafka that are about what is not here (its
//! files, threads, other nodes, Java) are left out: a value would be a lie.

/// What follows from a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing here: it is told as Kafka has it, for tools that look at it.
    None,
    /// It is so here, and cannot be changed.
    Always,
    /// It holds for topics that do not say otherwise, under this name.
    Topic(&'static str),
    /// Whether a topic that somebody asks for is made.
    AutoCreate,
    /// Partitions of a topic that does not say how many.
    Partitions,
    /// How long offsets of a group without members are kept: what was said at the start.
    OffsetsRetention,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeSetting {
    pub(super) name: &'static str,
    /// The protocol's number of what it is.
    pub(super) kind: i8,
    /// What holds when nobody says anything, unless it follows from somewhere else.
    pub(super) default: &'static str,
    pub(super) effect: Effect,
}

const BOOLEAN: i8 = 1;
const TEXT: i8 = 2;
const INT: i8 = 3;
const SHORT: i8 = 4;
const LONG: i8 = 5;
const DOUBLE: i8 = 6;
const LIST: i8 = 7;

const fn one(name: &'static str, kind: i8, default: &'static str, effect: Effect) -> NodeSetting {
    NodeSetting { name, kind, default, effect }
}

/// Every setting, by name.
pub(super) const NODE_SETTINGS: &[NodeSetting] = &[
    one("auto.create.topics.enable", BOOLEAN, "", Effect::AutoCreate),
    one("broker.id", INT, "1", Effect::Always),
    one("compression.gzip.level", INT, "", Effect::Topic("compression.gzip.level")),
    one("compression.lz4.level", INT, "", Effect::Topic("compression.lz4.level")),
    one("compression.type", TEXT, "", Effect::Topic("compression.type")),
    one("compression.zstd.level", INT, "", Effect::Topic("compression.zstd.level")),
    one("connections.max.idle.ms", LONG, "600000", Effect::Always),
    one("connections.max.reauth.ms", LONG, "0", Effect::None),
    one("default.replication.factor", INT, "1", Effect::Always),
    one("delete.topic.enable", BOOLEAN, "true", Effect::Always),
    one("fetch.max.bytes", INT, "57671680", Effect::None),
    one("group.consumer.assignors", LIST, "uniform,range", Effect::Always),
    one("group.consumer.heartbeat.interval.ms", INT, "5000", Effect::Always),
    one("group.consumer.max.heartbeat.interval.ms", INT, "15000", Effect::Always),
    one("group.consumer.max.session.timeout.ms", INT, "60000", Effect::Always),
    one("group.consumer.max.size", INT, "5000", Effect::Always),
    one("group.consumer.migration.policy", TEXT, "bidirectional", Effect::Always),
    one("group.consumer.min.heartbeat.interval.ms", INT, "5000", Effect::Always),
    one("group.consumer.min.session.timeout.ms", INT, "45000", Effect::Always),
    one("group.consumer.session.timeout.ms", INT, "45000", Effect::Always),
    one("group.initial.rebalance.delay.ms", INT, "3000", Effect::None),
    one("group.max.session.timeout.ms", INT, "1800000", Effect::Always),
    one("group.max.size", INT, "2147483647", Effect::None),
    one("group.min.session.timeout.ms", INT, "6000", Effect::Always),
    one("group.share.assignors", LIST, "simple", Effect::None),
    one("group.share.delivery.count.limit", INT, "5", Effect::None),
    one("group.share.heartbeat.interval.ms", INT, "5000", Effect::None),
    one("group.share.max.heartbeat.interval.ms", INT, "15000", Effect::None),
    one("group.share.max.record.lock.duration.ms", INT, "60000", Effect::None),
    one("group.share.max.session.timeout.ms", INT, "60000", Effect::None),
    one("group.share.max.share.sessions", INT, "2000", Effect::None),
    one("group.share.max.size", INT, "200", Effect::None),
    one("group.share.min.heartbeat.interval.ms", INT, "5000", Effect::None),
    one("group.share.min.record.lock.duration.ms", INT, "15000", Effect::None),
    one("group.share.min.session.timeout.ms", INT, "45000", Effect::None),
    one("group.share.partition.max.record.locks", INT, "2000", Effect::None),
    one("group.share.record.lock.duration.ms", INT, "30000", Effect::None),
    one("group.share.session.timeout.ms", INT, "45000", Effect::None),
    one("log.cleaner.backoff.ms", LONG, "15000", Effect::None),
    one("log.cleaner.dedupe.buffer.size", LONG, "134217728", Effect::None),
    one("log.cleaner.delete.retention.ms", LONG, "", Effect::Topic("delete.retention.ms")),
    one("log.cleaner.enable", BOOLEAN, "true", Effect::Always),
    one("log.cleaner.io.buffer.load.factor", DOUBLE, "0.9", Effect::None),
    one("log.cleaner.io.buffer.size", INT, "524288", Effect::None),
    one("log.cleaner.io.max.bytes.per.second", DOUBLE, "1.7976931348623157E308", Effect::None),
    one("log.cleaner.max.compaction.lag.ms", LONG, "", Effect::Topic("max.compaction.lag.ms")),
    one("log.cleaner.min.cleanable.ratio", DOUBLE, "", Effect::Topic("min.cleanable.dirty.ratio")),
    one("log.cleaner.min.compaction.lag.ms", LONG, "", Effect::Topic("min.compaction.lag.ms")),
    one("log.cleaner.threads", INT, "1", Effect::None),
    one("log.cleanup.policy", LIST, "", Effect::Topic("cleanup.policy")),
    one("log.flush.interval.messages", LONG, "", Effect::Topic("flush.messages")),
    one("log.flush.interval.ms", LONG, "", Effect::Topic("flush.ms")),
    one("log.flush.offset.checkpoint.interval.ms", INT, "60000", Effect::None),
    one("log.flush.scheduler.interval.ms", LONG, "9223372036854775807", Effect::None),
    one("log.flush.start.offset.checkpoint.interval.ms", INT, "60000", Effect::None),
    one("log.index.interval.bytes", INT, "", Effect::Topic("index.interval.bytes")),
    one("log.index.size.max.bytes", INT, "", Effect::Topic("segment.index.bytes")),
    one("log.local.retention.bytes", LONG, "", Effect::Topic("local.retention.bytes")),
    one("log.local.retention.ms", LONG, "", Effect::Topic("local.retention.ms")),
    one(
        "log.message.timestamp.after.max.ms",
        LONG,
        "",
        Effect::Topic("message.timestamp.after.max.ms"),
    ),
    one(
        "log.message.timestamp.before.max.ms",
        LONG,
        "",
        Effect::Topic("message.timestamp.before.max.ms"),
    ),
    one("log.message.timestamp.type", TEXT, "", Effect::Topic("message.timestamp.type")),
    one("log.preallocate", BOOLEAN, "", Effect::Topic("preallocate")),
    one("log.retention.bytes", LONG, "", Effect::Topic("retention.bytes")),
    one("log.retention.check.interval.ms", LONG, "300000", Effect::None),
    one("log.retention.hours", INT, "168", Effect::None),
    one("log.retention.minutes", INT, "", Effect::None),
    one("log.retention.ms", LONG, "", Effect::Topic("retention.ms")),
    one("log.roll.hours", INT, "168", Effect::None),
    one("log.roll.jitter.hours", INT, "0", Effect::None),
    one("log.roll.jitter.ms", LONG, "", Effect::Topic("segment.jitter.ms")),
    one("log.roll.ms", LONG, "", Effect::Topic("segment.ms")),
    one("log.segment.bytes", INT, "", Effect::Topic("segment.bytes")),
    one("log.segment.delete.delay.ms", LONG, "", Effect::Topic("file.delete.delay.ms")),
    one("max.incremental.fetch.session.cache.slots", INT, "1000", Effect::Always),
    one("max.request.partition.size.limit", INT, "2000", Effect::Always),
    one("message.max.bytes", INT, "", Effect::Topic("max.message.bytes")),
    one("min.insync.replicas", INT, "", Effect::Topic("min.insync.replicas")),
    one("node.id", INT, "1", Effect::Always),
    one("num.partitions", INT, "", Effect::Partitions),
    one("offset.metadata.max.bytes", INT, "4096", Effect::Always),
    one("offsets.commit.timeout.ms", INT, "5000", Effect::None),
    one("offsets.load.buffer.size", INT, "5242880", Effect::None),
    one("offsets.retention.check.interval.ms", LONG, "600000", Effect::None),
    one("offsets.retention.minutes", INT, "10080", Effect::OffsetsRetention),
    one("offsets.topic.compression.codec", INT, "0", Effect::None),
    one("offsets.topic.num.partitions", INT, "50", Effect::None),
    one("offsets.topic.replication.factor", SHORT, "1", Effect::Always),
    one("offsets.topic.segment.bytes", INT, "104857600", Effect::None),
    one("process.roles", LIST, "broker,controller", Effect::Always),
    one("producer.id.expiration.ms", INT, "86400000", Effect::None),
    one("transaction.abort.timed.out.transaction.cleanup.interval.ms", INT, "10000", Effect::None),
    one("transaction.max.timeout.ms", INT, "900000", Effect::Always),
    one("transaction.partition.verification.enable", BOOLEAN, "true", Effect::None),
    one("transaction.remove.expired.transaction.cleanup.interval.ms", INT, "3600000", Effect::None),
    one("transaction.state.log.load.buffer.size", INT, "5242880", Effect::None),
    one("transaction.state.log.min.isr", INT, "1", Effect::Always),
    one("transaction.state.log.num.partitions", INT, "50", Effect::None),
    one("transaction.state.log.replication.factor", SHORT, "1", Effect::Always),
    one("transaction.state.log.segment.bytes", INT, "104857600", Effect::None),
    one("transaction.two.phase.commit.enable", BOOLEAN, "false", Effect::Always),
    one("transactional.id.expiration.ms", INT, "604800000", Effect::None),
    one(
        "unclean.leader.election.enable",
        BOOLEAN,
        "",
        Effect::Topic("unclean.leader.election.enable"),
    ),
];

/// One by its name.
pub(super) fn find(name: &str) -> Option<&'static NodeSetting> {
    let found = NODE_SETTINGS.binary_search_by(|setting| setting.name.cmp(name));
    found.ok().map(|at| &NODE_SETTINGS[at])
}

/// The name that a topic's setting has here.
pub(super) fn of_topic(name: &str) -> Option<&'static str> {
    let found = NODE_SETTINGS.iter().find(|setting| setting.effect == Effect::Topic(of(name)))?;
    fn of(name: &str) -> &'static str {
        crate::engine::config::find(name).map_or("", |setting| setting.name)
    }
    Some(found.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config;

    #[test]
    fn the_table_is_sorted_and_names_topics_settings_that_there_are() {
        assert!(NODE_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        for setting in NODE_SETTINGS {
            if let Effect::Topic(name) = setting.effect {
                assert!(config::find(name).is_some(), "{name}");
                assert_eq!(of_topic(name), Some(setting.name));
            }
        }
    }
}
