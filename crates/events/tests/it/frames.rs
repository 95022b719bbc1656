//! Frames that are no requests, that come in pieces, many at once, or not whole.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kafka_wire::{Request, api_versions, frame_request, list_offsets, metadata, produce};

use crate::broker::{Broker, Client, batch, fetch_of, produce_of};

fn versions() -> api_versions::Request {
    api_versions::Request {
        client_software_name: "tests".into(),
        client_software_version: "1".into(),
    }
}

/// The connection ends without an answer, and it is counted; others go on.
fn is_refused(broker: &Broker, bytes: &[u8]) {
    let malformed = &broker.part().front().counts().malformed;
    let before = malformed.load(Ordering::Relaxed);
    let mut client = broker.connect();
    client.send(bytes);
    assert!(client.frame().is_none(), "{bytes:?}");
    while malformed.load(Ordering::Relaxed) == before {
        std::thread::yield_now();
    }
    broker.connect().ask(&versions(), 3);
}

#[test]
fn what_is_no_request_ends_its_connection_alone() {
    let broker = Broker::start();
    is_refused(&broker, &[0xff; 4]);
    is_refused(&broker, &(i32::MAX.to_be_bytes()));
    is_refused(&broker, b"GET / HTTP/1.1\r\n\r\n");
    is_refused(&broker, &[0, 0, 0, 0]);
    // Nobody has request 999, and request 1 no version 99.
    is_refused(&broker, b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\x01\xff\xff");
    is_refused(&broker, b"\0\0\0\x0a\0\x01\0\x63\0\0\0\x01\xff\xff");
    // Produce with two billion topics in twelve bytes.
    let mut many = b"\0\0\0\x16\0\0\0\x03\0\0\0\x01\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec();
    many.extend(i32::MAX.to_be_bytes());
    is_refused(&broker, &many);
    broker.stop();
}

/// Every request that is cut anywhere, with a length that says that this is all.
#[test]
fn a_request_that_is_cut_is_no_request() {
    let broker = Broker::start();
    let request = produce_of("cut", 0, batch(1, &["one"]));
    let whole = frame_request(&request, 9, 1, "t").unwrap();
    // What a client says of itself ends at 14; the last byte is a count of tagged fields.
    for end in (14..whole.len()).step_by(9) {
        let mut cut = whole[..end].to_vec();
        cut[..4].copy_from_slice(&u32::try_from(end - 4).unwrap().to_be_bytes());
        is_refused(&broker, &cut);
    }
    assert!(broker.connect().topics().is_empty());
    broker.stop();
}

#[test]
fn bytes_may_come_one_by_one() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("slow", 1);
    let request = produce_of("slow", 0, batch(1, &["one", "two"]));
    for byte in frame_request(&request, 9, 3, "tests").unwrap() {
        client.send(&[byte]);
    }
    let answer = client.answer::<produce::Request>(9, 3);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(client.fetch("slow", 0, 0).high_watermark, 2);
    broker.stop();
}

/// Many requests in one write; some are ready before others, and one has no answer.
#[test]
fn answers_come_in_the_order_of_the_requests() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("order", 1);
    let mut all = Vec::new();
    for number in 0..197 {
        let frame = match number % 4 {
            0 => frame_request(&produce_of("order", 0, batch(1, &["x"])), 9, number, "t"),
            1 => frame_request(&versions(), 3, number, "t"),
            2 => frame_request(&fetch_of("order", 0, 0), 12, number, "t"),
            _ => {
                let silent =
                    produce::Request { acks: 0, ..produce_of("order", 0, batch(1, &["y"])) };
                frame_request(&silent, 9, number, "t")
            }
        };
        all.extend_from_slice(&frame.unwrap());
    }
    client.send(&all);
    client.hang_up();
    for number in (0..197).filter(|number| number % 4 != 3) {
        match number % 4 {
            0 => {
                let answer = client.answer::<produce::Request>(9, number);
                let told = &answer.responses[0].partition_responses[0];
                assert_eq!((told.error_code, told.base_offset), (0, i64::from(number / 2)));
            }
            1 => drop(client.answer::<api_versions::Request>(3, number)),
            _ => drop(client.answer::<kafka_wire::fetch::Request>(12, number)),
        }
    }
    assert!(client.frame().is_none(), "the connection ends once all is answered");
    assert_eq!(broker.connect().fetch("order", 0, 0).high_watermark, 99);
    broker.stop();
}

/// What came before bytes that are no request is answered first.
#[test]
fn requests_before_a_bad_one_are_answered() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("before", 1);
    let mut all =
        frame_request(&produce_of("before", 0, batch(1, &["x"])), 9, 1, "t").unwrap().to_vec();
    all.extend([0xff; 4]);
    client.send(&all);
    let answer = client.answer::<produce::Request>(9, 1);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    assert!(client.frame().is_none());
    broker.stop();
}

