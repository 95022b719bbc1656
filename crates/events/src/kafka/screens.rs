//! Requests about many things: those that may not be asked for are taken out, and told in the answer.
//!
//! Not here: requests that are refused as a whole, and the rest of the table (`access`).

use std::sync::Arc;

use kafka_wire::{
    Str, Uuid, add_partitions_to_txn, alter_configs, consumer_group_describe,
    consumer_group_heartbeat, create_partitions, create_topics, delete_groups, delete_topics,
    describe_configs, describe_groups, describe_producers, describe_share_group_offsets,
    describe_transactions, incremental_alter_configs, init_producer_id, list_groups,
    list_transactions, offset_commit, offset_fetch, share_acknowledge, share_fetch,
    share_group_describe, share_group_heartbeat, txn_offset_commit, write_txn_markers,
};

use super::access::{Asker, Gated, Screened, code_of};
use super::errors::code;
use crate::security::acls::{Operation, Resource};

/// Takes out of a list what does not fit.
fn take_out<T>(all: &mut Vec<T>, fits: impl FnMut(&T) -> bool) -> Vec<T> {
    let (left, out) = std::mem::take(all).into_iter().partition(fits);
    *all = left;
    out
}

/// An answer that gets back what was taken out; the request is not looked at when nothing is left,
/// since none may mean all.
fn part<R: Default, T>(
    out: Vec<T>,
    is_left: bool,
    add: impl FnOnce(&mut R, Vec<T>) + Send + 'static,
) -> Screened<R>
where
    T: Send + 'static,
{
    match (out.is_empty(), is_left) {
        (true, _) => Screened::Whole,
        (false, true) => Screened::Part(Box::new(move |response| add(response, out))),
        (false, false) => {
            let mut response = R::default();
            add(&mut response, out);
            Screened::Refused(response)
        }
    }
}

/// Lists of names, each answered by a structure with a code.
macro_rules! named {
    ($($module:ident $list:ident $operation:ident $resource:ident => $answers:ident $answer:ident $name:ident,)*) => {
        $(#[allow(clippy::needless_update, reason = "some answers have more fields, some not")]
        impl Gated for $module::Request {
            fn screen(&mut self, asker: &Asker<'_>) -> Screened<$module::Response> {
                let may = |name: &Str| asker.may(Operation::$operation, Resource::$resource, name);
                let out = take_out(&mut self.$list, may);
                part(out, !self.$list.is_empty(), |response: &mut $module::Response, out| {
                    response.$answers.extend(out.into_iter().map(|$name| $module::$answer {
                        error_code: code_of(Resource::$resource),
                        $name,
                        ..$module::$answer::default()
                    }));
                })
            }
        })*
    };
}

named! {
    describe_groups groups Describe Group => groups DescribedGroup group_id,
    delete_groups groups_names Delete Group => results DeletableGroupResult group_id,
    consumer_group_describe group_ids Describe Group => groups DescribedGroup group_id,
    share_group_describe group_ids Describe Group => groups DescribedGroup group_id,
    describe_transactions transactional_ids Describe TransactionalId
        => transaction_states TransactionState transactional_id,
}

impl Gated for describe_share_group_offsets::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<describe_share_group_offsets::Response> {
        use describe_share_group_offsets as wire;
        let may = |group: &wire::DescribeShareGroupOffsetsRequestGroup| {
            asker.may(Operation::Describe, Resource::Group, &group.group_id)
        };
        let out = take_out(&mut self.groups, may);
        part(out, !self.groups.is_empty(), |response: &mut wire::Response, out| {
            response.groups.extend(out.into_iter().map(|group| {
                wire::DescribeShareGroupOffsetsResponseGroup {
                    group_id: group.group_id,
                    error_code: code::GROUP_AUTHORIZATION_FAILED,
                    ..wire::DescribeShareGroupOffsetsResponseGroup::default()
                }
            }));
        })
    }
}

