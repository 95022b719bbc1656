//! The other end of the API, for the command line: typed requests over the engine's Unix socket.
//!
//! Not here: how answers are shown. Each request has a connection of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Problem;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::event_log::{Change, Changed, MessagePage, MessageQuery};
use crate::query;
pub use crate::query::encode;
use crate::socket::SocketPath;
use crate::wire::{
    Accepted, BuildLine, Chart, ChartQuery, Command, EventView, LiveMessage, LogLine, LogPage,
    LogQuery, Overview, ServiceDetail, Status, Why,
};

/// How long the engine may take to begin its answer to what is only read. A command may take as
/// long as it needs; an engine that ends closes the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a search through logs may take, and the rest of any answer that has begun.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer, and the longest line of a stream.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket: no engine runs there.
    #[error("no engine answers at {}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why it could not be opened.
        source: io::Error,
    },
    /// The engine is there and says nothing.
    #[error("no answer from the engine after {} s", .0.as_secs())]
    Silent(Duration),
    /// The engine refused, and says why.
    #[error("{0}")]
    Refused(Problem),
    /// The engine went away before its answer was whole. Whether it did what it was asked for
    /// nobody knows.
    #[error("the engine went away before it had answered: {0}")]
    Lost(String),
    /// The engine answered something else than its API says.
    #[error("the engine's answer is broken: {0}")]
    Broken(String),
}

impl ClientError {
    /// What a connection that did not carry a whole answer means.
    fn cut(error: &hyper::Error) -> ClientError {
        match error.is_parse() {
            true => ClientError::broken(error),
            false => ClientError::Lost(error.to_string()),
        }
    }

    fn broken(error: impl std::fmt::Display) -> ClientError {
        ClientError::Broken(error.to_string())
    }
}

