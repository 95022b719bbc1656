//! Consumer groups whose members are told what is theirs, on the wire.
//!
//! Not here: groups whose members share out among themselves (`groups`). What a member says is
//! checked here for its form; whether it is true, the engine knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Str, Uuid, consumer_group_describe as describes,
    consumer_group_heartbeat as beats,
};

use super::errors::code;
use super::groups::{code_of, host, uuid};
use super::{Front, Session};
use crate::engine::groups::assign::{Assignor, Partitions};
use crate::engine::groups::classic::GroupError;
use crate::engine::groups::membership::{Beat, Group, JOINING, Member, PAUSING, Sharing};
use crate::security::acls::{Operation, Resource};

/// Ways of sharing out that a member of a consumer group may ask for.
const ASSIGNORS: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

pub(crate) async fn heartbeat(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: beats::Request,
) -> beats::Response {
    let refused = |error_code: i16, why: String| beats::Response {
        error_code,
        error_message: Some(why.into()),
        ..beats::Response::default()
    };
    if let Err(why) = check(header, &request) {
        return refused(code::INVALID_REQUEST, why);
    }
    let assignor = match request.server_assignor.as_deref() {
        None => None,
        Some(name) => match ASSIGNORS.into_iter().find(|one| one.name() == name) {
            Some(assignor) => Some(assignor),
            None => {
                let why = format!(
                    "The assignor {name} is not supported; supported are: {}.",
                    ASSIGNORS.map(Assignor::name).join(", ")
                );
                return refused(code::UNSUPPORTED_ASSIGNOR, why);
            }
        },
    };
    // In the first version the server gives ids.
    let member = match request.member_id.is_empty() {
        true => uuid(front.random()).into(),
        false => request.member_id.clone(),
    };
    let group = &request.group_id;
    let setting = |name: &str| front.settings.of_group(group, name).trim().parse::<u32>();
    // These have bounds that were checked when they were said.
    let session_ms = setting("consumer.session.timeout.ms").unwrap_or(45_000);
    let interval_ms = setting("consumer.heartbeat.interval.ms").unwrap_or(5000);
    let says_topics =
        request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    let says_all =
        says_topics && request.rebalance_timeout_ms >= 0 && request.topic_partitions.is_some();
    let names = request.subscribed_topic_names;
    let beat = Beat {
        member: member.to_string(),
        epoch: request.member_epoch,
        instance: request.instance_id.map(|instance| instance.to_string()),
        rack: request.rack_id.map(|rack| rack.to_string()),
        client: header.client_id.as_deref().unwrap_or_default().to_owned(),
        host: host(session),
        session_ms: u64::from(session_ms),
        rebalance_ms: u64::try_from(request.rebalance_timeout_ms).ok(),
        names: names.map(|names| names.iter().map(Str::to_string).collect()),
        pattern: request.subscribed_topic_regex.map(|pattern| pattern.to_string()),
        matched: None,
        assignor,
        owned: request.topic_partitions.as_deref().map(owned),
        tell_all: request.member_epoch == JOINING || says_all,
    };
    let may_see = |topic: &str| front.may(session, Operation::Describe, Resource::Topic, topic);
    match front.groups.beat(group, Sharing::Consumer, beat, &may_see).await {
        Ok(beaten) => beats::Response {
            member_id: Some(member),
            member_epoch: beaten.epoch,
            heartbeat_interval_ms: match beaten.epoch < 0 {
                true => 0,
                false => i32::try_from(interval_ms).unwrap_or(i32::MAX),
            },
            assignment: beaten.assigned.as_ref().map(assignment),
            ..beats::Response::default()
        },
        Err(error) => {
            let why = match error {
                GroupError::NotFound => format!("Group {group} not found, or of another kind."),
                error => format!("Member {member} of group {group}: {error}."),
            };
            refused(code_of(error), why)
        }
    }
}

