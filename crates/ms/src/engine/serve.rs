//! The engine's life, in order: lock, open, bind, announce, work, drain.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::{Agent, AgentConfig};
use base::metrics::Registry;
use base::{Clock, Ipv4Cidr, Problem, SystemClock};
use console::config::LOGIN;
use console::socket::SocketPath;
use console::{ConsoleConfig, Credentials, Listeners};
use control::store::StoreError;
use control::{Control, ControlError};
use edge::{Edge, EdgeConfig, RouteTable};
use telemetry::process::ProcessMetrics;
use telemetry::{History, HistoryConfig, LogStore};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::EngineOptions;
use super::answers::Answers;
use super::api::{Api, Shared};
use super::carry::Carrier;
use super::pool;

/// Requests of people that wait for the engine's loop; more wait in their connections.
const REQUESTS_MAX: usize = 64;

/// Open files and sockets that the engine asks for: twice its connections, and others. Instances
/// inherit the limit.
const DESCRIPTORS: u64 = 65_536;
/// Those that it needs for itself.
const DESCRIPTORS_OWN: u64 = 512;
/// How often, and how many times, an instance that the engine before was starting is looked for.
const BIRTH_POLL: Duration = Duration::from_millis(50);
const BIRTH_POLLS: usize = 40;

/// Runs the engine in `options.state` until it is told to end.
pub(super) async fn serve(options: EngineOptions) -> Result<(), Problem> {
    let console_config = console_config(options.console)?;
    let node = super::node::this()?;
    let state_dir = std::path::absolute(&options.state).unwrap_or(options.state);
    let _lock = super::lock::lock(&state_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = Registry::default();
    let history = open_history(&state_dir)?;
    let logs = LogStore::open(state_dir.join("logs"), clock.clone()).map_err(internal)?;

    let pool = claim_pool(&state_dir, options.addresses.as_deref()).await?;
    let agent_config = AgentConfig {
        inherit_fds: pool.held_by,
        ..AgentConfig::new(state_dir.clone(), pool.pool, clock.clone())
    };
    let opened = Agent::open(agent_config).map_err(|e| unusable(&state_dir, e));
    let (agent, agent_events) = opened?;
    let agent = Arc::new(agent);
    let seed = clock.now().0 ^ u64::from(std::process::id());
    keep_private(&state_dir).map_err(internal)?;
    let control = Control::open(&state_dir.join("control.redb"), clock.clone(), seed, pool.pool);
    let control = Arc::new(control.map_err(unopened)?.on(node));
    let (routes, table) = watch::channel(Arc::new(RouteTable::default()));
    let mut edge_config = EdgeConfig::new(clock.clone(), registry.clone());
    // Past what descriptors allow connections wait to be accepted, rather than that those which are
    // accepted cannot be passed on: each takes one to its instance.
    let allowed = net::descriptors(DESCRIPTORS).saturating_sub(DESCRIPTORS_OWN) / 2;
    let connections_max = &mut edge_config.limits.connections_max;
    *connections_max = usize::try_from(allowed).unwrap_or(0).clamp(64, *connections_max);
    let edge = Edge::start(edge_config, table).map_err(internal)?;

    let (shutdown, stopped) = watch::channel(false);
    let (listeners, console_url) = listen(&state_dir, options.console).await?;
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let shared = Arc::new(Shared {
        clock: clock.clone(),
        registry: registry.clone(),
        history,
        logs,
        agent: agent.clone(),
        edge_status: edge.status(),
        state_dir: state_dir.clone(),
        console_url,
        addresses: pool.pool.to_string(),
        started_at: clock.now(),
        process: Mutex::new(ProcessMetrics::new(&registry)),
        usage: Mutex::default(),
        figures: Mutex::default(),
        tails: Mutex::default(),
        control: control.clone(),
        changes: watch::channel(0).0,
        host_ports: super::published::HostPorts::new(&state_dir),
        room: super::room::Room::new(&state_dir),
        ending: AtomicBool::new(false),
        folder: super::lock::Folder::new(state_dir.join("control.redb")),
        requests,
        builder: builder::Builder::new((*agent).clone(), &state_dir),
        builds: super::builds::Builds::new(clock.clone()),
    });
    announce(&shared);
    super::before::sweep(&agent, &state_dir);
    let mut names = JoinSet::new();
    let answers = match Answers::open(agent.isolation().addressing, pool.pool) {
        Ok((answers, responder, table)) => {
            names.spawn(responder.serve(table));
            Some(answers)
        }
        Err(why) => {
            eprintln!("names are found in /etc/hosts alone, not over DNS: {why}");
            None
        }
    };
    let edge_status = edge.status();
    let shared_too = shared.clone();
    let carrier =
        Carrier::new(control, agent, agent_events, edge_status, routes, answers, shared_too);

    let mut watches = JoinSet::new();
    watches.spawn(super::event_figures::watch(shared.clone()));
    let mut console = JoinSet::new();
    let api = Arc::new(Api(shared.clone()));
    console.spawn(console::serve(console_config, listeners, api, clock.clone(), stopped));

    let result = carrier.run(asked).await;

    // Answers that are on their way are finished before the process ends. Sessions are not waited
    // for: when the app went down they ended with their instances, which had their grace period.
    let _ = shutdown.send(true);
    console.join_next().await;
    edge.drain(std::time::Duration::from_secs(1)).await;
    shared.history.flush();
    let _ = std::fs::remove_file(state_dir.join("engine.sock"));
    result
}

/// Something in the state folder that cannot be opened: on a disk that is full that is no bug.
fn unusable(state_dir: &Path, error: impl std::error::Error) -> Problem {
    Problem::new("state-folder", format!("`{}` cannot be used", state_dir.display()))
        .with_cause(error.to_string())
        .with_next("see that its disk has room and may be written, then try again")
}

/// Who may use the console, from the environment; refused before anything is begun.
fn console_config(at: Option<SocketAddr>) -> Result<ConsoleConfig, Problem> {
    let config = ConsoleConfig {
        credentials: Credentials::from_env(std::env::var_os(LOGIN))?,
        web_dir: std::env::var_os("MS_CONSOLE_DIR").map(PathBuf::from),
        ..ConsoleConfig::default()
    };
    at.map_or(Ok(()), |at| config.check_exposure(at))?;
    Ok(config)
}

/// Records hold the environments of services and volumes hold their data: neither is for others
/// to read. The state folder itself may be one that others use.
fn keep_private(state_dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let mut records = std::fs::OpenOptions::new();
    records.create(true).append(true).mode(0o600).open(state_dir.join("control.redb"))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir.join("volumes"))
}

