//! A made-up event log: topics whose messages follow from their offsets, and two groups.

use base::{Clock, Problem, SystemClock, UnixNanos};
use console::event_log::{
    Answer, Ask, Change, Changed, Data, GroupView, HeaderView, LagView, MemberView, MessagePage,
    MessageQuery, MessageView, MovedView, PartitionView, SettingView, TopicDetail, TopicView,
};

/// Name, partitions, messages in each, messages that come in a second.
const TOPICS: &[(&str, u32, u64, f64)] = &[
    ("clicks", 6, 48_210, 214.0),
    ("orders", 3, 1_204, 3.2),
    ("orders.dead-letters", 1, 2, 0.0),
    ("thumbnails", 2, 310, 0.4),
];

const MILLI: u64 = 1_000_000;

/// What the log answers; there is none without an app.
pub(crate) fn answer(ask: Ask, empty: bool) -> Result<Answer, Problem> {
    if let Ask::Services = ask {
        let log = "kafka".parse().map_err(|_| none("service `kafka`"))?;
        return Ok(Answer::Services(if empty { vec![] } else { vec![log] }));
    }
    if empty {
        return Err(Problem::new("no-event-log", "this app has no event log")
            .with_next("add a service with the image apache/kafka"));
    }
    Ok(match ask {
        Ask::Services | Ask::Topics => Answer::Topics(TOPICS.iter().map(view).collect()),
        Ask::Topic(name) => {
            let topic = find(&name)?;
            let setting = |name: &str, value: &str, is_default| SettingView {
                name: name.to_owned(),
                value: Some(value.to_owned()),
                is_default,
            };
            Answer::Topic(TopicDetail {
                topic: view(topic),
                partitions: (0..topic.1).map(|at| partition(topic, at)).collect(),
                settings: vec![
                    setting("cleanup.policy", "delete", true),
                    setting("max.message.bytes", "1048588", true),
                    setting("retention.ms", "86400000", false),
                ],
            })
        }
        Ask::Messages(name, query) => Answer::Messages(page(find(&name)?, &query)?),
        Ask::Groups => Answer::Groups(groups()),
        Ask::Group(name) => {
            let found = groups().into_iter().find(|group| group.name == name);
            Answer::Group(found.ok_or_else(|| none(&format!("group `{name}`")))?)
        }
        Ask::Change(Change::ResetGroup { group, .. }) if group == "mailer" => {
            return Err(Problem::new("group-active", "group `mailer` has members")
                .with_cause("mailer at 127.64.1.7")
                .with_next("stop them first: ms stop mailer"));
        }
        Ask::Change(_) => {
            let offsets = vec![MovedView { partition: 0, before: None, after: 1 }];
            Answer::Changed(Changed { offsets })
        }
    })
}

type Topic = (&'static str, u32, u64, f64);

fn none(what: &str) -> Problem {
    Problem::new("not-found", format!("there is no {what}")).with_next("ms events topics")
}

fn find(name: &str) -> Result<&'static Topic, Problem> {
    TOPICS.iter().find(|topic| topic.0 == name).ok_or_else(|| none(&format!("topic `{name}`")))
}

fn view(topic: &Topic) -> TopicView {
    TopicView {
        name: topic.0.to_owned(),
        internal: false,
        partitions: topic.1,
        messages: u64::from(topic.1) * topic.2,
        bytes: Some(u64::from(topic.1) * topic.2 * 310),
        messages_in_per_second: Some(topic.3),
        bytes_in_per_second: Some(topic.3 * 310.0),
        bytes_out_per_second: Some(topic.3 * 620.0),
    }
}

fn partition(topic: &Topic, partition: u32) -> PartitionView {
    PartitionView { partition, start: 0, end: topic.2, bytes: Some(topic.2 * 310) }
}

