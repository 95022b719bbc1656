//! Members of share groups: that they are there, what is theirs, how they are described.

use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Str, Uuid, share_group_describe as describes, share_group_heartbeat as beats,
};

use crate::engine::groups::assign::Partitions;
use crate::engine::groups::classic::GroupError;
use crate::engine::groups::membership::{Beat, Group, JOINING, LEAVING, Sharing};
use crate::kafka::errors::code;
use crate::kafka::groups::{code_of, host};
use crate::kafka::members::may_see;
use crate::kafka::{Front, Session};
use crate::security::acls::{Operation, Resource};

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
    if let Err(why) = check(&request) {
        return refused(code::INVALID_REQUEST, why.to_owned());
    }
    let (group, member) = (&request.group_id, request.member_id.clone());
    let setting = |name: &str| front.settings.of_group(group, name).trim().parse::<u32>();
    // These have bounds that were checked when they were said.
    let session_ms = setting("share.session.timeout.ms").unwrap_or(45_000);
    let interval_ms = setting("share.heartbeat.interval.ms").unwrap_or(5000);
    let names = request.subscribed_topic_names;
    let beat = Beat {
        member: member.to_string(),
        epoch: request.member_epoch,
        rack: request.rack_id.map(|rack| rack.to_string()),
        client: header.client_id.as_deref().unwrap_or_default().to_owned(),
        host: host(session),
        session_ms: u64::from(session_ms),
        names: names.map(|names| names.iter().map(Str::to_string).collect()),
        tell_all: request.member_epoch == JOINING,
        ..Beat::default()
    };
    let may_see = |topic: &str| front.may(session, Operation::Describe, Resource::Topic, topic);
    match front.groups.beat(group, Sharing::Share, beat, &may_see).await {
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
fn check(request: &beats::Request) -> Result<(), &'static str> {
    if request.group_id.trim().is_empty() {
        return Err("GroupId can't be empty.");
    }
    if request.member_id.is_empty() {
        return Err("MemberId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|rack| rack.is_empty()) {
        return Err("RackId can't be empty.");
    }
    let names = request.subscribed_topic_names.as_ref();
    match request.member_epoch {
        JOINING if names.is_none_or(Vec::is_empty) => {
            Err("SubscribedTopicNames must be set in first request.")
        }
        epoch if epoch < LEAVING => Err("MemberEpoch is invalid."),
        _ => Ok(()),
    }
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
        let refused = |error_code: i16, why: String| describes::DescribedGroup {
            error_code,
            error_message: Some(why.into()),
            ..describes::DescribedGroup::default()
        };
        let mut told = match front.groups.members(&name, Sharing::Share).await {
            None => {
                let is_other =
                    front.groups.sharing(&name).is_some() || front.groups.describe(&name).is_some();
                let why = match is_other {
                    true => format!("Group {name} is not a share group."),
                    false => format!("Group {name} not found."),
                };
                refused(code::GROUP_ID_NOT_FOUND, why)
            }
            Some(group) if !may_see(front, session, &group) => {
                let why = "The group has topics that the client may not describe.".to_owned();
                refused(code::TOPIC_AUTHORIZATION_FAILED, why)
            }
            Some(group) => of_group(front, &group),
        };
        if request.include_authorized_operations && told.error_code == 0 {
            told.authorized_operations = front.operations(session, Resource::Group, &name);
        }
        response.groups.push(describes::DescribedGroup { group_id: name, ..told });
    }
    response
}

fn of_group(front: &Front, group: &Group) -> describes::DescribedGroup {
    let told = |partitions: &Partitions| {
        let topics = partitions.iter().filter_map(|(id, partitions)| {
            Some(describes::TopicPartitions {
                topic_id: Uuid(id.to_be_bytes()),
                topic_name: front.log.topic_by_id(*id)?.name.as_str().into(),
                partitions: partitions.iter().copied().collect(),
            })
        });
        describes::Assignment { topic_partitions: topics.collect() }
    };
    let members = group.members.iter().map(|(id, member)| describes::Member {
        member_id: id.as_str().into(),
        rack_id: member.rack.as_deref().map(Into::into),
        member_epoch: member.epoch,
        client_id: member.client.as_str().into(),
        client_host: member.host.as_str().into(),
        subscribed_topic_names: member.names.iter().map(|name| name.as_str().into()).collect(),
        assignment: told(&member.assigned),
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
