//! Record batches (version 2) as bytes: what comes from outside is [`Batch::check`]ed once, and
//! then kept as it came.
//!
//! Not here: sequences of producers (`producers`), offsets (`partition`). What a batch says about
//! itself is checked by its own CRC, which leaves out base offset and leader epoch: both are set
//! here, and need no new sum.
//!
//! ```text
//! 0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 CRC-32C u32 |
//! 21 attributes i16 | 23 last offset delta i32 | 27 base time i64 | 35 highest time i64 |
//! 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 records i32 | 61 …
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before the records.
pub const HEAD_BYTES: usize = 61;

/// Records of one batch are not unpacked beyond this: a few bytes can claim to be gigabytes.
pub const PLAIN_BYTES_MAX: usize = 128 << 20;

/// No producer.
pub const NO_PRODUCER: i64 = -1;

const COMPRESSION: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

/// Why bytes are no batch that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not whole, or not what its sum says.
    #[error("the batch is damaged: {0}")]
    Corrupt(&'static str),
    /// A format of before Kafka 0.11.
    #[error("format {0} of batches is not supported: use a client from 2017 or later")]
    Magic(i8),
    /// Whole, and not as it must be.
    #[error("the batch is not valid: {0}")]
    Invalid(&'static str),
    /// Records without a key, where the topic keeps the newest of each key.
    #[error("a record has no key, and the topic is compacted by key")]
    NoKey,
    /// A codec that is not known.
    #[error("compression {0} is not known")]
    Compression(i16),
    /// Times that its topic does not take.
    #[error("a record's time is too far from now")]
    Time,
    /// Larger than its topic takes.
    #[error("the batch has {bytes} bytes, and {most} at most are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        most: usize,
    },
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Flags: codec, kind of times, transactional, control.
    pub attributes: i16,
    /// How far its last record's offset is from the first one's.
    pub last_offset_delta: i32,
    /// Time of its first record, in milliseconds.
    pub base_time_ms: i64,
    /// Highest time of its records, in milliseconds.
    pub time_ms_max: i64,
    /// Who made it, [`NO_PRODUCER`] for nobody in particular.
    pub producer_id: i64,
    /// Which life of the producer.
    pub producer_epoch: i16,
    /// The producer's number of the first record, -1 for none.
    pub base_sequence: i32,
    /// How many records.
    pub records: i32,
}

impl Head {
    /// Reads a head from the first [`HEAD_BYTES`] of a batch.
    fn of(bytes: &[u8]) -> Head {
        let mut at = bytes;
        let base_offset = at.get_i64();
        at.advance(13);
        Head {
            base_offset,
            attributes: at.get_i16(),
            last_offset_delta: at.get_i32(),
            base_time_ms: at.get_i64(),
            time_ms_max: at.get_i64(),
            producer_id: at.get_i64(),
            producer_epoch: at.get_i16(),
            base_sequence: at.get_i32(),
            records: at.get_i32(),
        }
    }

    /// Number of its codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes & COMPRESSION
    }

    /// Whether all its records have the time at which they were appended.
    pub fn gives_one_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it is a marker of the log's own.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// From when on its deletions may go themselves, in milliseconds, once it was compacted.
    pub(crate) fn horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_time_ms)
    }

    /// Whether somebody numbers their records.
    pub fn has_sequence(&self) -> bool {
        self.producer_id >= 0 && self.base_sequence >= 0
    }

    /// Sequence of its last record; sequences begin at 0 again after the highest number.
    pub fn last_sequence(&self) -> i32 {
        sequence_plus(self.base_sequence, self.last_offset_delta)
    }

    /// Offset after its last record.
    pub fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// What is kept beside a batch, so that it need not be read to know this.
    pub(crate) fn to_meta(self) -> Bytes {
        let mut meta = BytesMut::with_capacity(META_BYTES);
        meta.put_i16(self.attributes);
        meta.put_i64(self.base_time_ms);
        meta.put_i64(self.producer_id);
        meta.put_i16(self.producer_epoch);
        meta.put_i32(self.base_sequence);
        meta.put_i32(self.records);
        meta.freeze()
    }

    /// The other way; `None` for what is no meta of a batch.
    pub(crate) fn of_record(record: &volumes::RecordHead) -> Option<Head> {
        let mut meta = &record.meta[..];
        if meta.len() < META_BYTES {
            return None;
        }
        Some(Head {
            base_offset: i64::try_from(record.sequence).ok()?,
            attributes: meta.get_i16(),
            last_offset_delta: i32::try_from(record.span).ok()? - 1,
            base_time_ms: meta.get_i64(),
            time_ms_max: time_of(record.time),
            producer_id: meta.get_i64(),
            producer_epoch: meta.get_i16(),
            base_sequence: meta.get_i32(),
            records: meta.get_i32(),
        })
    }
}

