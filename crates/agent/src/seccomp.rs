//! Which system calls an instance may make: filters for the kernel, built where an instance is
//! started and put in place just before its program.
//!
//! The usual filter refuses what Docker's default profile refuses: calls that manage a machine, or
//! parts of the kernel that few programs need and many break-ins have used. Calls that a capability
//! is for are let through with it. It names what is refused, since that is short and the kernel
//! remembers the rest as allowed; calls newer than [`NEWEST`] do not exist for an instance.
//!
//! Not here: what a refused call means to a program. As in Docker that is EPERM, and ENOSYS where
//! programs then take an older call.

mod profile;

use crate::rights::{self, Capabilities};
use crate::spec::{Rights, Seccomp};

/// One instruction of the kernel's classic filter language, as it lies in memory.
pub(crate) type Instruction = u64;

/// One filter.
pub(crate) type Program = Vec<Instruction>;

/// The filters of an instance, in the order in which they are put in place.
pub(crate) fn of(rights: &Rights) -> Result<Vec<Program>, String> {
    let capabilities = rights::of(rights);
    match &rights.seccomp {
        _ if rights.privileged => Ok(Vec::new()),
        Seccomp::Unconfined => Ok(Vec::new()),
        Seccomp::Usual => Ok(usual(capabilities).into_iter().collect()),
        Seccomp::Profile(path) => {
            profile::read(path, capabilities).map_err(|why| format!("{}: {why}", path.display()))
        }
    }
}

#[cfg(target_arch = "x86_64")]
const MACHINE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const MACHINE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE: Option<u32> = None;

/// The highest number that an instance may call: `removexattrat`. The next is `open_tree_attr`.
const NEWEST: u32 = 466;

/// Refused to everybody.
const NEVER: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_pivot_root,
    libc::SYS_request_key,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_userfaultfd,
];

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[libc::c_long] = &[libc::SYS_sysfs, libc::SYS_uselib, libc::SYS_ustat];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[libc::c_long] = &[];

