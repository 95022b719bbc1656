//! Share groups, asked for over a socket.

use std::time::Duration;

use kafka_wire::share_acknowledge as acks;
use kafka_wire::share_fetch::{self as fetches, AcquiredRecords};
use kafka_wire::{
    Uuid, alter_share_group_offsets as alters, delete_groups,
    delete_share_group_offsets as deletes, describe_share_group_offsets as offsets,
    incremental_alter_configs as configs, list_groups, share_group_describe as describes,
    share_group_heartbeat as beats,
};

use crate::broker::{Broker, Client, batch};

const GROUP_ID_NOT_FOUND: i16 = 69;
const INVALID_CONFIG: i16 = 40;
const INVALID_RECORD_STATE: i16 = 121;
const INVALID_REQUEST: i16 = 42;
const INVALID_SHARE_SESSION_EPOCH: i16 = 123;
const NON_EMPTY_GROUP: i16 = 68;
const SHARE_SESSION_NOT_FOUND: i16 = 122;

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

fn join(client: &mut Client, group: &str, member: &str, topic: &str) -> beats::Response {
    let request = beats::Request {
        group_id: group.into(),
        member_id: member.into(),
        subscribed_topic_names: Some(vec![topic.into()]),
        ..beats::Request::default()
    };
    let answer = client.ask(&request, 1);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer
}

fn leave(client: &mut Client, group: &str, member: &str) {
    let request = beats::Request {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: -1,
        ..beats::Request::default()
    };
    assert_eq!(client.ask(&request, 1).error_code, 0);
}

/// A member with its session.
struct Member {
    group: &'static str,
    id: &'static str,
    topic: Uuid,
    epoch: i32,
}

