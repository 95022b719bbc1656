//! Committed offsets on the wire.

use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Str, Uuid, offset_commit as commits, offset_delete, offset_fetch as fetches,
};

use super::errors::{self, code};
use super::groups::code_of;
use super::speech::SPEECH;
use super::{Front, Session};
use crate::engine::groups::membership::Sharing;
use crate::engine::groups::mixed::Speech as _;
use crate::engine::groups::offsets::{Committed, METADATA_BYTES_MAX, commit as change};

pub(crate) async fn commit(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: commits::Request,
) -> commits::Response {
    let group = &request.group_id;
    let member = &request.member_id;
    let instance = request.group_instance_id.as_deref();
    let generation = request.generation_id_or_member_epoch;
    let knows_epochs = header.version >= 9;
    let may = front.groups.may_commit(group, member, instance, generation, knows_epochs).await;
    let refused = may.err().map(code_of);
    let time_ms = front.log.now_ms();
    let mut changes = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let topic = front.topic(&asked.name, asked.topic_id);
        let unknown = match header.version {
            10.. => code::UNKNOWN_TOPIC_ID,
            _ => code::UNKNOWN_TOPIC_OR_PARTITION,
        };
        let partitions = asked.partitions.iter().map(|one| {
            let metadata = one.committed_metadata.as_deref().unwrap_or_default();
            let is_there = topic.as_ref().and_then(|topic| topic.partition(one.partition_index));
            let error_code = match (refused, &topic) {
                (Some(refused), _) => refused,
                (None, None) => unknown,
                (None, Some(_)) if is_there.is_none() => code::UNKNOWN_TOPIC_OR_PARTITION,
                (None, Some(_)) if metadata.len() > METADATA_BYTES_MAX => {
                    code::OFFSET_METADATA_TOO_LARGE
                }
                (None, Some(topic)) => {
                    let committed = Committed {
                        offset: one.committed_offset,
                        epoch: one.committed_leader_epoch,
                        metadata: metadata.to_owned(),
                        time_ms,
                    };
                    changes.push(change(group, &topic.name, one.partition_index, &committed));
                    0
                }
            };
            commits::OffsetCommitResponsePartition {
                partition_index: one.partition_index,
                error_code,
            }
        });
        let partitions = partitions.collect();
        topics.push(commits::OffsetCommitResponseTopic {
            name: asked.name.clone(),
            topic_id: asked.topic_id,
            partitions,
        });
    }
    if let Err(error) = front.groups.commit(changes).await {
        // What was not refused for a reason of its own was not written.
        for one in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if one.error_code == 0 {
                one.error_code = match errors::of_store(&error) {
                    code::KAFKA_STORAGE_ERROR => code::COORDINATOR_NOT_AVAILABLE,
                    other => other,
                };
            }
        }
    }
    commits::Response { topics, ..commits::Response::default() }
}

/// What is said of a partition that nothing was committed of.
const NONE: i64 = -1;

pub(crate) async fn fetch(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: fetches::Request,
) -> fetches::Response {
    if header.version < 8 {
        let asked = request.topics.map(|topics| {
            let each =
                topics.into_iter().map(|topic| (topic.name, Uuid::ZERO, topic.partition_indexes));
            each.collect::<Vec<_>>()
        });
        let found = of_group(front, header, &request.group_id, asked, request.require_stable);
        let topics = found.into_iter().map(|(name, _, partitions)| {
            let partitions =
                partitions.into_iter().map(|one| fetches::OffsetFetchResponsePartition {
                    partition_index: one.partition_index,
                    committed_offset: one.committed_offset,
                    committed_leader_epoch: one.committed_leader_epoch,
                    metadata: one.metadata,
                    error_code: one.error_code,
                });
            fetches::OffsetFetchResponseTopic { name, partitions: partitions.collect() }
        });
        return fetches::Response { topics: topics.collect(), ..fetches::Response::default() };
    }
    let mut response = fetches::Response::default();
    for group in request.groups {
        let (member, epoch) = (group.member_id.as_deref(), group.member_epoch);
        if let Err(error) = front.groups.may_fetch(&group.group_id, member, epoch).await {
            response.groups.push(fetches::OffsetFetchResponseGroup {
                group_id: group.group_id,
                error_code: code_of(error),
                ..fetches::OffsetFetchResponseGroup::default()
            });
            continue;
        }
        let asked = group.topics.map(|topics| {
            let each = topics
                .into_iter()
                .map(|topic| (topic.name, topic.topic_id, topic.partition_indexes));
            each.collect::<Vec<_>>()
        });
        let found = of_group(front, header, &group.group_id, asked, request.require_stable);
        let topics = found.into_iter().map(|(name, topic_id, partitions)| {
            fetches::OffsetFetchResponseTopics { name, topic_id, partitions }
        });
        response.groups.push(fetches::OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics: topics.collect(),
            ..fetches::OffsetFetchResponseGroup::default()
        });
    }
    response
}

