//! The log as its users hold it: topics, and what is done to them.
//!
//! Not here: single partitions (`partition`), groups, transactions. Invariants: a topic that is
//! shown is durable; the number of a partition's owner is never given to another; a topic that is
//! made again has another id.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use volumes::{Owner, Volumes};

use super::batch::{Batch, BatchError, Rules};
use super::compaction::Compaction;
use super::config::{self, TopicConfig};
use super::groups::shares::topic_part;
use super::journal::{Journal, Key, Kind};
use super::partition::{AppendError, Appending, Partition};
use super::sync::{lock, read, write};

/// Owners of the log in a store.
const CLASS: u8 = 1;

/// The journal's number in it.
const JOURNAL: u64 = 0;

/// Longest name of a topic.
const NAME_BYTES_MAX: usize = 249;

/// Most partitions of all topics together.
pub const PARTITIONS_MAX: usize = 200_000;

/// Why something was not done to topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There is one of that name.
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// There is none.
    #[error("This server does not host this topic-partition.")]
    Unknown,
    /// A name that cannot be.
    #[error("{0}")]
    Name(String),
    /// A number of partitions that cannot be.
    #[error("{0}")]
    Partitions(String),
    /// A setting that cannot be.
    #[error("{0}")]
    Config(String),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] volumes::AppendError),
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What it knows beside records cannot be read.
    #[error("cannot read the journal of the event log: {0}")]
    Journal(#[from] volumes::ReadError),
    /// A record of the journal is not what this program writes.
    #[error(
        "the journal of the event log has a {what} that cannot be read: {why}; use the newer program"
    )]
    Record {
        /// What it is of.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Its first facts cannot be written.
    #[error("cannot begin the event log: {0}")]
    Store(#[from] volumes::AppendError),
}

/// A topic as the journal has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    id: u128,
    /// First owner and number of partitions, for each time that some were added.
    owners: Vec<(u64, u32)>,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

/// A topic.
pub struct Topic {
    /// Its name.
    pub name: String,
    /// No other topic ever has it.
    pub id: u128,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
    config: RwLock<Arc<TopicConfig>>,
    kept: Mutex<Kept>,
    /// What went through it since the log was opened.
    pub traffic: Traffic,
}

/// What went through a topic.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Records that came.
    pub records_in: AtomicU64,
    /// Bytes of their batches, as they came.
    pub bytes_in: AtomicU64,
    /// Records that were given out, whole batches at a time.
    pub records_out: AtomicU64,
    /// Bytes of their batches.
    pub bytes_out: AtomicU64,
    /// Records that a share group gave up on and that had no topic for dead letters to go to.
    pub dead_letters_lost: AtomicU64,
}

impl Topic {
    /// Its partitions by number.
    pub fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&read(&self.partitions))
    }

    /// One of them.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let at = usize::try_from(index).ok()?;
        read(&self.partitions).get(at).cloned()
    }

    /// Its settings.
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&read(&self.config))
    }
}

/// What holds for all topics that do not say otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether a topic that somebody asks for is made.
    pub auto_create: bool,
    /// Partitions of a topic that does not say how many.
    pub partitions: i32,
    /// Settings of topics.
    pub topic_defaults: BTreeMap<String, String>,
    /// How long offsets of a group are kept that has no members.
    pub offsets_retention: Duration,
}

/// For how long offsets are kept when nobody says.
pub const OFFSETS_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

impl Default for Options {
    fn default() -> Options {
        Options {
            auto_create: true,
            partitions: 1,
            topic_defaults: BTreeMap::new(),
            offsets_retention: OFFSETS_RETENTION,
        }
    }
}

#[derive(Default)]
struct Topics {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<u128, Arc<Topic>>,
    partitions: usize,
    version: u64,
}

/// Partitions by owner, to be told what is durable.
#[derive(Default)]
struct Owners(RwLock<HashMap<Owner, Arc<Partition>>>);

impl volumes::Listener for Owners {
    fn committed(&self, owner: Owner, end: u64) {
        if let Some(partition) = read(&self.0).get(&owner) {
            partition.committed(end);
        }
    }
}

