//! A head as it is passed on: without the fields of one hop, with those that this hop adds.

use std::net::IpAddr;

use super::field::{Field, Meaning, Span, list};
use super::{Framing, Request, Response, Version};

/// What this hop says about the client of a published listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarding {
    /// The client's address.
    pub(crate) client: IpAddr,
}

/// Writes the head of `request` as the instance gets it. `forwarding` replaces what the client
/// said about itself; without it (a caller of the app) that is passed on.
pub(crate) fn request_head(
    out: &mut Vec<u8>,
    head: &[u8],
    request: &Request,
    fields: &[Field],
    service: &str,
    forwarding: Option<Forwarding>,
) {
    out.clear();
    out.extend_from_slice(request.method_name.of(head));
    out.extend_from_slice(if request.add_slash { b" /" } else { b" " });
    out.extend_from_slice(request.path.of(head));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    copy_fields(out, head, fields, request.nominates, |field| match field.meaning {
        Meaning::Other | Meaning::ContentLength | Meaning::Expect => true,
        Meaning::Host => request.host == Some(field.value),
        Meaning::Forwarded => forwarding.is_none(),
        _ => false,
    });
    match request.host {
        // An absolute target's host has no line of its own to copy.
        Some(host) if !fields.iter().any(|field| field.value == host) => {
            line(out, b"host", host.of(head));
        }
        Some(_) => {}
        None => line(out, b"host", service.as_bytes()),
    }
    if matches!(request.framing, Framing::Chunked(_)) {
        line(out, b"transfer-encoding", b"chunked");
    }
    if let Some(protocol) = request.upgrade {
        line(out, b"connection", b"upgrade");
        line(out, b"upgrade", protocol.of(head));
    }
    if let Some(forwarding) = forwarding {
        out.extend_from_slice(b"x-forwarded-for: ");
        write_ip(out, forwarding.client);
        out.extend_from_slice(b"\r\nx-forwarded-proto: http\r\n");
        if let Some(host) = request.host {
            line(out, b"x-forwarded-host", host.of(head));
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// How the client's connection goes on after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It stays open for the next request.
    KeepAlive,
    /// It is closed.
    Close,
    /// It becomes another protocol's.
    Upgrade,
}

/// Writes the head of `response` as the client gets it.
pub(crate) fn response_head(
    out: &mut Vec<u8>,
    head: &[u8],
    response: &Response,
    fields: &[Field],
    client: Version,
    ending: Ending,
) {
    out.clear();
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = response.status_text.of(head);
    out.extend_from_slice(status);
    // The space after the code is part of the grammar even without a reason.
    out.extend_from_slice(if status.len() == 3 { b" \r\n" } else { b"\r\n" });
    copy_fields(out, head, fields, response.nominates, |field| match field.meaning {
        // Those of a response to HEAD describe a body that is not there; they are kept.
        Meaning::TransferEncoding => client == Version::Http11,
        Meaning::Upgrade => ending == Ending::Upgrade || response.status == 426,
        Meaning::Connection | Meaning::KeepAlive => false,
        Meaning::OneHop => field.name.of(head).eq_ignore_ascii_case(b"proxy-authenticate"),
        _ => true,
    });
    match (ending, client) {
        (Ending::Upgrade, _) => line(out, b"connection", b"upgrade"),
        (Ending::Close, _) => line(out, b"connection", b"close"),
        (Ending::KeepAlive, Version::Http10) => line(out, b"connection", b"keep-alive"),
        (Ending::KeepAlive, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Copies the lines that `keep` keeps and `Connection` does not name, in runs as long as possible.
fn copy_fields(
    out: &mut Vec<u8>,
    head: &[u8],
    fields: &[Field],
    nominates: bool,
    keep: impl Fn(&Field) -> bool,
) {
    let mut run = Span::default();
    for field in fields {
        if !keep(field) || (nominates && is_nominated(head, fields, field)) {
            continue;
        }
        if run.end != field.line.start {
            out.extend_from_slice(run.of(head));
            run.start = field.line.start;
        }
        run.end = field.line.end;
    }
    out.extend_from_slice(run.of(head));
}

/// Whether a `Connection` field names this one. Framing and `Host` stay whatever it says.
fn is_nominated(head: &[u8], fields: &[Field], field: &Field) -> bool {
    let framing = matches!(
        field.meaning,
        Meaning::Host | Meaning::ContentLength | Meaning::TransferEncoding | Meaning::Upgrade
    );
    let name = field.name.of(head);
    !framing
        && fields
            .iter()
            .filter(|other| other.meaning == Meaning::Connection)
            .flat_map(|other| list(other.value.of(head)))
            .any(|option| option.eq_ignore_ascii_case(name))
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    use std::io::Write;
    let IpAddr::V4(ip) = ip else {
        // Writing to a Vec does not fail.
        let _ = write!(out, "{ip}");
        return;
    };
    // By hand, since formatting would be a tenth of the work for a small request.
    for (at, byte) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        if byte >= 100 {
            out.push(b'0' + byte / 100);
        }
        if byte >= 10 {
            out.push(b'0' + byte / 10 % 10);
        }
        out.push(b'0' + byte % 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everywhere() {
        for ip in ["127.0.0.1", "0.10.100.255", "9.99.199.200", "::1", "2001:db8::7"] {
            let mut out = Vec::new();
            write_ip(&mut out, ip.parse().unwrap());
            assert_eq!(out, ip.as_bytes());
        }
    }
}
