//! The agent: every instance of this engine.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Clock, InstanceId, Ipv4Cidr};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::cgroup::{Cgroups, TRIAL};
use crate::descriptors::DESCRIPTORS_MAX;
use crate::event::{InstanceEvent, InstanceStatus, Usage, What};
use crate::exit::Exit;
use crate::instance::{Instance, Shared};
use crate::isolation::{self, Addressing, Isolation, Mode};
use crate::listen::Ports;
use crate::shim::LogLimits;
use crate::spec::ProcessSpec;
use crate::start::{self, Setting, StartError};
use crate::trash::Trash;
use crate::usage::Measured;
use crate::wire::{EXEC_OUTPUT_BYTES_MAX, ExecOutput, RunRecord};

/// How many events may wait to be received; past it, reporting waits.
const EVENTS_MAX: usize = 1024;

/// What the files of an instance take about, in bytes.
const ROOM_BYTES: usize = 128 << 10;

/// How long a measurement of usage is good for.
const USAGE_AGE_MAX: Duration = Duration::from_secs(1);

/// What an agent is opened with.
pub struct AgentConfig {
    /// The engine's folder; `instances`, `logs` and `layers` are made in it.
    pub state_dir: PathBuf,
    /// Addresses of services; connections to them come from the caller's own address.
    pub pool: Ipv4Cidr,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How to isolate; `None` is the best that this machine allows.
    pub mode: Option<Mode>,
    /// How much output is kept.
    pub log_limits: LogLimits,
    /// Kept open by every shim for as long as its instance lives, 8 at most.
    pub inherit_fds: Vec<OwnedFd>,
    /// The executable whose `main` calls [`crate::shim::main`]; `/proc/self/exe` as a rule.
    pub shim: PathBuf,
}

impl AgentConfig {
    /// The usual configuration for this folder.
    pub fn new(state_dir: PathBuf, pool: Ipv4Cidr, clock: Arc<dyn Clock>) -> AgentConfig {
        let (mode, log_limits) = (None, LogLimits::default());
        let shim = PathBuf::from("/proc/self/exe");
        AgentConfig { state_dir, pool, clock, mode, log_limits, inherit_fds: Vec::new(), shim }
    }
}

/// Why an agent could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A folder could not be made or read.
    #[error("cannot use {path} for instances: {cause}")]
    State {
        /// Which folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// More descriptors than shims keep.
    #[error("{0} descriptors to keep open, 8 at most")]
    Descriptors(usize),
}

/// Why something could not be done to an instance.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// There is none of that name.
    #[error("there is no instance {0}")]
    Unknown(InstanceId),
    /// It has not begun, or has ended.
    #[error("{0} is not running")]
    NotRunning(InstanceId),
    /// It must be stopped first.
    #[error("{0} is running: stop it first")]
    Running(InstanceId),
    /// Its shim could not be talked to.
    #[error("the shim of {id} does not answer: {cause}")]
    Shim {
        /// Which.
        id: InstanceId,
        /// Why.
        cause: io::Error,
    },
    /// Its shim could not do it.
    #[error("cannot run that in {id}: {why}")]
    Refused {
        /// Which.
        id: InstanceId,
        /// Why.
        why: String,
    },
    /// Its files could not be changed.
    #[error("cannot change the files of {id}: {cause}")]
    Io {
        /// Which.
        id: InstanceId,
        /// Why.
        cause: io::Error,
    },
}

type Instances = BTreeMap<InstanceId, Arc<Instance>>;

/// Every instance of one engine. Cheap to clone; when the last clone is dropped nobody watches
/// the instances any more, and they run on.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
    isolation: Arc<Isolation>,
    instances: Arc<Mutex<Instances>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    usage: Arc<Mutex<Measured>>,
    /// How the machine looked up names when instances were told last.
    resolver: Arc<Mutex<Option<String>>>,
}

