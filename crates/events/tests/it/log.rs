//! Records in and out, through every request that is about them.

use std::time::Duration;

use kafka_wire::{
    delete_records, fetch, frame_request, list_groups, list_offsets, metadata, offset_commit,
    offset_for_leader_epoch,
};

use crate::broker::{Broker, Client, batch, fetch_of};

fn list(client: &mut Client, timestamp: i64) -> (i16, i64, i64) {
    let partition = list_offsets::ListOffsetsPartition { timestamp, ..<_>::default() };
    let topic = list_offsets::ListOffsetsTopic { name: "log".into(), partitions: vec![partition] };
    let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..<_>::default() };
    let told = client.ask(&request, 11).topics.remove(0).partitions.remove(0);
    (told.error_code, told.offset, told.timestamp)
}

/// Three batches of three records: offsets 0 to 8, times 1000 to 1002, 2000 …, 3000 ….
fn filled() -> (Broker, Client) {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("log", 1);
    for (number, time_ms) in [(0, 1000), (1, 2000), (2, 3000)] {
        let told = client.produce("log", 0, batch(time_ms, &["a", "b", "c"]));
        assert_eq!((told.error_code, told.base_offset), (0, number * 3), "{told:?}");
    }
    (broker, client)
}

/// Base offsets of the batches in some records.
fn bases(mut records: &[u8]) -> Vec<i64> {
    let mut all = Vec::new();
    while records.len() > 12 {
        all.push(i64::from_be_bytes(records[..8].try_into().unwrap()));
        let length = i32::from_be_bytes(records[8..12].try_into().unwrap());
        records = &records[12 + usize::try_from(length).unwrap()..];
    }
    all
}

