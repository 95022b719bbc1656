//! The machine's own disk, with threads and async writers.

use std::sync::Arc;

use base::SystemClock;
use bytes::Bytes;
use volumes::{AppendError, Batch, Disk, Options, RealDisk, Record, Volumes, Workers};

use crate::model::{all, owner};

const WRITERS: u64 = 40;
const RECORDS: u64 = 25;

fn record(writer: u64, sequence: u64) -> Record {
    let payload = Bytes::from(format!("{writer}/{sequence} ").repeat(40));
    Record { sequence, span: 1, payload, ..Record::default() }
}

fn options() -> Options {
    let small = 256 << 10;
    Options {
        volume_bytes: small,
        settle_bytes_per_second: 0,
        reserve_bytes: 0,
        ..Options::default()
    }
}

async fn writer(store: Volumes, number: u64) -> Result<(), AppendError> {
    for sequence in 0..RECORDS {
        let batch = Batch::new().put(owner(number), record(number, sequence));
        let space = store.reserve(batch.cost()).await?;
        store.append(space, batch)?.await?;
    }
    Ok(())
}

#[expect(clippy::unwrap_used, reason = "part of two tests")]
fn everything_is_kept(disk: impl Fn() -> RealDisk) {
    let open = || {
        let disk: Arc<dyn Disk> = Arc::new(disk());
        Volumes::open(disk, Arc::new(SystemClock), options()).unwrap()
    };
    let store = open();
    let workers = Workers::start(&store).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..WRITERS {
            tasks.spawn(writer(store.clone(), number));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
    });
    assert_eq!(store.stats().batches, WRITERS * RECORDS);
    drop(workers);
    let batch = Batch::new();
    assert_eq!(store.try_reserve(batch.cost()).unwrap_err(), AppendError::Closed);
    while store.tend() {}
    drop(store);
    let store = open();
    assert_eq!(store.recovered().damage, []);
    for number in 0..WRITERS {
        let want: Vec<Record> = (0..RECORDS).map(|sequence| record(number, sequence)).collect();
        assert_eq!(all(&store, owner(number)), want);
    }
    let report = volumes::inspect(&disk(), true).unwrap();
    assert!(report.volumes.iter().all(|volume| volume.damage.is_empty()), "{report:?}");
}

#[test]
fn many_writers_on_the_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    everything_is_kept(|| RealDisk::new(folder.path()).unwrap());
}

#[test]
fn many_writers_where_direct_writes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    everything_is_kept(|| RealDisk::new(folder.path()).unwrap().without_direct());
}
