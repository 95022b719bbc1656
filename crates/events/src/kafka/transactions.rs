//! Producers' numbers and transactions on the wire.

use std::sync::Arc;

use kafka_wire::{
    RequestHeader, add_offsets_to_txn, add_partitions_to_txn as adding, describe_producers,
    describe_transactions, end_txn, init_producer_id, list_transactions, txn_offset_commit,
};

use super::errors::{self, code};
use super::{Front, Session};
use crate::engine::groups::classic::GroupError;
use crate::engine::groups::offsets::{Committed, METADATA_BYTES_MAX};
use crate::engine::log::learn;
use crate::engine::transactions::{Identity, TransactionError};

/// Codes changed when clients learned to tell a newer instance from a number that is wrong.
pub(super) fn code_of(error: &TransactionError, knows_fenced: bool) -> i16 {
    match error {
        TransactionError::Mapping => code::INVALID_PRODUCER_ID_MAPPING,
        TransactionError::Fenced if knows_fenced => code::PRODUCER_FENCED,
        TransactionError::Fenced => code::INVALID_PRODUCER_EPOCH,
        TransactionError::State => code::INVALID_TXN_STATE,
        TransactionError::Timeout => code::INVALID_TRANSACTION_TIMEOUT,
        TransactionError::Unknown => code::UNKNOWN_TOPIC_OR_PARTITION,
        TransactionError::Full | TransactionError::Store(_) => code::COORDINATOR_NOT_AVAILABLE,
    }
}

pub(crate) async fn init_producer_id(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: init_producer_id::Request,
) -> init_producer_id::Response {
    let done = match request.transactional_id.as_deref() {
        Some("") => {
            let error_code = code::INVALID_REQUEST;
            return init_producer_id::Response {
                error_code,
                producer_id: -1,
                producer_epoch: -1,
                ..init_producer_id::Response::default()
            };
        }
        None => {
            let new = front.transactions.new_producer().await;
            new.map(|producer| Identity { producer, epoch: 0 })
        }
        Some(name) => {
            let before = (request.producer_id >= 0).then_some(Identity {
                producer: request.producer_id,
                epoch: request.producer_epoch,
            });
            let timeout = i64::from(request.transaction_timeout_ms);
            front.transactions.begin_name(name, timeout, before).await
        }
    };
    match done {
        Ok(identity) => init_producer_id::Response {
            producer_id: identity.producer,
            producer_epoch: identity.epoch,
            ..init_producer_id::Response::default()
        },
        Err(error) => init_producer_id::Response {
            error_code: code_of(&error, header.version >= 4),
            producer_id: -1,
            producer_epoch: -1,
            ..init_producer_id::Response::default()
        },
    }
}

pub(crate) async fn add_partitions(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: adding::Request,
) -> adding::Response {
    let topics = &request.v3_and_below_topics;
    let identity = Identity {
        producer: request.v3_and_below_producer_id,
        epoch: request.v3_and_below_producer_epoch,
    };
    let wanted = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)));
    let name = &request.v3_and_below_transactional_id;
    let done = front.transactions.add_partitions(name, identity, wanted.collect()).await;
    let error = done.err().map(|error| code_of(&error, header.version >= 2));
    let each = topics.iter().map(|topic| {
        let found = front.log.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|index| {
            let is_there = found.as_ref().is_some_and(|topic| topic.partition(*index).is_some());
            let partition_error_code = match error {
                // All or none: the others are told that it was not for them.
                Some(code::UNKNOWN_TOPIC_OR_PARTITION) if is_there => code::OPERATION_NOT_ATTEMPTED,
                error => error.unwrap_or(0),
            };
            adding::AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code,
            }
        });
        adding::AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: partitions.collect(),
        }
    });
    adding::Response {
        results_by_topic_v3_and_below: each.collect(),
        ..adding::Response::default()
    }
}

