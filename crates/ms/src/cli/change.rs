//! Commands that change what runs: down, restart, stop, start, scale, rollback.

use std::time::Duration;

use base::{Clock, Problem, ServiceName};
use console::wire::{Accepted, Command, Overview, ServiceView};
use serde::Serialize;

use super::api::Client;
use super::args::{Change, Down, Rollback, Scale, Shared, Wait};
use super::interrupt::Interrupt;
use super::out::Out;
use super::progress::{Live, POLL, Wanted, chosen, conclude, standing, wait};
use super::project::{Here, engine_here, state_here};
use super::settle::{Goal, Verdict};
use super::stop::{DONE, FAILED, Outcome, Stop, TIMED_OUT};
use super::style::{Style, paint};

/// An engine that died and was not brought back by then has lost its supervisor too.
const GONE_FOR_GOOD: Duration = Duration::from_secs(15);

/// Stops the app and its engine.
///
/// Without an engine there may still be services, left by one that was killed: then an engine is
/// started to take them over and stop them.
pub(crate) async fn down(
    down: &Down,
    shared: &Shared,
    here: &Here,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let client = engine_here(here, shared).await?;
    if !client.answers().await {
        let state = state_here(here, shared)?.unwrap_or_default();
        if !state.join("engine.pid").exists() {
            return finished(&[], "nothing runs", out);
        }
        if down.dry_run {
            return finished(&[], "no engine runs; one would be started to stop what it left", out);
        }
        let mut interrupt = Interrupt::listen()?;
        super::launch::ensure(&state, shared, down.wait.timeout, &mut interrupt).await?;
    }
    let overview = client.overview().await?;
    if down.dry_run {
        return super::plan::down(&overview, down.volumes, out);
    }
    let names: Vec<String> = overview.services.iter().map(|s| s.name.to_string()).collect();
    let start = clock.monotonic();
    client.command(&Command::Down { volumes: down.volumes, exit: true }).await?;
    until_gone(&client, &names, down.wait.timeout, clock, out).await?;
    if names.is_empty() {
        return finished(&[], "nothing runs", out);
    }
    let took = base::units::show_duration(clock.monotonic() - start);
    finished(&names, &format!("stopped {} in {took}", count(names.len(), "service")), out)
}

fn finished(stopped: &[String], said: &str, out: &mut Out) -> Outcome {
    #[derive(Serialize)]
    struct Done<'a> {
        stopped: &'a [String],
    }
    if out.mode.json {
        out.json("ms.down/1", &Done { stopped })?;
    } else if !out.mode.quiet {
        out.line(said)?;
    }
    out.flush()?;
    Ok(DONE)
}