/// The event log.
pub struct Log {
    pub(crate) store: Volumes,
    pub(crate) journal: Arc<Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) compaction: Arc<Compaction>,
    options: RwLock<Arc<Options>>,
    topics: RwLock<Topics>,
    owners: Arc<Owners>,
    /// One change of topics at a time: it takes a moment until it is durable.
    changing: tokio::sync::Mutex<()>,
    cluster: String,
}

impl Log {
    /// Opens the log of a store, whose threads run.
    ///
    /// # Errors
    /// When what it knows cannot be read.
    pub async fn open(
        store: Volumes,
        clock: Arc<dyn Clock>,
        random: u128,
        options: Options,
    ) -> Result<Arc<Log>, OpenError> {
        let owners = Arc::new(Owners::default());
        store.set_listener(CLASS, Arc::clone(&owners) as Arc<dyn volumes::Listener>);
        let journal = Journal::open(&store, owner(JOURNAL))?;
        let fact = Key::new(Kind::Fact, &["cluster"]);
        let cluster = match journal.get(&fact) {
            Some(name) => String::from_utf8_lossy(&name).into_owned(),
            None => {
                let name = kafka_id(random);
                journal.change(vec![(fact, Some(Bytes::from(name.clone())))]).await?;
                name
            }
        };
        let mut topics = Topics::default();
        for (key, value) in journal.list(Kind::Topic, &[]) {
            let kept: Kept = serde_json::from_slice(&value)
                .map_err(|error| OpenError::Record { what: "topic", why: error.to_string() })?;
            let name = key.parts().first().copied().unwrap_or_default().to_owned();
            let topic = topic_of(&store, name, kept, &options.topic_defaults);
            topics.add(&owners, topic);
        }
        let compaction = Arc::new(Compaction::default());
        store.set_judge(CLASS, Arc::clone(&compaction) as Arc<dyn volumes::Judge>);
        let (topics, options) = (RwLock::new(topics), RwLock::new(Arc::new(options)));
        let changing = tokio::sync::Mutex::default();
        let log =
            Log { store, journal, clock, compaction, options, topics, owners, changing, cluster };
        log.give_up_orphans().await;
        Ok(Arc::new(log))
    }

    /// Gives up records that belong to no topic: of one that was deleted, just before the end. Not
    /// where anything is damaged: it could be that which says that there is such a topic.
    async fn give_up_orphans(&self) {
        if !self.store.damage().is_empty() {
            return;
        }
        for (owner, bounds) in self.store.owners(CLASS) {
            let is_known =
                owner == self::owner(JOURNAL) || read(&self.owners.0).contains_key(&owner);
            if !is_known && bounds.bytes > 0 {
                self.give_up(owner).await;
            }
        }
    }

    /// Gives up all records of a partition. Those that are left when that fails belong to nobody,
    /// and are found at the next opening.
    async fn give_up(&self, owner: Owner) {
        let group = volumes::Batch::new().trim(owner, u64::MAX);
        if let Ok(space) = self.store.reserve(group.cost()).await {
            drop(self.store.append(space, group));
        }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What holds for all topics.
    pub fn options(&self) -> Arc<Options> {
        Arc::clone(&read(&self.options))
    }

    /// Says anew what holds for all topics; those that are there follow.
    pub async fn set_options(&self, options: Options) {
        let _one = self.changing.lock().await;
        let defaults = options.topic_defaults.clone();
        *write(&self.options) = Arc::new(options);
        for topic in self.topics() {
            let said = topic.config().said.clone();
            let config = TopicConfig { said, defaults: defaults.clone() };
            *write(&topic.config) = Arc::new(config);
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now().millis()).unwrap_or(i64::MAX)
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        read(&self.topics).by_name.get(name).cloned()
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: u128) -> Option<Arc<Topic>> {
        read(&self.topics).by_id.get(&id).cloned()
    }

    /// Grows whenever a topic is made or deleted, or gets partitions.
    pub fn topics_version(&self) -> u64 {
        read(&self.topics).version
    }

    /// All topics by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        read(&self.topics).by_name.values().cloned().collect()
    }

