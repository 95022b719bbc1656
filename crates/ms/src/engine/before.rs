//! `pre_start`: commands that come before an instance's program, one after the other.
//!
//! Each runs to its end as the program would: with its files, mounts, names, address, limits and
//! log; what it changes outside mounts goes with it. Steps with `per_replica` run for each instance
//! at each of its starts, the others once for a release, by the first instance that comes to them
//! while the others wait. An engine that dies while a step runs lets it run again: none is known to
//! be done before its end was seen.
//!
//! Not here: when, which control decides by asking for a start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent::{Agent, ProcessSpec};
use base::InstanceId;
use spec::model::Hook;
use tokio::sync::{Mutex, watch};

/// Why an instance was not started.
#[derive(Clone, Debug, Default)]
pub(super) struct NotStarted {
    /// One sentence.
    pub(super) why: String,
    /// What was said last.
    pub(super) last_lines: Vec<String>,
}

impl From<String> for NotStarted {
    fn from(why: String) -> NotStarted {
        NotStarted { why, last_lines: Vec::new() }
    }
}

/// The steps of a release that run once: how they ended, if they did.
#[derive(Clone, Default)]
pub(super) struct Once(Arc<Turn>);

#[derive(Default)]
struct Turn {
    /// How often they were run to an end.
    ends: AtomicU64,
    last: Mutex<Option<Result<(), NotStarted>>>,
}

/// What there is to do before a program starts.
pub(super) struct Before {
    pub(super) agent: Arc<Agent>,
    pub(super) state_dir: PathBuf,
    pub(super) spec: ProcessSpec,
    pub(super) steps: Vec<Hook>,
    /// Those that run once are not known to be done.
    pub(super) once: Option<Once>,
    /// Becomes true when nobody wants the instance any more.
    pub(super) unwanted: watch::Receiver<bool>,
}

/// Ends what an engine that died has left running.
pub(super) fn sweep(agent: &Agent, state_dir: &Path) {
    for entry in std::fs::read_dir(folder(state_dir)).into_iter().flatten().flatten() {
        // A step of the same instance tries it again.
        let _ = agent.remove_step(&entry.path());
    }
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("steps")
}

impl Before {
    /// Runs the steps, as far as they are not done; whether those that run once are done now.
    pub(super) async fn run(mut self) -> (bool, Result<(), NotStarted>) {
        let (each, once): (Vec<Hook>, Vec<Hook>) =
            std::mem::take(&mut self.steps).into_iter().partition(|step| step.per_replica);
        let mut once_done = false;
        if let Some(turn) = self.once.take().filter(|_| !once.is_empty()) {
            if let Err(why) = self.once(&turn, once).await {
                return (false, Err(why));
            }
            once_done = true;
        }
        let done = self.all(each).await;
        (once_done, done)
    }

    async fn once(&mut self, turn: &Once, steps: Vec<Hook>) -> Result<(), NotStarted> {
        let before = turn.0.ends.load(Ordering::Relaxed);
        let mut unwanted = self.unwanted.clone();
        let mut last = tokio::select! {
            last = turn.0.last.lock() => last,
            _ = unwanted.wait_for(|unwanted| *unwanted) => return Err(given_up()),
        };
        // Who waited while they ran has the same answer.
        let ran_meanwhile = turn.0.ends.load(Ordering::Relaxed) != before;
        if let Some(result) = &*last
            && (result.is_ok() || ran_meanwhile)
        {
            return result.clone();
        }
        let result = self.all(steps).await;
        if !*self.unwanted.borrow() {
            turn.0.ends.fetch_add(1, Ordering::Relaxed);
            *last = Some(result.clone());
        }
        result
    }