/// Asks one engine.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the engine that listens on this socket. Connects at each request.
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into() }
    }

    /// The socket that it asks.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The engine itself.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/api/status").await
    }

    /// Services and calls.
    pub async fn overview(&self) -> Result<Overview, ClientError> {
        self.get("/api/overview").await
    }

    /// One service; refused with `not-found` when there is none of that name.
    pub async fn service(&self, name: &str) -> Result<ServiceDetail, ClientError> {
        self.get(&format!("/api/services/{}", query::encode(name))).await
    }

    /// Why a service is as it is; refused with `not-found` when there is none of that name.
    pub async fn why(&self, name: &str) -> Result<Why, ClientError> {
        self.get(&format!("/api/services/{}/why", query::encode(name))).await
    }

    /// Events after `after`, oldest first; the newest ones when `after` is 0.
    pub async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventView>, ClientError> {
        self.get(&format!("/api/events?after={after}&limit={limit}")).await
    }

    /// Lines of builds after `after`, oldest first.
    pub async fn builds(&self, after: u64, limit: usize) -> Result<Vec<BuildLine>, ClientError> {
        self.get(&format!("/api/builds?after={after}&limit={limit}")).await
    }

    /// A chart from the metric history.
    pub async fn chart(&self, chart: &ChartQuery) -> Result<Chart, ClientError> {
        let mut pairs = vec![("chart", chart.chart.clone())];
        pairs.extend(chart.service.iter().map(|service| ("service", service.to_string())));
        pairs.extend(chart.seconds.iter().map(|seconds| ("seconds", seconds.to_string())));
        self.get(&format!("/api/chart?{}", query::write(pairs))).await
    }

    /// Lines already written.
    pub async fn logs(&self, logs: &LogQuery) -> Result<LogPage, ClientError> {
        self.get(&format!("/api/logs?{}", query::write_log_query(logs))).await
    }

    /// Lines already written (`limit`, none when it is 0), then lines as they come.
    pub async fn follow_logs(&self, logs: &LogQuery) -> Result<LogStream, ClientError> {
        let path = format!("/api/logs/follow?{}", query::write_log_query(logs));
        Ok(LogStream(self.stream(&path).await?))
    }

    /// What these topics show, as it changes: `overview`, `service:NAME`, `events`.
    pub async fn live(&self, topics: &[&str]) -> Result<LiveStream, ClientError> {
        let path = format!("/api/live?topics={}", query::encode(&topics.join(",")));
        Ok(LiveStream(self.stream(&path).await?))
    }

    /// Asks the engine to do something; returns when it accepted, not when it is done.
    pub async fn command(&self, command: &Command) -> Result<Accepted, ClientError> {
        let body = serde_json::to_vec(command).map_err(ClientError::broken)?;
        let (response, _connection) = self.send(Method::POST, "/api/commands", body, None).await?;
        serde_json::from_slice(&collect(response).await?).map_err(ClientError::broken)
    }

    /// Asks an event log, at a path below `/api/event-log/`: the one of that service, or the only
    /// one.
    pub async fn event_log<T: DeserializeOwned>(
        &self,
        path: &str,
        service: Option<&str>,
    ) -> Result<T, ClientError> {
        self.get(&log_path(path, service, "")).await
    }

    /// Some messages of a topic.
    pub async fn messages(
        &self,
        topic: &str,
        service: Option<&str>,
        messages: &MessageQuery,
    ) -> Result<MessagePage, ClientError> {
        let path = format!("topics/{}/messages", query::encode(topic));
        self.get(&log_path(&path, service, &messages.write())).await
    }

    /// Changes an event log.
    pub async fn change_log(
        &self,
        service: Option<&str>,
        change: &Change,
    ) -> Result<Changed, ClientError> {
        let body = serde_json::to_vec(change).map_err(ClientError::broken)?;
        let path = log_path("changes", service, "");
        let (response, _connection) = self.send(Method::POST, &path, body, None).await?;
        serde_json::from_slice(&collect(response).await?).map_err(ClientError::broken)
    }

    /// Every metric in the Prometheus text format.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let body = self.whole("/metrics").await?;
        String::from_utf8(body.to_vec()).map_err(ClientError::broken)
    }

    /// Any path of the API whose answer is a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        serde_json::from_slice(&self.whole(path).await?).map_err(ClientError::broken)
    }

    async fn whole(&self, path: &str) -> Result<Bytes, ClientError> {
        let (response, _connection) = self.look(path).await?;
        collect(response).await
    }

    async fn stream(&self, path: &str) -> Result<Lines, ClientError> {
        let (response, connection) = self.look(path).await?;
        let body = response.into_body();
        Ok(Lines { body, buffer: Vec::new(), read: 0, ended: false, _connection: connection })
    }

    async fn look(&self, path: &str) -> Result<(Response<Incoming>, JoinSet<()>), ClientError> {
        let slow = path.starts_with("/api/logs") || path.starts_with("/api/event-log");
        let patience = if slow { SEARCH_TIMEOUT } else { ANSWER_TIMEOUT };
        self.send(Method::GET, path, Vec::new(), Some(patience)).await
    }

    /// Sends a request and waits, so long at most, for the head of its answer; a refusal becomes
    /// an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        patience: Option<Duration>,
    ) -> Result<(Response<Incoming>, JoinSet<()>), ClientError> {
        let unreachable = |source| ClientError::Unreachable { socket: self.socket.clone(), source };
        let socket = SocketPath::new(&self.socket).map_err(unreachable)?;
        let stream = UnixStream::connect(socket.as_path()).await.map_err(unreachable)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| ClientError::cut(&e))?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // A broken connection shows as an error of the request or of its body.
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(body))
            .map_err(ClientError::broken)?;
        let answer = sender.send_request(request);
        let answer = match patience {
            None => answer.await,
            Some(patience) => tokio::time::timeout(patience, answer)
                .await
                .map_err(|_| ClientError::Silent(patience))?,
        };
        let response = answer.map_err(|e| ClientError::cut(&e))?;
        if response.status().is_success() {
            return Ok((response, task));
        }
        let status = response.status();
        let body = collect(response).await?;
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => ClientError::Refused(problem),
            Err(_) => ClientError::Broken(format!("status {status}")),
        })
    }
}