fn message(topic: &Topic, partition: u32, offset: u64) -> MessageView {
    let number = offset * u64::from(topic.1) + u64::from(partition);
    let ago = (topic.2 * u64::from(topic.1) - number) * 310 * MILLI;
    let value = match number % 7 {
        6 if topic.0 == "thumbnails" => vec![0xff, 0xd8, 0xff, 0xe0, 0x00, 0x10],
        5 => format!("retry {number}: the printer is out of paper").into_bytes(),
        _ => format!(
            "{{\"id\": {number}, \"game\": \"pinball\", \"score\": {}, \"player\": {{\"name\": \"ada\"}}}}",
            number * 37 % 9_000
        )
        .into_bytes(),
    };
    let header = HeaderView {
        name: "traceparent".to_owned(),
        value: Some(Data::of(format!("00-{number:032x}-01").as_bytes(), None)),
    };
    MessageView {
        partition,
        offset,
        at: UnixNanos(SystemClock.now().0.saturating_sub(ago) / MILLI * MILLI),
        key: (number % 4 != 3)
            .then(|| Data::of(format!("player-{}", number % 40).as_bytes(), None)),
        value: (!number.is_multiple_of(29)).then(|| Data::of(&value, Some(4096))),
        headers: if number.is_multiple_of(3) { vec![header] } else { vec![] },
    }
}

/// Partition by partition, since the made-up times are in that order.
fn page(topic: &Topic, query: &MessageQuery) -> Result<MessagePage, Problem> {
    let all: Vec<u32> =
        (0..topic.1).filter(|at| query.partition.is_none_or(|wanted| wanted == *at)).collect();
    let count = all.len() as u64;
    let first = query.next.as_deref().and_then(|next| next.parse::<u64>().ok());
    let from = match query.from.as_deref() {
        _ if first.is_some() => first.unwrap_or_default(),
        Some("beginning") => 0,
        Some("end") => topic.2 * count,
        Some(offset) => offset.parse().unwrap_or(topic.2).min(topic.2) * count,
        None if query.newest => topic.2 * count,
        None => 0,
    };
    let limit = query.limit() as u64;
    let (range, next) = match query.newest {
        true => (from.saturating_sub(limit)..from, from.saturating_sub(limit)),
        false => (from..(from + limit).min(topic.2 * count), (from + limit).min(topic.2 * count)),
    };
    let one = |at: u64| {
        let partition = all[usize::try_from(at % count).unwrap_or(0)];
        message(topic, partition, at / count)
    };
    let mut messages: Vec<MessageView> = range.map(one).collect();
    if query.newest {
        messages.reverse();
    }
    let more = if query.newest { next > 0 } else { next < topic.2 * count };
    Ok(MessagePage { messages, next: next.to_string(), more })
}

fn groups() -> Vec<GroupView> {
    let lag = |topic: &str, partition, committed, end, member: Option<&str>| LagView {
        topic: topic.to_owned(),
        partition,
        committed,
        end: Some(end),
        lag: committed.map(|committed| end - committed),
        member: member.map(str::to_owned),
    };
    let member = |id: &str, host: &str, partitions| MemberView {
        id: id.to_owned(),
        instance: None,
        client: "mailer".to_owned(),
        host: host.to_owned(),
        partitions,
    };
    vec![
        GroupView {
            name: "mailer".to_owned(),
            kind: "classic".to_owned(),
            state: "Stable".to_owned(),
            assignor: "range".to_owned(),
            members: vec![
                member("mailer-1-7f3a", "127.64.1.7", 2),
                member("mailer-2-91c0", "127.64.1.8", 1),
            ],
            partitions: vec![
                lag("orders", 0, Some(1_204), 1_204, Some("mailer-1-7f3a")),
                lag("orders", 1, Some(1_190), 1_204, Some("mailer-1-7f3a")),
                lag("orders", 2, None, 1_204, Some("mailer-2-91c0")),
            ],
            lag: Some(14),
        },
        GroupView {
            name: "nightly/report".to_owned(),
            kind: "consumer".to_owned(),
            state: "Empty".to_owned(),
            assignor: "uniform".to_owned(),
            members: vec![],
            partitions: vec![lag("clicks", 0, Some(30_000), 48_210, None)],
            lag: Some(18_210),
        },
    ]
}
