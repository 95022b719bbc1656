//! Groups on the wire.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::{
    RequestHeader, Str, delete_groups, describe_groups, heartbeat as beats, join_group as joins,
    leave_group as leaves, list_groups, sync_group as syncs,
};

use super::errors::{self, code};
use super::{Front, Session};
use crate::engine::groups::classic::{GroupError, Join};
use crate::engine::groups::membership::Sharing;
use crate::security::acls::Resource;

/// Bounds of a session, in milliseconds, as Kafka has them.
const SESSION_MS: std::ops::RangeInclusive<i32> = 6000..=1_800_000;

pub(crate) fn code_of(error: GroupError) -> i16 {
    match error {
        GroupError::UnknownMember => code::UNKNOWN_MEMBER_ID,
        GroupError::IllegalGeneration => code::ILLEGAL_GENERATION,
        GroupError::Rebalancing => code::REBALANCE_IN_PROGRESS,
        GroupError::InconsistentProtocol | GroupError::OtherKind => {
            code::INCONSISTENT_GROUP_PROTOCOL
        }
        GroupError::Fenced => code::FENCED_INSTANCE_ID,
        GroupError::MemberIdRequired => code::MEMBER_ID_REQUIRED,
        GroupError::Full => code::GROUP_MAX_SIZE_REACHED,
        GroupError::SessionTimeout => code::INVALID_SESSION_TIMEOUT,
        GroupError::NotAvailable => code::COORDINATOR_NOT_AVAILABLE,
        GroupError::NotFound => code::GROUP_ID_NOT_FOUND,
        GroupError::FencedEpoch => code::FENCED_MEMBER_EPOCH,
        GroupError::StaleEpoch => code::STALE_MEMBER_EPOCH,
        GroupError::UnreleasedInstance => code::UNRELEASED_INSTANCE_ID,
        GroupError::TooOld => code::UNSUPPORTED_VERSION,
        GroupError::Pattern => code::INVALID_REGULAR_EXPRESSION,
    }
}

pub(crate) async fn join(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: joins::Request,
) -> joins::Response {
    let refused = |error_code: i16, member: Str| joins::Response {
        error_code,
        generation_id: -1,
        member_id: member,
        protocol_name: (header.version < 7).then(Str::default),
        ..joins::Response::default()
    };
    if request.group_id.is_empty() {
        return refused(code::INVALID_GROUP_ID, request.member_id);
    }
    if !SESSION_MS.contains(&request.session_timeout_ms) {
        return refused(code::INVALID_SESSION_TIMEOUT, request.member_id);
    }
    let milliseconds = |number: i32| u64::try_from(number).unwrap_or(0);
    let session_ms = milliseconds(request.session_timeout_ms);
    // The first version has one timeout for both.
    let rebalance_ms = match header.version {
        0 => session_ms,
        _ => milliseconds(request.rebalance_timeout_ms),
    };
    let client = header.client_id.as_deref().unwrap_or_default().to_owned();
    let protocols = request.protocols.iter();
    let instance = request.group_instance_id.as_deref().map(str::to_owned);
    let named = instance.as_deref().unwrap_or(&client);
    let new_id = format!("{named}-{}", uuid(front.random()));
    let join = Join {
        member: request.member_id.to_string(),
        instance,
        client,
        host: host(session),
        session_ms,
        rebalance_ms,
        kind: request.protocol_type.to_string(),
        protocols: protocols.map(|one| (one.name.to_string(), one.metadata.to_vec())).collect(),
        id_required: header.version >= 4,
    };
    match front.groups.join(&request.group_id, join, &new_id).await {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|(id, instance, said)| {
                joins::JoinGroupResponseMember {
                    member_id: id.into(),
                    group_instance_id: instance.map(Into::into),
                    metadata: said.into(),
                }
            });
            joins::Response {
                generation_id: joined.generation,
                protocol_type: Some(joined.kind.into()),
                protocol_name: Some(joined.protocol.into()),
                leader: joined.leader.into(),
                skip_assignment: joined.keep_assignment,
                member_id: joined.member.into(),
                members: members.collect(),
                ..joins::Response::default()
            }
        }
        Err((error, member)) => refused(code_of(error), member.into()),
    }
}

/// Where a member is, as it is told of.
pub(crate) fn host(session: &Session) -> String {
    format!("/{}", session.peer.ip().to_canonical())
}

