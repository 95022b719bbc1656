//! `ms volume`: a store's files, read from outside. No engine is asked.

use std::path::Path;

use base::Problem;
use serde::Serialize;
use volumes::codec::State;
use volumes::{RealDisk, Report, VolumeReport};

use super::args::Volume;
use super::out::Out;
use super::stop::{DONE, FAILED, Outcome, Stop};
use super::table::{numbers, table, words};

/// One volume, as `--json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    volume: u32,
    file: &'a str,
    written_by: &'static str,
    state: &'static str,
    groups: u64,
    runs: u64,
    records: u64,
    bytes: u64,
    torn_bytes: u32,
    damage: Vec<String>,
}

/// Prints every volume; with `verify` what is damaged fails the command.
pub(crate) fn run(volume: &Volume, out: &mut Out) -> Outcome {
    let (folder, all) = match volume {
        Volume::Inspect { folder } => (folder, false),
        Volume::Verify { folder } => (folder, true),
    };
    let report = volumes::inspect(&RealDisk::read_only(folder), all).map_err(|error| {
        let problem = Problem::new("volume-unreadable", "the store cannot be read");
        let problem = problem.with_cause(error.to_string());
        Stop::usage(problem.with_next("name the folder that holds `manifest-a`"))
    })?;
    show(&report, out)?;
    out.flush()?;
    let damage: Vec<String> = report.volumes.iter().flat_map(damage).collect();
    if damage.is_empty() {
        return Ok(DONE);
    }
    Err(Stop::new(FAILED, damaged(folder, &damage)))
}

fn damaged(folder: &Path, damage: &[String]) -> Problem {
    let what = format!("{} of the store `{}` damaged", count(damage.len()), folder.display());
    let more = damage.len().saturating_sub(10);
    let mut lines: Vec<String> = damage.iter().take(10).cloned().collect();
    if more > 0 {
        lines.push(format!("and {more} more: --json shows all"));
    }
    Problem::new("volume-damaged", what)
        .with_cause(lines.join("\n"))
        .with_next("look for disk errors in the kernel's log; what is good is still served")
}

fn count(places: usize) -> String {
    if places == 1 { "1 place is".to_owned() } else { format!("{places} places are") }
}

fn show(report: &Report, out: &mut Out) -> Outcome<()> {
    let rows: Vec<Row<'_>> = report.volumes.iter().map(row).collect();
    if out.mode.json {
        for row in &rows {
            out.json("ms.volume/1", row)?;
        }
        return Ok(());
    }
    let heads = [
        numbers("VOLUME"),
        words("FILE"),
        words("WRITTEN BY"),
        words("STATE"),
        numbers("GROUPS"),
        numbers("RUNS"),
        numbers("RECORDS"),
        numbers("BYTES"),
        numbers("TORN"),
    ];
    let cells = |row: &Row<'_>| {
        let torn = if row.torn_bytes > 0 { row.torn_bytes.to_string() } else { String::new() };
        vec![
            row.volume.to_string(),
            row.file.to_owned(),
            row.written_by.to_owned(),
            row.state.to_owned(),
            row.groups.to_string(),
            row.runs.to_string(),
            row.records.to_string(),
            row.bytes.to_string(),
            torn,
        ]
    };
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    out.line(table(&heads, &cells, out.mode.color, None).trim_end())?;
    Ok(())
}

fn row(report: &VolumeReport) -> Row<'_> {
    Row {
        volume: report.entry.volume,
        file: &report.file,
        written_by: if report.entry.kind == 0 { "commits" } else { "settling" },
        state: match report.entry.state {
            State::Free => "free",
            State::Open => "open",
            State::Sealed => "sealed",
            State::Quarantined => "quarantined",
            State::Retired => "retired",
        },
        groups: report.groups,
        runs: report.runs,
        records: report.records,
        bytes: report.bytes,
        torn_bytes: report.torn_bytes,
        damage: damage(report).collect(),
    }
}

fn damage(report: &VolumeReport) -> impl Iterator<Item = String> {
    report.damage.iter().map(|one| format!("{} at {}: {}", one.file, one.at, one.what))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::SystemClock;
    use volumes::{Batch, Options, Owner, Record, Volumes};

    use super::*;

    #[test]
    fn a_good_store_verifies_and_a_flipped_byte_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(folder.path()).unwrap());
        let store = Volumes::open(disk, Arc::new(SystemClock), Options::default()).unwrap();
        for sequence in 0..3 {
            let payload = vec![7; 100].into();
            let record = Record { sequence, span: 1, payload, ..Record::default() };
            let batch = Batch::new().put(Owner::new(1, 1).unwrap(), record);
            let space = store.try_reserve(batch.cost()).unwrap().unwrap();
            let receipt = store.append(space, batch).unwrap();
            store.turn();
            receipt.wait().unwrap();
        }
        let disk = RealDisk::read_only(folder.path());
        let report = volumes::inspect(&disk, true).unwrap();
        assert_eq!((report.volumes[0].groups, report.volumes[0].records), (3, 3));
        assert_eq!(report.volumes[0].damage, []);
        let path = folder.path().join(&report.volumes[0].file);
        let mut content = std::fs::read(&path).unwrap();
        content[4096 + 100] ^= 1;
        std::fs::write(&path, content).unwrap();
        let report = volumes::inspect(&disk, true).unwrap();
        let told: Vec<String> = damage(&report.volumes[0]).collect();
        let want = "volume-000000 at 4192: record 0 of owner 1/1 does not match its checksum";
        assert_eq!(told, [want]);
    }
}
