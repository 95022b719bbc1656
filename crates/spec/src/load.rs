//! The way from files to an [`App`]: read, interpolate, merge, read each service, then check what
//! only shows when all of them are known.

mod extends;
mod fill;
mod graph;
mod include;
mod layers;
mod references;
mod resolve;
mod top;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base::ServiceName;
pub(crate) use resolve::{Resolved, resolve};

use crate::dockerfile::{self, ImageRecipe};
use crate::env::Unreadable;
use crate::keys::{Remarks, Scope};
use crate::model::{
    App, Healthcheck, Part, PortProtocols, Protocol, Restart, Service, UpdateOrder,
};
use crate::read::{Kind, RawService, Reader};
use crate::suggest::nearest;
use crate::tree::{Node, Value};
use crate::{Files, Finding};

/// More services of one app than this are refused.
const SERVICES_MAX: usize = 1000;

/// What to load, and the world around it.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The Compose files, later ones on top of earlier ones. Places name them as they are here.
    pub files: Vec<PathBuf>,
    /// Where relative paths start; absolute. Without it, the folder of the first file, which must
    /// be absolute then.
    pub project_dir: Option<PathBuf>,
    /// Name of the app; before `COMPOSE_PROJECT_NAME`, `name:` and the folder's name.
    pub project_name: Option<String>,
    /// The shell's environment. It wins over environment files.
    pub env: BTreeMap<String, String>,
    /// `--env-file`. Without any, `.env` in the project folder is read when it is there.
    pub env_files: Vec<PathBuf>,
    /// `--profile`; `*` is all of them. Without any, `COMPOSE_PROFILES` holds.
    pub profiles: Vec<String>,
    /// Services that the command line names; this switches them on whatever their profile.
    pub services: Vec<String>,
}

/// An app, and what was noticed on the way: no errors among it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The app.
    pub app: App,
    /// What its Dockerfiles say, for the services that run from one.
    pub recipes: BTreeMap<ServiceName, ImageRecipe>,
    /// Warnings and notes.
    pub findings: Vec<Finding>,
}

/// Loads an app.
///
/// # Errors
/// Everything that was found when an error is among it: errors first, then as in the files.
pub fn load(options: &LoadOptions, files: &dyn Files) -> Result<Loaded, Vec<Finding>> {
    let mut resolved = resolve(options, files);
    let built = resolved.tree.take().and_then(|tree| build(options, files, &mut resolved, &tree));
    match built {
        Some((app, recipes)) if !resolved.report.failed() => {
            Ok(Loaded { app, recipes, findings: resolved.report.into_findings() })
        }
        _ => Err(resolved.report.into_findings()),
    }
}

type Built = (App, BTreeMap<ServiceName, ImageRecipe>);