pub(crate) async fn add_offsets(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: add_offsets_to_txn::Request,
) -> add_offsets_to_txn::Response {
    let identity = Identity { producer: request.producer_id, epoch: request.producer_epoch };
    let (name, group) = (&request.transactional_id, &request.group_id);
    let done = front.transactions.add_offsets(name, identity, group, Vec::new()).await;
    add_offsets_to_txn::Response {
        error_code: done.err().map_or(0, |error| code_of(&error, header.version >= 2)),
        ..add_offsets_to_txn::Response::default()
    }
}

pub(crate) async fn commit_offsets(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: txn_offset_commit::Request,
) -> txn_offset_commit::Response {
    let identity = Identity { producer: request.producer_id, epoch: request.producer_epoch };
    let instance = request.group_instance_id.as_deref();
    let checks_member =
        header.version >= 3 && (request.generation_id >= 0 || !request.member_id.is_empty());
    let mut refused = None;
    if checks_member {
        let (group, member) = (&request.group_id, &request.member_id);
        let generation = request.generation_id;
        let may = front.groups.may_commit(group, member, instance, generation, true).await;
        refused = may.err().map(|error| match error {
            // Of epochs this request knows nothing.
            GroupError::StaleEpoch => code::ILLEGAL_GENERATION,
            error => super::groups::code_of(error),
        });
    }
    let time_ms = front.log.now_ms();
    let mut offsets = Vec::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let found = front.log.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|one| {
            let is_there = found.as_ref().and_then(|topic| topic.partition(one.partition_index));
            let metadata = one.committed_metadata.as_deref().unwrap_or_default();
            let error_code = match refused {
                Some(refused) => refused,
                None if is_there.is_none() => code::UNKNOWN_TOPIC_OR_PARTITION,
                None if metadata.len() > METADATA_BYTES_MAX => code::OFFSET_METADATA_TOO_LARGE,
                None => {
                    let committed = Committed {
                        offset: one.committed_offset,
                        epoch: one.committed_leader_epoch,
                        metadata: metadata.to_owned(),
                        time_ms,
                    };
                    offsets.push((topic.name.to_string(), one.partition_index, committed));
                    0
                }
            };
            txn_offset_commit::TxnOffsetCommitResponsePartition {
                partition_index: one.partition_index,
                error_code,
            }
        });
        let partitions = partitions.collect();
        let name = topic.name.clone();
        topics.push(txn_offset_commit::TxnOffsetCommitResponseTopic { name, partitions });
    }
    if !offsets.is_empty() {
        let (name, group) = (&request.transactional_id, &request.group_id);
        let done = front.transactions.add_offsets(name, identity, group, offsets).await;
        if let Err(error) = done {
            let error_code = code_of(&error, false);
            for one in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                one.error_code = if one.error_code == 0 { error_code } else { one.error_code };
            }
        }
    }
    txn_offset_commit::Response { topics, ..txn_offset_commit::Response::default() }
}

pub(crate) async fn end(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: end_txn::Request,
) -> end_txn::Response {
    let identity = Identity { producer: request.producer_id, epoch: request.producer_epoch };
    let (name, commit) = (&request.transactional_id, request.committed);
    if header.version >= 5 {
        return match front.transactions.end_and_go_on(name, identity, commit).await {
            Ok(next) => end_txn::Response {
                producer_id: next.producer,
                producer_epoch: next.epoch,
                ..end_txn::Response::default()
            },
            Err(error) => {
                let error_code = code_of(&error, true);
                end_txn::Response { error_code, ..end_txn::Response::default() }
            }
        };
    }
    let done = front.transactions.end(name, identity, commit).await;
    end_txn::Response {
        error_code: done.err().map_or(0, |error| code_of(&error, header.version >= 2)),
        ..end_txn::Response::default()
    }
}