/// Heartbeats of members that say which topics they want.
macro_rules! heartbeats {
    ($($module:ident)*) => {
        $(impl Gated for $module::Request {
            fn screen(&mut self, asker: &Asker<'_>) -> Screened<$module::Response> {
                let may_see = |name: &Str| {
                    asker.may(Operation::Describe, Resource::Topic, name)
                };
                let mut topics = self.subscribed_topic_names.iter().flatten();
                let error_code = if !asker.may(Operation::Read, Resource::Group, &self.group_id) {
                    code::GROUP_AUTHORIZATION_FAILED
                } else if !topics.all(may_see) {
                    code::TOPIC_AUTHORIZATION_FAILED
                } else {
                    return Screened::Whole;
                };
                Screened::Refused($module::Response { error_code, ..$module::Response::default() })
            }
        })*
    };
}

heartbeats! { consumer_group_heartbeat share_group_heartbeat }

/// Requests of members of share groups about records, by topics' ids.
macro_rules! shares {
    ($($module:ident $answer:ident,)*) => {
        $(impl Gated for $module::Request {
            fn screen(&mut self, asker: &Asker<'_>) -> Screened<$module::Response> {
                let group = self.group_id.as_deref().unwrap_or_default();
                if !asker.may(Operation::Read, Resource::Group, group) {
                    let error_code = code::GROUP_AUTHORIZATION_FAILED;
                    let response = $module::Response { error_code, ..Default::default() };
                    return Screened::Refused(response);
                }
                let out = take_out(&mut self.topics, |topic| may_read(asker, topic.topic_id));
                // Whatever is left: a request without topics is about those of its session.
                part(out, true, |response: &mut $module::Response, out| {
                    response.responses.extend(out.into_iter().map(|topic| $module::$answer {
                        topic_id: topic.topic_id,
                        partitions: topic
                            .partitions
                            .iter()
                            .map(|one| $module::PartitionData {
                                partition_index: one.partition_index,
                                error_code: code::TOPIC_AUTHORIZATION_FAILED,
                                ..$module::PartitionData::default()
                            })
                            .collect(),
                    }));
                })
            }
        })*
    };
}

shares! {
    share_fetch ShareFetchableTopicResponse,
    share_acknowledge ShareAcknowledgeTopicResponse,
}

fn may_read(asker: &Asker<'_>, id: Uuid) -> bool {
    let found = asker.front.allowed_topic(asker.session, Operation::Read, "", id);
    !matches!(found, Err(code::TOPIC_AUTHORIZATION_FAILED))
}

impl Gated for list_groups::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<list_groups::Response> {
        if asker.may_cluster(Operation::Describe) {
            return Screened::Whole;
        }
        let (front, session) = (Arc::clone(asker.front), Arc::clone(asker.session));
        Screened::Part(Box::new(move |response: &mut list_groups::Response| {
            response.groups.retain(|group| {
                front.may(&session, Operation::Describe, Resource::Group, &group.group_id)
            });
        }))
    }
}

impl Gated for list_transactions::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<list_transactions::Response> {
        let (front, session) = (Arc::clone(asker.front), Arc::clone(asker.session));
        Screened::Part(Box::new(move |response: &mut list_transactions::Response| {
            response.transaction_states.retain(|one| {
                let (operation, resource) = (Operation::Describe, Resource::TransactionalId);
                front.may(&session, operation, resource, &one.transactional_id)
            });
        }))
    }
}

impl Gated for offset_commit::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<offset_commit::Response> {
        use offset_commit as wire;
        let may_group = asker.may(Operation::Read, Resource::Group, &self.group_id);
        let may = |topic: &wire::OffsetCommitRequestTopic| {
            let (operation, id) = (Operation::Read, topic.topic_id);
            let found = asker.front.allowed_topic(asker.session, operation, &topic.name, id);
            may_group && !matches!(found, Err(code::TOPIC_AUTHORIZATION_FAILED))
        };
        let out = take_out(&mut self.topics, may);
        let error_code = match may_group {
            true => code::TOPIC_AUTHORIZATION_FAILED,
            false => code::GROUP_AUTHORIZATION_FAILED,
        };
        part(out, !self.topics.is_empty(), move |response: &mut wire::Response, out| {
            response.topics.extend(out.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|one| {
                    let partition_index = one.partition_index;
                    wire::OffsetCommitResponsePartition { partition_index, error_code }
                });
                wire::OffsetCommitResponseTopic {
                    partitions: partitions.collect(),
                    name: topic.name,
                    topic_id: topic.topic_id,
                }
            }));
        })
    }
}

