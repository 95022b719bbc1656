//! Topics: which there are, how large, and their settings.

use std::collections::{BTreeMap, HashMap};

use kafka_wire::{
    create_topics, delete_topics, describe_configs, describe_log_dirs, event_figures, list_offsets,
    metadata,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Client, ClientError, PATIENCE, check};

/// Times that stand for a place.
pub(super) const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;

/// Kind of a resource with settings.
const TOPIC: i8 = 2;

/// A setting that nobody gave the topic itself has another source.
const OF_TOPIC: i8 = 1;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// The log's own.
    pub is_internal: bool,
    /// By number.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Its first offset.
    pub start: i64,
    /// The offset that its next message gets.
    pub end: i64,
    /// What it takes on disk, if that is told.
    pub bytes: Option<i64>,
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Nobody gave it to this topic.
    pub is_default: bool,
}

/// What went through a log since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How often it made something durable.
    pub flushes: u64,
    /// How long that took in sum, in microseconds.
    pub flush_micros: u64,
    /// By topic.
    pub topics: BTreeMap<String, Traffic>,
}

/// What went through a topic since its log started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that came.
    pub messages_in: u64,
    /// Their bytes, as they came.
    pub bytes_in: u64,
    /// Messages that were read, once for each reader.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Every topic, or the one of a name, ordered by name.
    ///
    /// # Errors
    /// When it cannot be asked, or there is no such topic.
    pub async fn topics(&mut self, name: Option<&str>) -> Result<Vec<Topic>, ClientError> {
        let one = |name: &str| metadata::MetadataRequestTopic {
            name: Some(name.into()),
            ..metadata::MetadataRequestTopic::default()
        };
        let request = metadata::Request {
            topics: name.map(|name| vec![one(name)]),
            allow_auto_topic_creation: false,
            ..metadata::Request::default()
        };
        let answer = self.ask(&request, 4..=12).await?;
        let mut topics = Vec::with_capacity(answer.topics.len());
        for topic in &answer.topics {
            let known = topic.name.as_deref().unwrap_or_default();
            if topic.error_code != 0 && name.is_none() {
                // Deleted while it was listed.
                continue;
            }
            check(|| format!("topic `{known}`"), topic.error_code, None)?;
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            let mut partitions: Vec<Partition> =
                indexes.map(|index| Partition { index, ..Partition::default() }).collect();
            partitions.sort_by_key(|partition| partition.index);
            let (name, is_internal) = (known.to_owned(), topic.is_internal);
            topics.push(Topic { name, is_internal, partitions });
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        self.measure(&mut topics).await?;
        Ok(topics)
    }

    /// Offsets and sizes.
    async fn measure(&mut self, topics: &mut [Topic]) -> Result<(), ClientError> {
        let all: Vec<(String, i32)> = topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), p.index)))
            .collect();
        let starts = self.offsets(&all, EARLIEST).await?;
        let ends = self.offsets(&all, LATEST).await?;
        let request = describe_log_dirs::Request { topics: None };
        // Who may not ask how large something is may still see that it is there.
        let sizes = match self.ask(&request, 1..=4).await {
            Ok(answer) => answer.results,
            Err(ClientError::Unserved(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut bytes: HashMap<(&str, i32), i64> = HashMap::new();
        for topic in sizes.iter().flat_map(|result| &result.topics) {
            for partition in &topic.partitions {
                let size = bytes.entry((&*topic.name, partition.partition_index)).or_default();
                *size = size.saturating_add(partition.partition_size);
            }
        }
        for topic in topics {
            for partition in &mut topic.partitions {
                let at = (topic.name.clone(), partition.index);
                partition.start = starts.get(&at).copied().unwrap_or_default();
                partition.end = ends.get(&at).copied().unwrap_or_default();
                partition.bytes = bytes.get(&(topic.name.as_str(), partition.index)).copied();
            }
        }
        Ok(())
    }

    /// The offset of a time in milliseconds, or of a place, in each of these partitions; none for one
    /// that is gone, or that has nothing so late.
    pub(super) async fn offsets(
        &mut self,
        of: &[(String, i32)],
        time_ms: i64,
    ) -> Result<HashMap<(String, i32), i64>, ClientError> {
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, index) in of {
            by_topic.entry(topic).or_default().push(*index);
        }
        let partition = |partition_index| list_offsets::ListOffsetsPartition {
            partition_index,
            timestamp: time_ms,
            ..list_offsets::ListOffsetsPartition::default()
        };
        let topics = by_topic.into_iter().map(|(name, indexes)| list_offsets::ListOffsetsTopic {
            name: name.into(),
            partitions: indexes.into_iter().map(partition).collect(),
        });
        let request = list_offsets::Request {
            replica_id: -1,
            topics: topics.collect(),
            ..list_offsets::Request::default()
        };
        let answer = self.ask(&request, 1..=11).await?;
        let mut found = HashMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                if partition.error_code == 0 && partition.offset >= 0 {
                    let at = (topic.name.to_string(), partition.partition_index);
                    found.insert(at, partition.offset);
                }
            }
        }
        Ok(found)
    }

    /// The settings of a topic, ordered by name.
    ///
    /// # Errors
    /// When it cannot be asked, or there is no such topic.
    pub async fn settings(&mut self, topic: &str) -> Result<Vec<Setting>, ClientError> {
        let resource = describe_configs::DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.into(),
            configuration_keys: None,
        };
        let request = describe_configs::Request {
            resources: vec![resource],
            ..describe_configs::Request::default()
        };
        let answer = self.ask(&request, 1..=4).await?;
        let mut settings = Vec::new();
        for result in answer.results {
            let message = result.error_message.as_deref();
            check(|| format!("topic `{topic}`"), result.error_code, message)?;
            settings.extend(result.configs.into_iter().map(|config| Setting {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_default: config.config_source != OF_TOPIC,
            }));
        }
        settings.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(settings)
    }

    /// Makes a topic; without a number of partitions it has as many as the log gives by default.
    ///
    /// # Errors
    /// When the log does not make it, and why.
    pub async fn create(
        &mut self,
        name: &str,
        partitions: Option<i32>,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), ClientError> {
        let config = |(name, value): (&String, &String)| create_topics::CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
        };
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions.unwrap_or(-1),
            replication_factor: -1,
            assignments: Vec::new(),
            configs: settings.iter().map(config).collect(),
        };
        let request =
            create_topics::Request { topics: vec![topic], ..create_topics::Request::default() };
        for topic in self.ask(&request, 4..=7).await?.topics {
            let message = topic.error_message.as_deref();
            check(|| format!("topic `{name}` was not made"), topic.error_code, message)?;
        }
        Ok(())
    }

    /// Deletes a topic with all that is in it.
    ///
    /// # Errors
    /// When the log does not, and why.
    pub async fn delete(&mut self, name: &str) -> Result<(), ClientError> {
        let request = delete_topics::Request {
            topics: vec![delete_topics::DeleteTopicState {
                name: Some(name.into()),
                ..delete_topics::DeleteTopicState::default()
            }],
            timeout_ms: 60_000,
            ..delete_topics::Request::default()
        };
        for topic in self.ask(&request, 6..=6).await?.responses {
            let message = topic.error_message.as_deref();
            check(|| format!("topic `{name}` was not deleted"), topic.error_code, message)?;
        }
        Ok(())
    }

    /// What went through an event log of this program. No other server has such a request, and this
    /// one does not advertise it, since some clients stumble over what they do not know: whoever is
    /// asked and does not serve it hangs up.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn figures(&mut self) -> Result<Figures, ClientError> {
        let answer = self.exchange(&event_figures::Request::default(), 0, PATIENCE).await?;
        check(|| "figures of the event log".to_owned(), answer.error_code, None)?;
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let topics = answer.topics.into_iter().map(|topic| {
            let traffic = Traffic {
                messages_in: number(topic.messages_in),
                bytes_in: number(topic.bytes_in),
                messages_out: number(topic.messages_out),
                bytes_out: number(topic.bytes_out),
            };
            (topic.name.to_string(), traffic)
        });
        Ok(Figures {
            flushes: number(answer.flushes),
            flush_micros: number(answer.flush_micros),
            topics: topics.collect(),
        })
    }
}
