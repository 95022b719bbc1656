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
    JS "/app/eventlog.js",
    JS "/app/events.js",
    JS "/app/format.js",
    JS "/app/groups.js",
    SVG "/app/icon.svg",
    HTML "/app/index.html",
    JS "/app/keys.js",
    JS "/app/layout.js",
    JS "/app/lib.js",
    JS "/app/live.js",
    JS "/app/logs.js",
    JS "/app/logview.js",
    JS "/app/main.js",
    JS "/app/map.js",
    JS "/app/messages.js",
    JS "/app/older.js",
    JS "/app/overview.js",
    CSS "/app/pages.css",
    JS "/app/router.js",
    JS "/app/service.js",
    JS "/app/stream.js",
    JS "/app/theme-switch.js",
    JS "/app/theme.js",
    JS "/app/topics.js",
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use super::*;

    fn web() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/web"))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The tables of VENDOR.toml, which holds nothing but `key = "value"` lines in them.
    fn vendored() -> Vec<BTreeMap<String, String>> {
        let text = fs::read_to_string(web().join("vendor/VENDOR.toml")).unwrap();
        let mut tables = Vec::new();
        for line in text.lines() {
            if line == "[[file]]" {
                tables.push(BTreeMap::new());
            } else if let Some((key, value)) = line.split_once(" = ") {
                let table = tables.last_mut().expect("keys stand in tables");
                table.insert(key.to_owned(), value.trim_matches('"').to_owned());
            }
        }
        tables
    }

    #[test]
    fn every_file_of_the_folders_is_built_in() {
        let mut found = BTreeSet::new();
        for folder in ["app", "vendor"] {
            for entry in fs::read_dir(web().join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if [".html", ".js", ".css", ".svg"].iter().any(|kind| name.ends_with(kind)) {
                    found.insert(format!("/{folder}/{name}"));
                }
            }
        }
        let built_in: BTreeSet<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(found, built_in);
    }

    #[test]
    fn vendored_files_are_what_the_manifest_says() {
        let tables = vendored();
        let mut listed = BTreeSet::new();
        for table in &tables {
            let path = &table["path"];
            let bytes = fs::read(web().join("vendor").join(path)).unwrap();
            assert_eq!(hex(&Sha256::digest(&bytes)), table["sha256"], "{path} was changed");
            assert!(["MIT", "Apache-2.0"].contains(&table["licence"].as_str()), "{path}");
            let licence = web().join("vendor").join(&table["licence_file"]);
            assert!(fs::read_to_string(licence).unwrap().len() > 500, "{path} has no licence");
            assert!(!table["package"].is_empty() && !table["version"].is_empty(), "{path}");
            listed.insert(format!("/vendor/{path}"));
        }
        let files = FILES.iter().map(|file| file.path.to_owned());
        let built_in: BTreeSet<_> = files.filter(|path| path.starts_with("/vendor/")).collect();
        assert_eq!(listed, built_in);
    }

    #[test]
    fn modules_import_files_that_are_built_in() {
        for file in FILES.iter().filter(|file| file.path.ends_with(".js")) {
            let text = std::str::from_utf8(file.bytes).unwrap();
            let folder = file.path.rsplit_once('/').unwrap().0;
            for after in text.split("from\"").chain(text.split("from \"")).skip(1) {
                let Some((module, _)) = after.split_once('"') else { continue };
                let Some(name) = module.strip_prefix("./") else {
                    let up = module.strip_prefix("../").map(|rest| format!("/{rest}"));
                    let known = up.is_some_and(|path| FILES.iter().any(|f| f.path == path));
                    assert!(known || !module.starts_with('.'), "{}: {module}", file.path);
                    continue;
                };
                let path = format!("{folder}/{name}");
                assert!(FILES.iter().any(|f| f.path == path), "{}: {module}", file.path);
            }
        }
    }

    #[test]
    fn only_built_in_files_are_read_from_the_folder() {
        let assets = Assets::new(Some(web().to_owned()));
        for path in ["/app/../../Cargo.toml", "/vendor/VENDOR.toml", "/app/none.js"] {
            assert_eq!(assets.reply(path, None).status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(assets.reply("/services/web", None).headers()["content-type"], HTML);
    }

    #[test]
    fn a_known_tag_saves_the_body() {
        let assets = Assets::new(None);
        let tag = assets.reply("/app/main.js", None).headers()[header::ETAG].clone();
        let again = assets.reply("/app/main.js", Some(&tag));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let other = assets.reply("/app/base.css", Some(&tag));
        assert_eq!(other.status(), StatusCode::OK);
    }
}
