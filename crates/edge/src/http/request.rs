//! A request head: what it asks and how its body is framed, or why it is refused.

use super::field::{self, Field, Meaning, Span};
use super::{Chunked, Framing, Refusal};

/// Methods by name, so that counts have few labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    /// How many there are.
    pub(crate) const COUNT: usize = 9;

    fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }

    /// The method as a metric label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other => "OTHER",
        }
    }

    /// Doing it twice is as good as doing it once (RFC 9110, 9.2.2).
    pub(crate) fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch | Method::Other)
    }
}

/// The versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    pub(super) fn of(text: &[u8]) -> Option<Version> {
        match text {
            b"HTTP/1.1" => Some(Version::Http11),
            b"HTTP/1.0" => Some(Version::Http10),
            _ => None,
        }
    }

    /// Whether `text` is some HTTP version at all.
    fn is_foreign(text: &[u8]) -> bool {
        matches!(text, [b'H', b'T', b'T', b'P', b'/', a, b'.', b]
            if a.is_ascii_digit() && b.is_ascii_digit())
    }
}

/// What the head of a request says.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) method_name: Span,
    /// Path and query; a `/` belongs before them when `add_slash`.
    pub(crate) path: Span,
    pub(crate) add_slash: bool,
    pub(crate) version: Version,
    pub(crate) host: Option<Span>,
    pub(crate) framing: Framing,
    /// The client goes on using the connection afterwards.
    pub(crate) keep_alive: bool,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// The protocol that the client offers to change to.
    pub(crate) upgrade: Option<Span>,
    /// `Connection` names fields of its own that end here.
    pub(crate) nominates: bool,
}

impl Request {
    /// Reads a whole head, as `HeadScan` found it; its fields go to `fields`.
    pub(crate) fn parse(
        head: &[u8],
        fields_max: usize,
        fields: &mut Vec<Field>,
    ) -> Result<Request, Refusal> {
        let line_end = memchr::memchr(b'\n', head).ok_or(Refusal::RequestLine)?;
        let line = head[..line_end].strip_suffix(b"\r").ok_or(Refusal::RequestLine)?;
        let (method_name, target, version) = request_line(line)?;
        field::fields(head, line_end + 1, fields_max, fields)?;
        let mut request = Request {
            method: Method::of(method_name.of(head)),
            method_name,
            path: target,
            add_slash: false,
            version,
            host: None,
            framing: Framing::None,
            keep_alive: version == Version::Http11,
            expects_continue: false,
            upgrade: None,
            nominates: false,
        };
        request.read_fields(head, fields)?;
        request.read_target(head)?;
        Ok(request)
    }

    fn read_fields(&mut self, head: &[u8], fields: &[Field]) -> Result<(), Refusal> {
        let (mut length, mut chunked, mut upgrade) = (None, false, None);
        let (mut offers_upgrade, mut close, mut keep) = (false, false, false);
        for field in fields {
            let value = field.value.of(head);
            match field.meaning {
                Meaning::Host if self.host.is_some() => return Err(Refusal::TwoHosts),
                Meaning::Host => {
                    check_host(value)?;
                    self.host = Some(field.value);
                }
                Meaning::ContentLength if length.is_some() => return Err(Refusal::ContentLength),
                Meaning::ContentLength => length = Some(field::content_length(value)?),
                Meaning::TransferEncoding if chunked => return Err(Refusal::TwoTransferEncodings),
                Meaning::TransferEncoding => {
                    if self.version == Version::Http10 {
                        return Err(Refusal::ChunkedInHttp10);
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::TransferEncoding);
                    }
                    chunked = true;
                }
                Meaning::Connection => {
                    for option in field::list(value) {
                        match connection_option(option)? {
                            ConnectionOption::Close => close = true,
                            ConnectionOption::KeepAlive => keep = true,
                            ConnectionOption::Upgrade => offers_upgrade = true,
                            ConnectionOption::Field => self.nominates = true,
                        }
                    }
                }
                Meaning::Upgrade => upgrade = Some(field.value),
                Meaning::Expect => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::Expect);
                    }
                    self.expects_continue = self.version == Version::Http11;
                }
                Meaning::KeepAlive | Meaning::OneHop | Meaning::Forwarded | Meaning::Other => {}
            }
        }
        self.framing = match (length, chunked) {
            (Some(_), true) => return Err(Refusal::LengthAndChunked),
            (None, true) => Framing::Chunked(Chunked::default()),
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        self.keep_alive = !close && (self.version == Version::Http11 || keep);
        // HTTP/2 in place of HTTP/1 would hide requests from the checks here, and what comes after
        // a body cannot be told from the body's end by everybody.
        self.upgrade = upgrade.filter(|protocol| {
            let protocol = protocol.of(head);
            offers_upgrade
                && self.version == Version::Http11
                && self.framing == Framing::None
                && !protocol.is_empty()
                && !field::list(protocol).any(|name| name.eq_ignore_ascii_case(b"h2c"))
        });
        if self.host.is_none() && self.version == Version::Http11 {
            return Err(Refusal::NoHost);
        }
        Ok(())
    }

    /// Reduces an absolute target to its path, and checks the form of the others.
    fn read_target(&mut self, head: &[u8]) -> Result<(), Refusal> {
        if self.method_name.of(head) == b"CONNECT" {
            return Err(Refusal::Connect);
        }
        let target = self.path.of(head);
        if target[0] == b'/' || (target == b"*" && self.method == Method::Options) {
            return Ok(());
        }
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let scheme = scheme.ok_or(Refusal::Target)?;
        let after = &target[scheme.len()..];
        let path_at = after.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after.len());
        let authority = &after[..path_at];
        check_host(authority).map_err(|_| Refusal::Target)?;
        if self.host.is_some_and(|host| !host.of(head).eq_ignore_ascii_case(authority)) {
            return Err(Refusal::HostMismatch);
        }
        let authority_at = usize::from(self.path.start) + scheme.len();
        self.host = Some(Span::new(authority_at, authority_at + path_at));
        self.path = Span::new(authority_at + path_at, usize::from(self.path.end));
        self.add_slash = after.get(path_at) != Some(&b'/');
        Ok(())
    }
}

