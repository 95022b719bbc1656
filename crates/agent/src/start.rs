//! Bringing an instance to life, from the engine's side; all of it blocks.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::{InstanceId, Ipv4Cidr};

use crate::bpf::Addresses;
use crate::cgroup::{Cgroups, REMOVAL_PAUSE, REMOVAL_TRIES};
use crate::descriptors;
use crate::isolation::{Addressing, Mode};
use crate::shim::{self, LogLimits};
use crate::spec::{Base, ProcessSpec, View};
use crate::trash::Trash;
use crate::wire::{self, Birth, Failure, RunRecord, ShimSpec, Step};

/// How long an instance may take to be set up. Longer means that a mount hangs.
const SETUP_MAX: Duration = Duration::from_secs(30);

/// Why an instance did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is one of this name that has not ended.
    #[error("{0} runs already: stop it first")]
    Exists(InstanceId),
    /// The program is nowhere in `PATH`.
    #[error("cannot run \"{program}\": not found in PATH ({path}){hint}")]
    NotFound {
        /// What was looked for.
        program: String,
        /// Where.
        path: String,
        /// What to install, or nothing.
        hint: String,
    },
    /// The program could not be executed.
    #[error("cannot run \"{program}\": {cause}")]
    Exec {
        /// The program and where it was found.
        program: String,
        /// What the system said.
        cause: String,
    },
    /// The instance could not be set up.
    #[error("cannot set up {id}: {cause}")]
    Setup {
        /// Which.
        id: InstanceId,
        /// The step, on what, and why.
        cause: String,
    },
    /// The machine refused something before the instance existed.
    #[error("cannot start {id}: {what}: {cause}")]
    Io {
        /// Which.
        id: InstanceId,
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: io::Error,
    },
}

/// Where everything of one engine lies, and how it isolates.
pub(crate) struct Setting {
    pub(crate) state: PathBuf,
    pub(crate) shim: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) own_files: bool,
    pub(crate) addressing: Addressing,
    pub(crate) pool: Ipv4Cidr,
    pub(crate) log_limits: LogLimits,
    pub(crate) kept: Vec<OwnedFd>,
    pub(crate) cgroups: Cgroups,
    pub(crate) trash: Arc<Trash>,
}

impl Setting {
    /// The folder of an instance.
    pub(crate) fn folder(&self, id: &InstanceId) -> PathBuf {
        self.state.join("instances").join(id.to_string())
    }

    /// The folder of its output, which outlives it.
    pub(crate) fn logs(&self, id: &InstanceId) -> PathBuf {
        self.state.join("logs").join(id.to_string())
    }
}

/// Starts an instance with this hosts file; when this returns well the program runs.
pub(crate) fn start(
    setting: &Setting,
    spec: &ProcessSpec,
    hosts: &str,
) -> Result<RunRecord, StartError> {
    let id = &spec.id;
    let (folder, log_limits) = (setting.folder(id), setting.log_limits);
    let place = Place { folder: &folder, logs: setting.logs(id), log_limits, kept: false, hosts };
    let result = try_start(setting, spec, place);
    if result.is_err() {
        // Its shim may be on its way out, or hang in a mount.
        end_cgroup(setting, &id.to_string());
        let _the_next_start_tries_again = setting.trash.take(&folder);
    }
    result
}

/// Kills what is in a cgroup, and removes it.
pub(crate) fn end_cgroup(setting: &Setting, name: &str) {
    setting.cgroups.kill(name);
    for _ in 0..REMOVAL_TRIES {
        if setting.cgroups.remove(name) {
            break;
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
}

/// Where what belongs to one process lies.
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) logs: PathBuf,
    pub(crate) log_limits: LogLimits,
    /// The text of its hosts file.
    pub(crate) hosts: &'a str,
    /// What it writes is taken over when it has ended.
    pub(crate) kept: bool,
}