/// The app of a resolved tree. Problems go into the report of `resolved`.
pub(crate) fn build(
    options: &LoadOptions,
    files: &dyn Files,
    resolved: &mut Resolved,
    tree: &Node,
) -> Option<Built> {
    let name = resolved.name.clone()?;
    let mut reader = Reader {
        report: &mut resolved.report,
        remarks: Remarks::default(),
        files,
        origins: &resolved.origins,
    };
    let mut raw_services = Vec::new();
    let mut volumes = BTreeMap::new();
    let mut networks = BTreeMap::new();
    let (mut secrets, mut configs) = (BTreeMap::new(), BTreeMap::new());
    for entry in reader.entries(Scope::Top, "the Compose file", tree) {
        match entry.key.as_str() {
            "services" => {
                if !matches!(entry.node.value, Value::Map(_)) {
                    reader.report.error(
                        "bad-type",
                        entry.at,
                        format!("`services` is {}", entry.node.kind()),
                        "it is a map from names to services",
                        "indent the services below it",
                    );
                }
                let each = entry.node.entries().iter().filter(|e| !e.key.starts_with("x-"));
                if each.clone().count() > SERVICES_MAX {
                    reader.report.error(
                        "too-many-services",
                        entry.at,
                        format!("the file has more than {SERVICES_MAX} services"),
                        "an app is bounded",
                        "split it into several apps",
                    );
                    return None;
                }
                raw_services = each.filter_map(|e| crate::read::service(&mut reader, e)).collect();
            }
            "volumes" => volumes = top::volumes(&mut reader, &entry.node, &name),
            "networks" => networks = top::networks(&mut reader, &entry.node, &name),
            "secrets" => secrets = reader.file_defs(&entry.node, Kind::Secret, &name),
            "configs" => configs = reader.file_defs(&entry.node, Kind::Config, &name),
            _ => {}
        }
    }
    let services = tree.get("services").map_or(&[][..], Node::entries);
    if services.iter().all(|entry| entry.key.starts_with("x-")) {
        reader.report.error(
            "no-services",
            tree.at,
            "the Compose file has no services",
            "an app is what its services are",
            "add `services:` with a service below it",
        );
    }
    let known: BTreeSet<ServiceName> =
        raw_services.iter().map(|raw| raw.service.name.clone()).collect();
    raw_services.retain(|raw| active(options, &reader.origins.project.env, &raw.service));
    named_services(&mut reader, options, &known);

    let mut services: BTreeMap<ServiceName, Service> = BTreeMap::new();
    let mut recipes = BTreeMap::new();
    let not_needed = not_needed(&mut reader, &raw_services);
    raw_services.retain(|raw| !not_needed.contains(&raw.service.name));
    for mut raw in raw_services {
        raw.service.depends_on.retain(|on| !not_needed.contains(&on.service));
        let recipe = if raw.service.uses_build() {
            recipe(&mut reader, &raw.service)
        } else {
            well_known(&raw.service)
        };
        complete(&mut reader, &mut raw, recipe.as_ref());
        runnable(&mut reader, &mut raw, recipe.as_ref());
        if let Some(recipe) = recipe {
            recipes.insert(raw.service.name.clone(), recipe);
        }
        services.insert(raw.service.name.clone(), raw.service);
    }
    graph::check(reader.report, &mut services, &known);
    references::volumes(reader.report, &services, &volumes);
    references::networks(reader.report, &services, &networks);
    references::inside(&mut services, &networks);
    references::files(reader.report, &mut services, &secrets, &configs);
    references::ports(reader.report, &services);
    references::names(reader.report, &services);
    references::apart(reader.report, &services);
    let remarks = std::mem::take(&mut reader.remarks);
    remarks.finish(reader.report);
    let app = App {
        name,
        project_dir: resolved.origins.project.dir.clone(),
        files: options.files.clone(),
        services,
        volumes,
        networks,
        secrets,
        configs,
    };
    Some((app, recipes))
}

fn active(options: &LoadOptions, env: &BTreeMap<String, String>, service: &Service) -> bool {
    let from_env = env.get("COMPOSE_PROFILES").map_or("", String::as_str);
    let from_env: Vec<&str> = from_env.split(',').map(str::trim).collect();
    let given: Vec<&str> = options.profiles.iter().map(String::as_str).collect();
    let wanted = if given.is_empty() { from_env } else { given };
    service.profiles.is_empty()
        || service.profiles.iter().any(|p| wanted.contains(&p.as_str()) || wanted.contains(&"*"))
        || options.services.iter().any(|s| s == service.name.as_str())
}

