//! Calling another service by name: one request per connection, with time and size limits.
//!
//! Not here: retries, which belong to whoever knows whether the call may be repeated.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest wait for a whole answer.
const CALL_MAX: Duration = Duration::from_secs(3);

/// Longest answer taken, in bytes.
const ANSWER_MAX: usize = 256 * 1024;

/// Where a service listens, from `http://NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `name:port`, as the Host header has it.
    pub(crate) authority: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Target, String> {
        let uri: hyper::Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
        let Some(host) = uri.host().filter(|_| plain) else {
            return Err("wanted http://NAME:PORT".to_owned());
        };
        Ok(Target { authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)) })
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("{0} did not answer in {CALL_MAX:?}")]
    Slow(String),
    #[error("{0} broke off: {1}")]
    Broken(String, String),
}

/// An answer whose connection lives as long as this value.
pub(crate) struct Open {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: JoinSet<()>,
}

/// Sends a request and gives its answer's head; bodies and upgrades can follow.
pub(crate) async fn open(
    target: &Target,
    mut request: Request<Full<Bytes>>,
) -> Result<Open, CallError> {
    let name = || target.authority.clone();
    let host = header::HeaderValue::from_str(&target.authority)
        .map_err(|error| CallError::Broken(name(), error.to_string()))?;
    request.headers_mut().insert(header::HOST, host);
    let exchange = async {
        let stream = TcpStream::connect(&target.authority)
            .await
            .map_err(|error| CallError::Connect(name(), error))?;
        // Turns are small and must not wait for more of them. Without it games are only slower.
        let _ = stream.set_nodelay(true);
        let broken = |error: hyper::Error| CallError::Broken(name(), error.to_string());
        let (mut sender, driver) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            // How it ended is seen by whoever reads the answer.
            let _ = driver.with_upgrades().await;
        });
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(Open { response, connection })
    };
    tokio::time::timeout(CALL_MAX, exchange).await.map_err(|_| CallError::Slow(name()))?
}

/// Calls a service and reads the whole answer.
pub(crate) async fn call(
    target: &Target,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), CallError> {
    let broken = |why: String| CallError::Broken(target.authority.clone(), why);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| broken(error.to_string()))?;
    let Open { response, connection } = open(target, request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect();
    let body = tokio::time::timeout(CALL_MAX, body)
        .await
        .map_err(|_| CallError::Slow(target.authority.clone()))?
        .map_err(|error| broken(error.to_string()))?;
    drop(connection);
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_plain_http_without_a_path() {
        let authority = |url: &str| url.parse::<Target>().map(|t| t.authority);
        assert_eq!(authority("http://arena:8080"), Ok("arena:8080".to_owned()));
        assert_eq!(authority("http://arena/"), Ok("arena:80".to_owned()));
        for bad in ["https://arena:8080", "arena:8080", "http://arena/x", "", "http://"] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }
}
