//! Asking the engine of a state folder: `console::client`, with its errors as exit codes.

use std::path::Path;

use base::Problem;
use console::client::ClientError;
pub(crate) use console::client::LogStream;
use console::socket::SocketPath;
use console::wire::{
    Accepted, BuildLine, Command, EventView, LogPage, LogQuery, Overview, ServiceDetail, Status,
    Why,
};

use super::stop::{FAILED, FORBIDDEN, Outcome, Stop, TIMED_OUT, UNREACHABLE, USAGE};

/// An engine, whether it runs or not.
#[derive(Clone, Debug)]
pub(crate) struct Client(console::client::Client);

impl Client {
    /// The engine of this state folder.
    pub(crate) fn new(state: &Path) -> Client {
        Client(console::client::Client::new(state.join("engine.sock")))
    }

    /// The state folder.
    pub(crate) fn state(&self) -> &Path {
        self.0.socket().parent().unwrap_or(Path::new("."))
    }

    /// Whether something listens on the socket.
    pub(crate) async fn answers(&self) -> bool {
        match SocketPath::new(self.0.socket()) {
            Ok(path) => tokio::net::UnixStream::connect(path.as_path()).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Whether an engine that does not answer may do so again. One that ends in order takes its
    /// socket away; one that died leaves it, and its supervisor brings it back.
    pub(crate) fn may_come_back(&self) -> bool {
        self.0.socket().exists()
    }

    /// The engine itself.
    pub(crate) async fn status(&self) -> Outcome<Status> {
        self.0.status().await.map_err(stop)
    }

    /// Services and calls.
    pub(crate) async fn overview(&self) -> Outcome<Overview> {
        self.0.overview().await.map_err(stop)
    }

    /// One service.
    pub(crate) async fn service(&self, name: &str) -> Outcome<ServiceDetail> {
        self.0.service(name).await.map_err(stop)
    }

    /// Why a service is as it is.
    pub(crate) async fn why(&self, name: &str) -> Outcome<Why> {
        self.0.why(name).await.map_err(stop)
    }

    /// Events after `after`, oldest first; the newest ones when `after` is 0.
    pub(crate) async fn events(&self, after: u64, limit: usize) -> Outcome<Vec<EventView>> {
        self.0.events(after, limit).await.map_err(stop)
    }

    /// Lines of builds after `after`, oldest first.
    pub(crate) async fn builds(&self, after: u64, limit: usize) -> Outcome<Vec<BuildLine>> {
        self.0.builds(after, limit).await.map_err(stop)
    }

    /// Lines already written.
    pub(crate) async fn logs(&self, query: &LogQuery) -> Outcome<LogPage> {
        self.0.logs(query).await.map_err(stop)
    }

    /// The newest `query.limit` lines, then lines as they come.
    pub(crate) async fn follow_logs(&self, query: &LogQuery) -> Outcome<LogStream> {
        self.0.follow_logs(query).await.map_err(stop)
    }

    /// Asks for a change; returns when the engine accepted it, not when it is done.
    pub(crate) async fn command(&self, command: &Command) -> Outcome<Accepted> {
        self.0.command(command).await.map_err(stop)
    }
}

fn stop(error: ClientError) -> Stop {
    match error {
        ClientError::Unreachable { socket, source } => {
            let state = socket.parent().unwrap_or(Path::new("."));
            let cause = match source.kind() {
                std::io::ErrorKind::NotFound => {
                    "the app was not started, or was stopped".to_owned()
                }
                _ => format!("{}: {source}", socket.display()),
            };
            let problem =
                Problem::new("no-engine", format!("no engine answers in `{}`", state.display()))
                    .with_cause(cause)
                    .with_next("ms up -d   |   name another app with --file or --state");
            Stop::new(UNREACHABLE, problem)
        }
        silent @ ClientError::Silent(_) => {
            let problem = Problem::new("engine-silent", silent.to_string())
                .with_cause("it holds its socket and is stuck, stopped, or short of CPU or memory")
                .with_next("see engine.log in the state folder; killed, it is brought back and services run on");
            Stop::new(TIMED_OUT, problem)
        }
        ClientError::Refused(problem) => Stop::new(exit_of(&problem.code), problem),
        ClientError::Broken(cause) => {
            let problem = Problem::new("odd-answer", "cannot read the engine's answer")
                .with_cause(cause)
                .with_next("ms version compares this program with the engine that runs");
            Stop::new(FAILED, problem)
        }
    }
}

/// The exit code of what the engine refused.
fn exit_of(code: &str) -> i32 {
    match code {
        "login-needed" | "not-allowed" | "not-your-engine" => FORBIDDEN,
        code if code.starts_with("bad-") || code.starts_with("unknown-") => USAGE,
        _ => FAILED,
    }
}
