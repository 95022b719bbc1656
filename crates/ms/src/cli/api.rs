//! Asking the engine: its HTTP API over the Unix socket of a state folder.
//!
//! One connection per request: a Unix connection costs microseconds, and a restarted engine
//! needs no special case. Invariants: answers are bounded; an engine that does not answer is
//! [`UNREACHABLE`], whatever the reason.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use base::Problem;
use console::wire::{Accepted, Command, EventView, LogLine, LogPage, LogQuery, Overview, Status};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::stop::{FAILED, FORBIDDEN, Outcome, Stop, UNREACHABLE, USAGE};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest line of a stream: a log line's own bound, JSON escapes included, with room to spare.
const LINE_BYTES_MAX: usize = 4 << 20;
/// A Unix socket's path has 108 bytes, one of them the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// An engine, by its socket.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// The engine of this state folder, whether it runs or not.
    pub(crate) fn new(state: &Path) -> Client {
        Client { socket: state.join("engine.sock") }
    }

    /// Whether something listens on the socket.
    pub(crate) async fn answers(&self) -> bool {
        connect(&self.socket).await.is_ok()
    }

    /// The engine itself.
    pub(crate) async fn status(&self) -> Outcome<Status> {
        self.get("/api/status").await
    }

    /// Services and calls.
    pub(crate) async fn overview(&self) -> Outcome<Overview> {
        self.get("/api/overview").await
    }

    /// Events after `after`, oldest first.
    pub(crate) async fn events(&self, after: u64, limit: usize) -> Outcome<Vec<EventView>> {
        self.get(&format!("/api/events?after={after}&limit={limit}")).await
    }

    /// Lines already written.
    pub(crate) async fn logs(&self, query: &LogQuery) -> Outcome<LogPage> {
        self.get(&format!("/api/logs{}", log_query(query))).await
    }

    /// Lines as they are written from now on.
    pub(crate) async fn follow_logs(&self, query: &LogQuery) -> Outcome<LogStream> {
        let request = get(&format!("/api/logs/follow{}", log_query(query)));
        let (response, connection) = self.send(request).await?;
        Ok(LogStream { body: response.into_body(), _connection: connection, pending: Vec::new() })
    }

    /// Does what a person asked for.
    pub(crate) async fn command(&self, command: &Command) -> Outcome<Accepted> {
        let body = serde_json::to_vec(command).map_err(|e| odd_answer(&e.to_string()))?;
        let request = Request::post("/api/commands")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| odd_answer(&e.to_string()))?;
        self.read(request).await
    }

    /// One resource.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        self.read(get(path)).await
    }

    async fn read<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Outcome<T> {
        let (response, _connection) = self.send(request).await?;
        let body = body(response).await?;
        serde_json::from_slice(&body).map_err(|e| odd_answer(&e.to_string()))
    }

    /// Sends, and turns a refusal into the problem that it carries.
    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Outcome<(Response<Incoming>, tokio::task::JoinSet<()>)> {
        let unreachable = |why: &dyn std::fmt::Display| self.unreachable(why);
        let stream = connect(&self.socket).await.map_err(|e| unreachable(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
        let mut tasks = tokio::task::JoinSet::new();
        // Its error is the error of the request or of the body, which is where it is handled.
        tasks.spawn(async move { _ = connection.await });
        let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok((response, tasks));
        }
        let body = body(response).await?;
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| {
            let said = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            Problem::new("odd-answer", format!("the engine answered {status}")).with_cause(said)
        });
        Err(Stop::new(exit_of(status), problem))
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Stop {
        let state = self.socket.parent().unwrap_or(Path::new("."));
        let problem =
            Problem::new("no-engine", format!("no engine answers in `{}`", state.display()))
                .with_cause(format!("{}: {why}", self.socket.display()))
                .with_next("ms up -d   |   name another app with --file or --state");
        Stop::new(UNREACHABLE, problem)
    }
}

