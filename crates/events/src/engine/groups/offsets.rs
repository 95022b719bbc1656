//! How far groups are: an offset for each group, topic and partition, in the journal.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Groups, Slot};
use crate::engine::journal::{Change, Key, Kind};
use crate::engine::sync::lock;

/// Longest that a client may say beside an offset.
pub const METADATA_BYTES_MAX: usize = 4096;

/// What was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader's epoch as the client knew it, -1 for none.
    #[serde(default)]
    pub epoch: i32,
    /// What the client said with it.
    #[serde(default)]
    pub metadata: String,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
}

fn key(group: &str, topic: &str, partition: i32) -> Key {
    Key::new(Kind::Offset, &[group, topic, &partition.to_string()])
}

/// The change that commits an offset.
pub fn commit(group: &str, topic: &str, partition: i32, committed: &Committed) -> Change {
    let value = Bytes::from(serde_json::to_vec(committed).unwrap_or_default());
    (key(group, topic, partition), Some(value))
}

impl Groups {
    /// Commits offsets; they are durable when this resolves.
    ///
    /// # Errors
    /// When they are not.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), volumes::AppendError> {
        self.log.journal.change(changes).await
    }

    /// What a group committed of a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        let value = self.log.journal.get(&key(group, topic, partition))?;
        serde_json::from_slice(&value).ok()
    }

    /// All that a group committed: topic, partition and what.
    pub fn all_committed(&self, group: &str) -> Vec<(String, i32, Committed)> {
        let all = self.log.journal.list(Kind::Offset, &[group]);
        let mut found: Vec<_> = all
            .iter()
            .filter_map(|(key, value)| {
                let parts = key.parts();
                let [_, topic, partition] = parts.as_slice() else { return None };
                let committed = serde_json::from_slice(value).ok()?;
                Some(((*topic).to_owned(), partition.parse().ok()?, committed))
            })
            .collect();
        found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        found
    }

    /// Forgets offsets that are older than they are kept, of groups that have had no members for as
    /// long. From a start on that is counted anew: nobody knows when the last one left. Returns how
    /// many. Call it now and then.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn expire_offsets(&self) -> Result<usize, volumes::AppendError> {
        let kept = self.log.journal.list(Kind::Offset, &[]);
        let name_of = |key: &Key| key.parts().first().copied().unwrap_or_default().to_owned();
        let mut idle = BTreeSet::new();
        for name in kept.iter().map(|(key, _)| name_of(key)).collect::<BTreeSet<_>>() {
            if self.has_no_members(&name).await {
                idle.insert(name);
            }
        }
        let now_ms = self.log.now_ms();
        let kept_ms = self.log.options().offsets_retention.as_millis();
        let before_ms = now_ms.saturating_sub(i64::try_from(kept_ms).unwrap_or(i64::MAX));
        let idle = {
            let mut known = lock(&self.idle);
            known.retain(|name, _| idle.contains(name));
            idle.into_iter().for_each(|name| {
                known.entry(name).or_insert(now_ms);
            });
            known.clone()
        };
        let is_over = |key: &Key, value: &Bytes| {
            let since = idle.get(&name_of(key));
            let committed = serde_json::from_slice(value).ok();
            let at = committed.map(|committed: Committed| committed.time_ms);
            since.zip(at).is_some_and(|(since, at)| at.max(*since) < before_ms)
        };
        let over = kept.into_iter().filter(|(key, value)| is_over(key, value));
        let over: Vec<Change> = over.map(|(key, _)| (key, None)).collect();
        let count = over.len();
        self.log.journal.change(over).await?;
        Ok(count)
    }

    async fn has_no_members(&self, name: &str) -> bool {
        let slot = lock(&self.all).get(name).cloned();
        match slot {
            Some(Slot::Classic(held)) => lock(&held).group.members.is_empty(),
            Some(Slot::Roster(roster)) => roster.is_empty().await,
            None => true,
        }
    }

    /// Forgets offsets.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn forget(
        &self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Result<(), volumes::AppendError> {
        let changes =
            partitions.iter().map(|(topic, partition)| (key(group, topic, *partition), None));
        self.log.journal.change(changes.collect()).await
    }
}
