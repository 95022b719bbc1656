//! Dead letters: copies of records that a share group gave up on, in a topic for that (KIP-1191).
//!
//! Not here: which records those are (`share`). Invariants: a letter is durable before its record
//! is done with, so after a crash there may be one more than records, and never one less; only a
//! topic that says that it takes dead letters is written to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::share::Delivery;
use crate::engine::batch::{Batch, Builder};
use crate::engine::log::{Log, Topic};
use crate::engine::partition::{AppendError, Partition};

/// Bytes of records in one batch of letters, but for the first.
const BATCH_BYTES: usize = 512 << 10;

/// Where a group's letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The topic.
    pub topic: Arc<str>,
    /// Whether keys, values and headers go along.
    pub copies_records: bool,
}

/// Records that nobody gets again though nobody accepted them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Which, and how often they were delivered.
    pub records: Delivery,
    /// In words.
    pub why: &'static str,
    /// Where it goes.
    pub to: Address,
}

/// What a letter says of one record.
#[derive(Default)]
struct Copy {
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Writes letters of a partition and waits until they are durable. Those that have no topic to go to
/// are counted, and go nowhere.
///
/// # Errors
/// When the store does not take them.
pub(super) async fn write(
    log: &Arc<Log>,
    group: &str,
    from: &Topic,
    partition: &Arc<Partition>,
    letters: &[Letter],
) -> Result<(), AppendError> {
    for letter in letters {
        let to = log.topic(&letter.to.topic).filter(|topic| topic.config().takes_dead_letters());
        let records = letter.records.first..=letter.records.last;
        let Some(to) = to.filter(|to| to.id != from.id) else {
            let lost = u64::try_from(records.count()).unwrap_or(0);
            from.traffic.dead_letters_lost.fetch_add(lost, Ordering::Relaxed);
            continue;
        };
        let all = to.partitions();
        let chosen = usize::try_from(partition.index).unwrap_or(0) % all.len().max(1);
        let Some(target) = all.get(chosen) else { continue };
        let mut writing = Vec::new();
        let (mut builder, mut bytes) = (Builder::new(log.now_ms()), 0);
        for offset in records {
            let copy = match letter.to.copies_records {
                true => match copy(partition, offset).await? {
                    Some(copy) => copy,
                    // It is not in the log any more, or never was.
                    None => continue,
                },
                false => Copy::default(),
            };
            let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
            let own = size(&copy.key) + size(&copy.value) + 256;
            if bytes > 0 && bytes + own > BATCH_BYTES {
                let full = std::mem::replace(&mut builder, Builder::new(log.now_ms()));
                writing.push(log.append(&to, target, full.build()).await?);
                bytes = 0;
            }
            bytes += own;
            builder =
                add(builder, log.now_ms(), group, from, partition.index, offset, letter, copy);
        }
        if bytes > 0 {
            writing.push(log.append(&to, target, builder.build()).await?);
        }
        for one in writing {
            one.durable().await?;
        }
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "what a letter says, each once")]
fn add(
    builder: Builder,
    time_ms: i64,
    group: &str,
    from: &Topic,
    index: i32,
    offset: i64,
    letter: &Letter,
    copy: Copy,
) -> Builder {
    let (index, offset) = (index.to_string(), offset.to_string());
    let count = letter.records.count.to_string();
    let said = [
        ("__dlq.errors.topic", from.name.as_str()),
        ("__dlq.errors.partition", &index),
        ("__dlq.errors.offset", &offset),
        ("__dlq.errors.group", group),
        ("__dlq.errors.delivery.count", &count),
        ("__dlq.errors.message", letter.why),
    ];
    let own = copy.headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
    let said = said.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
    let headers: Vec<_> = own.chain(said).collect();
    builder.record(time_ms, copy.key.as_deref(), copy.value.as_deref(), &headers)
}

/// A record as it is in the log.
async fn copy(partition: &Arc<Partition>, offset: i64) -> Result<Option<Copy>, AppendError> {
    let (partition, end) = (Arc::clone(partition), partition.end_offset());
    if offset < partition.start_offset() {
        return Ok(None);
    }
    let find = move || -> Result<Option<Copy>, volumes::ReadError> {
        let pieces = partition.read(offset, 1, end)?;
        let batch = pieces.first().and_then(|piece| Batch::each(piece).next());
        let Some(batch) = batch else { return Ok(None) };
        let Ok(mut records) = batch.records() else { return Ok(None) };
        let delta = offset - batch.head.base_offset;
        let found = records.find_map(|record| {
            record.ok().filter(|record| i64::from(record.offset_delta) == delta)
        });
        Ok(found.map(|record| Copy {
            key: record.key,
            value: record.value,
            headers: record.headers,
        }))
    };
    Ok(tokio::task::spawn_blocking(find).await.unwrap_or(Ok(None))?)
}
