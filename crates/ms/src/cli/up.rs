//! `ms up`: reads the file, starts the engine when none runs, and makes the app what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::{Clock, Problem};
use console::wire::{Accepted, Command, Overview, ServiceView};
use serde::Serialize;
use spec::App;

use super::api::Client;
use super::args::{Shared, Up};
use super::interrupt::Interrupt;
use super::out::Out;
use super::progress::{Wanted, chosen, conclude, summary, wait};
use super::project::{Here, files, split_targets, state_of};
use super::settle::{Goal, Verdict};
use super::stop::{FAILED, Outcome, Stop};

/// How long the end of an engine without app is waited for.
const ENDING_MAX: Duration = Duration::from_secs(10);

/// Runs the app.
pub(crate) async fn run(
    up: &Up,
    shared: &Shared,
    here: &Here,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let start = clock.monotonic();
    let (given, services) = split_targets(here, &up.targets);
    let given = if given.is_empty() { shared.file.clone() } else { given };
    let files = files(here, &given)?;
    let app = super::compose::load(here, shared, &files, &services, out)?;
    let names = with_dependencies(&app, &services)?;
    let state = state_of(here, shared, &files);
    let client = Client::new(&state);
    if up.dry_run {
        return super::plan::up(&app, &names, up.recreate, &client, out).await;
    }
    let mut interrupt = Interrupt::listen()?;
    super::prepare::run(&app, &names, &mut interrupt, clock, out).await?;
    let timeout = up.wait.timeout;
    let started = super::launch::ensure(&state, shared, timeout, &mut interrupt).await?;
    if !started {
        say_what_is_kept(shared, &client, out).await?;
    }
    let mut run = Run { up, app: &app, names: &names, client: &client, start, interrupt };
    let outcome = if up.detach {
        run.detached(&services, clock, out).await
    } else {
        run.attached(&services, clock, out).await
    };
    if started && outcome.is_err() {
        end_without_app(&client, clock).await;
    }
    if matches!(outcome, Err(Stop::Interrupted)) && client.answers().await {
        out.progress("the engine goes on: ms ps shows how far it is, ms down stops it")?;
    }
    outcome
}

/// Ends an engine that was started for an app that it did not get.
pub(crate) async fn end_without_app(client: &Client, clock: &dyn Clock) {
    // It may be gone already, which is as well.
    if !client.status().await.is_ok_and(|status| status.app.is_none()) {
        return;
    }
    _ = client.command(&Command::Shutdown { keep_services: true }).await;
    let start = clock.monotonic();
    while client.answers().await && clock.monotonic() - start < ENDING_MAX {
        tokio::time::sleep(super::progress::POLL).await;
    }
}

struct Run<'a> {
    up: &'a Up,
    app: &'a App,
    names: &'a [String],
    client: &'a Client,
    start: Duration,
    interrupt: Interrupt,
}

impl Run<'_> {
    async fn command(
        &mut self,
        services: &[String],
        clock: &dyn Clock,
        out: &mut Out,
    ) -> Outcome<Accepted> {
        let app = serde_json::to_value(self.app).map_err(|e| {
            let problem = Problem::new("internal", "cannot write the app as JSON");
            Stop::new(FAILED, problem.with_cause(e.to_string()).with_next("report this as a bug"))
        })?;
        let services = services.to_vec();
        let command = Command::Up { app, services, recreate: self.up.recreate };
        let accepted =
            super::progress::send(self.client, &command, &mut self.interrupt, clock, out);
        let accepted = accepted.await?;
        for warning in &accepted.warnings {
            out.warning(warning)?;
        }
        Ok(accepted)
    }

    fn wanted(&self, revision: u64) -> Wanted<'_> {
        let timeout = self.up.wait.timeout;
        Wanted { names: self.names, revision, goal: Goal::Up, timeout }
    }

    async fn detached(&mut self, services: &[String], clock: &dyn Clock, out: &mut Out) -> Outcome {
        let accepted = self.command(services, clock, out).await?;
        let wanted = self.wanted(accepted.revision);
        let (overview, stands) = wait(self.client, &wanted, clock, out).await?;
        let start = Start { app: self.app, changed: &accepted.changed, at: self.start };
        start.say(&overview, self.names, stands, clock, out)?;
        conclude(self.client, &wanted, &overview, stands, Some(self.app)).await
    }

    async fn attached(&mut self, services: &[String], clock: &dyn Clock, out: &mut Out) -> Outcome {
        // Opened before anything starts, so that no line is missed.
        let query = console::wire::LogQuery { limit: Some(0), ..Default::default() };
        let tail = super::logs::Tail::open(self.client.clone(), query).await?;
        let accepted = match self.command(services, clock, out).await {
            Err(Stop::Interrupted) => {
                // Nothing of ours shall start after the person has left.
                self.client.command(&Command::Shutdown { keep_services: false }).await?;
                let timeout = self.up.wait.timeout;
                super::change::until_gone(self.client, self.names, timeout, clock, out).await?;
                return Err(Stop::Interrupted);
            }
            accepted => accepted?,
        };
        let wanted = self.wanted(accepted.revision);
        let start = Start { app: self.app, changed: &accepted.changed, at: self.start };
        super::attach::run(self.client, tail, &wanted, start, clock, out).await
    }
}

