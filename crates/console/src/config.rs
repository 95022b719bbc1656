//! Settings of the console: who may ask, and its bounds.
//!
//! Not here: listeners, which come bound from outside.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::Problem;

/// The variable of the engine's environment that sets the login, as `user:secret`.
pub const LOGIN: &str = "MS_CONSOLE_LOGIN";

/// The largest command, in bytes; a longer one is refused with 413.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// The largest request head, in bytes; a longer one is refused with 431.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// TCP connections at one time; further ones wait in the listener's backlog.
pub const TCP_CONNECTIONS_MAX: usize = 512;
/// Connections over one Unix socket at one time; further ones wait in its backlog.
pub const UNIX_CONNECTIONS_MAX: usize = 128;
/// Streams (live updates and followed logs) at one time; further ones are refused with 503.
pub const STREAMS_MAX: usize = 256;
/// Commands under way at one time; further ones are refused with 503.
pub const COMMANDS_MAX: usize = 64;
/// Topics of one live stream; a request for more is refused with 400.
pub const TOPICS_MAX: usize = 64;
/// Wrong logins that are taken from one address within [`WRONG_LOGINS_WINDOW`]; after them all that
/// it asks over TCP is refused with 429 until the window, which the first of them began, is over.
pub const WRONG_LOGINS_MAX: u32 = 10;
/// See [`WRONG_LOGINS_MAX`].
pub const WRONG_LOGINS_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Addresses whose wrong logins are counted at one time.
pub const ADDRESSES_MAX: usize = 4096;

/// What the console needs to know beside its listeners.
#[derive(Clone, Debug, Default)]
pub struct ConsoleConfig {
    /// Who may ask over TCP. Without it TCP is for loopback only.
    pub credentials: Option<Credentials>,
    /// Names, besides loopback ones, that a `Host` header may carry: `box.lan` or `box.lan:7700`.
    pub hosts: Vec<String>,
    /// Serve the pages from this folder (`crates/console/web`), to edit them without a rebuild.
    pub web_dir: Option<PathBuf>,
}

impl ConsoleConfig {
    /// Refuses an address that other machines reach while there are no credentials, with code
    /// `console-exposed`.
    pub fn check_exposure(&self, address: SocketAddr) -> Result<(), Problem> {
        if address.ip().to_canonical().is_loopback() || self.credentials.is_some() {
            return Ok(());
        }
        Err(Problem::new("console-exposed", format!("the console will not listen on {address}"))
            .with_cause("other machines could reach it, and it asks for no login")
            .with_next(format!("listen on 127.0.0.1, or set {LOGIN}=user:secret first")))
    }
}

/// One login, given as HTTP Basic `user:secret` or as the bearer token `secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name for HTTP Basic.
    pub user: String,
    /// The password, or the token.
    pub secret: String,
}

impl Credentials {
    /// Reads the value of [`LOGIN`]; no value means no credentials.
    ///
    /// Fails with code `console-login` when it is not `user:secret`. The value is never repeated.
    pub fn from_env(value: Option<OsString>) -> Result<Option<Credentials>, Problem> {
        let Some(value) = value else { return Ok(None) };
        let login = value.to_str().and_then(|text| text.split_once(':'));
        match login {
            Some((user, secret)) if !user.is_empty() && !secret.trim().is_empty() => {
                Ok(Some(Credentials { user: user.to_owned(), secret: secret.to_owned() }))
            }
            _ => Err(Problem::new("console-login", format!("{LOGIN} is not a login"))
                .with_cause("it needs a user, a colon and a secret, none of them empty")
                .with_next(format!("set {LOGIN}=user:secret, or unset it"))),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_a_user_and_a_secret() {
        let read = |text: &str| Credentials::from_env(Some(text.into()));
        let login = read("ada:s3:cret").unwrap().unwrap();
        assert_eq!((login.user.as_str(), login.secret.as_str()), ("ada", "s3:cret"));
        assert!(Credentials::from_env(None).unwrap().is_none());
        for wrong in ["", ":", "s3cret", "ada:", "ada: ", ":s3cret"] {
            let problem = read(wrong).unwrap_err();
            assert_eq!(problem.code, "console-login", "{wrong}");
            assert!(!format!("{problem:?}").contains("s3cret"), "{problem:?}");
        }
    }

    #[test]
    fn only_loopback_needs_no_login() {
        let bare = ConsoleConfig::default();
        let login = Some(Credentials { user: "ada".into(), secret: "s3cret".into() });
        let guarded = ConsoleConfig { credentials: login, ..ConsoleConfig::default() };
        for (address, private) in [
            ("127.0.0.1:7700", true),
            ("127.9.0.1:0", true),
            ("[::1]:7700", true),
            ("[::ffff:127.0.0.1]:7700", true),
            ("0.0.0.0:7700", false),
            ("[::]:7700", false),
            ("192.0.2.1:7700", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(bare.check_exposure(address).is_ok(), private, "{address}");
            assert!(guarded.check_exposure(address).is_ok(), "{address}");
        }
        let refused = bare.check_exposure("0.0.0.0:7700".parse().unwrap()).unwrap_err();
        assert!(refused.next.is_some_and(|next| next.contains(LOGIN)), "it names the variable");
    }
}