/// Waits until no engine answers, and shows what is still there.
pub(crate) async fn until_gone(
    client: &Client,
    names: &[String],
    timeout: Duration,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome<()> {
    let start = clock.monotonic();
    let mut answered = start;
    let mut live = Live::default();
    let wanted = Wanted { names, revision: 0, goal: Goal::Stopped, timeout };
    let mut interrupt = Interrupt::listen()?;
    loop {
        match client.overview().await {
            // Whoever asked for the app again meanwhile has the last word.
            Ok(overview) if !overview.status.ending => {
                live.erase(out)?;
                let problem = Problem::new("overtaken", "the app was asked for again meanwhile")
                    .with_cause("an `ms up` came while it was being stopped")
                    .with_next("ms ps   |   ms down stops it again");
                return Err(Stop::new(FAILED, problem));
            }
            Ok(overview) => {
                answered = clock.monotonic();
                live.show(&overview, &wanted, clock, out)?;
            }
            // One that ends in order takes its socket away; one that died is brought back.
            Err(_) if !client.may_come_back() => return live.erase(out),
            // One that is slow to answer is still there.
            Err(_) if client.answers().await => answered = clock.monotonic(),
            Err(stop) if clock.monotonic() - answered >= GONE_FOR_GOOD => {
                live.erase(out)?;
                return Err(stop);
            }
            Err(_) => {}
        }
        if clock.monotonic() - start >= timeout {
            live.erase(out)?;
            let waited = base::units::show_duration(timeout);
            let problem = Problem::new("timed-out", format!("not stopped after {waited}"))
                .with_cause("services may take their grace period; the engine goes on stopping")
                .with_next("ms ps   |   wait longer with --timeout");
            return Err(Stop::new(TIMED_OUT, problem));
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = interrupt.next() => {
                live.erase(out)?;
                return Err(Stop::Interrupted);
            }
        }
    }
}

/// A change of services that is under way.
struct Changing<'a> {
    client: &'a Client,
    wait: &'a Wait,
    schema: &'static str,
    goal: Goal,
}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ms restart`.
    Restart,
    /// `ms stop`.
    Stop,
    /// `ms start`.
    Start,
}

/// Starts services.
///
/// Without an engine, as after a restart of the machine, one is started first. If it finds an app,
/// it takes over what runs, brings back what ran, and leaves stopped what was stopped.
pub(crate) async fn start(
    start: &Change,
    shared: &Shared,
    here: &Here,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let client = engine_here(here, shared).await?;
    let state = state_here(here, shared)?.unwrap_or_default();
    if !client.answers().await && state.join("engine.pid").exists() {
        if start.dry_run {
            return super::plan::start_without_engine(&start.services, out);
        }
        let mut interrupt = Interrupt::listen()?;
        let timeout = start.wait.timeout;
        let started = super::launch::ensure(&state, shared, timeout, &mut interrupt).await?;
        if started && client.status().await?.app.is_some() {
            out.progress("no engine ran: one was started, and what ran before comes back")?;
        } else if started {
            // After which nothing answers, as before.
            super::up::end_without_app(&client, clock).await;
        }
    }
    change(Kind::Start, start, &client, clock, out).await
}

/// Restarts, stops or starts services of an engine that runs.
pub(crate) async fn change(
    kind: Kind,
    change: &Change,
    client: &Client,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let overview = client.overview().await?;
    let services = super::names::select(&overview, &change.services)?;
    let names: Vec<String> = services.iter().map(|s| s.name.to_string()).collect();
    if change.dry_run {
        return super::plan::change(kind, &services, out);
    }
    let services = change.services.clone();
    let (command, schema, goal) = match kind {
        Kind::Restart => (Command::Restart { services }, "ms.restart/1", Goal::Up),
        Kind::Stop => (Command::Stop { services }, "ms.stop/1", Goal::Stopped),
        Kind::Start => (Command::Start { services }, "ms.start/1", Goal::Up),
    };
    let changing = Changing { client, wait: &change.wait, schema, goal };
    let accepted = changing.ask(&command, out).await?;
    changing.finish(&names, accepted.revision, clock, out).await
}

/// Runs so many instances.
pub(crate) async fn scale(
    scale: &Scale,
    client: &Client,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let overview = client.overview().await?;
    let names: Vec<String> = scale.services.iter().map(|(name, _)| name.clone()).collect();
    // All names are checked before anything changes.
    super::names::select(&overview, &names)?;
    if scale.dry_run {
        return super::plan::scale(&overview, &scale.services, out);
    }
    let changing = Changing { client, wait: &scale.wait, schema: "ms.scale/1", goal: Goal::Up };
    let mut revision = 0;
    for (name, replicas) in &scale.services {
        let command = Command::Scale { service: service_name(name)?, replicas: *replicas };
        revision = changing.ask(&command, out).await?.revision.max(revision);
    }
    changing.finish(&names, revision, clock, out).await
}

/// Goes back to an earlier release.
pub(crate) async fn rollback(
    rollback: &Rollback,
    client: &Client,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome {
    let overview = client.overview().await?;
    let names = [rollback.service.clone()];
    super::names::select(&overview, &names)?;
    if rollback.dry_run {
        return super::plan::rollback(&rollback.service, rollback.to, client, out).await;
    }
    let command = Command::Rollback { service: service_name(&names[0])?, release: rollback.to };
    let changing =
        Changing { client, wait: &rollback.wait, schema: "ms.rollback/1", goal: Goal::Up };
    let accepted = changing.ask(&command, out).await?;
    changing.finish(&names, accepted.revision, clock, out).await
}

impl Changing<'_> {
    async fn ask(&self, command: &Command, out: &mut Out) -> Outcome<Accepted> {
        let accepted = self.client.command(command).await?;
        for warning in &accepted.warnings {
            out.warning(warning)?;
        }
        Ok(accepted)
    }

    async fn finish(
        &self,
        names: &[String],
        revision: u64,
        clock: &dyn Clock,
        out: &mut Out,
    ) -> Outcome {
        let wanted = Wanted { names, revision, goal: self.goal, timeout: self.wait.timeout };
        let start = clock.monotonic();
        let (overview, stands) = wait(self.client, &wanted, clock, out).await?;
        let took = clock.monotonic() - start;
        self.say(&overview, names, took, stands == Verdict::Reached, out)?;
        conclude(self.client, &wanted, &overview, stands, None).await
    }

    fn say(
        &self,
        overview: &Overview,
        names: &[String],
        took: Duration,
        done: bool,
        out: &mut Out,
    ) -> Outcome<()> {
        #[derive(Serialize)]
        struct Done<'a> {
            took_ms: u64,
            services: Vec<&'a ServiceView>,
        }
        if out.mode.json {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            out.json(self.schema, &Done { took_ms, services: chosen(overview, names) })?;
        } else if !out.mode.quiet {
            out.text(&standing(&chosen(overview, names), out.mode.color))?;
            if done {
                let took = format!("done in {}", base::units::show_duration(took));
                out.progress(&paint(out.mode.color_err, Style::Dim, &took))?;
            }
        }
        out.flush()
    }
}

fn service_name(name: &str) -> Outcome<ServiceName> {
    name.parse().map_err(|e: base::NameError| {
        let problem = Problem::new("service-unknown", format!("no service `{name}`"));
        Stop::usage(problem.with_cause(e.to_string()).with_next("ms ps names the services"))
    })
}

/// `1 service`, `2 services`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
