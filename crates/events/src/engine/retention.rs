//! What is too old, or too much, goes: records, producers that are silent.
//!
//! Not here: compaction (`compaction`). The start of a partition moves by whole batches, and space comes back by
//! volume (`volumes`).

use std::sync::Arc;

use super::config::TopicConfig;
use super::log::Log;
use super::partition::Partition;

/// A producer that wrote nothing for so long is forgotten, in milliseconds.
const PRODUCER_SILENT_MS: i64 = 86_400_000;

impl Log {
    /// Deletes what topics keep no longer. What cannot be now is tried the next time.
    pub async fn expire(&self) {
        let now = self.now_ms();
        for topic in self.topics() {
            let config = topic.config();
            for partition in &*topic.partitions() {
                partition.expire_producers(now - PRODUCER_SILENT_MS);
                if config.is_deleted()
                    && let Some(start) = expired(partition, &config, now).await
                {
                    let _ = self.trim(partition, start).await;
                }
            }
        }
    }
}

/// Where a partition should begin, if not where it does.
async fn expired(partition: &Arc<Partition>, config: &TopicConfig, now_ms: i64) -> Option<i64> {
    let (kept_ms, kept_bytes) = (config.number("retention.ms"), config.number("retention.bytes"));
    if partition.start_offset() >= partition.end_offset() {
        return None;
    }
    let too_much = u64::try_from(kept_bytes).is_ok_and(|kept| partition.bytes() > kept);
    let before = (kept_ms >= 0).then(|| now_ms.saturating_sub(kept_ms));
    let too_old = before.is_some_and(|before| partition.is_older_than(before));
    if !too_much && !too_old {
        return None;
    }
    let partition = Arc::clone(partition);
    let look = move || partition.start_for(before, u64::try_from(kept_bytes).ok());
    tokio::task::spawn_blocking(look).await.ok()?.ok()?
}
