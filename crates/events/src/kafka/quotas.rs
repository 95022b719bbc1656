//! Quotas, shown and changed, and their effect on a connection.
//!
//! Not here: what they come to (`security::quotas`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use kafka_wire::{
    RequestHeader, Str, alter_client_quotas as alteration, describe_client_quotas as description,
};

use super::errors::{self, code};
use super::{Front, Session};
use crate::security::acls::Operation;
use crate::security::quotas::{Entity, Measure, Name, RULES_MAX, Values};

/// The protocol's names of the parts of an entity.
const PARTS: [&str; 3] = ["user", "client-id", "ip"];

fn part<'a>(entity: &'a mut Entity, name: &str) -> Option<&'a mut Option<Name>> {
    match name {
        "user" => Some(&mut entity.user),
        "client-id" => Some(&mut entity.client),
        "ip" => Some(&mut entity.ip),
        _ => None,
    }
}

fn parts(entity: &Entity) -> impl Iterator<Item = (&'static str, Option<&Name>)> {
    let parts = [entity.user.as_ref(), entity.client.as_ref(), entity.ip.as_ref()];
    PARTS.into_iter().zip(parts)
}

/// What a client waits, in the protocol's unit.
pub(crate) fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
}

impl Front {
    /// Counts what a session used, and makes it silent if that was too much.
    pub(crate) fn took(
        &self,
        session: &Session,
        client_id: Option<&Str>,
        measure: Measure,
        amount: f64,
    ) -> Duration {
        let client_id = client_id.map_or("", Str::as_str);
        self.guard.took(session, client_id, measure, amount)
    }
}

impl Front {
    /// Counts partitions that are made or deleted. A client that knows of it (`strict`) is told to
    /// come back later; one that does not is made to wait after.
    pub(crate) fn may_change_partitions(
        &self,
        session: &Session,
        client_id: Option<&Str>,
        partitions: usize,
        strict: bool,
    ) -> Result<(), i16> {
        let client_id = client_id.map_or("", Str::as_str);
        let measure = Measure::ControllerMutationRate;
        if !strict {
            self.guard.took(session, client_id, measure, partitions as f64);
            return Ok(());
        }
        let took = self.guard.took_if_allowed(session, client_id, measure, partitions as f64);
        if took { Ok(()) } else { Err(code::THROTTLING_QUOTA_EXCEEDED) }
    }
}

/// Does something and tells how long it kept a thread busy, waiting left out.
pub(crate) async fn timed<T>(clock: &dyn Clock, work: impl Future<Output = T>) -> (T, Duration) {
    let (mut work, mut busy) = (std::pin::pin!(work), Duration::ZERO);
    std::future::poll_fn(|context| {
        let before = clock.steady();
        let polled = work.as_mut().poll(context);
        busy += clock.steady().since(before);
        polled.map(|done| (done, busy))
    })
    .await
}

/// How a part of an entity has to be.
enum Wanted {
    Is(Name),
    Any,
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: description::Request,
) -> description::Response {
    use description::{EntityData, EntryData, Response, ValueData};
    let wanted = match wanted(&request) {
        Ok(wanted) => wanted,
        Err((error_code, why)) => {
            let error_message = Some(why.into());
            return Response { error_code, error_message, ..Response::default() };
        }
    };
    let fits = |entity: &Entity| {
        parts(entity).all(|(name, is)| match (wanted.get(name), is) {
            (Some(Wanted::Is(name)), is) => is == Some(name),
            (Some(Wanted::Any), is) => is.is_some(),
            (None, is) => is.is_none() || !request.strict,
        })
    };
    let told = |(entity, values): (&Entity, &Values)| EntryData {
        entity: parts(entity)
            .filter_map(|(part, name)| {
                let entity_name = match name? {
                    Name::Default => None,
                    Name::Is(name) => Some(name.as_str().into()),
                };
                Some(EntityData { entity_type: part.into(), entity_name })
            })
            .collect(),
        values: values
            .iter()
            .map(|(measure, value)| ValueData { key: measure.name().into(), value: *value })
            .collect(),
    };
    let entries = front.guard.quotas(|quotas| {
        quotas.rules().iter().filter(|(entity, _)| fits(entity)).map(told).collect()
    });
    Response { entries: Some(entries), ..Response::default() }
}

