//! Settings, described and changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Str, alter_configs, describe_configs, incremental_alter_configs,
    list_config_resources,
};

use super::errors::{self, code};
use super::{Front, NODE, Session};
use crate::engine::config::{self, Kind, Setting};
use crate::engine::log::Topic;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

pub(crate) async fn describe(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: describe_configs::Request,
) -> describe_configs::Response {
    use describe_configs::{DescribeConfigsResourceResult, DescribeConfigsResult};
    let mut response = describe_configs::Response::default();
    for asked in request.resources {
        let wanted = |name: &str| {
            asked
                .configuration_keys
                .as_ref()
                .is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| *key == name))
        };
        let mut result = DescribeConfigsResult {
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        let described: Result<Vec<DescribeConfigsResourceResult>, (i16, String)> =
            match asked.resource_type {
                TOPIC => match front.log.topic(&asked.resource_name) {
                    None => Err((code::UNKNOWN_TOPIC_OR_PARTITION, String::new())),
                    Some(topic) => Ok(config::SETTINGS
                        .iter()
                        .filter(|setting| wanted(setting.name))
                        .map(|setting| {
                            of_topic(
                                &topic,
                                setting,
                                request.include_synonyms,
                                request.include_documentation,
                            )
                        })
                        .collect()),
                },
                BROKER if is_here(&asked.resource_name) => {
                    Ok(of_node(front).into_iter().filter(|one| wanted(&one.name)).collect())
                }
                BROKER => {
                    let why = format!("Unexpected broker id, expected {NODE}");
                    Err((code::INVALID_REQUEST, why))
                }
                other => Err((
                    code::INVALID_REQUEST,
                    format!("Resources of type {other} have no settings here."),
                )),
            };
        match described {
            Ok(configs) => result.configs = configs,
            Err((error_code, why)) => {
                result.error_code = error_code;
                result.error_message = Some(why.into());
            }
        }
        response.results.push(result);
    }
    response
}

fn is_here(name: &Str) -> bool {
    name.is_empty() || name.parse() == Ok(NODE)
}

fn of_topic(
    topic: &Topic,
    setting: &Setting,
    synonyms: bool,
    documentation: bool,
) -> describe_configs::DescribeConfigsResourceResult {
    use describe_configs::{DescribeConfigsResourceResult, DescribeConfigsSynonym};
    let config = topic.config();
    let mut all: Vec<(i8, &str)> = Vec::new();
    all.extend(config.said.get(setting.name).map(|value| (SOURCE_TOPIC, value.as_str())));
    all.extend(config.defaults.get(setting.name).map(|value| (SOURCE_STATIC, value.as_str())));
    all.push((SOURCE_DEFAULT, setting.default));
    let (source, value) = all[0];
    let told = all.iter().filter(|_| synonyms).map(|(source, value)| DescribeConfigsSynonym {
        name: setting.name.into(),
        value: Some((*value).into()),
        source: *source,
    });
    DescribeConfigsResourceResult {
        name: setting.name.into(),
        value: Some(value.into()),
        read_only: false,
        config_source: source,
        is_sensitive: false,
        synonyms: told.collect(),
        config_type: type_of(setting.kind),
        documentation: documentation.then(|| setting.about.into()),
    }
}

fn type_of(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text | Kind::OneOf(_) => 2,
        Kind::Number(_, most) if most > i64::from(i32::MAX) => 5,
        Kind::Number(..) => 3,
        Kind::Ratio => 6,
        Kind::SomeOf(_) => 7,
    }
}

/// Settings of the node: those that tools look at, and they cannot be changed at run time.
fn of_node(front: &Front) -> Vec<describe_configs::DescribeConfigsResourceResult> {
    use describe_configs::DescribeConfigsResourceResult;
    let options = front.log.options();
    let mut all: Vec<(String, String, i8)> = vec![
        ("auto.create.topics.enable".into(), options.auto_create.to_string(), 1),
        ("node.id".into(), NODE.to_string(), 3),
        ("broker.id".into(), NODE.to_string(), 3),
        ("num.partitions".into(), options.partitions.to_string(), 3),
        ("default.replication.factor".into(), "1".into(), 3),
        ("offsets.topic.replication.factor".into(), "1".into(), 3),
        ("transaction.state.log.replication.factor".into(), "1".into(), 3),
        ("delete.topic.enable".into(), "true".into(), 1),
        ("group.max.session.timeout.ms".into(), "1800000".into(), 3),
        ("group.min.session.timeout.ms".into(), "6000".into(), 3),
        ("offset.metadata.max.bytes".into(), "4096".into(), 3),
        ("transaction.max.timeout.ms".into(), "900000".into(), 3),
    ];
    let of_topics = [
        ("log.cleanup.policy", "cleanup.policy"),
        ("log.retention.ms", "retention.ms"),
        ("log.retention.bytes", "retention.bytes"),
        ("log.segment.bytes", "segment.bytes"),
        ("log.message.timestamp.type", "message.timestamp.type"),
        ("message.max.bytes", "max.message.bytes"),
        ("min.insync.replicas", "min.insync.replicas"),
        ("compression.type", "compression.type"),
    ];
    for (name, of_topic) in of_topics {
        let Some(setting) = config::find(of_topic) else { continue };
        let said = options.topic_defaults.get(of_topic).map(String::as_str);
        all.push((name.into(), said.unwrap_or(setting.default).into(), type_of(setting.kind)));
    }
    all.sort();
    let told = all.into_iter().map(|(name, value, config_type)| DescribeConfigsResourceResult {
        name: name.into(),
        value: Some(value.into()),
        read_only: true,
        config_source: SOURCE_STATIC,
        config_type,
        ..DescribeConfigsResourceResult::default()
    });
    told.collect()
}

