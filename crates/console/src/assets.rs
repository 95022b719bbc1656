//! The files of the pages, built into the binary.
//!
//! Not here: the API. Paths without a file are pages, which the one HTML file draws.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::reply::{self, Reply};

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

struct File {
    /// Path below `web`, with a `/` first: the path of its URL.
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($kind:ident $path:literal),* $(,)?) => {
        &[$(File {
            path: $path,
            content_type: $kind,
            bytes: include_bytes!(concat!("../web", $path)),
        }),*]
    };
}

/// The page itself.
const INDEX: &str = "/app/index.html";

const FILES: &[File] = files![
    JS "/app/actions.js",
    JS "/app/api.js",
    CSS "/app/base.css",
    JS "/app/chart.js",
    JS "/app/events.js",
    JS "/app/format.js",
    SVG "/app/icon.svg",
    HTML "/app/index.html",
    JS "/app/keys.js",
    JS "/app/layout.js",
    JS "/app/lib.js",
    JS "/app/live.js",
    JS "/app/logs.js",
    JS "/app/main.js",
    JS "/app/map.js",
    JS "/app/overview.js",
    CSS "/app/pages.css",
    JS "/app/router.js",
    JS "/app/service.js",
    JS "/app/stream.js",
    JS "/app/theme-switch.js",
    JS "/app/theme.js",
    JS "/app/ui.js",
    JS "/app/worker.js",
    JS "/vendor/htm.js",
    JS "/vendor/preact-hooks.js",
    JS "/vendor/preact.js",
    JS "/vendor/signals-core.js",
    JS "/vendor/signals.js",
    CSS "/vendor/uplot.css",
    JS "/vendor/uplot.js",
];

/// The files, with their hashes.
pub(crate) struct Assets {
    dir: Option<PathBuf>,
    tags: Vec<HeaderValue>,
}

impl Assets {
    /// The built-in files, or those below `dir` at each request.
    pub(crate) fn new(dir: Option<PathBuf>) -> Assets {
        Assets { dir, tags: FILES.iter().map(|file| tag(file.bytes)).collect() }
    }

    /// The file at `path`, the page when `path` looks like none.
    pub(crate) fn reply(&self, path: &str, known: Option<&HeaderValue>) -> Reply {
        let is_file = path.starts_with("/app/") || path.starts_with("/vendor/");
        let wanted = match path {
            "/favicon.ico" => "/app/icon.svg",
            path if is_file => path,
            _ => INDEX,
        };
        let Some(at) = FILES.iter().position(|file| file.path == wanted) else {
            return reply::empty(StatusCode::NOT_FOUND);
        };
        let File { path, content_type, bytes } = FILES[at];
        let (body, tag) = match &self.dir {
            None => (Bytes::from_static(bytes), self.tags[at].clone()),
            // Only paths of built-in files are read, so nothing outside the folder is.
            Some(dir) => match std::fs::read(dir.join(&path[1..])) {
                Ok(bytes) => {
                    let tag = tag(&bytes);
                    (bytes.into(), tag)
                }
                Err(_) => return reply::empty(StatusCode::NOT_FOUND),
            },
        };
        let mut reply = match known {
            Some(known) if *known == tag => reply::empty(StatusCode::NOT_MODIFIED),
            _ => reply::bytes(StatusCode::OK, content_type, body),
        };
        let headers = reply.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::ETAG, tag);
        reply
    }
}

fn tag(bytes: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(bytes);
    let hex: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}
