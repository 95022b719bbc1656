//! Offsets by time, deleting records, epochs of leaders.

use std::sync::Arc;

use kafka_wire::{
    RequestHeader, delete_records, list_offsets as wire, offset_for_leader_epoch as epochs,
};

use super::errors::{self, code};
use super::{Front, Session};
use crate::engine::log::learn;
use crate::engine::partition::Partition;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const HIGHEST_TIME: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING: i64 = -6;

pub(crate) async fn list_offsets(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: wire::Request,
) -> wire::Response {
    let mut response = wire::Response::default();
    for topic in request.topics {
        let found = front.log.topic(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let mut answer = wire::ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                leader_epoch: 0,
                ..wire::ListOffsetsPartitionResponse::default()
            };
            let partition = found.as_ref().and_then(|topic| topic.partition(asked.partition_index));
            match partition {
                None => {
                    answer.error_code = code::UNKNOWN_TOPIC_OR_PARTITION;
                    answer.leader_epoch = -1;
                }
                Some(partition) => {
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

/// Offset and time, -1 for none.
async fn offset(
    partition: &Arc<Partition>,
    time_ms: i64,
    committed_only: bool,
) -> Result<(i64, i64), volumes::ReadError> {
    let blocking = Arc::clone(partition);
    let found = match time_ms {
        LATEST if committed_only => {
            learn(partition).await?;
            return Ok((partition.stable_offset(), -1));
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
    _: &Arc<Session>,
    _: &RequestHeader,
    request: delete_records::Request,
) -> delete_records::Response {
    use delete_records::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
    let mut response = delete_records::Response::default();
    for topic in request.topics {
        let found = front.log.topic(&topic.name);
        let mut partitions = Vec::new();
        for asked in topic.partitions {
            let mut answer = DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: -1,
                ..DeleteRecordsPartitionResult::default()
            };
            let partition = found.as_ref().and_then(|topic| topic.partition(asked.partition_index));
            let deletes = found.as_ref().is_some_and(|topic| topic.config().is_deleted());
            match partition {
                None => answer.error_code = code::UNKNOWN_TOPIC_OR_PARTITION,
                Some(_) if !deletes => answer.error_code = code::POLICY_VIOLATION,
                Some(partition) => {
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
    _: &Arc<Session>,
    _: &RequestHeader,
    request: epochs::Request,
) -> epochs::Response {
    let topics = request.topics.into_iter().map(|topic| {
        let found = front.log.topic(&topic.topic);
        let partitions = topic.partitions.into_iter().map(|asked| {
            let partition = found.as_ref().and_then(|topic| topic.partition(asked.partition));
            let mut answer = epochs::EpochEndOffset {
                partition: asked.partition,
                ..epochs::EpochEndOffset::default()
            };
            match partition {
                None => answer.error_code = code::UNKNOWN_TOPIC_OR_PARTITION,
                Some(_) if asked.current_leader_epoch > 0 => {
                    answer.error_code = code::UNKNOWN_LEADER_EPOCH;
                }
                Some(partition) if asked.leader_epoch == 0 => {
                    (answer.leader_epoch, answer.end_offset) = (0, partition.end_offset());
                }
                Some(_) => {}
            }
            answer
        });
        let partitions = partitions.collect();
        epochs::OffsetForLeaderTopicResult { topic: topic.topic, partitions }
    });
    epochs::Response { topics: topics.collect(), ..epochs::Response::default() }
}