pub(crate) fn try_start(
    setting: &Setting,
    spec: &ProcessSpec,
    place: Place<'_>,
) -> Result<RunRecord, StartError> {
    let (id, folder) = (&spec.id, place.folder);
    let io = |what: String| {
        let id = id.clone();
        move |cause: io::Error| StartError::Io { id, what, cause }
    };
    if spec.offline && setting.mode == Mode::None {
        let cause =
            "it is to have no network, and this machine gives it none of its own".to_owned();
        return Err(StartError::Setup { id: id.clone(), cause });
    }
    setting.trash.take(folder).map_err(io(format!("removing {}", folder.display())))?;
    let address = spec.address.filter(|_| setting.addressing == Addressing::Own);
    write_folder(spec, place.hosts, folder, &place.logs)
        .map_err(io(format!("writing {}", folder.display())))?;
    let mut filters = crate::seccomp::of(&spec.rights).map_err(|cause| StartError::Setup {
        id: id.clone(),
        cause: format!("its seccomp profile: {cause}"),
    })?;
    let mut cgroup = setting.cgroups.create(id, &spec.limits);
    let refusals = crate::device::refusals(&spec.rights.devices);
    if !refusals.is_empty() {
        let path = cgroup.unified.as_ref().ok_or_else(|| io::Error::other("no cgroup2 directory"));
        if let Err(e) = path.and_then(|path| crate::bpf::refuse_devices(path, &refusals)) {
            let what = "its devices may be used as far as its user may";
            cgroup.warnings.push(format!("{what}, not only as asked: {e}"));
        }
    }
    if let Some(address) = address
        && let Some(path) = &cgroup.unified
    {
        let addresses = Addresses {
            own: address,
            pool: setting.pool,
            host: host_address(setting.pool),
            inside: spec.inside,
            resolvers: match spec.resolver.as_ref().and_then(|resolver| resolver.first) {
                // Localhost is all its own, a resolver of its own included.
                Some(_) => crate::hosts::local_resolvers(""),
                // They would carry what it says outside.
                None if spec.inside => Vec::new(),
                None => crate::hosts::local_resolvers(&machine_resolver()),
            },
        };
        crate::bpf::attach(path, &addresses)
            .map_err(io(format!("attaching BPF programs to {}", path.display())))?;
    } else if spec.inside && !spec.offline {
        let why = "that takes root, cgroup2 and BPF";
        cgroup.warnings.push(format!("it is not kept from reaching the world outside: {why}"));
    }
    let mut shim_spec = ShimSpec {
        process: spec.clone(),
        mode: setting.mode,
        own_files: setting.own_files,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        folder: folder.to_owned(),
        logs: place.logs,
        state: setting.state.clone(),
        log_limits: place.log_limits.with(&spec.logging),
        kept: place.kept,
        cgroup: cgroup.unified,
        join: cgroup.join,
        oom: cgroup.oom,
        filters: Vec::new(),
    };
    if shim_spec.is_anybody() {
        // Asked last, so that what it says counts where others only refuse.
        filters.extend(crate::seccomp::one_user(place.kept));
    }
    shim_spec.filters = filters;
    let birth = be_born(shim::command(&setting.shim), folder, &shim_spec, &setting.kept)
        .map_err(io(format!("running {}, the shim", setting.shim.display())))?;
    match birth {
        Birth::Started { warnings } => {
            let record = fs::read(folder.join("run.json"))
                .and_then(|text| Ok(serde_json::from_slice::<RunRecord>(&text)?));
            let mut record = record.map_err(io("reading run.json".to_owned()))?;
            record.warnings = cgroup.warnings;
            record.warnings.extend(warnings);
            Ok(record)
        }
        Birth::Failed(failure) => Err(explain(spec, &failure)),
    }
}

fn write_folder(spec: &ProcessSpec, hosts: &str, folder: &Path, logs: &Path) -> io::Result<()> {
    for path in [folder.to_owned(), logs.to_owned()] {
        fs::create_dir_all(path)?;
    }
    fs::create_dir(folder.join("root"))?;
    for_all(&folder.join("hosts"), hosts)?;
    let hostname = spec.hostname.as_deref().unwrap_or_default();
    for_all(&folder.join("hostname"), &format!("{hostname}\n"))?;
    if let Some(resolver) = &spec.resolver {
        let text = crate::hosts::resolver(resolver, &machine_resolver());
        for_all(&folder.join("resolv.conf"), &text)?;
    }
    fs::write(folder.join("spec.json"), serde_json::to_vec(spec)?)
}

