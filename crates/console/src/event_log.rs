//! What travels over the API about event logs: topics, messages, groups.
//!
//! Not here: how a log is asked. Offsets are numbers of messages within a partition. Names carry
//! their units, as in `wire`.

use std::collections::BTreeMap;

use base::{Problem, ServiceName, UnixNanos};
use serde::{Deserialize, Serialize};

use crate::query::{self, Query};

/// Messages of one answer when nobody says, and at most.
const MESSAGES_DEFAULT: usize = 100;
const MESSAGES_MAX: usize = 1_000;
/// Longest that an answer waits for a message.
const WAIT_MS_MAX: u64 = 5_000;

/// What an event log is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Which event logs there are.
    Services,
    /// Every topic.
    Topics,
    /// One of them.
    Topic(String),
    /// Some of its messages.
    Messages(String, MessageQuery),
    /// Every group.
    Groups,
    /// One of them.
    Group(String),
    /// A change.
    Change(Change),
}

/// What it answers, each to its question.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The services that are event logs.
    Services(Vec<ServiceName>),
    /// By name.
    Topics(Vec<TopicView>),
    /// One.
    Topic(TopicDetail),
    /// Some of a topic's.
    Messages(MessagePage),
    /// By name.
    Groups(Vec<GroupView>),
    /// One.
    Group(GroupView),
    /// What a change did.
    Changed(Changed),
}

/// Which messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageQuery {
    /// Of this partition only.
    pub partition: Option<u32>,
    /// `beginning`, `end`, an offset, or `time:` and Unix nanoseconds; the beginning when absent, the
    /// end when `newest`.
    pub from: Option<String>,
    /// Where an earlier answer said to go on; goes before `from`.
    pub next: Option<String>,
    /// From the newest before that place back, instead of from there on.
    pub newest: bool,
    /// How many at most.
    pub limit: Option<usize>,
    /// While there is none, wait for one that long.
    pub wait_ms: u64,
    /// Show at most so many bytes of each key, value and header.
    pub cut_bytes: Option<usize>,
}

impl MessageQuery {
    /// How many at most, bounded.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(MESSAGES_DEFAULT).clamp(1, MESSAGES_MAX)
    }

    pub(crate) fn read(query: &Query) -> Result<MessageQuery, Problem> {
        let known =
            ["service", "partition", "from", "next", "order", "limit", "wait_ms", "cut_bytes"];
        query.only(&known)?;
        let newest = match query.get("order") {
            None | Some("oldest") => false,
            Some("newest") => true,
            Some(other) => {
                let problem = Problem::new("bad-query", format!("there is no order `{other}`"));
                return Err(problem.with_next("use `order=oldest` or `order=newest`"));
            }
        };
        let wait_ms: u64 = query.number("wait_ms")?.unwrap_or(0);
        Ok(MessageQuery {
            partition: query.number("partition")?,
            from: query.get("from").map(str::to_owned),
            next: query.get("next").map(str::to_owned),
            newest,
            limit: query.number("limit")?,
            wait_ms: wait_ms.min(WAIT_MS_MAX),
            cut_bytes: query.number("cut_bytes")?,
        })
    }

    pub(crate) fn write(&self) -> String {
        let mut pairs = Vec::new();
        pairs.extend(self.partition.map(|partition| ("partition", partition.to_string())));
        pairs.extend(self.from.iter().map(|from| ("from", from.clone())));
        pairs.extend(self.next.iter().map(|next| ("next", next.clone())));
        pairs.extend(self.newest.then(|| ("order", "newest".to_owned())));
        pairs.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        pairs.extend((self.wait_ms > 0).then(|| ("wait_ms", self.wait_ms.to_string())));
        pairs.extend(self.cut_bytes.map(|bytes| ("cut_bytes", bytes.to_string())));
        query::write(pairs)
    }
}

/// A topic in one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// The log's own.
    pub internal: bool,
    /// How many partitions it has.
    pub partitions: u32,
    /// Messages between its first and its last offset; compaction may have taken some of them.
    pub messages: u64,
    /// What it takes on disk.
    pub bytes: Option<u64>,
    /// Messages that come.
    pub messages_in_per_second: Option<f64>,
    /// Bytes that come.
    pub bytes_in_per_second: Option<f64>,
    /// Bytes that are read.
    pub bytes_out_per_second: Option<f64>,
}

/// A topic with everything but its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicDetail {
    /// The row.
    pub topic: TopicView,
    /// By number.
    pub partitions: Vec<PartitionView>,
    /// By name.
    pub settings: Vec<SettingView>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: u32,
    /// Its first offset.
    pub start: u64,
    /// The offset that its next message gets.
    pub end: u64,
    /// What it takes on disk.
    pub bytes: Option<u64>,
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Nobody gave it to this topic.
    pub is_default: bool,
}

/// Some messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// In the order that was asked for; those of one partition by offset.
    pub messages: Vec<MessageView>,
    /// Where to go on, for `next`.
    pub next: String,
    /// Whether there was more at that moment.
    pub more: bool,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// The partition that it is in.
    pub partition: u32,
    /// And where there.
    pub offset: u64,
    /// Its time, to the millisecond.
    pub at: UnixNanos,
    /// Its key.
    pub key: Option<Data>,
    /// Its value; none deletes the key, in a topic that is compacted.
    pub value: Option<Data>,
    /// In their order.
    pub headers: Vec<HeaderView>,
}

/// A header of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<Data>,
}

