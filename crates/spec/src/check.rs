//! What `ms check` says beyond what loading must: habits that tend to end badly.
//!
//! Not here: anything that keeps an app from running; that is [`crate::load`]'s, whose findings
//! come along. Lints never are errors.

use std::collections::BTreeMap;

use base::ServiceName;

use crate::dockerfile::ImageRecipe;
use crate::load::{LoadOptions, build, resolve};
use crate::model::{App, Condition, MountKind, Service, Test};
use crate::report::Report;
use crate::tree::{Node, Scalar, Value};
use crate::{Files, Finding};

/// Everything that can be said about the files: errors first, then as it stands in them.
pub fn check(options: &LoadOptions, files: &dyn Files) -> Vec<Finding> {
    let mut resolved = resolve(options, files);
    if let Some(tree) = resolved.tree.take() {
        let built = build(options, files, &mut resolved, &tree);
        credentials(&tree, &mut resolved.report);
        if let Some((app, recipes)) = built {
            lint(&app, &recipes, &tree, &mut resolved.report);
        }
    }
    resolved.report.into_findings()
}

fn lint(app: &App, recipes: &BTreeMap<ServiceName, ImageRecipe>, tree: &Node, report: &mut Report) {
    for service in app.services.values() {
        images(service, recipes.get(&service.name), tree, report);
        docker_socket(service, report);
        many_behind_one_port(service, report);
    }
    unchecked_dependencies(app, report);
    shared_volumes(app, report);
    unlimited(app, report);
}

/// A tag that moves, or none: the same file gives another program tomorrow.
fn images(service: &Service, recipe: Option<&ImageRecipe>, tree: &Node, report: &mut Report) {
    let moving = |image: &str| {
        let name = crate::stand_in::name(image);
        !image.contains('@') && (name.len() == image.len() || image.ends_with(":latest"))
    };
    let cause = "what it names changes over time, so a release cannot be repeated";
    let node = tree.get("services").and_then(|s| s.get(service.name.as_str()));
    let node = node.and_then(|s| s.get("image"));
    let run = service.build.is_none() && !service.extension.native;
    if let (Some(image), Some(node)) = (&service.image, node)
        && run
        && moving(image)
    {
        let what =
            format!("service `{}` names the image `{image}` without a version", service.name);
        let next = format!("name one: `{}:1.2`", crate::stand_in::name(image));
        report.warn("image-no-version", node.at, what, cause, next);
    }
    let base = recipe.map(|r| r.base.as_str()).filter(|b| *b != "scratch" && moving(b));
    if let (Some(base), Some(build)) = (base, &service.build) {
        let what = format!("the Dockerfile of `{}` begins with `{base}`", service.name);
        let finding = Finding::warning("image-no-version", what).at(&build.place);
        report.push(finding.cause(cause).next(format!("name a version: `FROM {base}:1.2`")));
    }
}

fn docker_socket(service: &Service, report: &mut Report) {
    for mount in &service.volumes {
        if let MountKind::Bind { source, .. } = &mount.kind
            && source.ends_with("docker.sock")
        {
            let what = format!("service `{}` mounts Docker's socket", service.name);
            let finding = Finding::warning("docker-socket", what).at(&mount.place);
            let cause = "whoever can write to it is root on this host, and Mainspring does not \
                         answer there";
            report.push(finding.cause(cause).next("remove the mount"));
        }
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

fn shared_volumes(app: &App, report: &mut Report) {
    let mut writers: BTreeMap<&str, &ServiceName> = BTreeMap::new();
    for service in app.services.values() {
        for mount in service.volumes.iter().filter(|m| !m.read_only) {
            let MountKind::Named { name } = &mount.kind else { continue };
            let first = *writers.entry(name).or_insert(&service.name);
            if *first != service.name {
                let what = format!(
                    "services `{first}` and `{}` both write to the volume `{name}`",
                    service.name
                );
                let finding = Finding::warning("volume-shared", what).at(&mount.place);
                let cause = "two programs that write the same files rarely know of each other";
                report
                    .push(finding.cause(cause).next("give each its own, or mount one with `:ro`"));
            }
        }
    }
}

/// One note for all services: it is a habit, not a slip of one of them.
fn unlimited(app: &App, report: &mut Report) {
    let free: Vec<&Service> =
        app.services.values().filter(|s| s.limits.memory_bytes.is_none()).collect();
    let Some(first) = free.first() else { return };
    let names: Vec<String> = free.iter().take(5).map(|s| format!("`{}`", s.name)).collect();
    let more = if free.len() > 5 { format!(" and {} more", free.len() - 5) } else { String::new() };
    let what = format!("no memory limit: {}{more}", names.join(", "));
    let finding = Finding::note("no-memory-limit", what).at(&first.place);
    let cause = "one that leaks takes the memory of the others";
    report.push(finding.cause(cause).next("add `deploy: {resources: {limits: {memory: 512m}}}`"));
}

/// Secrets that stand in the file, found in the tree because the model no longer knows whether a
/// value was written or filled in.
fn credentials(tree: &Node, report: &mut Report) {
    let Some(services) = tree.get("services") else { return };
    for service in services.entries() {
        let build_args = service.node.get("build").and_then(|b| b.get("args"));
        let environment = service.node.get("environment");
        for map in [environment, build_args].into_iter().flatten() {
            let pairs = crate::merge::pairs(map.clone());
            for entry in pairs.entries() {
                let Value::Scalar(scalar) = &entry.node.value else { continue };
                if is_credential(&entry.key, scalar) {
                    let what =
                        format!("`{}` of service `{}` stands in the file", entry.key, service.key);
                    let place = report.place(entry.at);
                    let finding = Finding::warning("credential-literal", what).at(&place);
                    let cause = "whoever reads the file, or its history, has the secret";
                    let next = format!("write `${{{0}}}` and keep the value in .env", entry.key);
                    report.push(finding.cause(cause).next(next));
                }
            }
        }
    }
}

fn is_credential(key: &str, value: &Scalar) -> bool {
    if !value.literal || value.text.is_empty() {
        return false;
    }
    let key = key.to_ascii_uppercase();
    let words: Vec<&str> = key.split(['_', '-', '.']).collect();
    let secret = |w: &&str| {
        matches!(*w, "PASSWORD" | "PASSWD" | "PASSPHRASE" | "SECRET" | "TOKEN" | "APIKEY")
            || w.ends_with("PASSWORD")
    };
    let last = words.last().copied().unwrap_or_default();
    let key_of = ["API", "SECRET", "PRIVATE", "ACCESS", "ENCRYPTION", "SIGNING", "MASTER"];
    let is_key = last == "KEY" && words.iter().any(|w| key_of.contains(w));
    // A file's name, a switch or a number is no secret, whatever its key is called.
    let pointer =
        matches!(last, "FILE" | "PATH" | "URL" | "TTL" | "EXPIRY" | "LENGTH" | "NAME" | "ID");
    let harmless =
        matches!(value.text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no");
    if (is_key || words.iter().any(secret)) && !pointer && !harmless {
        return true;
    }
    crate::mask::url_password(&value.text).is_some()
}
