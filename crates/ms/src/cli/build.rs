//! `ms build`: builds images and starts nothing.

use base::{Clock, Problem};
use console::wire::Command;
use serde::Serialize;

use super::api::Client;
use super::args::{Build, Shared};
use super::interrupt::Interrupt;
use super::out::Out;
use super::project::{Here, files, state_of};
use super::stop::{DONE, FAILED, Outcome, Stop};
use super::style::{Style, paint};
use super::up::{end_without_app, with_dependencies};

/// Builds the images.
pub(crate) async fn run(
    build: &Build,
    shared: &Shared,
    here: &Here,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let start = clock.monotonic();
    let files = files(here, &shared.file)?;
    if build.prune {
        return prune(build, shared, &state_of(here, shared, &files), clock, out).await;
    }
    let app = super::compose::load(here, shared, &files, &build.services, out)?;
    // Names are checked before an engine is started.
    with_dependencies(&app, &build.services)?;
    let state = state_of(here, shared, &files);
    let client = Client::new(&state);
    let mut interrupt = Interrupt::listen()?;
    let started = super::launch::ensure(&state, shared, PATIENCE, &mut interrupt).await?;
    let app = serde_json::to_value(&app).map_err(|e| {
        let problem = Problem::new("internal", "cannot write the app as JSON");
        Stop::new(FAILED, problem.with_cause(e.to_string()).with_next("report this as a bug"))
    })?;
    let services = build.services.clone();
    let command = Command::Build { app, services, no_cache: build.no_cache };
    let answer = super::progress::send(&client, &command, &mut interrupt, clock, out).await;
    if started {
        end_without_app(&client, clock).await;
    }
    let accepted = answer?;
    for warning in &accepted.warnings {
        out.warning(warning)?;
    }
    let took = clock.monotonic() - start;
    if out.mode.json {
        #[derive(Serialize)]
        struct Done<'a> {
            took_ms: u64,
            built: &'a [base::ServiceName],
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        out.json("ms.build/1", &Done { took_ms, built: &accepted.changed })?;
    } else if !out.mode.quiet {
        let took = base::units::show_duration(took);
        let names: Vec<&str> = accepted.changed.iter().map(base::ServiceName::as_str).collect();
        let what = match names.as_slice() {
            [] => format!("nothing to build: all steps were done before ({took})"),
            names => format!("built {} in {took}", names.join(", ")),
        };
        out.text(&format!("{}\n", paint(out.mode.color, Style::Bold, &what)))?;
    }
    out.flush()?;
    Ok(DONE)
}

/// Removes what builds left.
async fn prune(
    build: &Build,
    shared: &Shared,
    state: &std::path::Path,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let client = Client::new(state);
    let mut interrupt = Interrupt::listen()?;
    let started = super::launch::ensure(state, shared, PATIENCE, &mut interrupt).await?;
    let unused_for_seconds = build.unused_for.map(|age| age.as_secs());
    let command = Command::Prune { unused_for_seconds, keep_bytes: build.keep };
    let answer = client.command(&command).await;
    if started {
        end_without_app(&client, clock).await;
    }
    let pruned = answer?.pruned.unwrap_or_default();
    if out.mode.json {
        out.json("ms.prune/1", &pruned)?;
    } else if !out.mode.quiet {
        let bytes = base::units::show_bytes(pruned.bytes);
        out.text(&match pruned.count {
            0 => "nothing to remove\n".to_owned(),
            1 => format!("removed one layer or cache of {bytes}\n"),
            count => format!("removed {count} layers and caches of {bytes}\n"),
        })?;
    }
    out.flush()?;
    Ok(DONE)
}

/// How long an engine may take to start.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
