//! Files as people write them.

use spec::model::{Protocol, Restart};
use spec::{Loaded, load};

use crate::{Memory, brief, options, show};

const WEB: &str = "FROM python:3.12-slim\nARG APP_ENV\nENV APP_ENV=$APP_ENV\nWORKDIR /app\nCOPY . .\n\
    RUN pip install -r requirements.txt\nCMD [\"python\", \"app.py\"]\n";

const GO: &str = "FROM golang:1.23 AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o /out/ledger ./cmd/ledger\n\
    FROM gcr.io/distroless/static AS migrate\nCOPY --from=build /out/ledger /ledger\nENTRYPOINT [\"/ledger\", \"migrate\"]\n\
    FROM gcr.io/distroless/static AS run\nCOPY --from=build /out/ledger /ledger\nEXPOSE 9090 9100\nENTRYPOINT [\"/ledger\"]\n";

fn files(text: &str) -> Memory {
    Memory::default()
        .with("compose.yaml", text)
        .with("/srv/shop/web/Dockerfile", WEB)
        .with("/srv/shop/build/Dockerfile", GO)
}

#[track_caller]
fn loaded(text: &str) -> Loaded {
    let loaded = load(&options(), &files(text)).map_err(|f| show(&f)).unwrap();
    crate::life::same_after_writing_with(&loaded.app, files(text));
    loaded
}

#[test]
fn flask() {
    let loaded = loaded(include_str!("../data/flask.yaml"));
    assert_eq!(brief(&loaded.findings), Vec::<String>::new());
    let web = &loaded.app.services["web"];
    assert_eq!(web.ports[0].published, Some(5000));
    assert_eq!(loaded.recipes["web"].env["APP_ENV"], "development");
    assert_eq!(loaded.app.services["worker"].limits.memory_bytes, Some(256 << 20));
}

#[test]
fn node() {
    let loaded = loaded(include_str!("../data/node.yaml"));
    assert_eq!(brief(&loaded.findings), ["warning key-ignored 1", "warning key-ignored 38"]);
    let (api, gateway) = (&loaded.app.services["api"], &loaded.app.services["gateway"]);
    assert_eq!(api.command.as_ref().unwrap()[2], "npm ci && npm run start:prod");
    assert_eq!(api.protocol(3000), Some(Protocol::Http));
    assert_eq!(gateway.environment["PORT"], "8080");
    assert_eq!(gateway.restart, Restart::OnFailure { max_retries: Some(5) });
    assert!(!loaded.app.services.contains_key("debug"));
}

#[test]
fn go() {
    let loaded = loaded(include_str!("../data/go.yaml"));
    assert_eq!(loaded.app.name, "ledger");
    let ledger = &loaded.app.services["ledger"];
    assert_eq!(ledger.protocol(9090), Some(Protocol::Http));
    assert_eq!(loaded.recipes["migrate"].entrypoint.as_ref().unwrap().len(), 2);
    let codes: Vec<_> = loaded.findings.iter().map(|f| f.problem.code.as_str()).collect();
    assert_eq!(
        codes.iter().filter(|c| **c == "key-ignored").count(),
        0,
        "{}",
        show(&loaded.findings)
    );
}

#[test]
fn spring() {
    let loaded = loaded(include_str!("../data/spring.yaml"));
    let orders = &loaded.app.services["orders"];
    assert_eq!(
        orders.environment["JAVA_TOOL_OPTIONS"],
        "-Dfile.encoding=UTF-8 -Duser.timezone=UTC"
    );
    assert_eq!(orders.labels.len(), 2);
    assert_eq!(orders.extension.prepare.as_ref().unwrap()[0], "./gradlew");
    assert_eq!(brief(&loaded.findings), [""; 0]);
    assert!(loaded.app.services.values().flat_map(|s| &s.volumes).any(|mount| mount.no_copy));
}

#[test]
fn wordpress_says_what_is_missing() {
    let found = load(&options(), &files(include_str!("../data/wordpress.yaml"))).unwrap_err();
    assert_eq!(brief(&found), ["error image-not-native 15"]);
}