type Said<'a> = &'a [(i64, i64, &'a [i8])];

impl Member {
    fn new(group: &'static str, id: &'static str, topic: Uuid) -> Member {
        Member { group, id, topic, epoch: 0 }
    }

    fn request(&mut self, records: i32, said: Said<'_>) -> fetches::Request {
        let batches = said.iter().map(|(first, last, types)| fetches::AcknowledgementBatch {
            first_offset: *first,
            last_offset: *last,
            acknowledge_types: types.to_vec(),
        });
        let partition = fetches::FetchPartition {
            partition_index: 0,
            acknowledgement_batches: batches.collect(),
        };
        let request = fetches::Request {
            group_id: Some(self.group.into()),
            member_id: Some(self.id.into()),
            share_session_epoch: self.epoch,
            max_records: records,
            max_bytes: 1 << 20,
            topics: vec![fetches::FetchTopic { topic_id: self.topic, partitions: vec![partition] }],
            ..fetches::Request::default()
        };
        self.epoch += 1;
        request
    }

    fn ask(&mut self, client: &mut Client, records: i32, said: Said<'_>) -> fetches::PartitionData {
        let request = self.request(records, said);
        let mut answer = client.ask(&request, 2);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        match answer.responses.pop() {
            Some(mut topic) => topic.partitions.remove(0),
            None => fetches::PartitionData::default(),
        }
    }

    /// Offsets that it gets, with how often they were delivered.
    fn take(&mut self, client: &mut Client, records: i32) -> Vec<(i64, i16)> {
        let data = self.ask(client, records, &[]);
        assert_eq!(data.error_code, 0, "{data:?}");
        each(&data.acquired_records)
    }

    fn say(&mut self, client: &mut Client, epoch: i32, said: Said<'_>) -> acks::Response {
        let batches = said.iter().map(|(first, last, types)| acks::AcknowledgementBatch {
            first_offset: *first,
            last_offset: *last,
            acknowledge_types: types.to_vec(),
        });
        let request = acks::Request {
            group_id: Some(self.group.into()),
            member_id: Some(self.id.into()),
            share_session_epoch: epoch,
            is_renew_ack: said.iter().any(|(_, _, types)| types.contains(&RENEW)),
            topics: vec![acks::AcknowledgeTopic {
                topic_id: self.topic,
                partitions: vec![acks::AcknowledgePartition {
                    partition_index: 0,
                    acknowledgement_batches: batches.collect(),
                }],
            }],
        };
        client.ask(&request, 2)
    }

    fn acknowledge(&mut self, client: &mut Client, said: Said<'_>) -> i16 {
        let answer = self.say(client, self.epoch, said);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.epoch += 1;
        answer.responses[0].partitions[0].error_code
    }
}

fn each(acquired: &[AcquiredRecords]) -> Vec<(i64, i16)> {
    let each = acquired.iter().flat_map(|one| {
        (one.first_offset..=one.last_offset).map(|offset| (offset, one.delivery_count))
    });
    each.collect()
}

fn once(offsets: std::ops::Range<i64>) -> Vec<(i64, i16)> {
    offsets.map(|offset| (offset, 1)).collect()
}

fn set(client: &mut Client, group: &str, settings: &[(&str, &str)]) -> i16 {
    let settings = settings.iter().map(|(name, value)| configs::AlterableConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..configs::AlterableConfig::default()
    });
    let resource = configs::AlterConfigsResource {
        resource_type: 32,
        resource_name: group.into(),
        configs: settings.collect(),
    };
    let request = configs::Request { resources: vec![resource], ..configs::Request::default() };
    client.ask(&request, 1).responses[0].error_code
}

/// Where a group is in the first partition, and how far behind.
fn progress(client: &mut Client, group: &str) -> Option<(i64, i64)> {
    let asked =
        offsets::DescribeShareGroupOffsetsRequestGroup { group_id: group.into(), topics: None };
    let mut answer = client.ask(&offsets::Request { groups: vec![asked] }, 1).groups.remove(0);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    let one = answer.topics.pop()?.partitions.remove(0);
    Some((one.start_offset, one.lag))
}

fn produce(client: &mut Client, topic: &str, values: &[&str]) {
    assert_eq!(client.produce(topic, 0, batch(1, values)).error_code, 0);
}

/// A topic of ten records, a group that begins with the first of them, and two members.
fn queue(client: &mut Client) -> (Member, Member) {
    let topic = client.create("jobs", 1);
    produce(client, "jobs", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(set(client, "g", &[("share.auto.offset.reset", "earliest")]), 0);
    for member in ["a", "b"] {
        let told = join(client, "g", member, "jobs");
        assert_eq!(told.heartbeat_interval_ms, 5000);
        let own = told.assignment.unwrap().topic_partitions.remove(0);
        assert_eq!((own.topic_id, own.partitions), (topic, vec![0]), "both have all of it");
    }
    (Member::new("g", "a", topic), Member::new("g", "b", topic))
}

#[test]
fn members_share_the_records_of_a_partition() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let (mut a, mut b) = queue(&mut client);
    let data = a.ask(&mut client, 4, &[]);
    assert_eq!(each(&data.acquired_records), once(0..4));
    assert!(data.records.len() > 61, "the batch that holds them");
    assert_eq!(b.take(&mut client, 100), once(4..10));
    assert_eq!(progress(&mut client, "g"), Some((0, 10)), "all are out, none is done");
    // One of each, and with the answer come the records that are free again.
    let said: Said<'_> = &[(0, 1, &[ACCEPT]), (2, 3, &[RELEASE, REJECT])];
    let data = a.ask(&mut client, 100, said);
    assert_eq!((data.acknowledge_error_code, data.error_code), (0, 0));
    assert_eq!(each(&data.acquired_records), [(2, 2)]);
    assert_eq!(progress(&mut client, "g"), Some((2, 7)));
    // Neither of what it does not have, nor twice, nor out of order, nor of an unknown kind; and of
    // what is refused nothing counts.
    let foreign = a.acknowledge(&mut client, &[(2, 2, &[ACCEPT]), (4, 4, &[ACCEPT])]);
    assert_eq!(foreign, INVALID_RECORD_STATE);
    let back: Said<'_> = &[(2, 2, &[ACCEPT]), (1, 1, &[ACCEPT])];
    assert_eq!(a.acknowledge(&mut client, back), INVALID_REQUEST);
    assert_eq!(a.acknowledge(&mut client, &[(2, 2, &[9])]), INVALID_REQUEST);
    assert_eq!(a.acknowledge(&mut client, &[(2, 2, &[RENEW])]), 0);
    assert_eq!(a.acknowledge(&mut client, &[(2, 2, &[ACCEPT])]), 0);
    assert_eq!(a.acknowledge(&mut client, &[(2, 2, &[ACCEPT])]), INVALID_RECORD_STATE);
    assert_eq!(b.acknowledge(&mut client, &[(4, 9, &[ACCEPT])]), 0);
    assert_eq!(progress(&mut client, "g"), Some((10, 0)));
    assert_eq!(a.take(&mut client, 100), []);
    broker.stop();
}

#[test]
fn a_session_goes_on_and_ends_as_the_protocol_says() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let (mut a, mut b) = queue(&mut client);
    assert_eq!(a.say(&mut client, 1, &[]).error_code, SHARE_SESSION_NOT_FOUND);
    let early = a.request(4, &[(0, 0, &[ACCEPT])]);
    assert_eq!(client.ask(&early, 2).error_code, INVALID_REQUEST, "it has nothing yet");
    a.epoch = 0;
    assert_eq!(a.take(&mut client, 4), once(0..4));
    assert_eq!(a.say(&mut client, 7, &[]).error_code, INVALID_SHARE_SESSION_EPOCH);
    assert_eq!(a.say(&mut client, 0, &[]).error_code, INVALID_SHARE_SESSION_EPOCH);
    // Its partitions are remembered, and forgotten when it says so.
    let mut next = a.request(2, &[]);
    next.topics.clear();
    let answer = client.ask(&next, 2);
    assert_eq!(each(&answer.responses[0].partitions[0].acquired_records), once(4..6));
    let mut next = a.request(2, &[]);
    next.topics.clear();
    next.forgotten_topics_data =
        vec![fetches::ForgottenTopic { topic_id: a.topic, partitions: vec![0] }];
    assert_eq!(client.ask(&next, 2).responses, []);
    // The last request of one says what it will, and gives back the rest.
    let said = a.say(&mut client, -1, &[(0, 1, &[ACCEPT])]);
    assert_eq!((said.error_code, said.responses[0].partitions[0].error_code), (0, 0));
    assert_eq!(a.say(&mut client, -1, &[]).error_code, SHARE_SESSION_NOT_FOUND);
    let first = b.take(&mut client, 100);
    assert_eq!(
        first,
        once(6..10),
        "it forgot the partition and has its records until they are late"
    );
    let nobody = beats::Request {
        group_id: "none".into(),
        member_id: "m".into(),
        member_epoch: 4,
        ..beats::Request::default()
    };
    assert_eq!(client.ask(&nobody, 1).error_code, GROUP_ID_NOT_FOUND);
    let mut stranger = Member::new("none", "m", a.topic);
    let request = stranger.request(1, &[]);
    assert_eq!(client.ask(&request, 2).error_code, GROUP_ID_NOT_FOUND);
    broker.stop();
}

