//! Event logs as the console and the command line see them: whichever serves a service's name is
//! asked over the Kafka protocol.
//!
//! Not here: the protocol (`events::client`), the log. This finds the log of a service, connects to
//! it and turns answers into what the API shows.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::{Problem, ServiceName, UnixNanos};
use bytes::Bytes;
use console::event_log::{
    Answer, Ask, Change, Changed, Data, GroupView, HeaderView, LagView, MemberView, MessagePage,
    MessageQuery, MessageView, MovedView, PartitionView, SettingView, TopicDetail, TopicView,
};
use control::State;
use events::client::{self, Client, ClientError, Cursor, Position};
use spec::model::Part;
use tokio::net::TcpStream;

use super::api::Shared;
use super::convert;
use super::event_figures::{self, Rates};

/// How long a log may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Groups of one answer at most.
const GROUPS_MAX: usize = 1_000;

const MILLI: u64 = 1_000_000;

/// Asks the log of a service, or the only one.
pub(super) async fn ask(
    shared: Arc<Shared>,
    service: Option<String>,
    ask: Ask,
) -> Result<Answer, Problem> {
    let state = shared.control.state();
    let logs = services(&state);
    if let Ask::Services = ask {
        return Ok(Answer::Services(logs));
    }
    let is_service = |name: &str| state.services.keys().any(|known| known.as_str() == name);
    let service = choose(is_service, &logs, service.as_deref())?;
    let mut client = connect(&state, &service).await.map_err(|e| unreached(&service, &e))?;
    let log = Log { shared: &shared, service: &service };
    log.answer(&mut client, ask).await.map_err(|error| refused(&service, error))
}

/// The services that are event logs, by name.
pub(super) fn services(state: &State) -> Vec<ServiceName> {
    let all = state.services.iter();
    let logs = all.filter(|(_, record)| record.definition.stand_in == Some(Part::Events));
    logs.map(|(name, _)| name.clone()).collect()
}