impl Gated for offset_fetch::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<offset_fetch::Response> {
        use offset_fetch as wire;
        let group = |name: &str| asker.may(Operation::Describe, Resource::Group, name);
        if asker.version < 8 && !group(&self.group_id) {
            let error_code = code::GROUP_AUTHORIZATION_FAILED;
            return Screened::Refused(wire::Response { error_code, ..wire::Response::default() });
        }
        let out = take_out(&mut self.groups, |one| group(&one.group_id));
        let refused = move |response: &mut wire::Response| {
            response.groups.extend(out.into_iter().map(|one| wire::OffsetFetchResponseGroup {
                group_id: one.group_id,
                error_code: code::GROUP_AUTHORIZATION_FAILED,
                ..wire::OffsetFetchResponseGroup::default()
            }));
        };
        if asker.version >= 8 && self.groups.is_empty() {
            let mut response = wire::Response::default();
            refused(&mut response);
            return Screened::Refused(response);
        }
        let (front, session) = (Arc::clone(asker.front), Arc::clone(asker.session));
        Screened::Part(Box::new(move |response: &mut wire::Response| {
            // What was not asked for by name and may not be seen is as if it were not there; of
            // what was, an offset that nobody committed says no more.
            let by_name =
                |name: &Str| front.may(&session, Operation::Describe, Resource::Topic, name);
            response.topics.retain(|topic| by_name(&topic.name));
            for group in &mut response.groups {
                group.topics.retain(|topic| {
                    let (operation, id) = (Operation::Describe, topic.topic_id);
                    let found = front.allowed_topic(&session, operation, &topic.name, id);
                    !matches!(found, Err(code::TOPIC_AUTHORIZATION_FAILED))
                });
            }
            refused(response);
        }))
    }
}

impl Gated for txn_offset_commit::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<txn_offset_commit::Response> {
        use txn_offset_commit as wire;
        let name = &self.transactional_id;
        let all = if !asker.may(Operation::Write, Resource::TransactionalId, name) {
            Some(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        } else if !asker.may(Operation::Read, Resource::Group, &self.group_id) {
            Some(code::GROUP_AUTHORIZATION_FAILED)
        } else {
            None
        };
        let out = take_out(&mut self.topics, |topic| {
            all.is_none() && asker.may(Operation::Read, Resource::Topic, &topic.name)
        });
        let error_code = all.unwrap_or(code::TOPIC_AUTHORIZATION_FAILED);
        part(out, !self.topics.is_empty(), move |response: &mut wire::Response, out| {
            response.topics.extend(out.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|one| {
                    let partition_index = one.partition_index;
                    wire::TxnOffsetCommitResponsePartition { partition_index, error_code }
                });
                let partitions = partitions.collect();
                wire::TxnOffsetCommitResponseTopic { name: topic.name, partitions }
            }));
        })
    }
}

