//! Messages: a few written, a few read, forwards or from the newest back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_wire::{fetch, produce};
use tokio::io::{AsyncRead, AsyncWrite};

use super::topics::{EARLIEST, LATEST};
use super::{Client, ClientError, check};
use crate::engine::batch::{Batch, Builder, Record};

/// Bytes of records that one request carries there, beyond its first message: well below what topics
/// take by default.
const PRODUCE_BYTES: usize = 512 << 10;

/// Bytes that one request brings of one partition, and of all.
const PARTITION_BYTES: i32 = 1 << 20;
const FETCH_BYTES: i32 = 16 << 20;

/// Bytes of a page, beyond its first message.
const PAGE_BYTES: usize = 16 << 20;

/// Requests for one partition's share of a page: it may be that all there is between two messages was
/// compacted away or aborted.
const STEPS_MAX: usize = 64;

/// Who has no such offset.
const OUT_OF_RANGE: i16 = 1;

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first message that is kept.
    Beginning,
    /// What comes from now on.
    End,
    /// An offset, or the first that is kept after it.
    Offset(i64),
    /// The first message of this time or later, in milliseconds.
    Time(i64),
}

/// An offset in each partition.
pub type Cursor = BTreeMap<i32, i64>;

/// A message to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it is.
    pub partition: i32,
    /// And there.
    pub offset: i64,
    /// Its time, in milliseconds.
    pub time_ms: i64,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value, if it has one.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Some messages, and where the next ones are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order that was asked for; those of one partition by offset.
    pub messages: Vec<Message>,
    /// Where to go on.
    pub next: Cursor,
    /// Whether there was more at that moment.
    pub has_more: bool,
}

/// What one partition gave.
#[derive(Default)]
struct Read {
    messages: Vec<Message>,
    /// Where to go on.
    next: i64,
    /// Readers see nothing from here on.
    end: i64,
}

