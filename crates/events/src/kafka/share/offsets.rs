//! Where share groups are, for those who look after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Str, Uuid, alter_share_group_offsets as alters,
    delete_share_group_offsets as deletes, describe_share_group_offsets as describes,
};

use crate::engine::groups::membership::Sharing;
use crate::engine::groups::shares::Progress;
use crate::engine::log::Topic;
use crate::kafka::errors::{self, code};
use crate::kafka::{Front, Session};
use crate::security::acls::{Operation, Resource};

/// Where a group is that never was in a partition.
const NOWHERE: i64 = -1;

pub(crate) async fn describe(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: describes::Request,
) -> describes::Response {
    use describes::{
        DescribeShareGroupOffsetsResponseGroup as Group,
        DescribeShareGroupOffsetsResponseTopic as Told,
    };
    let mut groups = Vec::with_capacity(request.groups.len());
    for asked in request.groups {
        let name = asked.group_id;
        if front.groups.sharing(&name) != Some(Sharing::Share) {
            let error_message = Some(format!("Group {name} not found.").into());
            let error_code = code::GROUP_ID_NOT_FOUND;
            groups.push(Group { group_id: name, error_code, error_message, ..Group::default() });
            continue;
        }
        let progress = front.groups.shares.progress(&name);
        let topics: Vec<Told> = match asked.topics {
            Some(topics) => topics
                .into_iter()
                .map(|asked| match named(front, session, Operation::Describe, &asked.topic_name) {
                    Ok(topic) => told(&topic, asked.partitions, &progress),
                    Err((error_code, why)) => unknown(asked, error_code, why),
                })
                .collect(),
            None => {
                let mut known: BTreeMap<u128, Vec<i32>> = BTreeMap::new();
                for (topic, index) in progress.keys() {
                    known.entry(*topic).or_default().push(*index);
                }
                let known = known.into_iter().filter_map(|(id, indexes)| {
                    let topic = front.log.topic_by_id(id)?;
                    let may = front.may(session, Operation::Describe, Resource::Topic, &topic.name);
                    may.then(|| told(&topic, indexes, &progress))
                });
                known.collect()
            }
        };
        groups.push(Group { group_id: name, topics, ..Group::default() });
    }
    describes::Response { groups, ..describes::Response::default() }
}

fn unknown(
    asked: describes::DescribeShareGroupOffsetsRequestTopic,
    error_code: i16,
    why: &str,
) -> describes::DescribeShareGroupOffsetsResponseTopic {
    let partitions = asked.partitions.into_iter().map(|partition_index| {
        describes::DescribeShareGroupOffsetsResponsePartition {
            partition_index,
            start_offset: NOWHERE,
            error_code,
            error_message: Some(why.into()),
            ..describes::DescribeShareGroupOffsetsResponsePartition::default()
        }
    });
    describes::DescribeShareGroupOffsetsResponseTopic {
        topic_name: asked.topic_name,
        partitions: partitions.collect(),
        ..describes::DescribeShareGroupOffsetsResponseTopic::default()
    }
}

fn told(
    topic: &Topic,
    indexes: Vec<i32>,
    progress: &BTreeMap<(u128, i32), Progress>,
) -> describes::DescribeShareGroupOffsetsResponseTopic {
    let partitions = indexes.into_iter().map(|partition_index| {
        let progress = progress.get(&(topic.id, partition_index));
        describes::DescribeShareGroupOffsetsResponsePartition {
            partition_index,
            start_offset: progress.map_or(NOWHERE, |progress| progress.start),
            lag: progress.map_or(-1, |progress| progress.lag),
            ..describes::DescribeShareGroupOffsetsResponsePartition::default()
        }
    });
    describes::DescribeShareGroupOffsetsResponseTopic {
        topic_name: topic.name.as_str().into(),
        topic_id: Uuid(topic.id.to_be_bytes()),
        partitions: partitions.collect(),
    }
}

