//! `x-mainspring: {prepare: …}`: what is run once on the host before a release starts.
//!
//! Not here: builds from Dockerfiles. It runs in the user's own environment and terminal, not in
//! the engine's, since it is the user's own toolchain that it needs. Invariant: when this returns,
//! the command that it ran has ended.

use std::collections::BTreeSet;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base::units::show_duration;
use base::{Clock, Problem};
use spec::App;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use super::interrupt::Interrupt;
use super::out::Out;
use super::stop::{FAILED, Outcome, Stop};
use super::style::{Style, paint};

/// What took no longer than this is not worth a word.
const QUICK: Duration = Duration::from_secs(1);
/// How much of the output an error quotes.
const TAIL_LINES: usize = 20;
/// How much of the output is kept to quote from.
const TAIL_BYTES: usize = 16 << 10;
/// Reads that empty any pipe: its 1 MiB at most, by 4096 bytes.
const REST_READS: usize = 256;

/// Runs each distinct command of these services once, in the project folder.
pub(crate) async fn run(
    app: &App,
    names: &[String],
    interrupt: &mut Interrupt,
    clock: &dyn Clock,
    out: &mut Out,
) -> Outcome<()> {
    let mut done: BTreeSet<&[String]> = BTreeSet::new();
    for (name, service) in &app.services {
        let Some(command) = service.extension.prepare.as_deref().filter(|c| !c.is_empty()) else {
            continue;
        };
        if !names.iter().any(|n| n == name.as_str()) || !done.insert(command) {
            continue;
        }
        let shown = command.join(" ");
        let dim = out.mode.color_err;
        out.progress(&paint(dim, Style::Dim, &format!("prepare  {shown}")))?;
        out.flush()?;
        let failed = |cause: String| {
            let what = format!("cannot prepare `{name}`: `{shown}` failed");
            let problem = Problem::new("prepare-failed", what)
                .with_place(service.place.clone())
                .with_cause(cause)
                .with_next(format!("run it yourself in {}", app.project_dir.display()));
            Stop::new(FAILED, problem)
        };
        let start = clock.monotonic();
        let (child, mut output) = spawn(command, app, out.mode.quiet || out.mode.json)
            .map_err(|e| failed(e.to_string()))?;
        let ended = finish(child, output.as_mut(), interrupt).await;
        let Some(status) = ended.map_err(|e| failed(e.to_string()))? else {
            return Err(Stop::Interrupted);
        };
        if !status.success() {
            let said = match &output {
                None => "its output is above".to_owned(),
                Some(output) => output.tail(),
            };
            return Err(failed(format!("{status}; {said}")));
        }
        let took = clock.monotonic() - start;
        if took > QUICK {
            let line = format!("prepared in {}", show_duration(took));
            out.progress(&paint(dim, Style::Dim, &line))?;
        }
    }
    Ok(())
}

/// Starts it. What it says is progress, so it goes where progress goes; it is collected when there
/// shall be none.
fn spawn(command: &[String], app: &App, collect: bool) -> std::io::Result<(Child, Option<Output>)> {
    let (stdout, stderr, output) = if collect {
        let (receiver, sender) = std::io::pipe()?;
        let output = Output { pipe: Receiver::from_owned_fd(receiver.into())?, kept: Vec::new() };
        (sender.try_clone()?.into(), sender.into(), Some(output))
    } else {
        let stderr = rustix::io::dup(rustix::stdio::stderr());
        (stderr.map_or_else(|_| Stdio::null(), Stdio::from), Stdio::inherit(), None)
    };
    let child = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(&app.project_dir)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, output))
}

