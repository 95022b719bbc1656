//! Groups: who is in them, how far they are, and moving them.

use std::collections::{BTreeMap, HashMap};

use bytes::{Buf, Bytes};
use kafka_wire::{
    Codec, Reader, alter_share_group_offsets, consumer_group_describe,
    consumer_protocol_assignment, describe_groups, describe_share_group_offsets, list_groups,
    offset_commit, offset_fetch, share_group_describe,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::topics::LATEST;
use super::{Client, ClientError, Cursor, Position, check};

/// Groups that are described in one request.
const AT_ONCE: usize = 500;

/// What says that there is no group of that name, and that there are members.
const NO_GROUP: i16 = 69;
const NOT_EMPTY: i16 = 68;

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `classic`, `consumer` or `share`.
    pub kind: String,
    /// The protocol's word: `Stable`, `Empty`, …
    pub state: String,
    /// How partitions are shared out, if that is said.
    pub assignor: String,
    /// Who is in it.
    pub members: Vec<Member>,
    /// How far it is, in each partition that it read or has.
    pub lags: Vec<Lag>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name, if it keeps one.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// Its partitions, by topic.
    pub assigned: BTreeMap<String, Vec<i32>>,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that it reads next, if it said so; the first that a share group is not done with.
    pub committed: Option<i64>,
    /// Messages that a share group is not done with: not all after the first are open.
    pub open: Option<i64>,
    /// The offset that the partition's next message gets, if the partition is still there.
    pub end: Option<i64>,
    /// Who has the partition.
    pub member: Option<String>,
}

impl Lag {
    /// Messages that it has not read.
    pub fn messages(&self) -> Option<i64> {
        if self.open.is_some() {
            return self.open;
        }
        Some((self.end? - self.committed?).max(0))
    }
}

