//! What must hold for any bytes that a client sends, or that the engine answers a client.
//!
//! Not here: the making of bytes; `fuzz/` does that, and tests replay its seeds. Only compiled for
//! tests and under `cfg(fuzzing)`.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::query::{self, Query};
use crate::wire::{Accepted, Chart, Command, EventView, LogLine, Overview, ServiceDetail};
use crate::{ConsoleConfig, guard, routes};

/// A request: query string, header lines, an empty line, the body of a command.
///
/// # Panics
/// When what was read is another after it was written and read again, or a name that is not
/// loopback's passes.
pub fn console_request(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |&byte| byte == b'\n');
    let (first, mut rest) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Ok(text) = std::str::from_utf8(first) {
        query_string(text);
    }
    let mut headers = HeaderMap::new();
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        let (Ok(name), Ok(value)) = (name, value) else { break };
        headers.append(name, value);
    }
    guarded(&headers);
    same_again::<Command>(rest);
    same_again::<crate::event_log::Change>(rest);
}

fn query_string(text: &str) {
    let Ok(query) = Query::parse(text) else { return };
    if let Ok(wanted) = query::log_query(&query) {
        let written = Query::parse(&query::write_log_query(&wanted));
        assert_eq!(written.and_then(|query| query::log_query(&query)), Ok(wanted), "{text}");
    }
    if let Ok(chart) = routes::chart_query(&query) {
        assert!(!chart.chart.is_empty());
    }
    if let Ok(plain) = query::decode(text) {
        assert_eq!(query::decode(&query::encode(&plain)), Ok(plain));
    }
}

fn guarded(headers: &HeaderMap) {
    let _ = guard::check_json(headers);
    let login = Some(crate::Credentials { user: "u".to_owned(), secret: "s".to_owned() });
    let config = |credentials| ConsoleConfig { credentials, ..ConsoleConfig::default() };
    let passed = guard::check_tcp(&config(None), &Method::POST, headers, |_| {}).is_ok();
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    if let Ok(name) = host.parse::<http::uri::Authority>() {
        let name = name.host().trim_matches(['[', ']']);
        let loopback = name.eq_ignore_ascii_case("localhost")
            || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        assert!(loopback || !passed, "{host}");
    }
    let passed = guard::check_tcp(&config(login), &Method::GET, headers, |_| {}).is_ok();
    let given = headers.get("authorization").map(|value| value.as_bytes().to_ascii_lowercase());
    let good = given.is_some_and(|value| value.starts_with(b"basic ") || value.ends_with(b" s"));
    assert!(good || !passed, "{headers:?}");
}

/// What the engine answers, as its clients read it.
///
/// # Panics
/// When it is another after it was written and read again.
pub fn console_answer(bytes: &[u8]) {
    same_again::<Overview>(bytes);
    same_again::<ServiceDetail>(bytes);
    same_again::<EventView>(bytes);
    same_again::<LogLine>(bytes);
    same_again::<Chart>(bytes);
    same_again::<Accepted>(bytes);
    same_again::<base::Problem>(bytes);
}

/// Written and read again it says the same; a fraction may be rounded each time.
fn same_again<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(first) = serde_json::from_slice::<T>(bytes) else { return };
    let write = |value: &T| serde_json::to_value(value).unwrap_or_default();
    let written = write(&first);
    match serde_json::from_str::<T>(&written.to_string()) {
        Ok(again) => assert!(has_fraction(&written) || write(&again) == written, "{written}"),
        Err(error) => panic!("{error}: {written}"),
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for (target, run) in
            [("console_request", console_request as fn(&[u8])), ("console_answer", console_answer)]
        {
            let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
            for seed in std::fs::read_dir(folder).unwrap() {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
