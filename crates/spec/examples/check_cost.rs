//! What reading and checking a Compose file of 5,000 lines costs: `check_cost [ROUNDS]`.

#![expect(clippy::print_stdout, reason = "what it measures is its output")]

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use base::{Clock, SystemClock};
use spec::{Files, LoadOptions};

const LINES: usize = 5_000;

struct One(Vec<u8>);

impl Files for One {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        match path.ends_with("compose.yaml") {
            true => Ok(self.0.clone()),
            false => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// Services as people write them, as many as give so many lines.
fn file() -> String {
    let mut text =
        String::from("name: large\nx-env: &env\n  LOG_LEVEL: info\n  REGION: ${REGION:-eu}\n");
    text.push_str("services:\n");
    let mut i = 0;
    while text.lines().count() + 30 < LINES {
        let _ = write!(
            text,
            "  service-{i}:\n    image: registry.example/team/service-{i}:1.{i}\n    \
             command: [\"/usr/bin/env\", \"python3\", \"-m\", \"service\", \"--port\", \"8080\"]\n    \
             x-mainspring: {{native: true, protocol: http}}\n    environment:\n      <<: *env\n      \
             SERVICE_NAME: service-{i}\n      DATABASE_URL: postgres://db.internal/service_{i}\n    \
             expose:\n      - \"8080\"\n    healthcheck:\n      \
             test: [\"CMD\", \"curl\", \"-fs\", \"http://localhost:8080/health\"]\n      \
             interval: 5s\n      retries: 5\n    volumes:\n      - ./config:/etc/service:ro\n      \
             - type: tmpfs\n        target: /tmp\n    restart: unless-stopped\n    deploy:\n      \
             replicas: 2\n      resources:\n        limits:\n          memory: 256m\n          \
             cpus: \"0.5\"\n"
        );
        if i > 0 {
            let _ = write!(
                text,
                "    depends_on:\n      service-{}:\n        condition: service_healthy\n",
                i / 2
            );
        }
        i += 1;
    }
    while text.lines().count() < LINES {
        text.push_str("# end\n");
    }
    text
}

/// Lowest, median and highest.
fn measure(rounds: usize, mut once: impl FnMut()) -> [Duration; 3] {
    let clock = SystemClock;
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = clock.monotonic();
            once();
            clock.monotonic() - start
        })
        .collect();
    times.sort();
    [times[0], times[rounds / 2], times[rounds - 1]]
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(50).max(1);
    let text = file();
    let options = LoadOptions {
        files: vec!["compose.yaml".into()],
        project_dir: Some("/srv/large".into()),
        ..LoadOptions::default()
    };
    let files = One(text.clone().into_bytes());
    let services = match spec::load(&options, &files) {
        Ok(loaded) => loaded.app.services.len(),
        Err(findings) => {
            println!("the file cannot be read: {findings:?}");
            std::process::exit(1);
        }
    };
    println!(
        "{} lines, {} bytes, {services} services, {rounds} rounds",
        text.lines().count(),
        text.len()
    );
    let load = measure(rounds, || drop(spec::load(&options, &files)));
    let check = measure(rounds, || drop(spec::check::check(&options, &files)));
    for (what, [low, median, high]) in [("load", load), ("check", check)] {
        println!("{what:6} lowest {low:>10.2?}  median {median:>10.2?}  highest {high:>10.2?}");
    }
}
