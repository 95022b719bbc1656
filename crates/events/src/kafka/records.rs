//! Offsets by time, deleting records, epochs of leaders.

use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Uuid, delete_records, list_offsets as wire, offset_for_leader_epoch as epochs,
};

use super::errors::{self, code};
use super::{Front, Session};
use crate::engine::log::{Topic, learn};
use crate::engine::partition::Partition;
use crate::security::acls::Operation;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const HIGHEST_TIME: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING: i64 = -6;

pub(crate) async fn list_offsets(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: wire::Request,
) -> wire::Response {
    let mut response = wire::Response::default();
    for topic in request.topics {
        let found = front.allowed_topic(session, Operation::Describe, &topic.name, Uuid::ZERO);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let mut answer = wire::ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                leader_epoch: 0,
                ..wire::ListOffsetsPartitionResponse::default()
            };
            match partition_of(&found, asked.partition_index) {
                Err(error) => {
                    answer.error_code = error;
                    answer.leader_epoch = -1;
                }
                Ok(_) if asked.current_leader_epoch > 0 => {
                    answer.error_code = code::UNKNOWN_LEADER_EPOCH;
                    answer.leader_epoch = -1;
                }
                Ok(partition) => {
                    let committed_only = request.isolation_level == 1;
                    match offset(&partition, asked.timestamp, committed_only).await {
                        Ok((offset, timestamp)) => {
                            answer.offset = offset;
                            answer.timestamp = timestamp;
                        }
                        Err(error) => answer.error_code = errors::of_read(&error),
                    }
                }
            }
            partitions.push(answer);
        }
        response.topics.push(wire::ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    response
}

fn partition_of(topic: &Result<Arc<Topic>, i16>, index: i32) -> Result<Arc<Partition>, i16> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    topic.partition(index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)
}

/// Offset and time, -1 for none.
async fn offset(
    partition: &Arc<Partition>,
    time_ms: i64,
    committed_only: bool,
) -> Result<(i64, i64), volumes::ReadError> {
    let blocking = Arc::clone(partition);
    let found = match time_ms {
        LATEST if committed_only => {
            // An append that fails just now lets it be forgotten again.
            loop {
                learn(partition).await?;
                if let Some(stable) = partition.stable_offset() {
                    return Ok((stable, -1));
                }
            }
        }
        LATEST => return Ok((partition.end_offset(), -1)),
        EARLIEST | EARLIEST_LOCAL => return Ok((partition.start_offset(), -1)),
        LATEST_TIERED | EARLIEST_PENDING => return Ok((-1, -1)),
        HIGHEST_TIME => tokio::task::spawn_blocking(move || blocking.highest_time()).await,
        time_ms => tokio::task::spawn_blocking(move || blocking.find_time(time_ms)).await,
    };
    let found = found.unwrap_or(Ok(None))?;
    Ok(found.map_or((-1, -1), |(offset, time)| (offset.max(partition.start_offset()), time)))
}

pub(crate) async fn delete(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: delete_records::Request,
) -> delete_records::Response {
    use delete_records::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
    let mut response = delete_records::Response::default();
    for topic in request.topics {
        let found = front.allowed_topic(session, Operation::Delete, &topic.name, Uuid::ZERO);
        let mut partitions = Vec::new();
        for asked in topic.partitions {
            let mut answer = DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: -1,
                ..DeleteRecordsPartitionResult::default()
            };
            let deletes = found.as_ref().is_ok_and(|topic| topic.config().is_deleted());
            match partition_of(&found, asked.partition_index) {
                Err(error) => answer.error_code = error,
                Ok(_) if !deletes => answer.error_code = code::POLICY_VIOLATION,
                Ok(partition) => {
                    let end = partition.end_offset();
                    let below = if asked.offset == -1 { end } else { asked.offset };
                    if !(0..=end).contains(&below) {
                        answer.error_code = code::OFFSET_OUT_OF_RANGE;
                    } else {
                        match front.log.trim(&partition, below).await {
                            Ok(start) => answer.low_watermark = start,
                            Err(error) => answer.error_code = errors::of_append(&error),
                        }
                    }
                }
            }
            partitions.push(answer);
        }
        response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    response
}

/// There is one leader, and its epoch is 0 for ever.
pub(crate) async fn leader_epoch(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: epochs::Request,
) -> epochs::Response {
    let topics = request.topics.into_iter().map(|topic| {
        let found = front.allowed_topic(session, Operation::Describe, &topic.topic, Uuid::ZERO);
        let partitions = topic.partitions.into_iter().map(|asked| {
            let mut answer = epochs::EpochEndOffset {
                partition: asked.partition,
                ..epochs::EpochEndOffset::default()
            };
            match partition_of(&found, asked.partition) {
                Err(error) => answer.error_code = error,
                Ok(_) if asked.current_leader_epoch > 0 => {
                    answer.error_code = code::UNKNOWN_LEADER_EPOCH;
                }
                Ok(partition) if asked.leader_epoch == 0 => {
                    (answer.leader_epoch, answer.end_offset) = (0, partition.end_offset());
                }
                Ok(_) => {}
            }
            answer
        });
        let partitions = partitions.collect();
        epochs::OffsetForLeaderTopicResult { topic: topic.topic, partitions }
    });
    epochs::Response { topics: topics.collect(), ..epochs::Response::default() }
}
