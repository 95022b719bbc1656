//! What a service needs before it can run as a release: the image that its Dockerfile describes,
//! and with it the exact process to start.
//!
//! Not here: building (`builder`), starting it, and `prepare` commands, which the command line
//! runs. The result is part of the release: equal values run the same thing, so a changed file that
//! a Dockerfile copies, or a rebuilt program, makes a new release.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Clock, InstanceId, Problem, ServiceName};
use builder::{BuildError, Builder, Image, Order, Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spec::dockerfile::{self, ImageRecipe};
use spec::model::{Build, FileSource, Grant, Healthcheck, MountKind, Part, PullPolicy, Test};
use spec::{App, Service};

/// What lets somebody who is not root have files of an image.
pub(super) const WAY_OUT: &str = "allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
     kernel.apparmor_restrict_unprivileged_userns), or run ms as root";

/// Everything that turns a definition into a process. Stored in the release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Prepared {
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// Environment, without what differs by instance.
    pub(super) env: BTreeMap<String, String>,
    /// Where it starts, as the instance sees it.
    pub(super) working_dir: PathBuf,
    /// Folders laid over `base`, first on top.
    pub(super) layers: Vec<PathBuf>,
    /// What lies below them when they are an image; files of the host otherwise.
    pub(super) base: Option<agent::Base>,
    /// Where its image wants volumes.
    pub(super) volumes: Vec<PathBuf>,
    /// TCP ports that it is expected to listen on.
    pub(super) ports: BTreeSet<u16>,
    /// How to tell that it is healthy.
    pub(super) health: Option<Healthcheck>,
    /// User, when one is named.
    pub(super) user: Option<String>,
    /// `RUN` steps of its Dockerfile that were not run.
    pub(super) skipped_steps: Vec<String>,
    /// Content of the files that its command line names, by path, where they are not in a layer.
    pub(super) programs: BTreeMap<PathBuf, String>,
}

/// What preparing may use.
pub(super) struct Workshop<'a> {
    /// Where layers are kept.
    pub(super) layers_dir: PathBuf,
    /// Builds images, where instances can see them.
    pub(super) builder: &'a Builder,
    /// Tells the time.
    pub(super) clock: &'a dyn Clock,
    /// Who waits for builds.
    pub(super) watch: &'a dyn Fn(&ServiceName) -> Box<dyn builder::Watch + 'a>,
    /// Steps that were done before are done again.
    pub(super) no_cache: bool,
}

/// What was prepared, and what a person should know of it.
#[derive(Default)]
pub(super) struct Outcome {
    /// By service.
    pub(super) prepared: BTreeMap<ServiceName, Prepared>,
    /// Services whose image is new.
    pub(super) built: Vec<ServiceName>,
    /// Each once, with the service that it is about.
    pub(super) warnings: Vec<(ServiceName, Problem)>,
}

/// Prepares these services of an app.
///
/// # Errors
/// The first service that cannot be prepared, and why. Nothing has changed then.
pub(super) fn all(
    app: &App,
    names: &BTreeSet<ServiceName>,
    workshop: &Workshop<'_>,
) -> Result<Outcome, Problem> {
    let mut outcome = Outcome::default();
    for (name, service) in app.services.iter().filter(|(name, _)| names.contains(*name)) {
        let (one, is_new, warnings) = one(app, service, workshop)?;
        outcome.prepared.insert(name.clone(), one);
        outcome.built.extend(is_new.then(|| name.clone()));
        let new = |problem: &Problem| !outcome.warnings.iter().any(|(_, known)| known == problem);
        let warnings: Vec<_> = warnings.into_iter().filter(new).collect();
        outcome.warnings.extend(warnings.into_iter().map(|problem| (name.clone(), problem)));
    }
    Ok(outcome)
}