/// The first lines of the engine's log.
fn announce(shared: &Shared) {
    let isolation = shared.agent.isolation();
    let console = shared.console_url.as_deref().unwrap_or("off");
    eprintln!(
        "ms {} runs as process {} in {}: addresses {}, console {console}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        shared.state_dir.display(),
        shared.addresses
    );
    for missing in &isolation.missing {
        eprintln!("not isolated as fully as it could be: {missing}");
    }
}

/// Something that only a broken machine or a bug explains.
pub(super) fn internal(error: impl std::error::Error) -> Problem {
    let cause = error.source().map(ToString::to_string);
    let problem = Problem::new("internal", error.to_string()).with_next(
        "see engine.log in the state folder; if this stays, it is a bug worth reporting",
    );
    match cause {
        Some(cause) => problem.with_cause(cause),
        None => problem,
    }
}

/// Why the records cannot be read, and what to do about it.
fn unopened(error: ControlError) -> Problem {
    let (code, next) = match &error {
        ControlError::Store(StoreError::Damaged { path, .. }) => {
            ("store-damaged", format!("mv {0} {0}.damaged, then ms up", path.display()))
        }
        // The file is whole, and what is in it was not written by this version.
        ControlError::Store(StoreError::Corrupt { .. } | StoreError::Format { .. }) => (
            "store-unknown",
            "use the `ms` that wrote it: it says `ms down`, then this one `ms up`".to_owned(),
        ),
        ControlError::Store(StoreError::Disk { .. }) => {
            ("state-folder", "make room on the disk of the state folder, then try again".to_owned())
        }
        _ => return internal(error),
    };
    Problem::new(code, "the engine cannot read its records")
        .with_cause(error.to_string())
        .with_next(next)
}

fn open_history(state_dir: &Path) -> Result<History, Problem> {
    let config = HistoryConfig { dir: Some(state_dir.join("metrics")), ..Default::default() };
    History::open(config).map_err(internal)
}

