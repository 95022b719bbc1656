//! System calls that no safe wrapper covers, each made safe to call here.
//!
//! Not here: `bpf(2)`, which lives with its programs.

#![expect(unsafe_code, reason = "raw system calls: clone3, execve, signalfd, waitpid, credentials")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which process `fork` returned in.
pub(crate) enum Forked {
    Child,
    Parent(i32),
}

/// Forks into new namespaces and, when given, a cgroup2 directory.
///
/// Only for a process with one thread: the child goes on with a copy of everything.
pub(crate) fn clone_into(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    // SAFETY: all fields of `clone_args` are plain integers, for which zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory, as after fork; the caller has
    // one thread, so no lock is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(i32::try_from(pid).unwrap_or(-1))),
    }
}

/// Forks. Only for a process with one thread.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the caller has one thread, so the child may go on with everything it has.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

/// Replaces this process; returns only the reason why it could not.
pub(crate) fn execve(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        let each = strings.iter().map(|s| s.as_ptr());
        each.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in null and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once, running nothing on the way.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// Reaps one child that ended; `Ok(None)` when there are children but none ended (only without
/// `block`). `ECHILD` is an error.
pub(crate) fn reap(block: bool) -> io::Result<Option<Reaped>> {
    let mut status = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is a valid place for an int.
    match unsafe { libc::waitpid(-1, &raw mut status, flags) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            let exited = libc::WIFEXITED(status);
            Ok(Some(Reaped {
                pid,
                code: exited.then(|| libc::WEXITSTATUS(status)),
                signal: (!exited).then(|| libc::WTERMSIG(status)),
            }))
        }
    }
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: `kill` has no memory preconditions.
    unsafe { libc::kill(pid, signal) };
}

/// Every signal that has a meaning for a program and can be caught.
pub(crate) const FORWARDED: [i32; 10] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGALRM,
    libc::SIGIO,
];

/// Blocks SIGCHLD and [`FORWARDED`] and returns a descriptor that reads them.
pub(crate) fn signalfd() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before it is used; signalfd returns a new
    // descriptor that nobody else owns.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        for signal in FORWARDED {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        // A write to a reader that went away is an error to handle, not the end.
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next signal that waits on a [`signalfd`].
pub(crate) fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::read(fd, &mut info).ok()?;
    let number = info.first_chunk::<4>().filter(|_| read == info.len())?;
    i32::try_from(u32::from_ne_bytes(*number)).ok()
}

/// Unblocks and resets every signal, as a program expects to find them.
pub(crate) fn reset_signals() {
    // SAFETY: resetting dispositions and the mask has no memory preconditions; `set` is
    // initialised before use. Numbers that cannot be reset only return an error.
    unsafe {
        for signal in 1..65 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Becomes this user for good.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let checked = |result: i32| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the pointer and length describe `groups`; the rest takes plain integers.
    unsafe {
        checked(libc::setgroups(groups.len(), groups.as_ptr()))?;
        checked(libc::setresgid(gid, gid, gid))?;
        checked(libc::setresuid(uid, uid, uid))
    }
}

/// Gives this process, alone in a new user namespace, other numbers: those it is known by inside,
/// with which it has every capability there. Outside nothing changes.
pub(crate) fn be_called(uid: u32, gid: u32) -> io::Result<()> {
    let (own, group) = (rustix::process::geteuid(), rustix::process::getegid());
    unshare(libc::CLONE_NEWUSER)?;
    // What describes an untraceable process belongs to the machine's root. Whoever would trace it
    // meanwhile lacks the capabilities that it has; running a program sets this anew.
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {} 1", own.as_raw()))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {} 1", group.as_raw()))
}

/// Removes from the bounding set every capability that is not in `kept` (a bit per number).
pub(crate) fn bound_capabilities(kept: u64) {
    for capability in 0..64u64 {
        if kept & (1 << capability) == 0 {
            // SAFETY: plain integers. Past the last capability the call only returns EINVAL.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
}

/// The capabilities that programs of this process could have (a bit per number).
pub(crate) fn bounding_capabilities() -> u64 {
    let has = |capability: u64| {
        // SAFETY: plain integers.
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) == 1 }
    };
    (0..64).filter(|capability| has(*capability)).fold(0, |sum, capability| sum | 1 << capability)
}

/// Keeps this process's capabilities when it becomes another user, until it runs a program.
pub(crate) fn keep_capabilities() {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
}

