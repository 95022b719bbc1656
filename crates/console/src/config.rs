//! Settings of the console: who may ask, and its bounds.
//!
//! Not here: listeners, which come bound from outside.

use std::fmt;
use std::path::PathBuf;

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

/// One login, given as HTTP Basic `user:secret` or as the bearer token `secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name for HTTP Basic.
    pub user: String,
    /// The password, or the token.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
