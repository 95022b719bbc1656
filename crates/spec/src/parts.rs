//! What a Compose file says of an embedded part: the settings of the image that it stands in for,
//! read into its own.
//!
//! Not here: the part. Every image has its own way of saying the same: `KAFKA_NUM_PARTITIONS` of
//! most, `KAFKA_CFG_NUM_PARTITIONS` of Bitnami's, words of the command of Redpanda's.
//!
//! Whoever connects to an event log is told where to connect to next, so each way in tells what
//! leads back to it. There is one for every listener that the file names, for the other services,
//! and one for every port that is published, for whoever comes from outside.

use std::collections::BTreeMap;

use crate::model::{Part, Port, PortKind, Service};

/// The variable that tells a part its users and their passwords, as JSON.
pub const PASSWORDS: &str = "MS_PART_PASSWORDS";

/// Ports of a part that published ports lead to, the first published one to the first of these.
const OUTSIDE: u16 = 39_092;

/// Where an event log listens when nobody says.
const KAFKA: u16 = 9092;

/// Where images of event logs keep their data.
const DATA: &[&str] = &[
    "/var/lib/kafka/data",
    "/bitnami/kafka",
    "/bitnami/kafka/data",
    "/var/lib/redpanda/data",
    "/tmp/kraft-combined-logs",
    "/kafka",
];

/// Settings that mean nothing where there is one node, or that the part decides itself.
const NOT_NEEDED: &[&str] = &[
    "node.id",
    "broker.id",
    "process.roles",
    "controller.",
    "zookeeper.",
    "inter.broker.",
    "sasl.",
    "ssl.",
    "authorizer.class.name",
    "security.inter.",
    "offsets.topic.",
    "transaction.state.log.",
    "share.coordinator.",
    "min.insync.replicas",
    "default.replication.factor",
    "jmx",
    "heap.opts",
    "opts",
    "log.dirs",
    "log.dir",
    "log4j",
    "cluster.id",
    "kraft.",
    "enable.kraft",
    "jvm.",
    "tools.",
    "metric.",
    "confluent.",
    "rest.",
    "schema.",
    "broker.rack",
    "version",
    "home",
    "num.network.threads",
    "num.io.threads",
    "log.flush.",
    "log.segment.",
    "log.retention.check.",
    "delete.topic.enable",
    "volume.",
    "advertised.host.name",
    "advertised.port",
    "inter.broker.listener.name",
    "replica.",
    "num.replica.",
    "unclean.",
    "auto.leader.",
];

/// A way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Where the part listens.
    pub port: u16,
    /// What clients are told to connect to.
    pub host: String,
    /// And at which port.
    pub advertised_port: u16,
    /// Published ports lead to it; nobody inside does.
    pub outside: bool,
    /// Whoever comes in has to log in.
    pub login: bool,
    /// It speaks TLS.
    pub tls: bool,
}

/// An event log in place of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsPart {
    /// Ways in.
    pub doors: Vec<Door>,
    /// Whether a topic that somebody asks for is made.
    pub auto_create: bool,
    /// Partitions of a topic that does not say how many.
    pub partitions: i32,
    /// Settings of topics.
    pub topic_defaults: BTreeMap<String, String>,
    /// Topics that are there from the start, with their partitions.
    pub topics: Vec<(String, i32)>,
    /// How long a group without members waits for more when the first one comes, if the file says.
    pub group_delay_ms: Option<u64>,
    /// How long offsets of a group without members are kept, if the file says.
    pub offsets_retention_minutes: Option<u64>,
    /// A folder that the file mounts for the data.
    pub data: Option<String>,
    /// Users that may log in, with their passwords.
    pub users: Vec<(String, String)>,
    /// Who may do anything, as `User:admin`.
    pub super_users: Vec<String>,
    /// Whether what no rule is about is allowed.
    pub allow_if_none: bool,
    /// A file with a key and its certificates, as PEM.
    pub certificate: Option<String>,
    /// Settings that change nothing here, as the file writes them.
    pub ignored: Vec<String>,
    /// Listeners that are not opened: they would need a certificate.
    pub closed: Vec<String>,
}

/// How clients come in by a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Way {
    login: bool,
    tls: bool,
}

