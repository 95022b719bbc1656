//! Logins, access rules and quotas, asked for over a socket as clients do.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::ManualClock;
use bytes::Bytes;
use events::kafka::{Advertised, Listener, Mechanism, Security};
use events::{Config, Part};
use kafka_wire::{
    Codec, Reader, Request, Str, alter_client_quotas, consumer_group_describe,
    consumer_group_heartbeat, create_acls, create_topics, describe_acls, describe_client_quotas,
    describe_configs, frame_request, incremental_alter_configs, metadata, sasl_authenticate,
    sasl_handshake,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A part with a listener that demands a login.
struct Running {
    runtime: Runtime,
    addr: SocketAddr,
    clock: Arc<ManualClock>,
    part: Arc<Part>,
    end: oneshot::Sender<()>,
}

fn start(folder: &Path, security: Security) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let clock = Arc::new(ManualClock::default());
    let (end, ended) = oneshot::channel();
    let (addr, part) = runtime.block_on(async {
        let config = Config { folder: folder.to_owned(), security, ..Config::default() };
        let part = Arc::new(Part::open(&config, clock.clone()).await.unwrap());
        let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = bound.local_addr().unwrap();
        (addr, (part, bound))
    });
    let (part, bound) = part;
    let serving = Arc::clone(&part);
    let _entered = runtime.enter();
    let mechanisms = Mechanism::ALL.to_vec();
    let mut way = Listener::from(Advertised::AsConnected);
    (way.mechanisms, way.anonymous) = (mechanisms, false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let ended = async { drop(ended.await) };
        serving.serve(vec![(bound, way)], net::ConnectionLimit::new(100), ended).await;
    });
    tasks.detach_all();
    drop(_entered);
    Running { runtime, addr, clock, part, end }
}

impl Running {
    fn stop(self) {
        let _ = self.end.send(());
        drop(self.part);
        self.runtime.shutdown_timeout(Duration::from_secs(10));
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client(stream)
    }

    fn login(&self, user: &str, password: &str) -> Client {
        let mut client = self.connect();
        assert_eq!(client.plain(user, password).unwrap().error_code, 0);
        client
    }
}

struct Client(TcpStream);

impl Client {
    /// `None` when the connection is closed instead of answering.
    fn ask<R: Request>(&mut self, request: &R, version: i16) -> Option<R::Response> {
        let frame = frame_request(request, version, 7, "tests").unwrap();
        self.0.write_all(&frame).ok()?;
        let answer = self.frame()?;
        let header = if version >= R::API.flexible { 5 } else { 4 };
        let mut reader = Reader::new(answer.slice(header..));
        Some(R::Response::decode(&mut reader, version).unwrap())
    }

    fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut bytes).ok()?;
        Some(bytes.into())
    }

    fn handshake(&mut self, mechanism: &str, version: i16) -> i16 {
        let request = sasl_handshake::Request { mechanism: mechanism.into() };
        self.ask(&request, version).unwrap().error_code
    }

    fn plain(&mut self, user: &str, password: &str) -> Option<sasl_authenticate::Response> {
        assert_eq!(self.handshake("PLAIN", 1), 0);
        let auth_bytes = Bytes::from(format!("\0{user}\0{password}"));
        self.ask(&sasl_authenticate::Request { auth_bytes }, 2)
    }

    fn create(&mut self, topic: &str, partitions: i32) -> create_topics::CreatableTopicResult {
        let topic = create_topics::CreatableTopic {
            name: topic.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..create_topics::CreatableTopic::default()
        };
        let topics = vec![topic];
        let request = create_topics::Request { topics, ..create_topics::Request::default() };
        self.ask(&request, 7).unwrap().topics.remove(0)
    }

    fn topics(&mut self) -> Vec<String> {
        let request = metadata::Request { topics: None, ..metadata::Request::default() };
        let told = self.ask(&request, 12).unwrap().topics;
        told.into_iter().map(|topic| topic.name.unwrap_or_default().to_string()).collect()
    }
}

fn security() -> Security {
    let user = |name: &str, password: &str| (name.to_owned(), password.to_owned());
    Security {
        users: vec![user("alice", "tick"), user("bob", "tock")],
        super_users: vec!["User:alice".to_owned()],
        allow_if_none: false,
        login_max: Some(Duration::from_secs(60)),
    }
}

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const ILLEGAL_SASL_STATE: i16 = 34;
const SASL_AUTHENTICATION_FAILED: i16 = 58;
const THROTTLING_QUOTA_EXCEEDED: i16 = 89;