#[test]
fn a_large_frame_is_taken_and_one_that_ends_early_is_not() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("large", 1);
    // More than a batch may have: the frame is read whole, the batch refused.
    let large = "x".repeat(3 << 20);
    let told = client.produce("large", 0, batch(1, &[&large]));
    assert_eq!(told.error_code, 10, "MESSAGE_TOO_LARGE");
    let frame = frame_request(&produce_of("large", 0, batch(1, &[&large])), 9, 1, "t").unwrap();
    let mut early: Client = broker.connect();
    early.send(&frame[..frame.len() / 2]);
    early.hang_up();
    assert!(early.frame().is_none());
    assert_eq!(client.fetch("large", 0, 0).high_watermark, 0);
    broker.stop();
}

#[test]
fn versions_that_nobody_has_are_answered_in_the_first_form() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let mut frame = frame_request(&versions(), 3, 5, "tests").unwrap().to_vec();
    // Version 99, whose body cannot be known.
    frame[6..8].copy_from_slice(&99_i16.to_be_bytes());
    client.send(&frame);
    let answer = client.answer::<api_versions::Request>(0, 5);
    assert_eq!(answer.error_code, 35, "UNSUPPORTED_VERSION");
    let known = answer.api_keys.iter().find(|api| api.api_key == 18).unwrap();
    assert_eq!((known.min_version, known.max_version), (0, 4));
    // The connection goes on in a version that both know.
    let answer = client.ask(&versions(), known.max_version);
    assert_eq!(answer.error_code, 0);
    let first = |key| answer.api_keys.iter().find(|api| api.api_key == key).unwrap();
    // Clients that look at the lowest version for what a server can do find it.
    for key in [0, 10, 11] {
        assert_eq!(first(key).min_version, 0);
    }
    broker.stop();
}

/// Whatever is advertised is answered, in every version, when nothing is asked for.
#[test]
fn every_version_that_is_advertised_is_served() {
    let broker = Broker::start();
    let mut client = broker.connect();
    let advertised = client.ask(&versions(), 4).api_keys;
    for api in &advertised {
        let range = (api.min_version, api.max_version);
        match api.api_key {
            1 => in_versions::<kafka_wire::fetch::Request>(&mut client, range),
            2 => in_versions::<list_offsets::Request>(&mut client, range),
            3 => in_versions::<metadata::Request>(&mut client, range),
            8 => in_versions::<kafka_wire::offset_commit::Request>(&mut client, range),
            9 => in_versions::<kafka_wire::offset_fetch::Request>(&mut client, range),
            10 => in_versions::<kafka_wire::find_coordinator::Request>(&mut client, range),
            12 => in_versions::<kafka_wire::heartbeat::Request>(&mut client, range),
            13 => in_versions::<kafka_wire::leave_group::Request>(&mut client, range),
            15 => in_versions::<kafka_wire::describe_groups::Request>(&mut client, range),
            16 => in_versions::<kafka_wire::list_groups::Request>(&mut client, range),
            18 => in_versions::<api_versions::Request>(&mut client, range),
            19 => in_versions::<kafka_wire::create_topics::Request>(&mut client, range),
            20 => in_versions::<kafka_wire::delete_topics::Request>(&mut client, range),
            21 => in_versions::<kafka_wire::delete_records::Request>(&mut client, range),
            22 => in_versions::<kafka_wire::init_producer_id::Request>(&mut client, range),
            23 => in_versions::<kafka_wire::offset_for_leader_epoch::Request>(&mut client, range),
            32 => in_versions::<kafka_wire::describe_configs::Request>(&mut client, range),
            35 => in_versions::<kafka_wire::describe_log_dirs::Request>(&mut client, range),
            37 => in_versions::<kafka_wire::create_partitions::Request>(&mut client, range),
            42 => in_versions::<kafka_wire::delete_groups::Request>(&mut client, range),
            55 => in_versions::<kafka_wire::describe_quorum::Request>(&mut client, range),
            60 => in_versions::<kafka_wire::describe_cluster::Request>(&mut client, range),
            61 => in_versions::<kafka_wire::describe_producers::Request>(&mut client, range),
            66 => in_versions::<kafka_wire::list_transactions::Request>(&mut client, range),
            75 => in_versions::<kafka_wire::describe_topic_partitions::Request>(&mut client, range),
            _ => {}
        }
    }
    broker.stop();
}

fn in_versions<R: Request>(client: &mut Client, (min, max): (i16, i16)) {
    for version in min.max(R::API.min)..=max {
        client.ask(&R::default(), version);
    }
}

/// An answer of many pieces is whole for a client that reads late.
#[test]
fn a_slow_reader_gets_everything() {
    let broker = Broker::start();
    let mut client = broker.connect();
    client.create("late", 1);
    let value = "z".repeat(200 << 10);
    for _ in 0..10 {
        assert_eq!(client.produce("late", 0, batch(1, &[&value])).error_code, 0);
    }
    let mut request = fetch_of("late", 0, 0);
    request.max_bytes = 64 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 64 << 20;
    for number in 0..20 {
        client.send(&frame_request(&request, 12, number, "t").unwrap());
    }
    let one = batch(1, &[&value]);
    for number in 0..20 {
        let answer = client.answer::<kafka_wire::fetch::Request>(12, number);
        let records: Bytes = answer.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(records.len(), 10 * one.len());
        assert_eq!(records[21..one.len()], one[21..]);
    }
    broker.stop();
}
