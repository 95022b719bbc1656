//! A console over a made-up app: `cargo run -p console --example fake -- 127.0.0.1:7700 [SOCKET]`.
//!
//! For working on the pages (with `MS_CONSOLE_DIR=crates/console/web`) and for their tests.
//! `FAKE_EMPTY=1` has no app, for the empty pages.

mod engine;
mod model;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use console::{ConsoleConfig, Listeners};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7700".to_owned());
    let tcp = TcpListener::bind(&address).await?;
    eprintln!("http://{}", tcp.local_addr()?);
    let unix = arguments.next().map(UnixListener::bind).transpose()?.into_iter().collect();

    let empty = std::env::var_os("FAKE_EMPTY").is_some();
    let engine = Arc::new(engine::FakeEngine::new(empty));
    let mut tasks = JoinSet::new();
    let ticking = engine.clone();
    tasks.spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            tick.tick().await;
            ticking.tick();
        }
    });

    let (stop, stopped) = watch::channel(false);
    let config = ConsoleConfig {
        web_dir: std::env::var_os("MS_CONSOLE_DIR").map(Into::into),
        ..ConsoleConfig::default()
    };
    let listeners = Listeners { tcp: vec![tcp], unix };
    let served = console::serve(config, listeners, engine, Arc::new(base::SystemClock), stopped);
    tokio::select! {
        result = served => result?,
        _ = tokio::signal::ctrl_c() => drop(stop),
    }
    Ok(())
}
