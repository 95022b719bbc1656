//! One instance as the engine sees it: what it is, its shim, and its end.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Clock, InstanceId};
use rustix::process::{Pid, PidfdFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::agent::OpError;
use crate::cgroup::{REMOVAL_PAUSE, REMOVAL_TRIES};
use crate::event::{InstanceEvent, InstanceStatus, Phase, What};
use crate::exit::Exit;
use crate::health;
use crate::isolation::{Addressing, Mode};
use crate::spec::ProcessSpec;
use crate::start::Setting;
use crate::wire::{self, ExecOutput, Reply, Request, RunRecord};

/// How long a shim may take to answer what it answers at once, and to end after its last kill.
const SHIM_PATIENCE: Duration = Duration::from_secs(5);

/// What all instances of one agent share.
pub(crate) struct Shared {
    pub(crate) setting: Setting,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: mpsc::Sender<InstanceEvent>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.setting.cgroups.close();
        self.setting.trash.stop();
    }
}

/// One instance.
pub(crate) struct Instance {
    pub(crate) spec: Arc<ProcessSpec>,
    /// The address of its own, where it has one.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) folder: PathBuf,
    state: Mutex<State>,
    ended: watch::Sender<bool>,
}

struct State {
    phase: Phase,
    run: Option<RunRecord>,
    pidfd: Option<Arc<OwnedFd>>,
    /// Keeps the way to the control socket short.
    folder_fd: Option<Arc<OwnedFd>>,
    healthy: Option<bool>,
    detail: Option<String>,
    adopted: bool,
}

impl Instance {
    pub(crate) fn new(setting: &Setting, spec: ProcessSpec) -> Instance {
        let own = setting.addressing == Addressing::Own;
        let state = State {
            phase: Phase::Starting,
            run: None,
            pidfd: None,
            folder_fd: None,
            healthy: None,
            detail: None,
            adopted: false,
        };
        Instance {
            address: spec.address.filter(|_| own),
            folder: setting.folder(&spec.id),
            spec: Arc::new(spec),
            state: Mutex::new(state),
            ended: watch::Sender::new(false),
        }
    }