impl Agent {
    /// Finds what this machine allows, and the instances that run already: those are listed by
    /// [`Agent::instances`] at once, and those that ended meanwhile are reported as events.
    ///
    /// Call it inside a Tokio runtime with I/O and time.
    pub fn open(config: AgentConfig) -> Result<(Agent, mpsc::Receiver<InstanceEvent>), AgentError> {
        if config.inherit_fds.len() > DESCRIPTORS_MAX {
            return Err(AgentError::Descriptors(config.inherit_fds.len()));
        }
        let state_error = |path: &PathBuf| {
            let path = path.clone();
            move |cause| AgentError::State { path, cause }
        };
        for folder in ["instances", "logs", "layers"] {
            let path = config.state_dir.join(folder);
            fs::create_dir_all(&path).map_err(state_error(&path))?;
            // Environments and output may hold secrets.
            let owner_only = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&path, owner_only).map_err(state_error(&path))?;
        }
        let state = fs::canonicalize(&config.state_dir).map_err(state_error(&config.state_dir))?;
        let hash = Sha256::digest(state.as_os_str().as_encoded_bytes());
        let name =
            format!("mainspring-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]);
        let trash = Arc::new(Trash::new(&state));
        // On a full disk every way to isolate would seem to be refused.
        has_room(&state).map_err(state_error(&state))?;
        let (mut cgroups, no_cgroups) = Cgroups::open(&name);
        let trial = cgroups.make_trial();
        let isolation::Found { mode, own_files, no_directory, mut missing } =
            isolation::best(&config.shim, (&state, &trash), trial.as_deref(), config.mode);
        missing.extend(no_cgroups);
        let attached = try_addresses(trial.as_deref(), config.pool);
        cgroups.remove(TRIAL);
        if let Some(why) = no_directory {
            missing.push(format!("cgroup2 directories: {why}"));
            cgroups.leave_unified();
        }
        let addressing = match attached {
            Ok(()) if cgroups.unified(TRIAL).is_some() => Addressing::Own,
            other => {
                let why = other.err().unwrap_or_else(|| "no cgroup2 directory".to_owned());
                missing.push(format!("addresses of their own: {why}"));
                Addressing::Port
            }
        };
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let setting = Setting {
            state,
            shim: config.shim,
            mode,
            own_files,
            addressing,
            pool: config.pool,
            log_limits: config.log_limits,
            kept: config.inherit_fds,
            cgroups,
            trash: trash.clone(),
        };
        let agent = Agent {
            shared: Arc::new(Shared { setting, clock: config.clock, events }),
            isolation: Arc::new(Isolation { mode, own_files, addressing, missing }),
            instances: Arc::default(),
            tasks: Arc::default(),
            usage: Arc::default(),
            resolver: Arc::default(),
        };
        agent.spawn(trash.keep_empty());
        agent.adopt().map_err(state_error(&config.state_dir))?;
        Ok((agent, receiver))
    }

    pub(crate) fn setting(&self) -> &Setting {
        &self.shared.setting
    }

    /// How instances are kept apart here.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Finds the instances that an earlier engine left.
    fn adopt(&self) -> io::Result<()> {
        let setting = &self.shared.setting;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for entry in fs::read_dir(setting.state.join("instances"))? {
            let folder = entry?.path();
            let read = |name: &str| fs::read(folder.join(name)).ok();
            let spec =
                read("spec.json").and_then(|t| serde_json::from_slice::<ProcessSpec>(&t).ok());
            let run = read("run.json").and_then(|t| serde_json::from_slice::<RunRecord>(&t).ok());
            let (Some(spec), Some(run)) = (spec, run) else {
                // Its program never ran, and without this folder never will.
                let _in_the_way_of_nobody = setting.trash.take(&folder);
                continue;
            };
            if setting.folder(&spec.id) != folder {
                continue;
            }
            let instance = Arc::new(Instance::new(setting, spec));
            let shim = run.shim_pid;
            if instance.attach(run, true) {
                setting.cgroups.adopt(&instance.id().to_string(), shim, &mounts);
            } else {
                // Said from the first look on: whoever took it for running would be wrong.
                instance.ended_before(&self.shared);
            }
            self.all().insert(instance.id().clone(), instance.clone());
            self.spawn_live(instance);
        }
        let known = self.all();
        for name in setting.cgroups.names() {
            if !known.keys().any(|id| id.to_string() == name) {
                setting.cgroups.remove(&name);
            }
        }
        Ok(())
    }

    fn spawn_live(&self, instance: Arc<Instance>) {
        let shared = self.shared.clone();
        self.spawn(async move { instance.live(&shared).await });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn all(&self) -> MutexGuard<'_, Instances> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &InstanceId) -> Result<Arc<Instance>, OpError> {
        self.all().get(id).cloned().ok_or_else(|| OpError::Unknown(id.clone()))
    }

