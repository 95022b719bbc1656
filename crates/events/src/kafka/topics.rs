//! Making and deleting topics, and adding partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{RequestHeader, Str, Uuid, create_partitions, create_topics, delete_topics};

use super::errors::{self, code};
use super::{Front, NODE, Session};
use crate::engine::config;
use crate::engine::log::Topic;

pub(crate) async fn create(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: create_topics::Request,
) -> create_topics::Response {
    let mut response = create_topics::Response::default();
    for topic in &request.topics {
        let same = request.topics.iter().filter(|other| other.name == topic.name).count();
        let mut result = create_topics::CreatableTopicResult {
            name: topic.name.clone(),
            topic_config_error_code: 0,
            num_partitions: -1,
            replication_factor: -1,
            configs: None,
            ..create_topics::CreatableTopicResult::default()
        };
        let made = match same {
            1 => {
                let wanted = usize::try_from(topic.num_partitions).unwrap_or(1);
                let wanted = wanted.max(topic.assignments.len()).max(1);
                let strict = header.version >= 6;
                match change(front, session, header, wanted, strict, request.validate_only) {
                    Ok(()) => create_one(front, topic, request.validate_only).await,
                    Err(error) => Err(error),
                }
            }
            _ => Err((code::INVALID_REQUEST, "Duplicate topic in request.".to_owned())),
        };
        match made {
            Ok((partitions, made)) => {
                result.num_partitions = partitions;
                result.replication_factor = 1;
                let told = told_configs(topic, made.as_deref());
                result.configs = (header.version >= 5).then_some(told);
                if let Some(made) = made {
                    result.topic_id = Uuid(made.id.to_be_bytes());
                }
            }
            Err((error_code, why)) => {
                result.error_code = error_code;
                result.error_message = Some(why.into());
            }
        }
        response.topics.push(result);
    }
    response
}

/// Counts partitions that come or go.
fn change(
    front: &Front,
    session: &Session,
    header: &RequestHeader,
    partitions: usize,
    strict: bool,
    validate_only: bool,
) -> Result<(), (i16, String)> {
    if validate_only {
        return Ok(());
    }
    let client_id = header.client_id.as_ref();
    let may = front.may_change_partitions(session, client_id, partitions, strict);
    may.map_err(|error| (error, "The throttling quota has been exceeded.".to_owned()))
}

async fn create_one(
    front: &Arc<Front>,
    topic: &create_topics::CreatableTopic,
    validate_only: bool,
) -> Result<(i32, Option<Arc<Topic>>), (i16, String)> {
    let partitions = match (topic.assignments.is_empty(), topic.num_partitions) {
        (true, -1) => front.log.options().partitions,
        (true, partitions) => partitions,
        (false, -1) => assigned(&topic.assignments)?,
        (false, _) => {
            let why = "Both partitions and an assignment were said: one is enough.";
            return Err((code::INVALID_REQUEST, why.to_owned()));
        }
    };
    if topic.assignments.is_empty() && !matches!(topic.replication_factor, -1 | 1) {
        let why = format!(
            "Unable to replicate the partition {} time(s): there is one node, and it keeps one copy.",
            topic.replication_factor
        );
        return Err((code::INVALID_REPLICATION_FACTOR, why));
    }
    let mut said = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let why = format!("Null value not supported for topic configs: {}", config.name);
            return Err((code::INVALID_CONFIG, why));
        };
        said.insert(config.name.to_string(), value.to_string());
    }
    let refused =
        |error: crate::engine::log::TopicError| (errors::of_topic(&error), error.to_string());
    if validate_only {
        front.log.check_topic(&topic.name, partitions, &said).map_err(refused)?;
        return Ok((partitions, None));
    }
    let made = front.log.create(&topic.name, front.new_id(), partitions, said).await;
    Ok((partitions, Some(made.map_err(refused)?)))
}

/// How many partitions an assignment to nodes names.
fn assigned(all: &[create_topics::CreatableReplicaAssignment]) -> Result<i32, (i16, String)> {
    let mut indexes: Vec<i32> = all.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    let count = i32::try_from(indexes.len()).unwrap_or(i32::MAX);
    let consecutive = indexes.iter().copied().eq(0..count);
    let here = all.iter().all(|one| one.broker_ids == [NODE]);
    if !consecutive || !here {
        let why = format!("Partitions must be 0, 1, 2 … and each on node {NODE} alone.");
        return Err((code::INVALID_REPLICA_ASSIGNMENT, why));
    }
    Ok(count)
}