fn one(
    app: &App,
    service: &Service,
    workshop: &Workshop<'_>,
) -> Result<(Prepared, bool, Vec<Problem>), Problem> {
    if service.stand_in == Some(Part::Events) {
        return Ok((events_part(service, workshop)?, false, Vec::new()));
    }
    let can_build = workshop.builder.can_build();
    let mut warnings = Vec::new();
    let mut image = None;
    let mut read = None;
    match &service.build {
        Some(build) if service.uses_build() && can_build => {
            image = Some(built(service, build, workshop)?);
        }
        Some(build) if service.uses_build() => read = Some(recipe(service, build)?),
        _ if service.extension.native => {}
        _ => image = known(service, workshop)?,
    }
    let mut skipped_steps = Vec::new();
    if let Some((_, steps)) = &read {
        skipped_steps.clone_from(steps);
        warnings.extend(skipped(service, steps));
    }
    let notes = image.iter().flat_map(|image| &image.notes);
    warnings.extend(notes.map(|note| {
        let what = format!("`{}`: {note}", service.name);
        Problem::new("other-version", what).with_place(service.place.clone())
    }));
    let recipe = image.as_ref().map(|image| &image.recipe);
    let recipe = recipe.or(read.as_ref().map(|(recipe, _)| recipe));
    let argv = dockerfile::run_command(service, recipe);
    if argv.is_empty() {
        return Err(Problem::new("no-command", format!("`{}` has nothing to run", service.name))
            .with_place(service.place.clone())
            .with_cause("neither the file nor its Dockerfile names a command")
            .with_next("add `command:`, or CMD to the Dockerfile"));
    }
    let mut env = match &image {
        // An image has an environment of its own.
        Some(image) => BTreeMap::from([
            ("HOME".to_owned(), image.home.clone()),
            ("PATH".to_owned(), dockerfile::DEFAULT_PATH.to_owned()),
        ]),
        None => host_env(),
    };
    env.extend(dockerfile::environment(service, recipe));
    let working_dir = match (&read, &service.build) {
        // Without a view of its own an instance runs where the image's files came from.
        (Some(_), Some(build)) => build.context.clone(),
        _ => dockerfile::working_dir(service, recipe, &app.project_dir),
    };
    let user = service.user.clone().or_else(|| recipe.and_then(|r| r.user.clone()));
    let mut programs = BTreeMap::new();
    let mut layers = Vec::new();
    if recipe.is_none() {
        let named = named_files(&argv, &working_dir);
        if workshop.builder.can_keep() && !named.is_empty() {
            layers.push(keep(service, &named, workshop)?);
        } else {
            programs = fingerprints(&named);
        }
    }
    let base = image.as_ref().map(|image| image.base);
    let volumes = image.as_ref().map(|image| image.recipe.volumes.clone()).unwrap_or_default();
    let is_new = image.as_ref().is_some_and(|image| image.steps_done > 0);
    let prepared = Prepared {
        env,
        health: service.healthcheck.clone().filter(|h| h.test != Test::None),
        user,
        skipped_steps,
        programs,
        argv,
        volumes: volumes.into_iter().filter(|path| path.parent().is_some()).collect(),
        ports: service.tcp_ports(),
        working_dir,
        base,
        layers: image.map_or(layers, |image| image.layers),
    };
    Ok((prepared, is_new, warnings))
}

/// Where a part keeps its data, as its instance sees it, when the file mounts nothing for that.
const PART_DATA: &str = "/var/lib/mainspring/events";

/// An event log in place of a service's image: this program itself, as an instance like any other.
/// So it has its logs, its restarts and its limits, and an engine that dies takes nobody's log.
fn events_part(service: &Service, workshop: &Workshop<'_>) -> Result<Prepared, Problem> {
    let part = spec::parts::events(service);
    let program = std::env::current_exe().map_err(|e| {
        Problem::new("internal", format!("cannot run the event log of `{}`", service.name))
            .with_cause(format!("this program is not found: {e}"))
            .with_next("start the engine again")
    })?;
    let (data, volumes) = match (&part.data, workshop.builder.can_mount()) {
        (Some(mounted), _) => (PathBuf::from(mounted).join("mainspring"), Vec::new()),
        (None, true) => (PathBuf::from(PART_DATA), vec![PathBuf::from(PART_DATA)]),
        // Without a view of its own it writes where its volume would be.
        (None, false) => {
            let id = InstanceId::new(service.name.clone(), 1);
            let state_dir = workshop.layers_dir.parent().unwrap_or(&workshop.layers_dir);
            (super::convert::anonymous(state_dir, &id, Path::new(PART_DATA)), Vec::new())
        }
    };
    let mut argv = vec![program.to_string_lossy().into_owned(), "part-events".to_owned()];
    argv.extend(["--data".to_owned(), data.to_string_lossy().into_owned()]);
    for door in &part.doors {
        let door = format!("{}={}:{}", door.port, door.host, door.advertised_port);
        argv.extend(["--door".to_owned(), door]);
    }
    for door in &part.doors {
        let flags = [("--login", door.login), ("--tls", door.tls)];
        for (flag, _) in flags.iter().filter(|(_, is_so)| *is_so) {
            argv.extend([(*flag).to_owned(), door.port.to_string()]);
        }
    }
    if let Some(certificate) = &part.certificate {
        argv.extend(["--certificate".to_owned(), certificate.clone()]);
    }
    for user in &part.super_users {
        argv.extend(["--super-user".to_owned(), user.clone()]);
    }
    if !part.allow_if_none {
        argv.push("--deny-if-none".to_owned());
    }
    argv.extend(["--partitions".to_owned(), part.partitions.to_string()]);
    if let Some(delay) = part.group_delay_ms {
        argv.extend(["--group-delay-ms".to_owned(), delay.to_string()]);
    }
    if let Some(minutes) = part.offsets_retention_minutes {
        argv.extend(["--offsets-retention-minutes".to_owned(), minutes.to_string()]);
    }
    if !part.auto_create {
        argv.push("--no-auto-create".to_owned());
    }
    for (name, value) in &part.topic_defaults {
        argv.extend(["--topic-default".to_owned(), format!("{name}={value}")]);
    }
    for (name, partitions) in &part.topics {
        argv.extend(["--topic".to_owned(), format!("{name}:{partitions}")]);
    }
    let mut env = host_env();
    if !part.users.is_empty() {
        // Not among the words of its command, which everybody may see.
        let users = serde_json::to_string(&part.users).unwrap_or_default();
        env.insert(spec::parts::PASSWORDS.to_owned(), users);
    }
    let named = named_files(&argv[..1], Path::new("/"));
    let (mut layers, mut programs) = (Vec::new(), BTreeMap::new());
    if workshop.builder.can_keep() && !named.is_empty() {
        layers.push(keep(service, &named, workshop)?);
    } else {
        programs = fingerprints(&named);
    }
    Ok(Prepared {
        argv,
        env,
        working_dir: PathBuf::from("/"),
        ports: part.doors.iter().map(|door| door.port).collect(),
        volumes,
        layers,
        programs,
        ..Prepared::default()
    })
}

