//! `x-mainspring: {prepare: …}`: what is run once on the host before a release starts.
//!
//! Not here: builds from Dockerfiles. It runs in the user's own environment and terminal, not in
//! the engine's, since it is the user's own toolchain that it needs.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use base::Problem;
use spec::App;

use super::out::Out;
use super::stop::{FAILED, Outcome, Stop};

/// Runs each distinct command of these services once, in the project folder.
pub(crate) fn run(app: &App, names: &[String], out: &mut Out) -> Outcome<()> {
    let mut done: BTreeSet<&[String]> = BTreeSet::new();
    for (name, service) in &app.services {
        let Some(command) = service.extension.prepare.as_deref().filter(|c| !c.is_empty()) else {
            continue;
        };
        if !names.iter().any(|n| n == name.as_str()) || !done.insert(command) {
            continue;
        }
        out.flush()?;
        let shown = command.join(" ");
        let failed = |cause: String| {
            let what = format!("cannot prepare `{name}`: `{shown}` failed");
            let problem = Problem::new("prepare-failed", what)
                .with_place(service.place.clone())
                .with_cause(cause)
                .with_next(format!("run it yourself in {}", app.project_dir.display()));
            Stop::new(FAILED, problem)
        };
        // Its output is progress, so it goes where progress goes.
        let output = if out.mode.quiet || out.mode.json {
            Stdio::null()
        } else {
            let stderr = rustix::io::dup(rustix::stdio::stderr());
            stderr.map_or_else(|_| Stdio::null(), Stdio::from)
        };
        let status = Command::new(&command[0])
            .args(&command[1..])
            .current_dir(&app.project_dir)
            .stdin(Stdio::null())
            .stdout(output)
            .status()
            .map_err(|e| failed(e.to_string()))?;
        if !status.success() {
            return Err(failed(format!("{status}; its output is above")));
        }
    }
    Ok(())
}
