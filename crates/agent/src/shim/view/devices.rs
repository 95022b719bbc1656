//! Devices of the host that an instance is given.
//!
//! Not here: what it may do with them, which the cgroup's programs say.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::FileType;

use super::cover::provide_anyway;
use super::place;
use super::{open_path, text};
use crate::shim::failure;
use crate::spec::Device;
use crate::wire::{Failure, Step};

/// The host's nodes, before anything covers them.
pub(super) fn open(devices: &[Device]) -> Result<Vec<OwnedFd>, Failure> {
    let open = |device: &Device| {
        let named = format!("the device {}", text(&device.source));
        let node = open_path(&device.source).map_err(|e| Failure {
            step: Step::Mount,
            what: named.clone(),
            ..e
        })?;
        let kind = rustix::fs::fstat(&node).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let kind = kind.map_err(|e| failure(Step::Mount, &named, e.into()))?;
        match kind {
            // A folder of them, such as /dev/snd.
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Directory => Ok(node),
            _ => Err(Failure {
                step: Step::Mount,
                what: format!("{named}, which is none"),
                errno: 0,
            }),
        }
    };
    devices.iter().map(open).collect()
}

/// Shows them where they are asked for.
pub(super) fn put(
    devices: &[Device],
    nodes: &[OwnedFd],
    root: BorrowedFd<'_>,
    private: bool,
) -> Result<(), Failure> {
    for (device, node) in devices.iter().zip(nodes) {
        if !private && device.source == device.target {
            // The host's own /dev is what it sees.
            continue;
        }
        let why = |e: rustix::io::Errno| failure(Step::Mount, &text(&device.target), e.into());
        let is_folder = place::is_folder(node.as_fd()).map_err(why)?;
        let target = provide_anyway(root, &device.target, is_folder).map_err(why)?;
        place::bind(node.as_fd(), target.as_fd()).map_err(why)?;
    }
    Ok(())
}

/// Whether one is to be seen where nothing is.
pub(super) fn needs_place(devices: &[Device]) -> bool {
    devices.iter().any(|device| !Path::exists(&device.target))
}