/// Leaves this process and the programs that it runs these capabilities alone (a bit per number).
pub(crate) fn only_capabilities(kept: u64) -> io::Result<()> {
    let [low, high] = [kept & 0xffff_ffff, kept >> 32];
    let half = |bits: u64| u32::try_from(bits).unwrap_or(0);
    // `cap_user_header_t` of version 3, then effective, permitted and inheritable for each half.
    let header = [0x2008_0522u32, 0];
    let data = [half(low), half(low), half(low), half(high), half(high), half(high)];
    // SAFETY: both have the kernel's layout for this version.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for capability in (0..64u64).filter(|capability| kept & (1 << capability) != 0) {
        // SAFETY: plain integers.
        let raised = unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0)
        };
        if raised != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets the kernel ask this filter about every system call from now on.
pub(crate) fn filter_calls(program: &[u64]) -> io::Result<()> {
    #[repr(C)]
    struct Filter {
        length: libc::c_ushort,
        code: *const u64,
    }
    let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
    let length = program.len().try_into().map_err(|_| too_long())?;
    let filter = Filter { length, code: program.as_ptr() };
    // SAFETY: `filter` has the layout of `sock_fprog`, an instruction that of `sock_filter`, and
    // both outlive the call.
    match unsafe {
        libc::syscall(libc::SYS_seccomp, 1 /* SET_MODE_FILTER */, 0, &raw const filter)
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps this process and its children from abstract sockets of processes outside; they belong to
/// the network, which is the host's. False where the kernel cannot (before 6.12).
pub(crate) fn scope_abstract_sockets() -> bool {
    // `landlock_ruleset_attr`: no files, no ports, LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET.
    let attributes: [u64; 3] = [0, 0, 1];
    // SAFETY: the structure has the kernel's layout and its size is passed.
    let rules = unsafe {
        let size = size_of_val(&attributes);
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size, 0)
    };
    let Ok(rules) = i32::try_from(rules) else { return false };
    if rules < 0 {
        return false;
    }
    // SAFETY: a new descriptor that nobody else owns.
    let rules = unsafe { OwnedFd::from_raw_fd(rules) };
    // SAFETY: plain integers.
    unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) == 0 }
}

/// Keeps processes of the same user from this one's memory, descriptors and environment.
pub(crate) fn refuse_tracing() {
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// The most of `wanted` that a child of this process may have as a hard limit.
pub(crate) fn hard_limit_max(resource: u32, wanted: u64) -> u64 {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for a limit.
    let known = unsafe { libc::getrlimit(resource, &raw mut now) } == 0;
    if !known || wanted <= now.rlim_max {
        return wanted;
    }
    // Raising to what is wanted and putting back what was tells whether it may be raised.
    let raised = libc::rlimit { rlim_cur: now.rlim_cur, rlim_max: wanted };
    // SAFETY: both outlive the calls.
    unsafe {
        if libc::setrlimit(resource, &raw const raised) != 0 {
            return now.rlim_max;
        }
        libc::setrlimit(resource, &raw const now);
    }
    wanted
}

/// Sets a limit of this process.
pub(crate) fn limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
    // SAFETY: `limit` outlives the call.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor from `first` up when this process executes another program.
pub(crate) fn close_on_exec_from(first: RawFd) {
    // SAFETY: only sets flags on descriptors.
    unsafe {
        libc::close_range(first.cast_unsigned(), u32::MAX, 4 /* CLOEXEC */)
    };
}

/// Takes ownership of standard input.
pub(crate) fn take_stdin() -> OwnedFd {
    // SAFETY: called once, first thing, by the shim; nothing else in it uses descriptor 0.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// The common signals' names.
pub(crate) fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

/// What the C library says for an error number, without the number.
pub(crate) fn error_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Leaves a namespace for a new one.
pub(crate) fn unshare(flags: i32) -> rustix::io::Result<()> {
    // SAFETY: the caller has one thread and asks for a cgroup or user namespace, which leaves
    // memory and descriptors alone.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Refuses writing to this mount, and when `below` to those below it.
pub(crate) fn mount_read_only(place: BorrowedFd<'_>, below: bool) -> rustix::io::Result<()> {
    let below = if below {
        0x8000 /* AT_RECURSIVE */
    } else {
        0
    };
    let attributes: [u64; 4] = [1 /* MOUNT_ATTR_RDONLY */, 0, 0, 0];
    // SAFETY: the path is an empty C string and `attributes` has the layout of `mount_attr`,
    // whose size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            place.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | below,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}

/// Switches on the loopback of this network namespace, which is new.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: all fields of `ifreq` are plain integers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let up = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: the descriptor is open and `request` is what this request reads.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the runtime wait for a descriptor to become readable.
pub(crate) fn watch(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value that is returned, and nobody changes it there.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
}
