//! The event log against Apache Kafka, with one client for both (librdkafka), and where the same can
//! be asked against Redis Streams, in one run.
//!
//! The server has core 0, the client core 1. Rounds are interleaved, so that noise hits all alike;
//! ratios are taken within a round, and figures are medians with their range. Durability is never
//! mixed: `synced` acknowledges what is flushed (Kafka's `flush.messages=1`), `buffered` what the
//! system has (what Kafka does unless told).

mod redis;
mod scale;
mod shares;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Killed, cpu_micros, memory_kib, now, pinned, println_err, release_binary, spread};
use crate::maven::{self, KAFKA};
use crate::run;

/// Messages that are not counted: runtimes warm up.
const WARM_UP_SECONDS: u32 = 10;

/// What is measured of what, over the rounds.
type Figures = BTreeMap<(String, &'static str), Vec<f64>>;

struct Bench {
    load: PathBuf,
    dir: PathBuf,
    figures: Figures,
}

/// One server at work.
struct Server {
    name: &'static str,
    at: String,
    process: Killed,
    /// What a topic is made with, so that what is acknowledged is flushed.
    synced: &'static [&'static str],
}

/// What can be measured by itself.
const PARTS: [&str; 4] = ["log", "redis", "shares", "scale"];

pub(super) fn run(rounds: usize, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(PARTS.contains(part), "no part `{part}`: there are {}", PARTS.join(", "));
    }
    let parts = if parts.is_empty() { &PARTS } else { parts };
    run::need("taskset", &["util-linux"])?;
    let serve = release_binary("events", Some("serve"))?;
    let load = release_binary("events", Some("load"))?;
    let kafka = maven::kafka(&run::root().join("target/kafka"))?;
    // On the disk that is measured, which the folder for temporary files need not be on.
    let dir = run::root().join(format!("target/bench-events-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut bench = Bench { load, dir: dir.clone(), figures: Figures::new() };
    let result = bench.measure(rounds.max(1), parts, &serve, &kafka);
    std::fs::remove_dir_all(&dir)?;
    result
}

impl Bench {
    fn measure(&mut self, rounds: usize, parts: &[&str], serve: &Path, kafka: &str) -> Result<()> {
        println_err(&format!(
            "servers: mainspring (release), Apache Kafka {KAFKA} (-Xmx1g); client: librdkafka; {rounds} rounds"
        ));
        let path = shares::ready()?;
        let servers = [self.ours(serve)?, self.kafka(kafka)?];
        for server in &servers {
            let topic = ["create", &server.at, "warm", "partitions=4"];
            self.load(&topic)?;
            let seconds = format!("seconds={WARM_UP_SECONDS}");
            self.load(&["produce", &server.at, "warm", "partitions=4", &seconds])?;
            self.note(server.name, "idle, resident MiB", mib(server.process.0.id()));
        }
        for round in 0..rounds {
            println_err(&format!("round {} of {rounds}", round + 1));
            self.disk()?;
            if parts.contains(&"log") {
                self.log(&servers, round)?;
            }
            if parts.contains(&"redis") {
                if !parts.contains(&"log") {
                    self.one_by_one(&servers[0], round)?;
                }
                self.redis()?;
            }
            if parts.contains(&"shares") {
                for count in [1, 16] {
                    for server in &servers {
                        self.shared(&path, server, round, count)?;
                    }
                }
            }
        }
        drop(servers);
        if parts.contains(&"scale") {
            self.scale(serve)?;
        }
        self.report();
        Ok(())
    }

    fn log(&mut self, servers: &[Server], round: usize) -> Result<()> {
        for partitions in [1, 100, 5000] {
            for server in servers {
                self.at_a_rate(server, round, partitions)?;
            }
            for server in servers {
                self.at_most(server, round, partitions, true)?;
            }
        }
        for server in servers {
            self.at_most(server, round, 8, false)?;
        }
        for server in servers {
            self.one_by_one(server, round)?;
        }
        for partitions in [1, 5000] {
            for server in servers {
                self.alone(server, round, partitions)?;
            }
        }
        Ok(())
    }

    /// Messages that nothing waits with: what a flush and the way there and back take.
    fn alone(&mut self, server: &Server, round: usize, count: u32) -> Result<()> {
        let name = format!("alone-{count}-{round}");
        self.topic(server, &name, count, true)?;
        let partitions = format!("partitions={count}");
        let words = [partitions.as_str(), "rate=300", "linger_ms=0", "seconds=8"];
        let done = self.load(&[&["produce", &server.at, &name][..], &words].concat())?;
        whole(&done)?;
        let (p50, p99) = match count {
            1 => ("300/s alone, 1 partition, p50 ms", "300/s alone, 1 partition, p99 ms"),
            _ => ("300/s alone, 5,000 partitions, p50 ms", "300/s alone, 5,000 partitions, p99 ms"),
        };
        self.note(server.name, p50, number(&done["latency_ms"]["p50"]));
        self.note(server.name, p99, number(&done["latency_ms"]["p99"]));
        Ok(())
    }

    fn ours(&self, serve: &Path) -> Result<Server> {
        let at = free_address()?;
        let data = self.dir.join("mainspring");
        let log = self.dir.join("mainspring.log");
        let process = pinned("0", serve, &[&at, &data.to_string_lossy()], &log)?;
        self.wait(Server { name: "mainspring", at, process, synced: &[] })
    }

    fn kafka(&self, path: &str) -> Result<Server> {
        let (at, controller) = (free_address()?, free_address()?);
        let data = self.dir.join("kafka");
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://{at},CONTROLLER://{controller}\n\
             advertised.listeners=PLAINTEXT://{at}\ncontroller.listener.names=CONTROLLER\n\
             controller.quorum.voters=1@{controller}\nlog.dirs={}\nlog.retention.hours=1\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            data.display()
        );
        let file = self.dir.join("kafka.properties");
        std::fs::write(&file, settings)?;
        let file = file.to_string_lossy().into_owned();
        let format = ["-cp", path, "kafka.tools.StorageTool", "format", "-t"];
        let id = ["AAAAAAAAAAAAAAAAAAAAAQ", "-c", &file];
        let out = Command::new("java").args(format).args(id).output()?;
        if !out.status.success() {
            bail!("cannot format Kafka's folder: {}", String::from_utf8_lossy(&out.stderr));
        }
        let args = ["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-cp", path, "kafka.Kafka", &file];
        let process = pinned("0", Path::new("java"), &args, &self.dir.join("kafka.log"))?;
        let synced = &["config=flush.messages=1"];
        self.wait(Server { name: "kafka", at, process, synced })
    }

    /// Until it takes connections.
    fn wait(&self, server: Server) -> Result<Server> {
        for _ in 0..600 {
            if std::net::TcpStream::connect(&server.at).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = self.dir.join(format!("{}.log", server.name));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        bail!("{} does not listen at {}: {log}", server.name, server.at)
    }

    fn load(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(&self.load).args(words);
        let out = command.output().context("cannot run the client")?;
        let said = String::from_utf8_lossy(&out.stderr);
        if !out.status.success() {
            bail!("load {}: {said}", words.join(" "));
        }
        serde_json::from_slice(&out.stdout).with_context(|| format!("load said {said}"))
    }

    /// Told at once, too: a run that ends early has not been for nothing.
    fn note(&mut self, who: &str, what: &'static str, value: f64) {
        println_err(&format!("  {who}: {what}: {value:.2}"));
        self.figures.entry((who.to_owned(), what)).or_default().push(value);
    }

    /// What the disk does by itself, so that the rest can be judged.
    fn disk(&mut self) -> Result<()> {
        let dir = self.dir.to_string_lossy().into_owned();
        let done = self.load(&["sync", &dir])?;
        self.note("disk", "16 KiB and a flush, p50 ms", number(&done["latency_ms"]["p50"]));
        self.note("disk", "16 KiB and a flush, p99 ms", number(&done["latency_ms"]["p99"]));
        Ok(())
    }

    /// A topic of its own for each measurement: what is left of one does not weigh on the next.
    fn topic(&mut self, server: &Server, name: &str, count: u32, synced: bool) -> Result<()> {
        let partitions = format!("partitions={count}");
        let more =
            if synced { server.synced } else { &["config=flush.messages=9223372036854775807"] };
        let words = [&["create", &server.at, name, &partitions][..], more].concat();
        let done = self.load(&words)?;
        if count == 5000 {
            self.note(server.name, "creating 5,000 partitions, s", number(&done["seconds"]));
        }
        Ok(())
    }

    /// A steady load well below what either can take: how late acknowledgements are.
    fn at_a_rate(&mut self, server: &Server, round: usize, count: u32) -> Result<()> {
        const RATE: u32 = 2000;
        const SECONDS: u32 = 8;
        let name = format!("rate-{count}-{round}");
        self.topic(server, &name, count, true)?;
        let (flushes, began) = (flushes(), now());
        let words =
            [format!("partitions={count}"), format!("rate={RATE}"), format!("seconds={SECONDS}")];
        let done = self.load(&["produce", &server.at, &name, &words[0], &words[1], &words[2]])?;
        let took = began.elapsed().as_secs_f64();
        let per_second = (self::flushes() - flushes) / took;
        whole(&done)?;
        let late = &done["latency_ms"];
        let (p50, p99, flushed) = match count {
            1 => (
                "2,000/s, 1 partition, p50 ms",
                "2,000/s, 1 partition, p99 ms",
                "2,000/s, 1 partition, flushes/s",
            ),
            100 => (
                "2,000/s, 100 partitions, p50 ms",
                "2,000/s, 100 partitions, p99 ms",
                "2,000/s, 100 partitions, flushes/s",
            ),
            _ => (
                "2,000/s, 5,000 partitions, p50 ms",
                "2,000/s, 5,000 partitions, p99 ms",
                "2,000/s, 5,000 partitions, flushes/s",
            ),
        };
        self.note(server.name, p50, number(&late["p50"]));
        self.note(server.name, p99, number(&late["p99"]));
        self.note(server.name, flushed, per_second);
        Ok(())
    }

    /// As much as it takes, then all of it read.
    fn at_most(&mut self, server: &Server, round: usize, count: u32, synced: bool) -> Result<()> {
        let name = format!("most-{count}-{synced}-{round}");
        self.topic(server, &name, count, synced)?;
        let partitions = format!("partitions={count}");
        let large = if synced { "batch=16384" } else { "batch=1000000" };
        let acks = if synced { "acks=all" } else { "acks=1" };
        // What still waits at the end is waited for: a queue that a slow server empties in a while.
        let queue = if synced { "queue=20000" } else { "queue=100000" };
        let cpu = cpu_micros(server.process.0.id());
        let done = self.load(&[
            "produce",
            &server.at,
            &name,
            &partitions,
            "seconds=8",
            large,
            acks,
            queue,
        ])?;
        let cpu = seconds(cpu_micros(server.process.0.id()) - cpu);
        if let Err(error) = whole(&done) {
            // Another server may be too slow for its clients' patience; what it did counts.
            ensure!(server.name != "mainspring", error);
            println_err(&format!("{}: {error}", server.name));
        }
        let acked = number(&done["acked"]);
        let (rate, cost) = match (synced, count) {
            (true, 1) => {
                ("synced, 1 partition, messages/s", "synced, 1 partition, CPU s per million")
            }
            (true, 100) => {
                ("synced, 100 partitions, messages/s", "synced, 100 partitions, CPU s per million")
            }
            (true, _) => (
                "synced, 5,000 partitions, messages/s",
                "synced, 5,000 partitions, CPU s per million",
            ),
            (false, _) => {
                ("buffered, 8 partitions, messages/s", "buffered, 8 partitions, CPU s per million")
            }
        };
        self.note(server.name, rate, number(&done["per_second"]));
        self.note(server.name, cost, cpu / acked.max(1.0) * 1e6);
        if !synced {
            self.note(
                server.name,
                "buffered, client CPU share",
                number(&done["cpu_seconds"]) / number(&done["seconds"]),
            );
            let messages = format!("messages={acked}");
            let cpu = cpu_micros(server.process.0.id());
            let read = self.load(&["consume", &server.at, &name, &partitions, &messages])?;
            let cpu = seconds(cpu_micros(server.process.0.id()) - cpu);
            if number(&read["read"]) < acked || number(&read["wrong"]) > 0.0 {
                bail!("{}: {acked} were acknowledged, and read: {read}", server.name);
            }
            self.note(server.name, "read back, messages/s", number(&read["per_second"]));
            self.note(server.name, "read back, CPU s per million", cpu / acked.max(1.0) * 1e6);
        }
        Ok(())
    }

    /// Many producers that wait for each message: group commit.
    fn one_by_one(&mut self, server: &Server, round: usize) -> Result<()> {
        let name = format!("single-{round}");
        self.topic(server, &name, 100, true)?;
        let words = [
            "partitions=100",
            "size=100",
            "producers=64",
            "in_flight=1",
            "linger_ms=0",
            "seconds=8",
        ];
        let cpu = cpu_micros(server.process.0.id());
        let done = self.load(&[&["produce", &server.at, &name][..], &words].concat())?;
        whole(&done)?;
        let cpu =
            seconds(cpu_micros(server.process.0.id()) - cpu) / number(&done["acked"]).max(1.0);
        self.note(server.name, "64 producers one by one, CPU s per million", cpu * 1e6);
        self.note(server.name, "64 producers one by one, messages/s", number(&done["per_second"]));
        self.note(
            server.name,
            "64 producers one by one, p50 ms",
            number(&done["latency_ms"]["p50"]),
        );
        self.note(
            server.name,
            "64 producers one by one, p99 ms",
            number(&done["latency_ms"]["p99"]),
        );
        Ok(())
    }

    fn report(&self) {
        for ((who, what), values) in
            self.figures.iter().filter(|((who, _), _)| who == "disk" || who == "scale")
        {
            println_err(&format!("{who}: {what}: {}", shown(values)));
        }
        for ((who, what), ours) in &self.figures {
            if who != "mainspring" {
                continue;
            }
            println_err(&format!("{what}: {}", shown(ours)));
            for peer in ["kafka", "redis"] {
                let theirs = self.figures.get(&(peer.to_owned(), *what));
                let Some(theirs) = theirs else { continue };
                let ratios = ours.iter().zip(theirs).map(|(ours, peer)| ours / peer.max(1e-9));
                let ratio = spread(ratios.collect()).1;
                println_err(&format!("    {peer}: {}, ratio {ratio:.2}", shown(theirs)));
            }
        }
    }
}

/// The median, and the lowest and highest.
fn shown(values: &[f64]) -> String {
    let (low, mid, high) = spread(values.to_vec());
    format!("{mid:.2} ({low:.2} to {high:.2})")
}

/// Every message that was sent was acknowledged.
fn whole(done: &Value) -> Result<()> {
    if number(&done["failed"]) > 0.0 || done["sent"] != done["acked"] {
        bail!("not all was acknowledged: {done}");
    }
    Ok(())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

fn mib(pid: u32) -> f64 {
    f64::from(u32::try_from(memory_kib(pid).0).unwrap_or(u32::MAX)) / 1024.0
}

fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Flushes that the machine's disks have done, as the kernel counts them.
fn flushes() -> f64 {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let of = |disk: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(disk.path().join("stat")).ok()?;
        stat.split_whitespace().nth(15)?.parse::<f64>().ok()
    };
    disks.filter_map(of).sum()
}