fn log_path(path: &str, service: Option<&str>, more: &str) -> String {
    let service = service.map(|service| query::write([("service", service.to_owned())]));
    let all: Vec<&str> = service.as_deref().into_iter().chain([more]).collect();
    format!("/api/event-log/{path}?{}", all.join("&"))
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(SEARCH_TIMEOUT, body).await;
    let body = body.map_err(|_| ClientError::Silent(SEARCH_TIMEOUT))?;
    body.map(|body| body.to_bytes()).map_err(|error| match error.downcast_ref::<hyper::Error>() {
        _ if error.is::<LengthLimitError>() => ClientError::broken("it is larger than 64 MiB"),
        Some(cut) => ClientError::cut(cut),
        None => ClientError::broken(error),
    })
}

/// Log lines as they come. Dropping it ends the request.
#[derive(Debug)]
pub struct LogStream(Lines);

impl LogStream {
    /// The next line; `None` when the engine ended the stream, as it does when it shuts down.
    pub async fn next(&mut self) -> Option<Result<LogLine, ClientError>> {
        loop {
            match self.0.next().await? {
                Ok(line) if line.is_empty() => {}
                Ok(line) => return Some(parse(&line)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Live messages as they come. Dropping it ends the request.
#[derive(Debug)]
pub struct LiveStream(Lines);

impl LiveStream {
    /// The next message; `None` when the engine ended the stream, as it does when it shuts down.
    pub async fn next(&mut self) -> Option<Result<LiveMessage, ClientError>> {
        loop {
            match self.0.next().await? {
                // The server writes each message as one `data:` line.
                Ok(line) => {
                    if let Some(data) = line.strip_prefix(b"data: ") {
                        return Some(parse(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(line).map_err(ClientError::broken)
}

#[derive(Debug)]
struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are known to hold no line end.
    read: usize,
    ended: bool,
    _connection: JoinSet<()>,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Vec<u8>, ClientError>> {
        loop {
            let found = self.buffer[self.read..].iter().position(|byte| *byte == b'\n');
            if let Some(at) = found {
                let rest = self.buffer.split_off(self.read + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.read = 0;
                return Some(Ok(line));
            }
            self.read = self.buffer.len();
            if self.ended {
                return None;
            }
            if self.read > ANSWER_BYTES_MAX {
                self.ended = true;
                return Some(Err(ClientError::broken("a line is longer than 64 MiB")));
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(ClientError::cut(&error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that dies, at each byte of its answer in turn.
    #[tokio::test]
    async fn an_answer_cut_anywhere_is_lost_and_not_odd() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = Client::new(socket);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n[1, 2, 3, 4, 5";
        for length in 0..answer.len() {
            let dies = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = [0; 1024];
                let _asked = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, &answer[..length]).await.unwrap();
            };
            let (asked, ()) = tokio::join!(client.get::<Vec<u32>>("/api/x"), dies);
            assert!(matches!(asked, Err(ClientError::Lost(_))), "{length}: {asked:?}");
        }
    }

    /// The clock is paused: it jumps ahead as soon as nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn what_is_read_is_waited_for_a_while_and_a_command_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        // It accepts connections, as every bound socket does, and never answers.
        let _silent = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = Client::new(socket);
        let a_day = Duration::from_secs(86_400);
        let read = tokio::time::timeout(a_day, client.overview()).await;
        assert!(matches!(read, Ok(Err(ClientError::Silent(_)))), "{read:?}");
        let command = Command::Stop { services: Vec::new() };
        let asked = tokio::time::timeout(a_day, client.command(&command)).await;
        assert!(asked.is_err(), "{asked:?}");
    }
}
