//! Query strings: read from a request, written by the client.
//!
//! Not here: what a parameter means, beyond the shared ones of log queries.

use base::{Problem, UnixNanos};

use crate::wire::LogQuery;

/// More parameters than this are refused.
const PARAMETERS_MAX: usize = 256;

/// The parameters of a query string, decoded, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=two%20words`.
    pub(crate) fn parse(text: &str) -> Result<Query, Problem> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == PARAMETERS_MAX {
                return Err(bad("too many query parameters".to_owned()));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Query(pairs))
    }

    /// The last value of `name` that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rfind(|(n, v)| n == name && !v.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of `name` that is not empty.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// The value of `name` as a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let read = |text: &str| {
            let bad_number = || bad(format!("`{name}` must be a whole number, not `{text}`"));
            text.parse().map_err(|_| bad_number())
        };
        self.get(name).map(read).transpose()
    }

    /// Fails when there is a parameter that is not in `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) if known.is_empty() => {
                Err(bad(format!("unknown parameter `{name}`")).with_next("leave it out"))
            }
            Some((name, _)) => Err(bad(format!("unknown parameter `{name}`"))
                .with_next(format!("use one of: {}", known.join(", ")))),
        }
    }
}

fn bad(message: String) -> Problem {
    Problem::new("bad-query", message)
}

/// Reads the parameters of a log query.
pub(crate) fn log_query(query: &Query) -> Result<LogQuery, Problem> {
    query.only(&["service", "grep", "since", "until", "limit", "skip"])?;
    Ok(LogQuery {
        services: query.all("service").map(str::to_owned).collect(),
        grep: query.get("grep").map(str::to_owned),
        since: query.number("since")?.map(UnixNanos),
        until: query.number("until")?.map(UnixNanos),
        limit: query.number("limit")?,
        skip: query.number("skip")?,
    })
}

/// Writes a log query as [`log_query`] reads it.
pub(crate) fn write_log_query(query: &LogQuery) -> String {
    let mut pairs: Vec<(&str, String)> =
        query.services.iter().map(|service| ("service", service.clone())).collect();
    pairs.extend(query.grep.iter().map(|grep| ("grep", grep.clone())));
    pairs.extend(query.since.iter().map(|at| ("since", at.0.to_string())));
    pairs.extend(query.until.iter().map(|at| ("until", at.0.to_string())));
    pairs.extend(query.limit.iter().map(|limit| ("limit", limit.to_string())));
    pairs.extend(query.skip.iter().map(|skip| ("skip", skip.to_string())));
    write(pairs)
}

/// Writes parameters, encoded.
pub(crate) fn write<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let each = pairs.into_iter().map(|(name, value)| format!("{name}={}", encode(&value)));
    each.collect::<Vec<_>>().join("&")
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes [`encode`]; a `+` is a space, as browsers write it.
pub(crate) fn decode(text: &str) -> Result<String, Problem> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let pair = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                let byte = pair.and_then(|value| u8::try_from(value).ok());
                out.push(byte.ok_or_else(|| bad(format!("`{text}` is not percent-encoded")))?);
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|_| bad(format!("`{text}` does not encode UTF-8")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decode_undoes_encode(text in ".*") {
            prop_assert_eq!(decode(&encode(&text)).unwrap(), text);
        }

        #[test]
        fn decode_never_panics(text in "[%+0-9a-fA-Fg-z]*") {
            let _ = decode(&text);
        }

        #[test]
        fn log_queries_read_back_as_written(
            services in prop::collection::vec("[a-z]{1,4}(\\.[1-9])?", 0..3),
            grep in prop::option::of(".+"),
            since in prop::option::of(any::<u64>().prop_map(UnixNanos)),
            limit in prop::option::of(0usize..20_000),
            skip in prop::option::of(0usize..20_000),
        ) {
            let query = LogQuery { services, grep, since, until: None, limit, skip };
            let read = log_query(&Query::parse(&write_log_query(&query)).unwrap()).unwrap();
            prop_assert_eq!(read, query);
        }
    }

    #[test]
    fn unknown_and_odd_parameters_are_named() {
        let problem = log_query(&Query::parse("servce=web").unwrap()).unwrap_err();
        assert!(problem.message.contains("`servce`"), "{problem}");
        let problem = log_query(&Query::parse("limit=-1").unwrap()).unwrap_err();
        assert!(problem.message.contains("`limit`"), "{problem}");
        assert!(Query::parse("a=%zz").is_err());
        assert!(Query::parse("a=%e4").is_err());
    }
}