fn request_line(line: &[u8]) -> Result<(Span, Span, Version), Refusal> {
    let space = line.iter().position(|&b| !field::is_token(b)).ok_or(Refusal::RequestLine)?;
    if !(1..=32).contains(&space) || line[space] != b' ' {
        return Err(Refusal::RequestLine);
    }
    let target = &line[space + 1..];
    let len = target.iter().position(|&b| !field::is_target(b)).ok_or(Refusal::RequestLine)?;
    if target[len] != b' ' {
        return Err(Refusal::Target);
    }
    if len == 0 {
        return Err(Refusal::RequestLine);
    }
    let second = space + 1 + len;
    let text = &line[second + 1..];
    let version = Version::of(text).ok_or(if Version::is_foreign(text) {
        Refusal::Version
    } else {
        Refusal::RequestLine
    })?;
    Ok((Span::new(0, space), Span::new(space + 1, second), version))
}

enum ConnectionOption {
    Close,
    KeepAlive,
    Upgrade,
    Field,
}

fn connection_option(option: &[u8]) -> Result<ConnectionOption, Refusal> {
    let is = |lower: &[u8]| option.eq_ignore_ascii_case(lower);
    if is(b"close") {
        return Ok(ConnectionOption::Close);
    }
    if is(b"keep-alive") {
        return Ok(ConnectionOption::KeepAlive);
    }
    if is(b"upgrade") {
        return Ok(ConnectionOption::Upgrade);
    }
    let end_to_end: [&[u8]; 5] =
        [b"host", b"content-length", b"transfer-encoding", b"expect", b"connection"];
    if end_to_end.into_iter().any(is) || !option.iter().all(|&b| field::is_token(b)) {
        return Err(Refusal::Connection);
    }
    Ok(ConnectionOption::Field)
}

/// `HOST` or `HOST:PORT`, without user information.
fn check_host(host: &[u8]) -> Result<(), Refusal> {
    let good = || {
        let (name, port) = if host.first() == Some(&b'[') {
            let end = memchr::memchr(b']', host)?;
            let inner = &host[1..end];
            let six = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
            (!inner.is_empty() && inner.iter().all(six)).then_some(())?;
            (&host[..=end], &host[end + 1..])
        } else {
            let plain = |b: u8| field::is_host(b) && !matches!(b, b'[' | b']' | b':');
            let end = host.iter().position(|&b| !plain(b)).unwrap_or(host.len());
            // What follows is a port, or wrong.
            host.split_at(end)
        };
        let port_is_good = match port {
            [] => true,
            [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        (!name.is_empty() && port_is_good).then_some(())
    };
    good().ok_or(Refusal::Host)
}
