//! Who may ask over TCP: checks of `Host`, `Origin`, content type, credentials and user.
//!
//! Not here: Unix sockets. Whoever may open the socket file is trusted.
//!
//! Why so: any page that a browser shows may send requests to loopback. Reading the answer is
//! stopped by the browser unless the page's name resolves to loopback (DNS rebinding), which the
//! `Host` check stops; changing something is stopped by the `Origin` check and by asking for
//! JSON, which no plain form sends. The port in `Host` is free for loopback names, so that a
//! forwarded port works; an origin must still match it exactly.
//!
//! Every user of the host reaches loopback too, and whoever commands an engine runs programs as
//! its user. So without a login only processes of that user (or root) may change something.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use base::Problem;
use http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::config::{ConsoleConfig, Credentials, LOGIN};

/// The other end of a TCP connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// A second handle of the connection's own socket.
    stream: Arc<std::net::TcpStream>,
    address: IpAddr,
}

impl Peer {
    pub(crate) fn of(stream: &TcpStream, from: SocketAddr) -> io::Result<Peer> {
        let stream = Arc::new(stream.as_fd().try_clone_to_owned()?.into());
        Ok(Peer { stream, address: from.ip() })
    }

    /// Where it connects from.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Refuses everybody but root and the engine's own user, also when nobody can tell who it is.
    pub(crate) async fn check_own(self) -> Result<(), Problem> {
        // At most one look for each connection; these are bounded.
        let look = tokio::task::spawn_blocking(move || net::peer_uid(&self.stream));
        let own = net::own_uid();
        let cause = match look.await.ok().flatten() {
            Some(uid) if uid == 0 || uid == own => return Ok(()),
            Some(uid) => format!("the request came from a process of uid {uid}"),
            None => "which user's process sent the request cannot be told".to_owned(),
        };
        let whose = format!("only root and the engine's own user, uid {own}, command it over TCP");
        let next = format!("use `ms` as that user, or set {LOGIN} for the engine and log in");
        Err(Problem::new("not-your-engine", whose).with_cause(cause).with_next(next))
    }
}

/// Refuses what must not be answered over TCP. A login that was asked for and given is told to
/// `given`, with whether it is right.
pub(crate) fn check_tcp(
    config: &ConsoleConfig,
    method: &Method,
    headers: &HeaderMap,
    given: impl FnOnce(bool),
) -> Result<(), Problem> {
    let host = one(headers, &header::HOST)?.ok_or_else(|| {
        not_allowed("the request has no `Host` header").with_next("use a client that sends one")
    })?;
    match &config.credentials {
        // A foreign name that resolves here has no credentials, so the check of names is moot.
        Some(credentials) => check_credentials(credentials, headers, given)?,
        None if is_loopback(host) || config.hosts.iter().any(|h| names(h, host)) => {}
        None => {
            return Err(not_allowed(format!("`{host}` is not a name of this console"))
                .with_cause("only loopback names are answered, against DNS rebinding")
                .with_next("open http://127.0.0.1 with the console's port"));
        }
    }
    if !method.is_safe()
        && let Some(origin) = one(headers, &header::ORIGIN)?
        && origin.split_once("://").map(|(_, authority)| authority) != Some(host)
    {
        return Err(not_allowed(format!("a page of `{origin}` may not change anything here"))
            .with_cause("the `Origin` of the request is not the console's own")
            .with_next("do it on the console's own pages, or with `ms`"));
    }
    Ok(())
}

/// Refuses a body that is not declared as JSON.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let declared = one(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let kind = declared.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new("wrong-content-type", "a command must be JSON")
        .with_cause(format!("its content type is `{declared}`"))
        .with_next("send `Content-Type: application/json`"))
}

fn check_credentials(
    credentials: &Credentials,
    headers: &HeaderMap,
    given: impl FnOnce(bool),
) -> Result<(), Problem> {
    let Credentials { user, secret } = credentials;
    let header = one(headers, &header::AUTHORIZATION)?.unwrap_or_default();
    let (scheme, value) = header.split_once(' ').unwrap_or_default();
    let expected = if scheme.eq_ignore_ascii_case("basic") {
        base64(format!("{user}:{secret}").as_bytes())
    } else if scheme.eq_ignore_ascii_case("bearer") {
        secret.clone()
    } else {
        return Err(login_needed("this console asks for a login"));
    };
    let right = same(value.trim().as_bytes(), expected.as_bytes());
    given(right);
    if right { Ok(()) } else { Err(login_needed("the login is not right")) }
}

fn login_needed(message: &str) -> Problem {
    Problem::new("login-needed", message).with_next("give its user and secret, or the bearer token")
}

fn not_allowed(message: impl Into<String>) -> Problem {
    Problem::new("not-allowed", message)
}