/// Bytes as they can be shown; `MessageData` in the OpenAPI document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// `json`, `text`, or `hex` for what is neither.
    pub form: String,
    /// In that form, cut if asked for.
    pub text: String,
    /// How many bytes there are.
    pub bytes: u64,
    /// Not all of them are in `text`.
    pub cut: bool,
}

impl Data {
    /// Shows bytes in the form that fits, the first `most` of them if that is said.
    pub fn of(all: &[u8], most: Option<usize>) -> Data {
        let most = most.unwrap_or(usize::MAX);
        let cut = all.len() > most;
        let bytes = all.len() as u64;
        let shown = |form: &str, text: String| Data { form: form.to_owned(), text, bytes, cut };
        let is_plain =
            |text: &str| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
        match std::str::from_utf8(all) {
            Ok(text) if is_plain(text) => {
                let opens = text.trim_start().starts_with(['{', '[']);
                let is_json = opens && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
                let end = text.floor_char_boundary(most);
                shown(if is_json { "json" } else { "text" }, text[..end].to_owned())
            }
            _ => {
                let mut text = String::new();
                for byte in all.iter().take(most) {
                    text.push_str(&format!("{byte:02x}"));
                }
                shown("hex", text)
            }
        }
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// `classic`, `consumer` or `share`.
    pub kind: String,
    /// `Stable`, `Empty`, and what else the protocol has.
    pub state: String,
    /// How partitions are shared out; empty when that is not said.
    pub assignor: String,
    /// Who is in it.
    pub members: Vec<MemberView>,
    /// How far it is, by topic and partition.
    pub partitions: Vec<LagView>,
    /// Messages that it has not read, in all partitions where it said how far it is.
    pub lag: Option<u64>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// Its name, if it keeps one.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagView {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset that it reads next, if it said so; the first that a share group is not done with.
    pub committed: Option<u64>,
    /// The offset that the partition's next message gets; none when the partition is gone.
    pub end: Option<u64>,
    /// Messages that it has not read.
    pub lag: Option<u64>,
    /// The member that has the partition.
    pub member: Option<String>,
}

/// A change of an event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// Make a topic.
    CreateTopic {
        /// Its name.
        topic: String,
        /// How many partitions, as many as the log gives by default when absent.
        partitions: Option<u32>,
        /// Its settings.
        #[serde(default)]
        settings: BTreeMap<String, String>,
    },
    /// Delete a topic with all that is in it.
    DeleteTopic {
        /// Its name.
        topic: String,
    },
    /// Write messages.
    Produce {
        /// Into this topic.
        topic: String,
        /// Into this partition; by key when absent, or into any one.
        partition: Option<u32>,
        /// In this order within a partition.
        messages: Vec<NewMessage>,
    },
    /// Move a group that has no members.
    ResetGroup {
        /// Its name.
        group: String,
        /// In this topic.
        topic: String,
        /// In this partition only.
        partition: Option<u32>,
        /// `beginning`, `end`, an offset, or `time:` and Unix nanoseconds.
        to: String,
    },
}

/// A message to write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Its key.
    pub key: Option<String>,
    /// Its value; none deletes the key, in a topic that is compacted.
    pub value: Option<String>,
    /// Names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Where messages were written, or where a group is now.
    pub offsets: Vec<MovedView>,
}

/// An offset that a change gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedView {
    /// In this partition.
    pub partition: u32,
    /// Where the group was, if it was anywhere.
    pub before: Option<u64>,
    /// Where it is now, or the first message that was written.
    pub after: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_form_that_fits() {
        for (bytes, form, text) in [
            (&b"{\"a\": 1}"[..], "json", "{\"a\": 1}"),
            (b"[1,2]", "json", "[1,2]"),
            (b"{not json", "text", "{not json"),
            (b"17", "text", "17"),
            (b"", "text", ""),
            ("Gr\u{fc}n\n".as_bytes(), "text", "Gr\u{fc}n\n"),
            (b"\xff\x00", "hex", "ff00"),
            (b"a\x00", "hex", "6100"),
            (b"\x1b[2J", "hex", "1b5b324a"),
        ] {
            let shown = Data::of(bytes, None);
            assert_eq!((shown.form.as_str(), shown.text.as_str()), (form, text));
            assert_eq!((shown.bytes, shown.cut), (bytes.len() as u64, false));
        }
        let cut = Data::of("\u{fc}\u{fc}".as_bytes(), Some(3));
        assert_eq!((cut.text.as_str(), cut.bytes, cut.cut), ("\u{fc}", 4, true));
        assert_eq!(Data::of(b"\xff\xfe", Some(1)).text, "ff");
    }

    #[test]
    fn a_query_reads_back_as_written_and_odd_ones_are_refused() {
        let query = MessageQuery {
            partition: Some(3),
            from: Some("time:17".to_owned()),
            next: Some("0:1,2:3".to_owned()),
            newest: true,
            limit: Some(7),
            wait_ms: 100,
            cut_bytes: Some(9),
        };
        let read = |text: &str| MessageQuery::read(&Query::parse(text).unwrap());
        assert_eq!(read(&query.write()), Ok(query));
        assert_eq!(read(""), Ok(MessageQuery::default()));
        assert_eq!(read("wait_ms=99999999").unwrap().wait_ms, WAIT_MS_MAX);
        for bad in ["order=up", "partition=-1", "limit=x", "what=1"] {
            assert_eq!(read(bad).unwrap_err().code, "bad-query", "{bad}");
        }
    }
}
