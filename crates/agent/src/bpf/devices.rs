//! What an instance may do with its devices, where that is less than everything.

use super::assembler::{Assembler, R0, R1, R2, R3, R4, R5};

// Offsets in `struct bpf_cgroup_dev_ctx`.
const ACCESS: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// A device, and what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// A block device rather than a character device.
    pub(crate) block: bool,
    /// Bits: 1 making its node, 2 reading, 4 writing.
    pub(crate) access: u32,
}

/// The program that refuses these and allows everything else.
pub(super) fn program(refusals: &[Refusal]) -> Vec<u8> {
    let mut a = Assembler::default();
    let refuse = a.label();
    a.load(R2, R1, ACCESS);
    a.load(R3, R1, MAJOR);
    a.load(R4, R1, MINOR);
    for refusal in refusals {
        let next = a.label();
        a.jump_unless(R3, refusal.major.cast_signed(), next);
        a.jump_unless(R4, refusal.minor.cast_signed(), next);
        // The kind of device is in the lower half, what is done with it in the upper.
        a.copy(R5, R2);
        a.and(R5, 0xffff);
        a.jump_unless(R5, if refusal.block { 1 } else { 2 }, next);
        a.copy(R5, R2);
        a.and(R5, (refusal.access << 16).cast_signed());
        a.jump_unless(R5, 0, refuse);
        a.place(next);
    }
    a.set(R0, 1);
    a.exit();
    a.place(refuse);
    a.set(R0, 0);
    a.exit();
    a.finish()
}