    pub(crate) fn id(&self) -> &InstanceId {
        &self.spec.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic happens while it is held; the state is plain values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> InstanceStatus {
        let state = self.state();
        let live = !matches!(state.phase, Phase::Exited(_));
        InstanceStatus {
            id: self.spec.id.clone(),
            spec: self.spec.clone(),
            pid: state.run.as_ref().filter(|_| live).map(|run| run.program_pid),
            phase: state.phase.clone(),
            healthy: state.healthy,
            health_detail: state.detail.clone(),
            started_at: state.run.as_ref().map(|run| run.started_at),
            adopted: state.adopted,
            warnings: state.run.as_ref().map(|run| run.warnings.clone()).unwrap_or_default(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state().phase, Phase::Exited(_))
    }

    /// The shim's pid, while it is known.
    pub(crate) fn shim_pid(&self) -> Option<u32> {
        self.state().run.as_ref().map(|run| run.shim_pid)
    }

    /// Takes note of the running shim; false when it is not there any more.
    pub(crate) fn attach(&self, run: RunRecord, adopted: bool) -> bool {
        let folder = fs::File::open(&self.folder).map(|file| Arc::new(OwnedFd::from(file)));
        let pidfd = open_pidfd(&run);
        let mut state = self.state();
        state.folder_fd = folder.ok();
        state.adopted = adopted;
        state.run = Some(run);
        state.phase = Phase::Running;
        state.pidfd = pidfd.map(Arc::new);
        state.pidfd.is_some()
    }

    /// Waits for the end, watching health meanwhile, and reports both.
    pub(crate) async fn live(&self, shared: &Shared) {
        let known = match &self.state().phase {
            Phase::Exited(exit) => Some(exit.clone()),
            _ => None,
        };
        if let Some(exit) = known {
            return self.report(shared, What::Exited(exit)).await;
        }
        let pidfd = self.state().pidfd.clone();
        if let Some(pidfd) = pidfd {
            tokio::select! {
                () = until_readable(&pidfd) => {}
                () = health::watch(shared, self) => {}
            }
        }
        self.finish(shared).await;
    }

    /// It ended while no engine looked. What may be left of it is killed, so that another of its
    /// name can be started.
    pub(crate) fn ended_before(&self, shared: &Shared) {
        let name = self.spec.id.to_string();
        if shared.setting.cgroups.kill(&name) {
            for _ in 0..REMOVAL_TRIES {
                if shared.setting.cgroups.remove(&name) {
                    break;
                }
                std::thread::sleep(REMOVAL_PAUSE);
            }
        }
        let exit = self.read_exit(shared);
        self.state().phase = Phase::Exited(exit);
        self.ended.send_replace(true);
    }

    async fn finish(&self, shared: &Shared) {
        let name = self.spec.id.to_string();
        shared.setting.cgroups.kill(&name);
        let exit = self.read_exit(shared);
        // Before anybody may start another of this name.
        for _ in 0..REMOVAL_TRIES {
            if shared.setting.cgroups.remove(&name) {
                break;
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        self.state().phase = Phase::Exited(exit.clone());
        self.ended.send_replace(true);
        self.report(shared, What::Exited(exit)).await;
    }

    /// What the shim recorded, or that nobody knows.
    fn read_exit(&self, shared: &Shared) -> Exit {
        let now = shared.clock.now();
        let recorded = fs::read(self.folder.join("exit.json"));
        let recorded = recorded.ok().and_then(|text| serde_json::from_slice(&text).ok());
        recorded.unwrap_or_else(|| {
            let began = self.state().run.as_ref().map_or(now, |run| run.started_at);
            Exit {
                code: None,
                signal: None,
                out_of_memory: false,
                left: Vec::new(),
                last_lines: crate::exit::last_lines(&shared.setting.logs(self.id())),
                at: now,
                ran_for: now.since(began),
            }
        })
    }

    /// Reports a change; nothing when it is known already.
    pub(crate) async fn verdict(&self, shared: &Shared, what: What) {
        let healthy = matches!(what, What::Healthy);
        {
            let mut state = self.state();
            if state.healthy == Some(healthy) {
                return;
            }
            state.healthy = Some(healthy);
            if healthy {
                state.detail = None;
            }
        }
        self.report(shared, what).await;
    }

    pub(crate) fn note_failure(&self, detail: &str) {
        self.state().detail = Some(detail.to_owned());
    }

    pub(crate) async fn report(&self, shared: &Shared, what: What) {
        let id = self.spec.id.clone();
        let event = InstanceEvent { id, attempt: self.spec.attempt, at: shared.clock.now(), what };
        // Nobody listens when the engine is shutting down.
        let _unheard = shared.events.send(event).await;
    }

    pub(crate) async fn stop(
        &self,
        shared: &Shared,
        signal: i32,
        grace: Duration,
    ) -> Result<Exit, OpError> {
        {
            let mut state = self.state();
            match &state.phase {
                Phase::Exited(exit) => return Ok(exit.clone()),
                Phase::Starting => return Err(OpError::NotRunning(self.spec.id.clone())),
                Phase::Running | Phase::Stopping => state.phase = Phase::Stopping,
            }
        }
        let asked = self.ask(&Request::Stop { signal, grace }, SHIM_PATIENCE).await;
        let patience =
            if asked.is_ok() { grace.saturating_add(SHIM_PATIENCE) } else { Duration::ZERO };
        let mut ended = self.ended.subscribe();
        if tokio::time::timeout(patience, ended.wait_for(|ended| *ended)).await.is_err() {
            self.kill_hard(shared);
            // A killed process ends; only the kernel decides when.
            let _sender_lives_in_self = ended.wait_for(|ended| *ended).await;
        }
        match &self.state().phase {
            Phase::Exited(exit) => Ok(exit.clone()),
            _ => Err(OpError::NotRunning(self.spec.id.clone())),
        }
    }

    /// Past a shim that does not answer.
    fn kill_hard(&self, shared: &Shared) {
        if shared.setting.cgroups.kill(&self.spec.id.to_string()) {
            return;
        }
        let pidfd = self.state().pidfd.clone();
        let Some(pidfd) = pidfd else { return };
        if shared.setting.mode == Mode::None
            && let Some(shim) = self.shim_pid()
        {
            for pid in crate::procfs::tree(&crate::procfs::all(), shim) {
                crate::sys::kill(pid.cast_signed(), libc::SIGKILL);
            }
        }
        let _gone = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    }

    pub(crate) async fn signal(&self, signal: i32) -> Result<(), OpError> {
        self.ask(&Request::Signal(signal), SHIM_PATIENCE).await.map(drop)
    }

    pub(crate) async fn exec(
        &self,
        argv: Vec<String>,
        timeout: Duration,
        output_bytes_max: usize,
    ) -> Result<ExecOutput, OpError> {
        let request = Request::Exec { argv, timeout, output_bytes_max };
        match self.ask(&request, timeout.saturating_add(SHIM_PATIENCE)).await? {
            Reply::Output(output) => Ok(output),
            Reply::Refused(why) => Err(OpError::Refused { id: self.spec.id.clone(), why }),
            Reply::Done | Reply::Ended(_) => Ok(ExecOutput::default()),
        }
    }

    async fn ask(&self, request: &Request, patience: Duration) -> Result<Reply, OpError> {
        let gone = || OpError::NotRunning(self.spec.id.clone());
        let folder = match &*self.state() {
            State { phase: Phase::Running | Phase::Stopping, folder_fd: Some(fd), .. } => {
                fd.clone()
            }
            _ => return Err(gone()),
        };
        let talk = async {
            let path = format!("/proc/self/fd/{}/shim.sock", folder.as_fd().as_raw_fd());
            let mut socket = UnixStream::connect(path).await?;
            socket.write_all(&wire::encode(request)?).await?;
            let length = socket.read_u32_le().await? as usize;
            if length > wire::MESSAGE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "answer over 1 MiB"));
            }
            let mut text = vec![0; length];
            socket.read_exact(&mut text).await?;
            Ok(serde_json::from_slice(&text)?)
        };
        match tokio::time::timeout(patience, talk).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(cause)) => Err(OpError::Shim { id: self.spec.id.clone(), cause }),
            Err(_) => {
                let cause = io::ErrorKind::TimedOut.into();
                Err(OpError::Shim { id: self.spec.id.clone(), cause })
            }
        }
    }
}

/// A descriptor of the shim, if the process of that number is still the one that was recorded.
pub(crate) fn open_pidfd(run: &RunRecord) -> Option<OwnedFd> {
    let pid = Pid::from_raw(run.shim_pid.cast_signed())?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // Asked after opening: the descriptor cannot change its mind, the number could.
    let same_boot = run.boot == crate::procfs::boot_id();
    (same_boot && crate::procfs::is_alive(run.shim_pid, run.shim_start)).then_some(pidfd)
}

async fn until_readable(pidfd: &OwnedFd) {
    let registered = pidfd.try_clone().ok().and_then(crate::sys::watch);
    match registered {
        Some(pidfd) => drop(pidfd.readable().await),
        None => {
            // Without a place in the reactor, look.
            while rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::CONT).is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
