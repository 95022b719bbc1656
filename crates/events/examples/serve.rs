//! A log on a port and a folder, for trying clients: `serve ADDRESS:PORT FOLDER`.
//!
//! More ways in, each on a free port that is printed: `MS_USERS=alice:tick,…` opens one with SASL,
//! and one with SASL over TLS; `MS_SUPER_USERS=User:alice,…` and `MS_DENY=1` (nothing is allowed that
//! no rule allows) say who may do what.

#![allow(clippy::print_stdout, reason = "it is for people")]

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock};
use events::engine::groups::{Groups, TICK};
use events::engine::log::{Log, Options};
use events::engine::transactions::Transactions;
use events::kafka::{Advertised, Front, Listener, Mechanism, Security, serve};
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
    let said = |name: &str| std::env::var(name).unwrap_or_default();
    let list = |text: &str| -> Vec<String> {
        text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let users: Vec<(String, String)> = list(&said("MS_USERS"))
        .iter()
        .filter_map(|user| user.split_once(':'))
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
        .collect();
    let demands_login = !users.is_empty();
    let security = Security {
        users,
        super_users: list(&said("MS_SUPER_USERS")),
        allow_if_none: said("MS_DENY").is_empty(),
        ..Security::default()
    };
    let (shared, ending) = (Arc::clone(&groups), Arc::clone(&transactions));
    let front = Front::open(log, shared, ending, Box::new(random), security)?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let (trigger, drain) = net::drain();
    let limit = net::ConnectionLimit::new(10_000);
    let mut ways = tokio::task::JoinSet::new();
    if demands_login {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = net::make_certificate(&std::path::Path::new(folder).join("tls"), &names)?;
        let config = net::TlsConfig::new(made.certificate.clone(), made.key);
        let tls = Arc::new(net::Tls::open(config, Arc::new(SystemClock))?);
        for (name, tls) in [("SASL_PLAINTEXT", None), ("SASL_SSL", Some(tls))] {
            let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            println!("{name} on {}", bound.local_addr()?);
            let way = Listener {
                name: name.to_owned(),
                advertised: Advertised::AsConnected,
                tls,
                mechanisms: Mechanism::ALL.to_vec(),
                anonymous: false,
            };
            ways.spawn(serve(bound, way, Arc::clone(&front), limit.clone(), drain.clone()));
        }
        println!("certificate {}", made.certificate.display());
    }
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
    ways.shutdown().await;
    trigger.drain(Duration::from_secs(1)).await;
    drop(workers);
    Ok(())
}