impl Message {
    fn bytes(&self) -> usize {
        let of = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + of(value));
        of(&self.key) + of(&self.value) + headers.sum::<usize>()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Writes messages, durably: with a key to the partition that programs' clients choose for it,
    /// without to the one that `seed` does. Returns the first offset in each partition.
    ///
    /// # Errors
    /// When the log does not take one; those of earlier requests are there.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        messages: Vec<NewMessage>,
        now_ms: i64,
        seed: u64,
    ) -> Result<Cursor, ClientError> {
        let found = self.topics(Some(topic)).await?;
        let count = found.first().map_or(0, |topic| topic.partitions.len());
        let mut waiting: BTreeMap<i32, VecDeque<NewMessage>> = BTreeMap::new();
        for message in messages {
            let to = partition.unwrap_or_else(|| choose(message.key.as_deref(), count, seed));
            waiting.entry(to).or_default().push_back(message);
        }
        let mut first = Cursor::new();
        while !waiting.is_empty() {
            let data = waiting.iter_mut().map(|(index, messages)| produce::PartitionProduceData {
                index: *index,
                records: Some(batch(messages, now_ms)),
            });
            let request = produce::Request {
                acks: -1,
                timeout_ms: 10_000,
                topic_data: vec![produce::TopicProduceData {
                    name: topic.into(),
                    partition_data: data.collect(),
                    ..produce::TopicProduceData::default()
                }],
                ..produce::Request::default()
            };
            waiting.retain(|_, messages| !messages.is_empty());
            let answer = self.ask(&request, 3..=12).await?;
            for done in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
                let message = done.error_message.as_deref();
                let what = || format!("partition {} of topic `{topic}`", done.index);
                check(what, done.error_code, message)?;
                first.entry(done.index).or_insert(done.base_offset);
            }
        }
        Ok(first)
    }

    /// Where a position is in a topic's partitions, or in one of them.
    ///
    /// # Errors
    /// When it cannot be asked, or there is no such topic or partition.
    pub async fn place(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        position: Position,
    ) -> Result<Cursor, ClientError> {
        let found = self.topics(Some(topic)).await?;
        let all = found.into_iter().flat_map(|topic| topic.partitions);
        let all: Vec<_> =
            all.filter(|one| partition.is_none_or(|wanted| wanted == one.index)).collect();
        if let (Some(partition), true) = (partition, all.is_empty()) {
            check(|| format!("partition {partition} of topic `{topic}`"), 3, None)?;
        }
        let late = match position {
            Position::Time(time_ms) => {
                let each: Vec<_> = all.iter().map(|one| (topic.to_owned(), one.index)).collect();
                self.offsets(&each, time_ms.max(0)).await?
            }
            _ => HashMap::new(),
        };
        let each = all.into_iter().map(|one| {
            let at = match position {
                Position::Beginning => one.start,
                Position::End => one.end,
                Position::Offset(offset) => offset.clamp(one.start, one.end),
                Position::Time(_) => {
                    late.get(&(topic.to_owned(), one.index)).copied().unwrap_or(one.end)
                }
            };
            (one.index, at)
        });
        Ok(each.collect())
    }

    /// At most `limit` messages from a cursor on, those of all partitions by time. While there is
    /// none, waits for some that long.
    ///
    /// # Errors
    /// When it cannot be asked, or there is no such topic.
    pub async fn forward(
        &mut self,
        topic: &str,
        from: &Cursor,
        limit: usize,
        wait: Duration,
    ) -> Result<Page, ClientError> {
        let mut reads = self.fetch(topic, from, wait).await?;
        let mut next = from.clone();
        let mut has_more = false;
        let lists = reads.iter_mut().map(|(index, read)| {
            next.insert(*index, read.next);
            has_more |= read.next < read.end;
            VecDeque::from(std::mem::take(&mut read.messages))
        });
        let (messages, left) = merge(lists.collect(), limit, false);
        for first in left.iter().filter_map(VecDeque::front) {
            next.insert(first.partition, first.offset);
            has_more = true;
        }
        Ok(Page { messages, next, has_more })
    }

    /// At most `limit` messages before a cursor, newest first, those of all partitions by time.
    ///
    /// # Errors
    /// When it cannot be asked, or there is no such topic.
    pub async fn backward(
        &mut self,
        topic: &str,
        before: &Cursor,
        limit: usize,
    ) -> Result<Page, ClientError> {
        let all: Vec<_> = before.keys().map(|index| (topic.to_owned(), *index)).collect();
        let starts = self.offsets(&all, EARLIEST).await?;
        let ends = self.offsets(&all, LATEST).await?;
        let mut kept: VecDeque<Message> = VecDeque::new();
        let mut next = Cursor::new();
        for (index, before) in before {
            let at = (topic.to_owned(), *index);
            let start = starts.get(&at).copied().unwrap_or_default();
            let before = (*before).min(ends.get(&at).copied().unwrap_or_default());
            let (mut own, low) = self.last(topic, *index, start, before, limit).await?;
            own.reverse();
            next.insert(*index, low);
            let (merged, left) = merge(vec![kept, own.into()], limit, true);
            kept = merged.into();
            // What had no room comes after: before the lowest offset that was kept.
            for last in left.iter().flatten() {
                let low = next.entry(last.partition).or_insert(0);
                *low = (*low).max(last.offset + 1);
            }
        }
        let has_more = next.iter().any(|(index, low)| {
            starts.get(&(topic.to_owned(), *index)).is_some_and(|start| low > start)
        });
        Ok(Page { messages: kept.into(), next, has_more })
    }

    /// The last messages below an offset, oldest first, and from which offset on that is all.
    async fn last(
        &mut self,
        topic: &str,
        index: i32,
        start: i64,
        before: i64,
        limit: usize,
    ) -> Result<(Vec<Message>, i64), ClientError> {
        let mut width = i64::try_from(limit).unwrap_or(i64::MAX).max(16);
        let (mut low, mut found) = (before, VecDeque::new());
        let (mut bytes, mut steps) = (0, 0);
        while low > start && found.len() < limit && bytes < PAGE_BYTES && steps < STEPS_MAX {
            let (from, below) = ((low - width).max(start), low);
            let (mut at, mut own) = (from, VecDeque::new());
            while at < below && steps < STEPS_MAX {
                steps += 1;
                let cursor = Cursor::from([(index, at)]);
                let read = self.fetch(topic, &cursor, Duration::ZERO).await?.remove(&index);
                let Some(read) = read.filter(|read| read.next > at) else { break };
                at = read.next;
                for message in read.messages.into_iter().filter(|one| one.offset < below) {
                    bytes += message.bytes();
                    own.push_back(message);
                    // The newest are wanted.
                    while own.len() > 1 && (own.len() > limit || bytes > PAGE_BYTES) {
                        bytes -= own.pop_front().map_or(0, |dropped: Message| dropped.bytes());
                    }
                }
            }
            // What did not fit is before the first that did.
            let is_cut = own.len() >= limit || bytes > PAGE_BYTES / 2;
            low = if is_cut { own.front().map_or(from, |one: &Message| one.offset) } else { from };
            own.append(&mut found);
            found = own;
            width = width.saturating_mul(4);
        }
        while found.len() > limit {
            found.pop_front();
            low = found.front().map_or(low, |first| first.offset);
        }
        Ok((found.into(), low))
    }

    /// What there is from these offsets on, as readers see it.
    async fn fetch(
        &mut self,
        topic: &str,
        from: &Cursor,
        wait: Duration,
    ) -> Result<BTreeMap<i32, Read>, ClientError> {
        let partition = |(partition, offset): (&i32, &i64)| fetch::FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: PARTITION_BYTES,
            ..fetch::FetchPartition::default()
        };
        let request = fetch::Request {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation_level: 1,
            topics: vec![fetch::FetchTopic {
                topic: topic.into(),
                partitions: from.iter().map(partition).collect(),
                ..fetch::FetchTopic::default()
            }],
            ..fetch::Request::default()
        };
        let answer = self.ask(&request, 4..=12).await?;
        check(|| format!("topic `{topic}`"), answer.error_code, None)?;
        let mut reads = BTreeMap::new();
        for data in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            let index = data.partition_index;
            let Some(asked) = from.get(&index).copied() else { continue };
            if data.error_code == OUT_OF_RANGE {
                // Deleted meanwhile, or all of the topic was: what is kept comes next.
                let one = [(topic.to_owned(), index)];
                let start = self.offsets(&one, EARLIEST).await?;
                let end = self.offsets(&one, LATEST).await?;
                let of = |found: HashMap<_, i64>| found.into_values().next().unwrap_or_default();
                let (start, end) = (of(start), of(end));
                let next = if asked < start { start } else { end };
                reads.insert(index, Read { messages: Vec::new(), next, end });
                continue;
            }
            check(|| format!("partition {index} of topic `{topic}`"), data.error_code, None)?;
            let end = match data.last_stable_offset {
                -1 => data.high_watermark,
                stable => stable,
            };
            reads.insert(index, read(data, asked, end)?);
        }
        Ok(reads)
    }
}