/// A topic that somebody may do something to.
fn named(
    front: &Front,
    session: &Session,
    operation: Operation,
    name: &Str,
) -> Result<Arc<Topic>, (i16, &'static str)> {
    front.allowed_topic(session, operation, name, Uuid::ZERO).map_err(|error_code| {
        let why = match error_code {
            code::TOPIC_AUTHORIZATION_FAILED => "The client may not ask for this topic.",
            _ => "This server does not host this topic-partition.",
        };
        (error_code, why)
    })
}

/// Whether a group may be moved: it has to be one, and without members.
async fn may_move(front: &Front, group: &str) -> Result<(), (i16, String)> {
    match front.groups.members(group, Sharing::Share).await {
        None => Err((code::GROUP_ID_NOT_FOUND, format!("Group {group} not found."))),
        Some(found) if !found.members.is_empty() => {
            Err((code::NON_EMPTY_GROUP, format!("Group {group} has members.")))
        }
        Some(_) => Ok(()),
    }
}

pub(crate) async fn alter(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: alters::Request,
) -> alters::Response {
    let refused = |(error_code, why): (i16, String)| alters::Response {
        error_code,
        error_message: Some(why.into()),
        ..alters::Response::default()
    };
    if let Err(why) = may_move(front, &request.group_id).await {
        return refused(why);
    }
    let mut moves = Vec::new();
    let mut responses = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = named(front, session, Operation::Read, &asked.topic_name);
        let partitions = asked.partitions.iter().map(|one| {
            let index = one.partition_index;
            let outcome = match &topic {
                Err(error) => Err(*error),
                Ok(topic) if topic.partition(index).is_none() => {
                    Err((code::UNKNOWN_TOPIC_OR_PARTITION, "There is no such partition."))
                }
                Ok(_) if one.start_offset < 0 => {
                    Err((code::INVALID_REQUEST, "An offset is not negative."))
                }
                Ok(topic) => {
                    moves.push((topic.id, index, Some(one.start_offset)));
                    Ok(())
                }
            };
            alters::AlterShareGroupOffsetsResponsePartition {
                partition_index: index,
                error_code: outcome.err().map_or(0, |(error_code, _)| error_code),
                error_message: outcome.err().map(|(_, why)| why.into()),
            }
        });
        let partitions = partitions.collect();
        responses.push(alters::AlterShareGroupOffsetsResponseTopic {
            topic_id: topic.as_ref().map_or(Uuid::ZERO, |topic| Uuid(topic.id.to_be_bytes())),
            topic_name: asked.topic_name,
            partitions,
        });
    }
    match front.groups.shares.place(&request.group_id, &moves).await {
        Ok(()) => alters::Response { responses, ..alters::Response::default() },
        Err(error) => refused((errors::of_store(&error), error.to_string())),
    }
}

pub(crate) async fn delete(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: deletes::Request,
) -> deletes::Response {
    let refused = |(error_code, why): (i16, String)| deletes::Response {
        error_code,
        error_message: Some(why.into()),
        ..deletes::Response::default()
    };
    if let Err(why) = may_move(front, &request.group_id).await {
        return refused(why);
    }
    let progress = front.groups.shares.progress(&request.group_id);
    let mut moves = Vec::new();
    let mut responses = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = named(front, session, Operation::Read, &asked.topic_name);
        let mut told = deletes::DeleteShareGroupOffsetsResponseTopic {
            topic_name: asked.topic_name,
            ..deletes::DeleteShareGroupOffsetsResponseTopic::default()
        };
        match &topic {
            Ok(topic) => {
                told.topic_id = Uuid(topic.id.to_be_bytes());
                let own = progress.keys().filter(|(id, _)| *id == topic.id);
                moves.extend(own.map(|(id, index)| (*id, *index, None)));
            }
            Err((error_code, why)) => {
                told.error_code = *error_code;
                told.error_message = Some((*why).into());
            }
        }
        responses.push(told);
    }
    match front.groups.shares.place(&request.group_id, &moves).await {
        Ok(()) => deletes::Response { responses, ..deletes::Response::default() },
        Err(error) => refused((errors::of_store(&error), error.to_string())),
    }
}
