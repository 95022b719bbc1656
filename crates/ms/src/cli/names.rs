//! Names of services as people typed them, checked against the app that runs.

use std::collections::BTreeSet;
use std::path::Path;

use base::Problem;
use console::wire::{Overview, ServiceView};

use super::api::Client;
use super::stop::{Outcome, Stop};

/// The services that were named, in the overview's order; all of them when none was.
///
/// # Errors
/// `service-unknown` for a name that the app does not have.
pub(crate) fn select<'a>(
    overview: &'a Overview,
    names: &[String],
) -> Outcome<Vec<&'a ServiceView>> {
    for name in names {
        if !overview.services.iter().any(|service| service.name.as_str() == name) {
            return Err(unknown(overview, name));
        }
    }
    let named = |service: &&ServiceView| {
        names.is_empty() || names.iter().any(|name| service.name.as_str() == name)
    };
    Ok(overview.services.iter().filter(named).collect())
}

/// Instances of what was named, which is services or instances.
pub(crate) async fn instances(client: &Client, names: &[String]) -> Outcome<Vec<String>> {
    let overview = client.overview().await?;
    let mut found = Vec::new();
    for name in names {
        let known = overview.services.iter().any(|service| {
            let is_instance =
                || name.parse().is_ok_and(|id: base::InstanceId| *id.service() == service.name);
            service.name.as_str() == name || is_instance()
        });
        if !known {
            return Err(unknown(&overview, name));
        }
    }
    for service in &overview.services {
        let service_named = names.is_empty() || names.iter().any(|n| n == service.name.as_str());
        let ids = service.instances.iter().map(|instance| instance.id.to_string());
        found.extend(ids.filter(|id| service_named || names.contains(id)));
    }
    Ok(found)
}

/// Instances of what was named that have a folder in `logs`, where each wrote its output.
pub(crate) fn written(logs: &Path, names: &[String]) -> Outcome<Vec<String>> {
    let folders = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let all: BTreeSet<base::InstanceId> =
        folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect();
    let is =
        |id: &base::InstanceId, name: &str| id.service().as_str() == name || id.to_string() == name;
    for name in names {
        if !all.iter().any(|id| is(id, name)) {
            let problem = Problem::new("service-unknown", format!("no output of `{name}`"))
                .with_cause(format!("nothing of that name is in {}", logs.display()))
                .with_next("start the app first: ms up -d");
            return Err(Stop::usage(problem));
        }
    }
    let named = |id: &&base::InstanceId| names.is_empty() || names.iter().any(|name| is(id, name));
    Ok(all.iter().filter(named).map(ToString::to_string).collect())
}

fn unknown(overview: &Overview, name: &str) -> Stop {
    let known: Vec<&str> = overview.services.iter().map(|s| s.name.as_str()).collect();
    let next = match known.as_slice() {
        [] => "start the app first: ms up -d".to_owned(),
        known => format!("use one of: {}", known.join(", ")),
    };
    let app = overview.status.app.as_deref().unwrap_or("the app");
    let problem = Problem::new("service-unknown", format!("no service `{name}`"))
        .with_cause(format!("{app} has no service or instance of that name"))
        .with_next(next);
    Stop::usage(problem)
}