const META_BYTES: usize = 28;

/// A time as volumes keep it: moved by one, so that "no time" (-1) is the lowest.
pub(crate) fn stored_time(time_ms: i64) -> u64 {
    u64::try_from(time_ms.saturating_add(1)).unwrap_or(0)
}

/// The other way.
pub(crate) fn time_of(stored: u64) -> i64 {
    i64::try_from(stored).map_or(i64::MAX, |time| time - 1)
}

/// A sequence so many records later.
pub fn sequence_plus(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    i32::try_from(sum % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}

/// A batch whose bytes were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What it says.
    pub head: Head,
    /// All of it, base offset and leader epoch as they came.
    pub bytes: Bytes,
}

/// What a topic takes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Largest batch, in bytes.
    pub batch_bytes_max: usize,
    /// Whether every record needs a key.
    pub needs_keys: bool,
}

impl Batch {
    /// Takes the first batch of some bytes from a client, and leaves the others.
    ///
    /// # Errors
    /// When it is not a whole, valid batch that a client may send.
    pub fn check(bytes: &mut Bytes, rules: &Rules) -> Result<Batch, BatchError> {
        if bytes.len() < 17 {
            return Err(BatchError::Corrupt("it ends before its head does"));
        }
        let length = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let magic = i8::from_be_bytes([bytes[16]]);
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let whole = usize::try_from(length).ok().and_then(|length| length.checked_add(12));
        let whole = whole.filter(|whole| (HEAD_BYTES..=bytes.len()).contains(whole));
        let whole = whole.ok_or(BatchError::Corrupt("its length is not that of what came"))?;
        if whole > rules.batch_bytes_max {
            let (bytes, most) = (whole, rules.batch_bytes_max);
            return Err(BatchError::TooLarge { bytes, most });
        }
        let own = bytes.split_to(whole);
        let sum = u32::from_be_bytes([own[17], own[18], own[19], own[20]]);
        if volumes::crc32c(&own[21..]) != sum {
            return Err(BatchError::Corrupt("its checksum does not match"));
        }
        let head = Head::of(&own);
        head.check()?;
        let batch = Batch { head, bytes: own };
        batch.check_records(rules)?;
        Ok(batch)
    }

    /// A batch that this log wrote.
    pub fn kept(bytes: Bytes) -> Option<Batch> {
        (bytes.len() >= HEAD_BYTES).then(|| Batch { head: Head::of(&bytes), bytes })
    }

    /// The batches that whole ones are in a row.
    pub fn each(batches: &Bytes) -> impl Iterator<Item = Batch> + use<> {
        let mut rest = batches.clone();
        std::iter::from_fn(move || {
            let length = rest.get(8..12)?.first_chunk().copied().map(u32::from_be_bytes)?;
            let whole = 12 + usize::try_from(length).ok()?;
            (whole <= rest.len()).then(|| Batch::kept(rest.split_to(whole)))?
        })
    }

    /// How many records whole batches say that they have; none of them is looked into.
    pub fn count(mut batches: &[u8]) -> u64 {
        let mut count = 0;
        while batches.len() >= HEAD_BYTES {
            let length = u32::from_be_bytes([batches[8], batches[9], batches[10], batches[11]]);
            count += u64::from(Head::of(batches).records.unsigned_abs());
            batches = batches.get(12 + length as usize..).unwrap_or_default();
        }
        count
    }

    /// Numbers of the records without a key of a batch that was refused for them.
    pub fn without_key(bytes: &Bytes) -> Vec<i32> {
        let Some(batch) = Batch::kept(bytes.clone()) else { return Vec::new() };
        let Ok(records) = batch.records() else { return Vec::new() };
        let bad = records.filter_map(Result::ok).filter(|record| record.key.is_none());
        bad.map(|record| record.offset_delta).collect()
    }