pub(crate) async fn alter(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: alter_configs::Request,
) -> alter_configs::Response {
    let mut response = alter_configs::Response::default();
    for resource in request.resources {
        let said = resource.configs.iter().map(|config| {
            (config.name.to_string(), config.value.as_ref().map_or(String::new(), Str::to_string))
        });
        let said = said.collect();
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let done = match topic_of(front, kind, name) {
            Ok(topic) => set(front, &topic, said, request.validate_only).await,
            Err(error) => Err(error),
        };
        let (error_code, why) = done.err().map_or((0, None), |(error, why)| (error, Some(why)));
        response.responses.push(alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message: why.map(Into::into),
            resource_type: kind,
            resource_name: resource.resource_name,
        });
    }
    response
}

pub(crate) async fn alter_some(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: incremental_alter_configs::Request,
) -> incremental_alter_configs::Response {
    let mut response = incremental_alter_configs::Response::default();
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let done = match topic_of(front, kind, name) {
            Ok(topic) => match changed(&topic, &resource.configs) {
                Ok(said) => set(front, &topic, said, request.validate_only).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let (error_code, why) = done.err().map_or((0, None), |(error, why)| (error, Some(why)));
        response.responses.push(incremental_alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message: why.map(Into::into),
            resource_type: kind,
            resource_name: resource.resource_name,
        });
    }
    response
}

fn topic_of(front: &Front, kind: i8, name: &Str) -> Result<Arc<Topic>, (i16, String)> {
    match kind {
        TOPIC => front.log.topic(name).ok_or_else(|| {
            (code::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist."))
        }),
        _ => {
            let why = "Settings of topics alone can be changed; those of the node are in the Compose file.";
            Err((code::INVALID_REQUEST, why.to_owned()))
        }
    }
}

async fn set(
    front: &Front,
    topic: &Topic,
    said: BTreeMap<String, String>,
    validate_only: bool,
) -> Result<(), (i16, String)> {
    if validate_only {
        let checked = said.iter().try_for_each(|(name, value)| config::check(name, value));
        return checked.map_err(|why| (code::INVALID_CONFIG, why));
    }
    let done = front.log.configure(topic, said).await;
    done.map_err(|error| (errors::of_topic(&error), error.to_string()))
}

/// What is said of a topic after some changes.
fn changed(
    topic: &Topic,
    changes: &[incremental_alter_configs::AlterableConfig],
) -> Result<BTreeMap<String, String>, (i16, String)> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let before = topic.config();
    let mut said = before.said.clone();
    for change in changes {
        let name = change.name.to_string();
        let value = change.value.as_ref().map_or("", Str::as_str);
        let mut words: Vec<&str> =
            before.get(&name).split(',').filter(|word| !word.is_empty()).collect();
        let is_list = matches!(
            config::find(&name).map(|found| found.kind),
            Some(Kind::SomeOf(_) | Kind::Text)
        );
        match change.config_operation {
            SET => {
                said.insert(name, value.to_owned());
            }
            DELETE => {
                said.remove(&name);
            }
            APPEND | SUBTRACT if !is_list => {
                let why = format!("{name} is no list: it can be set, and not added to.");
                return Err((code::INVALID_CONFIG, why));
            }
            APPEND => {
                words.extend(
                    value
                        .split(',')
                        .filter(|word| !before.get(&name).split(',').any(|had| had == *word)),
                );
                said.insert(name, words.join(","));
            }
            SUBTRACT => {
                words.retain(|word| !value.split(',').any(|gone| gone == *word));
                said.insert(name, words.join(","));
            }
            other => {
                return Err((code::INVALID_REQUEST, format!("Operation {other} is not known.")));
            }
        }
    }
    Ok(said)
}

pub(crate) async fn list_resources(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: list_config_resources::Request,
) -> list_config_resources::Response {
    let wanted =
        |kind: i8| request.resource_types.is_empty() || request.resource_types.contains(&kind);
    let mut all: Vec<(i8, Str)> = Vec::new();
    if wanted(TOPIC) {
        all.extend(front.log.topics().iter().map(|topic| (TOPIC, topic.name.as_str().into())));
    }
    if wanted(BROKER) {
        all.push((BROKER, NODE.to_string().into()));
    }
    let config_resources = all
        .into_iter()
        .map(|(resource_type, resource_name)| list_config_resources::ConfigResource {
            resource_name,
            resource_type,
        })
        .collect();
    list_config_resources::Response {
        config_resources,
        ..list_config_resources::Response::default()
    }
}
