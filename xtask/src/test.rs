//! `cargo xtask test`: installs what the tests need and runs them all, the same for people and CI.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{run, tidy};

/// How much to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// Everything but the browser tests.
    NoBrowser,
}

/// Programs whose clients must find services by name, with what installs them.
const CLIENTS: &[(&str, &[&str])] = &[
    ("gcc", &["gcc", "libc6-dev"]),
    ("musl-gcc", &["musl-tools"]),
    ("python3", &["python3"]),
    ("node", &["nodejs"]),
    ("go", &["golang-go"]),
    ("javac", &["default-jdk-headless"]),
    ("curl", &["curl"]),
    ("kcat", &["kcat"]),
    ("busybox", &["busybox-static"]),
];

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", || run::cargo(&["fmt", "--all", "--check"])),
    ("tidy", tidy::run),
    ("lints", || {
        run::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
    }),
    ("tests", || {
        for (program, packages) in CLIENTS {
            run::need(program, packages)?;
        }
        host_programs()?;
        // The programs that end-to-end tests run: the engine and the example's services.
        run::cargo(&["build", "--quiet", "--package", "ms", "--package", "arcade"])?;
        run::cargo(&["test", "--quiet", "--workspace", "--no-fail-fast"])
    }),
];

pub(crate) fn run(scope: Scope) -> Result<()> {
    let mut steps = STEPS.to_vec();
    if scope == Scope::All {
        steps.push(("browser", browser));
    }
    let mut failed = Vec::new();
    for (name, step) in &steps {
        eprintln!("\n== {name}");
        if let Err(error) = step() {
            eprintln!("== {name} failed: {error:#}");
            failed.push(*name);
        }
    }
    eprintln!(
        "\n== {} steps, failed: {}",
        steps.len(),
        if failed.is_empty() { "none".to_owned() } else { failed.join(", ") }
    );
    eprintln!("{} passed, {} failed", steps.len() - failed.len(), failed.len());
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Programs that run in place of well-known images, without starting any. As an ordinary user,
/// whose instances have no images, nothing is needed.
fn host_programs() -> Result<()> {
    const NEEDED: [(&str, &str); 8] = [
        ("nginx", "nginx-light"),
        ("apache2", "apache2"),
        ("caddy", "caddy"),
        ("memcached", "memcached"),
        ("prometheus", "prometheus"),
        ("redis-server", "redis-server"),
        ("mariadbd", "mariadb-server"),
        ("pg_ctlcluster", "postgresql"),
    ];
    if !run::is_root() {
        return Ok(());
    }
    let missing = NEEDED.iter().filter(|(program, _)| !run::has_system(program));
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => run::install_quietly(&missing),
    }
}

/// The console and the example's page in a real browser.
fn browser() -> Result<()> {
    run::need("chromium", &["chromium"])?;
    run::need("npm", &["nodejs", "npm"])?;
    // The made-up engine, the real one, and the example; each as its tests would build it.
    run::cargo(&["build", "--quiet", "--package", "console", "--example", "fake"])?;
    for package in ["ms", "arcade"] {
        run::cargo(&["build", "--quiet", "--package", package])?;
    }
    let mut failed = Vec::new();
    for dir in ["crates/console/web/test", "examples/arcade/tests/page"] {
        // The second suite runs even if the first fails.
        failed.extend(pages(&run::root().join(dir)).err());
    }
    match failed.pop() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn pages(dir: &std::path::Path) -> Result<()> {
    let install = || run::run_in(dir, "npm", &["ci", "--no-audit", "--no-fund"]);
    // A registry may be slow to answer once; a second try costs little.
    install()
        .or_else(|_| {
            std::thread::sleep(Duration::from_secs(5));
            install()
        })
        .context("cannot install the browser tests' packages")?;
    run::run_in(dir, "npm", &["test", "--silent"])
}