    /// Looks at the records: without decompression, but where every one needs a key.
    fn check_records(&self, rules: &Rules) -> Result<(), BatchError> {
        if self.head.codec() != 0 && !rules.needs_keys {
            return Ok(());
        }
        let mut count = 0;
        for record in self.records()? {
            let record = record?;
            if record.offset_delta != count {
                return Err(BatchError::Invalid("offsets of its records have gaps"));
            }
            if rules.needs_keys && record.key.is_none() {
                return Err(BatchError::NoKey);
            }
            count += 1;
        }
        if count != self.head.records {
            return Err(BatchError::Invalid("it has another number of records than it says"));
        }
        Ok(())
    }

    /// Its records, whatever its codec.
    ///
    /// # Errors
    /// When they cannot be decompressed, or would be larger than [`PLAIN_BYTES_MAX`].
    pub fn records(&self) -> Result<Records, BatchError> {
        let packed = self.bytes.slice(HEAD_BYTES..);
        let plain = super::codec::unpack(self.head.codec(), packed, PLAIN_BYTES_MAX)?;
        Ok(Records { bytes: plain, left: self.head.records })
    }

    /// The bytes with an offset for the first record, and time of now if the log gives times.
    pub(crate) fn placed(&mut self, base_offset: i64, append_time_ms: Option<i64>) {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        self.head.base_offset = base_offset;
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        // The epoch of a leader that never changes.
        bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
        if let Some(time_ms) = append_time_ms {
            self.head.attributes |= LOG_APPEND_TIME;
            self.head.time_ms_max = time_ms;
            bytes[21..23].copy_from_slice(&self.head.attributes.to_be_bytes());
            bytes[35..43].copy_from_slice(&time_ms.to_be_bytes());
            let sum = volumes::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&sum.to_be_bytes());
        }
        self.bytes = bytes.freeze();
    }
}

impl Head {
    fn check(&self) -> Result<(), BatchError> {
        if self.last_offset_delta < 0 || self.records < 1 {
            return Err(BatchError::Invalid("it has no records"));
        }
        if i64::from(self.records) != i64::from(self.last_offset_delta) + 1 {
            return Err(BatchError::Invalid("it has another number of records than of offsets"));
        }
        if self.is_control() {
            return Err(BatchError::Invalid("clients write no control records"));
        }
        if self.attributes & DELETE_HORIZON != 0 {
            return Err(BatchError::Invalid("clients set no time to delete"));
        }
        if self.codec() > 4 {
            return Err(BatchError::Compression(self.codec()));
        }
        if self.producer_id >= 0 && (self.producer_epoch < 0 || self.base_sequence < 0) {
            return Err(BatchError::Invalid("it has a producer and no epoch or sequence"));
        }
        if self.is_transactional() && self.producer_id < 0 {
            return Err(BatchError::Invalid("it is transactional and has no producer"));
        }
        Ok(())
    }
}

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Distance of its offset from the batch's.
    pub offset_delta: i32,
    /// Distance of its time from the batch's.
    pub time_delta_ms: i64,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; none deletes the key in a compacted topic.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of a batch, one after the other.
pub struct Records {
    bytes: Bytes,
    left: i32,
}

