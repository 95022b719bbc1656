//! The made-up app: its services, who calls whom, and figures that move as real ones do.
//!
//! Not here: time passing (`engine`). Everything is a function of the moment.

use std::f64::consts::TAU;

use console::wire::{Health, PortView, Traffic};

/// One service as it starts out.
pub(crate) struct Blueprint {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    pub(crate) port: (u16, &'static str),
    pub(crate) published: &'static str,
    pub(crate) replicas: u32,
    pub(crate) release: u64,
    pub(crate) p50_ms: f64,
    pub(crate) memory_mib: f64,
    pub(crate) health: Health,
    pub(crate) why: &'static str,
}

const fn plain(name: &'static str, source: &'static str, port: (u16, &'static str)) -> Blueprint {
    Blueprint {
        name,
        source,
        port,
        published: "",
        replicas: 1,
        release: 1,
        p50_ms: 1.0,
        memory_mib: 40.0,
        health: Health::Healthy,
        why: "",
    }
}

/// Every service, by name.
pub(crate) const SERVICES: &[Blueprint] = &[
    Blueprint {
        health: Health::Stopped,
        why: "stopped by a person",
        replicas: 0,
        ..plain("admin", "build ./admin", (8080, "http"))
    },
    Blueprint {
        replicas: 3,
        release: 12,
        p50_ms: 7.4,
        memory_mib: 96.0,
        ..plain("api", "build ./api", (8080, "http"))
    },
    Blueprint {
        published: "http://127.0.0.1:8090",
        replicas: 2,
        release: 4,
        p50_ms: 0.6,
        memory_mib: 18.0,
        ..plain("arena", "build ./arena", (8090, "http"))
    },
    Blueprint {
        replicas: 4,
        release: 6,
        p50_ms: 3.1,
        memory_mib: 64.0,
        health: Health::Updating,
        why: "release 7 takes over: 2 of its 4 instances are healthy",
        ..plain("catalog", "build ./catalog", (8080, "http"))
    },
    Blueprint {
        p50_ms: 1.9,
        memory_mib: 212.0,
        ..plain("kafka", "stands in for apache/kafka:4.1", (9092, "tcp"))
    },
    Blueprint {
        replicas: 2,
        release: 3,
        p50_ms: 4.4,
        memory_mib: 51.0,
        ..plain("ledger", "build ./ledger", (8080, "http"))
    },
    Blueprint {
        health: Health::Failed,
        release: 2,
        why: "exits with code 1 right after it starts, 7 times in a row; next try in 38 s",
        ..plain("mailer", "build ./mailer", (8025, "http"))
    },
    Blueprint {
        health: Health::Completed,
        why: "ran to its end with exit code 0",
        replicas: 0,
        ..plain("migrate", "python manage.py migrate", (0, ""))
    },
    Blueprint {
        p50_ms: 2.2,
        memory_mib: 88.0,
        ..plain("minio", "stands in for minio/minio", (9000, "http"))
    },
    Blueprint {
        health: Health::Degraded,
        replicas: 2,
        release: 9,
        p50_ms: 18.0,
        memory_mib: 118.0,
        why: "1 of 2 instances is healthy: payments.2 went over its memory limit of 128 MiB",
        ..plain("payments", "build ./payments", (8080, "http"))
    },
    Blueprint {
        p50_ms: 0.8,
        memory_mib: 140.0,
        ..plain("postgres", "native postgres 17", (5432, "tcp"))
    },
    Blueprint {
        p50_ms: 0.2,
        memory_mib: 32.0,
        ..plain("redis", "stands in for redis:7", (6379, "tcp"))
    },
    Blueprint {
        release: 2,
        p50_ms: 1.2,
        memory_mib: 14.0,
        ..plain("scores", "build ./scores", (8080, "http"))
    },
    Blueprint {
        published: "http://127.0.0.1:8080",
        replicas: 2,
        release: 21,
        p50_ms: 9.8,
        memory_mib: 44.0,
        ..plain("web", "build ./web", (8080, "http"))
    },
    Blueprint {
        replicas: 2,
        release: 5,
        memory_mib: 72.0,
        ..plain("worker", "node worker.js", (0, ""))
    },
];

/// Caller (empty: outside), called, requests a second.
pub(crate) const CALLS: &[(&str, &str, f64)] = &[
    ("", "web", 124.0),
    ("", "arena", 14.0),
    ("web", "api", 96.0),
    ("api", "catalog", 64.0),
    ("api", "payments", 22.0),
    ("api", "redis", 211.0),
    ("catalog", "postgres", 41.0),
    ("payments", "ledger", 20.0),
    ("payments", "kafka", 19.0),
    ("ledger", "postgres", 38.0),
    ("worker", "kafka", 31.0),
    ("worker", "minio", 6.0),
    ("worker", "mailer", 2.0),
    ("arena", "scores", 8.0),
];

/// What instances write: service, weight, stream, text.
pub(crate) const LINES: &[(&str, u64, &str, &str)] = &[
    ("web", 9, "stdout", "GET /products/# 200 in # ms"),
    ("web", 4, "stdout", "GET /assets/app.js 304 in 1 ms"),
    ("web", 2, "stdout", "POST /cart 201 in # ms"),
    ("api", 9, "stdout", r#"{"level":"info","msg":"order placed","order":#,"took_ms":#}"#),
    ("api", 3, "stdout", r#"{"level":"info","msg":"cache miss","key":"product:#"}"#),
    ("api", 2, "stderr", r#"{"level":"warn","msg":"payments slow","took_ms":1#}"#),
    ("catalog", 5, "stdout", "catalog: refreshed # products"),
    ("payments", 4, "stdout", "charge ch_# accepted"),
    ("payments", 2, "stderr", "WARN  pool: # connections in use, 16 is the limit"),
    ("ledger", 3, "stdout", "posted entry # (balanced)"),
    ("arena", 5, "stdout", "room #: 6 players, tick 12 ms"),
    ("scores", 1, "stdout", "new best: player # with 412 points"),
    ("worker", 4, "stdout", "job # done, 3 waiting"),
    ("worker", 1, "stderr", "ERROR job #: connect mailer:8025: refused, will retry"),
    ("postgres", 1, "stderr", "LOG:  checkpoint complete: wrote # buffers"),
];

/// The lines that the crashing service writes each time.
pub(crate) const CRASH: &[&str] = &[
    "Traceback (most recent call last):",
    "  File \"/app/mailer.py\", line 14, in <module>",
    "    url = os.environ[\"SMTP_URL\"]",
    "KeyError: 'SMTP_URL'",
];

/// A number from 0 to 1 that looks random and depends on `seed` alone.
pub(crate) fn noise(seed: u64) -> f64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    f64::from(u32::try_from((x ^ (x >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// A factor around 1 for what is named `name` at this second.
pub(crate) fn swing(name: &str, second: u64) -> f64 {
    let phase: u64 = name.bytes().map(u64::from).sum();
    let t = f64::from(u32::try_from(second % 1_000_000).unwrap_or(0));
    let turn =
        |period: f64| (t / period * TAU + f64::from(u32::try_from(phase).unwrap_or(0))).sin();
    1.0 + 0.16 * turn(410.0) + 0.08 * turn(67.0) + 0.12 * (noise(second ^ phase << 20) - 0.5)
}

/// Traffic of `rate` requests a second of about `p50_ms`, of which `bad` fail.
pub(crate) fn traffic(name: &str, second: u64, rate: f64, p50_ms: f64, bad: f64) -> Traffic {
    if rate == 0.0 {
        return Traffic::default();
    }
    let factor = swing(name, second);
    let rate = rate * factor;
    let slow = 0.7 + 0.3 * factor * factor;
    Traffic {
        requests_per_second: rate,
        success: Some(if bad < 1.0 { (1.0 - bad * factor).clamp(0.0, 1.0) } else { 0.0 }),
        p50_ms: Some(p50_ms * slow),
        p99_ms: Some(p50_ms * slow * (4.0 + 2.0 * noise(second / 3) + bad * 60.0)),
        received_bytes_per_second: rate * 410.0,
        sent_bytes_per_second: rate * 5200.0,
        // Its players.
        sessions_open: if name == "arena" || name.starts_with("arena.") { 12 } else { 0 },
    }
}

/// Ports of a service.
pub(crate) fn ports(blueprint: &Blueprint) -> Vec<PortView> {
    let (port, protocol) = blueprint.port;
    let one = PortView { port, protocol: protocol.to_owned() };
    if port == 0 { Vec::new() } else { vec![one] }
}

/// Share of requests to a service that fail.
pub(crate) fn bad_share(name: &str) -> f64 {
    match name {
        "payments" => 0.031,
        "mailer" => 1.0,
        "api" => 0.004,
        _ => 0.0,
    }
}
