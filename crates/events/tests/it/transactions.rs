//! Transactions that raise their producer's epoch at each end (KIP-890), over a socket.

use bytes::Bytes;
use events::engine::batch::Builder;
use kafka_wire::{
    Uuid, add_partitions_to_txn, api_versions, end_txn, fetch, init_producer_id, offset_fetch,
    produce, txn_offset_commit,
};

use crate::broker::{Broker, Client, fetch_of, produce_of};

const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const PRODUCER_FENCED: i16 = 90;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who(i64, i16);

fn begin(client: &mut Client) -> Who {
    let request = init_producer_id::Request {
        transactional_id: Some("name".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..init_producer_id::Request::default()
    };
    let begun = client.ask(&request, 5);
    assert_eq!(begun.error_code, 0);
    Who(begun.producer_id, begun.producer_epoch)
}

fn batch(who: Who, sequence: i32, value: &str) -> Bytes {
    let builder = Builder::new(1).producer(who.0, who.1, sequence).transactional();
    builder.record(1, None, Some(value.as_bytes()), &[]).build().bytes
}

/// Writes without having said before to what, by the topic's id from version 13 on.
fn write(client: &mut Client, topic: Uuid, version: i16, batch: Bytes) -> i16 {
    let mut request: produce::Request = produce_of("t", 0, batch);
    request.transactional_id = Some("name".into());
    if version >= 13 {
        request.topic_data[0].name = "".into();
        request.topic_data[0].topic_id = topic;
    }
    let mut told = client.ask(&request, version).responses.remove(0);
    assert_eq!(told.topic_id, if version >= 13 { topic } else { Uuid::ZERO });
    told.partition_responses.remove(0).error_code
}

fn end(client: &mut Client, who: Who, committed: bool) -> Result<Who, i16> {
    let request = end_txn::Request {
        transactional_id: "name".into(),
        producer_id: who.0,
        producer_epoch: who.1,
        committed,
    };
    let ended = client.ask(&request, 5);
    match ended.error_code {
        0 => Ok(Who(ended.producer_id, ended.producer_epoch)),
        error => Err(error),
    }
}

/// Last stable offset, and how many bytes of records there are below it.
fn committed(client: &mut Client) -> (i64, usize) {
    let request = fetch::Request { isolation_level: 1, ..fetch_of("t", 0, 0) };
    let told = client.ask(&request, 12).responses.remove(0).partitions.remove(0);
    (told.last_stable_offset, told.records.unwrap_or_default().len())
}

#[test]
fn an_end_gives_the_producer_its_next_epoch() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let topic = client.create("t", 1);
    let features = client.ask(&api_versions::Request::default(), 4).finalized_features;
    let level = features.iter().find(|feature| &*feature.name == "transaction.version");
    assert_eq!(level.map(|feature| feature.max_version_level), Some(2));

    let first = begin(&mut client);
    assert_eq!(end(&mut client, first, true), Err(INVALID_TXN_STATE), "there is nothing yet");
    assert_eq!(write(&mut client, topic, 12, batch(first, 0, "a")), 0);
    assert_eq!(write(&mut client, topic, 13, batch(first, 1, "b")), 0);
    assert_eq!(committed(&mut client), (0, 0), "it is open");
    let second = end(&mut client, first, true).unwrap();
    assert_eq!(second, Who(first.0, first.1 + 1));
    let (stable, bytes) = committed(&mut client);
    assert!((stable, bytes > 0) == (3, true), "two records and a marker");
    // The answer may have been lost; what was sent before and comes late is no part of the next.
    assert_eq!(end(&mut client, first, true), Ok(second));
    assert_eq!(end(&mut client, first, false), Err(PRODUCER_FENCED));
    assert_eq!(write(&mut client, topic, 12, batch(first, 2, "late")), INVALID_PRODUCER_EPOCH);

    // Sequences begin again with the epoch.
    assert_eq!(write(&mut client, topic, 13, batch(second, 0, "c")), 0);
    let third = end(&mut client, second, false).unwrap();
    assert_eq!(committed(&mut client).0, 5, "with what was aborted");
    // Whoever is unsure whether there was anything aborts it, and goes on.
    let fourth = end(&mut client, third, false).unwrap();
    assert_eq!(fourth, Who(first.0, first.1 + 3));

    // Offsets need no word before, either.
    let offsets = txn_offset_commit::Request {
        transactional_id: "name".into(),
        group_id: "g".into(),
        producer_id: fourth.0,
        producer_epoch: fourth.1,
        generation_id: -1,
        topics: vec![txn_offset_commit::TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 2,
                committed_leader_epoch: -1,
                ..txn_offset_commit::TxnOffsetCommitRequestPartition::default()
            }],
        }],
        ..txn_offset_commit::Request::default()
    };
    assert_eq!(client.ask(&offsets, 5).topics[0].partitions[0].error_code, 0);
    end(&mut client, fourth, true).unwrap();
    let asked = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_epoch: -1,
            topics: None,
            ..offset_fetch::OffsetFetchRequestGroup::default()
        }],
        ..offset_fetch::Request::default()
    };
    let found = client.ask(&asked, 8).groups.remove(0).topics.remove(0).partitions.remove(0);
    assert_eq!(found.committed_offset, 2);
    broker.stop();
}

#[test]
fn who_was_taken_over_is_told_so_by_its_next_message() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let topic = client.create("t", 1);
    let first = begin(&mut client);
    let add = add_partitions_to_txn::Request {
        v3_and_below_transactional_id: "name".into(),
        v3_and_below_producer_id: first.0,
        v3_and_below_producer_epoch: first.1,
        v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
            name: "t".into(),
            partitions: vec![0],
        }],
        ..add_partitions_to_txn::Request::default()
    };
    client.ask(&add, 3);
    assert_eq!(write(&mut client, topic, 11, batch(first, 0, "a")), 0);
    // Whoever comes ends that transaction: it is no longer open, and that is not the reason.
    assert!(begin(&mut client).1 > first.1);
    assert_eq!(write(&mut client, topic, 11, batch(first, 1, "b")), INVALID_PRODUCER_EPOCH);
    broker.stop();
}
