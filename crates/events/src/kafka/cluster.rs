//! The cluster as clients see it: one node that leads every partition.

use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Str, Uuid, alter_partition_reassignments as reassignment, describe_cluster,
    describe_log_dirs, describe_quorum, describe_topic_partitions, elect_leaders as elections,
    find_coordinator as coordinators, list_partition_reassignments as ongoing, metadata as wire,
};

use super::access::code_of;
use super::errors::{self, code};
use super::{Front, NODE, Session};
use crate::engine::log::{Topic, TopicError};
use crate::security::acls::{CLUSTER, Operation, Resource};

/// Nothing is said of what the client may do.
const NOT_SAID: i32 = i32::MIN;

/// Most partitions that one answer describes.
const PARTITIONS_MAX: usize = 2000;

pub(crate) async fn metadata(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: wire::Request,
) -> wire::Response {
    let (host, port) = session.advertised();
    let mut response = wire::Response {
        brokers: vec![wire::MetadataResponseBroker { node_id: NODE, host, port, rack: None }],
        cluster_id: Some(front.log.cluster().into()),
        controller_id: NODE,
        ..wire::Response::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations =
            front.operations(session, Resource::Cluster, CLUSTER);
    }
    let operations = |topic: &Topic| match request.include_topic_authorized_operations {
        true => front.operations(session, Resource::Topic, &topic.name),
        false => NOT_SAID,
    };
    let may =
        |operation: Operation, name: &str| front.may(session, operation, Resource::Topic, name);
    // In the first version an empty list asks for all, and later none does.
    let asked = request.topics.filter(|topics| header.version > 0 || !topics.is_empty());
    let Some(asked) = asked else {
        let all = front.log.topics();
        let shown = all.iter().filter(|topic| may(Operation::Describe, &topic.name));
        response.topics = shown.map(|topic| told(topic, operations(topic))).collect();
        return response;
    };
    for one in asked {
        let by_name = one.topic_id.is_zero();
        let name = one.name.clone().unwrap_or_default();
        let found = front.allowed_topic(session, Operation::Describe, &name, one.topic_id);
        let may_make = by_name && request.allow_auto_topic_creation;
        let topic = match found {
            Ok(topic) => told(&topic, operations(&topic)),
            Err(error_code) if !by_name => wire::MetadataResponseTopic {
                // Who knows an id alone is not told that there is one.
                error_code: match error_code {
                    code::TOPIC_AUTHORIZATION_FAILED => code::UNKNOWN_TOPIC_ID,
                    other => other,
                },
                name: (header.version < 12).then(Str::default),
                topic_id: one.topic_id,
                ..wire::MetadataResponseTopic::default()
            },
            Err(error_code @ code::TOPIC_AUTHORIZATION_FAILED) => wire::MetadataResponseTopic {
                error_code,
                name: Some(name),
                ..wire::MetadataResponseTopic::default()
            },
            Err(_)
                if may_make
                    && front.log.options().auto_create
                    && !front.may_cluster(session, Operation::Create)
                    && !may(Operation::Create, &name) =>
            {
                wire::MetadataResponseTopic {
                    error_code: code::TOPIC_AUTHORIZATION_FAILED,
                    name: Some(name),
                    ..wire::MetadataResponseTopic::default()
                }
            }
            Err(_) => match make(front, &name, may_make).await {
                Ok(topic) => told(&topic, operations(&topic)),
                Err(error_code) => wire::MetadataResponseTopic {
                    error_code,
                    name: Some(name),
                    ..wire::MetadataResponseTopic::default()
                },
            },
        };
        response.topics.push(topic);
    }
    response
}

/// Makes a topic that somebody asks for, if that is wanted.
async fn make(front: &Arc<Front>, name: &Str, may: bool) -> Result<Arc<Topic>, i16> {
    let options = front.log.options();
    if !may || !options.auto_create {
        let checked = front.log.check_topic(name, 1, &std::collections::BTreeMap::new());
        return Err(match checked {
            Err(TopicError::Name(_)) => code::INVALID_TOPIC_EXCEPTION,
            _ => code::UNKNOWN_TOPIC_OR_PARTITION,
        });
    }
    let partitions = options.partitions;
    let made =
        front.log.create(name, front.new_id(), partitions, std::collections::BTreeMap::new());
    match made.await {
        Ok(topic) => Ok(topic),
        // Somebody else was faster.
        Err(TopicError::Exists(_)) => front.log.topic(name).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION),
        Err(error) => Err(errors::of_topic(&error)),
    }
}

fn told(topic: &Topic, operations: i32) -> wire::MetadataResponseTopic {
    let partitions = topic.partitions();
    let told = partitions.iter().map(|partition| wire::MetadataResponsePartition {
        partition_index: partition.index,
        leader_id: NODE,
        leader_epoch: 0,
        replica_nodes: vec![NODE],
        isr_nodes: vec![NODE],
        ..wire::MetadataResponsePartition::default()
    });
    wire::MetadataResponseTopic {
        name: Some(topic.name.as_str().into()),
        topic_id: Uuid(topic.id.to_be_bytes()),
        partitions: told.collect(),
        topic_authorized_operations: operations,
        ..wire::MetadataResponseTopic::default()
    }
}

