//! Produce: batches are checked and appended when the request is read; the answer waits until they
//! are durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::RequestHeader;
use kafka_wire::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, Request, Response,
    TopicProduceResponse,
};

use super::errors::{self, code};
use super::{Front, Session, quotas, transactions};
use crate::engine::batch::{Batch, BatchError};
use crate::engine::log::Topic;
use crate::engine::partition::Appending;
use crate::engine::transactions::{Identity, TransactionError};
use crate::security::acls::{Operation, Resource};
use crate::security::quotas::Measure;

/// A request whose batches are on their way.
pub(crate) struct Started {
    topics: Vec<(TopicProduceResponse, Vec<Outcome>)>,
    /// How long the client is silent then.
    wait: Duration,
}

struct Outcome {
    response: PartitionProduceResponse,
    appending: Option<Appending>,
}

/// Checks and appends.
pub(crate) async fn start(
    front: &Arc<Front>,
    session: &Session,
    header: &RequestHeader,
    request: Request,
) -> Started {
    let bytes = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let bytes: usize = bytes.map(|data| data.records.as_ref().map_or(0, Bytes::len)).sum();
    let client_id = header.client_id.as_ref();
    let wait = front.took(session, client_id, Measure::ProducerByteRate, bytes as f64);
    let name = request.transactional_id.as_deref();
    let may_name = name
        .is_none_or(|name| front.may(session, Operation::Write, Resource::TransactionalId, name));
    let joined = match name.filter(|_| may_name && header.version >= 12) {
        Some(name) => join(front, session, name, &request).await,
        None => Ok(()),
    };
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = front.allowed_topic(session, Operation::Write, &data.name, data.topic_id);
        let mut outcomes = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let outcome = match (&topic, request.acks) {
                (_, acks) if !(-1..=1).contains(&acks) => {
                    refused(&partition, code::INVALID_REQUIRED_ACKS, None)
                }
                _ if !may_name => {
                    refused(&partition, code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, None)
                }
                (Err(error), _) => refused(&partition, *error, None),
                _ if let Err(error) = &joined => {
                    let why = error.to_string();
                    refused(&partition, transactions::code_of(error, false), Some(why))
                }
                (Ok(topic), _) => one(front, topic, partition).await,
            };
            outcomes.push(outcome);
        }
        let response = TopicProduceResponse {
            name: data.name,
            topic_id: data.topic_id,
            ..TopicProduceResponse::default()
        };
        topics.push((response, outcomes));
    }
    Started { topics, wait }
}

/// From version 12 on nobody says before what a transaction writes to: it is what is written to.
async fn join(
    front: &Arc<Front>,
    session: &Session,
    name: &str,
    request: &Request,
) -> Result<(), TransactionError> {
    let mut wanted: Vec<(Identity, Vec<(String, i32)>)> = Vec::new();
    for data in &request.topic_data {
        let topic = front.allowed_topic(session, Operation::Write, &data.name, data.topic_id);
        let Ok(topic) = topic else { continue };
        for one in data.partition_data.iter().filter(|one| topic.partition(one.index).is_some()) {
            let batch = one.records.clone().and_then(Batch::kept);
            let Some(head) = batch.map(|batch| batch.head) else { continue };
            if !head.is_transactional() {
                continue;
            }
            let identity = Identity { producer: head.producer_id, epoch: head.producer_epoch };
            let place = (topic.name.clone(), one.index);
            match wanted.last_mut().filter(|(last, _)| *last == identity) {
                Some((_, places)) => places.push(place),
                None => wanted.push((identity, vec![place])),
            }
        }
    }
    for (identity, places) in wanted {
        front.transactions.add_partitions(name, identity, places).await?;
    }
    Ok(())
}

fn refused(data: &PartitionProduceData, error_code: i16, message: Option<String>) -> Outcome {
    let response = PartitionProduceResponse {
        index: data.index,
        error_code,
        base_offset: -1,
        error_message: message.map(Into::into),
        ..PartitionProduceResponse::default()
    };
    Outcome { response, appending: None }
}

/// Records of one batch that are named when it is refused.
const RECORD_ERRORS_MAX: usize = 10_000;

fn no_key(batch_index: i32) -> BatchIndexAndErrorMessage {
    let why = Some("a record without a key in a topic that is compacted by key".into());
    BatchIndexAndErrorMessage { batch_index, batch_index_error_message: why }
}

async fn one(front: &Arc<Front>, topic: &Topic, data: PartitionProduceData) -> Outcome {
    let Some(partition) = topic.partition(data.index) else {
        return refused(&data, code::UNKNOWN_TOPIC_OR_PARTITION, None);
    };
    let mut records = data.records.clone().unwrap_or_default();
    let batch = match front.log.check(topic, &mut records) {
        Ok(batch) => batch,
        Err(error) => {
            let mut outcome = refused(&data, errors::of_batch(&error), Some(error.to_string()));
            if error == BatchError::NoKey {
                // The client sends the others again without these.
                let bad = Batch::without_key(&data.records.unwrap_or_default());
                outcome.response.record_errors =
                    bad.into_iter().take(RECORD_ERRORS_MAX).map(no_key).collect();
            }
            return outcome;
        }
    };
    if !records.is_empty() {
        let why = "one batch a partition and request is taken".to_owned();
        return refused(&data, code::INVALID_RECORD, Some(why));
    }
    let head = batch.head;
    let bytes = batch.bytes.len() as u64;
    match front.log.append(topic, &partition, batch).await {
        Ok(appending) => {
            front.counts.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            let records = u64::from(head.records.unsigned_abs());
            front.counts.records_in.fetch_add(records, Ordering::Relaxed);
            topic.traffic.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            topic.traffic.records_in.fetch_add(records, Ordering::Relaxed);
            let time = if topic.config().gives_time() { front.log.now_ms() } else { -1 };
            let response = PartitionProduceResponse {
                index: data.index,
                base_offset: appending.base_offset,
                log_append_time_ms: time,
                log_start_offset: partition.start_offset(),
                ..PartitionProduceResponse::default()
            };
            Outcome { response, appending: Some(appending) }
        }
        Err(error) => refused(&data, errors::of_append(&error), Some(error.to_string())),
    }
}

impl Started {
    /// The answer, once all is durable or known not to be.
    pub(crate) async fn answer(self) -> Response {
        let mut responses = Vec::with_capacity(self.topics.len());
        for (mut topic, outcomes) in self.topics {
            for Outcome { mut response, appending } in outcomes {
                if let Some(appending) = appending
                    && let Err(error) = appending.durable().await
                {
                    response.error_code = errors::of_append(&error);
                    response.error_message = Some(error.to_string().into());
                    response.base_offset = -1;
                }
                topic.partition_responses.push(response);
            }
            responses.push(topic);
        }
        let throttle_time_ms = quotas::millis(self.wait);
        Response { responses, throttle_time_ms, ..Response::default() }
    }
}