    /// Every instance that was not removed, by name.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        self.all().values().map(|instance| instance.status()).collect()
    }

    /// What is known of one instance.
    pub fn status(&self, id: &InstanceId) -> Option<InstanceStatus> {
        Some(self.all().get(id)?.status())
    }

    /// Starts an instance and returns when its program runs, or with the reason why it cannot.
    /// One of the same name that ended is replaced. Dropping the future does not stop the start.
    pub async fn start(&self, mut spec: ProcessSpec) -> Result<(), StartError> {
        let id = spec.id.clone();
        // They change while it runs, and there may be many: they are kept in its file alone.
        let hosts = std::mem::take(&mut spec.hosts);
        let instance = Arc::new(Instance::new(&self.shared.setting, spec));
        let hostname = instance.spec.hostname.as_deref();
        let hosts = crate::hosts::text(hostname, instance.address, &hosts);
        {
            let mut all = self.all();
            if all.get(&id).is_some_and(|existing| !existing.has_ended()) {
                return Err(StartError::Exists(id));
            }
            all.insert(id.clone(), instance.clone());
        }
        let (sender, receiver) = oneshot::channel();
        let agent = self.downgrade();
        self.spawn(async move {
            let started = agent.bring_up(&instance, hosts).await;
            let is_up = started.is_ok();
            // Whoever asked may have gone; the instance is there all the same.
            let _unheard = sender.send(started);
            if is_up {
                instance.live(&agent.shared).await;
            }
        });
        let lost = || io::Error::other("the agent was dropped");
        receiver.await.unwrap_or_else(|_| {
            Err(StartError::Io { id, what: "waiting for its shim".to_owned(), cause: lost() })
        })
    }

    /// Stops an instance: `signal`, then after `grace` the end of everything in it. Returns when
    /// it has ended. The grace period is kept even if the engine dies meanwhile.
    pub async fn stop(
        &self,
        id: &InstanceId,
        signal: i32,
        grace: Duration,
    ) -> Result<Exit, OpError> {
        self.get(id)?.stop(&self.shared, signal, grace).await
    }

    /// Ends an instance at once.
    pub async fn kill(&self, id: &InstanceId) -> Result<Exit, OpError> {
        self.stop(id, libc::SIGKILL, Duration::ZERO).await
    }

    /// Sends the program a signal.
    pub async fn signal(&self, id: &InstanceId, signal: i32) -> Result<(), OpError> {
        self.get(id)?.signal(signal).await
    }

    /// Forgets an instance that has ended, with everything but its logs.
    pub async fn remove(&self, id: &InstanceId) -> Result<(), OpError> {
        let instance = self.get(id)?;
        if !instance.has_ended() {
            return Err(OpError::Running(id.clone()));
        }
        let (folder, shared) = (instance.folder.clone(), self.shared.clone());
        let removed = tokio::task::spawn_blocking(move || {
            // Only what could not end in time is still there.
            shared.setting.cgroups.remove(&instance.id().to_string());
            shared.setting.trash.take(&folder)
        });
        let removed = removed.await;
        let removed = removed.unwrap_or_else(|e| Err(io::Error::other(e)));
        removed.map_err(|cause| OpError::Io { id: id.clone(), cause })?;
        self.all().remove(id);
        Ok(())
    }

    /// Takes a file or folder of the state out of sight at once; it is deleted beside everything
    /// else, or by the next engine. It need not exist.
    pub fn discard(&self, path: &Path) -> io::Result<()> {
        self.shared.setting.trash.take(path)
    }

    /// Returns when all that was discarded is deleted, as far as it can be.
    pub async fn deleted(&self) {
        self.shared.setting.trash.delete_all().await;
    }

    /// Leaves what is not deleted yet to the next engine: at the end of this one.
    pub fn stop_deleting(&self) {
        self.shared.setting.trash.stop();
    }

    /// Runs a command inside an instance, as its user and in its environment.
    pub async fn exec(
        &self,
        id: &InstanceId,
        argv: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutput, OpError> {
        self.get(id)?.exec(argv, timeout, EXEC_OUTPUT_BYTES_MAX).await
    }

    /// Makes every running instance's `/etc/hosts` say what `entries` gives for it, besides what all
    /// of them say.
    pub fn update_hosts(
        &self,
        entries: impl Fn(&InstanceId) -> Vec<(IpAddr, Vec<String>)>,
    ) -> Result<(), OpError> {
        let running: Vec<_> = self.all().values().filter(|i| !i.has_ended()).cloned().collect();
        for instance in running {
            let spec = &instance.spec;
            let entries = entries(&spec.id);
            let text = crate::hosts::text(spec.hostname.as_deref(), instance.address, &entries);
            crate::hosts::write(&instance.folder.join("hosts"), &text)
                .map_err(|cause| OpError::Io { id: spec.id.clone(), cause })?;
        }
        Ok(())
    }

    /// Lets every running instance that has a resolver of its own ask whom the machine asks now,
    /// where it does not say itself. Cheap when nothing has changed: for every second.
    pub fn update_resolvers(&self) {
        let machine = start::machine_resolver();
        {
            let mut known = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
            if known.replace(machine.clone()).as_ref() == Some(&machine) {
                return;
            }
        }
        let running: Vec<_> = self.all().values().filter(|i| !i.has_ended()).cloned().collect();
        for instance in running {
            let Some(asked) = &instance.spec.resolver else { continue };
            let text = crate::hosts::resolver(asked, &machine);
            let _knows_what_it_knew =
                crate::hosts::write(&instance.folder.join("resolv.conf"), &text);
        }
    }

    /// What running instances use; measured at most once a second. Of many instances only so many
    /// are measured in a second, one after the other, so that looking stays cheap.
    pub fn usage(&self) -> HashMap<InstanceId, Usage> {
        let now = self.shared.clock.monotonic();
        let mut measured = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if measured.at.is_some_and(|at| now.saturating_sub(at) < USAGE_AGE_MAX) {
            return measured.usage.clone();
        }
        let running: Vec<_> = self.all().values().filter(|i| !i.has_ended()).cloned().collect();
        measured.look(now, &running, &self.shared.setting.cgroups);
        measured.usage.clone()
    }

    /// TCP addresses on which an instance listens. Reads `/proc`: for now and then.
    pub fn listening(&self, id: &InstanceId) -> Vec<SocketAddr> {
        let Ok(instance) = self.get(id) else { return Vec::new() };
        if instance.has_ended() {
            return Vec::new();
        }
        let processes = crate::usage::processes(&self.shared.setting.cgroups, &instance);
        crate::listen::of(instance.address, &processes)
    }

    /// Ports on which instances listen at addresses of their own; one look for all of them.
    pub fn listening_ports(&self) -> HashMap<InstanceId, Ports> {
        let by_address = crate::listen::ports_by_address();
        let all = self.all();
        let running = all.values().filter(|instance| !instance.has_ended());
        let each = running.filter_map(|instance| {
            let ports = by_address.get(&IpAddr::V4(instance.address?)).cloned();
            Some((instance.id().clone(), ports.unwrap_or_default()))
        });
        each.collect()
    }

    fn downgrade(&self) -> Starter {
        Starter { shared: self.shared.clone(), instances: self.instances.clone() }
    }
}