impl Gated for add_partitions_to_txn::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<add_partitions_to_txn::Response> {
        use add_partitions_to_txn as wire;
        // From version 4 on it is for brokers.
        if asker.version >= 4 {
            return match asker.may_cluster(Operation::ClusterAction) {
                true => Screened::Whole,
                false => Screened::Refused(wire::Response {
                    error_code: code::CLUSTER_AUTHORIZATION_FAILED,
                    ..wire::Response::default()
                }),
            };
        }
        let name = &self.v3_and_below_transactional_id;
        let may_name = asker.may(Operation::Write, Resource::TransactionalId, name);
        let may = |topic: &wire::AddPartitionsToTxnTopic| {
            asker.may(Operation::Write, Resource::Topic, &topic.name)
        };
        if may_name && self.v3_and_below_topics.iter().all(may) {
            return Screened::Whole;
        }
        // All or none: the others are told that it was not for them.
        let each = self.v3_and_below_topics.iter().map(|topic| {
            let partition_error_code = match (may_name, may(topic)) {
                (false, _) => code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                (true, false) => code::TOPIC_AUTHORIZATION_FAILED,
                (true, true) => code::OPERATION_NOT_ATTEMPTED,
            };
            let results = topic.partitions.iter().map(|partition_index| {
                let partition_index = *partition_index;
                wire::AddPartitionsToTxnPartitionResult { partition_index, partition_error_code }
            });
            wire::AddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: results.collect(),
            }
        });
        Screened::Refused(wire::Response {
            results_by_topic_v3_and_below: each.collect(),
            ..wire::Response::default()
        })
    }
}

impl Gated for init_producer_id::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<init_producer_id::Response> {
        let error_code = match &self.transactional_id {
            Some(name) => match asker.may(Operation::Write, Resource::TransactionalId, name) {
                true => return Screened::Whole,
                false => code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            },
            None => {
                let guard = &asker.front.guard;
                let any = || guard.allows_any(asker.session, Operation::Write, Resource::Topic);
                match asker.may_cluster(Operation::IdempotentWrite) || any() {
                    true => return Screened::Whole,
                    false => code::CLUSTER_AUTHORIZATION_FAILED,
                }
            }
        };
        Screened::Refused(init_producer_id::Response {
            error_code,
            producer_id: -1,
            producer_epoch: -1,
            ..init_producer_id::Response::default()
        })
    }
}

impl Gated for describe_producers::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<describe_producers::Response> {
        use describe_producers as wire;
        let may =
            |topic: &wire::TopicRequest| asker.may(Operation::Read, Resource::Topic, &topic.name);
        let out = take_out(&mut self.topics, may);
        part(out, !self.topics.is_empty(), |response: &mut wire::Response, out| {
            response.topics.extend(out.into_iter().map(|topic| {
                let partitions =
                    topic.partition_indexes.iter().map(|partition_index| wire::PartitionResponse {
                        partition_index: *partition_index,
                        error_code: code::TOPIC_AUTHORIZATION_FAILED,
                        ..wire::PartitionResponse::default()
                    });
                wire::TopicResponse { partitions: partitions.collect(), name: topic.name }
            }));
        })
    }
}

impl Gated for write_txn_markers::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<write_txn_markers::Response> {
        use write_txn_markers as wire;
        let may = asker.may_cluster(Operation::ClusterAction);
        if may || asker.may_cluster(Operation::Alter) {
            return Screened::Whole;
        }
        let out = std::mem::take(&mut self.markers);
        part(out, false, |response: &mut wire::Response, out| {
            response.markers.extend(out.into_iter().map(|marker| {
                let topics = marker.topics.into_iter().map(|topic| {
                    let partitions = topic.partition_indexes.iter().map(|partition_index| {
                        wire::WritableTxnMarkerPartitionResult {
                            partition_index: *partition_index,
                            error_code: code::CLUSTER_AUTHORIZATION_FAILED,
                        }
                    });
                    let partitions = partitions.collect();
                    wire::WritableTxnMarkerTopicResult { name: topic.name, partitions }
                });
                wire::WritableTxnMarkerResult {
                    producer_id: marker.producer_id,
                    topics: topics.collect(),
                }
            }));
        })
    }
}

impl Gated for create_topics::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<create_topics::Response> {
        use create_topics as wire;
        let all = asker.may_cluster(Operation::Create);
        let out = take_out(&mut self.topics, |topic| {
            all || asker.may(Operation::Create, Resource::Topic, &topic.name)
        });
        part(out, !self.topics.is_empty(), |response: &mut wire::Response, out| {
            response.topics.extend(out.into_iter().map(|topic| wire::CreatableTopicResult {
                name: topic.name,
                error_code: code::TOPIC_AUTHORIZATION_FAILED,
                error_message: Some("Authorization failed.".into()),
                ..wire::CreatableTopicResult::default()
            }));
        })
    }
}

