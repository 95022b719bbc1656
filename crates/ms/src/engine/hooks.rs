//! `post_start` and `pre_stop`: commands run inside an instance, one after the other.
//!
//! Not here: when, which control decides. A step is a command as `ms exec` runs it: of the
//! instance's user and environment unless it says otherwise, and ended with its connection. What
//! it prints is passed over but for the end of it, which says why it failed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use base::InstanceId;
use spec::model::Hook;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Of what a step printed, so many bytes of its end are kept.
const OUTPUT_BYTES_KEPT: usize = 1024;

/// Runs the steps in order, as long as each succeeds and all of them take no longer than `within`.
///
/// # Errors
/// The step that failed, and how, in one sentence.
pub(super) async fn run(
    state_dir: &Path,
    id: &InstanceId,
    steps: &[Hook],
    within: Duration,
) -> Result<(), String> {
    let all = async {
        for step in steps {
            one(state_dir, id, step).await.map_err(|why| format!("`{}` {why}", named(step)))?;
        }
        Ok(())
    };
    match tokio::time::timeout(within, all).await {
        Ok(result) => result,
        Err(_) => {
            let within = base::units::show_duration(within);
            Err(format!("the steps did not end within {within}"))
        }
    }
}

fn named(step: &Hook) -> String {
    step.command.join(" ")
}

async fn one(state_dir: &Path, id: &InstanceId, step: &Hook) -> Result<(), String> {
    let (output, theirs) = pipe().map_err(|e| format!("could not be started: {e}"))?;
    let nothing = std::fs::File::open("/dev/null").map_err(|e| e.to_string())?;
    let command = agent::Command {
        argv: step.command.clone(),
        env: step.environment.clone().into_iter().collect(),
        working_dir: step.working_dir.clone(),
        user: step.user.clone(),
        terminal: false,
        privileged: step.privileged,
    };
    let streams = [nothing.as_fd(), theirs.as_fd(), theirs.as_fd()];
    let attached = agent::attach(state_dir, id, command, streams).await;
    let mut attached = attached.map_err(|e| format!("could not be started: {e}"))?;
    drop(theirs);
    let mut said = Said::new(output);
    let ended = {
        let mut ended = std::pin::pin!(attached.ended());
        loop {
            tokio::select! {
                ended = &mut ended => break ended,
                more = said.read() => if !more { break ended.await },
            }
        }
    };
    let ended = ended.map_err(|e| e.to_string())?;
    let how = match (ended.code, ended.signal) {
        (Some(0), None) => return Ok(()),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (code, None) => format!("exited with code {}", code.unwrap_or_default()),
    };
    Err(format!("{how}{}", said.end()))
}

fn pipe() -> std::io::Result<(Receiver, OwnedFd)> {
    let (ours, theirs) = std::io::pipe()?;
    Ok((Receiver::from_owned_fd(ours.into())?, theirs.into()))
}

/// What a step prints, the end of which is kept.
struct Said {
    from: Receiver,
    kept: Vec<u8>,
}

impl Said {
    fn new(from: Receiver) -> Said {
        Said { from, kept: Vec::new() }
    }

    /// Waits for more; false at its end.
    async fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.from.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.keep(&buffer[..length]);
                true
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let surplus = self.kept.len().saturating_sub(OUTPUT_BYTES_KEPT);
        self.kept.drain(..surplus);
    }

    /// `: LAST LINE` or nothing, with what has arrived meanwhile.
    fn end(&mut self) -> String {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.from.try_read(&mut buffer) {
            self.keep(&buffer[..length]);
        }
        let text = String::from_utf8_lossy(&self.kept);
        match text.trim().lines().next_back() {
            Some(line) => format!(": {}", line.trim()),
            None => String::new(),
        }
    }
}