/// What a starting instance needs of the agent: everything but the tasks, of which it is one.
struct Starter {
    shared: Arc<Shared>,
    instances: Arc<Mutex<Instances>>,
}

impl Starter {
    async fn bring_up(&self, instance: &Arc<Instance>, hosts: String) -> Result<(), StartError> {
        let (shared, spec) = (self.shared.clone(), instance.spec.clone());
        let start = move || start::start(&shared.setting, &spec, &hosts);
        let started = tokio::task::spawn_blocking(start).await;
        let id = instance.id();
        let failed = |cause| StartError::Io { id: id.clone(), what: "starting".to_owned(), cause };
        match started.unwrap_or_else(|e| Err(failed(io::Error::other(e)))) {
            Ok(run) => {
                let pid = run.program_pid;
                instance.attach(run, false);
                instance.report(&self.shared, What::Started { pid }).await;
                Ok(())
            }
            Err(why) => {
                self.instances.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                Err(why)
            }
        }
    }
}

/// Whether there is room for the files of an instance.
fn has_room(state: &Path) -> io::Result<()> {
    let path = state.join("room");
    let written = fs::write(&path, [1; ROOM_BYTES]);
    let _nobody_minds = fs::remove_file(&path);
    written
}

/// Whether BPF can give instances addresses, tried on a directory of its own.
fn try_addresses(directory: Option<&Path>, pool: Ipv4Cidr) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("they need root".to_owned());
    }
    let directory = directory.ok_or("there is no cgroup2 directory")?;
    let (own, host) = (pool.base(), start::host_address(pool));
    // With all that any instance may need.
    let addresses = crate::bpf::Addresses { own, pool, host, resolvers: Vec::new(), inside: true };
    crate::bpf::attach(directory, &addresses).map_err(|e| format!("BPF: {e}"))
}

/// A TCP port of `ip` that nobody uses now. Somebody may by the time it is bound.
pub fn free_port(ip: IpAddr) -> io::Result<u16> {
    Ok(TcpListener::bind((ip, 0))?.local_addr()?.port())
}