/// Every group and transaction is coordinated here.
pub(crate) async fn find_coordinator(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: coordinators::Request,
) -> coordinators::Response {
    let (host, port) = session.advertised();
    let error = |key: &str| {
        let resource = match request.key_type {
            0 | 2 => Resource::Group,
            1 => Resource::TransactionalId,
            _ => return code::INVALID_REQUEST,
        };
        // The key of a share group's state names a topic and partition after the group.
        let name = if request.key_type == 2 { key.split(':').next().unwrap_or(key) } else { key };
        match front.may(session, Operation::Describe, resource, name) {
            true => code::NONE,
            false => code_of(resource),
        }
    };
    if header.version < 4 {
        let error_code = error(&request.key);
        let said = if error_code == code::NONE { "NONE" } else { "Not allowed, or not known." };
        let error_message = (header.version > 0).then(|| said.into());
        return coordinators::Response {
            error_code,
            error_message,
            node_id: NODE,
            host,
            port,
            ..coordinators::Response::default()
        };
    }
    let each = request.coordinator_keys.iter().map(|key| coordinators::Coordinator {
        key: key.clone(),
        node_id: NODE,
        host: host.clone(),
        port,
        error_code: error(key),
        ..coordinators::Coordinator::default()
    });
    coordinators::Response { coordinators: each.collect(), ..coordinators::Response::default() }
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: describe_cluster::Request,
) -> describe_cluster::Response {
    let (host, port) = session.advertised();
    if request.endpoint_type != 1 {
        return describe_cluster::Response {
            error_code: code::MISMATCHED_ENDPOINT_TYPE,
            error_message: Some("Brokers alone can be asked here.".into()),
            ..describe_cluster::Response::default()
        };
    }
    let told = request.include_cluster_authorized_operations;
    describe_cluster::Response {
        cluster_id: front.log.cluster().into(),
        controller_id: NODE,
        brokers: vec![describe_cluster::DescribeClusterBroker {
            broker_id: NODE,
            host,
            port,
            ..describe_cluster::DescribeClusterBroker::default()
        }],
        cluster_authorized_operations: match told {
            true => front.operations(session, Resource::Cluster, CLUSTER),
            false => NOT_SAID,
        },
        ..describe_cluster::Response::default()
    }
}

/// The topic that Kafka keeps what it knows in; here it is the journal.
const METADATA: &str = "__cluster_metadata";

/// The one node agrees with itself about everything that is in the journal.
pub(crate) async fn quorum(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: describe_quorum::Request,
) -> describe_quorum::Response {
    use describe_quorum as wire;
    let end = i64::try_from(front.log.journal.end()).unwrap_or(i64::MAX);
    let now = front.log.now_ms();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            if topic.topic_name != METADATA || asked.partition_index != 0 {
                return wire::PartitionDataResult {
                    partition_index: asked.partition_index,
                    error_code: code::UNKNOWN_TOPIC_OR_PARTITION,
                    ..wire::PartitionDataResult::default()
                };
            }
            wire::PartitionDataResult {
                leader_id: NODE,
                leader_epoch: 1,
                high_watermark: end,
                current_voters: vec![wire::ReplicaState {
                    replica_id: NODE,
                    log_end_offset: end,
                    last_fetch_timestamp: now,
                    last_caught_up_timestamp: now,
                    ..wire::ReplicaState::default()
                }],
                ..wire::PartitionDataResult::default()
            }
        });
        let partitions = partitions.collect();
        wire::TopicDataResult { topic_name: topic.topic_name.clone(), partitions }
    });
    let (host, port) = session.advertised();
    let listeners = vec![wire::Listener {
        name: session.listener.name.as_str().into(),
        host,
        port: u16::try_from(port).unwrap_or(0),
    }];
    wire::Response {
        topics: topics.collect(),
        nodes: vec![wire::Node { node_id: NODE, listeners }],
        ..wire::Response::default()
    }
}