#[test]
fn a_fetch_begins_with_the_batch_that_has_its_offset() {
    let (broker, mut client) = filled();
    for (from, expected) in
        [(0, &[0_i64, 3, 6][..]), (2, &[0, 3, 6]), (4, &[3, 6]), (8, &[6]), (9, &[])]
    {
        let told = client.fetch("log", 0, from);
        assert_eq!((told.error_code, told.high_watermark, told.log_start_offset), (0, 9, 0));
        assert_eq!(bases(&told.records.unwrap()), expected, "from {from}");
    }
    for from in [-1, 10, i64::MAX] {
        let told = client.fetch("log", 0, from);
        assert_eq!((told.error_code, told.high_watermark), (1, 9), "OFFSET_OUT_OF_RANGE");
    }
    assert_eq!(client.fetch("log", 1, 0).error_code, 3, "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(client.fetch("other", 0, 0).error_code, 3, "UNKNOWN_TOPIC_OR_PARTITION");
    broker.stop();
}

#[test]
fn the_first_batch_comes_whatever_is_allowed() {
    let (broker, mut client) = filled();
    for (all, one) in [(1, 1 << 20), (1 << 20, 1), (0, 0)] {
        let mut request = fetch_of("log", 0, 3);
        request.max_bytes = all;
        request.topics[0].partitions[0].partition_max_bytes = one;
        let told = client.ask(&request, 12).responses.remove(0).partitions.remove(0);
        assert_eq!(bases(&told.records.unwrap()), [3], "{all} {one}");
    }
    broker.stop();
}

/// Only the first batch may be more than was asked for.
#[test]
fn a_fetch_has_no_more_than_was_asked_for() {
    let (broker, mut client) = filled();
    let one = i32::try_from(batch(1, &["a", "b", "c"]).len()).unwrap();
    for (most, expected) in
        [(one, &[0_i64][..]), (2 * one - 1, &[0]), (2 * one, &[0, 3]), (3 * one, &[0, 3, 6])]
    {
        let mut whole = fetch_of("log", 0, 0);
        whole.max_bytes = most;
        let mut own = fetch_of("log", 0, 0);
        own.topics[0].partitions[0].partition_max_bytes = most;
        for request in [whole, own] {
            let told = client.ask(&request, 12).responses.remove(0).partitions.remove(0);
            assert_eq!(bases(&told.records.unwrap()), expected, "{most} of {one}");
        }
    }
    broker.stop();
}

#[test]
fn a_fetch_waits_for_records_and_no_longer() {
    let (broker, mut client) = filled();
    let mut request = fetch_of("log", 0, 9);
    (request.max_wait_ms, request.min_bytes) = (60_000, 1);
    client.send(&frame_request(&request, 12, 1, "t").unwrap());
    let mut other = broker.connect();
    assert_eq!(other.produce("log", 0, batch(4000, &["d"])).error_code, 0);
    let told = client.answer::<fetch::Request>(12, 1).responses.remove(0).partitions.remove(0);
    assert_eq!((told.high_watermark, bases(&told.records.unwrap())), (10, vec![9]));
    // Nothing comes: an answer without records when the time is over.
    let mut request = fetch_of("log", 0, 10);
    (request.max_wait_ms, request.min_bytes) = (50, 1);
    let told = client.ask(&request, 12).responses.remove(0).partitions.remove(0);
    assert_eq!((told.error_code, told.records.unwrap().len()), (0, 0));
    broker.stop();
}

#[test]
fn a_session_tells_only_what_is_new() {
    let (broker, mut client) = filled();
    let mut request = fetch_of("log", 0, 0);
    request.session_epoch = 0;
    let first = client.ask(&request, 12);
    assert_ne!(first.session_id, 0);
    assert_eq!(first.responses.len(), 1);
    // Nothing changed: the partition is named again where the client is now.
    let mut next = fetch_of("log", 0, 9);
    (next.session_id, next.session_epoch) = (first.session_id, 1);
    assert!(client.ask(&next, 12).responses.is_empty());
    client.produce("log", 0, batch(4000, &["d"]));
    let again = fetch::Request {
        session_id: first.session_id,
        session_epoch: 2,
        max_bytes: 1 << 20,
        ..fetch::Request::default()
    };
    let told = client.ask(&again, 12).responses.remove(0).partitions.remove(0);
    assert_eq!(bases(&told.records.unwrap()), [9]);
    // An epoch that is not the next one, and a session that nobody has.
    assert_eq!(client.ask(&again, 12).error_code, 71, "INVALID_FETCH_SESSION_EPOCH");
    let unknown = fetch::Request { session_id: first.session_id ^ 1, ..again.clone() };
    assert_eq!(client.ask(&unknown, 12).error_code, 70, "FETCH_SESSION_ID_NOT_FOUND");
    // Forgotten, it is told no more.
    let mut forget = fetch::Request { session_epoch: 3, ..again };
    forget.forgotten_topics_data =
        vec![fetch::ForgottenTopic { topic: "log".into(), partitions: vec![0], ..<_>::default() }];
    assert!(client.ask(&forget, 12).responses.is_empty());
    broker.stop();
}

#[test]
fn offsets_are_found_by_time() {
    let (broker, mut client) = filled();
    for (time, expected) in [
        (-1, (0, 9, -1)),
        (-2, (0, 0, -1)),
        (-3, (0, 8, 3002)),
        (-4, (0, 0, -1)),
        (-5, (0, -1, -1)),
        (0, (0, 0, 1000)),
        (1001, (0, 1, 1001)),
        (1003, (0, 3, 2000)),
        (3002, (0, 8, 3002)),
        (3003, (0, -1, -1)),
    ] {
        assert_eq!(list(&mut client, time), expected, "time {time}");
    }
    broker.stop();
}

#[test]
fn deleted_records_are_gone_and_the_start_stays() {
    let (broker, mut client) = filled();
    let mut delete = |offset| {
        let partition = delete_records::DeleteRecordsPartition { partition_index: 0, offset };
        let topic =
            delete_records::DeleteRecordsTopic { name: "log".into(), partitions: vec![partition] };
        let request = delete_records::Request { topics: vec![topic], timeout_ms: 1000 };
        let told = client.ask(&request, 2).topics.remove(0).partitions.remove(0);
        (told.error_code, told.low_watermark)
    };
    assert_eq!(delete(4), (0, 4));
    // It never goes back, and there is nothing to delete behind the end.
    assert_eq!(delete(2), (0, 4));
    assert_eq!(delete(10), (1, -1));
    assert_eq!(list(&mut client, -2), (0, 4, -1));
    assert_eq!(client.fetch("log", 0, 3).error_code, 1, "OFFSET_OUT_OF_RANGE");
    assert_eq!(bases(&client.fetch("log", 0, 4).records.unwrap()), [3, 6]);
    broker.stop();
}

#[test]
fn the_leader_is_in_its_first_epoch() {
    let (broker, mut client) = filled();
    let mut ask = |current_leader_epoch, leader_epoch| {
        let partition = offset_for_leader_epoch::OffsetForLeaderPartition {
            partition: 0,
            current_leader_epoch,
            leader_epoch,
        };
        let topic = offset_for_leader_epoch::OffsetForLeaderTopic {
            topic: "log".into(),
            partitions: vec![partition],
        };
        let request = offset_for_leader_epoch::Request { topics: vec![topic], ..<_>::default() };
        let told = client.ask(&request, 4).topics.remove(0).partitions.remove(0);
        (told.error_code, told.leader_epoch, told.end_offset)
    };
    assert_eq!(ask(-1, 0), (0, 0, 9));
    assert_eq!(ask(0, 1), (0, -1, -1));
    assert_eq!(ask(1, 0).0, 75, "UNKNOWN_LEADER_EPOCH");
    // A client that knows of a later leader is told that here is none, wherever it says so.
    let mut request = fetch_of("log", 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = 1;
    let told = client.ask(&request, 12).responses.remove(0).partitions.remove(0);
    assert_eq!(told.error_code, 75, "UNKNOWN_LEADER_EPOCH");
    let partition = list_offsets::ListOffsetsPartition {
        current_leader_epoch: 1,
        timestamp: -1,
        ..<_>::default()
    };
    let topic = list_offsets::ListOffsetsTopic { name: "log".into(), partitions: vec![partition] };
    let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..<_>::default() };
    assert_eq!(client.ask(&request, 11).topics[0].partitions[0].error_code, 75);
    broker.stop();
}

#[test]
fn batches_that_are_none_are_refused_and_the_rest_goes_on() {
    let (broker, mut client) = filled();
    let good = batch(5000, &["e"]);
    let mut bad = good.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(client.produce("log", 0, bad.into()).error_code, 2, "CORRUPT_MESSAGE");
    let two = [&good[..], &good[..]].concat();
    assert_eq!(client.produce("log", 0, two.into()).error_code, 87, "INVALID_RECORD");
    assert_ne!(client.produce("log", 0, good.slice(..40)).error_code, 0);
    assert_eq!(client.produce("log", 7, good.clone()).error_code, 3);
    assert_eq!(client.produce("log", 0, good).base_offset, 9);
    broker.stop();
}

#[test]
fn a_topic_is_made_when_it_is_asked_for_if_that_is_allowed() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let mut ask = |name: &str, allow_auto_topic_creation| {
        let topic = metadata::MetadataRequestTopic { name: Some(name.into()), ..<_>::default() };
        let request = metadata::Request {
            topics: Some(vec![topic]),
            allow_auto_topic_creation,
            ..<_>::default()
        };
        client.ask(&request, 12).topics.remove(0)
    };
    assert_eq!(ask("made", false).error_code, 3, "UNKNOWN_TOPIC_OR_PARTITION");
    // A client asks again until it is there.
    let mut told = ask("made", true);
    for _ in 0..100 {
        if told.error_code == 0 {
            break;
        }
        assert!([3, 5].contains(&told.error_code), "{told:?}");
        std::thread::sleep(Duration::from_millis(10));
        told = ask("made", true);
    }
    assert!(!told.partitions.is_empty());
    assert!(told.partitions.iter().all(|one| (one.leader_id, one.leader_epoch) == (1, 0)));
    assert_eq!(ask("no/name", true).error_code, 17, "INVALID_TOPIC_EXCEPTION");
    broker.stop();
}

#[test]
fn offsets_go_when_nobody_has_used_them_for_long() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("t", 1);
    let commit = |client: &mut Client, group: &str| {
        let partition = offset_commit::OffsetCommitRequestPartition {
            committed_offset: 3,
            committed_leader_epoch: -1,
            ..offset_commit::OffsetCommitRequestPartition::default()
        };
        let request = offset_commit::Request {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![partition],
                ..offset_commit::OffsetCommitRequestTopic::default()
            }],
            ..offset_commit::Request::default()
        };
        assert_eq!(client.ask(&request, 8).topics[0].partitions[0].error_code, 0);
    };
    let days = |count: u64| broker.clock().advance(Duration::from_secs(count * 24 * 3600));
    let expire = || broker.expire_offsets();
    commit(&mut client, "old");
    commit(&mut client, "used");
    days(8);
    // That nobody is there is seen for the first time: whoever was may have left just now.
    assert_eq!(expire(), 0);
    days(4);
    commit(&mut client, "used");
    days(4);
    assert_eq!(expire(), 1);
    let left = client.ask(&list_groups::Request::default(), 4).groups;
    let left: Vec<_> = left.iter().map(|group| group.group_id.to_string()).collect();
    assert_eq!(left, ["used"]);
    broker.stop();
}
