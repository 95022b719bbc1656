//! A log on a port and a folder, for trying clients: `serve ADDRESS:PORT FOLDER`. With `MS_USERS`
//! (`user:password,…`) there are two more ports that demand a login, one of them with TLS;
//! With `MS_NO_AUTO_CREATE` topics are not made by asking for them.
//! `MS_SUPER_USERS` may do everything, and `MS_DENY` denies what no rule allows. `MS_CLIENT_CA` (a
//! PEM file) opens one more for clients with certificates; `MS_REAUTH_MS` ends logins.

#![allow(clippy::print_stdout, reason = "it is for people")]

use std::sync::Arc;

use base::SystemClock;
use events::engine::log::Options;
use events::kafka::{Advertised, Listener, Mechanism, Security};
use events::{Config, Part};
use tokio::net::TcpListener;

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
        login_max: said("MS_REAUTH_MS").parse().ok().map(std::time::Duration::from_millis),
    };
    // Four partitions: what the suites that are run against it expect.
    let auto_create = said("MS_NO_AUTO_CREATE").is_empty();
    let options = Options { partitions: 4, auto_create, ..Options::default() };
    let config = Config { folder: folder.into(), options, security, ..Config::default() };
    let part = Part::open(&config, Arc::new(SystemClock)).await?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let mut ways = vec![(listener, Listener::from(Advertised::AsConnected))];
    if demands_login {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = net::make_certificate(&std::path::Path::new(folder).join("tls"), &names)?;
        let plain_tls = net::TlsConfig::new(made.certificate.clone(), made.key);
        let mut client_tls = plain_tls.clone();
        let tls = Arc::new(net::Tls::open(plain_tls, Arc::new(SystemClock))?);
        if let Some(authorities) = Some(said("MS_CLIENT_CA")).filter(|ca| !ca.is_empty()) {
            let authorities = authorities.into();
            client_tls.clients = Some(net::ClientCertificates { authorities, required: true });
            let bound = TcpListener::bind("127.0.0.1:0").await?;
            println!("SSL on {}", bound.local_addr()?);
            let way = Listener {
                name: "SSL".to_owned(),
                advertised: Advertised::AsConnected,
                tls: Some(Arc::new(net::Tls::open(client_tls, Arc::new(SystemClock))?)),
                mechanisms: Vec::new(),
                anonymous: false,
            };
            ways.push((bound, way));
        }
        for (name, tls) in [("SASL_PLAINTEXT", None), ("SASL_SSL", Some(tls))] {
            let bound = TcpListener::bind("127.0.0.1:0").await?;
            println!("{name} on {}", bound.local_addr()?);
            let way = Listener {
                name: name.to_owned(),
                advertised: Advertised::AsConnected,
                tls,
                mechanisms: Mechanism::ALL.to_vec(),
                anonymous: false,
            };
            ways.push((bound, way));
        }
        println!("certificate {}", made.certificate.display());
    }
    let ended = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    part.serve(ways, net::ConnectionLimit::new(10_000), ended).await;
    Ok(())
}
