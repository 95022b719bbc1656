//! Consumer groups whose members are told what is theirs, asked for over a socket.

use bytes::Bytes;
use kafka_wire::consumer_protocol_assignment::{self, ConsumerProtocolAssignment};
use kafka_wire::consumer_protocol_subscription::ConsumerProtocolSubscription;
use kafka_wire::{
    Codec, Reader, Str, Uuid, Writer, consumer_group_describe as describes,
    consumer_group_heartbeat as beats, delete_groups, describe_groups, heartbeat, join_group,
    list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};

use crate::broker::{Broker, Client};

const FENCED_MEMBER_EPOCH: i16 = 110;
const GROUP_ID_NOT_FOUND: i16 = 69;
const ILLEGAL_GENERATION: i16 = 22;
const REBALANCE_IN_PROGRESS: i16 = 27;
const INVALID_REGULAR_EXPRESSION: i16 = 128;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const STALE_MEMBER_EPOCH: i16 = 113;
const UNKNOWN_MEMBER_ID: i16 = 25;
const UNSUPPORTED_ASSIGNOR: i16 = 112;
const UNSUPPORTED_VERSION: i16 = 35;

fn join(group: &str, member: &str, topics: &[&str]) -> beats::Request {
    beats::Request {
        group_id: group.into(),
        member_id: member.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|name| (*name).into()).collect()),
        topic_partitions: Some(Vec::new()),
        ..beats::Request::default()
    }
}

fn beat(group: &str, member: &str, epoch: i32) -> beats::Request {
    beats::Request {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..beats::Request::default()
    }
}

fn own(response: &beats::Response) -> Vec<i32> {
    let assignment = response.assignment.as_ref().expect("something was told");
    assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect()
}

fn owns(topic: Uuid, partitions: &[i32]) -> Option<Vec<beats::TopicPartitions>> {
    Some(vec![beats::TopicPartitions { topic_id: topic, partitions: partitions.to_vec() }])
}

/// Asks until the answer is as it should be: a group takes notice of topics in its own time.
fn until(
    client: &mut Client,
    request: &beats::Request,
    fits: impl Fn(&beats::Response) -> bool,
) -> beats::Response {
    for _ in 0..600 {
        let answer = client.ask(request, 1);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        if fits(&answer) {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it never came");
}

fn commit(group: &str, member: &str, epoch: i32, topic: Uuid) -> offset_commit::Request {
    let partition = offset_commit::OffsetCommitRequestPartition {
        committed_offset: 5,
        committed_leader_epoch: -1,
        ..offset_commit::OffsetCommitRequestPartition::default()
    };
    offset_commit::Request {
        group_id: group.into(),
        member_id: member.into(),
        generation_id_or_member_epoch: epoch,
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: "t".into(),
            topic_id: topic,
            partitions: vec![partition],
        }],
        ..offset_commit::Request::default()
    }
}

fn committed(client: &mut Client, request: &offset_commit::Request, version: i16) -> i16 {
    let mut request = request.clone();
    let topic = &mut request.topics[0];
    match version >= 10 {
        true => topic.name = Str::default(),
        false => topic.topic_id = Uuid::ZERO,
    }
    client.ask(&request, version).topics[0].partitions[0].error_code
}

fn fetched(client: &mut Client, member: Option<&str>, epoch: i32, topic: Uuid) -> (i16, i64) {
    let request = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: member.map(Into::into),
            member_epoch: epoch,
            topics: Some(vec![offset_fetch::OffsetFetchRequestTopics {
                topic_id: topic,
                partition_indexes: vec![0],
                ..offset_fetch::OffsetFetchRequestTopics::default()
            }]),
        }],
        ..offset_fetch::Request::default()
    };
    let group = client.ask(&request, 10).groups.remove(0);
    let offset = group.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
    (group.error_code, offset)
}

fn described(client: &mut Client, group: &str) -> describes::DescribedGroup {
    let request = describes::Request { group_ids: vec![group.into()], ..<_>::default() };
    client.ask(&request, 1).groups.remove(0)
}