impl Way {
    /// By the protocol's name for it.
    fn of(protocol: &str) -> Option<Way> {
        match protocol.trim().to_ascii_uppercase().as_str() {
            "PLAINTEXT" => Some(Way { login: false, tls: false }),
            "SASL_PLAINTEXT" => Some(Way { login: true, tls: false }),
            "SSL" => Some(Way { login: false, tls: true }),
            "SASL_SSL" => Some(Way { login: true, tls: true }),
            _ => None,
        }
    }
}

/// What a service that an event log stands in for says of it.
pub fn events(service: &Service) -> EventsPart {
    let mut part = EventsPart {
        auto_create: true,
        partitions: 1,
        allow_if_none: true,
        ..EventsPart::default()
    };
    let (mut listeners, mut advertised) = (Vec::new(), Vec::new());
    let mut ways: BTreeMap<String, Way> = BTreeMap::new();
    let (mut names, mut passwords) = (Vec::new(), Vec::new());
    let (mut store, mut is_pem, mut allow_everyone) = (None, false, None);
    let mut controllers = vec!["CONTROLLER".to_owned()];
    for (key, value) in settings(service) {
        let (name, value) = (key.1.as_str(), value.as_str());
        match name {
            "listeners" | "kafka-addr" => listeners = addresses(value),
            "advertised.listeners" | "advertise-kafka-addr" => advertised = addresses(value),
            "controller.listener.names" => {
                controllers.extend(value.split(',').map(|name| name.trim().to_owned()));
            }
            "listener.security.protocol.map" => {
                let each = value.split(',').filter_map(|one| one.split_once(':'));
                let each = each.filter_map(|(name, protocol)| {
                    Some((name.trim().to_ascii_uppercase(), Way::of(protocol)?))
                });
                ways.extend(each);
            }
            "client.users" => names = list(value),
            "client.passwords" => passwords = list(value),
            "super.users" => {
                let each = value.split(';').map(str::trim).filter(|user| !user.is_empty());
                part.super_users = each.map(str::to_owned).collect();
            }
            "authorizer.class.name" if !value.trim().is_empty() => part.allow_if_none = false,
            "allow.everyone.if.no.acl.found" => {
                allow_everyone = Some(value.trim().eq_ignore_ascii_case("true"));
            }
            "ssl.keystore.location" => store = Some(value.to_owned()),
            "ssl.keystore.type" => is_pem = value.trim().eq_ignore_ascii_case("pem"),
            _ if name.ends_with("sasl.jaas.config") => part.users.extend(jaas(value)),
            "auto.create.topics.enable" | "auto_create_topics_enabled" => {
                part.auto_create = value.eq_ignore_ascii_case("true");
            }
            "num.partitions" | "default_topic_partitions" => {
                part.partitions = value.trim().parse().unwrap_or(1).max(1);
            }
            "group.initial.rebalance.delay.ms" | "group_initial_rebalance_delay" => {
                part.group_delay_ms = value.trim().parse().ok();
            }
            "offsets.retention.minutes" => {
                part.offsets_retention_minutes = value.trim().parse().ok();
            }
            "create.topics" => part.topics = topics(value),
            "log.retention.ms" => set(&mut part, "retention.ms", value, 1),
            "log.retention.minutes" => set(&mut part, "retention.ms", value, 60_000),
            "log.retention.hours" => set(&mut part, "retention.ms", value, 3_600_000),
            "log.retention.bytes" => set(&mut part, "retention.bytes", value, 1),
            "message.max.bytes" => set(&mut part, "max.message.bytes", value, 1),
            "log.cleanup.policy" => {
                part.topic_defaults.insert("cleanup.policy".to_owned(), value.to_owned());
            }
            "log.message.timestamp.type" => {
                part.topic_defaults.insert("message.timestamp.type".to_owned(), value.to_owned());
            }
            _ if NOT_NEEDED.iter().any(|known| name.starts_with(known)) => {}
            _ => part.ignored.push(key.0),
        }
    }
    listeners.retain(|(name, _, _)| !controllers.contains(name));
    advertised.retain(|(name, _, _)| !controllers.contains(name));
    part.users.extend(names.into_iter().zip(passwords));
    part.allow_if_none = allow_everyone.unwrap_or(part.allow_if_none);
    part.certificate = store.filter(|_| is_pem);
    let way = |name: &str| {
        let said = ways.get(&name.to_ascii_uppercase()).copied();
        said.or_else(|| Way::of(name)).unwrap_or_default()
    };
    if part.certificate.is_none() {
        let needs = |(name, _, _): &&(String, String, u16)| way(name).tls;
        let named = if listeners.is_empty() { &advertised } else { &listeners };
        part.closed = named.iter().filter(needs).map(|(name, _, _)| name.clone()).collect();
        listeners.retain(|(name, _, _)| !part.closed.contains(name));
        advertised.retain(|(name, _, _)| !part.closed.contains(name));
    }
    part.doors = doors(service, &listeners, &advertised, &way);
    let mounted = DATA
        .iter()
        .find(|data| service.volumes.iter().any(|mount| mount.target.as_os_str() == **data));
    part.data = mounted.map(|data| (*data).to_owned());
    part
}

