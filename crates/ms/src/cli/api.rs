//! Asking the engine of a state folder: `console::client`, with its errors as exit codes.

use std::path::Path;
use std::time::Duration;

use base::Problem;
use console::client::ClientError;
pub(crate) use console::client::LogStream;
use console::event_log::{Change, Changed, MessagePage, MessageQuery};
use console::socket::SocketPath;
use console::wire::{
    Accepted, BuildLine, Command, EventView, LogPage, LogQuery, Overview, ServiceDetail, Status,
    Why,
};
use serde::de::DeserializeOwned;

use super::stop::{FAILED, FORBIDDEN, Outcome, Stop, TIMED_OUT, UNREACHABLE, USAGE};

/// An engine that died over an answer is waited for so long, and asked so often.
const BACK_WITHIN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

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
        self.again(async || self.0.status().await).await
    }

    /// Services and calls.
    pub(crate) async fn overview(&self) -> Outcome<Overview> {
        self.again(async || self.0.overview().await).await
    }

    /// One service.
    pub(crate) async fn service(&self, name: &str) -> Outcome<ServiceDetail> {
        self.again(async || self.0.service(name).await).await
    }

    /// Why a service is as it is.
    pub(crate) async fn why(&self, name: &str) -> Outcome<Why> {
        self.again(async || self.0.why(name).await).await
    }

    /// Events after `after`, oldest first; the newest ones when `after` is 0.
    pub(crate) async fn events(&self, after: u64, limit: usize) -> Outcome<Vec<EventView>> {
        self.again(async || self.0.events(after, limit).await).await
    }

    /// Lines of builds after `after`, oldest first.
    pub(crate) async fn builds(&self, after: u64, limit: usize) -> Outcome<Vec<BuildLine>> {
        self.again(async || self.0.builds(after, limit).await).await
    }

    /// Lines already written.
    pub(crate) async fn logs(&self, query: &LogQuery) -> Outcome<LogPage> {
        self.again(async || self.0.logs(query).await).await
    }

    /// The newest `query.limit` lines, then lines as they come.
    pub(crate) async fn follow_logs(&self, query: &LogQuery) -> Outcome<LogStream> {
        self.again(async || self.0.follow_logs(query).await).await
    }

    /// Asks an event log, at a path below `/api/event-log/`.
    pub(crate) async fn event_log<T: DeserializeOwned>(
        &self,
        path: &str,
        service: Option<&str>,
    ) -> Outcome<T> {
        self.again(async || self.0.event_log(path, service).await).await
    }

    /// Some messages of a topic.
    pub(crate) async fn messages(
        &self,
        topic: &str,
        service: Option<&str>,
        query: &MessageQuery,
    ) -> Outcome<MessagePage> {
        self.again(async || self.0.messages(topic, service, query).await).await
    }

    /// Changes an event log. An engine that dies over it may have done it.
    pub(crate) async fn change_log(
        &self,
        service: Option<&str>,
        change: &Change,
    ) -> Outcome<Changed> {
        self.0.change_log(service, change).await.map_err(stop)
    }

    /// Asks for a change; returns when the engine accepted it, not when it is done.
    ///
    /// An engine that dies over it may have begun. What comes to the same when it is done twice is
    /// asked for again of the engine that follows.
    pub(crate) async fn command(&self, command: &Command) -> Outcome<Accepted> {
        match command {
            Command::Up { recreate: false, .. }
            | Command::Build { .. }
            | Command::Prune { .. }
            | Command::Down { .. }
            | Command::Stop { .. }
            | Command::Start { .. }
            | Command::Scale { .. }
            | Command::Rollback { release: Some(_), .. } => {
                self.again(async || self.0.command(command).await).await
            }
            Command::Up { .. }
            | Command::Restart { .. }
            | Command::Rollback { .. }
            | Command::Shutdown { .. } => self.0.command(command).await.map_err(stop),
        }
    }

    /// Asks, and while the engine dies over it and is brought back, asks again.
    async fn again<T>(&self, ask: impl AsyncFn() -> Result<T, ClientError>) -> Outcome<T> {
        let mut answer = ask().await;
        if matches!(answer, Err(ClientError::Lost(_))) {
            let mut left = BACK_WITHIN;
            let gone = |answer: &Result<T, ClientError>| {
                matches!(answer, Err(ClientError::Lost(_) | ClientError::Unreachable { .. }))
            };
            while gone(&answer) && self.may_come_back() && !left.is_zero() {
                tokio::time::sleep(PAUSE).await;
                left = left.saturating_sub(PAUSE);
                answer = ask().await;
            }
        }
        answer.map_err(stop)
    }
}

