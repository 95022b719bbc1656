//! Produce and fetch in every version, and topics by their id.

use kafka_wire::{Uuid, describe_topic_partitions, fetch, produce};

use crate::broker::{Broker, batch, fetch_of, produce_of};

#[test]
fn records_go_in_and_out_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let id = client.create("all", 1);
    let advertised = client.ask(&kafka_wire::api_versions::Request::default(), 0).api_keys;
    let max = |key| advertised.iter().find(|api| api.api_key == key).unwrap().max_version;
    let mut end = 0;
    for version in 3..=max(0) {
        let mut request = produce_of("all", 0, batch(1, &["a", "b"]));
        if version >= 13 {
            (request.topic_data[0].name, request.topic_data[0].topic_id) = (<_>::default(), id);
        }
        let answer = client.ask::<produce::Request>(&request, version);
        let told = &answer.responses[0].partition_responses[0];
        assert_eq!((told.error_code, told.base_offset), (0, end), "version {version}");
        end += 2;
    }
    for version in 4..=max(1) {
        let mut request = fetch_of("all", 0, end - 1);
        if version >= 13 {
            (request.topics[0].topic, request.topics[0].topic_id) = (<_>::default(), id);
        }
        let answer = client.ask::<fetch::Request>(&request, version);
        let told = &answer.responses[0].partitions[0];
        assert_eq!((told.error_code, told.high_watermark), (0, end), "version {version}");
        let records = told.records.as_ref().unwrap();
        assert_eq!(records[..8], (end - 2).to_be_bytes());
        assert_eq!(records[21..], batch(1, &["a", "b"])[21..]);
    }
    // An id that no topic has.
    let mut request = fetch_of("", 0, 0);
    request.topics[0].topic_id = Uuid([9; 16]);
    let answer = client.ask::<fetch::Request>(&request, 13);
    assert_eq!(answer.responses[0].partitions[0].error_code, 100, "UNKNOWN_TOPIC_ID");
    broker.stop();
}

/// Many partitions come a part at a time, each once, in order.
#[test]
fn partitions_are_described_a_part_at_a_time() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("a", 5);
    client.create("b", 1);
    client.create("c", 4);
    let (mut cursor, mut found) = (None, Vec::new());
    loop {
        let request = describe_topic_partitions::Request {
            response_partition_limit: 3,
            cursor,
            ..describe_topic_partitions::Request::default()
        };
        let answer = client.ask(&request, 0);
        let mut count = 0;
        for topic in answer.topics {
            assert_eq!(topic.error_code, 0);
            let name = topic.name.unwrap();
            count += topic.partitions.len();
            found.extend(
                topic.partitions.iter().map(|one| format!("{name}{}", one.partition_index)),
            );
        }
        assert!((1..=3).contains(&count));
        cursor = answer.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, ["a0", "a1", "a2", "a3", "a4", "b0", "c0", "c1", "c2", "c3"]);
    broker.stop();
}
