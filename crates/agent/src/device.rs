//! What of an instance's devices is refused: what their permissions leave out.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::bpf::Refusal;
use crate::spec::Device;

/// The devices that may not be used whole. Folders and what is not there are left out: the former
/// hold many, the latter ends the start elsewhere.
pub(crate) fn refusals(devices: &[Device]) -> Vec<Refusal> {
    let refusal = |device: &Device| {
        let letter =
            |letter: char, bit: u32| if device.permissions.contains(letter) { 0 } else { bit };
        let access = letter('m', 1) | letter('r', 2) | letter('w', 4);
        let metadata = fs::metadata(&device.source).ok()?;
        let (kind, number) = (metadata.file_type(), metadata.rdev());
        let is_device = kind.is_block_device() || kind.is_char_device();
        // Nobody may make nodes anyway: that alone is nothing to refuse.
        (is_device && access & !1 != 0).then(|| Refusal {
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
            block: kind.is_block_device(),
            access,
        })
    };
    devices.iter().filter_map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_refused() {
        let of = |source: &str, permissions: &str| {
            let device = Device {
                source: source.into(),
                target: source.into(),
                permissions: permissions.to_owned(),
            };
            refusals(&[device]).first().map(|r| (r.major, r.minor, r.block, r.access))
        };
        assert_eq!(of("/dev/null", "r"), Some((1, 3, false, 5)));
        assert_eq!(of("/dev/zero", "wm"), Some((1, 5, false, 2)));
        assert_eq!(of("/dev/null", "rwm"), None);
        assert_eq!(of("/dev/null", "rw"), None);
        assert_eq!(of("/dev", "r"), None);
        assert_eq!(of("/dev/no-such-device", "r"), None);
    }
}