    /// Whether a topic could be made.
    ///
    /// # Errors
    /// Why it could not.
    pub fn check_topic(
        &self,
        name: &str,
        partitions: i32,
        config: &BTreeMap<String, String>,
    ) -> Result<(), TopicError> {
        check_name(name)?;
        if !(1..=100_000).contains(&partitions) {
            let why = format!("Number of partitions was set to an invalid value: {partitions}.");
            return Err(TopicError::Partitions(why));
        }
        let topics = read(&self.topics);
        if topics.by_name.contains_key(name) {
            return Err(TopicError::Exists(name.to_owned()));
        }
        // Metrics of two such topics would have one name.
        let alike = |other: &str| other.replace('.', "_") == name.replace('.', "_");
        if name.contains(['.', '_'])
            && let Some(other) = topics.by_name.keys().find(|other| alike(other))
        {
            return Err(TopicError::Name(format!(
                "Topic '{name}' collides with existing topic: {other}"
            )));
        }
        if topics.partitions + partitions.unsigned_abs() as usize > PARTITIONS_MAX {
            let why = format!("{PARTITIONS_MAX} partitions are the most that one log has.");
            return Err(TopicError::Partitions(why));
        }
        config
            .iter()
            .try_for_each(|(name, value)| config::check(name, value))
            .map_err(TopicError::Config)
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When it cannot be made; then nothing changed.
    pub async fn create(
        &self,
        name: &str,
        id: u128,
        partitions: i32,
        config: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, TopicError> {
        let _one = self.changing.lock().await;
        self.check_topic(name, partitions, &config)?;
        let count = partitions.unsigned_abs();
        let (first, counter) = self.take_owners(count);
        let kept = Kept { id, owners: vec![(first, count)], config };
        let topic =
            topic_of(&self.store, name.to_owned(), kept.clone(), &self.options().topic_defaults);
        self.journal.change(vec![counter, change(name, Some(&kept))]).await?;
        write(&self.topics).add(&self.owners, Arc::clone(&topic));
        Ok(topic)
    }

    /// Adds partitions until there are `count`.
    ///
    /// # Errors
    /// When they cannot be added; then nothing changed.
    pub async fn add_partitions(&self, name: &str, count: i32) -> Result<(), TopicError> {
        let _one = self.changing.lock().await;
        let topic = self.topic(name).ok_or(TopicError::Unknown)?;
        self.check_more(&topic, count)?;
        let have = topic.partitions().len();
        let more = count.unsigned_abs() - u32::try_from(have).unwrap_or(u32::MAX);
        let mut kept = lock(&topic.kept).clone();
        let (first, counter) = self.take_owners(more);
        kept.owners.push((first, more));
        self.journal.change(vec![counter, change(name, Some(&kept))]).await?;
        let mut all: Vec<Arc<Partition>> = topic.partitions().to_vec();
        all.extend(partitions_of(&self.store, have, first, more));
        let mut topics = write(&self.topics);
        topics.version += 1;
        topics.partitions += more as usize;
        for partition in &all[have..] {
            write(&self.owners.0).insert(partition.owner(), Arc::clone(partition));
        }
        *write(&topic.partitions) = all.into();
        *lock(&topic.kept) = kept;
        Ok(())
    }

    /// Whether partitions could be added.
    ///
    /// # Errors
    /// Why they could not.
    pub fn check_more(&self, topic: &Topic, count: i32) -> Result<(), TopicError> {
        let have = topic.partitions().len();
        let more = usize::try_from(count).ok().and_then(|count| count.checked_sub(have));
        if more.is_none_or(|more| more == 0) {
            let why = match usize::try_from(count) {
                Ok(count) if count == have => format!("Topic already has {have} partition(s)."),
                Ok(_) => format!(
                    "The topic {} currently has {have} partition(s); {count} would not be an increase.",
                    topic.name
                ),
                Err(_) => "The partition count cannot be less than 1.".to_owned(),
            };
            return Err(TopicError::Partitions(why));
        }
        if read(&self.topics).partitions + more.unwrap_or(0) > PARTITIONS_MAX {
            let why = format!("{PARTITIONS_MAX} partitions are the most that one log has.");
            return Err(TopicError::Partitions(why));
        }
        Ok(())
    }

    /// Deletes a topic with all its records, and what groups know of it.
    ///
    /// # Errors
    /// When it cannot be; then nothing changed.
    pub async fn delete(&self, topic: &Topic) -> Result<(), TopicError> {
        let _one = self.changing.lock().await;
        if self.topic_by_id(topic.id).is_none() {
            return Err(TopicError::Unknown);
        }
        let offsets = self.journal.list(Kind::Offset, &[]);
        let own = offsets.into_iter().filter(|(key, _)| key.parts().get(1) == Some(&&*topic.name));
        let mut changes = vec![change(&topic.name, None)];
        changes.extend(own.map(|(key, _)| (key, None)));
        let id = topic_part(topic.id);
        let shares = self.journal.list(Kind::Share, &[]).into_iter();
        let own = shares.filter(|(key, _)| key.parts().get(1) == Some(&&*id));
        changes.extend(own.map(|(key, _)| (key, None)));
        self.journal.change(changes).await?;
        {
            let mut topics = write(&self.topics);
            topics.by_name.remove(&topic.name);
            topics.by_id.remove(&topic.id);
            topics.version += 1;
            topics.partitions -= topic.partitions().len();
        }
        for partition in &*topic.partitions() {
            partition.delete();
            write(&self.owners.0).remove(&partition.owner());
            self.compaction.forget(partition.owner());
            self.give_up(partition.owner()).await;
        }
        Ok(())
    }

    /// Changes settings of a topic.
    ///
    /// # Errors
    /// When one cannot be; then nothing changed.
    pub async fn configure(
        &self,
        topic: &Topic,
        config: BTreeMap<String, String>,
    ) -> Result<(), TopicError> {
        let _one = self.changing.lock().await;
        let checked = config.iter().try_for_each(|(name, value)| config::check(name, value));
        checked.map_err(TopicError::Config)?;
        let mut kept = lock(&topic.kept).clone();
        kept.config.clone_from(&config);
        self.journal.change(vec![change(&topic.name, Some(&kept))]).await?;
        let defaults = self.options().topic_defaults.clone();
        *write(&topic.config) = Arc::new(TopicConfig { said: config, defaults });
        *lock(&topic.kept) = kept;
        Ok(())
    }

    /// Checks a batch from a client against its topic.
    ///
    /// # Errors
    /// When it is not one that the topic takes.
    pub fn check(&self, topic: &Topic, bytes: &mut Bytes) -> Result<Batch, BatchError> {
        let config = topic.config();
        let rules =
            Rules { batch_bytes_max: config.batch_bytes_max(), needs_keys: config.is_compacted() };
        let batch = Batch::check(bytes, &rules)?;
        if !config.gives_time() {
            let now = self.now_ms();
            let after = now.saturating_add(config.number("message.timestamp.after.max.ms"));
            let before = now.saturating_sub(config.number("message.timestamp.before.max.ms"));
            if batch.head.time_ms_max > after || batch.head.base_time_ms < before.min(0) {
                return Err(BatchError::Time);
            }
        }
        Ok(batch)
    }

    /// Appends a batch that was checked; waits for space, and for nothing else.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn append(
        &self,
        topic: &Topic,
        partition: &Arc<Partition>,
        batch: Batch,
    ) -> Result<Appending, AppendError> {
        let time = topic.config().gives_time().then(|| self.now_ms());
        loop {
            if batch.head.producer_id >= 0 && partition.must_learn() {
                learn(partition).await?;
            }
            let space = self.store.reserve(partition.cost(&batch)).await?;
            match partition.append(space, batch.clone(), time) {
                // Somebody's append failed just now.
                Err(AppendError::Unlearned) => {}
                done => return done,
            }
        }
    }

    /// Deletes records of a partition below an offset. Returns the new start.
    ///
    /// # Errors
    /// When they are not deleted for good.
    pub async fn trim(&self, partition: &Partition, below: i64) -> Result<i64, AppendError> {
        if below > partition.start_offset() {
            let space = self.store.reserve(1024).await?;
            partition.trim(space, below)?.await?;
            partition.trimmed(below);
        }
        Ok(partition.start_offset())
    }

    fn take_owners(&self, count: u32) -> (u64, super::journal::Change) {
        let key = Key::new(Kind::Fact, &["owners"]);
        let next =
            self.journal.get(&key).and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok());
        let first: u64 = next.unwrap_or(JOURNAL + 1);
        let after = (first + u64::from(count)).to_string();
        (first, (key, Some(Bytes::from(after))))
    }
}