/// The records of an answer that readers see.
fn read(data: fetch::PartitionData, from: i64, end: i64) -> Result<Read, ClientError> {
    let odd = |why: String| ClientError::Odd { api: "Fetch", why };
    let mut aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .into_iter()
        .flatten()
        .map(|aborted| (aborted.producer_id, aborted.first_offset))
        .collect();
    aborted.sort_by_key(|(_, first)| *first);
    let mut bytes = data.records.unwrap_or_default();
    let mut found = Read { messages: Vec::new(), next: from, end };
    while bytes.len() > 17 {
        let length = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let whole = usize::try_from(length).ok().and_then(|length| length.checked_add(12));
        // The last one may be cut.
        let Some(whole) = whole.filter(|whole| *whole <= bytes.len()) else { break };
        if bytes[16] != 2 {
            return Err(odd("its batches are of before Kafka 0.11".to_owned()));
        }
        let batch = Batch::kept(bytes.split_to(whole));
        let batch = batch.ok_or_else(|| odd("a batch is shorter than its head".to_owned()))?;
        let head = batch.head;
        found.next = found.next.max(head.end_offset());
        let of = aborted.iter().position(|(producer, first)| {
            head.is_transactional() && *producer == head.producer_id && *first <= head.base_offset
        });
        if head.is_control() {
            let records = batch.records().map_err(|error| odd(error.to_string()))?;
            if let (Some(of), true) = (of, records.filter_map(Result::ok).any(|r| is_abort(&r))) {
                aborted.remove(of);
            }
            continue;
        }
        if of.is_some() {
            continue;
        }
        for record in batch.records().map_err(|error| odd(error.to_string()))? {
            let record = record.map_err(|error| odd(error.to_string()))?;
            let offset = head.base_offset + i64::from(record.offset_delta);
            if offset < from {
                continue;
            }
            let time_ms = match head.gives_one_time() {
                true => head.time_ms_max,
                false => head.base_time_ms.saturating_add(record.time_delta_ms),
            };
            let Record { key, value, headers, .. } = record;
            let partition = data.partition_index;
            found.messages.push(Message { partition, offset, time_ms, key, value, headers });
        }
    }
    Ok(found)
}

/// Whether a marker says that its transaction did not happen.
fn is_abort(record: &Record) -> bool {
    let kind = record.key.clone().and_then(|mut key| {
        key.try_get_i16().ok()?;
        key.try_get_i16().ok()
    });
    kind == Some(0)
}

