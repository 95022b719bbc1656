//! What `ms check` says beyond what loading must: habits that tend to end badly.
//!
//! The ten things to avoid in containers that Red Hat's engineers once listed, as far as files can
//! tell (what an image is made of cannot be seen here), and a few more. Not here: anything that
//! keeps an app from running; that is [`crate::load`]'s, whose findings come along. Lints never are
//! errors.

mod addresses;
mod credentials;
mod data;
mod images;
mod processes;
mod rights;

use std::collections::BTreeMap;

use base::ServiceName;

use crate::dockerfile::ImageRecipe;
use crate::load::{LoadOptions, build, resolve};
use crate::model::{App, Condition, Service, Test};
use crate::report::Report;
use crate::tree::Node;
use crate::{Files, Finding};

/// Everything that can be said about the files: errors first, then as it stands in them.
pub fn check(options: &LoadOptions, files: &dyn Files) -> Vec<Finding> {
    let mut resolved = resolve(options, files);
    if let Some(tree) = resolved.tree.take() {
        let built = build(options, files, &mut resolved, &tree);
        credentials::in_file(&tree, &mut resolved.report);
        addresses::check(&tree, &mut resolved.report);
        if let Some((app, recipes)) = built {
            lint(&app, &recipes, &tree, &mut resolved.report);
        }
    }
    resolved.report.into_findings()
}

fn lint(app: &App, recipes: &BTreeMap<ServiceName, ImageRecipe>, tree: &Node, report: &mut Report) {
    for service in app.services.values() {
        let recipe = recipes.get(&service.name);
        images::versions(service, recipe, tree, report);
        images::pieces(service, &app.project_dir, report);
        data::inside(service, report);
        processes::check(service, recipe, report);
        rights::check(service, report);
        if let (Some(recipe), Some(build)) = (recipe, &service.build) {
            credentials::in_image(service, &build.place, recipe, report);
        }
        many_behind_one_port(service, report);
    }
    unchecked_dependencies(app, report);
    data::shared(app, report);
    rights::roots(app, recipes, report);
    unlimited(app, report);
}

/// The names of services in a row, at most five of them.
fn names(services: &[&Service]) -> String {
    let names: Vec<String> = services.iter().take(5).map(|s| format!("`{}`", s.name)).collect();
    match services.len() {
        0..=5 => names.join(", "),
        n => format!("{} and {} more", names.join(", "), n - 5),
    }
}

fn many_behind_one_port(service: &Service, report: &mut Report) {
    let published = service.ports.iter().find(|p| p.published.is_some());
    if let Some(port) = published.filter(|_| service.replicas > 1) {
        let what = format!("service `{}` publishes a port with several replicas", service.name);
        let finding = Finding::note("port-replicas", what).at(&port.place);
        let cause = "here requests are balanced over them; Docker Compose would refuse to start";
        report.push(finding.cause(cause).next("nothing to do, unless Docker runs the file too"));
    }
}

fn unchecked_dependencies(app: &App, report: &mut Report) {
    for service in app.services.values() {
        for dependency in &service.depends_on {
            let on = &app.services[&dependency.service];
            let checked = on.healthcheck.as_ref().is_some_and(|h| h.test != Test::None);
            if dependency.condition == Condition::ServiceStarted && !checked {
                let what = format!(
                    "`{}` depends on `{}`, which has no health check",
                    service.name, on.name
                );
                let finding = Finding::warning("dependency-unchecked", what).at(&dependency.place);
                let cause = "a program that was started need not be ready yet";
                let next =
                    format!("add `healthcheck:` to `{}` and wait for `service_healthy`", on.name);
                report.push(finding.cause(cause).next(next));
            }
        }
    }
}

/// One note for all services: it is a habit, not a slip of one of them.
fn unlimited(app: &App, report: &mut Report) {
    let free: Vec<&Service> =
        app.services.values().filter(|s| s.limits.memory_bytes.is_none()).collect();
    let Some(first) = free.first() else { return };
    let what = format!("no memory limit: {}", names(&free));
    let finding = Finding::note("no-memory-limit", what).at(&first.place);
    let cause = "one that leaks takes the memory of the others";
    report.push(finding.cause(cause).next("add `deploy: {resources: {limits: {memory: 512m}}}`"));
}