/// Reads what producers did to a partition, off the threads that must not wait.
///
/// # Errors
/// When it cannot be read.
pub async fn learn(partition: &Arc<Partition>) -> Result<(), volumes::ReadError> {
    if !partition.must_learn() {
        return Ok(());
    }
    let partition = Arc::clone(partition);
    let learned = tokio::task::spawn_blocking(move || partition.learn()).await;
    learned.unwrap_or_else(|_| {
        Err(volumes::ReadError::Failed { volume: 0, at: 0, why: "the reader panicked".into() })
    })
}

impl Topics {
    fn add(&mut self, owners: &Owners, topic: Arc<Topic>) {
        let partitions = topic.partitions();
        let mut by_owner = write(&owners.0);
        for partition in &*partitions {
            by_owner.insert(partition.owner(), Arc::clone(partition));
        }
        self.partitions += partitions.len();
        self.version += 1;
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }
}

fn topic_of(
    store: &Volumes,
    name: String,
    kept: Kept,
    defaults: &BTreeMap<String, String>,
) -> Arc<Topic> {
    let mut partitions = Vec::new();
    for (first, count) in &kept.owners {
        partitions.extend(partitions_of(store, partitions.len(), *first, *count));
    }
    let config = TopicConfig { said: kept.config.clone(), defaults: defaults.clone() };
    Arc::new(Topic {
        name,
        id: kept.id,
        partitions: RwLock::new(partitions.into()),
        config: RwLock::new(Arc::new(config)),
        kept: Mutex::new(kept),
        traffic: Traffic::default(),
    })
}

