//! What an engine that is gone has left, as far as files tell: for when none answers.
//!
//! Not here: doing anything about it.

use std::fs;
use std::path::Path;

use base::InstanceId;

use crate::instance::open_pidfd;
use crate::wire::RunRecord;

/// What is known of instances whose engine does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// They run on.
    pub running: Vec<InstanceId>,
    /// They ran until something ended them and their shims at once.
    pub cut_off: Vec<InstanceId>,
    /// That was the end of that run of the machine.
    pub restarted: bool,
}

/// Looks into this state folder; finds nothing in one that is somebody else's.
pub fn left(state: &Path) -> Left {
    let mut left = Left::default();
    for entry in fs::read_dir(state.join("instances")).into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok());
        let run = fs::read(entry.path().join("run.json")).ok();
        let run = run.and_then(|text| serde_json::from_slice::<RunRecord>(&text).ok());
        let (Some(id), Some(run)) = (id, run) else { continue };
        if open_pidfd(&run).is_some() {
            left.running.push(id);
        } else if !entry.path().join("exit.json").exists() {
            left.restarted |= run.boot != crate::procfs::boot_id();
            left.cut_off.push(id);
        }
    }
    left.running.sort();
    left.cut_off.sort();
    left
}
