//! Small commands: where the console is, which versions, scripts for shells.

use std::io::Write;

use clap::CommandFactory;
use console::wire::Status;
use serde::Serialize;

use super::api::Client;
use super::args::{Cli, Shared};
use super::out::Out;
use super::project::{Here, files, state_here};
use super::stop::{DONE, FAILED, Outcome, Stop};

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints where the console is.
pub(crate) async fn console(client: &Client, out: &mut Out) -> Outcome {
    #[derive(Serialize)]
    struct Console {
        console: Option<String>,
    }
    let console = client.status().await?.console;
    let code = match (&console, out.mode.json) {
        (_, true) => {
            out.json("ms.console/1", &Console { console })?;
            DONE
        }
        (Some(url), false) => {
            out.line(url)?;
            DONE
        }
        (None, false) => {
            let problem = base::Problem::new("console-off", "the console is off")
                .with_cause("the engine was started with --console off")
                .with_next("ms down, then ms up --console 127.0.0.1:7700");
            return Err(Stop::new(FAILED, problem));
        }
    };
    out.flush()?;
    Ok(code)
}

/// Prints the versions of this program and of the engine, when one runs here.
pub(crate) async fn version(shared: &Shared, here: &Here, out: &mut Out) -> Outcome {
    // Which app this is may be unclear; the version is not.
    let state = state_here(here, shared).ok().flatten();
    let status: Option<Status> = match state {
        Some(state) => Client::new(&state).status().await.ok(),
        None => None,
    };
    if out.mode.json {
        #[derive(Serialize)]
        struct Versions<'a> {
            version: &'a str,
            engine: Option<&'a str>,
        }
        let engine = status.as_ref().map(|status| status.version.as_str());
        out.json("ms.version/1", &Versions { version: VERSION, engine })?;
    } else {
        out.line(&format!("ms {VERSION}"))?;
        if let Some(status) = status {
            out.line(&format!("engine {} (pid {})", status.version, status.pid))?;
        }
    }
    out.flush()?;
    Ok(DONE)
}

/// Prints the completion script of a shell. It asks `ms __complete` for the names of services.
pub(crate) fn completion(shell: clap_complete::Shell, out: &mut Out) -> Outcome {
    let mut script = Vec::new();
    let all = Cli::command();
    let visible = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut shown =
        clap::Command::new("ms").args(all.get_arguments().cloned()).subcommands(visible);
    clap_complete::generate(shell, &mut shown, "ms", &mut script);
    script.write_all(services_of(shell).as_bytes())?;
    let script = String::from_utf8_lossy(&script);
    if out.mode.json {
        out.json("ms.completion/1", &serde_json::json!({ "script": script }))?;
    } else {
        out.text(&script)?;
    }
    out.flush()?;
    Ok(DONE)
}

/// Adds names of services to what clap generates, where the shell allows it.
fn services_of(shell: clap_complete::Shell) -> &'static str {
    match shell {
        clap_complete::Shell::Bash => include_str!("completion/ms.bash"),
        clap_complete::Shell::Zsh => include_str!("completion/ms.zsh"),
        clap_complete::Shell::Fish => include_str!("completion/ms.fish"),
        _ => "",
    }
}

/// Prints the names of the services: those that run here, else those in the file. Says nothing
/// when there are none, since it is a shell that asks.
pub(crate) async fn complete(shared: &Shared, here: &Here, out: &mut Out) -> Outcome {
    let state = state_here(here, shared).ok().flatten();
    let running = match state {
        Some(state) => Client::new(&state).overview().await.ok(),
        None => None,
    };
    let mut names: Vec<String> = running
        .map(|overview| overview.services.iter().map(|s| s.name.to_string()).collect())
        .unwrap_or_default();
    if let Ok(files) = files(here, &shared.file)
        && let Ok((app, _)) = super::compose::read(here, shared, &files, &[])
    {
        names.extend(app.services.keys().map(ToString::to_string));
    }
    names.sort();
    names.dedup();
    names.iter().try_for_each(|name| out.line(name))?;
    out.flush()?;
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::super::out::Mode;
    use super::super::testing::output;
    use super::*;

    #[test]
    fn completion_asks_for_services() {
        for shell in
            [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
        {
            let (mut out, stdout, _) = output(Mode::default());
            assert_eq!(completion(shell, &mut out).unwrap(), DONE);
            let script = stdout.text();
            assert!(script.contains("ms __complete"), "{shell}");
            assert!(script.contains("rollback"), "{shell}");
            assert!(!script.contains("supervise"), "{shell} completes a hidden command");
        }
    }
}