/// How a start began.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    /// The app.
    pub(crate) app: &'a App,
    /// Services that the engine changes for it.
    pub(crate) changed: &'a [base::ServiceName],
    /// When, by the steady clock.
    pub(crate) at: Duration,
}

impl Start<'_> {
    /// Says how it went: the final block, or one JSON object.
    pub(crate) fn say(
        &self,
        overview: &Overview,
        names: &[String],
        stands: Verdict,
        clock: &dyn Clock,
        out: &mut Out,
    ) -> Outcome<()> {
        let took = clock.monotonic() - self.at;
        let ready = stands == Verdict::Reached;
        for warning in self.not_as_asked(overview) {
            out.warning(&warning)?;
        }
        if out.mode.json {
            #[derive(Serialize)]
            struct Done<'a> {
                app: &'a str,
                ready: bool,
                took_ms: u64,
                console: &'a Option<String>,
                changed: &'a [base::ServiceName],
                services: Vec<&'a ServiceView>,
            }
            let done = Done {
                app: &self.app.name,
                ready,
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                console: &overview.status.console,
                changed: self.changed,
                services: chosen(overview, names),
            };
            out.json("ms.up/1", &done)?;
        } else if !out.mode.quiet {
            let took = ready.then_some(took);
            out.text(&summary(overview, names, took, out.mode.color))?;
        }
        out.flush()
    }
}

impl Start<'_> {
    /// What the changed services do without, each once with all that it is true of.
    fn not_as_asked(&self, overview: &Overview) -> Vec<Problem> {
        let changed = overview.services.iter().filter(|s| self.changed.contains(&s.name));
        let mut by_warning: BTreeMap<&str, Vec<&base::ServiceName>> = BTreeMap::new();
        for service in changed {
            for warning in &service.warnings {
                by_warning.entry(warning).or_default().push(&service.name);
            }
        }
        let problem = |(warning, names): (&str, Vec<&base::ServiceName>)| {
            let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let problem = Problem::new("not-as-asked", format!("{}: {warning}", listed.join(", ")))
                .with_next("ms explain not-as-asked");
            match names.first().and_then(|name| self.app.services.get(*name)) {
                Some(service) => problem.with_place(service.place.clone()),
                None => problem,
            }
        };
        by_warning.into_iter().map(problem).collect()
    }
}

/// The engine runs already: flags that only count when it starts are said to have no effect.
async fn say_what_is_kept(shared: &Shared, client: &Client, out: &mut Out) -> Outcome<()> {
    if shared.console.is_none() && shared.addresses.is_none() {
        return Ok(());
    }
    let status = client.status().await?;
    let listens = status.console.as_deref().map(|url| url.trim_start_matches("http://"));
    let asked = super::launch::console(shared)?;
    let other_console = match (asked, listens.and_then(|at| at.parse::<SocketAddr>().ok())) {
        // Port 0 asks for any.
        (Some(asked), Some(is)) => asked.ip() != is.ip() || ![0, is.port()].contains(&asked.port()),
        (asked, is) => asked != is,
    };
    let mut kept = Vec::new();
    if let Some(asked) = shared.console.as_ref().filter(|_| other_console) {
        kept.push(("--console", asked, listens.unwrap_or("off")));
    }
    if let Some(asked) = shared.addresses.as_ref().filter(|asked| **asked != status.addresses) {
        kept.push(("--addresses", asked, &status.addresses));
    }
    for (flag, asked, is) in kept {
        let problem = Problem::new("kept", format!("{flag} {asked} has no effect now"))
            .with_cause(format!("the engine runs already, with {is}"))
            .with_next("ms down, then this command again");
        out.warning(&problem)?;
    }
    Ok(())
}

/// These services and all that they depend on; every service when none is named.
pub(crate) fn with_dependencies(app: &App, services: &[String]) -> Outcome<Vec<String>> {
    let mut known = Vec::new();
    for name in services {
        let service = app.services.get(name.as_str()).ok_or_else(|| unknown(app, name))?;
        known.push(service.name.clone());
    }
    Ok(app.with_dependencies(&known).iter().map(ToString::to_string).collect())
}

fn unknown(app: &App, name: &str) -> Stop {
    let known: Vec<&str> = app.services.keys().map(base::ServiceName::as_str).collect();
    let files: Vec<String> = app.files.iter().map(|f: &PathBuf| f.display().to_string()).collect();
    let problem = Problem::new("service-unknown", format!("no service `{name}`"))
        .with_cause(format!("{} has none of that name", files.join(", ")))
        .with_next(format!("use one of: {}", known.join(", ")));
    Stop::usage(problem)
}