/// Builds a service's image.
fn built(service: &Service, build: &Build, workshop: &Workshop<'_>) -> Result<Image, Problem> {
    let no_cache = workshop.no_cache || build.no_cache;
    let build = |no_cache: bool| {
        let order = Order {
            service: &service.name,
            build,
            no_cache,
            secrets: build.secrets.iter().filter_map(secret).collect(),
            user: service.user.as_deref(),
        };
        let mut watch = (workshop.watch)(&service.name);
        let built = workshop.builder.build(&order, workshop.clock, &mut *watch);
        built.map_err(BuildError::problem)
    };
    let image = build(no_cache)?;
    match service.pull_policy {
        Some(PullPolicy::OlderThan { age_secs })
            if image.steps_done == 0
                && age(&image, workshop.clock).is_some_and(|age| age.as_secs() >= age_secs) =>
        {
            build(true)
        }
        _ => Ok(image),
    }
}

/// How long ago the youngest layer of an image was made; `None` where the file system does not
/// say.
fn age(image: &Image, clock: &dyn Clock) -> Option<Duration> {
    let made = |layer: &PathBuf| std::fs::metadata(layer).ok()?.created().ok();
    let youngest = image.layers.iter().filter_map(made).max()?;
    let made = youngest.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_nanos(clock.now().0).saturating_sub(made))
}

/// Whether what a service mounts of the host is there, where nothing may be made in its place.
pub(super) fn check_mounts(service: &Service) -> Result<(), Problem> {
    for mount in &service.volumes {
        let MountKind::Bind { source, create_host_path: false } = &mount.kind else { continue };
        if let Err(e) = std::fs::metadata(source) {
            let what = format!("`{}` cannot mount {}", service.name, source.display());
            return Err(Problem::new("bad-mount", what)
                .with_place(mount.place.clone())
                .with_cause(e.to_string())
                .with_next("make it, or leave `create_host_path: false` out"));
        }
    }
    Ok(())
}

/// A secret of a build, by the name that its steps ask for.
fn secret(grant: &Grant) -> Option<(String, Secret)> {
    let name = grant.target.file_name()?.to_string_lossy().into_owned();
    let secret = match &grant.content {
        FileSource::File(path) => Secret::File(path.clone()),
        FileSource::Variable { value, .. } | FileSource::Content(value) => {
            Secret::Text(value.clone())
        }
        FileSource::External | FileSource::Unset { .. } => return None,
    };
    Some((name, secret))
}