/// The pool is remembered in a file of its own, since it must be known before the store opens.
async fn claim_pool(state_dir: &Path, asked: Option<&str>) -> Result<pool::Claim, Problem> {
    let path = state_dir.join("addresses");
    let stored = std::fs::read_to_string(&path).ok().and_then(|text| pool::read(text.trim()).ok());
    let asked = asked.map(pool::read).transpose()?;
    let kept = kept(state_dir, stored).await;
    if let (Some(asked), Some(stored), true) = (asked, stored, kept.is_some())
        && asked != stored
    {
        return Err(Problem::new("addresses-in-use", format!("services run on {stored}"))
            .with_cause(format!("they cannot move to {asked} while they run"))
            .with_next("run `ms down` first, or leave out --addresses"));
    }
    let claim = pool::claim(asked, stored, kept)?;
    // What is there already is not risked: a full disk would leave an empty file.
    if stored != Some(claim.pool) {
        std::fs::write(&path, format!("{}\n", claim.pool)).map_err(internal)?;
    }
    Ok(claim)
}

/// What instances hold for us. One that was being started when the engine before us was killed may
/// hold the pool and not answer yet: it gets a moment, or we would leave it alone there.
async fn kept(state_dir: &Path, stored: Option<Ipv4Cidr>) -> Option<Vec<OwnedFd>> {
    let folders = || std::fs::read_dir(state_dir.join("instances")).is_ok_and(|f| f.count() > 0);
    for _ in 0..BIRTH_POLLS {
        let kept = agent::kept(state_dir);
        if kept.is_some() || stored.is_none_or(pool::is_unclaimed) || !folders() {
            return kept;
        }
        tokio::time::sleep(BIRTH_POLL).await;
    }
    None
}

/// Binds the API's socket and the console's port.
async fn listen(
    state_dir: &Path,
    console: Option<SocketAddr>,
) -> Result<(Listeners, Option<String>), Problem> {
    let path = state_dir.join("engine.sock");
    // The lock is ours, so a socket that is there belongs to an engine that is gone. It is replaced
    // rather than removed first: where none is, clients take it that no engine will come.
    let fresh = state_dir.join("engine.sock.new");
    let _ = std::fs::remove_file(&fresh);
    let unix = SocketPath::new(&fresh).and_then(|fresh| UnixListener::bind(fresh.as_path()));
    let unix = unix.and_then(|unix| std::fs::rename(&fresh, &path).map(|()| unix));
    let unix = unix.map_err(|e| {
        Problem::new("state-folder", format!("cannot listen on `{}`", path.display()))
            .with_cause(e.to_string())
            .with_next("give a folder that you may write to with --state")
    })?;
    let mut listeners = Listeners { tcp: Vec::new(), unix: vec![unix] };
    let mut url = None;
    if let Some(addr) = console {
        let tcp = bind_console(addr, &state_dir.join("console")).await?;
        url = tcp.local_addr().ok().map(|at| format!("http://{at}"));
        listeners.tcp.push(tcp);
    }
    Ok((listeners, url))
}

/// The console's port, or when somebody has it (most likely another engine) any free one.
///
/// Which one that was is kept, so that an engine that comes back has it again: browsers wait there.
async fn bind_console(addr: SocketAddr, kept: &Path) -> Result<TcpListener, Problem> {
    let last = std::fs::read_to_string(kept).ok().and_then(|text| text.trim().parse().ok());
    let again = last.filter(|last: &SocketAddr| last.ip() == addr.ip());
    let free = SocketAddr::new(addr.ip(), 0);
    let wanted = Some(addr).filter(|addr| addr.port() != 0);
    for at in [wanted, again, Some(free)].into_iter().flatten() {
        match TcpListener::bind(at).await {
            Ok(listener) => {
                if let Ok(at) = listener.local_addr()
                    && Some(at) != last
                {
                    // Without it the next engine takes another port.
                    let _ = std::fs::write(kept, format!("{at}\n"));
                }
                return Ok(listener);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(not_bound(addr, &e)),
        }
    }
    Err(not_bound(addr, &std::io::ErrorKind::AddrInUse.into()))
}

fn not_bound(addr: SocketAddr, error: &std::io::Error) -> Problem {
    Problem::new("console-address", format!("the console cannot listen on {addr}"))
        .with_cause(error.to_string())
        .with_next("give another address with --console, or `--console off`")
}