fn choose(
    is_service: impl Fn(&str) -> bool,
    logs: &[ServiceName],
    wanted: Option<&str>,
) -> Result<ServiceName, Problem> {
    let names: Vec<_> = logs.iter().map(ServiceName::as_str).collect();
    let example = "give a service the image apache/kafka: an event log runs in its place";
    match (wanted, logs) {
        (Some(wanted), _) if names.contains(&wanted) => {
            wanted.parse().map_err(|_| Problem::new("service-unknown", "no such service"))
        }
        (Some(wanted), _) if !is_service(wanted) => {
            Err(Problem::new("service-unknown", format!("there is no service `{wanted}`"))
                .with_next("`ms ps` lists the services"))
        }
        (Some(wanted), _) => {
            let problem = Problem::new("no-event-log", format!("`{wanted}` is no event log"));
            Err(match names.is_empty() {
                true => problem.with_next(example),
                false => problem.with_next(format!("event logs are: {}", names.join(", "))),
            })
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => {
            Err(Problem::new("no-event-log", "this app has no event log").with_next(example))
        }
        (None, _) => Err(Problem::new("several-event-logs", "which event log is not said")
            .with_cause(format!("there are {}", names.join(", ")))
            .with_next(format!("say it: --service {}", names[0]))),
    }
}

/// A connection to an instance of a service's log, from beside the edge, so that what the engine
/// looks at is not taken for traffic.
pub(super) async fn connect(
    state: &State,
    service: &ServiceName,
) -> Result<Client<TcpStream>, ClientError> {
    let stream = match address(state, service) {
        Some(addr) => tokio::time::timeout(CONNECT, TcpStream::connect(addr)).await,
        None => return Err(std::io::Error::other("none of its instances is ready").into()),
    };
    let stream = stream.map_err(|_| ClientError::Silent)??;
    stream.set_nodelay(true)?;
    Client::open(stream).await
}

fn address(state: &State, service: &ServiceName) -> Option<SocketAddr> {
    let route = state.live.plan.as_ref()?.services.get(service)?;
    let endpoint = route.endpoints.iter().find(|endpoint| endpoint.ready)?;
    if let Some(port) = endpoint.port_env {
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let port = *convert::ports(state.release(service, route.release)?).first()?;
    Some(SocketAddr::from((endpoint.address, port)))
}

fn unreached(service: &ServiceName, error: &ClientError) -> Problem {
    Problem::new("event-log-unreachable", format!("the event log `{service}` cannot be asked"))
        .with_cause(error.to_string())
        .with_next(format!("ms why {service}"))
}

/// What the log did not do, in the API's words.
fn refused(service: &ServiceName, error: ClientError) -> Problem {
    let (what, code, why) = match error {
        ClientError::Refused { what, code, why } => (what, code, why),
        other => return unreached(service, &other),
    };
    let message = format!("{what}: {why}");
    match code {
        3 if what.starts_with("partition") => Problem::new("not-found", message)
            .with_next("`ms events describe TOPIC` lists the partitions"),
        3 => Problem::new("not-found", message).with_next("`ms events topics` lists the topics"),
        69 => Problem::new("not-found", message).with_next("`ms events groups` lists the groups"),
        68 => Problem::new("group-active", what)
            .with_cause(why)
            .with_next("stop its members first, such as with `ms stop SERVICE`"),
        36 => Problem::new("conflict", message).with_next("choose another name, or use the topic"),
        _ => Problem::new("event-log-refused", message)
            .with_cause(format!("the event log `{service}` answers with code {code}"))
            .with_next("change what it names, and try again"),
    }
}

/// A log while it is asked.
struct Log<'a> {
    shared: &'a Shared,
    service: &'a ServiceName,
}

impl Log<'_> {
    async fn answer(
        &self,
        client: &mut Client<TcpStream>,
        ask: Ask,
    ) -> Result<Answer, ClientError> {
        Ok(match ask {
            Ask::Services => Answer::Services(Vec::new()),
            Ask::Topics => {
                let rates = event_figures::rates(&self.shared.history, self.service);
                let topics = client.topics(None).await?;
                Answer::Topics(topics.iter().map(|topic| view(topic, &rates)).collect())
            }
            Ask::Topic(name) => {
                let rates = event_figures::rates(&self.shared.history, self.service);
                let mut topics = client.topics(Some(&name)).await?;
                let topic = topics.pop().ok_or(ClientError::Silent)?;
                let settings = client.settings(&name).await?.into_iter();
                let settings = settings.map(|setting| SettingView {
                    name: setting.name,
                    value: setting.value,
                    is_default: setting.is_default,
                });
                Answer::Topic(TopicDetail {
                    topic: view(&topic, &rates),
                    partitions: topic.partitions.iter().map(partition).collect(),
                    settings: settings.collect(),
                })
            }
            Ask::Messages(topic, query) => Answer::Messages(page(client, &topic, &query).await?),
            Ask::Groups => {
                let groups = client.groups(GROUPS_MAX).await?;
                Answer::Groups(groups.into_iter().map(group).collect())
            }
            Ask::Group(name) => Answer::Group(group(client.group(&name).await?)),
            Ask::Change(change) => Answer::Changed(self.change(client, change).await?),
        })
    }

    async fn change(
        &self,
        client: &mut Client<TcpStream>,
        change: Change,
    ) -> Result<Changed, ClientError> {
        let mut offsets = Vec::new();
        match change {
            Change::CreateTopic { topic, partitions, settings } => {
                let partitions = partitions.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
                client.create(&topic, partitions, &settings).await?;
            }
            Change::DeleteTopic { topic } => client.delete(&topic).await?,
            Change::Produce { topic, partition, messages } => {
                let now = self.shared.clock.now();
                let now_ms = i64::try_from(now.0 / MILLI).unwrap_or(i64::MAX);
                let messages = messages.into_iter().map(message_to_write).collect();
                let partition = partition.map(index);
                let first = client.produce(&topic, partition, messages, now_ms, now.0 / MILLI);
                offsets.extend(first.await?.into_iter().map(|(partition, after)| MovedView {
                    partition: partition.unsigned_abs(),
                    before: None,
                    after: natural(after),
                }));
            }
            Change::ResetGroup { group, topic, partition, to } => {
                let to = position(&to)?;
                let moved = client.reset(&group, &topic, partition.map(index), to).await?;
                offsets.extend(moved.into_iter().map(|moved| MovedView {
                    partition: moved.partition.unsigned_abs(),
                    before: moved.before.map(natural),
                    after: natural(moved.after),
                }));
            }
        }
        Ok(Changed { offsets })
    }
}