/// Waits for its end; `None` when the person asked to end instead. The command is told so, too,
/// and killed when asked again.
async fn finish(
    mut child: Child,
    mut output: Option<&mut Output>,
    interrupt: &mut Interrupt,
) -> std::io::Result<Option<ExitStatus>> {
    let mut asked = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            () = Output::more(&mut output) => {}
            () = interrupt.next() => {
                if std::mem::replace(&mut asked, true) {
                    child.start_kill()?;
                } else if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
                    && let Some(pid) = rustix::process::Pid::from_raw(pid)
                {
                    // At a terminal it has heard of it already; it may be gone, which is as well.
                    _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
        }
    };
    // What it started and left behind may hold the pipe open, so its end is not waited for.
    if let Some(output) = output {
        output.rest();
    }
    Ok((!asked).then_some(status))
}

/// What a command said last.
struct Output {
    pipe: Receiver,
    kept: Vec<u8>,
}

impl Output {
    /// Collects what is there, or waits until something is; for ever when there is nothing more.
    async fn more(output: &mut Option<&mut Output>) {
        if let Some(output) = output {
            while output.pipe.readable().await.is_ok() {
                let mut bytes = [0; 4096];
                match output.pipe.try_read(&mut bytes) {
                    Ok(0) => break,
                    Ok(read) => return output.keep(&bytes[..read]),
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        }
        std::future::pending().await
    }

    /// Collects what is in the pipe now. Asks the kernel, as the runtime may not know of it yet.
    fn rest(&mut self) {
        let mut bytes = [0; 4096];
        // What was left behind may write faster than this reads.
        for _ in 0..REST_READS {
            match rustix::io::read(&self.pipe, &mut bytes) {
                Ok(read) if read > 0 => self.keep(&bytes[..read]),
                _ => return,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        self.kept.drain(..self.kept.len().saturating_sub(TAIL_BYTES));
    }

    /// The last lines, as the end of a sentence.
    fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        match lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n") {
            said if said.is_empty() => "it said nothing".to_owned(),
            said => format!("it said:\n{said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use base::SystemClock;

    use super::super::out::Mode;
    use super::super::testing::output;
    use super::*;

    fn prepare(script: &str, mode: Mode) -> (Outcome<()>, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("compose.yaml");
        let extension = "x-mainspring: {native: true, prepare: [sh, -c, ";
        let script = serde_json::to_string(script).unwrap();
        let web = format!("{extension}{script}]}}\n    command: [sleep, '9']");
        let text = format!("services:\n  web:\n    image: a/b:1\n    {web}\n");
        std::fs::write(&file, text).unwrap();
        let here = super::super::project::Here { folder: dir.path().to_owned() };
        let (mut out, _, stderr) = output(mode);
        let shared = super::super::args::Shared::default();
        let app = super::super::compose::load(&here, &shared, &[file], &[], &mut out).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let mut interrupt = Interrupt::listen().unwrap();
            run(&app, &["web".to_owned()], &mut interrupt, &SystemClock, &mut out).await
        });
        (outcome, stderr.text())
    }

    fn cause(outcome: Outcome<()>) -> String {
        match outcome {
            Err(Stop::Failed { problems, .. }) => problems[0].cause.clone().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_silent_failure_quotes_the_last_lines_of_both_streams() {
        let quiet = Mode { quiet: true, ..Mode::default() };
        let script = "seq 1 30000; echo oh >&2; echo no; exit 3";
        let (outcome, said) = prepare(script, quiet);
        let cause = cause(outcome);
        assert!(cause.starts_with("exit status: 3; it said:\n29983\n29984\n"), "{cause}");
        assert!(cause.ends_with("\n30000\noh\nno"), "{cause}");
        assert_eq!(said, "");
    }

    #[test]
    fn what_is_left_behind_with_the_pipe_open_is_not_waited_for() {
        let json = Mode { json: true, ..Mode::default() };
        let (outcome, _) = prepare("sleep 3600 & echo $$!; exit 4", json);
        let cause = cause(outcome);
        let pid = cause.strip_prefix("exit status: 4; it said:\n").unwrap();
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn the_command_is_named_before_it_runs() {
        let (outcome, said) = prepare("true", Mode::default());
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(said, "prepare  sh -c true\n");
        assert_eq!(
            cause(prepare("false", Mode::default()).0),
            "exit status: 1; its output is above"
        );
    }
}