/// As identifiers of members are written.
pub(crate) fn uuid(number: u128) -> String {
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

pub(crate) async fn sync(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: syncs::Request,
) -> syncs::Response {
    let described = front.groups.describe(&request.group_id);
    if let (Some(group), true) = (&described, request.protocol_type.is_some()) {
        let other = |said: &Option<Str>, is: &str| said.as_ref().is_some_and(|said| *said != is);
        let kind = other(&request.protocol_type, &group.kind) && !group.kind.is_empty();
        let protocol = other(&request.protocol_name, &group.protocol) && !group.protocol.is_empty();
        if kind || protocol {
            let error_code = code::INCONSISTENT_GROUP_PROTOCOL;
            return syncs::Response { error_code, ..syncs::Response::default() };
        }
    }
    let assignments = request.assignments.iter();
    let done = front.groups.sync(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_deref(),
        request.generation_id,
        assignments.map(|one| (one.member_id.to_string(), one.assignment.to_vec())).collect(),
    );
    match done.await {
        Ok(assignment) => syncs::Response {
            assignment: assignment.into(),
            protocol_type: request
                .protocol_type
                .or(described.as_ref().map(|of| of.kind.as_str().into())),
            protocol_name: request.protocol_name.or(described.map(|of| of.protocol.into())),
            ..syncs::Response::default()
        },
        Err(error) => syncs::Response { error_code: code_of(error), ..syncs::Response::default() },
    }
}

pub(crate) async fn heartbeat(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: beats::Request,
) -> beats::Response {
    let alive = front.groups.heartbeat(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_deref(),
        request.generation_id,
    );
    let alive = alive.await;
    beats::Response { error_code: alive.err().map_or(0, code_of), ..beats::Response::default() }
}

pub(crate) async fn leave(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: leaves::Request,
) -> leaves::Response {
    let asked: Vec<(String, Option<String>)> = match header.version {
        0..=2 => vec![(request.member_id.to_string(), None)],
        _ => {
            let members = request.members.iter();
            members
                .map(|one| {
                    let instance = one.group_instance_id.as_deref().map(str::to_owned);
                    (one.member_id.to_string(), instance)
                })
                .collect()
        }
    };
    let left = front.groups.leave(&request.group_id, &asked).await;
    let results = match left {
        Ok(results) => results,
        Err(error) => vec![Err(error); asked.len()],
    };
    if header.version < 3 {
        let error = results.into_iter().find_map(Result::err);
        let error_code = error.map_or(0, code_of);
        return leaves::Response { error_code, ..leaves::Response::default() };
    }
    let members =
        asked.into_iter().zip(results).map(|((id, instance), result)| leaves::MemberResponse {
            member_id: result.clone().unwrap_or(id).into(),
            group_instance_id: instance.map(Into::into),
            error_code: result.err().map_or(0, code_of),
        });
    leaves::Response { members: members.collect(), ..leaves::Response::default() }
}

pub(crate) async fn list(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: list_groups::Request,
) -> list_groups::Response {
    let wanted = |filter: &[Str], word: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(word))
    };
    let groups = front.groups.list().await.into_iter().map(|(name, listed)| {
        let (group_type, kind) = match listed.sharing {
            None => ("classic", listed.kind),
            Some(Sharing::Consumer) => ("consumer", "consumer".to_owned()),
            Some(Sharing::Share) => ("share", "share".to_owned()),
        };
        list_groups::ListedGroup {
            group_id: name.into(),
            protocol_type: kind.into(),
            group_state: listed.state.into(),
            group_type: group_type.into(),
        }
    });
    let groups = groups.filter(|group| {
        wanted(&request.states_filter, &group.group_state)
            && wanted(&request.types_filter, &group.group_type)
    });
    list_groups::Response { groups: groups.collect(), ..list_groups::Response::default() }
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: describe_groups::Request,
) -> describe_groups::Response {
    let groups = request.groups.into_iter().map(|name| {
        let Some(group) = front.groups.describe(&name) else {
            let (error_code, why) = match header.version {
                6.. => {
                    let why = match front.groups.sharing(&name) {
                        Some(_) => format!("Group {name} is not a classic group."),
                        None => format!("Group {name} not found."),
                    };
                    (code::GROUP_ID_NOT_FOUND, Some(why.into()))
                }
                _ => (0, None),
            };
            return describe_groups::DescribedGroup {
                error_code,
                error_message: why,
                group_id: name,
                group_state: "Dead".into(),
                ..describe_groups::DescribedGroup::default()
            };
        };
        let members =
            group.members.iter().map(|(id, member)| describe_groups::DescribedGroupMember {
                member_id: id.as_str().into(),
                group_instance_id: member.instance.as_deref().map(Into::into),
                client_id: member.client.as_str().into(),
                client_host: member.host.as_str().into(),
                member_metadata: Bytes::copy_from_slice(member.said(&group.protocol)),
                member_assignment: Bytes::copy_from_slice(&member.assignment),
            });
        let authorized_operations = match request.include_authorized_operations {
            true => front.operations(session, Resource::Group, &name),
            false => i32::MIN,
        };
        describe_groups::DescribedGroup {
            group_id: name,
            group_state: group.state.name().into(),
            members: members.collect(),
            protocol_type: group.kind.into(),
            protocol_data: group.protocol.into(),
            authorized_operations,
            ..describe_groups::DescribedGroup::default()
        }
    });
    describe_groups::Response { groups: groups.collect(), ..describe_groups::Response::default() }
}

pub(crate) async fn delete(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: delete_groups::Request,
) -> delete_groups::Response {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for name in request.groups_names {
        let error_code = match front.groups.delete(&name).await {
            Ok(Some(true)) => 0,
            Ok(Some(false)) => code::NON_EMPTY_GROUP,
            Ok(None) => code::GROUP_ID_NOT_FOUND,
            Err(error) => errors::of_store(&error),
        };
        results.push(delete_groups::DeletableGroupResult { group_id: name, error_code });
    }
    delete_groups::Response { results, ..delete_groups::Response::default() }
}