/// The port of a part that a published port leads to; of other services, what the file says.
pub fn published_target(service: &Service, port: &Port) -> u16 {
    if service.stand_in != Some(Part::Events) || port.protocol != PortKind::Tcp {
        return port.target;
    }
    let tcp = service.ports.iter().filter(|port| port.protocol == PortKind::Tcp);
    let at = tcp.take_while(|other| *other != port).count();
    OUTSIDE.saturating_add(u16::try_from(at).unwrap_or(u16::MAX))
}

fn set(part: &mut EventsPart, name: &str, value: &str, factor: i64) {
    if let Ok(number) = value.trim().parse::<i64>() {
        // Less than none is for ever, in any unit.
        let number = if number < 0 { -1 } else { number.saturating_mul(factor) };
        part.topic_defaults.insert(name.to_owned(), number.to_string());
    }
}

/// Every setting: as the file writes it and by its own name, with its value.
fn settings(service: &Service) -> Vec<((String, String), String)> {
    let mut all = Vec::new();
    for (key, value) in &service.environment {
        let name = key.strip_prefix("KAFKA_CFG_").or_else(|| key.strip_prefix("KAFKA_"));
        if let Some(name) = name {
            let name = name.to_ascii_lowercase().replace('_', ".");
            all.push(((key.clone(), name), value.clone()));
        }
    }
    let words = service.command.iter().flatten().flat_map(|word| word.split_whitespace());
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--") else { continue };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                (flag, words.next_if(|next| !next.starts_with("--")).unwrap_or_default().to_owned())
            }
        };
        match (name, value.split_once('=')) {
            ("kafka-addr" | "advertise-kafka-addr", _) => {
                all.push(((word.to_owned(), name.to_owned()), value));
            }
            ("set", Some((name, value))) => {
                let name = name.trim_start_matches("redpanda.").to_owned();
                all.push(((word.to_owned(), name), value.to_owned()));
            }
            _ => {}
        }
    }
    all
}

/// `NAME://HOST:PORT,…`: name, host and port of each.
fn addresses(text: &str) -> Vec<(String, String, u16)> {
    let each = text.split(',').filter_map(|one| {
        let (name, address) = one.trim().split_once("://").unwrap_or(("PLAINTEXT", one.trim()));
        let (host, port) = address.rsplit_once(':')?;
        Some((name.to_owned(), host.to_owned(), port.trim().parse().ok()?))
    });
    each.collect()
}

/// `a, b`.
fn list(text: &str) -> Vec<String> {
    text.split([',', ';']).map(|one| one.trim().to_owned()).collect()
}

/// Users of a login module of Java: `user_NAME="PASSWORD"`, and the server's own.
fn jaas(text: &str) -> Vec<(String, String)> {
    let (mut users, mut own) = (Vec::new(), [None, None]);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("=\"") {
        let name = before.rsplit(|letter: char| letter.is_whitespace()).next().unwrap_or_default();
        let Some((value, after)) = after.split_once('"') else { break };
        match (name, name.strip_prefix("user_")) {
            (_, Some(user)) => users.push((user.to_owned(), value.to_owned())),
            ("username", None) => own[0] = Some(value.to_owned()),
            ("password", None) => own[1] = Some(value.to_owned()),
            _ => {}
        }
        rest = after;
    }
    if let [Some(name), Some(password)] = own
        && !users.iter().any(|(user, _)| *user == name)
    {
        users.push((name, password));
    }
    users
}