fn listed(client: &mut Client, group: &str) -> Option<(String, String, String)> {
    let all = client.ask(&list_groups::Request::default(), 5).groups;
    let found = all.into_iter().find(|one| one.group_id == group)?;
    let text = |text: Str| text.to_string();
    Some((text(found.group_type), text(found.protocol_type), text(found.group_state)))
}

fn leave(client: &mut Client, group: &str, member: &str) {
    let left = client.ask(&beat(group, member, -1), 1);
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
}

fn delete(client: &mut Client, group: &str) -> i16 {
    let request = delete_groups::Request { groups_names: vec![group.into()] };
    client.ask(&request, 2).results[0].error_code
}

#[test]
fn a_heartbeat_without_sense_is_refused() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("t", 1);
    let mut code = |change: &dyn Fn(&mut beats::Request), version: i16| {
        let mut request = join("refused", "m", &["t"]);
        change(&mut request);
        let answer = client.ask(&request, version);
        assert!(answer.error_message.is_some(), "{answer:?}");
        answer.error_code
    };
    assert_eq!(code(&|it| it.group_id = "".into(), 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.member_id = "".into(), 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.instance_id = Some("".into()), 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.rack_id = Some("".into()), 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.rebalance_timeout_ms = -1, 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.topic_partitions = None, 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.topic_partitions = owns(Uuid([1; 16]), &[0]), 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.subscribed_topic_names = None, 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.member_epoch = -2, 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.member_epoch = -3, 1), INVALID_REQUEST);
    assert_eq!(code(&|it| it.server_assignor = Some("mine".into()), 1), UNSUPPORTED_ASSIGNOR);
    let pattern = |pattern: &'static str| {
        move |it: &mut beats::Request| it.subscribed_topic_regex = Some(pattern.into())
    };
    assert_eq!(code(&pattern("a)|(b"), 1), INVALID_REGULAR_EXPRESSION);
    assert_eq!(code(&pattern("("), 1), INVALID_REGULAR_EXPRESSION);
    assert_eq!(code(&|it| it.member_epoch = 3, 1), GROUP_ID_NOT_FOUND);
    assert_eq!(code(&|it| it.member_epoch = -1, 1), GROUP_ID_NOT_FOUND);
    assert_eq!(listed(&mut client, "refused"), None, "nothing came of it");
    broker.stop();
}

#[test]
fn a_pattern_that_takes_too_much_is_refused() {
    let broker = Broker::start();
    let mut client = broker.connect();
    for pattern in ["x".repeat(5000), "(((a{1,100}){1,100}){1,100}){1,100}".to_owned()] {
        let mut request = join("large", "m", &[]);
        request.subscribed_topic_regex = Some(pattern.into());
        assert_eq!(client.ask(&request, 1).error_code, INVALID_REGULAR_EXPRESSION);
    }
    broker.stop();
}