pub(crate) async fn describe_producers(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: describe_producers::Request,
) -> describe_producers::Response {
    use describe_producers as wire;
    let mut response = wire::Response::default();
    for asked in request.topics {
        let topic = front.log.topic(&asked.name);
        let mut partitions = Vec::new();
        for index in asked.partition_indexes {
            let mut answer = wire::PartitionResponse {
                partition_index: index,
                ..wire::PartitionResponse::default()
            };
            match topic.as_ref().and_then(|topic| topic.partition(index)) {
                None => answer.error_code = code::UNKNOWN_TOPIC_OR_PARTITION,
                Some(partition) => match learn(&partition).await {
                    Err(error) => answer.error_code = errors::of_read(&error),
                    Ok(()) => {
                        let told = partition.with_producers(|producers| {
                            let each = producers.iter().map(|(id, known)| wire::ProducerState {
                                producer_id: id,
                                producer_epoch: i32::from(known.epoch),
                                last_sequence: known.last_sequence(),
                                last_timestamp: known.time_ms,
                                coordinator_epoch: 0,
                                current_txn_start_offset: known.transaction_from.unwrap_or(-1),
                            });
                            each.collect()
                        });
                        answer.active_producers = told.unwrap_or_default();
                    }
                },
            }
            partitions.push(answer);
        }
        response.topics.push(wire::TopicResponse { name: asked.name, partitions });
    }
    response
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: describe_transactions::Request,
) -> describe_transactions::Response {
    use describe_transactions as wire;
    let each = request.transactional_ids.into_iter().map(|name| {
        let Some(known) = front.transactions.describe(&name) else {
            return wire::TransactionState {
                error_code: code::TRANSACTIONAL_ID_NOT_FOUND,
                transactional_id: name,
                ..wire::TransactionState::default()
            };
        };
        let mut topics: Vec<wire::TopicData> = Vec::new();
        for (topic, index) in &known.partitions {
            match topics.last_mut() {
                Some(last) if last.topic == topic.as_str() => last.partitions.push(*index),
                _ => topics.push(wire::TopicData {
                    topic: topic.as_str().into(),
                    partitions: vec![*index],
                }),
            }
        }
        wire::TransactionState {
            error_code: 0,
            transactional_id: name,
            transaction_state: known.state().into(),
            transaction_timeout_ms: i32::try_from(known.timeout_ms).unwrap_or(i32::MAX),
            transaction_start_time_ms: known.since_ms.unwrap_or(-1),
            producer_id: known.producer,
            producer_epoch: known.epoch,
            topics,
        }
    });
    wire::Response { transaction_states: each.collect(), ..wire::Response::default() }
}

pub(crate) async fn list(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: list_transactions::Request,
) -> list_transactions::Response {
    use list_transactions as wire;
    const STATES: [&str; 4] = ["Empty", "Ongoing", "CompleteCommit", "CompleteAbort"];
    let now = front.log.now_ms();
    let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let pattern = match pattern.map(regex::Regex::new) {
        None => None,
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(_)) => {
            let error_code = code::INVALID_REGULAR_EXPRESSION;
            return wire::Response { error_code, ..wire::Response::default() };
        }
    };
    let is_wanted = |name: &str, known: &crate::engine::transactions::Transaction| {
        let states = &request.state_filters;
        let producers = &request.producer_id_filters;
        let old = known.since_ms.is_some_and(|since| now - since >= request.duration_filter);
        let whole = |pattern: &regex::Regex| {
            pattern.find(name).is_some_and(|found| found.len() == name.len())
        };
        (states.is_empty() || states.iter().any(|state| *state == known.state()))
            && (producers.is_empty() || producers.contains(&known.producer))
            && (request.duration_filter < 0 || old)
            && pattern.as_ref().is_none_or(whole)
    };
    let all = front.transactions.list().into_iter();
    let all = all.filter(|(name, known)| is_wanted(name, known));
    let all = all.map(|(name, known)| wire::TransactionState {
        transactional_id: name.into(),
        producer_id: known.producer,
        transaction_state: known.state().into(),
    });
    let unknown = request.state_filters.iter().filter(|state| !STATES.contains(&state.as_str()));
    wire::Response {
        unknown_state_filters: unknown.cloned().collect(),
        transaction_states: all.collect(),
        ..wire::Response::default()
    }
}
