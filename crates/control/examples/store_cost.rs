//! What the store costs here: opening, one step's commit, and resident memory.
//!
//!     cargo run --release -p control --example store_cost [FOLDER]

use std::path::PathBuf;
use std::sync::Arc;

use base::{Clock, SystemClock};
use control::Embedded;
use control::store::{Store, Txn};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("store-cost-{}", std::process::id()));
    let clock = SystemClock;
    let before = clock.monotonic();
    let store = Embedded::open(&path, Arc::new(clock))?;
    eprintln!("open, new file:  {:>9.1?}", clock.monotonic() - before);
    let mut times = Vec::new();
    for n in 0..500u32 {
        // A usual step: a service, three instances and a batch of events.
        let mut txn = Txn::new().put("/apps/demo/services/web", vec![b'x'; 1500]);
        for slot in 1..=3 {
            txn = txn.put(format!("/apps/demo/instances/web.{slot}"), vec![b'y'; 700]);
        }
        txn = txn.put(format!("/events/{n:020}"), vec![b'z'; 400]);
        let before = clock.monotonic();
        store.commit(&txn)?;
        times.push(clock.monotonic() - before);
    }
    times.sort();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    eprintln!("commit, durable: {median:>9.1?} median, {p99:.1?} p99");
    drop(store);
    let before = clock.monotonic();
    let store = Embedded::open(&path, Arc::new(clock))?;
    eprintln!("open, in use:    {:>9.1?}", clock.monotonic() - before);
    let before = clock.monotonic();
    let entries = store.range("/")?.entries.len();
    eprintln!("list {entries}:        {:>9.1?}", clock.monotonic() - before);
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon")) {
        eprintln!("{line}");
    }
    eprintln!("file: {}", base::units::show_bytes(std::fs::metadata(&path)?.len()));
    drop(store);
    std::fs::remove_file(&path)?;
    Ok(())
}