impl Records {
    fn read(&mut self) -> Option<Record> {
        let length = usize::try_from(varint(&mut self.bytes)?).ok()?;
        if length > self.bytes.len() {
            return None;
        }
        let mut own = self.bytes.split_to(length);
        own.try_get_i8().ok()?;
        let time_delta_ms = varint(&mut own)?;
        let offset_delta = i32::try_from(varint(&mut own)?).ok()?;
        let (key, value) = (field(&mut own)?, field(&mut own)?);
        let count = usize::try_from(varint(&mut own)?).ok()?;
        // Each takes two bytes at least.
        if count > own.len() / 2 {
            return None;
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            headers.push((field(&mut own)??, field(&mut own)?));
        }
        own.is_empty().then_some(Record { offset_delta, time_delta_ms, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        let record = self.read().ok_or(BatchError::Invalid("a record is not whole"));
        self.left = if record.is_ok() { self.left - 1 } else { 0 };
        if self.left == 0 && record.is_ok() && !self.bytes.is_empty() {
            return Some(Err(BatchError::Invalid("bytes follow its last record")));
        }
        Some(record)
    }
}

fn varint(bytes: &mut Bytes) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// `Some(None)` for one that is null.
#[allow(clippy::option_option, reason = "not readable, and null, are different")]
fn field(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    let length = varint(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    Some(Some(bytes.split_to(length)))
}

/// Makes a batch: for markers, for tools and for tests.
#[derive(Debug)]
pub struct Builder {
    head: Head,
    records: BytesMut,
}

impl Builder {
    /// A batch without records whose times count from `base_time_ms`.
    pub fn new(base_time_ms: i64) -> Builder {
        Builder {
            head: Head {
                base_offset: 0,
                attributes: 0,
                last_offset_delta: -1,
                base_time_ms,
                time_ms_max: base_time_ms,
                producer_id: NO_PRODUCER,
                producer_epoch: -1,
                base_sequence: -1,
                records: 0,
            },
            records: BytesMut::new(),
        }
    }

    /// By whom, in which life, and the number of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Builder {
        self.head.producer_id = id;
        self.head.producer_epoch = epoch;
        self.head.base_sequence = base_sequence;
        self
    }

    /// In a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Builder {
        self.head.attributes |= TRANSACTIONAL;
        self
    }

    /// The log's own.
    #[must_use]
    pub(crate) fn control(mut self) -> Builder {
        self.head.attributes |= CONTROL;
        self
    }

    /// Adds a record.
    #[must_use]
    pub fn record(
        mut self,
        time_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Builder {
        let headers = headers
            .iter()
            .map(|(name, value)| (Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice)));
        let record = Record {
            offset_delta: self.head.records,
            time_delta_ms: time_ms - self.head.base_time_ms,
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: headers.collect(),
        };
        put_record(&mut self.records, &record);
        self.head.records += 1;
        self.head.last_offset_delta += 1;
        self.head.time_ms_max = self.head.time_ms_max.max(time_ms);
        self
    }

    /// The batch.
    pub fn build(self) -> Batch {
        Batch::of(self.head, &self.records)
    }
}

impl Batch {
    /// A batch of records that are packed as its head says.
    fn of(head: Head, records: &[u8]) -> Batch {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + records.len());
        bytes.put_i64(head.base_offset);
        bytes.put_i32(i32::try_from(HEAD_BYTES - 12 + records.len()).unwrap_or(i32::MAX));
        bytes.put_i32(0);
        bytes.put_i8(2);
        bytes.put_u32(0);
        bytes.put_i16(head.attributes);
        bytes.put_i32(head.last_offset_delta);
        bytes.put_i64(head.base_time_ms);
        bytes.put_i64(head.time_ms_max);
        bytes.put_i64(head.producer_id);
        bytes.put_i16(head.producer_epoch);
        bytes.put_i32(head.base_sequence);
        bytes.put_i32(head.records);
        bytes.put_slice(records);
        let sum = volumes::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&sum.to_be_bytes());
        Batch { head, bytes: bytes.freeze() }
    }

    /// The same batch with fewer records, in its place and packed as it was. With a horizon it says
    /// when its deletions may go themselves, and times count from there.
    pub(crate) fn with_records(&self, records: &[Record], horizon_ms: Option<i64>) -> Batch {
        let mut head = self.head;
        head.records = i32::try_from(records.len()).unwrap_or(i32::MAX);
        if let Some(horizon) = horizon_ms {
            head.attributes |= DELETE_HORIZON;
            head.base_time_ms = horizon;
        }
        let mut plain = BytesMut::new();
        for record in records {
            let time_ms = self.head.base_time_ms.saturating_add(record.time_delta_ms);
            let time_delta_ms = time_ms.saturating_sub(head.base_time_ms);
            put_record(&mut plain, &Record { time_delta_ms, ..record.clone() });
        }
        match super::codec::pack(head.codec(), &plain) {
            Some(packed) => Batch::of(head, &packed),
            None => {
                head.attributes &= !COMPRESSION;
                Batch::of(head, &plain)
            }
        }
    }
}

