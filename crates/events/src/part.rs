//! The whole part: a store, the log in it, its front, and what has to be done now and then.
//!
//! Not here: where its settings come from, and who runs it. [`Config`], then [`Part::open`], then
//! [`Part::serve`]; when that returns everything acknowledged is on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use volumes::{Disk, RealDisk, Volumes, Workers};

use crate::engine::groups::{Groups, TICK};
use crate::engine::log::{Log, OpenError, Options, TopicError};
use crate::engine::transactions::Transactions;
use crate::kafka::{self, Front, Listener, Security};

/// How often the log looks after itself.
const UPKEEP: Duration = Duration::from_secs(5);

/// At every so manieth look, old offsets go.
const OFFSETS_EVERY: u64 = 120;

/// How long clients have to hang up when the part ends.
const DRAIN: Duration = Duration::from_secs(3);

/// What a part is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its volumes are.
    pub folder: PathBuf,
    /// What holds for all topics.
    pub options: Options,
    /// Topics that are made when they are not there: name, partitions and settings.
    pub topics: Vec<(String, i32, BTreeMap<String, String>)>,
    /// How long a group without members waits for more when the first one comes.
    pub group_delay: Duration,
    /// Who may do what.
    pub security: Security,
    /// Bounds of the store.
    pub store: volumes::Options,
}

/// How long the first member of a group waits for others, if nobody says otherwise: instances of a
/// service start together, and each that comes later makes all others begin again.
pub const GROUP_DELAY: Duration = Duration::from_millis(300);

impl Default for Config {
    fn default() -> Config {
        Config {
            folder: PathBuf::new(),
            options: Options::default(),
            topics: Vec::new(),
            group_delay: GROUP_DELAY,
            security: Security::default(),
            store: volumes::Options::default(),
        }
    }
}

/// Why a part does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder cannot be used.
    #[error("cannot use the folder `{0}` of the event log: {1}")]
    Folder(PathBuf, std::io::Error),
    /// The store in it cannot.
    #[error(transparent)]
    Store(#[from] volumes::OpenError),
    /// The log in it cannot.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A topic that should be there cannot be made.
    #[error("cannot make the topic `{0}`: {1}")]
    Topic(String, TopicError),
}

/// An open part.
pub struct Part {
    front: Arc<Front>,
    _workers: Workers,
}

impl Part {
    /// Opens it.
    ///
    /// # Errors
    /// When its folder or what is in it cannot be used.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Part, StartError> {
        let unusable = |error| StartError::Folder(config.folder.clone(), error);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&config.folder).map_err(unusable)?);
        let store = Volumes::open(Arc::clone(&disk), Arc::clone(&clock), config.store)?;
        let workers = Workers::start(&store).map_err(unusable)?;
        let random = move || disk.random().map_or(0, u128::from_be_bytes);
        let log = Log::open(store, clock, random(), config.options.clone()).await?;
        let transactions = Transactions::open(&log);
        let groups = Groups::open(&log, config.group_delay);
        let (shared, random) = (Arc::clone(&log), Box::new(random));
        let security = config.security.clone();
        let front = Front::open(shared, groups, transactions, random, security).await?;
        for (name, partitions, settings) in &config.topics {
            if log.topic(name).is_none() {
                let made = log.create(name, front.new_id(), *partitions, settings.clone()).await;
                made.map_err(|error| StartError::Topic(name.clone(), error))?;
            }
        }
        Ok(Part { front, _workers: workers })
    }

    /// Its front.
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Serves until `ended` resolves, then lets clients hang up.
    pub async fn serve(
        &self,
        listeners: Vec<(TcpListener, Listener)>,
        limit: net::ConnectionLimit,
        ended: impl Future<Output = ()>,
    ) {
        let (trigger, drain) = net::drain();
        let mut tasks = JoinSet::new();
        for (listener, by) in listeners {
            let (front, limit, drain) = (Arc::clone(&self.front), limit.clone(), drain.clone());
            tasks.spawn(kafka::serve(listener, by, front, limit, drain));
        }
        drop(drain);
        let mut upkeep = JoinSet::new();
        upkeep.spawn(tick(Arc::clone(&self.front)));
        upkeep.spawn(look_after(Arc::clone(&self.front)));
        upkeep.spawn(compact(Arc::clone(&self.front)));
        ended.await;
        trigger.drain(DRAIN).await;
        upkeep.shutdown().await;
        tasks.shutdown().await;
    }
}

/// What members of groups wait for.
async fn tick(front: Arc<Front>) {
    loop {
        tokio::time::sleep(TICK).await;
        front.groups.tick();
        front.groups.tick_members().await;
        front.groups.shares.tick(&|group| front.settings.share_rules(group)).await;
        front.transactions.tick().await;
    }
}

/// What takes long, so that the rest does not wait for it.
async fn compact(front: Arc<Front>) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        while front.log.compact().await {}
    }
}

/// What nobody waits for.
async fn look_after(front: Arc<Front>) {
    for turn in 1_u64.. {
        tokio::time::sleep(UPKEEP).await;
        if turn.is_multiple_of(OFFSETS_EVERY) {
            // What cannot be written now is tried again the next time.
            let _ = front.groups.expire_offsets().await;
        }
        front.log.expire().await;
        // When the store is full, deleting goes on and the rest is tried again.
        let _ = front.log.journal.tidy().await;
    }
}