fn named_services(reader: &mut Reader<'_>, options: &LoadOptions, known: &BTreeSet<ServiceName>) {
    for name in options.services.iter().filter(|s| !known.contains(s.as_str())) {
        let next = match nearest(name, known.iter().map(ServiceName::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "ms config lists the services".to_owned(),
        };
        let finding = Finding::error("service-unknown", format!("there is no service `{name}`"));
        reader.report.push(finding.cause("the Compose file does not define it").next(next));
    }
}

/// What a well-known image says, which the machine's own program takes the place of.
fn well_known(service: &Service) -> Option<ImageRecipe> {
    let image = service.image.as_deref().filter(|_| !service.extension.native)?;
    crate::images::known(image).map(|_| crate::images::recipe(image))
}

/// What the Dockerfile of a service says. `None` when it cannot be read; the report says why.
fn recipe(reader: &mut Reader<'_>, service: &Service) -> Option<ImageRecipe> {
    let build = service.build.as_ref()?;
    let text = match &build.dockerfile_inline {
        Some(text) => text.clone(),
        None => match crate::env::text(reader.files, &build.dockerfile) {
            Ok(text) => text,
            Err(Unreadable { why, .. }) => {
                let path = reader.origins.shown(&build.dockerfile);
                let name = &service.name;
                let what = format!("cannot read {} to run `{name}`", path.display());
                let finding = Finding::error("dockerfile-unreadable", what).at(&build.place);
                reader.report.push(finding.cause(why).next(
                    "write it, or name it under `build.dockerfile`, or give the service a \
                     `command` and `x-mainspring: {native: true}`",
                ));
                return None;
            }
        },
    };
    let (shown, first_line) = match &build.dockerfile_inline {
        Some(_) => (build.place.file.clone(), build.place.line),
        None => (reader.origins.shown(&build.dockerfile), 0),
    };
    let parsed = dockerfile::parse(&text, &shown, first_line);
    let staged = parsed
        .and_then(|file| dockerfile::final_stage(&file, build.target.as_deref(), &build.args));
    match staged {
        Ok(recipe) => {
            recipe.findings.iter().for_each(|finding| reader.report.push(finding.clone()));
            Some(recipe)
        }
        Err(findings) => {
            findings.into_iter().for_each(|finding| reader.report.push(finding));
            None
        }
    }
}

/// Fills in what the image says and the file does not.
fn complete(reader: &mut Reader<'_>, raw: &mut RawService, recipe: Option<&ImageRecipe>) {
    let service = &mut raw.service;
    let from_image = recipe.and_then(|r| r.healthcheck.clone());
    service.healthcheck = match raw.health.take() {
        None => from_image,
        Some((raw, _)) if raw.has_test => Some(raw.check),
        // The test was said, and refused where it was read.
        Some((raw, _)) if raw.said.iter().any(|key| key == "test") => None,
        Some((raw, place)) => match from_image {
            Some(image) => {
                let said = |key: &str| raw.said.iter().any(|s| s == key);
                let own = raw.check;
                let either = |key, own, image| if said(key) { own } else { image };
                Some(Healthcheck {
                    test: image.test,
                    interval: either("interval", own.interval, image.interval),
                    timeout: either("timeout", own.timeout, image.timeout),
                    start_period: either("start_period", own.start_period, image.start_period),
                    start_interval: either(
                        "start_interval",
                        own.start_interval,
                        image.start_interval,
                    ),
                    retries: if said("retries") { own.retries } else { image.retries },
                })
            }
            // Without a test it still says how long its port may take to open.
            None if raw.said.iter().all(|key| key == "start_period") => Some(raw.check),
            None => {
                let what = format!("`healthcheck` of service `{}` has no `test`", service.name);
                let finding = Finding::error("healthcheck-no-test", what).at(&place);
                reader.report.push(
                    finding
                        .cause("there is nothing to run, and no image brings one along")
                        .next("add `test: curl -fs localhost:8080/health`, or what tells it here"),
                );
                None
            }
        },
    };
    let Some(recipe) = recipe else { return };
    if service.stop_signal.is_none() {
        service.stop_signal.clone_from(&recipe.stop_signal);
    }
    for port in &recipe.expose {
        let published = service.ports.iter().any(|p| (p.target, p.protocol) == *port);
        if !published && !service.expose.contains(port) {
            service.expose.push(*port);
        }
    }
}

/// Every service needs something to run.
fn runnable(reader: &mut Reader<'_>, raw: &mut RawService, recipe: Option<&ImageRecipe>) {
    let service = &mut raw.service;
    let name = &service.name;
    let says = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|w| !w.is_empty());
    let has_command = says(&service.command) || says(&service.entrypoint);
    if service.extension.engine.is_some() {
        let what = format!("`x-mainspring.engine` of service `{name}` leads nowhere yet");
        let finding = Finding::error("engine-later", what).at(&service.place);
        let cause = "real engines behind a name are not yet part of this version";
        reader.report.push(finding.cause(cause).next("give the others the engine's own address"));
    }
    let nothing = |place: &base::Place, next: &str| {
        Finding::error("nothing-to-run", format!("service `{name}` has nothing to run"))
            .at(place)
            .cause("it has neither a command nor a Dockerfile that has one")
            .next(next)
    };
    if service.uses_build() {
        if recipe.is_some_and(|r| dockerfile::run_command(service, Some(r)).is_empty()) {
            let next = "add CMD to the Dockerfile, or `command:` to the service";
            reader.report.push(nothing(&service.place, next));
        }
    } else if service.extension.native || service.image.is_none() {
        // A build that was said and refused is not told a second time.
        if !has_command && (service.extension.native || !raw.build_said) {
            let next = "add `command:`, or `build:` with a Dockerfile";
            reader.report.push(nothing(&service.place, next));
        }
    } else if let Some(recipe) = recipe {
        if dockerfile::run_command(service, Some(recipe)).is_empty() {
            let next = "add `command:`: the image has none";
            reader.report.push(nothing(&service.place, next));
        }
    } else if let Some(image) = &service.image {
        let place = raw.image_place.as_ref().unwrap_or(&service.place);
        service.stand_in = crate::stand_in::part(image);
        let finding = match service.stand_in {
            Some(Part::Events) => {
                let place = place.clone();
                for finding in stand_in(service) {
                    reader.report.push(finding.at(&place));
                }
                return;
            }
            Some(_) => Finding::error(
                "stand-in-later",
                format!(
                    "service `{name}`: the stand-in for `{image}` is not yet part of this version"
                ),
            )
            .cause(
                "images are not run, and the embedded part that takes its place is not built yet",
            )
            .next(
                "run it yourself, take the service out of the file and point the others at it, \
                 or give it a `command` and `x-mainspring: {native: true}`",
            ),
            None => Finding::error(
                "image-not-native",
                format!("service `{name}`: the image `{image}` cannot be run"),
            )
            .cause("services run on the host; images are not pulled or unpacked in this version")
            .next(
                "add `command:` and `x-mainspring: {native: true}` to run a program of the host, \
                 or `build:` with a Dockerfile",
            ),
        };
        reader.report.push(finding.at(place));
    }
}

