//! The command line: a client of the engine's HTTP API over its Unix socket.
//!
//! Not here: anything that the engine does. Reads files, asks, shows. Invariants: every error is
//! a [`base::Problem`] with a page under `ms explain`; `stop` alone decides exit codes; `out`
//! alone writes to the standard streams.

mod about;
mod api;
mod args;
mod attach;
mod build;
mod building;
mod change;
mod compose;
mod events;
mod exec;
mod explain;
mod file;
mod history;
mod interrupt;
mod launch;
mod logs;
mod names;
mod out;
mod part;
mod plan;
mod prepare;
mod progress;
mod project;
mod ps;
mod sarif;
mod scope;
#[cfg(test)]
mod session;
mod settle;
mod show;
mod status;
mod stop;
mod style;
mod supervise;
mod table;
mod terminal;
#[cfg(test)]
mod testing;
mod top;
mod up;
mod volume;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;

use base::{Problem, SystemClock};
use clap::Parser;

use args::{Cli, Command, Shared};
use change::Kind;
use out::{Color, Out};
use project::{Here, any_engine, engine_here, state_here};
use stop::{DONE, FAILED, Outcome, Stop, USAGE};

/// Runs the command line; the process's exit code.
pub(crate) fn run(arguments: Vec<OsString>) -> i32 {
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&arguments, &error),
    };
    let mut out = Out::new(cli.shared.color, cli.shared.json, cli.shared.quiet);
    let outcome = dispatch(&cli, &mut out);
    end(outcome, &mut out)
}

/// Says why a command ended early, if it did; the exit code.
fn end(outcome: Outcome, out: &mut Out) -> i32 {
    match outcome {
        Ok(code) => code,
        Err(stop) => {
            out.stop(&stop);
            stop.exit()
        }
    }
}

/// Help, the version, or what was wrong with what was typed.
fn usage(arguments: &[OsString], error: &clap::Error) -> i32 {
    if error.exit_code() != USAGE || !arguments.iter().any(|a| a == "--json") {
        // A closed pipe is no failure of ours.
        _ = error.print();
        return error.exit_code();
    }
    let mut out = Out::new(Color::Never, true, false);
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let problem = Problem::new("bad-usage", first.trim_start_matches("error: "))
        .with_cause(text.lines().skip(1).collect::<Vec<_>>().join("\n").trim().to_owned())
        .with_next("ms --help");
    out.stop(&Stop::usage(problem));
    USAGE
}

fn dispatch(cli: &Cli, out: &mut Out) -> Outcome {
    let here = Here::read()?;
    match &cli.command {
        Command::Engine => engine(&cli.shared, &here, out),
        Command::PartEvents(options) => part::events(options),
        Command::Supervise => {
            let state = state_or_here(&cli.shared, &here)?;
            Ok(supervise::run(&state, &engine_arguments(&cli.shared, &state), &SystemClock))
        }
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| {
                let problem = Problem::new("internal", "cannot start the runtime");
                Stop::new(FAILED, problem.with_cause(e.to_string()).with_next("raise `ulimit -n`"))
            })?;
            let code = runtime.block_on(asynchronous(command, &cli.shared, &here, out));
            // A thread may still be reading the keyboard; it ends with the process.
            runtime.shutdown_background();
            code
        }
    }
}

async fn asynchronous(command: &Command, shared: &Shared, here: &Here, out: &mut Out) -> Outcome {
    let clock = &SystemClock;
    let change = match command {
        Command::Up(up) => return up::run(up, shared, here, clock, out).await,
        Command::Build(build) => return build::run(build, shared, here, clock, out).await,
        Command::Down(down) => return change::down(down, shared, here, clock, out).await,
        Command::Start(names) => return change::start(names, shared, here, clock, out).await,
        Command::Config(config) => return file::config(config, shared, here, out),
        Command::Check(check) => return file::check(check, shared, here, out),
        Command::Explain { code } => return explain::run(code.as_deref(), out),
        Command::Volume(volume) => return volume::run(volume, out),
        Command::Version => return about::version(shared, here, out).await,
        Command::Completion { shell } => return about::completion(*shell, out),
        Command::Complete => return about::complete(shared, here, out).await,
        // Commands that only look take the only app that runs, those that change things do not.
        Command::Events(events) => events.command.changes(),
        Command::Ps(_)
        | Command::Top(_)
        | Command::Logs(_)
        | Command::History(_)
        | Command::Why(_)
        | Command::Console => false,
        _ => true,
    };
    let client = match change {
        true => engine_here(here, shared).await?,
        false => any_engine(here, shared, out).await?,
    };
    match command {
        Command::Ps(ps) => ps::run(ps, &client, clock, out).await,
        Command::Top(top) => top::run(top, &client, clock, out).await,
        Command::Logs(logs) => logs::run(logs, client, clock, out).await,
        Command::Exec(exec) => exec::run(exec, &client).await,
        Command::Why(why) => why::run(why, &client, out).await,
        Command::History(history) => history::run(history, &client, out).await,
        Command::Events(events) => events::run(events, &client, clock, out).await,
        Command::Console => about::console(&client, out).await,
        Command::Restart(names) => change::change(Kind::Restart, names, &client, clock, out).await,
        Command::Stop(names) => change::change(Kind::Stop, names, &client, clock, out).await,
        Command::Scale(scale) => change::scale(scale, &client, clock, out).await,
        Command::Rollback(rollback) => change::rollback(rollback, &client, clock, out).await,
        _ => Ok(DONE),
    }
}

fn state_or_here(shared: &Shared, here: &Here) -> Outcome<PathBuf> {
    Ok(state_here(here, shared)?.unwrap_or_else(|| project::state_of(here, shared, &[])))
}

fn engine_arguments(shared: &Shared, state: &std::path::Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--state".into(), state.into()];
    for (flag, value) in [("--console", &shared.console), ("--addresses", &shared.addresses)] {
        arguments.extend(value.iter().map(|value| format!("{flag}={value}").into()));
    }
    arguments
}

fn engine(shared: &Shared, here: &Here, out: &mut Out) -> Outcome {
    let state = state_or_here(shared, here)?;
    let options = crate::engine::EngineOptions {
        state,
        console: launch::console(shared)?,
        addresses: shared.addresses.clone(),
    };
    match crate::engine::run(options) {
        Ok(()) => Ok(DONE),
        Err(problem) => {
            out.error(&problem)?;
            let runs = problem.code == "engine-runs";
            Ok(if runs { crate::engine::RUNS_ALREADY } else { FAILED })
        }
    }
}