fn put_record(out: &mut BytesMut, record: &Record) {
    let mut own = BytesMut::new();
    own.put_i8(0);
    put_varint(&mut own, record.time_delta_ms);
    put_varint(&mut own, i64::from(record.offset_delta));
    let put = |own: &mut BytesMut, field: Option<&Bytes>| match field {
        None => put_varint(own, -1),
        Some(field) => {
            put_varint(own, i64::try_from(field.len()).unwrap_or(0));
            own.put_slice(field);
        }
    };
    put(&mut own, record.key.as_ref());
    put(&mut own, record.value.as_ref());
    put_varint(&mut own, i64::try_from(record.headers.len()).unwrap_or(0));
    for (name, value) in &record.headers {
        put(&mut own, Some(name));
        put(&mut own, value.as_ref());
    }
    put_varint(out, i64::try_from(own.len()).unwrap_or(0));
    out.put(own);
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        out.put_u8(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    out.put_u8(left.to_le_bytes()[0]);
}

/// The marker that ends a producer's transaction in a partition.
pub(crate) fn marker(time_ms: i64, producer_id: i64, epoch: i16, commit: bool) -> Batch {
    let key = [0, 0, 0, u8::from(commit)];
    // Version 0, epoch of the coordinator 0: there is one, and it never changes.
    let value = [0; 6];
    Builder::new(time_ms)
        .producer(producer_id, epoch, -1)
        .transactional()
        .control()
        .record(time_ms, Some(&key), Some(&value), &[])
        .build()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { batch_bytes_max: 1 << 20, needs_keys: false };

    fn sample() -> Batch {
        Builder::new(1000)
            .producer(7, 1, 40)
            .record(1000, Some(b"a"), Some(b"one"), &[(b"h", None)])
            .record(1005, None, None, &[])
            .build()
    }

    #[test]
    fn what_is_built_is_taken_and_read_again() {
        let built = sample();
        let mut bytes = built.bytes.clone();
        let batch = Batch::check(&mut bytes, &RULES).unwrap();
        assert!(bytes.is_empty());
        assert_eq!(batch, built);
        let records: Vec<Record> = batch.records().unwrap().map(Result::unwrap).collect();
        assert_eq!(records[0].key.as_deref(), Some(&b"a"[..]));
        assert_eq!(records[0].headers, [(Bytes::from_static(b"h"), None)]);
        assert_eq!((records[1].offset_delta, records[1].time_delta_ms), (1, 5));
        assert_eq!(batch.head.last_sequence(), 41);
    }

    #[test]
    fn a_placed_batch_still_matches_its_sum() {
        for time in [None, Some(9000)] {
            let mut batch = sample();
            batch.placed(500, time);
            let mut bytes = batch.bytes.clone();
            let again = Batch::check(&mut bytes, &RULES).unwrap();
            assert_eq!(again.head, batch.head);
            assert_eq!((again.head.base_offset, again.head.end_offset()), (500, 502));
        }
    }

    #[test]
    fn each_rule_refuses() {
        let check = |batch: Batch, rules: &Rules| Batch::check(&mut batch.bytes.clone(), rules);
        let keys = Rules { needs_keys: true, ..RULES };
        assert_eq!(check(sample(), &keys), Err(BatchError::NoKey));
        assert_eq!(Batch::without_key(&sample().bytes), [1]);
        let small = Rules { batch_bytes_max: 70, ..RULES };
        assert!(matches!(check(sample(), &small), Err(BatchError::TooLarge { most: 70, .. })));
        let control = marker(1, 7, 1, true);
        assert!(matches!(check(control, &RULES), Err(BatchError::Invalid(_))));
        let nobody = Builder::new(0).transactional().record(0, None, None, &[]).build();
        assert!(matches!(check(nobody, &RULES), Err(BatchError::Invalid(_))));
        let mut old = BytesMut::from(&sample().bytes[..]);
        old[16] = 1;
        assert_eq!(Batch::check(&mut old.freeze(), &RULES), Err(BatchError::Magic(1)));
    }

    #[test]
    fn sequences_begin_again_after_the_highest() {
        assert_eq!(sequence_plus(i32::MAX, 1), 0);
        assert_eq!(sequence_plus(i32::MAX - 1, 3), 1);
        assert_eq!(sequence_plus(5, 0), 5);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(at in 16_usize..80, bit in 0_u8..8) {
            let mut bytes = BytesMut::from(&sample().bytes[..]);
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1 << bit;
            prop_assert!(Batch::check(&mut bytes.freeze(), &RULES).is_err());
        }

        #[test]
        fn any_bytes_are_a_batch_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(magic) = bytes.get_mut(16) {
                *magic = 2;
            }
            let _ = Batch::check(&mut Bytes::from(bytes.clone()), &RULES);
            if bytes.len() > HEAD_BYTES {
                let records = Records { bytes: Bytes::from(bytes), left: 3 };
                prop_assert!(records.count() <= 4);
            }
        }
    }
}