/// Takes from the fronts of lists, by time, what a page holds. Also what is left of each.
fn merge(
    mut lists: Vec<VecDeque<Message>>,
    limit: usize,
    newest_first: bool,
) -> (Vec<Message>, Vec<VecDeque<Message>>) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while taken.len() < limit && bytes < PAGE_BYTES {
        let fronts = lists.iter().enumerate();
        let fronts = fronts.filter_map(|(at, list)| Some((at, list.front()?.time_ms)));
        let next = match newest_first {
            true => fronts.max_by_key(|(at, time_ms)| (*time_ms, std::cmp::Reverse(*at))),
            false => fronts.min_by_key(|(at, time_ms)| (*time_ms, *at)),
        };
        let Some(message) = next.and_then(|(at, _)| lists[at].pop_front()) else { break };
        bytes += message.bytes();
        taken.push(message);
    }
    (taken, lists)
}

/// One batch of what comes first.
fn batch(messages: &mut VecDeque<NewMessage>, now_ms: i64) -> Bytes {
    let mut builder = Builder::new(now_ms);
    let mut bytes = 0;
    while let Some(message) = messages.pop_front() {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            message.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        builder =
            builder.record(now_ms, message.key.as_deref(), message.value.as_deref(), &headers);
        bytes += message.key.map_or(0, |key| key.len());
        bytes += message.value.map_or(0, |value| value.len());
        if bytes >= PRODUCE_BYTES {
            break;
        }
    }
    builder.build().bytes
}

fn choose(key: Option<&[u8]>, partitions: usize, seed: u64) -> i32 {
    let count = u64::try_from(partitions).unwrap_or(1).max(1);
    let number = match key {
        Some(key) => u64::from(murmur2(key) & 0x7fff_ffff),
        None => seed,
    };
    i32::try_from(number % count).unwrap_or(0)
}

/// The hash of keys by which clients choose partitions.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |word: u32| {
        let word = word.wrapping_mul(M);
        (word ^ (word >> 24)).wrapping_mul(M)
    };
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, rest) = key.as_chunks::<4>();
    let hash = words.iter().fold(0x9747_b28c ^ length, |hash, word| {
        hash.wrapping_mul(M) ^ mix(u32::from_le_bytes(*word))
    });
    let tail = rest.iter().rev().fold(0_u32, |tail, byte| tail << 8 | u32::from(*byte));
    let hash = if rest.is_empty() { hash } else { (hash ^ tail).wrapping_mul(M) };
    let hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(partition: i32, offset: i64, time_ms: i64) -> Message {
        let value = Some(Bytes::from_static(b"v"));
        Message { partition, offset, time_ms, key: None, value, headers: Vec::new() }
    }

    #[test]
    fn keys_go_where_other_clients_send_them() {
        // From the reference implementation's own tests, as signed numbers.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(choose(None, 3, 4), 1);
    }

    #[test]
    fn partitions_are_merged_by_time_and_each_keeps_its_order() {
        let one: VecDeque<_> = [message(0, 0, 10), message(0, 1, 5), message(0, 2, 30)].into();
        let two: VecDeque<_> = [message(1, 0, 20)].into();
        let (taken, left) = merge(vec![one, two], 3, false);
        let order: Vec<_> = taken.iter().map(|m| (m.partition, m.offset)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0)]);
        assert_eq!(left[0].front().map(|m| m.offset), Some(2));
    }

    #[test]
    fn what_was_aborted_is_not_seen_and_markers_are_no_messages() {
        let put = |value: &'static [u8], producer: i64, base: i64| {
            let builder = Builder::new(7).producer(producer, 0, 0).transactional();
            let mut batch = builder.record(7, None, Some(value), &[]).build();
            batch.placed(base, None);
            batch.bytes
        };
        let marker = |commit: u8, producer: i64, base: i64| {
            let builder = Builder::new(7).producer(producer, 0, -1).transactional().control();
            let mut batch = builder.record(7, Some(&[0, 0, 0, commit]), None, &[]).build();
            batch.placed(base, None);
            batch.bytes
        };
        let records = [
            put(b"gone", 1, 0),
            put(b"kept", 2, 1),
            marker(0, 1, 2),
            put(b"again", 1, 3),
            marker(1, 2, 4),
            marker(1, 1, 5),
        ];
        let aborted = fetch::AbortedTransaction { producer_id: 1, first_offset: 0 };
        let data = fetch::PartitionData {
            aborted_transactions: Some(vec![aborted]),
            records: Some(records.concat().into()),
            ..fetch::PartitionData::default()
        };
        let read = read(data, 0, 6).unwrap();
        let values: Vec<_> = read.messages.iter().map(|m| m.value.clone().unwrap()).collect();
        assert_eq!(values, [&b"kept"[..], b"again"]);
        assert_eq!(read.next, 6);
    }
}