fn told_configs(
    topic: &create_topics::CreatableTopic,
    made: Option<&Topic>,
) -> Vec<create_topics::CreatableTopicConfigs> {
    let said = |name: &str| topic.configs.iter().any(|config| config.name == name);
    let told = config::SETTINGS.iter().map(|setting| {
        let value = made.map_or_else(
            || {
                let own = topic.configs.iter().find(|config| config.name == setting.name);
                own.and_then(|own| own.value.clone()).unwrap_or_else(|| setting.default.into())
            },
            |made| made.config().get(setting.name).into(),
        );
        create_topics::CreatableTopicConfigs {
            name: setting.name.into(),
            value: Some(value),
            read_only: false,
            config_source: if said(setting.name) { 1 } else { 5 },
            is_sensitive: false,
        }
    });
    told.collect()
}

pub(crate) async fn delete(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: delete_topics::Request,
) -> delete_topics::Response {
    let mut asked: Vec<(Option<Str>, Uuid)> =
        request.topics.into_iter().map(|topic| (topic.name, topic.topic_id)).collect();
    asked.extend(request.topic_names.into_iter().map(|name| (Some(name), Uuid::ZERO)));
    let mut response = delete_topics::Response::default();
    for (name, id) in asked {
        let found = front.topic(&name.clone().unwrap_or_default(), id);
        let mut result = delete_topics::DeletableTopicResult {
            name: name.clone(),
            topic_id: id,
            ..delete_topics::DeletableTopicResult::default()
        };
        match found {
            None => {
                result.error_code = match name {
                    Some(_) => code::UNKNOWN_TOPIC_OR_PARTITION,
                    None => code::UNKNOWN_TOPIC_ID,
                };
            }
            Some(topic) => {
                result.name = Some(topic.name.as_str().into());
                if header.version >= 6 {
                    result.topic_id = Uuid(topic.id.to_be_bytes());
                }
                let partitions = topic.partitions().len();
                let strict = header.version >= 5;
                let may = change(front, session, header, partitions, strict, false);
                if let Err((error_code, why)) = may {
                    result.error_code = error_code;
                    result.error_message = Some(why.into());
                } else if let Err(error) = front.log.delete(&topic).await {
                    result.error_code = errors::of_topic(&error);
                    result.error_message = Some(error.to_string().into());
                }
            }
        }
        response.responses.push(result);
    }
    response
}

pub(crate) async fn add_partitions(
    front: &Arc<Front>,
    session: &Arc<Session>,
    header: &RequestHeader,
    request: create_partitions::Request,
) -> create_partitions::Response {
    let mut response = create_partitions::Response::default();
    for asked in request.topics {
        let found = front.log.topic(&asked.name);
        let done = match found {
            None => Err((code::UNKNOWN_TOPIC_OR_PARTITION, "The topic does not exist.".to_owned())),
            Some(topic) => {
                let check = front.log.check_more(&topic, asked.count);
                let elsewhere =
                    asked.assignments.iter().flatten().any(|one| one.broker_ids != [NODE]);
                let refused = |error: crate::engine::log::TopicError| {
                    (errors::of_topic(&error), error.to_string())
                };
                match check.map_err(refused) {
                    Err(error) => Err(error),
                    Ok(()) if elsewhere => {
                        let why = format!("There is one node, {NODE}, which has every partition.");
                        Err((code::INVALID_REPLICA_ASSIGNMENT, why))
                    }
                    Ok(()) if request.validate_only => Ok(()),
                    Ok(()) => {
                        let have = topic.partitions().len();
                        let more = usize::try_from(asked.count).unwrap_or(0).saturating_sub(have);
                        match change(front, session, header, more, header.version >= 3, false) {
                            Ok(()) => {
                                let done = front.log.add_partitions(&asked.name, asked.count).await;
                                done.map_err(refused)
                            }
                            Err(error) => Err(error),
                        }
                    }
                }
            }
        };
        let (error_code, why) = done.err().map_or((0, None), |(error, why)| (error, Some(why)));
        response.results.push(create_partitions::CreatePartitionsTopicResult {
            name: asked.name,
            error_code,
            error_message: why.map(Into::into),
        });
    }
    response
}