#[test]
fn two_members_share_commit_and_leave() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let topic = client.create("t", 4);
    let first = until(&mut client, &join("g", "a", &["t"]), |told| !own(told).is_empty());
    assert_eq!((first.member_id.as_deref(), own(&first)), (Some("a"), vec![0, 1, 2, 3]));
    assert_eq!(first.heartbeat_interval_ms, 5000);
    let epoch = first.member_epoch;
    let second = client.ask(&join("g", "b", &["t"]), 1);
    assert_eq!((second.member_epoch, own(&second)), (epoch + 1, vec![]));
    let is = |state: &str| Some(("consumer".into(), "consumer".into(), state.to_owned()));
    assert_eq!(
        listed(&mut client, "g").map(|one| (one.0.to_lowercase(), one.1, one.2)),
        is("Reconciling")
    );
    let mut one = beat("g", "a", epoch);
    one.topic_partitions = owns(topic, &[0, 1, 2, 3]);
    let kept = own(&client.ask(&one, 1));
    assert_eq!(kept.len(), 2);
    one.topic_partitions = owns(topic, &kept);
    assert_eq!(client.ask(&one, 1).member_epoch, epoch + 1);
    let got = until(&mut client, &beat("g", "b", epoch + 1), |told| told.assignment.is_some());
    assert!(own(&got).iter().all(|one| !kept.contains(one)) && own(&got).len() == 2);
    assert_eq!(listed(&mut client, "g").unwrap().2, "Stable");

    let code = |client: &mut Client, member: &str, at: i32, version: i16| {
        committed(client, &commit("g", member, at, topic), version)
    };
    for version in [9, 10] {
        assert_eq!(code(&mut client, "a", epoch, version), STALE_MEMBER_EPOCH);
        assert_eq!(code(&mut client, "a", epoch + 2, version), STALE_MEMBER_EPOCH);
        assert_eq!(code(&mut client, "c", epoch, version), UNKNOWN_MEMBER_ID);
        assert_eq!(code(&mut client, "", -1, version), UNKNOWN_MEMBER_ID, "there are members");
        assert_eq!(code(&mut client, "a", epoch + 1, version), 0);
    }
    assert_eq!(code(&mut client, "a", epoch + 1, 8), UNSUPPORTED_VERSION);
    assert_eq!(fetched(&mut client, None, -1, topic), (0, 5));
    assert_eq!(fetched(&mut client, Some("b"), epoch + 1, topic), (0, 5));
    assert_eq!(fetched(&mut client, Some("b"), epoch, topic), (STALE_MEMBER_EPOCH, -1));
    assert_eq!(fetched(&mut client, Some("c"), epoch, topic), (UNKNOWN_MEMBER_ID, -1));

    let told = described(&mut client, "g");
    assert_eq!(
        (told.error_code, &*told.group_state, &*told.assignor_name),
        (0, "Stable", "uniform")
    );
    assert_eq!((told.group_epoch, told.assignment_epoch), (epoch + 1, epoch + 1));
    assert_eq!(told.members.len(), 2);
    for member in &told.members {
        assert_eq!((member.member_epoch, member.member_type), (epoch + 1, 1));
        assert_eq!(member.subscribed_topic_names, ["t"]);
        assert_eq!(&*member.assignment.topic_partitions[0].topic_name, "t");
        assert_eq!(member.assignment.topic_partitions[0].partitions.len(), 2);
        assert_eq!(member.target_assignment.topic_partitions[0].topic_id, topic);
    }
    let request = describe_groups::Request { groups: vec!["g".into()], ..<_>::default() };
    assert_eq!(client.ask(&request, 6).groups[0].error_code, GROUP_ID_NOT_FOUND);
    assert_eq!(&*client.ask(&request, 5).groups[0].group_state, "Dead");

    let forget = offset_delete::Request {
        group_id: "g".into(),
        topics: vec![offset_delete::OffsetDeleteRequestTopic {
            name: "t".into(),
            partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let code = client.ask(&forget, 0).topics[0].partitions[0].error_code;
    assert_eq!(code, 86, "GROUP_SUBSCRIBED_TO_TOPIC");
    assert_eq!(delete(&mut client, "g"), NON_EMPTY_GROUP);
    assert_eq!(client.ask(&beat("g", "a", epoch + 5), 1).error_code, FENCED_MEMBER_EPOCH);
    leave(&mut client, "g", "a");
    assert_eq!(client.ask(&beat("g", "a", epoch + 1), 1).error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(own(&client.ask(&beat("g", "b", epoch + 1), 1)), [0, 1, 2, 3]);
    leave(&mut client, "g", "b");
    assert_eq!(listed(&mut client, "g").unwrap().2, "Empty");
    assert_eq!(committed(&mut client, &commit("g", "", -1, topic), 9), 0, "nobody is there");
    assert_eq!(delete(&mut client, "g"), 0);
    assert_eq!((listed(&mut client, "g"), delete(&mut client, "g")), (None, GROUP_ID_NOT_FOUND));
    assert_eq!(described(&mut client, "g").error_code, GROUP_ID_NOT_FOUND);
    assert_eq!(fetched(&mut client, None, -1, topic), (0, -1));
    broker.stop();
}

#[test]
fn a_pattern_takes_topics_that_fit_as_they_come() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("logs-a", 2);
    client.create("old-logs-a", 2);
    let mut request = join("p", "m", &[]);
    request.subscribed_topic_names = None;
    request.subscribed_topic_regex = Some("logs-.".into());
    let first = client.ask(&request, 1);
    let epoch = until(&mut client, &beat("p", "m", first.member_epoch), |told| {
        own(first.assignment.as_ref().map_or(told, |_| &first)).len() == 2
            || told.assignment.is_some()
    });
    let more = client.create("logs-b", 3);
    let told =
        until(&mut client, &beat("p", "m", epoch.member_epoch), |told| told.assignment.is_some());
    assert_eq!(own(&told).len(), 5);
    assert!(told.assignment.unwrap().topic_partitions.iter().any(|one| one.topic_id == more));
    let member = described(&mut client, "p").members.remove(0);
    assert_eq!(member.subscribed_topic_regex.as_deref(), Some("logs-."));
    broker.stop();
}

#[test]
fn the_first_version_gives_ids() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("t", 1);
    let told = client.ask(&join("v0", "", &["t"]), 0);
    assert_eq!(told.error_code, 0);
    let id = told.member_id.unwrap();
    assert!(!id.is_empty());
    assert_eq!(client.ask(&beat("v0", &id, told.member_epoch), 0).error_code, 0);
    broker.stop();
}

/// A group without members is of the kind of whoever comes first.
#[test]
fn an_empty_group_may_be_of_the_other_kind_next() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let topic = client.create("t", 1);
    let told = client.ask(&join("k", "m", &["t"]), 1);
    leave(&mut client, "k", "m");
    let protocol =
        join_group::JoinGroupRequestProtocol { name: "range".into(), metadata: <_>::default() };
    let classic = join_group::Request {
        group_id: "k".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..join_group::Request::default()
    };
    let joined = client.ask(&classic, 3);
    assert_eq!(joined.error_code, 0);
    assert_eq!(listed(&mut client, "k").unwrap().0.to_lowercase(), "classic");
    assert!(joined.generation_id >= told.member_epoch);
    let request = kafka_wire::leave_group::Request {
        group_id: "k".into(),
        member_id: joined.member_id,
        ..<_>::default()
    };
    assert_eq!(client.ask(&request, 2).error_code, 0);
    assert_eq!(committed(&mut client, &commit("k", "", -1, topic), 9), 0);
    let told = client.ask(&join("k", "m", &["t"]), 1);
    assert_eq!((told.error_code, told.member_epoch > joined.generation_id), (0, true));
    assert_eq!(listed(&mut client, "k").unwrap().0.to_lowercase(), "consumer");
    broker.stop();
}

