//! Histories of real clients (librdkafka) on a log that is killed again and again, and what must not
//! be found in them.
//!
//! Transactional producers write to several partitions and read while they do, others send one
//! message after the other, readers read all along; meanwhile the log is killed with `kill -9` and
//! started again. The checks are those of the public Jepsen tests of Kafka (`checker`).
//! `MS_HISTORY_KILLS=50` kills so many times.

#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

mod checker;
mod clients;

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::SystemClock;
use events::kafka::{Advertised, Listener};
use events::{Config, Part};
use testkit::Random;

use crate::checker::{History, problems};
use crate::clients::World;

pub(crate) const PARTITIONS: i32 = 3;
const TRANSACTIONAL: u64 = 3;
const PLAIN: u64 = 2;
const READERS: u64 = 2;

/// What tells this program that it is to be the log: where it listens, and its folder.
const SERVE: &str = "MS_HISTORY_SERVE";

/// The log in a process of its own, which is this program.
struct Server {
    child: Child,
    address: String,
    folder: String,
}

impl Server {
    fn spawn(address: &str, folder: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serves_when_it_is_told_to", "--nocapture"])
            .env(SERVE, format!("{address} {folder}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn start(address: &str, folder: &str) -> Server {
        let child = Server::spawn(address, folder);
        let server = Server { child, address: address.to_owned(), folder: folder.to_owned() };
        server.wait();
        server
    }

    fn wait(&self) {
        for _ in 0..3000 {
            if TcpStream::connect(&self.address).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the log does not listen");
    }

    fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Server::spawn(&self.address, &self.folder);
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serves_when_it_is_told_to() {
    let Ok(told) = std::env::var(SERVE) else { return };
    let (address, folder) = told.split_once(' ').unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config { folder: folder.into(), ..Config::default() };
        let part = Part::open(&config, Arc::new(SystemClock)).await.unwrap();
        let bound = tokio::net::TcpListener::bind(address).await.unwrap();
        let ways = vec![(bound, Listener::from(Advertised::AsConnected))];
        part.serve(ways, net::ConnectionLimit::new(100), std::future::pending()).await;
    });
}

#[test]
fn nothing_is_wrong_with_what_clients_saw_of_a_log_that_is_killed() {
    let kills: u64 = std::env::var("MS_HISTORY_KILLS").map_or(4, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let mut server = Server::start(&address, folder.path().to_str().unwrap());
    let world = Arc::new(World::new(&address));
    world.make_topic(PARTITIONS);
    let history = std::thread::scope(|scope| {
        let world = &world;
        let transactional = (0..TRANSACTIONAL)
            .map(|who| scope.spawn(move || clients::transact(world, who)))
            .collect::<Vec<_>>();
        let plain = (0..PLAIN)
            .map(|who| scope.spawn(move || clients::send(world, who)))
            .collect::<Vec<_>>();
        let readers =
            (0..READERS).map(|_| scope.spawn(move || clients::read(world))).collect::<Vec<_>>();
        let mut random = Random::new(1);
        for _ in 0..kills {
            // After so many messages, whoever sent them.
            world.wait_for(20 + random.below(60));
            server.kill_and_start();
        }
        world.enough();
        let mut history = History::default();
        for one in transactional {
            history.transactions.extend(one.join().unwrap());
        }
        for one in plain {
            history.transactions.extend(one.join().unwrap());
        }
        world.all_is_written();
        history.readers = readers.into_iter().map(|one| one.join().unwrap()).collect();
        history
    });
    let found = problems(&history);
    assert!(found.is_empty(), "{}", found.join("\n"));
    // The canary: of a log that takes nothing, nothing is proved.
    let told = history.told();
    assert!(told.committed as u64 > kills * 5 && told.aborted > 0 && told.read > 0, "{told:?}");
}