/// Lines of output as they arrive.
pub(crate) struct LogStream {
    body: Incoming,
    _connection: tokio::task::JoinSet<()>,
    pending: Vec<u8>,
}

impl LogStream {
    /// The next lines, `None` when the engine ended the stream. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Vec<LogLine>> {
        loop {
            let lines = take_lines(&mut self.pending);
            if !lines.is_empty() {
                return Some(lines);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                if self.pending.len() + data.len() > LINE_BYTES_MAX {
                    return None;
                }
                self.pending.extend_from_slice(data);
            }
        }
    }
}

/// Takes the whole lines out of `pending`. What is no log line, such as an empty line that only
/// keeps the connection alive, is passed over.
fn take_lines(pending: &mut Vec<u8>) -> Vec<LogLine> {
    let Some(end) = pending.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
    let rest = pending.split_off(end + 1);
    let whole = std::mem::replace(pending, rest);
    whole.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return UnixStream::connect(socket).await;
    }
    // Reach a socket in a deep folder through a descriptor of that folder.
    let folder = std::fs::File::open(socket.parent().unwrap_or(Path::new(".")))?;
    let name = socket.file_name().unwrap_or_default();
    UnixStream::connect(PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
        .await
}

fn get(path: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    // Paths are built here from literals and percent-encoded values.
    *request.uri_mut() = path.parse().unwrap_or_default();
    request.headers_mut().insert("host", hyper::header::HeaderValue::from_static("localhost"));
    request
}

async fn body(response: Response<Incoming>) -> Outcome<Bytes> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|e| odd_answer(&e.to_string()))?.to_bytes())
}

fn odd_answer(cause: &str) -> Stop {
    let problem = Problem::new("odd-answer", "cannot read the engine's answer")
        .with_cause(cause)
        .with_next("compare the versions of both with `ms version`");
    Stop::new(FAILED, problem)
}

fn exit_of(status: StatusCode) -> i32 {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FORBIDDEN,
        status if status.is_client_error() && status != StatusCode::CONFLICT => USAGE,
        _ => FAILED,
    }
}

fn log_query(query: &LogQuery) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    pairs.extend(query.services.iter().map(|name| ("service", name.clone())));
    pairs.extend(query.grep.iter().map(|grep| ("grep", grep.clone())));
    pairs.extend(query.since.iter().map(|at| ("since", at.0.to_string())));
    pairs.extend(query.until.iter().map(|at| ("until", at.0.to_string())));
    pairs.extend(query.limit.iter().map(|limit| ("limit", limit.to_string())));
    let mut text = String::new();
    for (key, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        text.push_str(&escape(&value));
    }
    text
}

/// Percent-encodes a path segment or a query value.
pub(crate) fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use base::UnixNanos;

    use super::*;

    #[test]
    fn queries_are_encoded() {
        let query = LogQuery {
            services: vec!["web".into(), "api.2".into()],
            grep: Some("/a b&c=%/".into()),
            since: Some(UnixNanos(5)),
            until: None,
            limit: Some(10),
        };
        assert_eq!(
            log_query(&query),
            "?service=web&service=api.2&grep=%2Fa%20b%26c%3D%25%2F&since=5&limit=10"
        );
        assert_eq!(log_query(&LogQuery::default()), "");
    }

    #[test]
    fn lines_are_taken_whole() {
        let line = r#"{"at":1,"instance":"web.1","stream":"stdout","text":"hi"}"#;
        let mut pending = format!("{line}\n\n{line}\n{{\"at\"").into_bytes();
        assert_eq!(take_lines(&mut pending).len(), 2);
        assert_eq!(pending, b"{\"at\"");
        assert!(take_lines(&mut pending).is_empty());
        pending.extend_from_slice(&line.as_bytes()[5..]);
        pending.push(b'\n');
        assert_eq!(take_lines(&mut pending)[0].text, "hi");
        assert!(pending.is_empty());
    }
}