/// The only value of a header; two are an error, since two readers may believe different ones.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(
            not_allowed(format!("the request has two `{name}` headers")).with_next("send one")
        );
    }
    let text = value.to_str().map_err(|_| not_allowed(format!("`{name}` is not plain text")))?;
    Ok(Some(text))
}

/// Whether `host` (`NAME` or `NAME:PORT`) is a name of loopback that needs no resolver.
fn is_loopback(host: &str) -> bool {
    let Some(name) = name_of(host) else { return false };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

/// Whether the allowed `entry` (`NAME` or `NAME:PORT`) covers `host`.
fn names(entry: &str, host: &str) -> bool {
    entry.eq_ignore_ascii_case(host)
        || name_of(host).is_some_and(|name| entry.eq_ignore_ascii_case(name))
}

/// `host` without its port; `None` when the port is not one.
fn name_of(host: &str) -> Option<&str> {
    if host.ends_with(']') {
        return Some(host);
    }
    let Some((name, port)) = host.rsplit_once(':') else { return Some(host) };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    digits.then_some(name)
}

/// Compares without telling by its timing how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(b.iter()).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &ConsoleConfig, method: Method, pairs: &[(&str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: header::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        check_tcp(config, &method, &headers, |_| {}).err().map(|problem| problem.code)
    }

    #[test]
    fn only_loopback_names_are_answered() {
        let config = ConsoleConfig { hosts: vec!["box.lan:7700".into()], ..Default::default() };
        for host in [
            "127.0.0.1:7700",
            "localhost",
            "LOCALHOST:1",
            "[::1]:7700",
            "[::1]",
            "127.9.9.9:80",
            "box.lan:7700",
        ] {
            assert_eq!(check(&config, Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example:7700",
            "127.0.0.1.evil.example",
            "box.lan",
            "box.lan:1",
            "localhost:",
            "localhost:x",
            "",
            "10.0.0.1:7700",
            "[::2]:7700",
        ] {
            let code = check(&config, Method::GET, &[("host", host)]);
            assert_eq!(code.as_deref(), Some("not-allowed"), "{host}");
        }
        let two = [("host", "localhost"), ("host", "localhost")];
        assert!(check(&config, Method::GET, &two).is_some());
        assert!(check(&config, Method::GET, &[]).is_some());
    }

    #[test]
    fn changes_come_from_the_console_s_own_pages() {
        let config = ConsoleConfig::default();
        let post = |origin| {
            check(&config, Method::POST, &[("host", "127.0.0.1:7700"), ("origin", origin)])
        };
        assert_eq!(post("http://127.0.0.1:7700"), None);
        for origin in ["http://127.0.0.1:3000", "http://localhost:7700", "null", ""] {
            assert_eq!(post(origin).as_deref(), Some("not-allowed"), "{origin}");
        }
        assert_eq!(check(&config, Method::POST, &[("host", "localhost:1")]), None, "no browser");
    }

    #[test]
    fn credentials_open_by_basic_and_bearer() {
        let login = Credentials { user: "ada".into(), secret: "s3cret".into() };
        assert!(!format!("{login:?}").contains("s3cret"));
        let config = ConsoleConfig { credentials: Some(login), ..Default::default() };
        let ask =
            |given| check(&config, Method::GET, &[("host", "box.lan"), ("authorization", given)]);
        assert_eq!(ask("Basic YWRhOnMzY3JldA=="), None);
        assert_eq!(ask("bearer s3cret"), None);
        for wrong in ["Basic YWRhOnMzY3JldB==", "Bearer s3cre", "Bearer ", "s3cret", ""] {
            assert_eq!(ask(wrong).as_deref(), Some("login-needed"), "{wrong}");
        }
        assert!(check(&config, Method::GET, &[("host", "localhost")]).is_some());
    }

    #[test]
    fn what_gives_no_login_is_no_guess() {
        let login = Credentials { user: "ada".into(), secret: "s3cret".into() };
        let config = ConsoleConfig { credentials: Some(login), ..Default::default() };
        for (header, expected) in [
            (None, None),
            (Some("Digest username=ada"), None),
            (Some("Bearer s3cret"), Some(true)),
            (Some("Bearer "), Some(false)),
            (Some("basic YWRhOg=="), Some(false)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", header::HeaderValue::from_static("localhost"));
            if let Some(text) = header {
                headers.insert("authorization", text.parse().unwrap());
            }
            let mut seen = None;
            let _ = check_tcp(&config, &Method::GET, &headers, |right| seen = Some(right));
            assert_eq!(seen, expected, "{header:?}");
        }
    }

    #[test]
    fn base64_as_everybody_writes_it() {
        for (text, coded) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj")] {
            assert_eq!(base64(text.as_bytes()), coded);
        }
    }
}