/// Where a group's offset of a partition was and is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The partition.
    pub partition: i32,
    /// Before, if it had one.
    pub before: Option<i64>,
    /// Now.
    pub after: i64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The first `most` groups, ordered by name.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn groups(&mut self, most: usize) -> Result<Vec<Group>, ClientError> {
        let mut groups = self.listed().await?;
        groups.truncate(most);
        self.fill(&mut groups).await?;
        Ok(groups)
    }

    /// One group.
    ///
    /// # Errors
    /// When it cannot be asked, or there is no such group.
    pub async fn group(&mut self, name: &str) -> Result<Group, ClientError> {
        let mut groups = self.listed().await?;
        groups.retain(|group| group.name == name);
        self.fill(&mut groups).await?;
        let refused = || check(|| format!("group `{name}`"), NO_GROUP, None).err();
        groups.pop().ok_or_else(|| refused().unwrap_or(ClientError::Silent))
    }

    async fn listed(&mut self) -> Result<Vec<Group>, ClientError> {
        let answer = self.ask(&list_groups::Request::default(), 0..=5).await?;
        check(|| "the groups".to_owned(), answer.error_code, None)?;
        let each = answer.groups.into_iter().map(|group| Group {
            name: group.group_id.to_string(),
            kind: match &*group.group_type {
                "" => "classic".to_owned(),
                kind => kind.to_lowercase(),
            },
            state: group.group_state.to_string(),
            ..Group::default()
        });
        let mut groups: Vec<Group> = each.collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// Members and offsets of groups that were listed.
    async fn fill(&mut self, groups: &mut [Group]) -> Result<(), ClientError> {
        for some in groups.chunks_mut(AT_ONCE) {
            let names = |kind: &str| {
                let of = some.iter().filter(|group| group.kind == kind);
                of.map(|group| group.name.clone()).collect::<Vec<_>>()
            };
            let (classic, consumer, share) = (names("classic"), names("consumer"), names("share"));
            let mut found = HashMap::new();
            if !classic.is_empty() {
                found.extend(self.classic(&classic).await?);
            }
            if !consumer.is_empty() && self.serves::<consumer_group_describe::Request>() {
                found.extend(self.consumer(&consumer).await?);
            }
            if !share.is_empty() && self.serves::<share_group_describe::Request>() {
                found.extend(self.share(&share).await?);
            }
            let mut offsets = self.committed([classic, consumer].concat()).await?;
            let mut undone = self.undone(share).await?;
            for group in some.iter_mut() {
                if let Some((state, assignor, members)) = found.remove(&group.name) {
                    (group.state, group.assignor, group.members) = (state, assignor, members);
                }
                group.lags = match undone.remove(&group.name) {
                    Some(undone) => undone,
                    None => lags(group, offsets.remove(&group.name).unwrap_or_default()),
                };
            }
        }
        let all = groups.iter().flat_map(|group| &group.lags);
        let mut all: Vec<_> = all.map(|lag| (lag.topic.clone(), lag.partition)).collect();
        all.sort();
        all.dedup();
        let ends = self.offsets(&all, LATEST).await?;
        for lag in groups.iter_mut().flat_map(|group| &mut group.lags) {
            lag.end = ends.get(&(lag.topic.clone(), lag.partition)).copied();
        }
        Ok(())
    }

    async fn classic(&mut self, names: &[String]) -> Result<Described, ClientError> {
        let request = describe_groups::Request {
            groups: names.iter().map(|name| name.as_str().into()).collect(),
            ..describe_groups::Request::default()
        };
        let answer = self.ask(&request, 0..=6).await?;
        let mut found = Described::new();
        for group in answer.groups.into_iter().filter(|group| group.error_code == 0) {
            let is_consumer = group.protocol_type == "consumer";
            let members = group.members.into_iter().map(|member| Member {
                id: member.member_id.to_string(),
                instance: member.group_instance_id.map(|name| name.to_string()),
                client: member.client_id.to_string(),
                host: member.client_host.to_string(),
                assigned: match is_consumer {
                    true => assigned(member.member_assignment),
                    false => BTreeMap::new(),
                },
            });
            let one = (group.group_state.to_string(), group.protocol_data.to_string());
            found.insert(group.group_id.to_string(), (one.0, one.1, members.collect()));
        }
        Ok(found)
    }

    async fn consumer(&mut self, names: &[String]) -> Result<Described, ClientError> {
        let request = consumer_group_describe::Request {
            group_ids: names.iter().map(|name| name.as_str().into()).collect(),
            ..consumer_group_describe::Request::default()
        };
        let answer = self.ask(&request, 0..=1).await?;
        let mut found = Described::new();
        for group in answer.groups.into_iter().filter(|group| group.error_code == 0) {
            let members = group.members.into_iter().map(|member| {
                let topics = member.assignment.topic_partitions.into_iter();
                let topics = topics.map(|topic| (topic.topic_name.to_string(), topic.partitions));
                Member {
                    id: member.member_id.to_string(),
                    instance: member.instance_id.map(|name| name.to_string()),
                    client: member.client_id.to_string(),
                    host: member.client_host.to_string(),
                    assigned: topics.collect(),
                }
            });
            let one = (group.group_state.to_string(), group.assignor_name.to_string());
            found.insert(group.group_id.to_string(), (one.0, one.1, members.collect()));
        }
        Ok(found)
    }

    async fn share(&mut self, names: &[String]) -> Result<Described, ClientError> {
        let request = share_group_describe::Request {
            group_ids: names.iter().map(|name| name.as_str().into()).collect(),
            ..share_group_describe::Request::default()
        };
        let answer = self.ask(&request, 1..=1).await?;
        let mut found = Described::new();
        for group in answer.groups.into_iter().filter(|group| group.error_code == 0) {
            let members = group.members.into_iter().map(|member| {
                let topics = member.assignment.topic_partitions.into_iter();
                let topics = topics.map(|topic| (topic.topic_name.to_string(), topic.partitions));
                Member {
                    id: member.member_id.to_string(),
                    instance: None,
                    client: member.client_id.to_string(),
                    host: member.client_host.to_string(),
                    assigned: topics.collect(),
                }
            });
            let one = (group.group_state.to_string(), group.assignor_name.to_string());
            found.insert(group.group_id.to_string(), (one.0, one.1, members.collect()));
        }
        Ok(found)
    }

    /// What groups committed, by group.
    async fn committed(&mut self, names: Vec<String>) -> Result<Committed, ClientError> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let groups = names.into_iter().map(|name| offset_fetch::OffsetFetchRequestGroup {
            group_id: name.into(),
            topics: None,
            ..offset_fetch::OffsetFetchRequestGroup::default()
        });
        let request =
            offset_fetch::Request { groups: groups.collect(), ..offset_fetch::Request::default() };
        let answer = self.ask(&request, 8..=9).await?;
        let mut found = HashMap::new();
        for group in answer.groups {
            let mut offsets = BTreeMap::new();
            for topic in group.topics {
                for partition in topic.partitions {
                    if partition.error_code == 0 && partition.committed_offset >= 0 {
                        let at = (topic.name.to_string(), partition.partition_index);
                        offsets.insert(at, partition.committed_offset);
                    }
                }
            }
            found.insert(group.group_id.to_string(), offsets);
        }
        Ok(found)
    }

    /// Where share groups are, by group.
    async fn undone(
        &mut self,
        names: Vec<String>,
    ) -> Result<HashMap<String, Vec<Lag>>, ClientError> {
        use describe_share_group_offsets as wire;
        if names.is_empty() || !self.serves::<wire::Request>() {
            return Ok(HashMap::new());
        }
        let groups = names.into_iter().map(|name| wire::DescribeShareGroupOffsetsRequestGroup {
            group_id: name.into(),
            topics: None,
        });
        let request = wire::Request { groups: groups.collect() };
        let answer = self.ask(&request, 0..=1).await?;
        let mut found = HashMap::new();
        for group in answer.groups.into_iter().filter(|group| group.error_code == 0) {
            let mut lags = Vec::new();
            for topic in group.topics {
                let all = topic.partitions.into_iter();
                lags.extend(all.filter(|one| one.error_code == 0).map(|one| Lag {
                    topic: topic.topic_name.to_string(),
                    partition: one.partition_index,
                    committed: (one.start_offset >= 0).then_some(one.start_offset),
                    open: (one.lag >= 0).then_some(one.lag),
                    ..Lag::default()
                }));
            }
            found.insert(group.group_id.to_string(), lags);
        }
        Ok(found)
    }

    /// Moves a group without members to a position in a topic, or in one of its partitions. A group
    /// that is not there yet begins there.
    ///
    /// # Errors
    /// When the group has members, the topic is not there, or the log refuses.
    pub async fn reset(
        &mut self,
        group: &str,
        topic: &str,
        partition: Option<i32>,
        position: Position,
    ) -> Result<Vec<Moved>, ClientError> {
        let mut is_share = false;
        let before = match self.group(group).await {
            Ok(found) if !found.members.is_empty() => {
                let members = found.members.iter().map(|member| {
                    format!("{} at {}", member.client, member.host.trim_start_matches('/'))
                });
                let members: Vec<_> = members.collect();
                return Err(ClientError::Refused {
                    what: format!("group `{group}` has members"),
                    code: NOT_EMPTY,
                    why: members.join(", "),
                });
            }
            Ok(found) => {
                is_share = found.kind == "share";
                found.lags
            }
            Err(error) if error.code() == Some(NO_GROUP) => Vec::new(),
            Err(error) => return Err(error),
        };
        let after = self.place(topic, partition, position).await?;
        match is_share {
            true => self.commit_share(group, topic, &after).await?,
            false => self.commit(group, topic, &after).await?,
        }
        let moved = after.into_iter().map(|(partition, after)| {
            let of = |lag: &&Lag| lag.topic == topic && lag.partition == partition;
            let before = before.iter().find(of).and_then(|lag| lag.committed);
            Moved { partition, before, after }
        });
        Ok(moved.collect())
    }

    async fn commit_share(
        &mut self,
        group: &str,
        topic: &str,
        offsets: &Cursor,
    ) -> Result<(), ClientError> {
        use alter_share_group_offsets as wire;
        let partitions = offsets.iter().map(|(partition_index, start_offset)| {
            wire::AlterShareGroupOffsetsRequestPartition {
                partition_index: *partition_index,
                start_offset: *start_offset,
            }
        });
        let request = wire::Request {
            group_id: group.into(),
            topics: vec![wire::AlterShareGroupOffsetsRequestTopic {
                topic_name: topic.into(),
                partitions: partitions.collect(),
            }],
        };
        let answer = self.ask(&request, 0..=0).await?;
        let why = answer.error_message.as_deref();
        check(|| format!("share group `{group}`"), answer.error_code, why)?;
        for done in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let what =
                || format!("partition {} of `{topic}` for group `{group}`", done.partition_index);
            check(what, done.error_code, done.error_message.as_deref())?;
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        group: &str,
        topic: &str,
        offsets: &Cursor,
    ) -> Result<(), ClientError> {
        let partitions = offsets.iter().map(|(partition_index, committed_offset)| {
            offset_commit::OffsetCommitRequestPartition {
                partition_index: *partition_index,
                committed_offset: *committed_offset,
                committed_metadata: Some("".into()),
                ..offset_commit::OffsetCommitRequestPartition::default()
            }
        });
        let request = offset_commit::Request {
            group_id: group.into(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: topic.into(),
                partitions: partitions.collect(),
                ..offset_commit::OffsetCommitRequestTopic::default()
            }],
            ..offset_commit::Request::default()
        };
        let answer = self.ask(&request, 2..=9).await?;
        for done in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            let what =
                || format!("partition {} of `{topic}` for group `{group}`", done.partition_index);
            check(what, done.error_code, None)?;
        }
        Ok(())
    }
}

