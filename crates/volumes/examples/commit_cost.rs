//! What a durable record costs: volumes against a file of its own for each owner, and the bare
//! disk of the same run. Run by `cargo xtask bench volumes [ROUNDS]`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base::SystemClock;
use bytes::Bytes;
use rustix::fs::OFlags;
use volumes::{Batch, Options, Owner, RealDisk, Record, Volumes, Workers};

const SECONDS: f64 = 0.5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().ok_or("a folder on the disk to measure")?;
    let rounds: usize = words.next().map_or(Ok(3), |n| n.parse())?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    eprintln!("{rounds} rounds of {SECONDS} s, interleaved; medians, range of the ratio");
    bare(folder, rounds)?;
    eprintln!(
        "\nwriters  bytes |  volumes/s  p50 us  p99 us  a flush | per file/s  p50 us  p99 us | ratio"
    );
    for writers in [1, 16, 64, 256] {
        for bytes in [100, 1000, 16_000] {
            compare(folder, rounds, writers, bytes)?;
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Microseconds of each call, sorted.
struct Took(Vec<f64>);

impl Took {
    fn at(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = (self.0.len() as f64 * share) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

/// 4 KiB at a time, alone, each durable before the next.
fn bare(folder: &Path, rounds: usize) -> io::Result<()> {
    type Way = (&'static str, bool, bool);
    let ways: [Way; 4] = [
        ("growing file, fdatasync", false, false),
        ("growing file, O_DIRECT|O_DSYNC", false, true),
        ("written before, fdatasync", true, false),
        ("written before, O_DIRECT|O_DSYNC", true, true),
    ];
    for (name, before, direct) in ways {
        let mut took = Vec::new();
        for _ in 0..rounds {
            took.push(bare_one(&folder.join("bare"), before, direct)?.at(0.5));
        }
        took.sort_by(f64::total_cmp);
        let (low, mid, high) = (took[0], took[took.len() / 2], took[took.len() - 1]);
        eprintln!("{name:34} p50 {mid:6.0} us ({low:.0} to {high:.0})");
    }
    Ok(())
}

fn bare_one(path: &Path, before: bool, direct: bool) -> io::Result<Took> {
    const CALLS: usize = 500;
    let file = File::create(path)?;
    if before {
        file.write_all_at(&vec![0; CALLS * 4096], 0)?;
    }
    file.sync_all()?;
    let flags = i32::try_from((OFlags::DIRECT | OFlags::DSYNC).bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.write(true);
    if direct {
        options.custom_flags(flags);
    }
    let file = options.open(path)?;
    let buffer = vec![7; 8192];
    let block = &buffer[buffer.as_ptr().align_offset(4096)..][..4096];
    let mut took = Vec::new();
    for at in 0..CALLS {
        let began = now();
        file.write_all_at(block, at as u64 * 4096)?;
        if !direct {
            file.sync_data()?;
        }
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    took.sort_by(f64::total_cmp);
    Ok(Took(took))
}

struct Outcome {
    per_second: f64,
    took: Took,
    per_flush: f64,
}

fn compare(folder: &Path, rounds: usize, writers: usize, bytes: usize) -> io::Result<()> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let a = volumes(&folder.join("store"), writers, bytes)?;
        let b = files(&folder.join("files"), writers, bytes)?;
        ratios.push(a.per_second / b.per_second);
        ours.push(a);
        theirs.push(b);
    }
    ratios.sort_by(f64::total_cmp);
    ours.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    theirs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    let (a, b) = (&ours[rounds / 2], &theirs[rounds / 2]);
    eprintln!(
        "{writers:7} {bytes:6} | {:10.0} {:7.0} {:7.0} {:8.1} | {:10.0} {:7.0} {:7.0} | {:.2} ({:.2} to {:.2})",
        a.per_second,
        a.took.at(0.5),
        a.took.at(0.99),
        a.per_flush,
        b.per_second,
        b.took.at(0.5),
        b.took.at(0.99),
        ratios[rounds / 2],
        ratios[0],
        ratios[rounds - 1],
    );
    Ok(())
}

fn volumes(folder: &Path, writers: usize, bytes: usize) -> io::Result<Outcome> {
    let disk = Arc::new(RealDisk::new(folder)?);
    let store = Volumes::open(disk, Arc::new(SystemClock), Options::default());
    let store = store.map_err(io::Error::other)?;
    let workers = Workers::start(&store)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let payload = Bytes::from(vec![7; bytes]);
    let began = now();
    let all = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let owner = Owner::new(1, writer as u64).ok_or(io::ErrorKind::InvalidInput)?;
            tasks.spawn(write_all(store.clone(), owner, payload.clone(), began));
        }
        let mut all = Vec::new();
        while let Some(done) = tasks.join_next().await {
            all.extend(done.map_err(io::Error::other)?.map_err(io::Error::other)?);
        }
        Ok::<_, io::Error>(all)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let stats = store.stats();
    drop(workers);
    drop(store);
    std::fs::remove_dir_all(folder)?;
    Ok(outcome(all, seconds, stats.batches as f64 / stats.groups.max(1) as f64))
}

async fn write_all(
    store: Volumes,
    owner: Owner,
    payload: Bytes,
    began: Instant,
) -> Result<Vec<f64>, volumes::AppendError> {
    let mut took = Vec::new();
    for sequence in 0.. {
        let call = now();
        if (call - began).as_secs_f64() > SECONDS {
            break;
        }
        let record = Record { sequence, span: 1, payload: payload.clone(), ..Record::default() };
        let batch = Batch::new().put(owner, record);
        let space = store.reserve(batch.cost()).await?;
        store.append(space, batch)?.await?;
        took.push(call.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

/// A file and a thread for each owner; every record is appended and `fdatasync`ed.
fn files(folder: &Path, writers: usize, bytes: usize) -> io::Result<Outcome> {
    std::fs::create_dir_all(folder)?;
    let stop = Arc::new(AtomicBool::new(false));
    let began = now();
    let mut threads = Vec::new();
    for writer in 0..writers {
        let (path, stop) = (folder.join(writer.to_string()), Arc::clone(&stop));
        threads.push(thread::spawn(move || -> io::Result<Vec<f64>> {
            let file = File::create(path)?;
            let payload = vec![7; bytes];
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let call = now();
                file.write_all_at(&payload, (took.len() * bytes) as u64)?;
                file.sync_data()?;
                took.push(call.elapsed().as_secs_f64() * 1e6);
            }
            Ok(took)
        }));
    }
    thread::sleep(Duration::from_secs_f64(SECONDS));
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| io::Error::other("a writer panicked"))??);
    }
    let seconds = began.elapsed().as_secs_f64();
    std::fs::remove_dir_all(folder)?;
    Ok(outcome(all, seconds, 1.0))
}

fn outcome(mut took: Vec<f64>, seconds: f64, per_flush: f64) -> Outcome {
    took.sort_by(f64::total_cmp);
    Outcome { per_second: took.len() as f64 / seconds, took: Took(took), per_flush }
}
