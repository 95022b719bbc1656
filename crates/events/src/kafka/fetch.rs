//! Fetch: whole batches from an offset on, waiting until there is enough or the time is over.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::RequestHeader;
use kafka_wire::fetch::{
    AbortedTransaction, FetchPartition, FetchableTopicResponse, PartitionData, Request, Response,
};
use tokio::time::{Instant, timeout_at};

use super::errors::{self, code};
use super::sessions::{Held, Kind, Place, Wanted};
use super::{Front, Session};
use crate::engine::batch::Batch;
use crate::engine::log::{Topic, learn};
use crate::engine::partition::Partition;
use crate::engine::waiters::Waiter;
use crate::security::acls::Operation;
use crate::security::quotas::Measure;

/// Longest that anybody waits.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Most that one answer holds, whatever was asked for, but for one batch.
const BYTES_MAX: usize = 64 << 20;

/// A partition that is asked for.
struct Asked {
    place: Place,
    wanted: Wanted,
    partition: Result<(Arc<Topic>, Arc<Partition>), i16>,
}

pub(crate) async fn fetch(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: Request,
) -> Response {
    let kind = match front.sessions.of(&request, || front.random()) {
        Ok(kind) => kind,
        Err(error_code) => return Response { error_code, ..Response::default() },
    };
    match kind {
        Kind::Once => {
            let mut held = Held::default();
            if let Err(error_code) = held.update(&request, true) {
                return Response { error_code, ..Response::default() };
            }
            let found = gather(front, session, header, &request, &held).await;
            answer(0, found)
        }
        Kind::Session(id, held, is_new) => {
            let mut held = held.lock().await;
            if let Err(error_code) = held.update(&request, is_new) {
                return Response { error_code, ..Response::default() };
            }
            let found = gather(front, session, header, &request, &held).await;
            // Only what the client does not know yet, and who got something comes last next time.
            let mut told = Vec::new();
            let mut served = HashSet::new();
            for (place, data) in found {
                let Some(wanted) = held.wanted.get_mut(&place) else { continue };
                let now = Some((data.high_watermark, data.log_start_offset));
                let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
                let news = is_new || has_records || data.error_code != 0 || wanted.told != now;
                if data.error_code == 0 {
                    wanted.told = now;
                }
                if has_records {
                    served.insert(place.clone());
                }
                if news {
                    told.push((place, data));
                }
            }
            if !served.is_empty() {
                let (behind, mut order): (Vec<Place>, Vec<Place>) =
                    held.order.drain(..).partition(|place| served.contains(place));
                order.extend(behind);
                held.order = order;
            }
            answer(id, told)
        }
    }
}

fn answer(session_id: i32, found: Vec<(Place, PartitionData)>) -> Response {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for ((topic_id, topic, _), data) in found {
        match responses.last_mut() {
            Some(last) if last.topic_id == topic_id && last.topic == topic => {
                last.partitions.push(data);
            }
            _ => responses.push(FetchableTopicResponse { topic, topic_id, partitions: vec![data] }),
        }
    }
    Response { session_id, responses, ..Response::default() }
}

/// Reads until there is enough or the time is over.
async fn gather(
    front: &Arc<Front>,
    session: &Session,
    header: &RequestHeader,
    request: &Request,
    held: &Held,
) -> Vec<(Place, PartitionData)> {
    let mut asked = Vec::with_capacity(held.order.len());
    for place in &held.order {
        let Some(wanted) = held.wanted.get(place) else { continue };
        let topic = front.allowed_topic(session, Operation::Read, &place.1, place.0);
        let partition = topic.and_then(|topic| {
            let partition = topic.partition(place.2).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
            Ok((topic, partition))
        });
        asked.push(Asked { place: place.clone(), wanted: wanted.clone(), partition });
    }
    let wait = u64::try_from(request.max_wait_ms).map_or(Duration::ZERO, Duration::from_millis);
    let deadline = Instant::now() + wait.min(WAIT_MAX);
    let committed_only = request.isolation_level == 1;
    let least = usize::try_from(request.min_bytes).unwrap_or(0);
    let most = usize::try_from(request.max_bytes).unwrap_or(0).min(BYTES_MAX);
    let waiter = Waiter::new();
    loop {
        for one in &asked {
            if let Ok((_, partition)) = &one.partition {
                partition.wait(&waiter);
            }
        }
        let (found, bytes, is_final) = read_all(header, &asked, most, committed_only).await;
        let in_time = Instant::now() < deadline;
        if bytes >= least || is_final || !in_time {
            front.counts.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
            for (one, (_, data)) in asked.iter().zip(&found) {
                if let (Ok((topic, _)), Some(records)) = (&one.partition, &data.records) {
                    let (traffic, bytes) = (&topic.traffic, records.len() as u64);
                    traffic.bytes_out.fetch_add(bytes, Ordering::Relaxed);
                    traffic.records_out.fetch_add(Batch::count(records), Ordering::Relaxed);
                }
            }
            let client_id = header.client_id.as_ref();
            front.took(session, client_id, Measure::ConsumerByteRate, bytes as f64);
            return found;
        }
        let _ = timeout_at(deadline, waiter.woken()).await;
    }
}