fn stop(error: ClientError) -> Stop {
    match error {
        ClientError::Unreachable { socket, source } => {
            let state = socket.parent().unwrap_or(Path::new("."));
            let (cause, next) = match (left(&agent::left(state)), source.kind()) {
                (Some(left), _) => (left, "ms up -d takes over what runs and brings back the rest"),
                (None, std::io::ErrorKind::NotFound) => {
                    ("the app was not started, or was stopped".to_owned(), START)
                }
                _ => (format!("{}: {source}", socket.display()), START),
            };
            let problem =
                Problem::new("no-engine", format!("no engine answers in `{}`", state.display()))
                    .with_cause(cause)
                    .with_next(next);
            Stop::new(UNREACHABLE, problem)
        }
        silent @ ClientError::Silent(_) => {
            let problem = Problem::new("engine-silent", silent.to_string())
                .with_cause("it holds its socket and is stuck, stopped, or short of CPU or memory")
                .with_next("see engine.log in the state folder; killed, it is brought back and services run on");
            Stop::new(TIMED_OUT, problem)
        }
        ClientError::Refused(problem) => Stop::new(exit_of(&problem.code), problem),
        lost @ ClientError::Lost(_) => {
            let problem = Problem::new("engine-lost", "the engine died before it had answered")
                .with_cause(lost.to_string())
                .with_next("ms ps shows whether it was done; the same command again, if not");
            Stop::new(FAILED, problem)
        }
        ClientError::Broken(cause) => {
            let problem = Problem::new("odd-answer", "cannot read the engine's answer")
                .with_cause(cause)
                .with_next("ms version compares this program with the engine that runs");
            Stop::new(FAILED, problem)
        }
    }
}

const START: &str = "ms up -d   |   name another app with --file or --state";

/// What an engine that is gone has left, if anything.
fn left(left: &agent::Left) -> Option<String> {
    let names = |ids: &[base::InstanceId]| {
        let names: Vec<_> = ids.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    let cut_off = match left.restarted {
        true => "the machine was restarted while these ran",
        false => "killed with it were",
    };
    let running = Some(format!("still running: {}", names(&left.running)));
    let cut_off = Some(format!("{cut_off}: {}", names(&left.cut_off)));
    let said = [
        running.filter(|_| !left.running.is_empty()),
        cut_off.filter(|_| !left.cut_off.is_empty()),
    ];
    let said: Vec<_> = said.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// The exit code of what the engine refused.
fn exit_of(code: &str) -> i32 {
    match code {
        "login-needed" | "not-allowed" | "not-your-engine" => FORBIDDEN,
        code if code.starts_with("bad-") || code.starts_with("unknown-") => USAGE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    const ACCEPTED: &str = r#"{"revision": 7, "changed": [], "warnings": []}"#;

    /// An engine that dies twice over its answer, and the one that is brought back.
    async fn dies_twice(socket: &Path) {
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ACCEPTED}", ACCEPTED.len());
        for length in [0, answer.len() / 2, answer.len()] {
            let fresh = socket.with_extension("new");
            let listener = UnixListener::bind(&fresh).unwrap();
            // Over that of the dead one, as an engine does.
            std::fs::rename(fresh, socket).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let _request = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(&answer.as_bytes()[..length]).await.unwrap();
            if length == answer.len() {
                // Until it is read.
                let _end = stream.read(&mut [0; 1]).await;
                return;
            }
            drop((stream, listener));
            tokio::time::sleep(3 * PAUSE).await;
        }
    }

    #[tokio::test]
    async fn what_may_be_asked_twice_is_asked_again_of_the_engine_that_comes_back() {
        let stop_all = Command::Stop { services: Vec::new() };
        let restart = Command::Restart { services: Vec::new() };
        for (command, goes_on) in [(stop_all, true), (restart, false)] {
            let folder = tempfile::tempdir().unwrap();
            let (client, socket) = (Client::new(folder.path()), folder.path().join("engine.sock"));
            let mut engine = tokio::task::JoinSet::new();
            engine.spawn(async move { dies_twice(&socket).await });
            while !client.may_come_back() {
                tokio::task::yield_now().await;
            }
            match client.command(&command).await {
                Ok(accepted) => assert!(goes_on && accepted.revision == 7, "{accepted:?}"),
                Err(Stop::Failed { problems, .. }) => {
                    assert_eq!(problems[0].code, "engine-lost");
                    assert!(!goes_on, "{problems:?}");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}