fn wanted(request: &description::Request) -> Result<BTreeMap<&str, Wanted>, (i16, String)> {
    let mut all = BTreeMap::new();
    for one in &request.components {
        let kind = one.entity_type.as_str();
        if !PARTS.contains(&kind) {
            let why = format!("Custom entity type '{kind}' not supported");
            return Err((code::UNSUPPORTED_VERSION, why));
        }
        let wanted = match (one.match_type, &one.r#match) {
            (0, Some(name)) => Wanted::Is(Name::Is(name.to_string())),
            (1, None) => Wanted::Is(Name::Default),
            (2, None) => Wanted::Any,
            (other, _) => {
                let why = format!("Match type {other} is not known, or says too much or little.");
                return Err((code::INVALID_REQUEST, why));
            }
        };
        if all.insert(kind, wanted).is_some() {
            let why = format!("Entity filter component contains duplicate entity type {kind}");
            return Err((code::INVALID_REQUEST, why));
        }
    }
    Ok(all)
}

pub(crate) async fn alter(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: alteration::Request,
) -> alteration::Response {
    use alteration::{EntityData, EntryDataResult, Response};
    let may = front.may_cluster(session, Operation::AlterConfigs);
    let mut changes: BTreeMap<Entity, Values> = BTreeMap::new();
    let checked: Vec<Result<(), (i16, String)>> = request
        .entries
        .iter()
        .map(|entry| {
            if !may {
                let why = "Cluster authorization failed.".to_owned();
                return Err((code::CLUSTER_AUTHORIZATION_FAILED, why));
            }
            let entity = entity(&entry.entity)?;
            let before = changes.get(&entity).cloned();
            let before = before.unwrap_or_else(|| {
                front
                    .guard
                    .quotas(|quotas| quotas.rules().get(&entity).cloned().unwrap_or_default())
            });
            let values = changed(&entity, before, &entry.ops)?;
            changes.insert(entity, values);
            Ok(())
        })
        .collect();
    let kept = if request.validate_only || changes.is_empty() {
        Ok(())
    } else if front.guard.quotas(|quotas| quotas.len()) + changes.len() > RULES_MAX {
        Err((code::POLICY_VIOLATION, format!("{RULES_MAX} quotas are the most.")))
    } else {
        let kept = front.guard.set_quotas(changes).await;
        kept.map_err(|error| (errors::of_store(&error), error.to_string()))
    };
    let entries = request.entries.into_iter().zip(checked).map(|(entry, checked)| {
        let done = checked.and_then(|()| kept.clone());
        let (error_code, why) = done.err().map_or((0, None), |(error, why)| (error, Some(why)));
        let entity = entry
            .entity
            .into_iter()
            .map(|one| EntityData { entity_type: one.entity_type, entity_name: one.entity_name });
        EntryDataResult { error_code, error_message: why.map(Into::into), entity: entity.collect() }
    });
    Response { entries: entries.collect(), ..Response::default() }
}

fn entity(said: &[alteration::EntityData]) -> Result<Entity, (i16, String)> {
    let mut entity = Entity::default();
    for one in said {
        let Some(part) = part(&mut entity, &one.entity_type) else {
            let why = format!("Unhandled client quota entity type: {}", one.entity_type);
            return Err((code::INVALID_REQUEST, why));
        };
        let name = match &one.entity_name {
            None => Name::Default,
            Some(name) if name.is_empty() => {
                let why = format!("Empty {} not supported", one.entity_type);
                return Err((code::INVALID_REQUEST, why));
            }
            Some(name) => Name::Is(name.to_string()),
        };
        if part.replace(name).is_some() {
            let why = format!("Duplicate client quota entity type: {}", one.entity_type);
            return Err((code::INVALID_REQUEST, why));
        }
    }
    let named = [&entity.user, &entity.client, &entity.ip];
    if let Some(Some(Name::Is(ip))) = named.get(2)
        && ip.parse::<std::net::IpAddr>().is_err()
    {
        return Err((code::INVALID_REQUEST, format!("{ip} is not a valid IP or resolvable host.")));
    }
    Ok(entity)
}

fn changed(
    entity: &Entity,
    mut values: Values,
    changes: &[alteration::OpData],
) -> Result<Values, (i16, String)> {
    for change in changes {
        let Some(measure) = Measure::named(&change.key) else {
            let why = format!("Invalid configuration key {}", change.key);
            return Err((code::INVALID_REQUEST, why));
        };
        let value = if change.remove { 1.0 } else { change.value };
        entity.check(measure, value).map_err(|why| (code::INVALID_REQUEST, why))?;
        match change.remove {
            true => values.remove(&measure),
            false => values.insert(measure, change.value),
        };
    }
    Ok(values)
}