#[test]
fn nothing_is_served_before_a_login_and_none_that_failed_goes_on() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), security());
    let all = metadata::Request { topics: None, ..metadata::Request::default() };
    assert!(running.connect().ask(&all, 12).is_none());

    let mut wrong = running.connect();
    let answer = wrong.plain("alice", "tock").unwrap();
    assert_eq!(answer.error_code, SASL_AUTHENTICATION_FAILED);
    assert!(wrong.ask(&all, 12).is_none());
    let mut nobody = running.connect();
    assert_eq!(nobody.plain("nobody", "x").unwrap().error_message, answer.error_message);

    let mut early = running.connect();
    let request = sasl_authenticate::Request { auth_bytes: Bytes::from_static(b"\0alice\0tick") };
    assert_eq!(early.ask(&request, 2).unwrap().error_code, ILLEGAL_SASL_STATE);

    // The first form of the handshake: messages without a request around them.
    let mut old = running.connect();
    assert_eq!(old.handshake("PLAIN", 0), 0);
    old.0.write_all(b"\0\0\0\x0b\0alice\0tick").unwrap();
    assert_eq!(old.frame().unwrap().len(), 0);
    assert!(old.ask(&all, 12).is_some());
    running.stop();
}

#[test]
fn a_login_has_to_be_renewed_by_the_same_user() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), security());
    let mut client = running.connect();
    assert_eq!(client.plain("alice", "tick").unwrap().session_lifetime_ms, 60_000);
    running.clock.advance(Duration::from_secs(59));
    assert_eq!(client.plain("alice", "tick").unwrap().error_code, 0);
    running.clock.advance(Duration::from_secs(59));
    assert!(client.topics().is_empty());
    assert_eq!(client.plain("bob", "tock").unwrap().error_code, SASL_AUTHENTICATION_FAILED);

    let mut late = running.login("bob", "tock");
    running.clock.advance(Duration::from_secs(60));
    let all = metadata::Request { topics: None, ..metadata::Request::default() };
    assert!(late.ask(&all, 12).is_none());
    running.stop();
}

#[test]
fn rules_hold_at_once_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), security());
    let (mut alice, mut bob) = (running.login("alice", "tick"), running.login("bob", "tock"));
    assert_eq!(alice.create("games", 1).error_code, 0);
    assert_eq!(bob.create("food", 1).error_code, TOPIC_AUTHORIZATION_FAILED);
    assert!(bob.topics().is_empty());

    // Topic, prefixed, create, allow.
    let creation = create_acls::AclCreation {
        resource_type: 2,
        resource_name: "fo".into(),
        resource_pattern_type: 4,
        principal: "User:bob".into(),
        host: "*".into(),
        operation: 5,
        permission_type: 3,
    };
    let bad = create_acls::AclCreation { principal: "bob".into(), ..creation.clone() };
    let request = create_acls::Request { creations: vec![creation.clone(), bad] };
    let results = alice.ask(&request, 3).unwrap().results;
    assert_eq!(results[0].error_code, 0);
    assert_ne!(results[1].error_code, 0);
    let request = create_acls::Request { creations: vec![creation] };
    assert_ne!(bob.ask(&request, 3).unwrap().results[0].error_code, 0);
    assert_eq!(bob.create("food", 1).error_code, 0);
    running.stop();

    let running = start(folder.path(), security());
    let (mut alice, mut bob) = (running.login("alice", "tick"), running.login("bob", "tock"));
    assert_eq!(bob.create("foam", 1).error_code, 0);
    assert_eq!(bob.create("games2", 1).error_code, TOPIC_AUTHORIZATION_FAILED);
    let any = describe_acls::Request {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
    };
    let found = alice.ask(&any, 3).unwrap().resources;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].acls[0].principal, Str::from_static("User:bob"));
    assert_ne!(bob.ask(&any, 3).unwrap().error_code, 0);
    running.stop();
}

#[test]
fn who_makes_too_many_partitions_is_told_to_wait() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), security());
    let mut alice = running.login("alice", "tick");
    let entity = alter_client_quotas::EntityData {
        entity_type: "user".into(),
        entity_name: Some("alice".into()),
    };
    let op = alter_client_quotas::OpData {
        key: "controller_mutation_rate".into(),
        value: 1.0,
        remove: false,
    };
    let entry = alter_client_quotas::EntryData { entity: vec![entity], ops: vec![op] };
    let request = alter_client_quotas::Request { entries: vec![entry], validate_only: false };
    assert_eq!(alice.ask(&request, 1).unwrap().entries[0].error_code, 0);

    // A burst of ten seconds, and what the last one takes beyond.
    assert_eq!(alice.create("a", 15).error_code, 0);
    assert_eq!(alice.create("b", 1).error_code, THROTTLING_QUOTA_EXCEEDED);
    // The connection is silent for the five seconds that are missing, and others are not.
    let mut again = running.login("alice", "tick");
    assert_eq!(again.create("b", 1).error_code, THROTTLING_QUOTA_EXCEEDED);
    running.clock.advance(Duration::from_secs(5));
    assert_eq!(running.login("alice", "tick").create("b", 1).error_code, 0);
    running.stop();

    let running = start(folder.path(), security());
    let mut alice = running.login("alice", "tick");
    let all = describe_client_quotas::Request::default();
    let entries = alice.ask(&all, 1).unwrap().entries.unwrap();
    assert_eq!(entries[0].values[0].value.to_bits(), 1.0f64.to_bits());
    running.stop();
}

