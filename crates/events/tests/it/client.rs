//! Our own client against a part: topics, messages both ways, groups.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::SystemClock;
use bytes::Bytes;
use events::client::{Client, ClientError, Cursor, Message, NewMessage, Position};
use events::kafka::{Advertised, Listener};
use events::{Config, Part};
use kafka_wire::{
    Codec, Reader, Request, frame_request, join_group, metadata, share_fetch, share_group_heartbeat,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A part that serves for as long as what is returned is held.
async fn part() -> (SocketAddr, JoinSet<()>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        folder: folder.path().to_owned(),
        group_delay: Duration::ZERO,
        ..Config::default()
    };
    let part = Part::open(&config, Arc::new(SystemClock)).await.unwrap();
    let bound = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = bound.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let way = Listener::from(Advertised::AsConnected);
        let limit = net::ConnectionLimit::new(100);
        part.serve(vec![(bound, way)], limit, std::future::pending()).await;
    });
    (addr, tasks, folder)
}

async fn client(addr: SocketAddr) -> Client<TcpStream> {
    Client::open(TcpStream::connect(addr).await.unwrap()).await.unwrap()
}

fn message(key: Option<&str>, value: &str) -> NewMessage {
    let bytes = |text: &str| Bytes::from(text.to_owned());
    NewMessage {
        key: key.map(bytes),
        value: Some(bytes(value)),
        headers: vec![(bytes("kind"), Some(bytes("test")))],
    }
}

fn values(messages: &[Message]) -> Vec<String> {
    let text = |message: &Message| String::from_utf8_lossy(message.value.as_ref().unwrap()).into();
    messages.iter().map(text).collect()
}