/// State, how partitions are shared out, and members, by group.
type Described = HashMap<String, (String, String, Vec<Member>)>;

/// Offsets by partition, by group.
type Committed = HashMap<String, BTreeMap<(String, i32), i64>>;

/// What a member of a classic group was given: bytes that say in which form they are.
fn assigned(mut bytes: Bytes) -> BTreeMap<String, Vec<i32>> {
    use consumer_protocol_assignment::ConsumerProtocolAssignment as Assignment;
    let Ok(version) = bytes.try_get_i16() else { return BTreeMap::new() };
    let version = version.clamp(0, 3);
    let read = Assignment::decode(&mut Reader::new(bytes), version).unwrap_or_default();
    let each = read.assigned_partitions.into_iter();
    each.map(|topic| (topic.topic.to_string(), topic.partitions)).collect()
}

/// A row for each partition that a group committed or that a member has.
fn lags(group: &Group, committed: BTreeMap<(String, i32), i64>) -> Vec<Lag> {
    let mut rows: BTreeMap<(String, i32), Lag> = BTreeMap::new();
    for ((topic, partition), offset) in committed {
        let lag =
            Lag { topic: topic.clone(), partition, committed: Some(offset), ..Lag::default() };
        rows.insert((topic, partition), lag);
    }
    for member in &group.members {
        for (topic, partitions) in &member.assigned {
            for partition in partitions {
                let lag = rows.entry((topic.clone(), *partition)).or_insert_with(|| Lag {
                    topic: topic.clone(),
                    partition: *partition,
                    ..Lag::default()
                });
                lag.member = Some(member.id.clone());
            }
        }
    }
    rows.into_values().collect()
}