/// What is said to a leader, or by one, after its version.
fn spoken(version: i16, said: &impl Codec) -> Bytes {
    let mut out = Writer::new();
    said.encode(&mut out, version).unwrap();
    [&version.to_be_bytes()[..], &out.into_bytes()].concat().into()
}

fn shared_out(bytes: &Bytes) -> Vec<i32> {
    let mut reader = Reader::new(bytes.slice(2..));
    let version = i16::from_be_bytes([bytes[0], bytes[1]]);
    let given = ConsumerProtocolAssignment::decode(&mut reader, version).unwrap();
    given.assigned_partitions.into_iter().flat_map(|one| one.partitions).collect()
}

fn join_alike(client: &mut Client, member: &str) -> join_group::Response {
    let said = ConsumerProtocolSubscription { topics: vec!["t".into()], ..<_>::default() };
    let (name, metadata) = ("range".into(), spoken(1, &said));
    let request = join_group::Request {
        group_id: "mix".into(),
        member_id: member.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol { name, metadata }],
        ..join_group::Request::default()
    };
    client.ask(&request, 5)
}

fn sync_alike(
    client: &mut Client,
    member: &str,
    generation: i32,
    given: &[i32],
) -> (i16, Vec<i32>) {
    let topic = consumer_protocol_assignment::TopicPartition {
        topic: "t".into(),
        partitions: given.to_vec(),
    };
    let given = ConsumerProtocolAssignment { assigned_partitions: vec![topic], ..<_>::default() };
    let one = sync_group::SyncGroupRequestAssignment {
        member_id: member.into(),
        assignment: spoken(1, &given),
    };
    let request = sync_group::Request {
        group_id: "mix".into(),
        member_id: member.into(),
        generation_id: generation,
        assignments: vec![one],
        ..sync_group::Request::default()
    };
    let answer = client.ask(&request, 3);
    (
        answer.error_code,
        if answer.error_code == 0 { shared_out(&answer.assignment) } else { vec![] },
    )
}

