//! What the environment says, checked once at the start; and the few things every service does:
//! say a line, wait for the signal to stop, name itself.

use std::fmt::Arguments;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::client::Target;

/// Why a service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{name}={value}: {why}")]
    Setting { name: &'static str, value: String, why: String },
    #[error("cannot listen on port {port}: {source}; set PORT to a free one")]
    Listen { port: u16, source: std::io::Error },
    #[error("{0}")]
    Scores(#[from] crate::scores::store::StoreError),
    #[error("cannot use the event log: {0}; see EVENTS")]
    Events(#[from] rdkafka::error::KafkaError),
    #[error("{0}")]
    Check(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The environment, typed.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) port: u16,
    pub(crate) arena: Target,
    pub(crate) scores: Target,
    pub(crate) scores_dir: PathBuf,
    /// Where the event log is, as `HOST:PORT,…`, if there is one.
    pub(crate) events: Option<String>,
    /// Most snakes that a room plays itself while it has few players.
    pub(crate) bots: usize,
    /// How long a stopping service waits for what is under way.
    pub(crate) drain: Duration,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Settings, Error> {
        Settings::from_lookup(&|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Settings, Error> {
        Ok(Settings {
            port: parsed(lookup, "PORT", "8080")?,
            arena: parsed(lookup, "ARENA_URL", "http://arena:8080")?,
            scores: parsed(lookup, "SCORES_URL", "http://scores:8080")?,
            scores_dir: parsed(lookup, "SCORES_DIR", "/data")?,
            events: Some(parsed(lookup, "EVENTS", "")?).filter(|at: &String| !at.is_empty()),
            bots: parsed::<usize>(lookup, "BOTS", "2")?.min(6),
            drain: Duration::from_secs(parsed::<u64>(lookup, "DRAIN_SECONDS", "8")?.min(3600)),
        })
    }
}

fn parsed<T>(
    lookup: &dyn Fn(&str) -> Option<String>,
    name: &'static str,
    default: &str,
) -> Result<T, Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    // A Compose file's `${NAME}` that is not set arrives as an empty string.
    let value = lookup(name).filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_owned());
    value.parse().map_err(|why: T::Err| Error::Setting { name, value, why: why.to_string() })
}

/// Writes a line of the service's log to standard output. A log that nobody takes is no reason to
/// stop serving, so errors are ignored.
pub(crate) fn say(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// What this copy of the service calls itself towards players: its host name.
pub(crate) fn replica() -> String {
    let name = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let name = name.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let name: String = name.unwrap_or_default().trim().chars().take(40).collect();
    if name.is_empty() { "arena".to_owned() } else { name }
}

/// Becomes true at SIGTERM or SIGINT. The returned future must be polled for that.
pub(crate) fn stop_signal() -> Result<(watch::Receiver<bool>, impl Future<Output = ()>), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        say(format_args!("stopping"));
        stop.send_replace(true);
        // The value stays readable for as long as anyone waits for it.
        std::future::pending::<()>().await;
    };
    Ok((stopped, wait))
}

/// Waits until `stop` is true.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the program.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_means_default_and_a_bad_value_names_itself() {
        let settings = Settings::from_lookup(&|_| Some(String::new())).unwrap();
        assert_eq!(settings.port, 8080);
        assert_eq!(settings.arena.authority, "arena:8080");
        let error = Settings::from_lookup(&|name| (name == "PORT").then(|| "http".to_owned()));
        assert!(error.unwrap_err().to_string().starts_with("PORT=http: "));
    }
}
