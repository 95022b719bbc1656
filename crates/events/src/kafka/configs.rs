//! Settings, described and changed.
//!
//! Not here: which there are (`engine::config`, `node_settings`, `settings`).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire::{
    RequestHeader, Str, alter_configs, describe_configs, incremental_alter_configs,
    list_config_resources,
};

use super::errors::{self, code};
use super::node_settings::{self, Effect, NODE_SETTINGS, NodeSetting};
use super::settings::{CLIENT_METRICS, DEAD_LETTERS, GROUPS, NODES, Refused, Said, of_kind};
use super::{Front, NODE, Session};
use crate::engine::config::{self, Kind};
use crate::engine::log::{Topic, TopicError};

const TOPIC: i8 = 2;
/// Levels of Java's logs, which are not here.
const LOGGERS: i8 = 8;

/// Who said a value.
mod source {
    pub(super) const TOPIC: i8 = 1;
    pub(super) const NODE: i8 = 2;
    pub(super) const ALL_NODES: i8 = 3;
    pub(super) const STATIC: i8 = 4;
    pub(super) const DEFAULT: i8 = 5;
    pub(super) const CLIENT_METRICS: i8 = 7;
    pub(super) const GROUP: i8 = 8;
}

type Failed = (i16, String);

/// A setting as it is described.
struct Told {
    name: &'static str,
    kind: i8,
    about: String,
    may_change: bool,
    /// Every value that is said, with the name it is said by; the first holds.
    values: Vec<(i8, &'static str, String)>,
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: describe_configs::Request,
) -> describe_configs::Response {
    use describe_configs::{
        DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym, Response,
    };
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    let told = |one: Told| {
        let holds = one.values.first().cloned();
        let all = one.values.into_iter().filter(|_| synonyms);
        let all = all.map(|(source, name, value)| DescribeConfigsSynonym {
            name: name.into(),
            value: Some(value.into()),
            source,
        });
        DescribeConfigsResourceResult {
            name: one.name.into(),
            config_source: holds.as_ref().map_or(source::DEFAULT, |(source, ..)| *source),
            value: holds.map(|(.., value)| value.into()),
            read_only: !one.may_change,
            is_sensitive: false,
            synonyms: all.collect(),
            config_type: one.kind,
            documentation: documentation.then(|| one.about.into()),
        }
    };
    let results = request.resources.into_iter().map(|asked| {
        let wanted = |one: &Told| match &asked.configuration_keys {
            Some(keys) if !keys.is_empty() => keys.iter().any(|key| *key == one.name),
            _ => true,
        };
        let found = all_of(front, asked.resource_type, &asked.resource_name);
        let (configs, error) = match found {
            Ok(all) => (all.into_iter().filter(wanted).map(told).collect(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let (error_code, why) = error.map_or((0, None), |(error, why)| (error, Some(why)));
        DescribeConfigsResult {
            error_code,
            error_message: why.map(Into::into),
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            configs,
        }
    });
    Response { results: results.collect(), ..Response::default() }
}

/// Every setting of a resource.
fn all_of(front: &Front, kind: i8, name: &Str) -> Result<Vec<Told>, Failed> {
    match kind {
        TOPIC => {
            let topic = topic_of(front, name)?;
            Ok(config::SETTINGS.iter().map(|setting| of_topic(front, &topic, setting)).collect())
        }
        NODES => {
            let node = node_of(name)?;
            Ok(NODE_SETTINGS.iter().filter_map(|setting| of_node(front, node, setting)).collect())
        }
        LOGGERS => node_of(name).map(|_| Vec::new()),
        GROUPS | CLIENT_METRICS => {
            check_name(kind, name)?;
            let said = front.settings.said(kind, name);
            let own = if kind == GROUPS { source::GROUP } else { source::CLIENT_METRICS };
            let told = of_kind(kind).iter().map(|setting| {
                let own = said.get(setting.name).map(|value| (own, setting.name, value.clone()));
                let default = (source::DEFAULT, setting.name, setting.default.to_owned());
                Told {
                    name: setting.name,
                    kind: type_of(setting.kind),
                    about: setting.about.to_owned(),
                    may_change: true,
                    values: own.into_iter().chain([default]).collect(),
                }
            });
            Ok(told.collect())
        }
        other => Err(unknown(other)),
    }
}

fn unknown(kind: i8) -> Failed {
    (code::INVALID_REQUEST, format!("Resources of type {kind} have no settings here."))
}

fn check_name(kind: i8, name: &Str) -> Result<(), Failed> {
    let what = if kind == GROUPS { "group" } else { "client metrics subscription" };
    let why = || format!("A {what} has a name.");
    if name.is_empty() { Err((code::INVALID_REQUEST, why())) } else { Ok(()) }
}

/// The node by its name; nothing for what is said of all.
fn node_of(name: &Str) -> Result<Option<i32>, Failed> {
    match name.parse() {
        _ if name.is_empty() => Ok(None),
        Ok(NODE) => Ok(Some(NODE)),
        _ => {
            let why = format!("Unexpected broker id, expected {NODE}, but received {name}");
            Err((code::INVALID_REQUEST, why))
        }
    }
}

fn topic_of(front: &Front, name: &Str) -> Result<Arc<Topic>, Failed> {
    let why = || format!("The topic '{name}' does not exist.");
    front.log.topic(name).ok_or_else(|| (code::UNKNOWN_TOPIC_OR_PARTITION, why()))
}

fn of_topic(front: &Front, topic: &Topic, setting: &config::Setting) -> Told {
    let own = topic.config().said.get(setting.name).cloned();
    let mut values: Vec<_> =
        own.into_iter().map(|value| (source::TOPIC, setting.name, value)).collect();
    // What the node says, by the name that the setting has there.
    let node = node_settings::of_topic(setting.name);
    values.extend(said_of_node(front, Some(NODE), node.unwrap_or_default()));
    let at_start = front.settings.started_with().topic_defaults.get(setting.name);
    values.extend(
        at_start.map(|value| (source::STATIC, node.unwrap_or(setting.name), value.clone())),
    );
    let name = node.unwrap_or(setting.name);
    values.push((source::DEFAULT, name, setting.default.to_owned()));
    let about = setting.about.to_owned();
    Told { name: setting.name, kind: type_of(setting.kind), about, may_change: true, values }
}

/// What was said at run time, of this node and of all.
fn said_of_node(
    front: &Front,
    node: Option<i32>,
    name: &'static str,
) -> impl Iterator<Item = (i8, &'static str, String)> {
    let own = node.map(|node| (source::NODE, node.to_string()));
    let all = own.into_iter().chain([(source::ALL_NODES, String::new())]);
    let said = all.filter_map(|(source, node)| {
        let value = front.settings.said(NODES, &node).get(name).cloned()?;
        Some((source, name, value))
    });
    said.collect::<Vec<_>>().into_iter()
}

/// `None` for what nobody said of all nodes together.
fn of_node(front: &Front, node: Option<i32>, setting: &NodeSetting) -> Option<Told> {
    let mut values: Vec<_> = said_of_node(front, node, setting.name).collect();
    if node.is_none() && values.is_empty() {
        return None;
    }
    let options = front.settings.started_with();
    let fixed = "It is so here, and cannot be changed.";
    let (at_start, default, about) = match setting.effect {
        Effect::None => (None, setting.default, "Nothing here depends on it."),
        Effect::Always => (Some(setting.default.to_owned()), setting.default, fixed),
        Effect::Topic(name) => {
            let found = config::find(name);
            let about = found.map_or("", |found| found.about);
            let at_start = options.topic_defaults.get(name).cloned();
            (at_start, found.map_or("", |found| found.default), about)
        }
        Effect::AutoCreate => {
            let about = "Whether a topic that somebody asks for is made.";
            (Some(options.auto_create.to_string()), "true", about)
        }
        Effect::Partitions => {
            let about = "Partitions of a topic that does not say how many.";
            (Some(options.partitions.to_string()), "1", about)
        }
        Effect::OffsetsRetention => {
            let about = "How long offsets of a group without members are kept.";
            let minutes = options.offsets_retention.as_secs() / 60;
            (Some(minutes.to_string()), setting.default, about)
        }
    };
    if node.is_some() {
        values.extend(at_start.map(|value| (source::STATIC, setting.name, value)));
        values.push((source::DEFAULT, setting.name, default.to_owned()));
    }
    Some(Told {
        name: setting.name,
        kind: setting.kind,
        about: about.to_owned(),
        may_change: !matches!(
            setting.effect,
            Effect::None | Effect::Always | Effect::OffsetsRetention
        ),
        values,
    })
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

pub(crate) async fn alter(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: alter_configs::Request,
) -> alter_configs::Response {
    let mut response = alter_configs::Response::default();
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let said: Result<Said, Failed> = resource
            .configs
            .iter()
            .map(|config| match &config.value {
                Some(value) => Ok((config.name.to_string(), value.to_string())),
                None => Err(no_value(&config.name)),
            })
            .collect();
        let done = match said {
            Ok(said) => set(front, kind, name, said, request.validate_only).await,
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
        let done = match changed(front, kind, name, &resource.configs) {
            Ok(said) => set(front, kind, name, said, request.validate_only).await,
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

fn no_value(name: &Str) -> Failed {
    (code::INVALID_CONFIG, format!("Null value not supported for : {name}"))
}

/// Says all that holds of a resource.
async fn set(
    front: &Front,
    kind: i8,
    name: &Str,
    said: Said,
    validate_only: bool,
) -> Result<(), Failed> {
    let refused = |error: Refused| match error {
        Refused::Config(why) => (code::INVALID_CONFIG, why),
        Refused::Store(error) => (errors::of_store(&error), error.to_string()),
    };
    match kind {
        TOPIC => {
            let topic = topic_of(front, name)?;
            if validate_only {
                let checked = said.iter().try_for_each(|(name, value)| config::check(name, value));
                return checked.map_err(|why| (code::INVALID_CONFIG, why));
            }
            let done = front.log.configure(&topic, said).await;
            done.map_err(|error| (errors::of_topic(&error), error.to_string()))
        }
        NODES | GROUPS | CLIENT_METRICS => {
            match kind {
                NODES => drop(node_of(name)?),
                kind => check_name(kind, name)?,
            }
            if validate_only {
                return front.settings.check(kind, name, &said).map_err(refused);
            }
            let letters = said.get(DEAD_LETTERS).filter(|_| kind == GROUPS).cloned();
            front.settings.set(kind, name, said).await.map_err(refused)?;
            match letters.filter(|letters| !letters.trim().is_empty()) {
                Some(letters) => make_letters(front, letters.trim()).await,
                None => Ok(()),
            }
        }
        LOGGERS => {
            let why = "There are no loggers whose level could be set.";
            Err((code::INVALID_REQUEST, why.to_owned()))
        }
        other => Err(unknown(other)),
    }
}

/// What is said of a resource after some changes.
fn changed(
    front: &Front,
    kind: i8,
    name: &Str,
    changes: &[incremental_alter_configs::AlterableConfig],
) -> Result<BTreeMap<String, String>, Failed> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    const LIST: i8 = 7;
    let mut said = match kind {
        TOPIC => topic_of(front, name)?.config().said.clone(),
        _ => Said::clone(&front.settings.said(kind, name)),
    };
    let before = all_of(front, kind, name)?;
    let mut seen = std::collections::HashSet::new();
    for change in changes {
        let setting = change.name.to_string();
        if !seen.insert(setting.clone()) {
            let why = format!("Error due to duplicate config keys: {setting}");
            return Err((code::INVALID_REQUEST, why));
        }
        let found = before.iter().find(|one| one.name == setting);
        let holds = found.and_then(|one| one.values.first()).map_or("", |(.., value)| value);
        let is_list = found.is_some_and(|one| {
            // Two of a topic's are lists of no fixed words.
            one.kind == LIST || setting.ends_with(".replicas")
        });
        let value = change.value.as_ref();
        let mut words: Vec<&str> = holds.split(',').filter(|word| !word.is_empty()).collect();
        match (change.config_operation, value) {
            (DELETE, _) => {
                said.remove(&setting);
            }
            (SET, Some(value)) => {
                said.insert(setting, value.to_string());
            }
            (APPEND | SUBTRACT, _) if !is_list => {
                let why = format!("{setting} is no list: it can be set, and not added to.");
                return Err((code::INVALID_CONFIG, why));
            }
            (APPEND, Some(value)) => {
                let more =
                    value.split(',').filter(|word| !holds.split(',').any(|had| had == *word));
                words.extend(more);
                said.insert(setting, words.join(","));
            }
            (SUBTRACT, Some(value)) => {
                words.retain(|word| !value.split(',').any(|gone| gone == *word));
                said.insert(setting, words.join(","));
            }
            (SET | APPEND | SUBTRACT, None) => return Err(no_value(&change.name)),
            (other, _) => {
                return Err((code::INVALID_REQUEST, format!("Operation {other} is not known.")));
            }
        }
    }
    Ok(said)
}

pub(crate) async fn list_resources(
    front: &Arc<Front>,
    _: &Arc<Session>,
    header: &RequestHeader,
    request: list_config_resources::Request,
) -> list_config_resources::Response {
    use list_config_resources::{ConfigResource, Response};
    const ALL: [i8; 5] = [TOPIC, NODES, LOGGERS, CLIENT_METRICS, GROUPS];
    // The first version is about clients' metrics alone.
    let kinds = match header.version {
        0 => vec![CLIENT_METRICS],
        _ if request.resource_types.is_empty() => ALL.to_vec(),
        _ => request.resource_types,
    };
    let mut config_resources = Vec::new();
    for kind in kinds {
        let names = match kind {
            TOPIC => front.log.topics().iter().map(|topic| topic.name.clone()).collect(),
            NODES | LOGGERS => vec![NODE.to_string()],
            CLIENT_METRICS | GROUPS => front.settings.names(kind),
            _ => {
                let error_code = code::UNSUPPORTED_VERSION;
                return Response { error_code, ..Response::default() };
            }
        };
        config_resources.extend(
            names
                .into_iter()
                .map(|name| ConfigResource { resource_name: name.into(), resource_type: kind }),
        );
    }
    Response { config_resources, ..Response::default() }
}

/// Makes a topic of dead letters where there is none, as topics are made that somebody writes to.
async fn make_letters(front: &Front, name: &str) -> Result<(), (i16, String)> {
    if !front.log.options().auto_create || front.log.topic(name).is_some() {
        return Ok(());
    }
    let takes = ("errors.deadletterqueue.group.enable".to_owned(), "true".to_owned());
    let partitions = front.log.options().partitions;
    match front.log.create(name, front.new_id(), partitions, [takes].into()).await {
        Ok(_) | Err(TopicError::Exists(_)) => Ok(()),
        Err(error) => Err((errors::of_topic(&error), error.to_string())),
    }
}
