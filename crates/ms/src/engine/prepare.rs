//! What a service needs before it can run as a release: the files and settings of its Dockerfile,
//! and with them the exact process to start.
//!
//! Not here: starting it, and `prepare` commands, which the command line runs. The result is part of the release: equal values run the same thing, so a
//! changed file that a Dockerfile copies, or a rebuilt program, makes a new release.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base::{Problem, ServiceName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spec::dockerfile::{self, ImageRecipe};
use spec::model::{Build, Healthcheck, Test};
use spec::{App, Service};

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
    /// Folders laid over the host's files.
    pub(super) layers: Vec<PathBuf>,
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
pub(super) struct Workshop {
    /// Where layers are kept.
    pub(super) layers_dir: PathBuf,
    /// Instances see the image's paths; otherwise they run in the context folder.
    pub(super) overlay: bool,
}

/// Prepares these services of an app.
///
/// # Errors
/// The first service that cannot be prepared, and why. Nothing has changed then.
pub(super) fn all(
    app: &App,
    names: &BTreeSet<ServiceName>,
    workshop: &Workshop,
) -> Result<BTreeMap<ServiceName, Prepared>, Problem> {
    let mut prepared = BTreeMap::new();
    for (name, service) in app.services.iter().filter(|(name, _)| names.contains(*name)) {
        let one = one(app, service, workshop)?;
        prepared.insert(name.clone(), one);
    }
    Ok(prepared)
}

fn one(app: &App, service: &Service, workshop: &Workshop) -> Result<Prepared, Problem> {
    let image = match &service.build {
        Some(build) if service.uses_build() => Some(image(service, build, workshop)?),
        _ => None,
    };
    let recipe = image.as_ref().map(|(recipe, _)| recipe);
    let argv = dockerfile::run_command(service, recipe);
    if argv.is_empty() {
        return Err(Problem::new("no-command", format!("`{}` has nothing to run", service.name))
            .with_place(service.place.clone())
            .with_cause("neither the file nor its Dockerfile names a command")
            .with_next("add `command:`, or CMD to the Dockerfile"));
    }
    let mut env = host_env();
    env.extend(dockerfile::environment(service, recipe));
    let working_dir = match (recipe, &service.build) {
        // Without a view of its own an instance runs where the image's files came from.
        (Some(_), Some(build)) if !workshop.overlay => build.context.clone(),
        _ => dockerfile::working_dir(service, recipe, &app.project_dir),
    };
    let mut layers: Vec<PathBuf> = image.iter().filter_map(|(_, layer)| layer.clone()).collect();
    let mut programs = BTreeMap::new();
    if recipe.is_none() {
        let named = named_files(&argv, &working_dir);
        if workshop.overlay && !named.is_empty() {
            layers.push(keep(service, &named, workshop)?);
        } else {
            programs = fingerprints(&named);
        }
    }
    Ok(Prepared {
        env,
        layers,
        health: service.healthcheck.clone().filter(|h| h.test != Test::None),
        user: service.user.clone().or_else(|| recipe.and_then(|r| r.user.clone())),
        skipped_steps: recipe.map(steps).unwrap_or_default(),
        programs,
        argv,
        ports: service.tcp_ports(),
        working_dir,
    })
}

fn steps(recipe: &ImageRecipe) -> Vec<String> {
    recipe.skipped_runs.iter().map(|step| step.text.clone()).collect()
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
fn keep(service: &Service, files: &[PathBuf], workshop: &Workshop) -> Result<PathBuf, Problem> {
    let step = |path: &PathBuf| agent::image::CopyStep {
        sources: vec![glob_escaped(path)],
        dest: path.clone(),
        ..agent::image::CopyStep::default()
    };
    let layer = agent::image::LayerSpec {
        context: "/".into(),
        workdir: "/".into(),
        copies: files.iter().map(step).collect(),
    };
    agent::image::materialize(&layer, &|_, _| false, &workshop.layers_dir).map_err(|e| {
        Problem::new("copy-failed", format!("cannot keep the program of `{}`", service.name))
            .with_place(service.place.clone())
            .with_cause(e.to_string())
            .with_next("make room for a copy of it in the state folder")
    })
}

/// A path as a COPY source that means only itself.
fn glob_escaped(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
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

/// Reads a service's Dockerfile and lays out what it copies.
fn image(
    service: &Service,
    build: &Build,
    workshop: &Workshop,
) -> Result<(ImageRecipe, Option<PathBuf>), Problem> {
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
    let recipe = recipe(build, &text)?;
    if !workshop.overlay {
        return Ok((recipe, None));
    }
    let ignore = build.context.join(".dockerignore");
    let ignore = std::fs::read_to_string(ignore).unwrap_or_default();
    let ignore = spec::dockerfile::Ignore::parse(&ignore);
    let layer = agent::image::LayerSpec {
        context: build.context.clone(),
        workdir: recipe.workdir.clone(),
        copies: recipe.copies.iter().filter_map(copy_step).collect(),
    };
    let excluded = |path: &Path, is_dir: bool| ignore.excluded(path, is_dir);
    let layer = agent::image::materialize(&layer, &excluded, &workshop.layers_dir);
    let layer = layer.map_err(|e| {
        let at = build.dockerfile.display();
        Problem::new("copy-failed", format!("cannot copy what `{at}` of `{}` asks", service.name))
            .with_place(build.place.clone())
            .with_cause(e.to_string())
            .with_next("check the COPY steps and .dockerignore")
    })?;
    Ok((recipe, Some(layer)))
}

/// A COPY of the context. Those from other stages cannot be carried out; a finding says so.
fn copy_step(copy: &dockerfile::Copy) -> Option<agent::image::CopyStep> {
    if copy.from.is_some() {
        return None;
    }
    let inline = copy.inline.iter().map(|file| (file.name.clone(), file.text.clone()));
    Some(agent::image::CopyStep {
        sources: copy.sources.clone(),
        inline: inline.collect(),
        dest: copy.dest.clone(),
        dest_is_dir: copy.dest_is_dir,
        mode: copy.chmod.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()),
    })
}

fn recipe(build: &Build, text: &str) -> Result<ImageRecipe, Problem> {
    let first = |findings: Vec<spec::Finding>| {
        let worst = findings.into_iter().max_by_key(|f| f.severity == spec::Severity::Error);
        worst.map_or_else(|| Problem::new("dockerfile", "cannot be read"), |f| f.problem)
    };
    let first_line = if build.dockerfile_inline.is_some() { build.place.line } else { 1 };
    let parsed = dockerfile::parse(text, &build.dockerfile, first_line).map_err(first)?;
    let target = build.target.as_deref();
    // Its findings were told when the Compose file was loaded.
    dockerfile::final_stage(&parsed, target, &build.args).map_err(first)
}