pub(crate) async fn topic_partitions(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: describe_topic_partitions::Request,
) -> describe_topic_partitions::Response {
    use describe_topic_partitions as wire;
    let mut names: Vec<Str> = request.topics.into_iter().map(|topic| topic.name).collect();
    if names.is_empty() {
        let may = |topic: &&Arc<Topic>| {
            front.may(session, Operation::Describe, Resource::Topic, &topic.name)
        };
        let all = front.log.topics();
        names = all.iter().filter(may).map(|topic| topic.name.as_str().into()).collect();
    }
    names.sort();
    names.dedup();
    let mut from = 0;
    if let Some(cursor) = &request.cursor {
        names.retain(|name| *name >= cursor.topic_name);
        from = if names.first() == Some(&cursor.topic_name) { cursor.partition_index } else { 0 };
    }
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(1);
    let mut room = asked.clamp(1, PARTITIONS_MAX);
    let mut response = wire::Response::default();
    for name in names {
        let first = usize::try_from(std::mem::take(&mut from)).unwrap_or(0);
        let found = front.allowed_topic(session, Operation::Describe, &name, Uuid::ZERO);
        let topic = match found {
            Ok(topic) => topic,
            Err(error_code) => {
                response.topics.push(wire::DescribeTopicPartitionsResponseTopic {
                    error_code,
                    name: Some(name),
                    ..wire::DescribeTopicPartitionsResponseTopic::default()
                });
                continue;
            }
        };
        if room == 0 {
            response.next_cursor = Some(wire::Cursor { topic_name: name, partition_index: 0 });
            break;
        }
        let all = topic.partitions();
        let told = all.iter().skip(first).take(room);
        let partitions: Vec<_> = told
            .map(|partition| wire::DescribeTopicPartitionsResponsePartition {
                partition_index: partition.index,
                leader_id: NODE,
                leader_epoch: 0,
                replica_nodes: vec![NODE],
                isr_nodes: vec![NODE],
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                ..wire::DescribeTopicPartitionsResponsePartition::default()
            })
            .collect();
        room -= partitions.len();
        let next = first + partitions.len();
        let is_whole = next >= all.len();
        response.topics.push(wire::DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone()),
            topic_id: Uuid(topic.id.to_be_bytes()),
            partitions,
            topic_authorized_operations: front.operations(session, Resource::Topic, &topic.name),
            ..wire::DescribeTopicPartitionsResponseTopic::default()
        });
        if !is_whole {
            response.next_cursor = Some(wire::Cursor {
                topic_name: name,
                partition_index: i32::try_from(next).unwrap_or(i32::MAX),
            });
            break;
        }
    }
    response
}

pub(crate) async fn log_dirs(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: describe_log_dirs::Request,
) -> describe_log_dirs::Response {
    use describe_log_dirs as wire;
    let wanted = |name: &str, index: i32| {
        request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|topic| topic.topic == name && topic.partitions.contains(&index))
        })
    };
    let mut topics = Vec::new();
    for topic in front.log.topics() {
        let partitions = topic.partitions();
        let told = partitions.iter().filter(|partition| wanted(&topic.name, partition.index));
        let partitions: Vec<_> = told
            .map(|partition| wire::DescribeLogDirsPartition {
                partition_index: partition.index,
                partition_size: i64::try_from(partition.bytes()).unwrap_or(i64::MAX),
                offset_lag: 0,
                is_future_key: false,
            })
            .collect();
        if !partitions.is_empty() {
            topics
                .push(wire::DescribeLogDirsTopic { name: topic.name.as_str().into(), partitions });
        }
    }
    wire::Response {
        results: vec![wire::DescribeLogDirsResult {
            log_dir: "volumes".into(),
            topics,
            ..wire::DescribeLogDirsResult::default()
        }],
        ..wire::Response::default()
    }
}

/// The leader is the leader.
pub(crate) async fn elect_leaders(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: elections::Request,
) -> elections::Response {
    let Some(asked) = request.topic_partitions else { return elections::Response::default() };
    let each = asked.into_iter().map(|asked| {
        let topic = front.log.topic(&asked.topic);
        let partitions = asked.partitions.iter().map(|index| {
            let is_there = topic.as_ref().is_some_and(|topic| topic.partition(*index).is_some());
            let (error_code, why) = match is_there {
                true => {
                    (code::ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
                }
                false => (code::UNKNOWN_TOPIC_OR_PARTITION, "The partition does not exist."),
            };
            elections::PartitionResult {
                partition_id: *index,
                error_code,
                error_message: Some(why.into()),
            }
        });
        elections::ReplicaElectionResult {
            topic: asked.topic.clone(),
            partition_result: partitions.collect(),
        }
    });
    elections::Response {
        replica_election_results: each.collect(),
        ..elections::Response::default()
    }
}

/// There is nowhere else to go.
pub(crate) async fn reassign(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: reassignment::Request,
) -> reassignment::Response {
    let each = request.topics.into_iter().map(|asked| {
        let topic = front.log.topic(&asked.name);
        let partitions = asked.partitions.iter().map(|one| {
            let is_there =
                topic.as_ref().is_some_and(|topic| topic.partition(one.partition_index).is_some());
            let (error_code, why) = match &one.replicas {
                _ if !is_there => {
                    (code::UNKNOWN_TOPIC_OR_PARTITION, Some("The partition does not exist."))
                }
                None => (code::NO_REASSIGNMENT_IN_PROGRESS, Some("Nothing is being moved.")),
                Some(nodes) if *nodes == [NODE] => (0, None),
                Some(_) => (code::INVALID_REPLICA_ASSIGNMENT, Some("There is one node, 1.")),
            };
            reassignment::ReassignablePartitionResponse {
                partition_index: one.partition_index,
                error_code,
                error_message: why.map(Into::into),
            }
        });
        reassignment::ReassignableTopicResponse {
            name: asked.name.clone(),
            partitions: partitions.collect(),
        }
    });
    reassignment::Response { responses: each.collect(), ..reassignment::Response::default() }
}

/// Nothing is being moved.
pub(crate) async fn reassignments(
    _: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    _: ongoing::Request,
) -> ongoing::Response {
    ongoing::Response::default()
}