fn code<T>(result: Result<T, ClientError>) -> Option<i16> {
    result.err().and_then(|error| error.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_described_and_deleted() {
    let (addr, _serving, _folder) = part().await;
    let mut client = client(addr).await;
    let settings = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    client.create("orders", Some(3), &settings).await.unwrap();
    assert_eq!(code(client.create("orders", None, &BTreeMap::new()).await), Some(36));
    assert_eq!(code(client.create("a b", None, &BTreeMap::new()).await), Some(17));
    client.create("plain", None, &BTreeMap::new()).await.unwrap();
    let topics = client.topics(None).await.unwrap();
    let shown: Vec<_> = topics.iter().map(|t| (t.name.as_str(), t.partitions.len())).collect();
    assert_eq!(shown, [("orders", 3), ("plain", 1)]);
    let told = client.settings("orders").await.unwrap();
    let said: Vec<_> = told.iter().filter(|one| !one.is_default).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((said[0].name.as_str(), said[0].value.as_deref()), ("retention.ms", Some("1000")));
    client.delete("orders").await.unwrap();
    assert_eq!(code(client.delete("orders").await), Some(3));
    assert_eq!(code(client.topics(Some("orders")).await), Some(3), "asking makes none");
    assert_eq!(client.topics(None).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_read_forwards_and_from_the_newest_back() {
    let (addr, _serving, _folder) = part().await;
    let mut client = client(addr).await;
    client.create("orders", Some(2), &BTreeMap::new()).await.unwrap();
    let mut first = Cursor::new();
    for number in 0..10 {
        let new = vec![message(None, &format!("m{number}"))];
        let to = Some(number % 2);
        let written = client.produce("orders", to, new, 1_000 + i64::from(number), 0).await;
        first.extend(written.unwrap());
    }
    assert_eq!(first, Cursor::from([(0, 4), (1, 4)]));
    let traffic = client.figures().await.unwrap();
    assert_eq!(traffic.topics["orders"].messages_in, 10);
    assert!(traffic.flushes > 0);

    let from = client.place("orders", None, Position::Beginning).await.unwrap();
    let page = client.forward("orders", &from, 4, Duration::ZERO).await.unwrap();
    assert_eq!(values(&page.messages), ["m0", "m1", "m2", "m3"]);
    assert_eq!(page.messages[0].headers[0].0, "kind");
    assert!(page.has_more);
    let page = client.forward("orders", &page.next, 100, Duration::ZERO).await.unwrap();
    assert_eq!(values(&page.messages), ["m4", "m5", "m6", "m7", "m8", "m9"]);
    assert!(!page.has_more);
    let page = client.forward("orders", &page.next, 100, Duration::ZERO).await.unwrap();
    assert_eq!(page.messages, []);

    let late = client.place("orders", None, Position::Time(1_007)).await.unwrap();
    assert_eq!(late, Cursor::from([(0, 4), (1, 3)]));
    let one = client.place("orders", Some(1), Position::Offset(99)).await.unwrap();
    assert_eq!(one, Cursor::from([(1, 5)]));
    assert_eq!(code(client.place("orders", Some(7), Position::End).await), Some(3));

    let mut before = client.place("orders", None, Position::End).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let page = client.backward("orders", &before, 3).await.unwrap();
        seen.extend(values(&page.messages));
        before = page.next;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen, ["m9", "m8", "m7", "m6", "m5", "m4", "m3", "m2", "m1", "m0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_of_what_comes_and_keys_stay_together() {
    let (addr, _serving, _folder) = part().await;
    let (mut reader, mut writer) = (client(addr).await, client(addr).await);
    reader.create("orders", Some(4), &BTreeMap::new()).await.unwrap();
    let end = reader.place("orders", None, Position::End).await.unwrap();
    let wait = reader.forward("orders", &end, 10, Duration::from_secs(5));
    let new = ["a", "b"].map(|value| message(Some("foobar"), value)).to_vec();
    let (page, written) = tokio::join!(wait, writer.produce("orders", None, new, 5, 0));
    assert_eq!(values(&page.unwrap().messages), ["a", "b"]);
    // murmur2 of `foobar`, without its sign, modulo 4.
    assert_eq!(written.unwrap(), Cursor::from([(2, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_moved_when_nobody_is_in_it() {
    let (addr, _serving, _folder) = part().await;
    let mut client = client(addr).await;
    client.create("orders", Some(2), &BTreeMap::new()).await.unwrap();
    let new = vec![message(None, "a"), message(None, "b")];
    client.produce("orders", Some(0), new, 5, 0).await.unwrap();
    assert_eq!(code(client.group("billing").await), Some(69));

    let moved = client.reset("billing", "orders", None, Position::Beginning).await.unwrap();
    assert_eq!(moved.len(), 2);
    assert_eq!((moved[0].before, moved[0].after), (None, 0));
    let group = client.group("billing").await.unwrap();
    assert_eq!((group.kind.as_str(), group.state.as_str()), ("classic", "Empty"));
    let lags: Vec<_> = group.lags.iter().map(events::client::Lag::messages).collect();
    assert_eq!(lags, [Some(2), Some(0)]);
    let moved = client.reset("billing", "orders", Some(0), Position::End).await.unwrap();
    assert_eq!((moved[0].before, moved[0].after), (Some(0), 2));

    // A member: it joins, and says no more while its session lasts.
    let mut member = TcpStream::connect(addr).await.unwrap();
    let request = join_group::Request {
        group_id: "billing".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        }],
        ..join_group::Request::default()
    };
    member.write_all(&frame_request(&request, 1, 1, "worker").unwrap()).await.unwrap();
    assert!(member.read_i32().await.unwrap() > 0);
    let group = client.group("billing").await.unwrap();
    assert_eq!(group.members[0].client, "worker");
    let refused = client.reset("billing", "orders", None, Position::Beginning).await.unwrap_err();
    assert_eq!(refused.code(), Some(68));
    assert!(refused.to_string().contains("worker"), "{refused}");
    let lags = client.group("billing").await.unwrap().lags;
    assert_eq!(lags[0].committed, Some(2), "nothing moved");
}

/// Asks over a connection of its own, in a version whose answers have tags in their head.
async fn ask<R: Request>(stream: &mut TcpStream, request: &R, version: i16) -> R::Response {
    stream.write_all(&frame_request(request, version, 1, "worker").unwrap()).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    R::Response::decode(&mut Reader::new(Bytes::from(answer).slice(5..)), version).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_group_has_a_lag_and_is_moved() {
    let (addr, _serving, _folder) = part().await;
    let mut client = client(addr).await;
    client.create("jobs", Some(1), &BTreeMap::new()).await.unwrap();
    client.produce("jobs", Some(0), vec![message(None, "a")], 5, 0).await.unwrap();
    let mut member = TcpStream::connect(addr).await.unwrap();
    let mut beat = share_group_heartbeat::Request {
        group_id: "workers".into(),
        member_id: "m".into(),
        subscribed_topic_names: Some(vec!["jobs".into()]),
        ..share_group_heartbeat::Request::default()
    };
    assert_eq!(ask(&mut member, &beat, 1).await.error_code, 0);
    let all = metadata::Request { topics: None, ..metadata::Request::default() };
    let topic = ask(&mut member, &all, 12).await.topics[0].topic_id;
    let fetch = share_fetch::Request {
        group_id: Some("workers".into()),
        member_id: Some("m".into()),
        max_records: 10,
        topics: vec![share_fetch::FetchTopic {
            topic_id: topic,
            partitions: vec![share_fetch::FetchPartition::default()],
        }],
        ..share_fetch::Request::default()
    };
    assert_eq!(ask(&mut member, &fetch, 1).await.error_code, 0);
    // It began after the first, and has not seen the others.
    let new = vec![message(None, "b"), message(None, "c")];
    client.produce("jobs", Some(0), new, 5, 0).await.unwrap();
    let group = client.group("workers").await.unwrap();
    assert_eq!((group.kind.as_str(), group.state.as_str()), ("share", "Stable"));
    assert_eq!(group.members[0].assigned["jobs"], [0]);
    assert_eq!((group.lags[0].committed, group.lags[0].messages()), (Some(1), Some(2)));
    let refused = client.reset("workers", "jobs", None, Position::Beginning).await.unwrap_err();
    assert_eq!(refused.code(), Some(68));
    beat.member_epoch = -1;
    assert_eq!(ask(&mut member, &beat, 1).await.error_code, 0);
    let moved = client.reset("workers", "jobs", None, Position::Beginning).await.unwrap();
    assert_eq!((moved[0].before, moved[0].after), (Some(1), 0));
    assert_eq!(client.group("workers").await.unwrap().lags[0].messages(), Some(3));
}

#[tokio::test]
async fn what_is_no_answer_is_told_and_ends_the_connection() {
    for (answer, part) in [
        (&b"\xff\xff\xff\xff"[..], "no frame"),
        (&b"\x7f\xff\xff\xff"[..], "too large"),
        (&b"\0\0\0\x04\0\0\0\x09"[..], "cannot be read"),
        (&b"\0\0\0\x20\0\0\0\x01\0\0"[..], "broke"),
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "too large"),
    ] {
        let (near, mut far) = tokio::io::duplex(4096);
        let serve = async move {
            let _asked = far.read(&mut [0; 64]).await.unwrap();
            far.write_all(answer).await.unwrap();
        };
        let (opened, ()) = tokio::join!(Client::open(near), serve);
        let error = opened.expect_err("an error").to_string();
        assert!(error.contains(part), "{answer:?}: {error}");
    }
}