fn message_to_write(message: console::event_log::NewMessage) -> client::NewMessage {
    let header = |(name, value): (String, String)| (Bytes::from(name), Some(Bytes::from(value)));
    client::NewMessage {
        key: message.key.map(Bytes::from),
        value: message.value.map(Bytes::from),
        headers: message.headers.into_iter().map(header).collect(),
    }
}

fn index(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What cannot be meant, said as the log says it.
fn odd(what: &str, text: &str, forms: &str) -> ClientError {
    let (what, why) = (format!("there is no {what} `{text}`"), forms.to_owned());
    ClientError::Refused { what, code: INVALID_REQUEST, why }
}

/// The protocol's word for a request that makes no sense.
const INVALID_REQUEST: i16 = 42;

fn position(text: &str) -> Result<Position, ClientError> {
    Ok(match (text, text.strip_prefix("time:")) {
        ("beginning", _) => Position::Beginning,
        ("end", _) => Position::End,
        (_, Some(nanos)) => {
            let nanos: u64 = nanos.parse().map_err(|_| odd("time", nanos, "Unix nanoseconds"))?;
            Position::Time(i64::try_from(nanos / MILLI).unwrap_or(i64::MAX))
        }
        (offset, None) => {
            let offset: u64 = offset.parse().map_err(|_| {
                odd("place", offset, "beginning, end, an offset or time:NANOSECONDS")
            })?;
            Position::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
        }
    })
}

/// `0:12,1:40`: an offset for each partition.
fn cursor(text: &str) -> Option<Cursor> {
    let each = text.split(',').filter(|one| !one.is_empty()).map(|one| {
        let (partition, offset) = one.split_once(':')?;
        let partition: u32 = partition.parse().ok()?;
        Some((i32::try_from(partition).ok()?, offset.parse().ok().filter(|at: &i64| *at >= 0)?))
    });
    each.collect()
}

fn written(cursor: &Cursor) -> String {
    let each = cursor.iter().map(|(partition, offset)| format!("{partition}:{offset}"));
    each.collect::<Vec<_>>().join(",")
}

async fn page(
    client: &mut Client<TcpStream>,
    topic: &str,
    query: &MessageQuery,
) -> Result<MessagePage, ClientError> {
    let from = match (&query.next, &query.from) {
        (Some(next), _) => {
            cursor(next).ok_or_else(|| odd("place", next, "what an answer gave as `next`"))?
        }
        (None, from) => {
            let at = match from.as_deref().map(position).transpose()? {
                Some(at) => at,
                None if query.newest => Position::End,
                None => Position::Beginning,
            };
            client.place(topic, query.partition.map(index), at).await?
        }
    };
    let page = match query.newest {
        true => client.backward(topic, &from, query.limit()).await?,
        false => {
            let wait = Duration::from_millis(query.wait_ms);
            client.forward(topic, &from, query.limit(), wait).await?
        }
    };
    let shown = |bytes: Bytes| Data::of(&bytes, query.cut_bytes);
    let messages = page.messages.into_iter().map(|message| MessageView {
        partition: message.partition.unsigned_abs(),
        offset: natural(message.offset),
        at: UnixNanos(natural(message.time_ms).saturating_mul(MILLI)),
        key: message.key.map(shown),
        value: message.value.map(shown),
        headers: {
            let each = message.headers.into_iter().map(|(name, value)| HeaderView {
                name: String::from_utf8_lossy(&name).into_owned(),
                value: value.map(shown),
            });
            each.collect()
        },
    });
    let messages = messages.collect();
    Ok(MessagePage { messages, next: written(&page.next), more: page.has_more })
}

fn view(topic: &client::Topic, rates: &Rates) -> TopicView {
    let sizes = topic.partitions.iter().map(|partition| partition.bytes);
    let rate = rates.get(&topic.name).copied().unwrap_or_default();
    TopicView {
        name: topic.name.clone(),
        internal: topic.is_internal,
        partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        messages: topic.partitions.iter().map(|one| natural(one.end - one.start)).sum(),
        bytes: sizes.map(|bytes| bytes.map(natural)).sum(),
        messages_in_per_second: rate.messages_in,
        bytes_in_per_second: rate.bytes_in,
        bytes_out_per_second: rate.bytes_out,
    }
}

fn partition(partition: &client::Partition) -> PartitionView {
    PartitionView {
        partition: partition.index.unsigned_abs(),
        start: natural(partition.start),
        end: natural(partition.end),
        bytes: partition.bytes.map(natural),
    }
}

fn group(group: client::Group) -> GroupView {
    let lags = group.lags.iter().filter_map(client::Lag::messages).map(natural);
    let lag = Some(lags.sum());
    let members = group.members.into_iter().map(|member| MemberView {
        id: member.id,
        instance: member.instance,
        client: member.client,
        host: member.host.trim_start_matches('/').to_owned(),
        partitions: {
            let each: usize = member.assigned.values().map(Vec::len).sum();
            u32::try_from(each).unwrap_or(u32::MAX)
        },
    });
    let partitions = group.lags.into_iter().map(|lag| LagView {
        lag: lag.messages().map(natural),
        topic: lag.topic,
        partition: lag.partition.unsigned_abs(),
        committed: lag.committed.map(natural),
        end: lag.end.map(natural),
        member: lag.member,
    });
    GroupView {
        name: group.name,
        kind: group.kind,
        state: group.state,
        assignor: group.assignor,
        members: members.collect(),
        partitions: partitions.collect(),
        lag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_odd_ones_refused() {
        for (text, place) in [
            ("beginning", Position::Beginning),
            ("end", Position::End),
            ("17", Position::Offset(17)),
            ("time:5000000", Position::Time(5)),
        ] {
            assert_eq!(position(text).unwrap(), place);
        }
        for bad in ["", "-1", "middle", "time:", "time:noon"] {
            let problem = refused(&"log".parse().unwrap(), position(bad).unwrap_err());
            assert_eq!(problem.code, "event-log-refused", "{bad}");
        }
        let at = Cursor::from([(0, 12), (3, 40)]);
        assert_eq!(written(&at), "0:12,3:40");
        assert_eq!(cursor("0:12,3:40"), Some(at));
        for bad in ["0", "0:", "x:1", "0:-1", "-1:0"] {
            assert_eq!(cursor(bad), None, "{bad}");
        }
    }

    #[test]
    fn which_log_is_meant_is_said_when_there_are_several() {
        let names = |all: &[&str]| all.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
        let code = |logs: &[&str], wanted| match choose(|name| name == "web", &names(logs), wanted)
        {
            Ok(name) => name.to_string(),
            Err(problem) => problem.code,
        };
        assert_eq!(code(&[], None), "no-event-log");
        assert_eq!(code(&["kafka"], None), "kafka");
        assert_eq!(code(&["a", "b"], None), "several-event-logs");
        assert_eq!(code(&["a", "b"], Some("b")), "b");
        assert_eq!(code(&["a", "b"], Some("web")), "no-event-log");
        assert_eq!(code(&["a", "b"], Some("c")), "service-unknown");
    }
}