/// Writes a file that every user of the instance may read, whatever the engine's umask says.
fn for_all(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

/// The address of a pool at which instances reach the host, what listens there on any address. It
/// is nobody else's.
pub fn host_address(pool: Ipv4Cidr) -> Ipv4Addr {
    pool.base()
}

/// How this machine looks up names; nothing where it does not say.
pub(crate) fn machine_resolver() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// Whether an instance can be set up in this mode, of an image or not; everything but the program is
/// tried.
pub(crate) fn try_out(
    shim: &Path,
    (state, trash): (&Path, &Trash),
    (mode, image): (Mode, bool),
    cgroup: Option<&Path>,
) -> Result<(), String> {
    let folder = state.join("trial");
    let id = "trial.1".parse().map_err(|e: base::NameError| e.to_string())?;
    let mut process = ProcessSpec::new(id, Vec::new());
    process.view = match image {
        true => View::Image { layers: Vec::new(), base: Base::Host },
        false => View::Overlay { layers: Vec::new() },
    };
    let spec = ShimSpec {
        process,
        mode,
        own_files: true,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        folder: folder.clone(),
        logs: folder.clone(),
        state: state.to_owned(),
        log_limits: None,
        kept: false,
        cgroup: cgroup.map(Path::to_owned),
        join: Vec::new(),
        oom: None,
        filters: Vec::new(),
    };
    let birth = trash
        .take(&folder)
        .and_then(|()| write_folder(&spec.process, "", &folder, &folder))
        .and_then(|()| be_born(shim::trial(shim), &folder, &spec, &[]));
    let _next_time = trash.take(&folder);
    match birth {
        Ok(Birth::Started { .. }) => Ok(()),
        Ok(Birth::Failed(failure)) => Err(failure.to_string()),
        Err(e) => Err(e.to_string()),
    }
}

/// Runs the midwife and hears what came of it.
fn be_born(
    mut midwife: Command,
    folder: &Path,
    spec: &ShimSpec,
    kept: &[OwnedFd],
) -> io::Result<Birth> {
    let (ours, theirs) = UnixStream::pair()?;
    let log = fs::File::create(folder.join("shim.log"))?;
    let mut midwife = midwife
        .stdin(OwnedFd::from(theirs))
        .stdout(log.try_clone()?)
        .stderr(Stdio::from(log))
        .spawn()?;
    ours.set_read_timeout(Some(SETUP_MAX))?;
    let exchange = || -> io::Result<Birth> {
        let message = wire::encode(spec)?;
        let kept: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
        let sent = descriptors::send(&ours, &message, &kept)?;
        io::Write::write_all(&mut &ours, &message[sent..])?;
        wire::receive(&ours)
    };
    let birth = exchange();
    if birth.is_err() {
        let _gone = midwife.kill();
    }
    midwife.wait()?;
    birth
}

fn explain(spec: &ProcessSpec, failure: &Failure) -> StartError {
    let program = spec.argv.first().cloned().unwrap_or_default();
    match failure.step {
        Step::Search => {
            let hint = install_hint(&program);
            StartError::NotFound { program, path: failure.what.clone(), hint }
        }
        Step::Exec => {
            let found = match failure.what == program {
                true => String::new(),
                false => format!("{}: ", failure.what),
            };
            let cause = crate::sys::error_text(failure.errno);
            StartError::Exec { program, cause: format!("{found}{cause}") }
        }
        _ => StartError::Setup { id: spec.id.clone(), cause: failure.to_string() },
    }
}

/// What to install for a program that people know under another name.
fn install_hint(program: &str) -> String {
    let what = match program {
        "node" | "npm" | "npx" => "Node.js",
        "yarn" | "pnpm" => "Node.js and corepack",
        "bun" => "Bun",
        "deno" => "Deno",
        "python" | "python3" | "pip" | "pip3" => "Python 3",
        "uvicorn" | "gunicorn" | "flask" | "celery" => "the Python package of that name",
        "java" | "javac" => "a Java runtime (JDK)",
        "mvn" => "Maven",
        "go" => "Go",
        "ruby" | "bundle" | "rails" => "Ruby",
        "php" => "PHP",
        "dotnet" => ".NET",
        "cargo" => "Rust",
        "elixir" | "mix" => "Elixir",
        _ => return "; install it, or give its full path".to_owned(),
    };
    format!("; install {what} on this machine")
}