impl Gated for delete_topics::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<delete_topics::Response> {
        use delete_topics as wire;
        let may = |name: &str, id| {
            let found = asker.front.allowed_topic(asker.session, Operation::Delete, name, id);
            !matches!(found, Err(code::TOPIC_AUTHORIZATION_FAILED))
        };
        let mut out = take_out(&mut self.topics, |topic| {
            may(topic.name.as_deref().unwrap_or_default(), topic.topic_id)
        });
        let named = take_out(&mut self.topic_names, |name| may(name, kafka_wire::Uuid::ZERO));
        out.extend(named.into_iter().map(|name| wire::DeleteTopicState {
            name: Some(name),
            ..wire::DeleteTopicState::default()
        }));
        let is_left = !self.topics.is_empty() || !self.topic_names.is_empty();
        part(out, is_left, |response: &mut wire::Response, out| {
            response.responses.extend(out.into_iter().map(|topic| wire::DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code: code::TOPIC_AUTHORIZATION_FAILED,
                ..wire::DeletableTopicResult::default()
            }));
        })
    }
}

impl Gated for create_partitions::Request {
    fn screen(&mut self, asker: &Asker<'_>) -> Screened<create_partitions::Response> {
        use create_partitions as wire;
        let may = |topic: &wire::CreatePartitionsTopic| {
            asker.may(Operation::Alter, Resource::Topic, &topic.name)
        };
        let out = take_out(&mut self.topics, may);
        part(out, !self.topics.is_empty(), |response: &mut wire::Response, out| {
            response.results.extend(out.into_iter().map(|topic| {
                wire::CreatePartitionsTopicResult {
                    name: topic.name,
                    error_code: code::TOPIC_AUTHORIZATION_FAILED,
                    ..wire::CreatePartitionsTopicResult::default()
                }
            }));
        })
    }
}

/// What a resource with settings is in rules: topics and groups are themselves, the rest is the
/// cluster's.
fn of_settings(asker: &Asker<'_>, operation: Operation, kind: i8, name: &str) -> Result<(), i16> {
    let (may, resource) = match kind {
        2 => (asker.may(operation, Resource::Topic, name), Resource::Topic),
        32 => (asker.may(operation, Resource::Group, name), Resource::Group),
        _ => (asker.may_cluster(operation), Resource::Cluster),
    };
    if may { Ok(()) } else { Err(code_of(resource)) }
}

macro_rules! settings {
    ($($module:ident $operation:ident $answers:ident $answer:ident,)*) => {
        $(#[allow(clippy::needless_update, reason = "some answers have more fields, some not")]
        impl Gated for $module::Request {
            fn screen(&mut self, asker: &Asker<'_>) -> Screened<$module::Response> {
                let mut errors = Vec::new();
                let out = take_out(&mut self.resources, |one| {
                    let (kind, name) = (one.resource_type, &one.resource_name);
                    let may = of_settings(asker, Operation::$operation, kind, name);
                    errors.extend(may.err());
                    may.is_ok()
                });
                part(out, !self.resources.is_empty(), |response: &mut $module::Response, out| {
                    response.$answers.extend(out.into_iter().zip(errors).map(|(one, error_code)| {
                        $module::$answer {
                            error_code,
                            error_message: Some("Authorization failed.".into()),
                            resource_type: one.resource_type,
                            resource_name: one.resource_name,
                            ..$module::$answer::default()
                        }
                    }));
                })
            }
        })*
    };
}

settings! {
    describe_configs DescribeConfigs results DescribeConfigsResult,
    alter_configs AlterConfigs responses AlterConfigsResourceResponse,
    incremental_alter_configs AlterConfigs responses AlterConfigsResourceResponse,
}