/// Every partition once. Also how many bytes that is, and whether waiting would change nothing.
async fn read_all(
    header: &RequestHeader,
    asked: &[Asked],
    most: usize,
    committed_only: bool,
) -> (Vec<(Place, PartitionData)>, usize, bool) {
    let (mut found, mut total, mut is_final) =
        (Vec::with_capacity(asked.len()), 0, asked.is_empty());
    for one in asked {
        let room = most.saturating_sub(total);
        let partition = match &one.partition {
            Ok((_, partition)) => partition,
            Err(error) => {
                found.push((one.place.clone(), failed(&one.wanted.partition, *error)));
                is_final = true;
                continue;
            }
        };
        let is_first = total == 0;
        let data = read_one(partition, &one.wanted.partition, room, is_first, committed_only).await;
        is_final |= data.error_code != 0;
        total += data.records.as_ref().map_or(0, Bytes::len);
        found.push((one.place.clone(), data));
    }
    let _ = header;
    (found, total, is_final)
}

fn failed(wanted: &FetchPartition, error_code: i16) -> PartitionData {
    PartitionData {
        partition_index: wanted.partition,
        error_code,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Some(Bytes::new()),
        ..PartitionData::default()
    }
}

async fn read_one(
    partition: &Arc<Partition>,
    wanted: &FetchPartition,
    room: usize,
    is_first: bool,
    committed_only: bool,
) -> PartitionData {
    // There is one leader, in its first epoch.
    if wanted.current_leader_epoch > 0 {
        return failed(wanted, code::UNKNOWN_LEADER_EPOCH);
    }
    if committed_only && let Err(error) = learn(partition).await {
        return failed(wanted, errors::of_read(&error));
    }
    // Asked for before the end, which goes on meanwhile. Where an append failed just now it is
    // not known again: a reader of committed data asks once more.
    let stable = partition.stable_offset();
    if committed_only && stable.is_none() {
        return failed(wanted, code::KAFKA_STORAGE_ERROR);
    }
    let (start, end) = (partition.start_offset(), partition.end_offset());
    let from = wanted.fetch_offset;
    let mut data = PartitionData {
        partition_index: wanted.partition,
        high_watermark: end,
        log_start_offset: start,
        last_stable_offset: -1,
        records: Some(Bytes::new()),
        ..PartitionData::default()
    };
    data.last_stable_offset = stable.unwrap_or(-1);
    let below = stable.filter(|_| committed_only).unwrap_or(end);
    if from < start || from > end {
        return PartitionData {
            high_watermark: end,
            log_start_offset: start,
            ..failed(wanted, code::OFFSET_OUT_OF_RANGE)
        };
    }
    if partition.is_deleted() {
        return failed(wanted, code::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let own = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(room);
    if from >= below || (own == 0 && !is_first) {
        return data;
    }
    let bytes = own as u64;
    let read = match partition.read_in_memory(from, bytes, below) {
        Some(read) => read,
        None => {
            let partition = Arc::clone(partition);
            let read = move || partition.read(from, bytes, below);
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Ok(Vec::new()))
        }
    };
    let pieces = match read {
        Ok(pieces) => pieces,
        Err(error) => return failed(wanted, errors::of_read(&error)),
    };
    let size: usize = pieces.iter().map(Bytes::len).sum();
    // The first batch of an answer is given whatever its size, so that everybody gets on.
    if size > own && !is_first {
        return data;
    }
    if committed_only {
        let Some(aborted) = partition.aborted(from, below) else {
            return failed(wanted, code::KAFKA_STORAGE_ERROR);
        };
        let told = aborted.iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer,
            first_offset: aborted.first,
        });
        data.aborted_transactions = Some(told.collect());
    }
    data.records = Some(joined(pieces));
    data
}

/// One piece of all.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}