/// Whether a heartbeat has the form that it must have.
fn check(header: &RequestHeader, request: &beats::Request) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    let is_empty = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.is_empty());
    if request.group_id.trim().is_empty() {
        return refuse("GroupId can't be empty.");
    }
    if is_empty(&request.instance_id) {
        return refuse("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return refuse("RackId can't be empty.");
    }
    if request.member_id.is_empty() && (header.version >= 1 || request.member_epoch != JOINING) {
        return refuse("MemberId can't be empty.");
    }
    let has_names = request.subscribed_topic_names.is_some();
    let has_pattern = request.subscribed_topic_regex.is_some();
    match request.member_epoch {
        JOINING if request.rebalance_timeout_ms < 0 => {
            refuse("RebalanceTimeoutMs must be provided in first request.")
        }
        JOINING if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            refuse("TopicPartitions must be empty when (re-)joining.")
        }
        JOINING if !has_names && !has_pattern => refuse(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        PAUSING if request.instance_id.is_none() => refuse("InstanceId can't be null."),
        epoch if epoch < PAUSING => refuse("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

fn owned(topics: &[beats::TopicPartitions]) -> Partitions {
    let mut owned = Partitions::new();
    for topic in topics {
        let id = u128::from_be_bytes(topic.topic_id.0);
        owned.entry(id).or_default().extend(topic.partitions.iter().copied());
    }
    owned
}

fn assignment(partitions: &Partitions) -> beats::Assignment {
    let topics = partitions.iter().map(|(id, partitions)| beats::TopicPartitions {
        topic_id: Uuid(id.to_be_bytes()),
        partitions: partitions.iter().copied().collect(),
    });
    beats::Assignment { topic_partitions: topics.collect() }
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: describes::Request,
) -> describes::Response {
    let mut response = describes::Response::default();
    for name in request.group_ids {
        let mut told = match front.groups.members(&name, Sharing::Consumer).await {
            None => describes::DescribedGroup {
                error_code: code::GROUP_ID_NOT_FOUND,
                error_message: Some(match front.groups.describe(&name) {
                    Some(_) => format!("Group {name} is not a consumer group.").into(),
                    None => format!("Group {name} not found.").into(),
                }),
                ..describes::DescribedGroup::default()
            },
            Some(group) if !may_see(front, session, &group) => describes::DescribedGroup {
                error_code: code::TOPIC_AUTHORIZATION_FAILED,
                error_message: Some(
                    "The group has topics that the client may not describe.".into(),
                ),
                ..describes::DescribedGroup::default()
            },
            Some(group) => of_group(front, &group),
        };
        if request.include_authorized_operations && told.error_code == 0 {
            told.authorized_operations = front.operations(session, Resource::Group, &name);
        }
        response.groups.push(describes::DescribedGroup { group_id: name, ..told });
    }
    response
}

/// Whether a session may know of every topic of a group.
pub(super) fn may_see(front: &Front, session: &Session, group: &Group) -> bool {
    let mut topics = group.members.values().flat_map(Member::topics);
    topics.all(|topic| front.may(session, Operation::Describe, Resource::Topic, topic))
}

fn of_group(front: &Front, group: &Group) -> describes::DescribedGroup {
    let names: BTreeMap<u128, &String> =
        group.topics.iter().map(|(name, topic)| (topic.id, name)).collect();
    let told = |partitions: &Partitions| {
        let topics = partitions.iter().filter_map(|(id, partitions)| {
            let name = names.get(id).map(|name| Str::from(name.as_str()));
            let of_log = || Some(front.log.topic_by_id(*id)?.name.as_str().into());
            Some(describes::TopicPartitions {
                topic_id: Uuid(id.to_be_bytes()),
                topic_name: name.or_else(of_log)?,
                partitions: partitions.iter().copied().collect(),
            })
        });
        describes::Assignment { topic_partitions: topics.collect() }
    };
    let members = group.members.iter().map(|(id, member)| describes::Member {
        member_id: id.as_str().into(),
        instance_id: member.instance.as_deref().map(Into::into),
        rack_id: member.rack.as_deref().map(Into::into),
        member_epoch: member.epoch,
        client_id: member.client.as_str().into(),
        client_host: member.host.as_str().into(),
        subscribed_topic_names: member.names.iter().map(|name| name.as_str().into()).collect(),
        subscribed_topic_regex: member.pattern.as_deref().map(Into::into),
        assignment: told(&member.assigned),
        target_assignment: told(&member.target),
        member_type: i8::from(member.alike.is_none()),
    });
    describes::DescribedGroup {
        group_state: group.phase().name().into(),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.assignor.name().into(),
        members: members.collect(),
        ..describes::DescribedGroup::default()
    }
}
