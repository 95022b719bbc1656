//! What is in an event log, as tables.

use base::units::show_bytes;
use console::event_log::{Changed, GroupView, TopicDetail, TopicView};

use super::super::show::rate;
use super::super::style::clean;
use super::super::table::{numbers, table, words};

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), show_bytes)
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, not negative")]
fn bytes_per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| show_bytes(rate.max(0.0) as u64))
}

pub(super) fn topics(topics: &[TopicView], color: bool, width: Option<usize>) -> String {
    let heads = [
        words("TOPIC"),
        numbers("PARTITIONS"),
        numbers("MESSAGES"),
        numbers("SIZE"),
        numbers("IN/S"),
        numbers("BYTES IN/S"),
        numbers("BYTES OUT/S"),
    ];
    let row = |topic: &TopicView| {
        vec![
            topic.name.clone(),
            topic.partitions.to_string(),
            topic.messages.to_string(),
            size(topic.bytes),
            topic.messages_in_per_second.map_or_else(|| "-".to_owned(), rate),
            bytes_per_second(topic.bytes_in_per_second),
            bytes_per_second(topic.bytes_out_per_second),
        ]
    };
    table(&heads, &topics.iter().map(row).collect::<Vec<_>>(), color, width)
}

pub(super) fn partitions(detail: &TopicDetail, color: bool, width: Option<usize>) -> String {
    let heads = [
        numbers("PARTITION"),
        numbers("FIRST"),
        numbers("NEXT"),
        numbers("MESSAGES"),
        numbers("SIZE"),
    ];
    let rows = detail.partitions.iter().map(|partition| {
        vec![
            partition.partition.to_string(),
            partition.start.to_string(),
            partition.end.to_string(),
            partition.end.saturating_sub(partition.start).to_string(),
            size(partition.bytes),
        ]
    });
    table(&heads, &rows.collect::<Vec<_>>(), color, width)
}

pub(super) fn groups(groups: &[GroupView], color: bool, width: Option<usize>) -> String {
    let heads = [
        words("GROUP"),
        words("STATE"),
        words("KIND"),
        numbers("MEMBERS"),
        numbers("LAG"),
        words("TOPICS"),
    ];
    let row = |group: &GroupView| {
        let mut topics: Vec<&str> = group.partitions.iter().map(|one| &*one.topic).collect();
        topics.dedup();
        vec![
            clean(&group.name, false),
            group.state.clone(),
            group.kind.clone(),
            group.members.len().to_string(),
            number(group.lag),
            topics.join(", "),
        ]
    };
    table(&heads, &groups.iter().map(row).collect::<Vec<_>>(), color, width)
}

/// `billing: Stable, classic, range; 2 members, lag 14`.
pub(super) fn group(group: &GroupView) -> String {
    let assignor = if group.assignor.is_empty() { "" } else { ", " };
    let members = match group.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let lag = group.lag.map_or_else(String::new, |lag| format!(", lag {lag}"));
    let (name, state) = (clean(&group.name, false), &group.state);
    format!("{name}: {state}, {}{assignor}{}; {members}{lag}", group.kind, group.assignor)
}

pub(super) fn members(group: &GroupView, color: bool, width: Option<usize>) -> String {
    let heads =
        [words("MEMBER"), words("CLIENT"), words("HOST"), words("INSTANCE"), numbers("PARTITIONS")];
    let rows = group.members.iter().map(|member| {
        vec![
            clean(&member.id, false),
            clean(&member.client, false),
            clean(&member.host, false),
            member.instance.as_deref().map(|name| clean(name, false)).unwrap_or_default(),
            member.partitions.to_string(),
        ]
    });
    table(&heads, &rows.collect::<Vec<_>>(), color, width)
}

pub(super) fn lags(group: &GroupView, color: bool, width: Option<usize>) -> String {
    let heads = [
        words("TOPIC"),
        numbers("PARTITION"),
        numbers("COMMITTED"),
        numbers("NEXT"),
        numbers("LAG"),
        words("MEMBER"),
    ];
    let rows = group.partitions.iter().map(|lag| {
        vec![
            lag.topic.clone(),
            lag.partition.to_string(),
            number(lag.committed),
            number(lag.end),
            number(lag.lag),
            lag.member.as_deref().map(|member| clean(member, false)).unwrap_or_default(),
        ]
    });
    table(&heads, &rows.collect::<Vec<_>>(), color, width)
}

pub(super) fn moved(changed: &Changed, color: bool, width: Option<usize>) -> String {
    let heads = [numbers("PARTITION"), numbers("WAS"), numbers("IS")];
    let rows = changed.offsets.iter().map(|moved| {
        vec![moved.partition.to_string(), number(moved.before), moved.after.to_string()]
    });
    table(&heads, &rows.collect::<Vec<_>>(), color, width)
}