#[test]
fn who_hangs_up_or_begins_anew_gives_back_what_it_has() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let (mut a, mut b) = queue(&mut client);
    let mut other = broker.connect();
    assert_eq!(a.take(&mut other, 4), once(0..4));
    a.epoch = 0;
    assert_eq!(a.take(&mut other, 2), [(0, 2), (1, 2)]);
    // Somebody waits when the connection ends, and gets what was out.
    assert_eq!(b.take(&mut client, 100).len(), 8);
    let mut waits = b.request(100, &[]);
    (waits.max_wait_ms, waits.min_bytes) = (60_000, 1);
    client.send(&kafka_wire::frame_request(&waits, 2, 8, "tests").unwrap());
    drop(other);
    let answer = client.answer::<fetches::Request>(2, 8);
    assert_eq!(each(&answer.responses[0].partitions[0].acquired_records), [(0, 3), (1, 3)]);
    broker.stop();
}

#[test]
fn what_takes_too_long_comes_again_until_it_is_given_up() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let (mut a, mut b) = queue(&mut client);
    assert_eq!(set(&mut client, "g", &[("share.delivery.count.limit", "2")]), 0);
    assert_eq!(a.take(&mut client, 2), once(0..2));
    assert_eq!(b.take(&mut client, 100), once(2..10));
    broker.clock().advance(Duration::from_secs(31));
    assert_eq!(a.acknowledge(&mut client, &[(0, 1, &[ACCEPT])]), INVALID_RECORD_STATE, "too late");
    assert_eq!(b.take(&mut client, 3), [(0, 2), (1, 2), (2, 2)]);
    broker.clock().advance(Duration::from_secs(31));
    // Three were delivered twice, which is as often as they are.
    let rest: Vec<_> = (3..10).map(|offset| (offset, 2)).collect();
    assert_eq!(a.take(&mut client, 100), rest);
    assert_eq!(progress(&mut client, "g"), Some((3, 7)));
    broker.stop();
}