/// Refused without one of these capabilities.
const WITH: &[(&[&str], &[libc::c_long])] = &[
    (
        &["SYS_ADMIN"],
        &[
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_lookup_dcookie,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    (&["SYS_ADMIN", "BPF"], &[libc::SYS_bpf]),
    (&["SYS_ADMIN", "PERFMON"], &[libc::SYS_perf_event_open]),
    (&["SYS_ADMIN", "SYSLOG"], &[libc::SYS_syslog]),
    (&["DAC_READ_SEARCH"], &[libc::SYS_open_by_handle_at]),
    (&["SYS_BOOT"], &[libc::SYS_reboot]),
    (&["SYS_CHROOT"], &[libc::SYS_chroot]),
    (&["SYS_MODULE"], &[libc::SYS_delete_module, libc::SYS_finit_module, libc::SYS_init_module]),
    (
        &["SYS_NICE"],
        &[
            libc::SYS_get_mempolicy,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            450, // set_mempolicy_home_node
        ],
    ),
    (&["SYS_PACCT"], &[libc::SYS_acct]),
    (&["SYS_PTRACE"], &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise]),
    #[cfg(target_arch = "x86_64")]
    (&["SYS_RAWIO"], &[libc::SYS_ioperm, libc::SYS_iopl]),
    (&["SYS_TIME"], &[libc::SYS_clock_settime, libc::SYS_settimeofday]),
    (&["SYS_TTY_CONFIG"], &[libc::SYS_vhangup]),
];

/// Flags of `clone` that make namespaces.
const NAMESPACES: u32 = 0x7e02_0000;

/// Values of `personality` that change nothing which matters to others, and the one that only asks.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];

// Offsets in `struct seccomp_data`; the lower word of the first argument comes first on both.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

const fn fail_with(errno: i32) -> u32 {
    0x0005_0000 | errno.cast_unsigned()
}

const REFUSE: u32 = fail_with(libc::EPERM);

/// Where all files belong to the one user that there is, giving them to somebody is done already:
/// such calls do nothing and succeed. So do those by which a step of a build, `for_step`, becomes
/// somebody else: installers do that, and give up when it fails.
pub(crate) fn one_user(for_step: bool) -> Option<Program> {
    const OWNERS: &[libc::c_long] = &[
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chown,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lchown,
        libc::SYS_fchown,
        libc::SYS_fchownat,
    ];
    const USERS: &[libc::c_long] = &[
        libc::SYS_setgid,
        libc::SYS_setgroups,
        libc::SYS_setregid,
        libc::SYS_setresgid,
        libc::SYS_setresuid,
        libc::SYS_setreuid,
        libc::SYS_setuid,
    ];
    let mut code = vec![load(ARCHITECTURE), jump(EQUAL, MACHINE?, 1, 0)];
    code.extend([end(KILL_PROCESS), load(NUMBER)]);
    for call in OWNERS.iter().chain(if for_step { USERS } else { &[] }) {
        code.extend([jump(EQUAL, number(*call), 0, 1), end(fail_with(0))]);
    }
    code.push(end(ALLOW));
    Some(code)
}

/// The filter without a profile; `None` on a machine whose numbers are not known here.
fn usual(capabilities: Capabilities) -> Option<Program> {
    let has = |names: &[&str]| names.iter().any(|name| capabilities & rights::named(name) != 0);
    let mut code = vec![load(ARCHITECTURE), jump(EQUAL, MACHINE?, 1, 0)];
    // A program for another machine would mean other calls by the same numbers.
    code.push(end(KILL_PROCESS));
    code.extend([load(NUMBER), jump(GREATER, NEWEST, 0, 1), end(fail_with(libc::ENOSYS))]);
    let lacked = WITH.iter().filter(|(needed, _)| !has(needed)).flat_map(|(_, calls)| *calls);
    for call in NEVER.iter().chain(NEVER_HERE).chain(lacked) {
        code.extend([jump(EQUAL, number(*call), 0, 1), end(REFUSE)]);
    }
    if !has(&["SYS_ADMIN"]) {
        // Its flags lie where no filter can look: the C library then takes `clone`.
        let clone3 = jump(EQUAL, number(libc::SYS_clone3), 0, 1);
        code.extend([clone3, end(fail_with(libc::ENOSYS))]);
        code.extend([
            jump(EQUAL, number(libc::SYS_clone), 0, 4),
            load(FIRST_ARGUMENT),
            jump(ANY_BIT, NAMESPACES, 0, 1),
            end(REFUSE),
            end(ALLOW),
        ]);
    }
    code.extend([
        jump(EQUAL, number(libc::SYS_socket), 0, 4),
        load(FIRST_ARGUMENT),
        // The way to a hypervisor, past every network.
        jump(EQUAL, number(libc::AF_VSOCK.into()), 0, 1),
        end(REFUSE),
        end(ALLOW),
    ]);
    let tries = u8::try_from(PERSONALITIES.len()).unwrap_or(u8::MAX);
    code.extend([jump(EQUAL, number(libc::SYS_personality), 0, tries + 2), load(FIRST_ARGUMENT)]);
    for (at, value) in (0..tries).zip(PERSONALITIES) {
        code.push(jump(EQUAL, value, tries - at, 0));
    }
    code.extend([end(REFUSE), end(ALLOW)]);
    Some(code)
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const ANY_BIT: u16 = 0x45;

fn load(offset: u32) -> Instruction {
    instruction(0x20, 0, 0, offset)
}

/// Skips so many instructions when the comparison holds, and so many when it does not.
fn jump(comparison: u16, with: u32, holds: u8, fails: u8) -> Instruction {
    instruction(comparison, holds, fails, with)
}

fn end(action: u32) -> Instruction {
    instruction(0x06, 0, 0, action)
}

fn instruction(code: u16, holds: u8, fails: u8, value: u32) -> Instruction {
    let ([a, b], [c, d, e, f]) = (code.to_ne_bytes(), value.to_ne_bytes());
    u64::from_ne_bytes([a, b, holds, fails, c, d, e, f])
}