fn beat_alike(client: &mut Client, member: &str, generation: i32) -> i16 {
    let request = heartbeat::Request {
        group_id: "mix".into(),
        member_id: member.into(),
        generation_id: generation,
        ..heartbeat::Request::default()
    };
    client.ask(&request, 3).error_code
}

/// A member that is told joins one that shares out, and goes again.
#[test]
fn a_group_changes_its_kind_while_it_is_in_use() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let topic = client.create("t", 4);
    let id = join_alike(&mut client, "").member_id.to_string();
    let alone = join_alike(&mut client, &id);
    assert_eq!((alone.error_code, alone.leader.as_str()), (0, id.as_str()));
    let generation = alone.generation_id;
    let all = sync_alike(&mut client, &id, generation, &[0, 1, 2, 3]);
    assert_eq!(all, (0, vec![0, 1, 2, 3]));

    let told = client.ask(&join("mix", "told", &["t"]), 1);
    assert_eq!((told.error_code, own(&told)), (0, vec![]), "all is held by the other");
    assert_eq!(listed(&mut client, "mix").unwrap().0.to_lowercase(), "consumer");
    let kinds: Vec<i8> =
        described(&mut client, "mix").members.iter().map(|member| member.member_type).collect();
    assert!(kinds.contains(&0) && kinds.contains(&1), "{kinds:?}");
    // It still holds what it did, and is asked to join again.
    let mut request = commit("mix", &id, generation, topic);
    request.topics[0].topic_id = topic;
    assert_eq!(committed(&mut client, &request, 8), 0);
    assert_eq!(beat_alike(&mut client, &id, generation), REBALANCE_IN_PROGRESS);
    assert_eq!(client.ask(&beat("mix", "told", told.member_epoch), 1).assignment, None);
    let again = join_alike(&mut client, &id);
    assert_eq!((again.error_code, again.generation_id), (0, told.member_epoch));
    assert_eq!(committed(&mut client, &request, 8), ILLEGAL_GENERATION);
    assert_eq!(sync_alike(&mut client, &id, generation, &[]).0, ILLEGAL_GENERATION);
    let half = sync_alike(&mut client, &id, again.generation_id, &[]).1;
    let other = own(&client.ask(&beat("mix", "told", told.member_epoch), 1));
    let mut both = [half, other].concat();
    both.sort_unstable();
    assert_eq!(both, [0, 1, 2, 3]);
    assert_eq!(beat_alike(&mut client, &id, again.generation_id), 0);

    leave(&mut client, "mix", "told");
    assert_eq!(beat_alike(&mut client, &id, again.generation_id), REBALANCE_IN_PROGRESS);
    while listed(&mut client, "mix").unwrap().0.to_lowercase() != "classic" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(beat_alike(&mut client, &id, again.generation_id), REBALANCE_IN_PROGRESS);
    let leads = join_alike(&mut client, &id);
    assert_eq!((leads.error_code, leads.leader.as_str()), (0, id.as_str()));
    assert!(leads.generation_id > again.generation_id);
    assert_eq!(sync_alike(&mut client, &id, leads.generation_id, &[0, 1]), (0, vec![0, 1]));
    assert_eq!(beat_alike(&mut client, &id, leads.generation_id), 0);
    broker.stop();
}
