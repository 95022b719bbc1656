//! A log on a port and a folder, for trying clients: `serve ADDRESS:PORT FOLDER`.

#![allow(clippy::print_stdout, reason = "it is for people")]

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock};
use events::engine::groups::{Groups, TICK};
use events::engine::log::{Log, Options};
use events::engine::transactions::Transactions;
use events::kafka::{Advertised, Front, serve};
use volumes::{Disk, RealDisk, Volumes, Workers};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, folder] = arguments.as_slice() else {
        return Err("usage: serve ADDRESS:PORT FOLDER".into());
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(address, folder))
}

async fn run(address: &str, folder: &str) -> Result<(), Box<dyn std::error::Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(folder.as_ref())?);
    let store = Volumes::open(Arc::clone(&disk), Arc::clone(&clock), volumes::Options::default())?;
    let workers = Workers::start(&store)?;
    let random = move || disk.random().map_or(0, u128::from_be_bytes);
    let options = Options { partitions: 4, ..Options::default() };
    let log = Log::open(store, clock, random(), options).await?;
    let transactions = Transactions::open(&log);
    let groups = Groups::open(&log, Duration::ZERO);
    let front = Front::new(log, Arc::clone(&groups), Arc::clone(&transactions), Box::new(random));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let (trigger, drain) = net::drain();
    let limit = net::ConnectionLimit::new(10_000);
    let tick = async {
        loop {
            tokio::time::sleep(TICK).await;
            groups.tick();
            transactions.tick().await;
        }
    };
    tokio::select! {
        () = tick => {}
        () = serve(listener, Advertised::AsConnected, front, limit, drain) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    trigger.drain(Duration::from_secs(1)).await;
    drop(workers);
    Ok(())
}