/// Services that an embedded event log needs nothing of: ZooKeeper, beside a log that it would
/// keep the state of.
fn not_needed(reader: &mut Reader<'_>, all: &[RawService]) -> BTreeSet<ServiceName> {
    let image = |raw: &RawService| {
        let own = raw.service.image.clone();
        own.filter(|_| !raw.service.extension.native && !raw.service.uses_build())
    };
    let is_log = |raw: &RawService| {
        let part = image(raw).and_then(|image| crate::stand_in::part(&image));
        part == Some(Part::Events)
    };
    if !all.iter().any(is_log) {
        return BTreeSet::new();
    }
    let mut found = BTreeSet::new();
    for raw in all {
        let Some(image) = image(raw).filter(|image| crate::stand_in::is_zookeeper(image)) else {
            continue;
        };
        let name = raw.service.name.clone();
        let place = raw.image_place.as_ref().unwrap_or(&raw.service.place);
        let what = format!("service `{name}` is not started: nothing needs `{image}` here");
        let finding = Finding::warning("not-needed", what).at(place);
        let cause = "the event log that stands in for Kafka keeps its own state";
        reader.report.push(finding.cause(cause).next("leave it in for Docker, or take it out"));
        found.insert(name);
    }
    found
}

/// Makes of a service what an embedded event log needs. Returns what is left out.
fn stand_in(service: &mut Service) -> Vec<Finding> {
    let part = crate::parts::events(service);
    for door in part.doors.iter().filter(|door| !door.outside) {
        let port = (door.port, crate::model::PortKind::Tcp);
        let published = service.ports.iter().any(|p| (p.target, p.protocol) == port);
        if !published && !service.expose.contains(&port) {
            service.expose.push(port);
        }
    }
    // The image's own scripts are not there; its ports say whether it is healthy.
    service.healthcheck = None;
    service.extension.protocol = Some(PortProtocols::All(Protocol::Tcp));
    if service.restart == Restart::No {
        // Others rely on it, and nothing of it is lost when it ends.
        service.restart = Restart::UnlessStopped;
    }
    // Two logs cannot have one folder.
    service.update.order = UpdateOrder::StopFirst;
    let closed = (!part.closed.is_empty()).then(|| {
        let what = format!("service `{}`: not all of its listeners are opened", service.name);
        let cause = format!("{} would need a certificate", part.closed.join(", "));
        let next = "give a key and its certificates in one PEM file with KAFKA_SSL_KEYSTORE_TYPE and \
                    KAFKA_SSL_KEYSTORE_LOCATION, or use SASL_PLAINTEXT";
        Finding::warning("part-listener", what).cause(cause).next(next)
    });
    let ignored = (!part.ignored.is_empty()).then(|| {
        let what = format!(
            "service `{}`: {} no effect on the event log that stands in for its image",
            service.name,
            if part.ignored.len() == 1 { "a setting has" } else { "some settings have" }
        );
        let finding = Finding::warning("part-setting", what).cause(part.ignored.join(", "));
        finding.next("leave them out, or keep them for Docker: nothing depends on them here")
    });
    if service.replicas != 1 {
        service.replicas = 1;
    }
    closed.into_iter().chain(ignored).collect()
}

/// The folder that a file lies in.
pub(crate) fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}
