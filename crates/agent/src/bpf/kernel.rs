//! `bpf(2)`: maps and programs made, programs attached to a cgroup.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Egress = 1,
    Create = 2,
    Device = 6,
    Bind4 = 8,
    Bind6 = 9,
    Connect4 = 10,
    Connect6 = 11,
    Send4 = 14,
    Send6 = 15,
    Receive4 = 19,
    Receive6 = 20,
    SetOption = 22,
    Release = 34,
}

impl Hook {
    /// `enum bpf_prog_type`.
    fn kind(self) -> u32 {
        match self {
            Hook::Egress => 8,                 // BPF_PROG_TYPE_CGROUP_SKB
            Hook::Create | Hook::Release => 9, // BPF_PROG_TYPE_CGROUP_SOCK
            Hook::Device => 15,                // BPF_PROG_TYPE_CGROUP_DEVICE
            Hook::SetOption => 25,             // BPF_PROG_TYPE_CGROUP_SOCKOPT
            _ => 18,                           // BPF_PROG_TYPE_CGROUP_SOCK_ADDR
        }
    }
}

/// The part of `union bpf_attr` that making a map takes.
#[repr(C)]
struct Map {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that loading takes.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` that attaching takes.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// A hash map from 64 bits to 64 bits, which lives as long as the programs that use it.
pub(super) fn map(entries_max: u32) -> io::Result<OwnedFd> {
    let attributes = Map {
        kind: 1, // BPF_MAP_TYPE_HASH
        key_bytes: 8,
        value_bytes: 8,
        entries_max,
        flags: 1, // BPF_F_NO_PREALLOC
    };
    descriptor(call(0 /* MAP_CREATE */, &attributes)?)
}

pub(super) fn load(hook: Hook, code: &[u8]) -> io::Result<OwnedFd> {
    let license: &CStr = c"Apache-2.0";
    let attributes = Load {
        kind: hook.kind(),
        instructions: u32::try_from(code.len() / 8).unwrap_or(u32::MAX),
        code: code.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        name: *b"ms_address\0\0\0\0\0\0",
        attach_type: hook as u32,
        ..Load::default()
    };
    descriptor(call(5 /* PROG_LOAD */, &attributes)?)
}

pub(super) fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    hook: Hook,
) -> io::Result<()> {
    let attributes = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: hook as u32,
        flags: 2, // BPF_F_ALLOW_MULTI
    };
    call(8 /* PROG_ATTACH */, &attributes).map(drop)
}

#[expect(unsafe_code, reason = "bpf(2) has no wrapper")]
fn call<T>(command: i32, attributes: &T) -> io::Result<i32> {
    // SAFETY: each structure has the kernel's layout, its size is passed, and what it points to
    // outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "bpf(2) has no wrapper")]
fn descriptor(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