fn partitions_of(store: &Volumes, have: usize, first: u64, count: u32) -> Vec<Arc<Partition>> {
    let numbers = 0..count;
    numbers
        .map(|n| {
            let index = i32::try_from(have + n as usize).unwrap_or(i32::MAX);
            Partition::open(index, owner(first + u64::from(n)), store)
        })
        .collect()
}

fn owner(number: u64) -> Owner {
    Owner::new(CLASS, number).unwrap_or(Owner::from_bits(u64::from(CLASS) << 56))
}

fn change(name: &str, kept: Option<&Kept>) -> super::journal::Change {
    let value = kept.map(|kept| Bytes::from(serde_json::to_vec(kept).unwrap_or_default()));
    (Key::new(Kind::Topic, &[name]), value)
}

fn check_name(name: &str) -> Result<(), TopicError> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let why = match name {
        "" => "Topic name is invalid: the empty string is not allowed".to_owned(),
        "." | ".." => format!("Topic name is invalid: '{name}' is not allowed"),
        _ if name.len() > NAME_BYTES_MAX => format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {NAME_BYTES_MAX}"
        ),
        _ if !name.chars().all(plain) => format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
        _ => return Ok(()),
    };
    Err(TopicError::Name(why))
}

/// Sixteen bytes as the protocol writes names made of them.
fn kafka_id(number: u128) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |at: u32| {
        let six = if at < 21 { number >> (122 - 6 * at) } else { number << 4 };
        char::from(DIGITS[usize::try_from(six & 63).unwrap_or(0)])
    };
    (0..22).map(digit).collect()
}