#[test]
fn what_is_given_up_goes_to_a_topic_of_its_own() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let (mut a, _) = queue(&mut client);
    let name = "errors.deadletterqueue.topic.name";
    assert_eq!(set(&mut client, "g", &[(name, "jobs")]), INVALID_CONFIG, "not any topic");
    let copy = ("errors.deadletterqueue.copy.record.enable", "true");
    assert_eq!(set(&mut client, "g", &[(name, "dlq.jobs"), copy]), 0);
    assert!(client.topics().contains(&"dlq.jobs".to_owned()));
    assert_eq!(a.take(&mut client, 3), once(0..3));
    assert_eq!(a.acknowledge(&mut client, &[(0, 2, &[ACCEPT, REJECT, ACCEPT])]), 0);
    let found = client.fetch("dlq.jobs", 0, 0);
    assert_eq!(found.high_watermark, 1);
    let text = String::from_utf8_lossy(found.records.as_ref().unwrap()).into_owned();
    for said in ["__dlq.errors.topic", "jobs", "__dlq.errors.offset", "__dlq.errors.group"] {
        assert!(text.contains(said), "{said} in {text:?}");
    }
    broker.stop();
}

#[test]
fn a_group_is_described_moved_and_deleted() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let (mut a, _) = queue(&mut client);
    assert_eq!(a.take(&mut client, 4), once(0..4));
    assert_eq!(a.acknowledge(&mut client, &[(0, 3, &[ACCEPT])]), 0);
    let asked = describes::Request { group_ids: vec!["g".into(), "x".into()], ..<_>::default() };
    let mut told = client.ask(&asked, 1).groups;
    assert_eq!(told.pop().unwrap().error_code, GROUP_ID_NOT_FOUND);
    let told = told.remove(0);
    assert_eq!((&*told.group_state, &*told.assignor_name), ("Stable", "simple"));
    let own = |member: &describes::Member| member.assignment.topic_partitions[0].partitions.clone();
    assert_eq!(told.members.iter().map(own).collect::<Vec<_>>(), [[0], [0]]);
    let listed = client.ask(&list_groups::Request::default(), 5).groups.remove(0);
    assert_eq!((&*listed.group_id, &*listed.group_type), ("g", "share"));
    let to = |start_offset: i64| alters::Request {
        group_id: "g".into(),
        topics: vec![alters::AlterShareGroupOffsetsRequestTopic {
            topic_name: "jobs".into(),
            partitions: vec![alters::AlterShareGroupOffsetsRequestPartition {
                partition_index: 0,
                start_offset,
            }],
        }],
    };
    assert_eq!(client.ask(&to(1), 0).error_code, NON_EMPTY_GROUP);
    for member in ["a", "b"] {
        leave(&mut client, "g", member);
    }
    let moved = client.ask(&to(1), 0);
    assert_eq!((moved.error_code, moved.responses[0].partitions[0].error_code), (0, 0));
    assert_eq!(progress(&mut client, "g"), Some((1, 9)));
    join(&mut client, "g", "c", "jobs");
    let mut c = Member::new("g", "c", a.topic);
    assert_eq!(c.take(&mut client, 100), once(1..10));
    leave(&mut client, "g", "c");
    let forget = deletes::Request {
        group_id: "g".into(),
        topics: vec![deletes::DeleteShareGroupOffsetsRequestTopic { topic_name: "jobs".into() }],
    };
    let forgotten = client.ask(&forget, 0);
    assert_eq!((forgotten.error_code, forgotten.responses[0].error_code), (0, 0));
    assert_eq!(progress(&mut client, "g"), None);
    let delete = delete_groups::Request { groups_names: vec!["g".into()] };
    assert_eq!(client.ask(&delete, 2).results[0].error_code, 0);
    assert_eq!(client.ask(&list_groups::Request::default(), 5).groups, []);
    broker.stop();
}
