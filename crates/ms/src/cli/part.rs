//! A part as a program of its own: what an instance of a service runs that an event log stands in
//! for.
//!
//! Not here: the log (`events`), what the Compose file says of it (`spec::parts`). One part has a
//! folder at a time: another one waits until it ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base::{Problem, SystemClock};
use events::engine::log::{OFFSETS_RETENTION, Options};
use events::kafka::{Advertised, Listener, Mechanism, Security};
use events::{Config, GROUP_DELAY, Part};
use spec::parts::PASSWORDS;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::args::PartEvents;
use super::stop::{DONE, FAILED, Outcome, Stop};

/// Connections at once.
const CONNECTIONS_MAX: u64 = 20_000;

/// How long an instance before may take to leave the folder.
const LOCK_WITHIN: Duration = Duration::from_secs(30);

/// Runs an event log until it is told to end.
pub(crate) fn events(options: &PartEvents) -> Outcome {
    match run(options) {
        Ok(()) => Ok(DONE),
        Err(error) => {
            let problem = Problem::new("part-failed", "the event log does not run");
            let next = "look at its folder and at the ports of the service";
            Err(Stop::new(FAILED, problem.with_cause(format!("{error:#}")).with_next(next)))
        }
    }
}

fn run(options: &PartEvents) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start its threads")?;
    runtime.block_on(serve(options))
}

async fn serve(options: &PartEvents) -> Result<()> {
    std::fs::create_dir_all(&options.data)
        .with_context(|| format!("cannot make {}", options.data.display()))?;
    let _lock = lock(&options.data.join("lock")).await?;
    let allowed = net::descriptors(CONNECTIONS_MAX * 2).saturating_sub(256);
    let connections_max = usize::try_from(allowed.min(CONNECTIONS_MAX)).unwrap_or(1024);
    let part = Part::open(&config(options)?, Arc::new(SystemClock)).await?;
    let mut listeners = Vec::new();
    let tls = tls(options)?;
    for Door { own_port, addr, host, port } in doors(options)? {
        let listener =
            TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))?;
        let login = options.logins.contains(&own_port);
        let tls = tls.as_ref().filter(|_| options.tls.contains(&own_port)).cloned();
        let how = match (login, tls.is_some()) {
            (false, false) => "",
            (true, false) => ", with a login",
            (false, true) => ", with TLS",
            (true, true) => ", with TLS and a login",
        };
        let at = listener.local_addr()?;
        eprintln!("event log at {at}, which clients reach at {host}:{port}{how}");
        let way = Listener {
            name: port.to_string(),
            advertised: Advertised::As(host, port),
            tls,
            mechanisms: if login { Mechanism::ALL.to_vec() } else { Vec::new() },
            anonymous: !login,
        };
        listeners.push((listener, way));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    part.serve(listeners, net::ConnectionLimit::new(connections_max), ended).await;
    Ok(())
}

fn config(options: &PartEvents) -> Result<Config> {
    let pair = |text: &str, by: char| {
        let (name, value) =
            text.split_once(by).with_context(|| format!("`{text}` has no `{by}`"))?;
        Ok::<_, anyhow::Error>((name.to_owned(), value.to_owned()))
    };
    let defaults = options.topic_defaults.iter().map(|text| pair(text, '='));
    let topics = options.topics.iter().map(|text| {
        let (name, partitions) = pair(text, ':')?;
        Ok((name, partitions.parse().context("a number of partitions")?, BTreeMap::new()))
    });
    Ok(Config {
        folder: options.data.join("volumes"),
        options: Options {
            auto_create: !options.no_auto_create,
            partitions: options.partitions,
            topic_defaults: defaults.collect::<Result<_>>()?,
            offsets_retention: options
                .offsets_retention_minutes
                .map_or(OFFSETS_RETENTION, |minutes| {
                    Duration::from_secs(minutes.saturating_mul(60))
                }),
        },
        topics: topics.collect::<Result<_>>()?,
        security: security(options)?,
        group_delay: options.group_delay_ms.map_or(GROUP_DELAY, Duration::from_millis),
        ..Config::default()
    })
}

/// Who may log in, and what they may do.
fn security(options: &PartEvents) -> Result<Security> {
    let said = std::env::var(PASSWORDS).ok();
    let users = said.map(|said| serde_json::from_str(&said)).transpose();
    Ok(Security {
        users: users
            .with_context(|| format!("what {PASSWORDS} says is not read"))?
            .unwrap_or_default(),
        super_users: options.super_users.clone(),
        allow_if_none: !options.deny_if_none,
        ..Security::default()
    })
}

/// What doors with TLS show.
fn tls(options: &PartEvents) -> Result<Option<Arc<net::Tls>>> {
    let Some(pem) = &options.certificate else { return Ok(None) };
    let config = net::TlsConfig::new(pem.clone(), pem.clone());
    let opened = net::Tls::open(config, Arc::new(SystemClock));
    let opened = opened.with_context(|| format!("cannot use the certificate {}", pem.display()))?;
    Ok(Some(Arc::new(opened)))
}

/// A way in: where it is, and the host and port that its clients are told of.
struct Door {
    /// The port that the Compose file has for it.
    own_port: u16,
    addr: SocketAddr,
    host: String,
    port: u16,
}

fn doors(options: &PartEvents) -> Result<Vec<Door>> {
    let mut doors = Vec::new();
    for door in &options.doors {
        let (port, told) = door.split_once('=').context("a door is PORT=HOST:PORT")?;
        let (host, told_port) = told.rsplit_once(':').context("a door is PORT=HOST:PORT")?;
        let own_port = port.parse().context("a port")?;
        let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, own_port));
        let port = told_port.parse().context("a port")?;
        doors.push(Door { own_port, addr, host: host.to_owned(), port });
    }
    ensure!(!doors.is_empty(), "there is no door to come in by");
    // Without an address of its own an instance is told where to listen, and has one way in.
    let given = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = given.filter(|port| doors.iter().all(|door| door.own_port != *port)) {
        let others = doors.len() > 1;
        doors.truncate(1);
        let door = &mut doors[0];
        door.addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Clients of the host come by the same way as services do and do not know their names: an
        // address of loopback leads both there.
        let found = (door.host.as_str(), door.port).to_socket_addrs().ok();
        if let Some(found) = found.and_then(|mut all| all.next()).filter(|_| others) {
            door.host = found.ip().to_string();
        }
    }
    Ok(doors)
}

/// The right to the folder; whoever had it before may be ending.
async fn lock(path: &std::path::Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if waited < LOCK_WITHIN => {
                let pause = Duration::from_millis(50);
                tokio::time::sleep(pause).await;
                waited += pause;
            }
            Err(_) => anyhow::bail!("another event log uses {}", path.display()),
        }
    }
}