/// `NAME:PARTITIONS:…,…`.
fn topics(text: &str) -> Vec<(String, i32)> {
    let each = text.split([',', ' ', '\n']).filter_map(|one| {
        let mut parts = one.trim().split(':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let partitions = parts.next().and_then(|count| count.parse().ok()).unwrap_or(1);
        Some((name.to_owned(), partitions))
    });
    each.collect()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.starts_with("127.")
        || host == "[::1]"
        || host.is_empty()
        || host == "0.0.0.0"
}

fn doors(
    service: &Service,
    listeners: &[(String, String, u16)],
    advertised: &[(String, String, u16)],
    way: &dyn Fn(&str) -> Way,
) -> Vec<Door> {
    let mut doors: Vec<Door> = Vec::new();
    let own = service.name.to_string();
    let mut inside: Vec<(Option<&str>, u16)> =
        listeners.iter().map(|(name, _, port)| (Some(name.as_str()), *port)).collect();
    if inside.is_empty() {
        // An image that is told what to advertise listens there.
        inside = advertised.iter().map(|(name, _, port)| (Some(name.as_str()), *port)).collect();
    }
    if inside.is_empty() {
        inside.push((None, KAFKA));
    }
    for port in service.tcp_ports() {
        if !inside.iter().any(|(_, had)| *had == port) {
            inside.push((None, port));
        }
    }
    for (name, port) in inside {
        let told = advertised
            .iter()
            .find(|(other, host, _)| Some(other.as_str()) == name && !is_loopback(host));
        let (host, advertised_port) =
            told.map_or((own.clone(), port), |(_, host, port)| (host.clone(), *port));
        let Way { login, tls } = name.map(way).unwrap_or_default();
        if !doors.iter().any(|door| door.port == port) {
            doors.push(Door { port, host, advertised_port, outside: false, login, tls });
        }
    }
    // Those that anybody can come in by are first: the console, too.
    doors.sort_by_key(|door| (door.tls, door.login));
    for port in service.ports.iter().filter(|port| port.protocol == PortKind::Tcp) {
        // A port that is left open is not known yet: who comes by it is told the name.
        let Some(published) = port.published else { continue };
        let told = advertised.iter().find(|(_, _, at)| *at == published);
        let host = match (told, port.host_ip) {
            (Some((_, host, _)), _) if *host != own => host.clone(),
            (_, Some(ip)) if !ip.is_unspecified() => ip.to_string(),
            _ => "localhost".to_owned(),
        };
        let behind = doors.iter().find(|door| door.port == port.target);
        let (login, tls) = behind.map_or((false, false), |door| (door.login, door.tls));
        let (port, advertised_port) = (published_target(service, port), published);
        doors.push(Door { port, host, advertised_port, outside: true, login, tls });
    }
    doors
}

#[cfg(test)]
mod tests {
    use base::Place;

    use super::*;

    fn service(environment: &[(&str, &str)], ports: &[(u16, u16)], command: &[&str]) -> Service {
        let place = Place { file: "compose.yaml".into(), line: 1, column: 1 };
        let mut service = Service::new("kafka".parse().unwrap(), place.clone());
        service.stand_in = Some(Part::Events);
        service.environment = environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        service.ports = ports
            .iter()
            .map(|(published, target)| Port {
                host_ip: None,
                published: Some(*published),
                target: *target,
                protocol: PortKind::Tcp,
                app_protocol: None,
                name: None,
                place: place.clone(),
            })
            .collect();
        service.command = Some(command.iter().map(|word| (*word).to_owned()).collect());
        service
    }

    fn said(part: &EventsPart) -> Vec<String> {
        let each = part.doors.iter();
        each.map(|door| format!("{}={}:{}", door.port, door.host, door.advertised_port)).collect()
    }

    #[test]
    fn who_says_nothing_is_reached_by_name_and_from_outside() {
        let part = events(&service(&[], &[(9092, 9092)], &[]));
        assert_eq!(said(&part), ["9092=kafka:9092", "39092=localhost:9092"]);
        assert!(part.auto_create);
    }

    #[test]
    fn listeners_are_told_apart_as_the_file_does() {
        let part = events(&service(
            &[
                (
                    "KAFKA_LISTENERS",
                    "PLAINTEXT://0.0.0.0:29092,PLAINTEXT_HOST://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093",
                ),
                (
                    "KAFKA_ADVERTISED_LISTENERS",
                    "PLAINTEXT://broker:29092,PLAINTEXT_HOST://localhost:9092",
                ),
                ("KAFKA_NUM_PARTITIONS", "3"),
                ("KAFKA_LOG_RETENTION_HOURS", "2"),
                ("KAFKA_OFFSETS_RETENTION_MINUTES", "90"),
                ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false"),
                ("KAFKA_CREATE_TOPICS", "a:2:1,b:1:1:compact"),
                ("KAFKA_NODE_ID", "1"),
                ("KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE", "1"),
            ],
            &[(9092, 9092)],
            &[],
        ));
        assert_eq!(said(&part), ["29092=broker:29092", "9092=kafka:9092", "39092=localhost:9092"]);
        assert_eq!((part.partitions, part.auto_create), (3, false));
        assert_eq!(part.topic_defaults["retention.ms"], "7200000");
        assert_eq!(part.offsets_retention_minutes, Some(90));
        assert_eq!(part.topics, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!(part.ignored, ["KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE"]);
    }

    #[test]
    fn who_has_to_log_in_and_who_may_is_read_too() {
        let part = events(&service(
            &[
                ("KAFKA_LISTENERS", "OUT://:9094,SSL://:9095,INTERNAL://:9092"),
                ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "INTERNAL:PLAINTEXT,OUT:SASL_PLAINTEXT"),
                (
                    "KAFKA_LISTENER_NAME_OUT_PLAIN_SASL_JAAS_CONFIG",
                    "org.apache.kafka.common.security.plain.PlainLoginModule required \
                     username=\"admin\" password=\"a b\" user_bob=\"b=1;\";",
                ),
                ("KAFKA_CLIENT_USERS", "eve,al"),
                ("KAFKA_CLIENT_PASSWORDS", "e,a"),
                ("KAFKA_SASL_ENABLED_MECHANISMS", "PLAIN"),
                ("KAFKA_SUPER_USERS", "User:admin;User:root"),
                ("KAFKA_AUTHORIZER_CLASS_NAME", "org.apache.kafka.StandardAuthorizer"),
            ],
            &[(9094, 9094), (9092, 9092)],
            &[],
        ));
        let ways: Vec<_> = part.doors.iter().map(|door| (door.port, door.login)).collect();
        assert_eq!(ways, [(9092, false), (9094, true), (39092, true), (39093, false)]);
        assert_eq!(part.closed, ["SSL"]);
        let user = |name: &str, password: &str| (name.to_owned(), password.to_owned());
        let users = [user("bob", "b=1;"), user("admin", "a b"), user("eve", "e"), user("al", "a")];
        assert_eq!(part.users, users);
        assert_eq!(part.super_users, ["User:admin", "User:root"]);
        assert!(!part.allow_if_none && part.ignored.is_empty());
        // With a certificate in a form that is read, TLS is spoken.
        let part = events(&service(
            &[
                ("KAFKA_LISTENERS", "SASL_SSL://:9093"),
                ("KAFKA_SSL_KEYSTORE_TYPE", "PEM"),
                ("KAFKA_SSL_KEYSTORE_LOCATION", "/certs/kafka.pem"),
            ],
            &[],
            &[],
        ));
        assert_eq!(part.certificate.as_deref(), Some("/certs/kafka.pem"));
        assert!(part.doors[0].login && part.doors[0].tls && part.closed.is_empty());
    }

    #[test]
    fn other_images_say_it_in_their_own_way() {
        let bitnami = events(&service(&[("KAFKA_CFG_LISTENERS", "PLAINTEXT://:9094")], &[], &[]));
        assert_eq!(said(&bitnami), ["9094=kafka:9094"]);
        let words = [
            "redpanda",
            "start",
            "--kafka-addr",
            "internal://0.0.0.0:9092,external://0.0.0.0:19092",
            "--advertise-kafka-addr=internal://redpanda-0:9092,external://localhost:19092",
            "--smp",
            "1",
            "--set",
            "redpanda.auto_create_topics_enabled=false",
        ];
        let redpanda = events(&service(&[], &[(19092, 19092)], &words));
        let doors = ["9092=redpanda-0:9092", "19092=kafka:19092", "39092=localhost:19092"];
        assert_eq!(said(&redpanda), doors);
        assert!(!redpanda.auto_create);
    }
}