/// What this machine has in place of a service's image.
fn known(service: &Service, workshop: &Workshop<'_>) -> Result<Option<Image>, Problem> {
    let Some(image) = service.image.as_ref().filter(|image| spec::images::known(image).is_some())
    else {
        return Ok(None);
    };
    if !workshop.builder.can_build() {
        let what = format!("nothing can take the place of the image of `{}`", service.name);
        return Err(Problem::new("build-not-root", what)
            .with_place(service.place.clone())
            .with_cause(format!("{image} needs files of its own, which this machine refuses"))
            .with_next(format!(
                "{WAY_OUT}, or add `command` and `x-mainspring: {{native: true}}`"
            )));
    }
    let user = service.user.as_deref();
    workshop.builder.image(image, &service.place, user).map_err(BuildError::problem)
}

/// One line about RUN steps where nothing can be built.
fn skipped(service: &Service, steps: &[String]) -> Option<Problem> {
    let what = match steps.len() {
        0 => return None,
        1 => format!("a RUN step of `{}` is not run", service.name),
        n => format!("{n} RUN steps of `{}` are not run", service.name),
    };
    let each = steps.iter().map(|step| step.chars().take(60).collect::<String>());
    let cause = format!(
        "they need files of their own, which this machine refuses:\n{}",
        each.collect::<Vec<_>>().join("\n")
    );
    let next = format!(
        "{WAY_OUT}, or do it once on the host, or name it as `x-mainspring: {{prepare: …}}`"
    );
    let problem = Problem::new("run-skipped", what).with_place(service.place.clone());
    Some(problem.with_cause(cause).with_next(next))
}

/// What a program needs from the host's environment; nothing else of it is passed on.
fn host_env() -> BTreeMap<String, String> {
    const PASSED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER"];
    PASSED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

/// The files outside the system's own folders that a command line names: a program that was built
/// here, a script.
fn named_files(argv: &[String], working_dir: &Path) -> Vec<PathBuf> {
    const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/nix", "/etc"];
    /// A larger file is data rather than a program.
    const PROGRAM_BYTES_MAX: u64 = 512 << 20;
    let mut found = Vec::new();
    for word in argv.iter().filter(|w| !w.is_empty()) {
        let Ok(path) = std::fs::canonicalize(working_dir.join(word)) else { continue };
        let system = SYSTEM.iter().any(|folder| path.starts_with(folder));
        let program = std::fs::metadata(&path)
            .is_ok_and(|m| m.is_file() && (1..=PROGRAM_BYTES_MAX).contains(&m.len()));
        if program && !system && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// Keeps files as they are now in a layer at their own paths, so that this release runs them even
/// when they were built anew since: a rollback gets the old program back.
fn keep(service: &Service, files: &[PathBuf], workshop: &Workshop<'_>) -> Result<PathBuf, Problem> {
    builder::keep(files, &workshop.layers_dir).map_err(|e| {
        Problem::new("copy-failed", format!("cannot keep the program of `{}`", service.name))
            .with_place(service.place.clone())
            .with_cause(e.to_string())
            .with_next("make room for a copy of it in the state folder")
    })
}

/// Hashes of files, so that a rebuilt program is noticed.
fn fingerprints(files: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let print = |path: &PathBuf| {
        let mut hash = Sha256::new();
        std::io::copy(&mut std::fs::File::open(path).ok()?, &mut hash).ok()?;
        Some((path.clone(), hex(&hash.finalize()[..16])))
    };
    files.iter().filter_map(print).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What a service's Dockerfile says, and its RUN steps, where nothing can be built.
fn recipe(service: &Service, build: &Build) -> Result<(ImageRecipe, Vec<String>), Problem> {
    let text = match &build.dockerfile_inline {
        Some(text) => text.clone(),
        None => std::fs::read_to_string(&build.dockerfile).map_err(|e| {
            let path = build.dockerfile.display();
            Problem::new("dockerfile", format!("cannot read `{path}` of `{}`", service.name))
                .with_place(build.place.clone())
                .with_cause(e.to_string())
                .with_next("name it with `build.dockerfile`")
        })?,
    };
    let first_line = if build.dockerfile_inline.is_some() { build.place.line } else { 1 };
    let target = build.target.as_deref();
    let begin = |_: &str| ImageRecipe::default();
    // Its findings were told when the Compose file was loaded.
    let plan = dockerfile::parse(&text, &build.dockerfile, first_line)
        .and_then(|parsed| dockerfile::plan(&parsed, target, &build.args, &begin))
        .map_err(|findings| BuildError::Dockerfile(findings).problem())?;
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let runs = steps.filter(|step| matches!(step.action, dockerfile::Action::Run(_)));
    let runs = runs.map(|step| step.text.trim_start_matches("RUN ").to_owned()).collect();
    let last = plan.stages.into_iter().next_back();
    Ok((last.map(|stage| stage.recipe).unwrap_or_default(), runs))
}