#[test]
fn settings_of_the_node_hold_for_topics_that_are_there() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), security());
    let mut alice = running.login("alice", "tick");
    assert_eq!(alice.create("games", 1).error_code, 0);
    let config = incremental_alter_configs::AlterableConfig {
        name: "log.retention.ms".into(),
        config_operation: 0,
        value: Some("5000".into()),
    };
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: 4,
        resource_name: Str::default(),
        configs: vec![config],
    };
    let request =
        incremental_alter_configs::Request { resources: vec![resource], validate_only: false };
    assert_eq!(alice.ask(&request, 1).unwrap().responses[0].error_code, 0);
    let retention = |client: &mut Client| {
        let resource = describe_configs::DescribeConfigsResource {
            resource_type: 2,
            resource_name: "games".into(),
            configuration_keys: Some(vec!["retention.ms".into()]),
        };
        let request = describe_configs::Request {
            resources: vec![resource],
            ..describe_configs::Request::default()
        };
        let mut results = client.ask(&request, 4).unwrap().results;
        let config = results.remove(0).configs.remove(0);
        (config.value.unwrap().to_string(), config.config_source)
    };
    assert_eq!(retention(&mut alice), ("5000".to_owned(), 3));
    running.stop();
    let running = start(folder.path(), security());
    assert_eq!(retention(&mut running.login("alice", "tick")), ("5000".to_owned(), 3));
    running.stop();
}

/// Members are told of topics that they may know of, and others of no group with other topics.
#[test]
fn members_of_groups_get_no_topics_that_they_may_not_see() {
    const READ: i8 = 3;
    const DESCRIBE: i8 = 8;
    const TOPIC: i8 = 2;
    const GROUP: i8 = 3;
    const LITERAL: i8 = 3;
    const GROUP_AUTHORIZATION_FAILED: i16 = 30;
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), security());
    let (mut alice, mut bob) = (running.login("alice", "tick"), running.login("bob", "tock"));
    assert_eq!(alice.create("log-games", 2).error_code, 0);
    assert_eq!(alice.create("log-food", 3).error_code, 0);
    let join = |group: &str, names: Option<Vec<Str>>, pattern: Option<&str>| {
        consumer_group_heartbeat::Request {
            group_id: group.into(),
            member_id: "m".into(),
            rebalance_timeout_ms: 1000,
            subscribed_topic_names: names,
            subscribed_topic_regex: pattern.map(Into::into),
            topic_partitions: Some(Vec::new()),
            ..consumer_group_heartbeat::Request::default()
        }
    };
    let matching = join("g", None, Some("log-.*"));
    assert_eq!(bob.ask(&matching, 1).unwrap().error_code, GROUP_AUTHORIZATION_FAILED);
    let rule = |resource_type: i8, name: &str, operation: i8| create_acls::AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type: LITERAL,
        principal: "User:bob".into(),
        host: "*".into(),
        operation,
        permission_type: 3,
    };
    let creations = vec![rule(GROUP, "g", READ), rule(TOPIC, "log-games", DESCRIBE)];
    let made = alice.ask(&create_acls::Request { creations }, 3).unwrap();
    assert!(made.results.iter().all(|one| one.error_code == 0), "{made:?}");
    let named = join("g", Some(vec!["log-games".into(), "log-food".into()]), None);
    assert_eq!(bob.ask(&named, 1).unwrap().error_code, TOPIC_AUTHORIZATION_FAILED);
    let told = bob.ask(&matching, 1).unwrap();
    let given = told.assignment.expect("something to do").topic_partitions;
    assert_eq!(given.iter().map(|one| one.partitions.len()).collect::<Vec<_>>(), [2]);

    let describe =
        consumer_group_describe::Request { group_ids: vec!["g".into()], ..<_>::default() };
    assert_eq!(bob.ask(&describe, 1).unwrap().groups[0].members.len(), 1);
    let whole = consumer_group_heartbeat::Request { member_id: "a".into(), ..matching };
    assert_eq!(alice.ask(&whole, 1).unwrap().error_code, 0);
    let hidden = &bob.ask(&describe, 1).unwrap().groups[0];
    assert_eq!((hidden.error_code, hidden.members.len()), (TOPIC_AUTHORIZATION_FAILED, 0));
    assert_eq!(alice.ask(&describe, 1).unwrap().groups[0].members.len(), 2);
    running.stop();
}