    async fn all(&self, steps: Vec<Hook>) -> Result<(), NotStarted> {
        for step in steps {
            let (agent, spec) = (self.agent.clone(), with(&self.spec, &step));
            let folder = folder(&self.state_dir).join(spec.id.to_string());
            let unwanted = self.unwanted.clone();
            let ran = tokio::task::spawn_blocking(move || {
                // Whoever asked is gone when the engine ends.
                let is_unwanted = || *unwanted.borrow() || unwanted.has_changed().is_err();
                agent.run_before(&spec, &folder, &is_unwanted)
            });
            let failed = |how: String| format!("its `pre_start` step `{}` {how}", named(&step));
            let exit = match ran.await {
                Ok(Ok(Some(exit))) => exit,
                Ok(Ok(None)) => return Err(given_up()),
                Ok(Err(error)) => return Err(failed(format!("did not run: {error}")).into()),
                Err(_) => return Err(failed("did not run: the engine failed at it".into()).into()),
            };
            if exit.code != Some(0) || exit.signal.is_some() {
                let how = match (exit.out_of_memory, exit.code, exit.signal) {
                    (true, ..) => "was killed at its memory limit".to_owned(),
                    (_, _, Some(signal)) => format!("was killed by signal {signal}"),
                    (_, Some(code), None) => format!("exited with code {code}"),
                    (_, None, None) => "ended, and nobody saw how".to_owned(),
                };
                return Err(NotStarted { why: failed(how), last_lines: exit.last_lines });
            }
        }
        Ok(())
    }
}

fn given_up() -> NotStarted {
    "it was asked to stop before it was started".to_owned().into()
}

fn named(step: &Hook) -> String {
    step.command.join(" ")
}

/// The process of a step: the instance's own with what the step says instead.
fn with(spec: &ProcessSpec, step: &Hook) -> ProcessSpec {
    let mut spec = spec.clone();
    spec.argv.clone_from(&step.command);
    // The last of a name counts.
    spec.env.retain(|(name, _)| !step.environment.contains_key(name));
    spec.env.extend(step.environment.clone());
    if let Some(folder) = &step.working_dir {
        spec.working_dir.clone_from(folder);
    }
    if step.user.is_some() {
        spec.user.clone_from(&step.user);
    }
    spec.rights.privileged |= step.privileged;
    spec.health = None;
    spec.ports = Vec::new();
    spec
}

/// What is under way for an instance that is being started.
pub(super) struct Launch {
    /// Of this attempt.
    pub(super) attempt: u32,
    /// Steps come before its program.
    pub(super) has_steps: bool,
    /// Made true when nobody wants it any more.
    unwanted: watch::Sender<bool>,
}

impl Launch {
    /// A launch, and what tells that nobody wants it any more.
    pub(super) fn new(attempt: u32, has_steps: bool) -> (Launch, watch::Receiver<bool>) {
        let (unwanted, is_unwanted) = watch::channel(false);
        (Launch { attempt, has_steps, unwanted }, is_unwanted)
    }

    /// Nobody wants it any more.
    pub(super) fn give_up(&self) {
        self.unwanted.send_replace(true);
    }

    /// What people are told of it.
    pub(super) fn detail(&self) -> &'static str {
        if self.has_steps { "its `pre_start` steps come first" } else { "" }
    }
}

/// Starts an instance after its steps; whether those that run once are done.
pub(super) async fn start(before: Before) -> (bool, Result<(), NotStarted>) {
    let (agent, spec, unwanted) =
        (before.agent.clone(), before.spec.clone(), before.unwanted.clone());
    let (once_done, done) = before.run().await;
    if let Err(why) = done {
        return (once_done, Err(why));
    }
    if *unwanted.borrow() {
        return (once_done, Err(given_up()));
    }
    let id: InstanceId = spec.id.clone();
    let started = agent.start(spec).await.map_err(|e| NotStarted::from(e.to_string()));
    if started.is_ok() && *unwanted.borrow() {
        // Asked to stop when it could not hear it yet.
        let _ = agent.stop(&id, libc::SIGTERM, STOP_GRACE).await;
    }
    (once_done, started)
}

/// How long an instance may take to end that was asked to before it ran.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(10);
