//! A queue worked off by a share group: 64 members that answer for each message, one in a hundred
//! of which they release once. The client is Kafka's own, since librdkafka has no such consumer.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Bench, Server, number, seconds, whole};
use crate::bench::cpu_micros;
use crate::{maven, run};

const MEMBERS: u32 = 64;
/// Sent before, at this rate for so long.
const RATE: u32 = 4000;
const SECONDS: u32 = 10;

/// The class path of the load, compiled in a folder.
pub(super) fn ready() -> Result<String> {
    let dir = run::root().join("target/bench-shares");
    let path = maven::class_path(&dir, &[("kafka-clients", maven::KAFKA)])?;
    let source = run::root().join("xtask/src/bench/events/ShareLoad.java");
    run::run_in(&dir, "javac", &["-cp", &path, "-d", "out", &source.to_string_lossy()])?;
    Ok(format!("{path}:{}", dir.join("out").display()))
}

impl Bench {
    pub(super) fn shared(
        &mut self,
        path: &str,
        server: &Server,
        round: usize,
        count: u32,
    ) -> Result<()> {
        let name = format!("shared-{count}-{round}");
        self.topic(server, &name, count, true)?;
        let words =
            [format!("partitions={count}"), format!("rate={RATE}"), format!("seconds={SECONDS}")];
        let sent = self.load(&["produce", &server.at, &name, &words[0], &words[1], &words[2]])?;
        whole(&sent)?;
        let cpu = cpu_micros(server.process.0.id());
        let done = Command::new("taskset")
            .args(["-c", "1", "java", "-Xmx1g", "-cp", path, "ShareLoad", &server.at, &name, &name])
            .args([MEMBERS.to_string(), sent["acked"].to_string()])
            .current_dir(Path::new("/"))
            .output()
            .context("cannot run the members")?;
        let cpu = seconds(cpu_micros(server.process.0.id()) - cpu);
        let done: serde_json::Value = serde_json::from_slice(&done.stdout).with_context(|| {
            format!("{}: {}", server.name, String::from_utf8_lossy(&done.stderr))
        })?;
        if number(&done["accepted"]) < number(&sent["acked"]) {
            bail!("{}: not all was worked off: {done}", server.name);
        }
        let (rate, cost) = match count {
            1 => (
                "share group, 1 partition, messages/s",
                "share group, 1 partition, CPU s per million",
            ),
            _ => (
                "share group, 16 partitions, messages/s",
                "share group, 16 partitions, CPU s per million",
            ),
        };
        self.note(server.name, rate, number(&done["per_second"]));
        self.note(server.name, cost, cpu / number(&done["accepted"]).max(1.0) * 1e6);
        Ok(())
    }
}
