//! For tests: an app to show, an engine to ask, and streams to read.

pub(crate) mod engine;

use std::io::Write;
use std::sync::{Arc, Mutex};

use base::UnixNanos;
use console::wire::{
    CallView, Health, InstanceView, Isolation, Overview, PortView, ServiceView, Status, Traffic,
};

use super::out::{Mode, Out};

/// An overview with one healthy service, `arena`.
pub(crate) fn overview() -> Overview {
    let calls =
        vec![CallView { caller: None, service: "arena".parse().unwrap(), traffic: traffic() }];
    Overview { status: status(), services: vec![service("arena")], calls }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 4000,
        app: Some("arcade".to_owned()),
        files: vec!["/app/compose.yaml".to_owned()],
        state_dir: "/app/.ms".to_owned(),
        console: Some("http://127.0.0.1:7700".to_owned()),
        addresses: "127.64.0.0/16".to_owned(),
        isolation: Isolation { mode: "full".to_owned(), missing: vec![] },
        started_at: UnixNanos(5_000_000_000),
        ending: false,
        problems: Vec::new(),
        memory_bytes: 20 << 20,
        cpu_micros: 1000,
        revision: 7,
    }
}

fn traffic() -> Traffic {
    Traffic {
        requests_per_second: 12.5,
        success: Some(0.999),
        p50_ms: Some(1.25),
        p99_ms: Some(14.0),
        received_bytes_per_second: 1000.0,
        sent_bytes_per_second: 2000.0,
        sessions_open: 0,
    }
}

/// A healthy service with one instance.
pub(crate) fn service(name: &str) -> ServiceView {
    let instance = InstanceView {
        id: format!("{name}.1").parse().unwrap(),
        state: "healthy".to_owned(),
        why: String::new(),
        release: 1,
        pid: Some(4001),
        address: "127.64.1.1".to_owned(),
        restarts: 0,
        started_at: Some(UnixNanos(10_000_000_000)),
        cpu_cores: 0.124,
        memory_bytes: 12 << 20,
        inflight: 2,
        traffic: traffic(),
    };
    ServiceView {
        name: name.parse().unwrap(),
        health: Health::Healthy,
        why: String::new(),
        source: "build ./arena".to_owned(),
        address: "127.64.0.3".to_owned(),
        ports: vec![PortView { port: 8080, protocol: "http".to_owned() }],
        published: vec!["http://127.0.0.1:8080".to_owned()],
        release: Some(1),
        next_release: None,
        stands_in_for: None,
        failed_release: None,
        desired: 1,
        unplaced: 0,
        healthy: 1,
        instances: vec![instance],
        warnings: vec![],
        traffic: traffic(),
        cpu_cores: 0.124,
        memory_bytes: 12 << 20,
        restarts: 0,
        since: UnixNanos(10_000_000_000),
    }
}

/// A service that crashed and has no instance left.
pub(crate) fn failed(name: &str) -> ServiceView {
    ServiceView {
        health: Health::Failed,
        why: "exited with code 3\nlast words".to_owned(),
        published: vec![],
        release: None,
        healthy: 0,
        instances: vec![],
        traffic: Traffic::default(),
        cpu_cores: 0.0,
        memory_bytes: 0,
        restarts: 3,
        ..service(name)
    }
}

/// What was written to a stream.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// All of it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Output whose streams can be read: the output, stdout, stderr.
pub(crate) fn output(mode: Mode) -> (Out, Written, Written) {
    let (out, err) = (Written::default(), Written::default());
    (Out::fake(Box::new(out.clone()), Box::new(err.clone()), mode), out, err)
}
