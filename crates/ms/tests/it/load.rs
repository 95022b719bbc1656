//! A steady load of requests on kept-alive connections, which counts every one that fails.
#![expect(clippy::unwrap_used, reason = "a test harness: what fails here fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::PATIENCE;

/// A load that runs until it is finished.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Vec<String>>>,
}

/// Connections, each of which sends a request every 20 ms: 500 a second in all.
const CONNECTIONS: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

impl Load {
    /// Starts about 500 requests a second to a port.
    pub(crate) fn start(port: u16) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let workers = (0..CONNECTIONS)
            .map(|_| {
                let (stop, done) = (stop.clone(), done.clone());
                std::thread::spawn(move || work(port, &stop, &done))
            })
            .collect();
        Load { stop, done, workers }
    }

    /// How many requests have succeeded so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits for this many more successful requests.
    pub(crate) fn wait_for_more(&self, more: u64) {
        let goal = self.done() + more;
        crate::harness::until("the load has gone on", || (self.done() >= goal, self.done()));
    }

    /// Stops, and returns how many succeeded and what went wrong.
    pub(crate) fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.workers.into_iter().flat_map(|w| w.join().unwrap()).collect();
        (self.done.load(Ordering::Relaxed), failures)
    }
}

/// One connection's worth of load: it is opened once, and again only after a failure, so that a
/// response that asks to close it is a failure too.
fn work(port: u16, stop: &AtomicBool, done: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection: Option<BufReader<TcpStream>> = None;
    while !stop.load(Ordering::Relaxed) {
        match request(port, &mut connection) {
            Ok(()) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                failures.push(error);
                connection = None;
            }
        }
        std::thread::sleep(PAUSE);
    }
    failures
}

fn request(port: u16, connection: &mut Option<BufReader<TcpStream>>) -> Result<(), String> {
    let say = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| say("connect", e))?;
            stream.set_read_timeout(Some(PATIENCE)).map_err(|e| say("timeout", e))?;
            connection.insert(BufReader::new(stream))
        }
    };
    stream
        .get_mut()
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .map_err(|e| say("write", e))?;
    let mut status = String::new();
    stream.read_line(&mut status).map_err(|e| say("read", e))?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).map_err(|e| say("read", e))?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| format!("bad length {value}"))?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(|e| say("body", e))?;
    if !status.contains(" 200 ") {
        return Err(format!("{} {}", status.trim(), String::from_utf8_lossy(&body)));
    }
    Ok(())
}