type Found = Vec<(Str, Uuid, Vec<fetches::OffsetFetchResponsePartitions>)>;

fn of_group(
    front: &Front,
    header: &RequestHeader,
    group: &str,
    asked: Option<Vec<(Str, Uuid, Vec<i32>)>>,
    stable: bool,
) -> Found {
    let told = |partition: i32, committed: Option<Committed>| match committed {
        Some(committed) => fetches::OffsetFetchResponsePartitions {
            partition_index: partition,
            committed_offset: committed.offset,
            committed_leader_epoch: committed.epoch,
            metadata: Some(committed.metadata.into()),
            error_code: 0,
        },
        None => fetches::OffsetFetchResponsePartitions {
            partition_index: partition,
            committed_offset: NONE,
            committed_leader_epoch: -1,
            metadata: Some(Str::default()),
            error_code: 0,
        },
    };
    let Some(asked) = asked else {
        let mut found: Found = Vec::new();
        for (topic, partition, committed) in front.groups.all_committed(group) {
            let one = told(partition, Some(committed));
            match found.last_mut() {
                Some((name, _, partitions)) if *name == topic.as_str() => partitions.push(one),
                _ => {
                    let id = front
                        .log
                        .topic(&topic)
                        .map_or(Uuid::ZERO, |topic| Uuid(topic.id.to_be_bytes()));
                    found.push((topic.into(), id, vec![one]));
                }
            }
        }
        return found;
    };
    let each = asked.into_iter().map(|(name, id, partitions)| {
        let topic = front.topic(&name, id);
        let known = topic.as_ref().map(|topic| topic.name.clone()).unwrap_or(name.to_string());
        let partitions = partitions.into_iter().map(|partition| {
            let mut one = told(partition, front.groups.committed(group, &known, partition));
            if stable && front.transactions.has_open_offsets(group, &known, partition) {
                one.error_code = code::UNSTABLE_OFFSET_COMMIT;
                one.committed_offset = NONE;
            }
            if header.version >= 10 && topic.is_none() {
                one.error_code = code::UNKNOWN_TOPIC_ID;
            }
            one
        });
        (name, id, partitions.collect())
    });
    each.collect()
}

pub(crate) async fn delete(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: offset_delete::Request,
) -> offset_delete::Response {
    use offset_delete::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
    let told = front.groups.members(&request.group_id, Sharing::Consumer).await;
    let classic = front.groups.describe(&request.group_id);
    if told.is_none() && classic.is_none() {
        let error_code = code::GROUP_ID_NOT_FOUND;
        return offset_delete::Response { error_code, ..offset_delete::Response::default() };
    }
    let subscribed = |topic: &str| {
        let mut members = told.iter().flat_map(|group| group.members.values());
        let mut others = classic
            .iter()
            .flat_map(|group| group.members.values().map(|member| member.said(&group.protocol)));
        members.any(|member| member.topics().any(|name| name == topic))
            || others.any(|said| SPEECH.wish(said).is_some_and(|wish| wish.topics.contains(topic)))
    };
    let mut forgotten = Vec::new();
    let mut topics = Vec::new();
    for asked in &request.topics {
        let topic = front.log.topic(&asked.name);
        let in_use = subscribed(&asked.name);
        let partitions = asked.partitions.iter().map(|one| {
            let partition = topic.as_ref().and_then(|topic| topic.partition(one.partition_index));
            let error_code = match partition {
                None => code::UNKNOWN_TOPIC_OR_PARTITION,
                Some(_) if in_use => code::GROUP_SUBSCRIBED_TO_TOPIC,
                Some(_) => {
                    forgotten.push((asked.name.to_string(), one.partition_index));
                    0
                }
            };
            OffsetDeleteResponsePartition { partition_index: one.partition_index, error_code }
        });
        let partitions = partitions.collect();
        topics.push(OffsetDeleteResponseTopic { name: asked.name.clone(), partitions });
    }
    let mut response = offset_delete::Response { topics, ..offset_delete::Response::default() };
    if let Err(error) = front.groups.forget(&request.group_id, &forgotten).await {
        response.error_code = errors::of_store(&error);
    }
    response
}
